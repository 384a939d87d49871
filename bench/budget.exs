# Counts what an echo and a GET take of the server, of which nothing depends on time. In examples/chat, by
# bench/budget, which preloads budget.c: `mix run --no-start ../../bench/budget.exs`
#
# Everything is in lock step, on one scheduler. A round: the client, which is this process, sends on all
# connections; when the kernel has it all, this process turns the reactor in the place of its own one, until
# nothing is left; then lets the connections' processes run until each waits; and so on until neither has
# anything to do. Meanwhile the engine's clock stands.
#
# It prints lines with tabs: `count`, a case, what is counted, and how much of it a message takes.

Code.require_file("app.exs", __DIR__)

# Those of the engine's calls of the C library: see budget.c.
defmodule Bench.Calls do
  defstruct [:file, :stops]

  def open do
    {:ok, file} = :file.open(System.fetch_env!("BUDGET_COUNTS"), [:read, :write, :raw, :binary])
    %__MODULE__{file: file, stops: :counters.new(1, [])}
  end

  def stop_clock(calls) do
    :counters.add(calls.stops, 1, 1)
    write(calls, :counters.get(calls.stops, 1))
  end

  def start_clock(calls), do: write(calls, 0)

  def read(calls) do
    {:ok, <<_stopped::64, rows::binary>>} = :file.pread(calls.file, 0, 1_000_000)

    for <<name::binary-24, _own::64, others::little-64 <- rows>>, reduce: %{} do
      counts -> Map.update(counts, count(hd(:binary.split(name, <<0>>))), others, &(&1 + others))
    end
  end

  defp count(name) when name in ~w(malloc calloc realloc posix_memalign), do: "allocations"
  defp count("clock_gettime"), do: "clock reads"
  defp count(name), do: "syscall #{name}"

  defp write(calls, number), do: :ok = :file.pwrite(calls.file, 0, <<number::little-64>>)
end

# Counts the calls of the NIF library by the server's processes, and the messages that these get.
defmodule Bench.Trace do
  def start(pids) do
    tracer = spawn_link(fn -> collect(%{}) end)
    :erlang.trace_pattern({Ferrosock.Native, :_, :_}, true, [:local])
    for pid <- pids, do: :erlang.trace(pid, true, [:call, :receive, {:tracer, tracer}])
    tracer
  end

  def stop(tracer, pids) do
    for pid <- pids, do: :erlang.trace(pid, false, [:all])

    for pid <- pids do
      ref = :erlang.trace_delivered(pid)
      receive do: ({:trace_delivered, ^pid, ^ref} -> :ok)
    end

    send(tracer, {:tell, self()})
    receive do: ({^tracer, counts} -> counts)
  end

  defp collect(counts) do
    receive do
      {:tell, from} ->
        send(from, {self(), counts})

      # No message: one that was awaited for a time has not come.
      {:trace, _pid, :receive, :timeout} ->
        collect(counts)

      {:trace, _pid, kind, what} ->
        counts |> Map.update(name(kind, what), 1, &(&1 + 1)) |> collect()
    end
  end

  defp name(:call, {_module, function, _arguments}), do: "NIF call #{function}"
  defp name(:receive, message), do: "message #{kind(message)}"

  defp kind({ref, events}) when is_reference(ref) and is_list(events), do: "events"
  defp kind({ref, event}) when is_reference(ref) and is_atom(event), do: "#{event}"
  defp kind({ref, event}) when is_reference(ref) and is_tuple(event), do: "#{elem(event, 0)}"

  defp kind(message) when is_tuple(message) and is_atom(elem(message, 0)),
    do: "#{elem(message, 0)}"

  defp kind(_message), do: "other"
end

# The app of the benchmarks; but a connection's first request has its process tell of itself, and make its
# heap so large that nothing is collected afterwards.
defmodule Bench.Prepared do
  @behaviour Plug
  # Words.
  @heap 200_000

  @impl true
  def init(options), do: {Bench.Router.init(options[:router]), options[:counter]}

  @impl true
  def call(%{path_info: ["prepare"]} = conn, {_router, counter}) do
    Process.flag(:min_heap_size, @heap)
    :erlang.garbage_collect()
    send(counter, {:prepared, self()})
    Plug.Conn.send_resp(conn, 200, "")
  end

  def call(conn, {router, _counter}), do: Bench.Router.call(conn, router)
end

defmodule Bench.Budget do
  alias Bench.{Calls, Trace}
  alias Ferrosock.{Native, Reactors}

  @warm 10
  # Messages, at least, of which each kind of count is the mean.
  @messages 100
  @least_rounds 20
  # ms that anything is awaited.
  @patience 20_000

  @prepare "GET /prepare HTTP/1.1\r\nhost: localhost\r\n\r\n"
  @get "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
  @upgrade "GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n" <>
             "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

  def run do
    calls = Calls.open()
    router = [router: [upgrade: &WebSock.upgrade/4], counter: self()]
    options = [plug: {Bench.Prepared, router}, ip: {127, 0, 0, 1}, port: 0, reactors: 1]
    {:ok, server} = Ferrosock.start_link(options)
    %{address: {_ip, port}} = Ferrosock.info(server)

    [{_index, reactor, :worker, _modules}] = Supervisor.which_children(Reactors)
    :ok = :sys.suspend(reactor)
    bench = %{calls: calls, server: server, port: port, reactor: Native.reactor_get(0)}

    versions()
    for {conns, depth} <- [{64, 1}, {64, 16}, {1, 1}], do: echo(bench, conns, depth, 64)
    for {name, conns} <- [{"get", 64}, {"get-1", 1}], do: get(bench, name, conns)
  end

  defp versions do
    for {name, version} <- [
          otp: System.otp_release(),
          elixir: System.version(),
          plug: Application.spec(:plug, :vsn)
        ],
        do: IO.puts("version\t#{name}\t#{version}")
  end

  defp echo(bench, conns, depth, size) do
    payload = :binary.copy("a", size)
    # Masked with zeros, which is as much work.
    request = :binary.copy(<<0x82, 0x80 + size, 0::32>> <> payload, depth)
    answer = :binary.copy(<<0x82, size>> <> payload, depth)
    bench = Map.merge(bench, %{request: request, whole?: &whole?(&1, answer)})
    count(bench, "#{conns}x#{depth}x#{size}", connect(bench, conns, @upgrade), depth)
  end

  defp whole?(answer, answer), do: true
  defp whole?(bytes, answer) when byte_size(bytes) < byte_size(answer), do: false

  defp get(bench, name, conns) do
    bench = Map.merge(bench, %{request: @get, whole?: &page?/1})
    count(bench, name, connect(bench, conns, nil), 1)
  end

  defp page?(""), do: false
  defp page?("HTTP/1.1 200 OK\r\n" <> _ = bytes), do: String.ends_with?(bytes, "\r\n\r\nok")

  defp count(bench, name, connections, depth) do
    {sockets, pids} = Enum.unzip(connections)
    bench = Map.put(bench, :sockets, sockets)
    for _round <- 1..@warm, do: play(bench)

    rounds = max(@least_rounds, div(@messages, length(sockets)))

    before = processes(pids)
    played = for _round <- 1..rounds, do: play(bench)
    spent = spent(pids, before)

    traced = for pid <- Process.list(), server?(pid, bench.server), do: pid
    tracer = Trace.start(traced)
    for _round <- 1..rounds, do: play(bench)
    traced = Trace.stop(tracer, traced)

    messages = length(sockets) * depth
    tell(name, of_round(played), messages)
    tell(name, Map.merge(spent, traced), messages * rounds)
    Enum.each(sockets, &:gen_tcp.close/1)
    settle(bench.reactor)
  end

  defp tell(name, counts, messages) do
    for {count, number} <- counts, number > 0 do
      IO.puts("count\t#{name}\t#{count}\t#{number / messages}")
    end
  end

  # Syscalls as they are in most of the rounds: in one of them the kernel may have been late. Of what comes
  # once in so many messages, the mean.
  defp of_round(rounds) do
    for count <- rounds |> hd() |> Map.keys(), into: %{} do
      numbers = Enum.map(rounds, & &1[count])

      if String.starts_with?(count, "syscall "),
        do: {count, numbers |> Enum.frequencies() |> Enum.max_by(&elem(&1, 1)) |> elem(0)},
        else: {count, Enum.sum(numbers) / length(rounds)}
    end
  end

  # Of the connections' processes. Where one has collected garbage, its words tell nothing.
  defp spent(pids, before) do
    case difference(processes(pids), before) do
      %{collections: 0} = spent -> Map.delete(spent, :collections)
      _spent -> raise "the heap of a connection's process was too small"
    end
  end

  defp processes(pids) do
    for pid <- pids, reduce: %{"reductions" => 0, "words" => 0, collections: 0} do
      sums ->
        info = Process.info(pid, [:reductions, :garbage_collection_info, :garbage_collection])
        heap = info[:garbage_collection_info]
        words = heap[:heap_size] + heap[:old_heap_size] + heap[:mbuf_size]
        collections = info[:garbage_collection][:minor_gcs]
        found = %{"reductions" => info[:reductions], "words" => words, collections: collections}
        Map.merge(sums, found, fn _key, sum, number -> sum + number end)
    end
  end

  defp difference(after_it, before),
    do: Map.new(after_it, fn {key, n} -> {key, n - before[key]} end)

  defp server?(pid, server) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary) do
      ancestors = Keyword.get(dictionary, :"$ancestors", [])
      pid == server or server in ancestors or Reactors in ancestors
    end
  end

  # The sockets, each with its connection's process.
  defp connect(bench, conns, upgrade) do
    for _conn <- 1..conns do
      options = [:binary, active: false, nodelay: true]
      {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, bench.port, options)
      "HTTP/1.1 200 OK" <> _head = ask(bench, socket, @prepare)
      pid = receive do: ({:prepared, pid} -> pid)
      if upgrade, do: "HTTP/1.1 101 " <> _head = ask(bench, socket, upgrade)
      {socket, pid}
    end
  end

  defp ask(bench, socket, request) do
    :ok = :gen_tcp.send(socket, request)
    receive_until(bench, socket, &String.ends_with?(&1, "\r\n\r\n"))
  end

  # One round. Gives what was counted in it.
  defp play(bench) do
    for socket <- bench.sockets, do: :ok = :gen_tcp.send(socket, bench.request)
    await_queued(bench.port, byte_size(bench.request) * length(bench.sockets))
    # Longer than what makes the engine look for news instead of waiting for them.
    Process.sleep(1)
    Calls.stop_clock(bench.calls)
    before = Calls.read(bench.calls)
    settle(bench.reactor)
    spent = difference(Calls.read(bench.calls), before)
    Calls.start_clock(bench.calls)
    for socket <- bench.sockets, do: receive_until(bench, socket, bench.whole?)
    spent
  end

  # Until neither the engine nor a process has anything to do.
  defp settle(reactor) do
    cond do
      Native.reactor_turn(reactor) != :idle -> settle(reactor)
      :erlang.statistics(:run_queue) == 0 -> :ok
      true -> run_others() && settle(reactor)
    end
  end

  defp run_others do
    :erlang.yield()
    :erlang.statistics(:run_queue) == 0 or run_others()
  end

  # Until that much waits in the kernel for the sockets of the server.
  defp await_queued(port, bytes, tries \\ @patience) do
    if queued(port) != bytes do
      if tries == 0, do: raise("the kernel has not delivered what was sent")
      Process.sleep(1)
      await_queued(port, bytes, tries - 1)
    end
  end

  # proc_net_tcp(5): local address, remote address, state, tx_queue:rx_queue.
  defp queued(port) do
    local = ":" <> String.pad_leading(Integer.to_string(port, 16), 4, "0")

    for line <- "/proc/net/tcp" |> File.read!() |> String.split("\n"),
        [_nth, address, _remote, "01", queues | _rest] <- [String.split(line)],
        String.ends_with?(address, local),
        reduce: 0 do
      sum -> sum + (queues |> String.split(":") |> List.last() |> String.to_integer(16))
    end
  end

  # Where the answer is not there, the server is given more time.
  defp receive_until(bench, socket, whole?, bytes \\ "", tries \\ @patience) do
    if whole?.(bytes) do
      bytes
    else
      if tries == 0, do: raise("only #{inspect(bytes)} was answered")

      case :gen_tcp.recv(socket, 0, 1) do
        {:ok, more} ->
          receive_until(bench, socket, whole?, bytes <> more, tries)

        {:error, :timeout} ->
          settle(bench.reactor)
          receive_until(bench, socket, whole?, bytes, tries - 1)
      end
    end
  end
end

{:ok, _started} = Application.ensure_all_started(:ferrosock)
Bench.Budget.run()
