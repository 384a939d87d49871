defmodule BrowserWeb.UserSocket do
  use Phoenix.Socket

  channel "room:*", BrowserWeb.RoomChannel

  @impl true
  def connect(%{"name" => name}, socket, %{peer_data: %{port: port}}),
    do: {:ok, assign(socket, name: name, port: port)}

  def connect(_params, _socket, _info), do: {:error, :nameless}

  @impl true
  def id(_socket), do: nil
end

defmodule BrowserWeb.RoomChannel do
  @moduledoc false
  use Phoenix.Channel

  alias BrowserWeb.Digest

  intercept ["secret"]

  @impl true
  def join("room:closed", _params, _socket), do: {:error, %{reason: "closed"}}

  def join("room:" <> _name, params, %{assigns: assigns, transport: transport} = socket) do
    {:ok, %{you: assigns.name, port: assigns.port, transport: transport, params: params}, socket}
  end

  @impl true
  def handle_in("echo", payload, socket), do: {:reply, {:ok, payload}, socket}
  def handle_in("refuse", _payload, socket), do: {:reply, {:error, %{reason: "refused"}}, socket}

  def handle_in("digest", {:binary, data}, socket),
    do: {:reply, {:ok, %{size: byte_size(data), digest: Digest.of(data)}}, socket}

  def handle_in("digest", %{"text" => text}, socket),
    do: {:reply, {:ok, %{size: byte_size(text), digest: Digest.of(text)}}, socket}

  def handle_in("to_all", payload, socket) do
    broadcast!(socket, "said", payload)
    {:reply, :ok, socket}
  end

  def handle_in("to_others", payload, socket) do
    broadcast_from!(socket, "said", payload)
    {:reply, :ok, socket}
  end

  def handle_in("secret", payload, socket) do
    broadcast!(socket, "secret", payload)
    {:reply, :ok, socket}
  end

  def handle_in("crash", _payload, _socket), do: raise("the deliberate crash of a channel")

  # Each gets it with its own name in it.
  @impl true
  def handle_out("secret", %{"text" => text}, socket) do
    push(socket, "secret", %{text: "#{text} for #{socket.assigns.name}"})
    {:noreply, socket}
  end
end
