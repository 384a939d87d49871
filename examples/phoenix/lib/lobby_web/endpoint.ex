defmodule LobbyWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :lobby

  @session_options [
    store: :cookie,
    key: "_lobby",
    signing_salt: "session",
    same_site: "Lax"
  ]

  socket "/live", Phoenix.LiveView.Socket,
    websocket: [compress: true, connect_info: [session: @session_options]]

  socket "/socket", LobbyWeb.UserSocket,
    websocket: [compress: true, connect_info: [session: @session_options]]

  plug Plug.Static, at: "/", from: :lobby, only: LobbyWeb.static_paths()

  # The packages bring their clients along, as ES modules that a browser takes as they are: there is
  # no bundler, and client and server are always of one version.
  plug Plug.Static, at: "/assets/phoenix", from: :phoenix, only: ~w(phoenix.mjs)

  plug Plug.Static,
    at: "/assets/phoenix_live_view",
    from: :phoenix_live_view,
    only: ~w(phoenix_live_view.esm.js)

  plug Plug.RequestId
  plug Plug.Telemetry, event_prefix: [:phoenix, :endpoint]
  plug Plug.Parsers, parsers: [:urlencoded], pass: ["*/*"]
  plug Plug.Head
  plug Plug.Session, @session_options
  plug LobbyWeb.Router
end
