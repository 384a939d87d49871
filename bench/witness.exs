# What a load does to the rest of the VM. It watches while a connection to its port is open and the
# client has not closed its side of it, and then answers with a line of JSON:
#
#   * for how long schedulers were kept without a pause, where it was over a millisecond. That the
#     OS gave the core to somebody else meanwhile counts too;
#   * if the client's first line is "ticker" or "attack", how late a process was that wanted to run every
#     millisecond. Not always, because such a process keeps schedulers from sleeping;
#   * if it is "attack", what the server's own watch tells.

defmodule Bench.Witness do
  @tick_ms 1
  @long_schedule_ms 1

  # `watch` begins to watch, and gives a function that ends it and tells the figures.
  def start(port, watch \\ fn -> fn -> %{} end end) do
    options = [
      :binary,
      ip: {127, 0, 0, 1},
      packet: :line,
      active: false,
      reuseaddr: true,
      # Or the answer could not be sent once the client has closed its side.
      exit_on_close: false
    ]

    spawn(fn ->
      {:ok, listener} = :gen_tcp.listen(port, options)
      serve(listener, watch)
    end)
  end

  defp serve(listener, watch) do
    {:ok, socket} = :gen_tcp.accept(listener)
    {:ok, what} = :gen_tcp.recv(socket, 0)
    ticker = if what in ["ticker\n", "attack\n"], do: spawn_link(&tick/0)
    watched = if what == "attack\n", do: watch.(), else: fn -> %{} end
    :erlang.system_monitor(self(), long_schedule: @long_schedule_ms)
    {:error, :closed} = :gen_tcp.recv(socket, 0)
    :erlang.system_monitor(:undefined)
    figures = long_schedules([]) |> Map.merge(lateness(ticker)) |> Map.merge(watched.())
    :gen_tcp.send(socket, [:json.encode(figures), ?\n])
    :gen_tcp.close(socket)
    serve(listener, watch)
  end

  defp long_schedules(long) do
    receive do
      {:monitor, _process_or_port, :long_schedule, info} ->
        long_schedules([{Keyword.fetch!(info, :timeout), inspect(info)} | long])
    after
      0 ->
        {ms, worst} = Enum.max(long, fn -> {0, :null} end)
        %{long_schedules: length(long), long_max_ms: ms, long_worst: worst}
    end
  end

  defp tick(late \\ []) do
    start = System.monotonic_time(:microsecond)

    receive do
      {:stop, from} -> send(from, {self(), late})
    after
      @tick_ms -> tick([System.monotonic_time(:microsecond) - start - @tick_ms * 1_000 | late])
    end
  end

  defp lateness(nil), do: %{}

  defp lateness(ticker) do
    send(ticker, {:stop, self()})
    sorted = receive do: ({^ticker, late} -> Enum.sort(late))
    p99 = Enum.at(sorted, div((length(sorted) - 1) * 99, 100))
    %{late_p99_us: p99, late_max_us: List.last(sorted)}
  end
end
