defmodule Ferrosock.Server.Drainer do
  @moduledoc false
  # The last child of a server, so the first to stop: it drains the server before the others end.
  # Takes the calls for a drain, too, and sees to it that there is one at a time. What happens in one
  # is not its concern.

  # A drain has a deadline of its own.
  use GenServer, shutdown: :infinity

  alias Ferrosock.{Native, Options}
  alias Ferrosock.Server.{Acceptors, Drain, Listener}

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument), do: GenServer.start_link(__MODULE__, argument)

  @doc "See `Ferrosock.drain/2`."
  @spec drain(pid(), Options.drain()) :: Drain.result()
  def drain(drainer, settings), do: GenServer.call(drainer, {:drain, settings}, :infinity)

  @impl true
  def init({table, options}) do
    Process.flag(:trap_exit, true)
    {listener, _tag} = Listener.handle(table)

    {:ok,
     %{
       table: table,
       listener: listener,
       acceptors: Acceptors.supervisor(table),
       shutdown: Map.put(Options.drain!([]), :deadline, options.shutdown_timeout),
       task: nil,
       callers: [],
       drained?: false
     }}
  end

  @impl true
  def handle_call({:drain, _settings}, _from, %{drained?: true} = state),
    do: {:reply, :ok, state}

  def handle_call({:drain, settings}, from, %{task: nil} = state) do
    %{listener: listener, table: table} = state
    # Before it begins: what fails in the midst of it ends in a restart, too.
    Listener.stay_closed(table)
    settings = Map.merge(state.shutdown, settings)
    task = Task.async(fn -> Drain.run(listener, table, settings) end)
    # A stop in the midst of it goes on with its code.
    shutdown = %{state.shutdown | code: settings.code}
    {:noreply, %{state | task: task, callers: [from], shutdown: shutdown}}
  end

  def handle_call({:drain, _settings}, from, state),
    do: {:noreply, %{state | callers: [from | state.callers]}}

  @impl true
  def handle_info({ref, result}, %{task: %Task{ref: ref}} = state) do
    Process.demonitor(ref, [:flush])
    reply(state.callers, result)
    {:noreply, %{state | task: nil, callers: [], drained?: true}}
  end

  def handle_info({:DOWN, ref, :process, _pid, reason}, %{task: %Task{ref: ref}} = state),
    do: {:stop, reason, state}

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(:shutdown, %{drained?: false} = state) do
    # It may have had more time than there is now.
    if state.task, do: Task.shutdown(state.task, :brutal_kill)

    # Without their supervisors the connections end by themselves.
    if Process.alive?(state.acceptors) do
      reply(state.callers, Drain.run(state.listener, state.table, state.shutdown))
    else
      Native.listener_close(state.listener)
    end
  end

  def terminate(_reason, state), do: Native.listener_close(state.listener)

  defp reply(callers, result), do: Enum.each(callers, &GenServer.reply(&1, result))
end
