defmodule Ferrosock.Options do
  @moduledoc false
  # The options of servers, upgrades and drains: checked, completed and told by the tables. What the engine
  # is given of them is made here, too. What options there are, and how a type is checked, is not its
  # concern.

  alias Ferrosock.Address
  alias Ferrosock.Options.{Engine, Table, Type}

  # Milliseconds by which the kernel waits longer for a client than the engine.
  @kernel_patience 5_000

  @tables Table.all()
  @server @tables.server
  @websocket @tables.websocket
  @upgrade @tables.upgrade
  @drain @tables.drain

  # A server's own certificate, and where it is looked for: only for the start.
  @identity [:certfile, :keyfile, :cert, :key, :password, :otp_app]

  @placement [:ip, :inet6, :port]

  # No error tells their values, which may end in a log.
  @secret [:password, :key, :certs_keys, :sni_hosts]

  # Needed by none but this module, if at all.
  @unkept [:sock, :cipher_suite]

  # At most 32 with the name of the struct: a map of more is slow to read. The last three are no options: they are
  # made at the start and shared by the server's processes. Whether handshakes are recorded is the last of them.
  defstruct (Keyword.keys(@server) -- (@identity ++ @placement ++ @unkept)) ++
              [:identity, :address, :log_limiter, :draining, record?: false]

  @typedoc "A server's options; the groups, as `http_1_options` and `identity`, are maps"
  @type t :: %__MODULE__{}

  @typedoc "What one upgrade asks for, within the server's limits"
  @type upgrade :: %{
          socket: map(),
          flags: [fullsweep_after: non_neg_integer(), max_heap_size: :erlang.max_heap_size()],
          early_validate?: boolean()
        }

  @typedoc "What a drain asks for"
  @type drain :: %{
          required(:rate) => pos_integer(),
          optional(:code) => 1000..4999,
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

  @doc """
  Keeps a server's options where its processes read them without a copy of their own: one for each connection
  and each request of HTTP/2 would be as large as the rest of what such a process has.
  """
  @spec share(:ets.table(), t()) :: :ok
  def share(table, options) do
    unshare_ended()
    :persistent_term.put({__MODULE__, table}, options)
  end

  @doc "The options that are shared, and those of the caller where they are not."
  @spec shared(:ets.table(), t()) :: t()
  def shared(table, options), do: :persistent_term.get({__MODULE__, table}, options)

  @doc "Ends `share/2`. All processes of the node are looked at for what they have of it: only for a server's end."
  @spec unshare(:ets.table()) :: boolean()
  def unshare(table), do: :persistent_term.erase({__MODULE__, table})

  # A server whose listener was killed at last could not end its own.
  defp unshare_ended do
    for {{__MODULE__, table}, _options} <- :persistent_term.get(),
        :ets.info(table) == :undefined,
        do: unshare(table)
  end

  @doc "Checks the options of one upgrade against the `websocket_options` of its server."
  @spec upgrade!(keyword(), map()) :: upgrade()
  def upgrade!(options, limits \\ complete(%{}, @websocket)) do
    asked = check!(options, @upgrade, "")

    limited =
      Map.merge(limits, Map.take(asked, [:timeout, :validate_utf8, :early_validate_upgrade]))

    socket =
      limited
      |> Engine.take(:socket)
      # An atom sorts after every number, so `:infinity` is the largest of sizes.
      |> Map.put(:deflate, deflate(limits, asked))
      |> Map.put(:max_frame_size, min(limits.max_frame_size, asked[:max_frame_size] || :infinity))

    %{
      socket: socket,
      flags: asked |> Map.take([:fullsweep_after, :max_heap_size]) |> Map.to_list(),
      early_validate?: limited.early_validate_upgrade
    }
  end

  @doc "Checks the options of a drain. Without a `:code` or a `:deadline` those of the server's stop are meant."
  @spec drain!(keyword()) :: drain()
  def drain!(options) do
    asked = check!(options, @drain, "")
    asked |> complete(Keyword.drop(@drain, [:code, :deadline])) |> Map.merge(asked)
  end

  defp deflate(%{compress: true} = limits, %{compress: true} = asked),
    do:
      limits.deflate_options
      |> Map.merge(asked[:deflate_options] || %{})
      |> Engine.take(:deflate)

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

  @doc "What the engine needs to know of a server, but for TLS."
  @spec listener(t()) :: map()
  def listener(%__MODULE__{} = options) do
    options
    |> Map.merge(options.http_1_options)
    |> Engine.take(:listener)
    |> Map.put(:http2, http2(options.http_2_options))
    |> Map.put(:user_timeout, user_timeout(options))
  end

  @doc "What the engine needs to know of a server's WebSockets, besides what each upgrade asks for."
  @spec socket(t()) :: map()
  def socket(%__MODULE__{} = options), do: Engine.take(options, :socket)

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
  defp http2(options), do: Engine.take(options, :http2)

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
    Enum.map_join(@tables[table], "\n", fn {name, option} ->
      {type, default} = spec(option)
      doc = type |> Type.unit() |> unit(elem(option, 2))
      "  * `#{inspect(name)}` - #{doc}. #{accepted(type)}#{default(default)}"
    end)
  end

  defp unit(nil, doc), do: doc
  defp unit(unit, doc), do: "#{unit} #{doc}"

  # Most have no need to know whether the engine is told of it.
  defp spec(option), do: {elem(option, 0), elem(option, 1)}

  defp served!(%{plug: _, sock: _}),
    do: raise(ArgumentError, "options :plug and :sock exclude each other")

  defp served!(%{plug: _} = checked), do: checked

  defp served!(%{sock: sock} = checked) do
    {module, argument} = if is_tuple(sock), do: sock, else: {sock, []}
    checked |> Map.put(:plug, {:sock, module, argument}) |> Map.put_new(:display_plug, module)
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
    case table[name] && spec(table[name]) do
      {{:options, nested}, _default} ->
        check!(value, nested, " in #{inspect(name)}")

      {type, _default} ->
        Type.valid?(type, value) || invalid!(name, value, type, where)
        value

      nil ->
        known = Enum.map_join(table, ", ", fn {name, _spec} -> inspect(name) end)
        raise ArgumentError, "unknown option #{inspect(name)}#{where}; known are #{known}"
    end
  end

  defp invalid!(name, value, type, where) do
    told = if name in @secret, do: "", else: ": #{inspect(value)}"

    raise ArgumentError,
          "invalid value for option #{inspect(name)}#{where}#{told}; accepted is #{Type.describe(type)}"
  end

  defp complete(given, table) do
    Map.new(table, fn {name, option} ->
      case spec(option) do
        {{:options, nested}, _default} -> {name, complete(given[name] || %{}, nested)}
        {_type, default} -> {name, Map.get(given, name, default)}
      end
    end)
  end

  defp accepted({:options, _table}), do: "A keyword list"
  defp accepted(type), do: type |> Type.describe() |> String.replace_prefix("a", "A")

  defp default(nil), do: "."
  defp default([]), do: "."
  defp default(text) when is_binary(text), do: ". Default: #{text}"
  defp default(value), do: ". Default: `#{inspect(value)}`"
end
