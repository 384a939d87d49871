defmodule Lobby.Counter do
  @moduledoc """
  A number that all share. Who subscribes gets `{:counter, number}` whenever it changes.
  """

  use GenServer

  @topic "counter"

  def start_link(_options), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)

  @spec subscribe() :: :ok
  def subscribe, do: Phoenix.PubSub.subscribe(Lobby.PubSub, @topic)

  @spec value() :: integer()
  def value, do: GenServer.call(__MODULE__, :value)

  @spec add(integer()) :: :ok
  def add(number), do: GenServer.cast(__MODULE__, {:add, number})

  @impl true
  def init(value), do: {:ok, value}

  @impl true
  def handle_call(:value, _from, value), do: {:reply, value, value}

  # Told by one process, so that everybody hears of the numbers in their order.
  @impl true
  def handle_cast({:add, number}, value) do
    value = value + number
    Phoenix.PubSub.broadcast(Lobby.PubSub, @topic, {:counter, value})
    {:noreply, value}
  end
end
