Code.require_file("lib/mix/packages.exs", __DIR__)
Code.require_file("lib/mix/tasks/compile.ferrosock.exs", __DIR__)

defmodule Ferrosock.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :ferrosock,
      version: @version,
      elixir: "~> 1.15",
      compilers: [:ferrosock | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      test_ignore_filters: [
        &String.starts_with?(&1, [
          "test/clients/",
          "test/conformance/",
          "test/phoenix/",
          "test/support/",
          "test/websock_adapter/"
        ])
      ],
      deps: Ferrosock.Packages.deps(),
      description: "A web and WebSocket server for Plug apps, with an engine in Rust",
      package: package(),
      docs: docs()
    ] ++ Ferrosock.Packages.config()
  end

  def application do
    [mod: {Ferrosock.Server.Reactors, []}, extra_applications: [:logger, :public_key, :ssl]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["MIT"],
      links: %{},
      # The engine travels as source: it is compiled where the app is.
      files: ~w(lib guides native Cargo.toml Cargo.lock mix.exs README.md CHANGELOG.md LICENSE)
    ]
  end

  defp docs do
    [
      main: "readme",
      extras: [
        "README.md",
        "guides/phoenix.md",
        "guides/coming-from-bandit-or-cowboy.md",
        "CHANGELOG.md",
        "LICENSE"
      ]
    ]
  end
end
