import Config

if port = System.get_env("PORT") do
  config :sample, SampleWeb.Endpoint, http: [port: port]
end
