defmodule LobbyWeb.UserSocket do
  use Phoenix.Socket

  channel "room:*", LobbyWeb.RoomChannel

  # Phoenix hands the session over where the page has sent its CSRF token along.
  @impl true
  def connect(_params, socket, %{session: session}) do
    with {:ok, visitor} <- LobbyWeb.Visitor.from_session(session) do
      {:ok, assign(socket, :visitor, visitor)}
    end
  end

  @impl true
  def id(socket), do: "visitor:#{socket.assigns.visitor.id}"
end
