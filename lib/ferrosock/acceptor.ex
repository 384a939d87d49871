defmodule Ferrosock.Acceptor do
  @moduledoc false
  # Starts a process for each connection that the engine hands it, and is its supervisor: it never
  # restarts one, it tells them of a drain, and it ends with all that are left. What a connection does
  # is not its concern.

  use GenServer, type: :supervisor, shutdown: :infinity

  alias Ferrosock.{Connection, Drain, Listener, Native, Options}

  # Messages of the last connections would otherwise keep their handles and headers alive in the
  # heap of an acceptor that has nothing to do.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument) do
    GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)
  end

  @doc "The WebSockets that it has, for `close/2`. Those to come are closed at once, with the same code."
  @spec drain(pid(), code :: 1000..4999) :: [pid()]
  def drain(acceptor, code), do: GenServer.call(acceptor, {:drain, code}, :infinity)

  @doc "Has a WebSocket close with the code that `drain/2` was given."
  @spec close(pid(), websocket :: pid()) :: :ok
  def close(acceptor, websocket), do: GenServer.cast(acceptor, {:close, websocket})

  @doc "Sends an exit signal to all its connections."
  @spec signal(pid(), reason :: :shutdown | :kill) :: :ok
  def signal(acceptor, reason), do: GenServer.cast(acceptor, {:signal, reason})

  @doc "How many connections it has."
  @spec count(pid()) :: non_neg_integer()
  def count(acceptor), do: GenServer.call(acceptor, :count_children, :infinity)[:active]

  @impl true
  def init({table, options}) do
    Process.flag(:trap_exit, true)
    {listener, tag} = Listener.handle(table)

    case Native.listener_accept(listener) do
      :ok -> {:ok, %{tag: tag, options: options, children: %{}, code: nil}}
      # One that failed in a drained server is not missed.
      {:error, :closed} -> :ignore
    end
  end

  @impl true
  def handle_info({tag, {:connection, connection_tag, exchange, request}}, %{tag: tag} = state) do
    pid = Connection.start_link(state.options, connection_tag, exchange, request)
    {:noreply, %{state | children: Map.put(state.children, pid, [])}}
  end

  def handle_info({:upgraded, pid}, state) do
    if state.code, do: close_with(pid, state.code)
    {:noreply, state}
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

  def handle_call({:drain, code}, _from, state) do
    Drain.begin(state.options)
    websockets = for {pid, _} <- state.children, Connection.websocket?(pid), do: pid
    {:reply, websockets, %{state | code: code}}
  end

  @impl true
  def handle_cast({:close, pid}, state) do
    close_with(pid, state.code)
    {:noreply, state}
  end

  def handle_cast({:signal, reason}, state) do
    signal_all(state.children, reason)
    {:noreply, state}
  end

  @impl true
  def terminate(_reason, state) do
    timer = Process.send_after(self(), :shutdown_timeout, state.options.shutdown_timeout)
    signal_all(state.children, :shutdown)
    left = await(state.children)
    Process.cancel_timer(timer)
    signal_all(left, :kill)
  end

  defp close_with(pid, code), do: Process.exit(pid, {:shutdown, {:drain, code}})

  defp signal_all(children, reason) do
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
