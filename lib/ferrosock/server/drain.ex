defmodule Ferrosock.Server.Drain do
  @moduledoc false
  # Ends all that a server serves, in an order in which nothing is lost. It is the last child of its server, so the
  # first to stop, and drains the server before the others end. It also takes the calls for a drain, and runs
  # one at a time, in a task. What other processes must know of a drain is in `Ferrosock.Draining`.
  #
  # A connection has ended when its process has, when all is sent that there was to send, and when the closing
  # handshake of a WebSocket is over. For that the engine waits no longer than `close_timeout`.

  # No limit, because a drain has its own deadline.
  use GenServer, shutdown: :infinity

  alias Ferrosock.{Draining, Native, Options}
  alias Ferrosock.Server.{Acceptors, Connections, Listener}

  # Milliseconds from one batch of WebSockets to the next, unless a batch would be less than one of them.
  @gap 50

  # Milliseconds from one look at what is left to the next.
  @look 5

  @type result :: :ok | {:timeout, pos_integer()}

  @typep state :: %{
           table: :ets.table(),
           listener: Native.listener(),
           # The supervisor of the acceptors.
           acceptors: pid(),
           draining: Draining.t(),
           # How a stop drains, and what a call leaves out.
           settings: settings(),
           # The drain of a call, while it runs, and who waits for its result.
           task: Task.t() | nil,
           callers: [GenServer.from()]
         }

  @typep settings :: %{rate: pos_integer(), code: 1000..4999, deadline: pos_integer()}

  # One run: what is drained, how, and until when.
  @typep run :: %{
           table: :ets.table(),
           listener: Native.listener(),
           draining: Draining.t(),
           settings: settings(),
           ends: integer()
         }

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument), do: GenServer.start_link(__MODULE__, argument)

  @doc "See `Ferrosock.drain/2`."
  @spec drain(pid(), Options.drain()) :: result()
  def drain(pid, settings), do: GenServer.call(pid, {:drain, settings}, :infinity)

  @impl true
  def init({table, options}) do
    # Without this, `terminate/2` would not run when the supervisor stops us.
    Process.flag(:trap_exit, true)
    {listener, _tag} = Listener.handle(table)

    {:ok,
     %{
       table: table,
       listener: listener,
       acceptors: Acceptors.supervisor(table),
       draining: options.draining,
       settings:
         Map.merge(Options.drain!([]), %{
           code: options.shutdown_code,
           deadline: options.shutdown_timeout
         }),
       task: nil,
       callers: []
     }}
  end

  @impl true
  def handle_call({:drain, settings}, from, %{task: nil} = state) do
    if Draining.drained?(state.draining),
      do: {:reply, :ok, state},
      else: {:noreply, begin(state, Map.merge(state.settings, settings), from)}
  end

  def handle_call({:drain, _settings}, from, state),
    do: {:noreply, %{state | callers: [from | state.callers]}}

  @impl true
  def handle_info({ref, result}, %{task: %Task{ref: ref}} = state) do
    Process.demonitor(ref, [:flush])
    Draining.drained(state.draining)
    reply(state.callers, result)
    {:noreply, %{state | task: nil, callers: []}}
  end

  def handle_info({:DOWN, ref, :process, _pid, reason}, %{task: %Task{ref: ref}} = state),
    do: {:stop, reason, state}

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(:shutdown, state) do
    # The call may have given the drain more time than the stop has.
    if state.task, do: Task.shutdown(state.task, :brutal_kill)

    cond do
      Draining.drained?(state.draining) -> Native.listener_close(state.listener)
      # Connections whose supervisors have failed end by themselves.
      not Process.alive?(state.acceptors) -> Native.listener_close(state.listener)
      true -> reply(state.callers, state |> new_run(state.settings) |> run())
    end
  end

  def terminate(_reason, state), do: Native.listener_close(state.listener)

  @spec begin(state(), settings(), GenServer.from()) :: state()
  defp begin(state, settings, from) do
    # This comes first, because a failure in the middle of the drain restarts the server's processes, too.
    Draining.stay_closed(state.draining)
    run = new_run(state, settings)
    task = Task.async(fn -> run(run) end)
    # A stop in the middle of the drain goes on with its code.
    %{state | task: task, callers: [from], settings: %{state.settings | code: settings.code}}
  end

  defp reply(callers, result), do: Enum.each(callers, &GenServer.reply(&1, result))

  @spec new_run(state(), settings()) :: run()
  defp new_run(state, settings) do
    state
    |> Map.take([:table, :listener, :draining])
    |> Map.merge(%{settings: settings, ends: now() + settings.deadline * 1_000})
  end

  @spec run(run()) :: result()
  defp run(run) do
    with :ok <- stop_accepting(run),
         :ok <- close_websockets(run),
         :ok <- await(run, &connections/1),
         :ok <- end_processes(run) do
      :ok
    else
      :timeout -> give_up(run)
    end
  end

  defp stop_accepting(run) do
    ref = make_ref()
    Native.listener_drain(run.listener, ref)

    receive do
      {^ref, :closed} -> :ok
    after
      run.ends |> left() |> ceil() -> :timeout
    end
  end

  defp close_websockets(%{settings: %{rate: rate, code: code, deadline: deadline}} = run) do
    # The order matters: either the drain finds a WebSocket, or the WebSocket finds the drain.
    Draining.close_with(run.draining, code)

    websockets =
      for connections <- Connections.all(run.table),
          pid <- Connections.websockets(connections),
          do: {connections, pid}

    # All are told by half of the deadline, so that they have the other half to end.
    rate = max(rate, length(websockets) * 2_000 / deadline)
    batch = max(trunc(rate * @gap / 1_000), 1)
    close_in_batches(websockets, code, batch, batch * 1_000 / rate, now())
  end

  defp close_in_batches(websockets, code, batch, gap, at) do
    {due, later} = Enum.split(websockets, batch)
    Enum.each(due, fn {connections, pid} -> Connections.close(connections, pid, code) end)

    if later == [] do
      :ok
    else
      # Counted from the start, so that a late batch does not delay the next ones.
      at = at + gap * 1_000
      at |> left() |> ceil() |> Process.sleep()
      close_in_batches(later, code, batch, gap, at)
    end
  end

  # The process of an HTTP connection may have to be told: the engine tells it of the end only when the client
  # has closed, too. Telling it earlier could cut off a request that is already in its mailbox.
  defp end_processes(run) do
    signal_all(run, :shutdown)
    await(run, &processes/1)
  end

  defp await(run, left) do
    cond do
      left.(run) == 0 ->
        :ok

      now() >= run.ends ->
        :timeout

      true ->
        Process.sleep(@look)
        await(run, left)
    end
  end

  defp give_up(run) do
    left = max(connections(run), processes(run))
    signal_all(run, :kill)
    # Connections that have no process yet end by this.
    Native.listener_close(run.listener)
    if left == 0, do: :ok, else: {:timeout, left}
  end

  defp connections(run), do: Native.listener_info(run.listener).connections

  defp processes(run) do
    run.table |> Connections.all() |> Enum.map(&Connections.count/1) |> Enum.sum()
  end

  defp signal_all(run, reason) do
    for connections <- Connections.all(run.table), do: Connections.signal(connections, reason)
  end

  # In microseconds, because a clock of milliseconds would let the deadline end up to one of them too early.
  defp now, do: System.monotonic_time(:microsecond)

  # In milliseconds.
  defp left(at), do: max(at - now(), 0) / 1_000
end
