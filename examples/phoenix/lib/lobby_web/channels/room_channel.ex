defmodule LobbyWeb.RoomChannel do
  @moduledoc """
  The room: what one says, all hear. `priv/static/room.js` is its other end.
  """

  use LobbyWeb, :channel

  alias LobbyWeb.Presence

  @max_text 500

  @impl true
  def join("room:lobby", _params, socket) do
    send(self(), :after_join)
    {:ok, %{id: socket.assigns.visitor.id}, socket}
  end

  def join(_topic, _params, _socket), do: {:error, %{reason: "There is no such room."}}

  @impl true
  def handle_info(:after_join, socket) do
    :ok = Presence.join(socket.assigns.visitor)
    push(socket, "presence_state", Presence.list(socket))
    {:noreply, socket}
  end

  @impl true
  def handle_in("say", %{"text" => text}, socket) when is_binary(text) do
    text = String.trim(text)

    if text != "" and length(String.codepoints(text)) <= @max_text do
      broadcast!(socket, "said", %{from: socket.assigns.visitor, text: text})
      {:reply, :ok, socket}
    else
      {:reply, {:error, %{reason: "A message has 1 to #{@max_text} characters."}}, socket}
    end
  end
end
