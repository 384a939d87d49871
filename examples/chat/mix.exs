Code.require_file("../../lib/mix/packages.exs", __DIR__)

defmodule Chat.MixProject do
  use Mix.Project

  def project do
    [
      app: :chat,
      version: "0.1.0",
      elixir: "~> 1.18",
      start_permanent: Mix.env() == :prod,
      # Plug comes with Ferrosock.
      deps: [{:ferrosock, path: "../.."}]
    ] ++ Ferrosock.Packages.config()
  end

  def application do
    [mod: {Chat.Application, []}, extra_applications: [:logger]]
  end
end
