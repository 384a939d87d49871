defmodule Ferrosock.Drainer do
  @moduledoc false
  # The last child of a server, so the first to stop: nothing is accepted any more while the
  # acceptors end the connections that are there.

  use GenServer

  alias Ferrosock.{Listener, Native}

  @spec start_link(:ets.table()) :: GenServer.on_start()
  def start_link(table), do: GenServer.start_link(__MODULE__, table)

  @impl true
  def init(table) do
    Process.flag(:trap_exit, true)
    {listener, _tag} = Listener.handle(table)
    {:ok, listener}
  end

  @impl true
  def terminate(_reason, listener), do: Native.listener_close(listener)
end
