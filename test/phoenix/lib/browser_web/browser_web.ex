defmodule BrowserWeb do
  @moduledoc """
  The app that browsers use in the tests: a LiveView, channels, and what tells which way a page is connected. It is a
  program of its own, so that it can be stopped and killed, and one without Mix, as in production:

      elixir -pa '_build/*/lib/*/ebin' --no-halt -e 'BrowserWeb.start()'

  Its configuration is in the environment: `BROWSER_PORT` and `BROWSER_TLS_PORT`, and the PEM files `CERTFILE` and
  `KEYFILE`.
  """

  @ip {127, 0, 0, 1}

  @doc "Starts it."
  def start do
    configuration = [
      # A client that leaves is to log nothing at any level.
      logger: [level: :debug],
      phoenix: [json_library: Jason],
      sample: [{:web, BrowserWeb}, {BrowserWeb.Endpoint, endpoint()}]
    ]

    Application.put_all_env(configuration, persistent: true)
    {:ok, _started} = Application.ensure_all_started(:sample, :permanent)
  end

  defp endpoint do
    [
      adapter: Ferrosock.PhoenixAdapter,
      server: true,
      http: [ip: @ip, port: System.fetch_env!("BROWSER_PORT")],
      https: [
        ip: @ip,
        port: System.fetch_env!("BROWSER_TLS_PORT"),
        certfile: System.fetch_env!("CERTFILE"),
        keyfile: System.fetch_env!("KEYFILE")
      ],
      check_origin: ["//127.0.0.1"],
      # Cookies and tokens outlive the program.
      secret_key_base: String.duplicate("browser-", 8),
      live_view: [signing_salt: "browser salt"],
      pubsub_server: Sample.PubSub,
      render_errors: [formats: [html: SampleWeb.ErrorHTML], layout: false]
    ]
  end
end
