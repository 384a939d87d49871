defmodule LobbyWeb.LobbyLive do
  use LobbyWeb, :live_view

  alias Lobby.Counter
  alias LobbyWeb.{Presence, Visitor}
  alias Phoenix.Socket.Broadcast

  @impl true
  def mount(_params, _session, socket) do
    if connected?(socket) do
      Counter.subscribe()
      Presence.subscribe()
    end

    {:ok, assign(socket, counter: Counter.value(), people: Presence.people(), said: nil)}
  end

  @impl true
  def handle_event("add", %{"number" => number}, socket) do
    Counter.add(String.to_integer(number))
    {:noreply, socket}
  end

  def handle_event("crash", _params, _socket), do: raise("The visitor has asked for this.")

  @impl true
  def handle_info({:counter, number}, socket), do: {:noreply, assign(socket, :counter, number)}

  def handle_info(%Broadcast{event: "presence_diff"}, socket) do
    {:noreply, assign(socket, :people, Presence.people())}
  end

  def handle_info(%Broadcast{event: "said", payload: said}, socket) do
    {:noreply, assign(socket, :said, said)}
  end

  @impl true
  def render(assigns) do
    ~H"""
    <Layouts.app current={:lobby}>
      <Layouts.lost />
      <section class="card counter">
        <h1>Everybody's counter</h1>
        <div class="dial">
          <button phx-click="add" phx-value-number="-1" aria-label="One less">−</button>
          <output id="counter" aria-label="The counter"><%= @counter %></output>
          <button phx-click="add" phx-value-number="1" aria-label="One more">+</button>
        </div>
        <p class="hint">All open pages share it. Open a second one and watch.</p>
      </section>

      <section class="card">
        <h2>Here now <span id="count" class="count"><%= length(@people) %></span></h2>
        <ul id="people" class="people" aria-label="People who are here">
          <li :for={person <- @people}>
            <Layouts.avatar person={person} />
            <bdi><%= person.name %></bdi>
            <span :if={person.pages > 1} class="tag"><%= person.pages %> pages</span>
            <span :if={person.id == @visitor.id} class="tag">you</span>
          </li>
        </ul>
        <.form for={%{}} action={~p"/name"} class="line">
          <label for="name">Your name</label>
          <input
            id="name"
            name="name"
            value={@visitor.name}
            maxlength={Visitor.max_name()}
            autocomplete="nickname"
            required
          />
          <button>Save</button>
        </.form>
      </section>

      <section class="card">
        <h2>Last said in the room</h2>
        <p :if={@said} id="said">
          <b><bdi><%= @said.from.name %></bdi></b> <bdi><%= @said.text %></bdi>
        </p>
        <p :if={!@said} class="hint">
          Nothing since you are here. The <.link href={~p"/room"}>room</.link> is a channel, without LiveView.
        </p>
      </section>

      <section class="card">
        <h2>This page's process</h2>
        <p>
          It is <code id="process"><%= inspect(self()) %></code>. It may crash: the page comes back with
          a new one, and the counter, which is a process of its own, has lost nothing.
        </p>
        <button phx-click="crash">Crash it</button>
      </section>
    </Layouts.app>
    """
  end
end
