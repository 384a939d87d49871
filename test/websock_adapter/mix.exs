Code.require_file("../../lib/mix/packages.exs", __DIR__)

defmodule WebSockAdapterTests.MixProject do
  # An app as a user has it, with the genuine websock and websock_adapter. The project around it cannot have them:
  # it would lose its own WebSock.
  use Mix.Project

  def project do
    [
      app: :websock_adapter_tests,
      version: "0.1.0",
      elixir: "~> 1.15",
      elixirc_paths: elixirc_paths(Mix.env()),
      # The tests of the project around this one end in _test.exs: Mix looks for them in all folders of its test/.
      test_pattern: "*_case.exs",
      test_load_filters: [&String.ends_with?(&1, "_case.exs")],
      deps: deps()
    ] ++ Ferrosock.Packages.config()
  end

  def application, do: [extra_applications: [:logger]]

  # What the tests of the project around this one have, too.
  defp elixirc_paths(:test) do
    for name <- ~w(certificates client echo http2 http2_app logs raw telling_app vm),
        do: Path.expand("../support/#{name}.ex", __DIR__)
  end

  defp elixirc_paths(_), do: []

  defp deps do
    # cowlib has the frames of HTTP/2.
    [{:ferrosock, path: "../.."}] ++
      Ferrosock.Packages.packages(websock_adapter: "~> 0.5.7 or ~> 0.6", cowlib: "~> 2.12")
  end
end
