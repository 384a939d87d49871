defmodule Ferrosock.Server.Acceptor do
  @moduledoc false
  # Starts a process for each connection that the engine hands it, and is their supervisor, in the way of
  # `Ferrosock.Server.Connections`. What they do is not its concern: when it fails, it ends none of them.

  use GenServer, type: :supervisor, shutdown: :infinity

  alias Ferrosock.{Log, Native, Options}
  alias Ferrosock.HTTP.Connection
  alias Ferrosock.Server.{Connections, Listener}

  # Messages of the last connections would otherwise keep their handles alive in the heap of an acceptor
  # that has nothing to do.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument),
    do: GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)

  @impl true
  def init({table, options} = argument) do
    {listener, tag} = Listener.handle(table)

    case Native.listener_accept(listener) do
      :ok ->
        state = Connections.init_state(:acceptor, argument)
        heir = Connections.heir(table)
        {:ok, Map.merge(state, %{tag: tag, options: options, heir: heir, logged: nil})}

      # One that failed in a drained server is not missed.
      {:error, :closed} ->
        :ignore
    end
  end

  # Linked as it is started: a link that is made later is a signal, for which its other end has to be woken.
  @impl true
  def handle_info({tag, {:connection, claim}}, %{tag: tag} = state) do
    Connection.start_link(state.heir, state.options, claim)
    {:noreply, state}
  rescue
    # The node has as many processes as it may have.
    SystemLimitError ->
      Native.refuse(claim)
      {:noreply, log(state, System.monotonic_time(:second))}
  end

  def handle_info(message, state), do: Connections.handle_info(message, state)

  @impl true
  defdelegate handle_call(request, from, state), to: Connections

  @impl true
  defdelegate handle_cast(request, state), to: Connections

  @impl true
  def terminate(:shutdown, state), do: Connections.terminate(:shutdown, state)
  # It has failed, and its connections go on with their heir.
  def terminate(_reason, _state), do: :ok

  # At most once a second.
  defp log(%{logged: second} = state, second), do: state

  defp log(state, second) do
    Log.process_limit()
    %{state | logged: second}
  end
end
