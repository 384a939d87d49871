defmodule Lobby.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Phoenix.PubSub, name: Lobby.PubSub},
      LobbyWeb.Presence,
      Lobby.Counter,
      # Last, so that it is the first to stop: nobody is served by half an app.
      LobbyWeb.Endpoint
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Lobby.Supervisor)
  end

  @impl true
  def config_change(changed, _new, removed) do
    LobbyWeb.Endpoint.config_change(changed, removed)
  end
end
