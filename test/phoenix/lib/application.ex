defmodule Sample.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    web = web(Application.get_env(:sample, :web, SampleWeb))
    children = [{Phoenix.PubSub, name: Sample.PubSub} | web]
    Supervisor.start_link(children, strategy: :one_for_one, name: Sample.Supervisor)
  end

  defp web(SampleWeb), do: [SampleWeb.Endpoint]
  defp web(BrowserWeb), do: [BrowserWeb.Presence, BrowserWeb.Endpoint]
end
