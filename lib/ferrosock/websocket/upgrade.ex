defmodule Ferrosock.WebSocket.Upgrade do
  @moduledoc false
  # The request to become a WebSocket: whether it is a valid handshake, and what is remembered of it until the
  # Plug has returned. Sending the 101 is the adapter's concern, and what comes after that the session's.

  alias Ferrosock.{Native, Options, UpgradeError}
  alias Ferrosock.WebSocket.Recorder

  @enforce_keys [:kind, :websock, :argument, :settings]
  defstruct @enforce_keys

  @type kind :: :websocket | :sock

  @type t :: %__MODULE__{
          kind: kind(),
          # The `WebSock`, or the `Sock`.
          websock: module(),
          # What `init/1` of a `WebSock` is given, or the state that a `Sock` has negotiated.
          argument: term(),
          settings: Options.upgrade()
        }

  @doc "The `websocket_options` of the server that the request came to. For adapters that can upgrade."
  @callback websocket_options(payload :: term()) :: map()

  @doc "See `Ferrosock.upgrade/4`. With the kind `:sock` the handler is a `Sock`, and the state is the negotiated one."
  @spec upgrade(Plug.Conn.t(), module(), term(), keyword(), kind()) :: Plug.Conn.t()
  def upgrade(conn, websock, state, options, kind \\ :websocket) do
    conn = Recorder.real(conn)
    settings = settings!(conn, options)
    if settings.early_validate?, do: validate!(conn)
    Plug.Conn.upgrade_adapter(conn, kind, asked(conn, kind, {websock, state, options}, settings))
  end

  @doc "Whether the request is a valid handshake."
  @spec handshake?(Plug.Conn.t()) :: boolean()
  def handshake?(%{method: "GET"} = conn),
    do: List.keymember?(conn.req_headers, "upgrade", 0) and problem(conn) == nil

  def handshake?(_conn), do: false

  @doc """
  Raises `Ferrosock.UpgradeError` unless the request is a valid handshake (RFC6455§4.2.1). A request of
  HTTP/2 has no key (RFC8441§5); in all else the engine makes it look the same.
  """
  @spec validate!(Plug.Conn.t()) :: :ok
  def validate!(conn) do
    case problem(conn) do
      nil -> :ok
      error -> raise error
    end
  end

  @doc "What `validate!/1` raises."
  @spec problem(Plug.Conn.t()) :: UpgradeError.t() | nil
  def problem(conn) do
    protocol = Plug.Conn.get_http_protocol(conn)

    cond do
      conn.method != "GET" -> problem("the method must be GET, not #{conn.method}", 400)
      protocol == :"HTTP/1.0" -> problem("HTTP/1.0 has no upgrade", 400)
      header(conn, "host") == [] -> problem("header `host` is missing", 400)
      true -> problem_of_fields(conn, protocol)
    end
  end

  @doc "What the adapter remembers of an upgrade. Raises `ArgumentError` if the module is no WebSock."
  @spec new!(kind(), module(), argument :: term(), Options.upgrade()) :: t()
  def new!(kind, websock, argument, settings) do
    if kind == :websocket do
      functions = [init: 1, handle_in: 2, handle_info: 2]
      Options.implements!(websock, functions, "the upgrade needs a WebSock")
    end

    %__MODULE__{kind: kind, websock: websock, argument: argument, settings: settings}
  end

  @doc "What the engine needs to know of the WebSocket: its own settings, and those of its server."
  @spec socket_options(t(), Options.t()) :: Native.socket_options()
  def socket_options(upgrade, options) do
    options
    |> Options.socket()
    |> Map.merge(upgrade.settings.socket)
    |> Map.put(:control_events, control_events?(upgrade))
  end

  # The adapter of Plug's own tests records an upgrade, too, so that apps can test their Plugs.
  defp settings!(%{adapter: {Plug.Adapters.Test.Conn, _state}}, options),
    do: Options.upgrade!(options)

  # Asked of the adapter by a callback, so that this module does not depend on the adapter.
  defp settings!(%{adapter: {adapter, payload}}, options) do
    if not (Code.ensure_loaded?(adapter) and function_exported?(adapter, :websocket_options, 1)) do
      raise ArgumentError,
            "cannot upgrade a connection of #{inspect(adapter)}: it must be one of Ferrosock's"
    end

    Options.upgrade!(options, adapter.websocket_options(payload))
  end

  defp asked(%{adapter: {Plug.Adapters.Test.Conn, _state}}, _kind, asked, _settings), do: asked

  defp asked(_conn, kind, {websock, state, _options}, settings),
    do: new!(kind, websock, state, settings)

  defp problem_of_fields(conn, protocol) do
    cond do
      not token?(conn, "connection", "upgrade") ->
        problem("header `connection` does not have `upgrade`", 400)

      not token?(conn, "upgrade", "websocket") ->
        problem("header `upgrade` does not have `websocket`", 400)

      body?(conn) ->
        problem("the request has a body", 400)

      protocol != :"HTTP/2" and not key?(header(conn, "sec-websocket-key")) ->
        problem("header `sec-websocket-key` is not one of 16 bytes in Base64", 400)

      true ->
        problem_of_version(header(conn, "sec-websocket-version"))
    end
  end

  defp problem_of_version(["13"]), do: nil
  defp problem_of_version([]), do: problem("header `sec-websocket-version` is missing", 400)

  defp problem_of_version(versions),
    do: problem("version #{Enum.join(versions, ", ")} is not supported, only 13 is", 426)

  defp problem(text, status),
    do: %UpgradeError{message: "not a WebSocket handshake: #{text}", plug_status: status}

  defp token?(conn, name, token) do
    conn
    |> header(name)
    |> Enum.flat_map(&Plug.Conn.Utils.list/1)
    |> Enum.any?(&(String.downcase(&1, :ascii) == token))
  end

  # A body would stand where the frames begin: a proxy that reads it as one and a server that reads it as the
  # other would disagree about where the request ends.
  defp body?(conn) do
    header(conn, "transfer-encoding") != [] or header(conn, "content-length") not in [[], ["0"]]
  end

  defp key?([key]), do: match?({:ok, <<_::binary-size(16)>>}, Base.decode64(key))
  defp key?(_keys), do: false

  defp header(conn, name), do: Plug.Conn.get_req_header(conn, name)

  defp control_events?(%{kind: :sock}), do: true

  # The process of a handler without `handle_control/2` is not woken by pings and pongs.
  defp control_events?(%{websock: websock}),
    do: Code.ensure_loaded?(websock) and function_exported?(websock, :handle_control, 2)
end
