defmodule Ferrosock.Drain do
  @moduledoc false
  # Ends all that a server serves, in an order in which nothing is lost. It blocks its caller. Who
  # asks for it, and that there is one at a time, is the drainer's concern.
  #
  # A connection has ended when its process has, and when all is sent that there was to send. For the
  # client's part of a closing handshake the engine waits by itself.

  alias Ferrosock.{Acceptor, Acceptors, Native, Options}

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

  @doc "Drains a server, whose acceptors `acceptors` supervises. See `Ferrosock.drain/2`."
  @spec run(Native.listener(), acceptors :: pid(), settings()) :: result()
  def run(listener, acceptors, settings) do
    drain = %{listener: listener, acceptors: acceptors, ends: now() + settings.deadline}

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
      max(drain.ends - now(), 0) -> :timeout
    end
  end

  defp close_websockets(drain, %{rate: rate, code: code, deadline: deadline}) do
    websockets =
      for acceptor <- Acceptors.list(drain.acceptors),
          pid <- Acceptor.drain(acceptor, code),
          do: {acceptor, pid}

    # By half of the deadline all have been told, so that they have the other half to end.
    rate = max(rate, length(websockets) * 2_000 / deadline)
    batch = max(trunc(rate * @gap / 1_000), 1)
    close_in_batches(websockets, batch, batch * 1_000 / rate, now())
  end

  defp close_in_batches(websockets, batch, gap, at) do
    {due, later} = Enum.split(websockets, batch)
    Enum.each(due, fn {acceptor, pid} -> Acceptor.close(acceptor, pid) end)

    if later == [] do
      :ok
    else
      # Counted from the start, so that batches which are late do not put off the others.
      at = at + gap
      Process.sleep(max(ceil(at - now()), 0))
      close_in_batches(later, batch, gap, at)
    end
  end

  # An HTTP connection's process may have to be told: the engine tells it of an end only when the
  # client has closed, too. Before, it might have found a request in its mailbox.
  defp end_processes(drain) do
    for acceptor <- Acceptors.list(drain.acceptors), do: Acceptor.signal(acceptor, :shutdown)
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
    for acceptor <- Acceptors.list(drain.acceptors), do: Acceptor.signal(acceptor, :kill)
    # Ends those that have no process yet.
    Native.listener_close(drain.listener)
    if left == 0, do: :ok, else: {:timeout, left}
  end

  defp connections(drain), do: Native.listener_info(drain.listener).connections

  defp processes(drain) do
    drain.acceptors |> Acceptors.list() |> Enum.map(&Acceptor.count/1) |> Enum.sum()
  end

  defp now, do: System.monotonic_time(:millisecond)
end
