Code.require_file("../../lib/mix/packages.exs", __DIR__)

# The packages of phoenix.exs, which runs in this project.
defmodule BenchPhoenix.MixProject do
  use Mix.Project

  def project do
    [app: :bench_phoenix, version: "0.1.0", elixir: "~> 1.18", deps: deps()] ++
      Ferrosock.Packages.config()
  end

  def application, do: [extra_applications: [:logger]]

  defp deps do
    [{:ferrosock, path: "../.."}] ++
      Ferrosock.Packages.packages(phoenix: "~> 1.7.21", plug_cowboy: "~> 2.7", jason: "~> 1.4")
  end
end
