defmodule Ferrosock.Server.Drain do
  @moduledoc false
  # Ends all that a server serves, in an order in which nothing is lost. It blocks its caller. Who
  # asks for it, and that there is one at a time, is the drainer's concern.
  #
  # A connection has ended when its process has, when all is sent that there was to send, and when the
  # closing handshake of a WebSocket is over, for which the engine waits no longer than `close_timeout`.

  alias Ferrosock.{Native, Options}
  alias Ferrosock.Server.Connections

  # ms from one batch of WebSockets to the next, unless a batch would be less than one of them.
  @gap 50

  # ms from one look at what is left to the next.
  @look 5

  @type settings :: %{rate: pos_integer(), code: 1000..4999, deadline: pos_integer()}
  @type result :: :ok | {:timeout, pos_integer()}

  @doc "Has the connections that become WebSockets from now on tell their acceptors."
  @spec begin(Options.t()) :: :ok
  def begin(options), do: :atomics.put(options.draining, 1, 1)

  @doc "Whether they must."
  @spec begun?(Options.t()) :: boolean()
  def begun?(options), do: :atomics.get(options.draining, 1) == 1

  @doc "Drains a server, whose processes know each other by `table`. See `Ferrosock.drain/2`."
  @spec run(Native.listener(), :ets.table(), settings()) :: result()
  def run(listener, table, settings) do
    drain = %{listener: listener, table: table, ends: now() + settings.deadline * 1_000}

    with :ok <- stop_accepting(drain),
         :ok <- close_websockets(drain, settings),
         :ok <- await(drain, &connections/1),
         :ok <- end_processes(drain) do
      :ok
    else
      :timeout -> give_up(drain)
    end
  end

  defp stop_accepting(drain) do
    ref = make_ref()
    Native.listener_drain(drain.listener, ref)

    receive do
      {^ref, :closed} -> :ok
    after
      drain.ends |> left() |> ceil() -> :timeout
    end
  end

  defp close_websockets(drain, %{rate: rate, code: code, deadline: deadline}) do
    websockets =
      for connections <- Connections.all(drain.table),
          pid <- Connections.drain(connections, code),
          do: {connections, pid}

    # By half of the deadline all have been told, so that they have the other half to end.
    rate = max(rate, length(websockets) * 2_000 / deadline)
    batch = max(trunc(rate * @gap / 1_000), 1)
    close_in_batches(websockets, batch, batch * 1_000 / rate, now())
  end

  defp close_in_batches(websockets, batch, gap, at) do
    {due, later} = Enum.split(websockets, batch)
    Enum.each(due, fn {connections, pid} -> Connections.close(connections, pid) end)

    if later == [] do
      :ok
    else
      # Counted from the start, so that batches which are late do not put off the others.
      at = at + gap * 1_000
      at |> left() |> ceil() |> Process.sleep()
      close_in_batches(later, batch, gap, at)
    end
  end

  # An HTTP connection's process may have to be told: the engine tells it of an end only when the
  # client has closed, too. Before, it might have found a request in its mailbox.
  defp end_processes(drain) do
    signal_all(drain, :shutdown)
    await(drain, &processes/1)
  end

  defp await(drain, left) do
    cond do
      left.(drain) == 0 ->
        :ok

      now() >= drain.ends ->
        :timeout

      true ->
        Process.sleep(@look)
        await(drain, left)
    end
  end

  defp give_up(drain) do
    left = max(connections(drain), processes(drain))
    signal_all(drain, :kill)
    # Ends those that have no process yet.
    Native.listener_close(drain.listener)
    if left == 0, do: :ok, else: {:timeout, left}
  end

  defp connections(drain), do: Native.listener_info(drain.listener).connections

  defp processes(drain) do
    drain.table |> Connections.all() |> Enum.map(&Connections.count/1) |> Enum.sum()
  end

  defp signal_all(drain, reason) do
    for connections <- Connections.all(drain.table), do: Connections.signal(connections, reason)
  end

  # In µs, because a deadline in ms that have begun would end too early.
  defp now, do: System.monotonic_time(:microsecond)

  # In ms.
  defp left(at), do: max(at - now(), 0) / 1_000
end
