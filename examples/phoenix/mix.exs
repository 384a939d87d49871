Code.require_file("../../lib/mix/packages.exs", __DIR__)

defmodule Lobby.MixProject do
  use Mix.Project

  def project do
    [
      app: :lobby,
      version: "0.1.0",
      elixir: "~> 1.16",
      start_permanent: Mix.env() == :prod,
      deps: deps()
    ] ++ Ferrosock.Packages.config()
  end

  def application do
    [mod: {Lobby.Application, []}, extra_applications: [:logger, :runtime_tools]]
  end

  # An app of your own lists its packages as usual, with {:ferrosock, …} in the place of Bandit.
  defp deps do
    [{:ferrosock, path: "../.."}] ++
      Ferrosock.Packages.packages(
        phoenix: "~> 1.7",
        phoenix_live_view: "~> 0.20 or ~> 1.0",
        jason: "~> 1.2"
      )
  end
end
