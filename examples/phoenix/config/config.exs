import Config

config :lobby, LobbyWeb.Endpoint,
  # This line is all that it takes: Ferrosock serves the app.
  adapter: Ferrosock.PhoenixAdapter,
  # Whatever address this machine is visited by: a page may open sockets to where it came from.
  check_origin: :conn,
  render_errors: [formats: [html: LobbyWeb.ErrorHTML], layout: false],
  pubsub_server: Lobby.PubSub,
  live_view: [signing_salt: "live view"]

config :phoenix, :json_library, Jason

config :logger, level: :info
