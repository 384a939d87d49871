defmodule Ferrosock.HTTP.Pipeline do
  @moduledoc false
  # One request: builds the conn, runs the Plug and commits what it decided, or answers for its failure. Which
  # process this is, and what it does next, are not its concern.
  #
  # A request that fails ends its connection: what it left in the process (links, monitors, messages to come)
  # must not meet the next request. If there is no response yet, one with the status of `Plug.Exception` goes
  # out; only a wrong handshake is explained in its body. If there is one, it stays. A response that was half
  # sent gets no proper end, so that the client can tell; the engine sees to that when the process ends.

  alias Ferrosock.{Adapter, Log, Native, Options, UpgradeError}
  alias Ferrosock.HTTP.{Body, Exchange}
  alias Ferrosock.WebSocket.Sock.Plug, as: SockPlug
  alias Ferrosock.WebSocket.{HandOver, Recorder, Upgrade}

  @type plug :: {module(), Plug.opts()} | (Plug.Conn.t(), Plug.opts() -> Plug.Conn.t())

  @type outcome :: :ok | :close | {:upgrade, Native.socket(), Upgrade.t()}

  @doc """
  Runs `init/1` of what the options name: a Plug, or a `Sock`, which a Plug of ours serves. Raises
  `ArgumentError` if the module is neither.
  """
  @spec init(module() | plug() | {:sock, module(), argument :: term()}) :: plug()
  def init(plug) when is_function(plug, 2), do: plug
  def init({:sock, sock, argument}), do: {SockPlug, SockPlug.init({sock, argument})}

  def init({module, options}) do
    Options.implements!(module, [init: 1, call: 2], "option :plug needs a Plug")
    {module, module.init(options)}
  end

  def init(module), do: init({module, []})

  @doc "Serves one request. `:close` says that nothing may follow on its connection."
  @spec run(Options.t(), Native.exchange(), Native.request()) :: outcome()
  def run(options, handle, request) do
    %{adapter: {Adapter, exchange}} = conn = conn(options, handle, request)

    try do
      conn |> serve(options) |> commit(handle)
    catch
      kind, reason -> fail(kind, reason, __STACKTRACE__, conn, exchange)
    end
  end

  defp conn(options, handle, {method, host, port, path, query, version, headers, peer}) do
    exchange = %Exchange{
      handle: handle,
      owner: self(),
      method: method,
      version: version,
      peer: peer,
      accept_encoding: for({"accept-encoding", value} <- headers, do: value),
      options: options
    }

    {scheme, default_port} = scheme(options.scheme)
    uri = %URI{scheme: scheme, host: host, port: port || default_port, path: path, query: query}
    Plug.Conn.Adapter.conn({Adapter, exchange}, method, uri, elem(peer, 0), headers)
  end

  defp scheme(:http), do: {"http", 80}
  defp scheme(:https), do: {"https", 443}

  defp serve(conn, %{record?: true, plug: plug}) do
    if Upgrade.handshake?(conn), do: Recorder.run(conn, &call(&1, plug)), else: call(conn, plug)
  end

  defp serve(conn, %{plug: plug}), do: call(conn, plug)

  defp call(conn, {module, options} = plug), do: conn |> module.call(options) |> returned!(plug)
  defp call(conn, plug), do: conn |> plug.([]) |> returned!(plug)

  defp returned!(%Plug.Conn{} = conn, _plug), do: conn

  defp returned!(other, plug) do
    name = if is_function(plug), do: inspect(plug), else: "#{inspect(elem(plug, 0))}.call/2"
    raise "expected #{name} to return a Plug.Conn, got: #{inspect(other)}"
  end

  defp commit(%Plug.Conn{state: :unset}, _handle), do: raise(Plug.Conn.NotSentError)

  defp commit(%Plug.Conn{state: :set} = conn, _handle) do
    Plug.Conn.send_resp(conn)
    :ok
  end

  defp commit(%Plug.Conn{state: :chunked}, handle), do: Native.exchange_finish(handle)

  defp commit(%Plug.Conn{state: :upgraded, adapter: {Adapter, _exchange}} = conn, _handle),
    do: upgrade(conn)

  defp commit(%Plug.Conn{state: :upgraded, adapter: {adapter, _payload}}, _handle) do
    raise ArgumentError,
          "a conn with the adapter #{inspect(adapter)} cannot become a WebSocket: whoever has put that around " <>
            "#{inspect(Adapter)} has to give it back"
  end

  defp commit(%Plug.Conn{}, _handle), do: :ok

  # The 101 is sent as any response is, so that Plug runs the `before_send` hooks and adds the cookies. The
  # adapter knows what to do with it.
  defp upgrade(conn) do
    Upgrade.validate!(conn)
    conn = Plug.Conn.send_resp(%{conn | state: :set, status: 101, resp_body: ""})
    {Adapter, %Exchange{socket: socket, upgrade: upgrade}} = conn.adapter
    if socket, do: {:upgrade, socket, upgrade}, else: :close
  end

  defp fail(:error, %Plug.Conn.WrapperError{} = wrapper, _stacktrace, _conn, exchange),
    do: fail(wrapper.kind, wrapper.reason, wrapper.stack, wrapper.conn, exchange)

  defp fail(kind, reason, stacktrace, conn, exchange) do
    conn = Recorder.real(conn)
    reason = HandOver.failure(reason, stacktrace, conn)
    {error, _stacktrace} = Log.crash_reason(kind, reason, stacktrace)
    status = status(kind, error)
    fault = if status in 500..599, do: client_fault(exchange.handle)
    status = blame(fault, status, {kind, reason, stacktrace}, conn, exchange)
    {headers, body} = response(error)
    # If the exchange already has a response, it refuses this one.
    Body.respond(exchange, status, [{"connection", "close"} | headers], body)
    :close
  end

  # What an app's own implementation returns may be anything.
  defp status(:error, error) do
    case Plug.Exception.status(error) do
      name when is_atom(name) -> name |> Plug.Conn.Status.code() |> failure()
      status -> failure(status)
    end
  rescue
    _error -> 500
  catch
    _kind, _reason -> 500
  end

  defp status(_kind, _reason), do: 500

  defp failure(status) when status in 400..599, do: status
  defp failure(_status), do: 500

  # Few Plugs have a clause for a body that cannot be read, and they need none: the client is at fault.
  defp client_fault(handle) do
    case Native.exchange_body_error(handle) do
      :timeout -> {408, "request body not complete in time"}
      :closed -> {400, "request body cut short (RFC9112§8)"}
      :malformed -> {400, "malformed request body (RFC9112§7.1)"}
      _none -> nil
    end
  end

  defp blame({status, fault}, _status, {kind, reason, stacktrace}, _conn, exchange) do
    banner = Exception.format_banner(kind, reason, stacktrace)
    Log.body_error(exchange.options.log_limiter, exchange.peer, {status, fault}, banner)
    status
  end

  defp blame(nil, status, failure, conn, %{options: %{plug: plug}}) do
    if status in 500..599, do: Log.request_error(failure, conn: conn, plug: plug)
    status
  end

  defp response(%UpgradeError{} = error), do: UpgradeError.response(error)
  defp response(_error), do: {[], ""}
end
