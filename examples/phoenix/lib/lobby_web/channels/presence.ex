defmodule LobbyWeb.Presence do
  @moduledoc """
  Who is there, on all pages and all nodes: LiveViews and channels are listed alike, for as long as their
  processes live.
  """

  use Phoenix.Presence, otp_app: :lobby, pubsub_server: Lobby.PubSub

  @topic "room:lobby"

  @doc "Lists the calling process as the visitor's, who is one person on however many pages."
  def join(visitor) do
    {:ok, _ref} = track(self(), @topic, visitor.id, %{name: visitor.name})
    :ok
  end

  @doc "Has the calling process hear who comes and goes, and what is said in the room."
  def subscribe, do: LobbyWeb.Endpoint.subscribe(@topic)

  @doc "Everybody, in the order of their names."
  def people do
    people =
      for {id, %{metas: [%{name: name} | _] = pages}} <- list(@topic) do
        %{id: id, name: name, pages: length(pages)}
      end

    Enum.sort_by(people, &{String.downcase(&1.name), &1.id})
  end
end
