defmodule Ferrosock.WebSocket.Upgrade do
  @moduledoc false
  # The request to become a WebSocket: whether it is a valid handshake, and what is remembered of it until the
  # Plug has returned. Sending the 101 is the adapter's concern, and what comes after that the session's.

  alias Ferrosock.{Native, Options, UpgradeError}

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
    settings = settings!(conn, options)
    if settings.early_validate?, do: validate!(conn)
    Plug.Conn.upgrade_adapter(conn, kind, {websock, state, options})
  end

  @doc """
  Raises `Ferrosock.UpgradeError` unless the request is a valid handshake (RFC6455§4.2.1). A request of
  HTTP/2 has no key (RFC8441§5); in all else the engine makes it look the same.
  """
  @spec validate!(Plug.Conn.t()) :: :ok
  def validate!(conn) do
    protocol = Plug.Conn.get_http_protocol(conn)

    cond do
      conn.method != "GET" -> refuse("the method must be GET, not #{conn.method}")
      protocol == :"HTTP/1.0" -> refuse("HTTP/1.0 has no upgrade")
      header(conn, "host") == [] -> refuse("header `host` is missing")
      true -> validate_fields!(conn, protocol)
    end
  end

  @doc "What the adapter remembers of an upgrade. Raises `ArgumentError` on what no upgrade can have."
  @spec new!(kind(), module(), argument :: term(), keyword(), websocket_options :: map()) :: t()
  def new!(kind, websock, argument, options, websocket_options) do
    if kind == :websocket do
      functions = [init: 1, handle_in: 2, handle_info: 2]
      Options.implements!(websock, functions, "the upgrade needs a WebSock")
    end

    settings = Options.upgrade!(options, websocket_options)
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

  defp validate_fields!(conn, protocol) do
    cond do
      not token?(conn, "connection", "upgrade") ->
        refuse("header `connection` does not have `upgrade`")

      not token?(conn, "upgrade", "websocket") ->
        refuse("header `upgrade` does not have `websocket`")

      body?(conn) ->
        refuse("the request has a body")

      protocol != :"HTTP/2" and not key?(header(conn, "sec-websocket-key")) ->
        refuse("header `sec-websocket-key` is not one of 16 bytes in Base64")

      true ->
        validate_version!(header(conn, "sec-websocket-version"))
    end
  end

  defp validate_version!(["13"]), do: :ok
  defp validate_version!([]), do: refuse("header `sec-websocket-version` is missing")

  defp validate_version!(versions),
    do: refuse("version #{Enum.join(versions, ", ")} is not supported, only 13 is", 426)

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

  defp refuse(problem, status \\ 400) do
    raise UpgradeError, message: "not a WebSocket handshake: #{problem}", plug_status: status
  end

  defp control_events?(%{kind: :sock}), do: true

  # The process of a handler without `handle_control/2` is not woken by pings and pongs.
  defp control_events?(%{websock: websock}),
    do: Code.ensure_loaded?(websock) and function_exported?(websock, :handle_control, 2)
end
