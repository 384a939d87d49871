defmodule Ferrosock.Acceptor do
  @moduledoc false
  # Starts a process for each connection that the engine hands it, and is its supervisor: it never
  # restarts one, and it ends them all when the server stops. What a connection does is not its
  # concern.

  use GenServer, type: :supervisor, shutdown: :infinity

  alias Ferrosock.{Connection, Listener, Native, Options}

  # Messages of the last connections would otherwise keep their handles and headers alive in the
  # heap of an acceptor that has nothing to do.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument) do
    GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)
  end

  @impl true
  def init({table, options}) do
    Process.flag(:trap_exit, true)
    {listener, tag} = Listener.handle(table)

    case Native.listener_accept(listener) do
      :ok -> {:ok, %{tag: tag, options: options, children: %{}}}
      {:error, :closed} -> {:stop, {:shutdown, :listener_closed}}
    end
  end

  @impl true
  def handle_info({tag, {:connection, connection_tag, exchange, request}}, %{tag: tag} = state) do
    pid = Connection.start_link(state.options, connection_tag, exchange, request)
    {:noreply, %{state | children: Map.put(state.children, pid, [])}}
  end

  def handle_info({:EXIT, pid, _reason}, state) do
    {:noreply, %{state | children: Map.delete(state.children, pid)}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # What supervisors answer, so that tools which walk the supervision tree see connections.
  @impl true
  def handle_call(:which_children, _from, state) do
    children = for {pid, _} <- state.children, do: {:undefined, pid, :worker, [Connection]}
    {:reply, children, state}
  end

  def handle_call(:count_children, _from, state) do
    count = map_size(state.children)
    {:reply, [specs: count, active: count, supervisors: 0, workers: count], state}
  end

  @impl true
  def terminate(_reason, state) do
    timer = Process.send_after(self(), :shutdown_timeout, state.options.shutdown_timeout)
    signal(state.children, :shutdown)
    left = await(state.children)
    Process.cancel_timer(timer)
    signal(left, :kill)
  end

  defp signal(children, reason) do
    Enum.each(children, fn {pid, _} -> Process.exit(pid, reason) end)
  end

  defp await(children) when children == %{}, do: children

  defp await(children) do
    receive do
      {:EXIT, pid, _reason} -> await(Map.delete(children, pid))
      :shutdown_timeout -> children
    end
  end
end
