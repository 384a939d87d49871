defmodule Ferrosock.Server.Connections do
  @moduledoc false
  # A supervisor of connections. It never restarts one; it closes the WebSockets among them when they are
  # drained, and it ends all of them when it stops. An acceptor supervises the connections that it has
  # started, by the functions here; a process of this module supervises those whose acceptor has failed.
  #
  # Connections are linked to it, and the VM's list of links is the list of its children. So they cost it
  # neither a message at their start nor memory of its own.

  use GenServer, type: :supervisor, shutdown: :infinity

  alias Ferrosock.HTTP.Connection
  alias Ferrosock.Options

  # Milliseconds. Without work, messages about past connections would otherwise stay in the heap.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument),
    do: GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)

  @doc "All such supervisors of a server, acceptors among them."
  @spec all(:ets.table()) :: [pid()]
  def all(table) do
    for [pid] <- :ets.match(table, {{:connections, :_, :_}, :"$1"}),
        Process.alive?(pid),
        do: pid
  end

  @doc "The heir of the acceptor that calls: it has the same supervisor, and was started before it."
  @spec heir(:ets.table()) :: pid()
  def heir(table), do: :ets.lookup_element(table, {:connections, supervisor(), :heir}, 2)

  @doc "The connections that are WebSockets now."
  @spec websockets(pid()) :: [pid()]
  def websockets(connections), do: GenServer.call(connections, :websockets, :infinity)

  @doc "Closes a WebSocket with the code."
  @spec close(pid(), websocket :: pid(), code :: 1000..4999) :: :ok
  def close(connections, websocket, code),
    do: GenServer.cast(connections, {:close, websocket, code})

  @doc "Sends an exit signal to all connections."
  @spec signal(pid(), reason :: :shutdown | :kill) :: :ok
  def signal(connections, reason), do: GenServer.cast(connections, {:signal, reason})

  @doc "How many connections it has."
  @spec count(pid()) :: non_neg_integer()
  def count(connections), do: GenServer.call(connections, :count_children, :infinity)[:active]

  @doc "Makes the caller such a supervisor."
  @spec init_state(:heir | :acceptor, {:ets.table(), Options.t()}) :: map()
  def init_state(role, {table, options}) do
    Process.flag(:trap_exit, true)
    :ets.insert(table, {{:connections, supervisor(), role}, self()})
    %{options: Options.shared(table, options)}
  end

  @impl true
  def init(argument), do: {:ok, init_state(:heir, argument)}

  # These are the answers of a supervisor, so that tools which walk the supervision tree see connections.
  @impl true
  def handle_call(:which_children, _from, state) do
    children = for pid <- children(), do: {:undefined, pid, :worker, [Connection]}
    {:reply, children, state}
  end

  def handle_call(:count_children, _from, state) do
    count = length(children())
    {:reply, [specs: count, active: count, supervisors: 0, workers: count], state}
  end

  def handle_call(:websockets, _from, state),
    do: {:reply, Enum.filter(children(), &Connection.websocket?/1), state}

  # The signal must be this process's own: a connection takes it from its parent only.
  @impl true
  def handle_cast({:close, pid, code}, state) do
    Process.exit(pid, {:shutdown, {:drain, code}})
    {:noreply, state}
  end

  def handle_cast({:signal, reason}, state) do
    signal_all(children(), reason)
    {:noreply, state}
  end

  # Most messages say that a connection has ended.
  @impl true
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    timer = Process.send_after(self(), :shutdown_timeout, state.options.shutdown_timeout)
    children = children()
    signal_all(children, :shutdown)
    left = await(MapSet.new(children))
    Process.cancel_timer(timer)
    signal_all(left, :kill)
  end

  defp signal_all(children, reason), do: Enum.each(children, &Process.exit(&1, reason))

  defp await(children) do
    if MapSet.size(children) == 0 do
      children
    else
      receive do
        {:EXIT, pid, _reason} -> children |> MapSet.delete(pid) |> await()
        :shutdown_timeout -> children
      end
    end
  end

  defp children do
    {:links, links} = Process.info(self(), :links)
    for pid <- links, is_pid(pid), pid != supervisor(), do: pid
  end

  defp supervisor, do: hd(Process.get(:"$ancestors"))
end
