Code.require_file("../../lib/mix/packages.exs", __DIR__)

defmodule Sample.MixProject do
  use Mix.Project

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
    ] ++ build()
  end

  # All that is built and fetched is outside of the test/ around this project: Mix would take the templates of tests
  # that Phoenix brings for tests.
  defp build do
    config = Ferrosock.Packages.config()
    source = if config == [], do: "hex", else: "toolchain"
    folder = Path.expand("../../_build/phoenix/#{source}", __DIR__)
    deps = Path.join(folder, "deps")
    lock = Path.join(folder, "mix.lock")
    Keyword.merge(config, build_path: folder, deps_path: deps, lockfile: lock)
  end

  def application do
    [mod: {Sample.Application, []}, extra_applications: [:logger, :runtime_tools]]
  end

  # The client of raw bytes and what else is shared is of the project around this one. The last folder is for the test
  # of the code reloader to write into.
  defp elixirc_paths(:test) do
    shared =
      for name <- ~w(app raw certificates), do: Path.expand("../support/#{name}.ex", __DIR__)

    ["lib", "test/support", Path.join(build()[:build_path], "reloaded") | shared]
  end

  defp elixirc_paths(_), do: ["lib"]

  defp deps do
    [{:ferrosock, path: "../.."}] ++
      Ferrosock.Packages.packages(
        phoenix: "~> 1.7",
        phoenix_live_view: "~> 0.20 or ~> 1.0",
        phoenix_html: "~> 3.3 or ~> 4.0",
        phoenix_pubsub: "~> 2.1",
        jason: "~> 1.4"
      )
  end
end
