defmodule SampleWeb.CounterLive do
  @moduledoc false
  # A counter that all pages share.
  use Phoenix.LiveView

  @topic "counter"

  @impl true
  def mount(_params, _session, socket) do
    if connected?(socket), do: SampleWeb.Endpoint.subscribe(@topic)
    {:ok, assign(socket, count: 0)}
  end

  @impl true
  def render(assigns) do
    ~H"""
    <p>Count: <span id="count"><%= @count %></span></p>
    <button phx-click="add">Add</button>
    """
  end

  @impl true
  def handle_event("add", _params, socket) do
    SampleWeb.Endpoint.broadcast!(@topic, "add", %{})
    {:noreply, socket}
  end

  @impl true
  def handle_info(%{topic: @topic, event: "add"}, socket),
    do: {:noreply, update(socket, :count, &(&1 + 1))}
end
