defmodule Ferrosock.Server.TLS do
  @moduledoc false
  # Certificates and keys, from where the options say they are, to what the engine serves with. All that is wrong
  # with them is raised as an `ArgumentError` that names the option and the file. When they are loaded anew is
  # the listener's concern, and the handshake that of the engine.

  alias Ferrosock.{Native, Options}

  # The types of keys, by the names of `:public_key` and by those of the engine.
  @key_types %{RSAPrivateKey: :rsa, ECPrivateKey: :ec, PrivateKeyInfo: :pkcs8}

  @enforce_keys [:options, :files, :interval]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          options: hidden(),
          files: [Path.t()],
          # Milliseconds between two looks at the files.
          interval: timeout()
        }

  @typedoc "A term with keys and passwords, which no crash report shows"
  @opaque hidden :: function()

  @typedoc "A term that differs when a file has changed"
  @type stamp :: term()

  @typedoc "A configuration, `nil` with the scheme `:http`, and the stamp of the files that it is from"
  @type loaded :: {Native.tls() | nil, stamp()}

  @own [:certfile, :keyfile, :cert, :key, :password]

  @doc "Where a server's certificates come from. `nil` with the scheme `:http`."
  @spec new(Options.t()) :: t() | nil
  def new(%{scheme: :http, identity: identity}) do
    case Enum.find(@own, &identity[&1]) do
      nil -> nil
      name -> raise ArgumentError, "option #{inspect(name)} needs the option scheme: :https"
    end
  end

  def new(options) do
    %__MODULE__{
      options: hide(options),
      files: files(options),
      interval: options.tls_options.reload_interval
    }
  end

  @doc "The options without what only this module may know."
  @spec forget(Options.t()) :: Options.t()
  def forget(options), do: %{options | identity: nil, tls_options: nil}

  @doc "Loads them. The stamp is taken before, so that the next look sees what has changed meanwhile."
  @spec load!(t() | nil) :: loaded()
  def load!(tls) do
    stamp = stamp(tls)
    {config!(tls), stamp}
  end

  @doc "Loads them."
  @spec config!(t() | nil) :: Native.tls() | nil
  def config!(nil), do: nil
  def config!(tls), do: tls.options |> reveal() |> build!()

  @doc """
  A term that differs when a file has changed. It is made of the content, because a new key often has the size of
  the old one, and may be of the same second.
  """
  @spec stamp(t() | nil) :: stamp()
  def stamp(nil), do: nil

  def stamp(tls) do
    for file <- tls.files do
      with {:ok, content} <- File.read(file), do: :erlang.md5(content)
    end
  end

  # Elixir's function holds the term. A function of ours would hide it as well, but when our code is purged, the VM
  # kills the processes that hold such a function: supervisors and the listener.
  defp hide(term), do: Access.key(:hidden, term)

  defp files(%{tls_options: tls_options, identity: own}) do
    hosts = for {_host, identity} <- tls_options.sni_hosts, do: identity

    for identity <- [own | tls_options.certs_keys] ++ hosts,
        {name, file} when name in [:certfile, :keyfile] and file != nil <- identity,
        do: path(file, own.otp_app)
  end

  defp reveal(hidden), do: hidden.(:get, %{}, &Function.identity/1)

  defp build!(%{tls_options: tls_options, identity: %{otp_app: otp_app}} = options) do
    identities = identities!(options)

    terms = %{
      identities: Enum.map(identities, &elem(&1, 1)),
      client_auth: client_auth!(tls_options, otp_app),
      versions: Enum.map(tls_options.versions, &version/1),
      http2: options.http_2_options.enabled
    }

    case Native.tls_config(terms) do
      {:ok, config} -> config
      {:error, error} -> raise ArgumentError, explain(error, Enum.map(identities, &elem(&1, 0)))
    end
  end

  # Each identity comes with its name for errors.
  defp identities!(%{tls_options: tls_options, identity: %{otp_app: otp_app} = identity}) do
    own = for name <- @own, value = identity[name], into: %{}, do: {name, value}

    defaults =
      if own == %{} and tls_options.certs_keys != [],
        do: tls_options.certs_keys,
        else: [own | tls_options.certs_keys]

    hosts = for {host, identity} <- tls_options.sni_hosts, do: {identity, [to_string(host)]}

    for {identity, hosts} <- Enum.map(defaults, &{&1, []}) ++ hosts do
      identity = Map.new(identity)
      {chain_from, chain} = chain!(identity, otp_app)
      {key_from, key} = key!(identity, otp_app)
      {"#{chain_from} with #{key_from}", %{chain: chain, key: key, hosts: hosts}}
    end
  end

  defp chain!(%{certfile: file}, otp_app) do
    from = "certfile #{inspect(path(file, otp_app))}"
    {from, file |> read!(from, otp_app) |> certificates!(from)}
  end

  defp chain!(%{cert: [_ | _] = ders}, _otp_app), do: {"option :cert", ders}
  defp chain!(%{cert: cert}, _otp_app), do: {"option :cert", certificates!(cert, "option :cert")}

  defp chain!(_identity, _otp_app) do
    raise ArgumentError, "scheme: :https needs a certificate: option :certfile or :cert"
  end

  defp key!(%{keyfile: file} = identity, otp_app) do
    from = "keyfile #{inspect(path(file, otp_app))}"
    {from, file |> read!(from, otp_app) |> pem_key!(from, identity[:password])}
  end

  defp key!(%{key: {type, der}}, _otp_app) when is_map_key(@key_types, type),
    do: {"option :key", {@key_types[type], der}}

  defp key!(%{key: pem} = identity, _otp_app) when is_binary(pem),
    do: {"option :key", pem_key!(pem, "option :key", identity[:password])}

  # The key may be in the file of the certificate, as with `:ssl`.
  defp key!(%{certfile: file} = identity, otp_app),
    do: key!(Map.put(identity, :keyfile, file), otp_app)

  defp key!(_identity, _otp_app) do
    raise ArgumentError,
          "scheme: :https needs the key of its certificate: option :keyfile or :key"
  end

  defp client_auth!(%{verify: :verify_none}, _otp_app), do: nil

  defp client_auth!(%{verify: :verify_peer} = tls_options, otp_app) do
    %{authorities: authorities!(tls_options, otp_app), required: tls_options.fail_if_no_peer_cert}
  end

  defp authorities!(%{cacerts: [_ | _] = ders}, _otp_app), do: ders

  defp authorities!(%{cacertfile: file}, otp_app) when file != nil do
    from = "cacertfile #{inspect(path(file, otp_app))}"
    file |> read!(from, otp_app) |> certificates!(from)
  end

  defp authorities!(_tls_options, _otp_app) do
    raise ArgumentError, "verify: :verify_peer needs the option :cacertfile or :cacerts"
  end

  defp read!(file, from, otp_app) do
    case file |> path(otp_app) |> File.read() do
      {:ok, content} ->
        content

      {:error, reason} ->
        raise ArgumentError, "cannot read #{from}: #{:file.format_error(reason)}"
    end
  end

  defp path(file, nil), do: to_string(file)

  defp path(file, otp_app) do
    file = to_string(file)
    if Path.type(file) == :absolute, do: file, else: Application.app_dir(otp_app, file)
  end

  defp certificates!(<<"-----BEGIN", _::binary>> = pem, from), do: pem_certificates!(pem, from)

  defp certificates!(content, from) do
    # DER starts with a SEQUENCE. A PEM file may have text before its first line.
    case content do
      <<0x30, _::binary>> -> [content]
      _text -> pem_certificates!(content, from)
    end
  end

  defp pem_certificates!(pem, from) do
    case for {:Certificate, der, :not_encrypted} <- :public_key.pem_decode(pem), do: der do
      [] -> raise ArgumentError, "#{from} has no certificate in PEM or DER"
      chain -> chain
    end
  end

  defp pem_key!(pem, from, password) do
    entries = :public_key.pem_decode(pem)

    case Enum.find(entries, fn {type, _der, _cipher} -> is_map_key(@key_types, type) end) do
      {type, der, :not_encrypted} -> {@key_types[type], der}
      {_type, _der, _cipher} = entry -> decrypt!(entry, from, password)
      nil -> raise ArgumentError, "#{from} has no private key in PEM"
    end
  end

  defp decrypt!(_entry, from, nil),
    do: raise(ArgumentError, "#{from} is encrypted: option :password is needed")

  defp decrypt!(entry, from, password) do
    password = if is_function(password, 0), do: password.(), else: password
    key = :public_key.pem_entry_decode(entry, to_charlist(password))
    type = elem(key, 0)
    {@key_types[type], :public_key.der_encode(type, key)}
  rescue
    _error -> reraise ArgumentError, "#{from} cannot be decrypted: wrong :password", []
  end

  defp version(:"tlsv1.2"), do: :tls12
  defp version(:"tlsv1.3"), do: :tls13

  defp explain({:identity, index, text}, names), do: "#{Enum.at(names, index)}: #{text}"

  defp explain({:authority, index, text}, _names),
    do: "certificate #{index + 1} of option :cacertfile or :cacerts: #{text}"

  defp explain({:other, _index, text}, _names), do: "tls_options: #{text}"
end
