defmodule Ferrosock.HTTP.Pipeline do
  @moduledoc false
  # One request: builds the conn, runs the Plug and commits what it decided, or answers for its
  # failure. Which process this is and what it does next are not its concern.
  #
  # A request that fails ends its connection: what it left in the process (links, monitors,
  # messages to come) must not meet the next request. If there is no response yet, one with the
  # status of `Plug.Exception` goes out; only a wrong handshake is explained in its body. If there is
  # one, it stays; a half-sent one gets no proper end, so that the client can tell (the engine sees
  # to that when the process ends).

  alias Ferrosock.{Adapter, Log, Native, Options, UpgradeError}
  alias Ferrosock.HTTP.Body
  alias Ferrosock.WebSocket.Upgrade

  @type plug :: {module(), Plug.opts()} | (Plug.Conn.t(), Plug.opts() -> Plug.Conn.t())

  @type outcome :: :ok | :close | {:upgrade, Native.socket(), Upgrade.t()}

  @doc "Runs the Plug's `init/1`. Raises `ArgumentError` where the module is no Plug."
  @spec init(module() | plug()) :: plug()
  def init(plug) when is_function(plug, 2), do: plug

  def init({module, options}) do
    Options.implements!(module, [init: 1, call: 2], "option :plug needs a Plug")
    {module, module.init(options)}
  end

  def init(module), do: init({module, []})

  @doc "Serves one request. `:close` says that its connection has no future."
  @spec run(Options.t(), Native.exchange(), Native.request()) :: outcome()
  def run(options, exchange, request) do
    %{adapter: {Adapter, adapter}} = conn = conn(options, exchange, request)

    try do
      conn |> call(options.plug) |> commit(exchange)
    catch
      kind, reason -> fail(kind, reason, __STACKTRACE__, conn, adapter)
    end
  end

  defp conn(options, exchange, {method, host, port, path, query, version, headers, peer}) do
    adapter = %Adapter{
      exchange: exchange,
      owner: self(),
      method: method,
      version: version,
      peer: peer,
      accept_encoding: for({"accept-encoding", value} <- headers, do: value),
      options: options
    }

    {scheme, default_port} = scheme(options.scheme)
    uri = %URI{scheme: scheme, host: host, port: port || default_port, path: path, query: query}
    Plug.Conn.Adapter.conn({Adapter, adapter}, method, uri, elem(peer, 0), headers)
  end

  defp scheme(:http), do: {"http", 80}
  defp scheme(:https), do: {"https", 443}

  defp call(conn, {module, options}) do
    conn |> module.call(options) |> returned!("#{inspect(module)}.call/2")
  end

  defp call(conn, plug), do: conn |> plug.([]) |> returned!(inspect(plug))

  defp returned!(%Plug.Conn{} = conn, _plug), do: conn

  defp returned!(other, plug),
    do: raise("expected #{plug} to return a Plug.Conn, got: #{inspect(other)}")

  defp commit(%Plug.Conn{state: :unset}, _exchange), do: raise(Plug.Conn.NotSentError)

  defp commit(%Plug.Conn{state: :set} = conn, _exchange) do
    Plug.Conn.send_resp(conn)
    :ok
  end

  defp commit(%Plug.Conn{state: :chunked}, exchange), do: Native.exchange_finish(exchange)
  defp commit(%Plug.Conn{state: :upgraded} = conn, _exchange), do: upgrade(conn)
  defp commit(%Plug.Conn{}, _exchange), do: :ok

  # The 101 goes out as any response does, so that Plug runs the `before_send` hooks and adds the
  # cookies; the adapter knows what to do with it.
  defp upgrade(conn) do
    Upgrade.validate!(conn)
    conn = Plug.Conn.send_resp(%{conn | state: :set, status: 101, resp_body: ""})
    {Adapter, %Adapter{socket: socket, upgrade: upgrade}} = conn.adapter
    if socket, do: {:upgrade, socket, upgrade}, else: :close
  end

  defp fail(:error, %Plug.Conn.WrapperError{} = wrapper, _stacktrace, _conn, adapter),
    do: fail(wrapper.kind, wrapper.reason, wrapper.stack, wrapper.conn, adapter)

  defp fail(kind, reason, stacktrace, conn, adapter) do
    {error, _stacktrace} = Log.crash_reason(kind, reason, stacktrace)
    status = status(kind, error)
    fault = if status in 500..599, do: client_fault(adapter.exchange)
    status = blame(fault, status, {kind, reason, stacktrace}, conn, adapter)
    {headers, body} = response(error)
    # An exchange that has its response refuses this one.
    Body.respond(adapter, status, [{"connection", "close"} | headers], body)
    :close
  end

  # Few Plugs have a clause for a body that cannot be read, which is no fault of theirs.
  defp client_fault(exchange) do
    case Native.exchange_body_error(exchange) do
      :timeout -> {408, "request body not complete in time"}
      :closed -> {400, "request body cut short (RFC9112§8)"}
      :malformed -> {400, "malformed request body (RFC9112§7.1)"}
      _none -> nil
    end
  end

  defp blame({status, fault}, _status, {kind, reason, stacktrace}, _conn, adapter) do
    banner = Exception.format_banner(kind, reason, stacktrace)
    Log.body_error(adapter.options.log_limiter, adapter.peer, {status, fault}, banner)
    status
  end

  defp blame(nil, status, failure, conn, %{options: %{plug: plug}}) do
    if status in 500..599, do: Log.request_error(failure, conn: conn, plug: plug)
    status
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

  defp response(%UpgradeError{} = error), do: UpgradeError.response(error)
  defp response(_error), do: {[], ""}
end
