defmodule Ferrosock.Server.Connections do
  @moduledoc false
  # A supervisor of connections: it never restarts one, it tells them of a drain, and it ends with all that
  # are left. Those of an acceptor are below that one, which does the same by the functions here; below the
  # process of this module are those whose acceptor has failed.
  #
  # Connections are linked to it, and the VM's own list of links is the list of its children: they cost it
  # neither a message at their start nor memory of its own.

  use GenServer, type: :supervisor, shutdown: :infinity

  alias Ferrosock.Options
  alias Ferrosock.HTTP.Connection
  alias Ferrosock.Server.Drain

  # Messages of the last connections would otherwise stay in the heap of one that has nothing to do.
  @hibernate_after 1_000

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument),
    do: GenServer.start_link(__MODULE__, argument, hibernate_after: @hibernate_after)

  @doc "Those of a server, acceptors among them."
  @spec all(:ets.table()) :: [pid()]
  def all(table) do
    for [pid] <- :ets.match(table, {{:connections, :_, :_}, :"$1"}),
        Process.alive?(pid),
        do: pid
  end

  @doc "The one that has the same supervisor as the acceptor that calls, and was started before it."
  @spec heir(:ets.table()) :: pid()
  def heir(table), do: :ets.lookup_element(table, {:connections, supervisor(), :heir}, 2)

  @doc "The WebSockets that it has, for `close/2`. Those to come are closed at once, with the same code."
  @spec drain(pid(), code :: 1000..4999) :: [pid()]
  def drain(connections, code), do: GenServer.call(connections, {:drain, code}, :infinity)

  @doc "Has a WebSocket close with the code that `drain/2` was given."
  @spec close(pid(), websocket :: pid()) :: :ok
  def close(connections, websocket), do: GenServer.cast(connections, {:close, websocket})

  @doc "Sends an exit signal to all connections."
  @spec signal(pid(), reason :: :shutdown | :kill) :: :ok
  def signal(connections, reason), do: GenServer.cast(connections, {:signal, reason})

  @doc "How many there are."
  @spec count(pid()) :: non_neg_integer()
  def count(connections), do: GenServer.call(connections, :count_children, :infinity)[:active]

  @impl true
  def init(argument), do: {:ok, init_state(:heir, argument)}

  @doc "Makes the caller one of them."
  @spec init_state(:heir | :acceptor, {:ets.table(), Options.t()}) :: map()
  def init_state(role, {table, options}) do
    Process.flag(:trap_exit, true)
    :ets.insert(table, {{:connections, supervisor(), role}, self()})
    %{options: options, code: nil}
  end

  @impl true
  def handle_info({:upgraded, pid}, state) do
    if state.code, do: close_with(pid, state.code)
    {:noreply, state}
  end

  # Among these, that a connection has ended.
  def handle_info(_message, state), do: {:noreply, state}

  # What supervisors answer, so that tools which walk the supervision tree see connections.
  @impl true
  def handle_call(:which_children, _from, state) do
    children = for pid <- children(), do: {:undefined, pid, :worker, [Connection]}
    {:reply, children, state}
  end

  def handle_call(:count_children, _from, state) do
    count = length(children())
    {:reply, [specs: count, active: count, supervisors: 0, workers: count], state}
  end

  def handle_call({:drain, code}, _from, state) do
    Drain.begin(state.options)
    websockets = for pid <- children(), Connection.websocket?(pid), do: pid
    {:reply, websockets, %{state | code: code}}
  end

  @impl true
  def handle_cast({:close, pid}, state) do
    close_with(pid, state.code)
    {:noreply, state}
  end

  def handle_cast({:signal, reason}, state) do
    signal_all(children(), reason)
    {:noreply, state}
  end

  @impl true
  def terminate(_reason, state) do
    timer = Process.send_after(self(), :shutdown_timeout, state.options.shutdown_timeout)
    children = children()
    signal_all(children, :shutdown)
    left = await(MapSet.new(children))
    Process.cancel_timer(timer)
    signal_all(left, :kill)
  end

  defp close_with(pid, code), do: Process.exit(pid, {:shutdown, {:drain, code}})

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
