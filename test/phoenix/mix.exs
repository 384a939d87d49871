Code.require_file("../../lib/mix/packages.exs", __DIR__)

defmodule Sample.MixProject do
  use Mix.Project

  import Ferrosock.Packages, only: [package: 2]

  def project do
    [
      app: :sample,
      version: "0.1.0",
      elixir: "~> 1.15",
      elixirc_paths: elixirc_paths(Mix.env()),
      # The tests of the project around this one end in _test.exs: Mix looks for them in all folders of its test/.
      test_pattern: "*_case.exs",
      test_load_filters: [&String.ends_with?(&1, "_case.exs")],
      start_permanent: Mix.env() == :prod,
      deps: deps()
    ] ++ Ferrosock.Packages.config()
  end

  def application do
    [mod: {Sample.Application, []}, extra_applications: [:logger, :runtime_tools]]
  end

  # The client of raw bytes is that of the project around this one.
  defp elixirc_paths(:test), do: ["lib", Path.expand("../support/raw.ex", __DIR__)]
  defp elixirc_paths(_), do: ["lib"]

  defp deps do
    [
      {:ferrosock, path: "../.."},
      package(:phoenix, "~> 1.7"),
      package(:phoenix_live_view, "~> 0.20 or ~> 1.0"),
      package(:phoenix_html, "~> 3.3 or ~> 4.0"),
      package(:phoenix_pubsub, "~> 2.1"),
      package(:jason, "~> 1.4"),
      # What Phoenix itself depends on: nothing but Hex would tell Mix.
      package(:phoenix_template, "~> 1.0"),
      package(:websock, "~> 0.5"),
      package(:websock_adapter, "~> 0.5.7"),
      package(:castore, "~> 1.0")
    ]
  end
end
