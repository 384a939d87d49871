defmodule Ferrosock.Acceptor do
  @moduledoc false
  # Starts a process for each connection that the engine hands it. Who supervises these, and what they do,
  # is not its concern: its own end, whatever the reason, ends none of them.

  use GenServer

  alias Ferrosock.{Connection, Connections, Listener, Log, Native, Options}

  # Messages of the last connections would otherwise keep their handles alive in the heap of an acceptor
  # that has nothing to do.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument),
    do: GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)

  @impl true
  def init({table, options}) do
    {listener, tag} = Listener.handle(table)

    case Native.listener_accept(listener) do
      :ok ->
        {:ok, %{tag: tag, options: options, connections: Connections.sibling(table), logged: nil}}

      # One that failed in a drained server is not missed.
      {:error, :closed} ->
        :ignore
    end
  end

  @impl true
  def handle_info({tag, {:connection, claim}}, %{tag: tag} = state) do
    Connection.start(state.connections, state.options, claim)
    {:noreply, state}
  rescue
    # The node has as many processes as it may have.
    SystemLimitError ->
      Native.refuse(claim)
      {:noreply, log(state, System.monotonic_time(:second))}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # At most once a second.
  defp log(%{logged: second} = state, second), do: state

  defp log(state, second) do
    Log.process_limit()
    %{state | logged: second}
  end
end
