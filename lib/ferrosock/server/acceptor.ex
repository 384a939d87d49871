defmodule Ferrosock.Server.Acceptor do
  @moduledoc false
  # Starts a process for each connection that the engine hands it, and supervises them, by the functions of
  # `Ferrosock.Server.Connections`. What they do is not its concern. When it fails, it ends none of them.

  use GenServer, type: :supervisor, shutdown: :infinity

  alias Ferrosock.HTTP.Connection
  alias Ferrosock.{Log, Native, Options}
  alias Ferrosock.Server.{Connections, Listener}

  # Milliseconds. Without work, messages about past connections would otherwise stay in the heap, and the
  # handles in them would stay alive.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument),
    do: GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)

  @impl true
  def init({table, _options} = argument) do
    {listener, tag} = Listener.handle(table)

    case Native.listener_accept(listener) do
      :ok ->
        state = Connections.init_state(:acceptor, argument)
        {:ok, Map.merge(state, %{tag: tag, heir: Connections.heir(table), logged: nil})}

      # The server is drained, and an acceptor that has failed is not needed any more.
      {:error, :closed} ->
        :ignore
    end
  end

  @impl true
  def handle_info({tag, {:connection, claim}}, %{tag: tag} = state) do
    # It is linked at its start: to link it later would be a signal, for which it would have to be woken.
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
