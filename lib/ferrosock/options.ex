defmodule Ferrosock.Options do
  @moduledoc false
  # Every option once: its type, default and documentation. What goes down to the engine is made
  # here too, so that a default exists in one place. How a type is checked is not its concern.

  alias Ferrosock.Address
  alias Ferrosock.Options.Type

  @http_deflate [
    # Twice as fast as zlib's own default, 6, for a body that is a tenth larger.
    level: {{:range, 1..9}, 4, "1 is fast, 9 is small"},
    window_bits: {{:range, 9..15}, 15, "the window is 2 to this power bytes"},
    mem_level: {{:range, 1..9}, 8, "the memory of a compressor besides its window"},
    strategy:
      {{:one_of, [:default, :filtered, :huffman_only, :rle]}, :default,
       "what `:zlib.deflateInit/6` calls so"}
  ]

  # The names are those of `:zstd.compress/2`. There are higher levels, which keep a scheduler for
  # tens of ms at a time.
  @zstd [
    compressionLevel: {{:range, 1..9}, 3, "1 is fast, 9 is small"}
  ]

  @http [
    compress: {:boolean, true, "whether responses are compressed for the clients that accept it"},
    response_encodings:
      {{:list_of, ["zstd", "gzip", "deflate"]}, ["zstd", "gzip", "deflate"],
       "the content codings, the preferred first. `\"zstd\"` is left out before OTP 28"},
    deflate_options:
      {{:options, @http_deflate}, [], "how `\"gzip\"` and `\"deflate\"` compress, below"},
    zstd_options: {{:options, @zstd}, [], "how `\"zstd\"` compresses, below"}
  ]

  # What holds a request's headers has room for 32,768 (crate http).
  @max_headers 10_000

  @http_1 [
    header_timeout:
      {:pos_integer, 10_000,
       "ms from a request's first byte, or from accepting, to the end of its head"},
    idle_timeout:
      {:pos_integer, 60_000, "ms that a kept-alive connection may wait for its next request"},
    max_request_line_length:
      {{:range, 1..16_777_216}, 10_000, "bytes of the request line: method and target"},
    max_header_length: {{:range, 1..16_777_216}, 65_536, "bytes of the whole head of a request"},
    max_header_count: {{:range, 1..@max_headers}, 100, "headers of a request"},
    max_requests: {:non_neg_integer, 0, "requests on one connection; 0 is no limit"},
    half_close:
      {:boolean, true,
       "whether a client that has sent a whole request and then closed its side of the connection (FIN, or " <>
         "TLS's close_notify) gets its response (RFC 9112 §9.6). With `false` it counts as gone, and what is " <>
         "sent to it fails at once"},
    max_unread_length:
      {{:range, 0..1_073_741_824}, 1_048_576,
       "bytes of a request's body that its Plug has left unread which are read after the response, for at " <>
         "most 3 seconds, so that the connection can go on (RFC 9112 §9.3); past it the response says " <>
         "`connection: close`"},
    high_water_mark:
      {:pos_integer, 262_144, "bytes of a response queued before its process waits"},
    send_timeout:
      {:pos_integer, 30_000,
       "ms that what waits for a client may not move, or that `chunk/2` may wait for room, before the " <>
         "connection is reset"},
    clear_process_dict:
      {:boolean, true,
       "whether a connection's process forgets its dictionary between two requests"}
  ]

  @http_2 [
    enabled:
      {:boolean, true,
       "whether HTTP/2 is spoken: with TLS where the client offers it by ALPN, else where it begins with " <>
         "the preface"},
    max_concurrent_streams:
      {{:range, 1..100_000}, 128,
       "streams of a connection at once, WebSockets among them; one too many is refused with REFUSED_STREAM " <>
         "(RFC 9113 §5.1.2). No more than twice as many have a process, those among them whose client has " <>
         "reset them"},
    max_header_length:
      {{:range, 1..16_777_216}, 65_536,
       "bytes of the header fields of a request, decoded and with 32 more for each (RFC 9113 §6.5.2); " <>
         "one with more is answered with 431"},
    max_header_count:
      {{:range, 1..@max_headers}, 100,
       "header fields of a request, pieces of a `cookie` each; one with more is answered with 431"},
    max_requests: {:non_neg_integer, 0, "requests on one connection; 0 is no limit"},
    initial_window_size:
      {{:range, 65_535..2_147_483_647}, 262_144,
       "bytes that a client may send on a stream before its process reads them; on all streams of a " <>
         "connection 8 MiB, or this if it is more"},
    idle_timeout:
      {:pos_integer, 60_000,
       "ms that a connection may be open without a stream before it gets a GOAWAY"},
    high_water_mark:
      {:pos_integer, 262_144, "bytes of a response queued before its process waits"},
    send_timeout:
      {:pos_integer, 30_000,
       "ms that what waits for a client may not move before the connection is reset; for a stream's " <>
         "window, or that `chunk/2` may wait for room, before the stream is"}
  ]

  @deflate [
    level: {{:range, 1..9}, 1, "1 is fast, 9 is small"},
    mem_level: {{:range, 1..9}, 8, "the memory of a compressor besides its window"},
    window_bits: {{:range, 9..15}, 15, "the window of a compressor is 2 to this power bytes"},
    client_window_bits:
      {{:range, 9..15}, 12,
       "the same for the clients that let the server choose; a socket keeps so much of what its " <>
         "client sent"},
    server_context_takeover:
      {:boolean, false,
       "whether each socket keeps a compressor from message to message: a better ratio for some 300 kB"},
    client_context_takeover:
      {:boolean, true,
       "whether clients may refer to their earlier messages; if not, only offers that renounce it " <>
         "are accepted"},
    threshold: {:non_neg_integer, 128, "messages of fewer bytes are sent as they are"}
  ]

  @websocket [
    timeout: {:timeout, 60_000, "ms without a byte from the client"},
    compress:
      {:boolean, true,
       "whether permessage-deflate may be negotiated where an upgrade asks for it"},
    deflate_options: {{:options, @deflate}, [], "how it compresses, below"},
    max_frame_size: {:limit, 8_000_000, "bytes of one frame and of a joined message"},
    max_fragments: {:pos_integer, 131_072, "fragments of one message"},
    validate_utf8: {:boolean, true, "whether text and close reasons must be UTF-8"},
    ping_interval:
      {:timeout, :infinity, "ms without a byte from the client before the server sends a ping"},
    ping_timeout:
      {:pos_integer, 20_000,
       "ms without a byte from the client after such a ping before it ends as a `:timeout`"},
    max_lifetime:
      {:timeout, :infinity, "ms that a WebSocket may be open before it is closed with 1012"},
    close_timeout:
      {:pos_integer, 5_000, "ms to wait for the client's part of the closing handshake"},
    send_timeout:
      {:pos_integer, 15_000,
       "ms that what waits for a client may not move, whoever it is from, and that a slow client may " <>
         "keep the queue over `high_water_mark`, before it is closed with 1013"},
    high_water_mark:
      {:pos_integer, 1_048_576, "bytes queued to a client before its process waits"},
    early_validate_upgrade:
      {:boolean, true,
       "whether `upgrade/4` itself raises on a request that is no valid handshake"}
  ]

  @tls [
    certs_keys:
      {:identities, [],
       "certificates besides that of `:certfile` or `:cert`, each with the same options; a client gets " <>
         "the first that it can use"},
    sni_hosts:
      {:hosts, [],
       "certificates for the host names that clients ask for (RFC 6066), `*.example.com` for all names " <>
         "of one level"},
    versions:
      {{:list_of, [:"tlsv1.3", :"tlsv1.2"]}, [:"tlsv1.3", :"tlsv1.2"], "versions of the protocol"},
    verify:
      {{:one_of, [:verify_none, :verify_peer]}, :verify_none,
       "whether clients are asked for a certificate"},
    fail_if_no_peer_cert:
      {:boolean, false, "whether clients without a certificate are refused, with `:verify_peer`"},
    cacertfile: {:file, nil, "PEM with the authorities of the clients' certificates"},
    cacerts: {:ders, nil, "the same as a list of DERs"},
    reload_interval:
      {:timeout, :infinity,
       "ms between two looks at the files: changed ones are loaded, see `reload_certificates/1`"}
  ]

  @server [
    plug:
      {:plug, nil,
       "what serves requests; required unless `:sock` is given. A module's `init/1` runs once, at " <>
         "the start"},
    sock:
      {:sock, nil,
       "what serves every request as a WebSocket, in place of a Plug; see `sock/3`. Its `init/1` " <>
         "runs once, at the start"},
    scheme: {{:one_of, [:http, :https]}, :http, "the protocol"},
    certfile:
      {:file, nil, "PEM with the server's certificate and those between it and its authority"},
    keyfile: {:file, nil, "PEM with its key, if that is not in `:certfile`"},
    cert: {:cert, nil, "the same as `:certfile`, as a term"},
    key: {:key, nil, "the same as `:keyfile`, as a term"},
    password: {:password, nil, "of an encrypted key"},
    otp_app: {:app, nil, "the application whose folder relative paths of files are in"},
    cipher_suite:
      {{:one_of, [nil, :strong, :compatible]}, nil,
       "accepted for the sake of Plug.SSL's options and ignored: there are only strong ones"},
    tls_options: {{:options, @tls}, [], "TLS, below"},
    port: {{:range, 0..65_535}, 4000, "0 takes a free one; see `info/1`"},
    ip:
      {:ip, :any,
       "the address to listen on. That of a Unix socket has no `:port`; its file is removed when the " <>
         "server stops, and replaced if nobody listens on it any more"},
    inet6:
      {:boolean, false,
       "whether `:any` and `:loopback` are those of IPv6; with `:any` IPv4 is served, too"},
    startup_log: {:log_level, :info, "the level of the line that says where the server runs"},
    display_plug: {:any, nil, "what that line names instead of `:plug`"},
    num_acceptors:
      {{:count, 1_024}, :default, "processes that start connections; one per scheduler"},
    reactors:
      {{:count, 256}, :default,
       "processes that run the engine's part of the connections; all servers of a node share them, " <>
         "and the first decides; one per two cores"},
    reuse_port:
      {:boolean, false,
       "whether several servers, of this node or of others, may listen on the same port: the kernel " <>
         "spreads the connections (SO_REUSEPORT)"},
    nodelay: {:boolean, true, "whether small packets are sent at once (TCP_NODELAY)"},
    max_connections:
      {:limit, :infinity,
       "connections at once, WebSockets and those that linger among them; one of HTTP/2 counts once, whatever " <>
         "its streams"},
    overload:
      {{:one_of, [:wait, :refuse]}, :wait,
       "whether a connection too many waits in the kernel's `:backlog`, or is answered with 503 (with TLS: " <>
         "closed)"},
    max_queued_bytes:
      {:limit, 1_073_741_824,
       "bytes that may wait for all clients together; as long as there are more, whoever sends to a client " <>
         "for which something waits is told to wait, whatever its `high_water_mark`"},
    proxy_protocol:
      {:boolean, false,
       "whether connections begin with a header of the PROXY protocol, version 1 or 2, that tells the " <>
         "client's address; only for a server that nobody but the proxy can reach"},
    handshake_timeout:
      {:pos_integer, 5_000,
       "ms from accepting to the end of that header and of the TLS handshake; the preface of HTTP/2 has as " <>
         "long again"},
    # listen(2) takes an int.
    backlog:
      {{:range, 1..2_147_483_647}, 1024,
       "connections that the kernel keeps until they are accepted"},
    shutdown_timeout:
      {:pos_integer, 15_000, "ms that open connections have to end when the server stops"},
    hibernate_after:
      {:timeout, 15_000, "ms after which the process of an idle connection hibernates"},
    http_options: {{:options, @http}, [], "how responses are compressed, below"},
    http_1_options: {{:options, @http_1}, [], "HTTP/1 limits, below"},
    http_2_options: {{:options, @http_2}, [], "HTTP/2 limits, below"},
    websocket_options: {{:options, @websocket}, [], "WebSocket limits and defaults, below"}
  ]

  @upgrade [
    timeout: {:timeout, "the server's", "ms without a byte from the client; pings count"},
    compress: {:boolean, false, "accept permessage-deflate when the client offers it"},
    max_frame_size:
      {:limit, "the server's",
       "bytes of one frame and of a joined message; never more than the server's"},
    fullsweep_after: {{:range, 0..65_535}, "the VM's", "the process flag"},
    max_heap_size: {:heap_size, "the VM's", "the process flag"},
    validate_utf8: {:boolean, "the server's", "whether text and close reasons must be UTF-8"},
    deflate_options:
      {{:options, @deflate}, "the server's",
       "those of `:deflate_options` that differ from the server's"},
    early_validate_upgrade:
      {:boolean, "the server's",
       "`false` leaves the check of the request until the Plug has returned"},
    active_n: {:any, nil, "accepted for the sake of other servers and ignored"}
  ]

  @drain [
    rate:
      {:pos_integer, 1_000,
       "WebSockets that are told to close per second; more where it would take more than half of " <>
         "the `:deadline`"},
    code:
      {:close_code, 1001, "what they are told; 1012 says that the server is about to restart"},
    deadline:
      {:pos_integer, "the server's `:shutdown_timeout`", "ms that connections have to end"}
  ]

  # What goes down to the engine as it is.
  @socket [:timeout, :ping_interval, :ping_timeout, :max_lifetime, :close_timeout] ++
            [:max_fragments, :validate_utf8, :high_water_mark, :send_timeout]

  # Milliseconds by which the kernel waits longer for a client than the engine.
  @kernel_patience 5_000

  @listener [:address, :backlog, :reuse_port, :nodelay, :max_connections, :overload] ++
              [:max_queued_bytes, :proxy_protocol, :handshake_timeout]

  @tables %{
    server: @server,
    http: @http,
    http_deflate: @http_deflate,
    zstd: @zstd,
    http_1: @http_1,
    http_2: @http_2,
    tls: @tls,
    websocket: @websocket,
    deflate: @deflate,
    upgrade: @upgrade,
    drain: @drain
  }

  # A server's own certificate, and where it is looked for: only for the start.
  @identity [:certfile, :keyfile, :cert, :key, :password, :otp_app]

  @placement [:ip, :inet6, :port]

  # Needed by none but this module, if at all.
  @unkept [:sock, :cipher_suite]

  # At most 32 with the name of the struct: a map of more is slow to read and to copy, and each
  # connection's process has a copy. The last two are no options: they are made at the start and shared by
  # the server's processes.
  defstruct (Keyword.keys(@server) -- (@identity ++ @placement ++ @unkept)) ++
              [:identity, :address, :log_limiter, :draining]

  @typedoc "A server's options; the groups, as `http_1_options` and `identity`, are maps"
  @type t :: %__MODULE__{}

  @typedoc "What one upgrade asks for, within the server's limits"
  @type upgrade :: %{
          socket: Ferrosock.Native.socket_options(),
          flags: [fullsweep_after: non_neg_integer(), max_heap_size: :erlang.max_heap_size()],
          early_validate?: boolean()
        }

  @typedoc "What a drain asks for"
  @type drain :: %{
          required(:rate) => pos_integer(),
          required(:code) => 1000..4999,
          optional(:deadline) => pos_integer()
        }

  @doc "What is for the server's supervisor, and what is for the server. Raises `ArgumentError`."
  @spec split!(term()) :: {[name: Supervisor.name()], keyword()}
  def split!(options) do
    if not Keyword.keyword?(options) do
      raise ArgumentError,
            "Ferrosock needs a keyword list of options, as in {Ferrosock, plug: MyApp.Router, port: 4000}, " <>
              "got: #{inspect(options)}"
    end

    # The id is its supervisor's, by way of the child specification.
    {supervisor_options, options} = options |> Keyword.delete(:id) |> Keyword.split([:name])
    name = supervisor_options[:name]
    Type.valid?(:name, name) || invalid!(:name, name, :name, "")
    {supervisor_options, options}
  end

  @doc "Checks a server's options and fills in what is missing. Raises `ArgumentError`."
  @spec server!(keyword()) :: t()
  def server!(options) do
    {unkept, kept} =
      options
      |> check!(@server, "")
      |> served!()
      |> placed!()
      |> complete(@server)
      |> Map.split(@identity ++ @placement ++ @unkept)

    struct!(
      __MODULE__,
      Map.merge(kept, %{identity: Map.take(unkept, @identity), address: address(unkept)})
    )
  end

  @doc "Checks the options of one upgrade against the `websocket_options` of its server."
  @spec upgrade!(keyword(), map()) :: upgrade()
  def upgrade!(options, limits \\ complete(%{}, @websocket)) do
    asked = check!(options, @upgrade, "")

    limited =
      Map.merge(limits, Map.take(asked, [:timeout, :validate_utf8, :early_validate_upgrade]))

    socket =
      limited
      |> Map.take(@socket)
      # An atom sorts after every number, so `:infinity` is the largest of sizes.
      |> Map.put(:deflate, deflate(limits, asked))
      |> Map.put(:max_frame_size, min(limits.max_frame_size, asked[:max_frame_size] || :infinity))

    %{
      socket: socket,
      flags: asked |> Map.take([:fullsweep_after, :max_heap_size]) |> Map.to_list(),
      early_validate?: limited.early_validate_upgrade
    }
  end

  @doc "Checks the options of a drain. Without a `:deadline` the server's own time is meant."
  @spec drain!(keyword()) :: drain()
  def drain!(options) do
    asked = check!(options, @drain, "")
    asked |> complete(Keyword.delete(@drain, :deadline)) |> Map.merge(asked)
  end

  defp deflate(%{compress: true} = limits, %{compress: true} = asked),
    do: Map.merge(limits.deflate_options, asked[:deflate_options] || %{})

  defp deflate(_limits, _asked), do: nil

  @doc "Raises `ArgumentError`, which begins with `need`, unless the module has these functions."
  @spec implements!(module(), keyword(arity()), need :: String.t()) :: :ok
  def implements!(module, functions, need) do
    unless Code.ensure_loaded?(module) do
      raise ArgumentError, "#{need}, but the module #{inspect(module)} cannot be loaded"
    end

    for {name, arity} <- functions, not function_exported?(module, name, arity) do
      raise ArgumentError, "#{need}, but #{inspect(module)} has no function #{name}/#{arity}"
    end

    :ok
  end

  @doc "All tables: of each option its type, default and documentation."
  @spec tables() :: %{atom() => keyword({Type.t() | {:options, keyword()}, term(), String.t()})}
  def tables, do: @tables

  @doc "What the engine needs to know of a server, but for TLS."
  @spec listener(t()) :: map()
  def listener(%__MODULE__{} = options) do
    options.http_1_options
    |> Map.drop([:clear_process_dict])
    |> Map.merge(Map.take(options, @listener))
    |> Map.put(:http2, http2(options.http_2_options))
    |> Map.put(:user_timeout, user_timeout(options))
  end

  # For what the kernel has taken, it does not matter what is spoken. It waits longer than the engine: an end by
  # the engine is a reset that the client hears of, and one by the kernel is silent.
  defp user_timeout(options) do
    for(
      group <- [:http_1_options, :http_2_options, :websocket_options],
      do: Map.fetch!(options, group).send_timeout
    )
    |> Enum.max()
    |> Kernel.+(@kernel_patience)
  end

  defp http2(%{enabled: false}), do: nil
  defp http2(options), do: Map.delete(options, :enabled)

  @doc "The options of a table as a Markdown list."
  @spec docs(
          :server
          | :http
          | :http_deflate
          | :zstd
          | :http_1
          | :http_2
          | :tls
          | :websocket
          | :deflate
          | :upgrade
          | :drain
        ) :: String.t()
  def docs(table) do
    Enum.map_join(@tables[table], "\n", fn {name, {type, default, doc}} ->
      "  * `#{inspect(name)}` - #{doc}. #{accepted(type)}#{default(default)}"
    end)
  end

  defp served!(%{plug: _, sock: _}),
    do: raise(ArgumentError, "options :plug and :sock exclude each other")

  defp served!(%{plug: _} = checked), do: checked

  defp served!(%{sock: sock} = checked) do
    module = if is_tuple(sock), do: elem(sock, 0), else: sock

    checked
    |> Map.put(:plug, {Ferrosock.WebSocket.Sock.Plug, sock})
    |> Map.put_new(:display_plug, module)
  end

  defp served!(_checked) do
    raise ArgumentError,
          "option :plug is required: #{Type.describe(:plug)}. Without one, :sock is: " <>
            Type.describe(:sock)
  end

  defp placed!(%{ip: {:local, _path}, port: port}) when port != 0,
    do: raise(ArgumentError, "option :port has no meaning with a Unix socket as :ip")

  defp placed!(%{inet6: true, ip: ip}) when is_tuple(ip) and tuple_size(ip) != 8,
    do: raise(ArgumentError, "option :inet6 contradicts :ip, which is #{inspect(ip)}")

  defp placed!(checked), do: checked

  defp address(%{ip: {:local, _path} = host}), do: {host, 0}
  defp address(%{ip: ip, inet6: inet6, port: port}), do: {Address.host(ip, inet6), port}

  defp check!(options, table, where) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "options#{where} must be a keyword list, got: #{inspect(options)}"
    end

    Map.new(options, fn {name, value} -> {name, check!(name, value, table, where)} end)
  end

  defp check!(name, value, table, where) do
    case Keyword.fetch(table, name) do
      {:ok, {{:options, nested}, _default, _doc}} ->
        check!(value, nested, " in #{inspect(name)}")

      {:ok, {type, _default, _doc}} ->
        Type.valid?(type, value) || invalid!(name, value, type, where)
        value

      :error ->
        known = Enum.map_join(table, ", ", fn {name, _spec} -> inspect(name) end)
        raise ArgumentError, "unknown option #{inspect(name)}#{where}; known are #{known}"
    end
  end

  defp invalid!(name, value, type, where) do
    raise ArgumentError,
          "invalid value for option #{inspect(name)}#{where}: #{inspect(value)}; " <>
            "accepted is #{Type.describe(type)}"
  end

  defp complete(given, table) do
    Map.new(table, fn
      {name, {{:options, nested}, _default, _doc}} -> {name, complete(given[name] || %{}, nested)}
      {name, {_type, default, _doc}} -> {name, Map.get(given, name, default)}
    end)
  end

  defp accepted({:options, _table}), do: "A keyword list"
  defp accepted(type), do: type |> Type.describe() |> String.replace_prefix("a", "A")

  defp default(nil), do: "."
  defp default([]), do: "."
  defp default(text) when is_binary(text), do: ". Default: #{text}"
  defp default(value), do: ". Default: `#{inspect(value)}`"
end
