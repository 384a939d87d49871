defmodule BrowserWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :sample

  @session [store: :cookie, key: "_browser_key", signing_salt: "in-browser", same_site: "Lax"]
  @connect_info [:peer_data, session: @session]
  # So long a poll waits, and a stop with it; who does not poll for half as long again has left.
  @longpoll [connect_info: @connect_info, window_ms: 3_000]

  socket "/live", Phoenix.LiveView.Socket,
    websocket: [connect_info: @connect_info],
    longpoll: @longpoll

  socket "/socket", BrowserWeb.UserSocket,
    websocket: [connect_info: @connect_info, compress: true],
    longpoll: @longpoll

  # The official clients, as they come with the packages.
  plug Plug.Static, at: "/phoenix", from: {:phoenix, "priv/static"}
  plug Plug.Static, at: "/phoenix_live_view", from: {:phoenix_live_view, "priv/static"}
  plug Plug.Static, at: "/", from: {:sample, "priv/static"}, only: ["browser.js"]

  plug Plug.Telemetry, event_prefix: [:phoenix, :endpoint]
  plug Plug.Session, @session
  plug BrowserWeb.Router
end
