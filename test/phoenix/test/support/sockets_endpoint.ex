defmodule SampleWeb.SocketsEndpoint do
  @moduledoc false
  # Every way to declare a socket. Phoenix remembers the origins of a handler, so those that differ in them have
  # handlers of their own.
  use Phoenix.Endpoint, otp_app: :sample

  alias Sample.Probe

  defmodule Any, do: use(Probe)
  defmodule Listed, do: use(Probe)
  defmodule Checked, do: use(Probe)
  defmodule Unchecked, do: use(Probe)

  @session [store: :cookie, key: "_sockets_key", signing_salt: "sockets salt"]

  @connect_info [:peer_data, :trace_context_headers, :x_headers, :uri, :user_agent] ++
                  [session: @session, custom: "value"]

  socket "/info", Any,
    websocket: [connect_info: @connect_info],
    longpoll: true

  socket "/origin/own", Checked, websocket: [check_origin: true]
  socket "/origin/listed", Listed, websocket: [check_origin: ["//example.com", "//*.example.org"]]
  socket "/origin/any", Unchecked, websocket: [check_origin: false]
  socket "/error", Any, websocket: [error_handler: {Probe, :handle_error, []}]
  socket "/rooms/:room", Any, websocket: [path: "/ws/:seat"]
  socket "/protocols", Any, websocket: [subprotocols: ["chat.v2", "chat.v1"]]
  socket "/token", Any, auth_token: true
  socket "/idle", Any, websocket: [timeout: 300]
  socket "/small", Any, websocket: [max_frame_size: 1_000]
  socket "/compressed", Any, websocket: [compress: true, fullsweep_after: 7]

  plug Plug.Session, @session
  plug :page

  # A page with a session, whose token a socket may show.
  defp page(conn, _options) do
    conn = conn |> fetch_session() |> put_session("user", "Ada")
    token = Plug.CSRFProtection.get_csrf_token()

    conn
    |> put_session("_csrf_token", Process.get(:plug_unmasked_csrf_token))
    |> send_resp(200, token)
  end
end
