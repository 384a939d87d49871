defmodule Ferrosock.WebSocket.Upgrade do
  @moduledoc false
  # The request to become a WebSocket: whether it is valid, and its record on the conn. The 101 and
  # what comes after are not its concern.

  alias Ferrosock.{Adapter, Options, UpgradeError}

  @typedoc "What an adapter remembers of an upgrade until the Plug has returned"
  @type t :: %{
          kind: :websocket | :sock,
          websock: module(),
          argument: term(),
          settings: Options.upgrade()
        }

  @doc "See `Ferrosock.upgrade/4`. With `:sock` the handler is a `Sock`, and this its negotiated state."
  @spec upgrade(Plug.Conn.t(), module(), term(), keyword(), :websocket | :sock) :: Plug.Conn.t()
  def upgrade(conn, websock, state, options, kind \\ :websocket) do
    settings = settings!(conn, options)
    if settings.early_validate?, do: validate!(conn)
    Plug.Conn.upgrade_adapter(conn, kind, {websock, state, options})
  end

  @doc """
  Raises `Ferrosock.UpgradeError` unless the request is a handshake (RFC6455§4.2.1). One of HTTP/2 has no
  key (RFC8441§5); the rest looks the same, as the engine sees to.
  """
  @spec validate!(Plug.Conn.t()) :: :ok
  def validate!(conn) do
    cond do
      conn.method != "GET" ->
        refuse("the method must be GET, not #{conn.method}")

      Plug.Conn.get_http_protocol(conn) == :"HTTP/1.0" ->
        refuse("HTTP/1.0 has no upgrade")

      Plug.Conn.get_req_header(conn, "host") == [] ->
        refuse("header `host` is missing")

      not token?(conn, "connection", "upgrade") ->
        refuse("header `connection` does not have `upgrade`")

      not token?(conn, "upgrade", "websocket") ->
        refuse("header `upgrade` does not have `websocket`")

      body?(conn) ->
        refuse("the request has a body")

      Plug.Conn.get_http_protocol(conn) != :"HTTP/2" and
          not key?(Plug.Conn.get_req_header(conn, "sec-websocket-key")) ->
        refuse("header `sec-websocket-key` is not one of 16 bytes in Base64")

      true ->
        validate_version!(Plug.Conn.get_req_header(conn, "sec-websocket-version"))
    end
  end

  defp validate_version!(["13"]), do: :ok
  defp validate_version!([]), do: refuse("header `sec-websocket-version` is missing")

  defp validate_version!(versions),
    do: refuse("version #{Enum.join(versions, ", ")} is not supported, only 13 is", 426)

  # In the adapter of Plug's own tests an upgrade is recorded too, so that apps can test their Plugs.
  defp settings!(%{adapter: {Adapter, adapter}}, options),
    do: Options.upgrade!(options, adapter.options.websocket_options)

  defp settings!(%{adapter: {Plug.Adapters.Test.Conn, _state}}, options),
    do: Options.upgrade!(options)

  defp settings!(%{adapter: {adapter, _state}}, _options) do
    raise ArgumentError,
          "cannot upgrade a connection of #{inspect(adapter)}: it must be one of Ferrosock's"
  end

  defp token?(conn, header, token) do
    conn
    |> Plug.Conn.get_req_header(header)
    |> Enum.flat_map(&Plug.Conn.Utils.list/1)
    |> Enum.any?(&(String.downcase(&1, :ascii) == token))
  end

  # Whoever takes it for frames, or frames for it, is one of two that disagree about where the request
  # ends.
  defp body?(conn) do
    Plug.Conn.get_req_header(conn, "transfer-encoding") != [] or
      Plug.Conn.get_req_header(conn, "content-length") not in [[], ["0"]]
  end

  defp key?([key]), do: match?({:ok, <<_::binary-size(16)>>}, Base.decode64(key))
  defp key?(_keys), do: false

  defp refuse(problem, status \\ 400) do
    raise UpgradeError, message: "not a WebSocket handshake: #{problem}", plug_status: status
  end
end
