defmodule SampleWeb.UserSocket do
  use Phoenix.Socket

  channel "room:*", SampleWeb.RoomChannel

  @impl true
  def connect(%{"user" => user}, socket, _info), do: {:ok, assign(socket, :user, user)}
  def connect(%{"refuse" => _}, _socket, _info), do: {:error, :refused}
  def connect(_params, socket, _info), do: {:ok, assign(socket, :user, nil)}

  @impl true
  def id(socket), do: socket.assigns.user && "users_socket:#{socket.assigns.user}"
end

defmodule SampleWeb.RoomChannel do
  use Phoenix.Channel

  @impl true
  def join("room:closed", _params, _socket), do: {:error, %{reason: "closed"}}
  def join("room:" <> name, _params, socket), do: {:ok, %{room: name}, socket}

  @impl true
  def handle_in("echo", payload, socket), do: {:reply, {:ok, payload}, socket}

  # Where the processes are, for tests in the same VM.
  def handle_in("pids", _payload, socket) do
    pids =
      for pid <- [self(), socket.transport_pid], do: pid |> :erlang.pid_to_list() |> to_string()

    {:reply, {:ok, %{pids: pids}}, socket}
  end

  def handle_in("say", payload, socket) do
    broadcast!(socket, "said", payload)
    {:noreply, socket}
  end

  def handle_in("say_to_others", payload, socket) do
    broadcast_from!(socket, "said", payload)
    {:noreply, socket}
  end
end
