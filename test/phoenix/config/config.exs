import Config

config :phoenix, json_library: Jason

config :logger, level: :info

config :sample, SampleWeb.Endpoint,
  adapter: Ferrosock.PhoenixAdapter,
  url: [host: "localhost"],
  http: [ip: {127, 0, 0, 1}, port: 4000],
  server: true,
  secret_key_base: String.duplicate("sample", 12),
  live_view: [signing_salt: "sample salt"],
  pubsub_server: Sample.PubSub,
  render_errors: [formats: [html: SampleWeb.ErrorHTML], layout: false]

if config_env() == :test do
  config :sample, SampleWeb.Endpoint, http: [port: 0]

  for endpoint <- [SampleWeb.SocketsEndpoint, SampleWeb.ReloadingEndpoint] do
    config :sample, endpoint,
      adapter: Ferrosock.PhoenixAdapter,
      url: [host: "localhost"],
      server: true,
      secret_key_base: String.duplicate("sample", 12),
      pubsub_server: Sample.PubSub,
      render_errors: [formats: [html: SampleWeb.ErrorHTML], layout: false]
  end

  config :sample, SampleWeb.SocketsEndpoint, http: [ip: {127, 0, 0, 1}, port: 0]
  config :sample, SampleWeb.ReloadingEndpoint, code_reloader: true
end
