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
    flags = [:call, :receive, :set_on_spawn, {:tracer, tracer}]
    for pid <- pids, do: :erlang.trace(pid, true, flags)
    tracer
  end

  def stop(tracer, pids) do
    for pid <- pids, do: :erlang.trace(pid, false, [:all])
    take(tracer)
  end

  @doc "What was counted since the last time."
  def take(tracer) do
    ref = :erlang.trace_delivered(:all)
    receive do: ({:trace_delivered, :all, ^ref} -> :ok)
    send(tracer, {:take, self()})
    receive do: ({^tracer, counts} -> counts)
  end

  defp collect(counts) do
    receive do
      {:take, from} ->
        send(from, {self(), counts})
        collect(%{})

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
  alias Ferrosock.Native
  alias Ferrosock.Server.Reactors

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
    handshake(bench, 64)
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

    answer(
      bench,
      "#{conns}x#{depth}x#{size}",
      connect(bench, conns, @upgrade),
      {request, depth, &whole?(&1, answer)}
    )
  end

  defp whole?(answer, answer), do: true
  defp whole?(bytes, answer) when byte_size(bytes) < byte_size(answer), do: false

  defp get(bench, name, conns),
    do: answer(bench, name, connect(bench, conns, nil), {@get, 1, &page?/1})

  defp page?(""), do: false
  defp page?("HTTP/1.1 200 OK\r\n" <> _ = bytes), do: String.ends_with?(bytes, "\r\n\r\nok")

  # On connections that stay open.
  defp answer(bench, name, connections, {request, depth, whole?}) do
    {sockets, pids} = Enum.unzip(connections)

    count(bench, name, pids, length(sockets) * depth, fn ->
      spent = serve(bench, sockets, request)
      for socket <- sockets, do: receive_until(bench, socket, whole?)
      spent
    end)

    close(bench, sockets)
  end

  # A connection, its upgrade and its end.
  defp handshake(bench, conns) do
    count(bench, "handshake", [], conns, fn ->
      sockets = for _conn <- 1..conns, do: connect(bench)
      opened = serve(bench, sockets, @upgrade)
      for socket <- sockets, do: "HTTP/1.1 101 " <> _head = receive_until(bench, socket, &head?/1)
      Map.merge(opened, close(bench, sockets), fn _count, some, more -> some + more end)
    end)
  end

  # By the client: gives what that takes of the server.
  defp close(bench, sockets) do
    Enum.each(sockets, &:gen_tcp.close/1)
    await(fn -> length(connected(bench.port, "08")) == length(sockets) end)
    spent = settled(bench)
    await(fn -> settle(bench.reactor) && connected(bench.port, "08") == [] end)
    spent
  end

  # `play` plays a round of so many messages, and gives what was counted in it.
  defp count(bench, name, pids, messages, play) do
    rounds = max(@least_rounds, div(@messages, messages))
    for _round <- 1..@warm, do: play.()

    before = processes(pids)
    played = for _round <- 1..rounds, do: play.()
    spent = spent(pids, before)

    server = for pid <- Process.list(), server?(pid, bench.server), do: pid
    tracer = Trace.start(server)
    traced = for _round <- 1..rounds, do: play.() && Trace.take(tracer)
    Trace.stop(tracer, server)

    tell(name, Map.merge(of_round(played), of_round(traced)), messages)
    tell(name, spent, messages * rounds)
  end

  defp tell(name, counts, messages) do
    for {count, number} <- counts, number > 0 do
      IO.puts("count\t#{name}\t#{count}\t#{number / messages}")
    end
  end

  # As it is in most of the rounds: in one of them the kernel may have been late, or a timer due. Of what
  # comes once in so many messages, the mean.
  defp of_round(rounds) do
    for count <- rounds |> Enum.flat_map(&Map.keys/1) |> Enum.uniq(), into: %{} do
      numbers = Enum.map(rounds, &Map.get(&1, count, 0))

      if count in ["allocations", "clock reads"],
        do: {count, Enum.sum(numbers) / length(rounds)},
        else: {count, numbers |> Enum.frequencies() |> Enum.max_by(&elem(&1, 1)) |> elem(0)}
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
      socket = connect(bench)
      "HTTP/1.1 200 OK" <> _head = ask(bench, socket, @prepare)
      pid = receive do: ({:prepared, pid} -> pid)
      if upgrade, do: "HTTP/1.1 101 " <> _head = ask(bench, socket, upgrade)
      {socket, pid}
    end
  end

  defp connect(bench) do
    options = [:binary, active: false, nodelay: true]
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, bench.port, options)
    socket
  end

  defp ask(bench, socket, request) do
    :ok = :gen_tcp.send(socket, request)
    receive_until(bench, socket, &head?/1)
  end

  defp head?(bytes), do: String.ends_with?(bytes, "\r\n\r\n")

  # Has the server get a request of each socket, and serve all of them. Gives what that took.
  defp serve(bench, sockets, request) do
    for socket <- sockets, do: :ok = :gen_tcp.send(socket, request)
    bytes = byte_size(request) * length(sockets)
    await(fn -> Enum.sum(connected(bench.port, "01")) == bytes end)
    settled(bench)
  end

  defp settled(bench) do
    # Longer than what makes the engine look for news instead of waiting for them.
    Process.sleep(1)
    Calls.stop_clock(bench.calls)
    before = Calls.read(bench.calls)
    settle(bench.reactor)
    spent = difference(Calls.read(bench.calls), before)
    Calls.start_clock(bench.calls)
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

  defp await(done?, tries \\ @patience) do
    if not done?.() do
      if tries == 0, do: raise("the kernel or the server has not done what is awaited")
      Process.sleep(1)
      await(done?, tries - 1)
    end
  end

  # Of the server's sockets in that state: how much waits in the kernel for them. proc_net_tcp(5): local
  # address, remote address, state, tx_queue:rx_queue.
  defp connected(port, state) do
    local = "[0-9A-F]{8}:" <> String.pad_leading(Integer.to_string(port, 16), 4, "0")
    line = Regex.compile!("#{local} [0-9A-F:]{13} #{state} [0-9A-F]{8}:([0-9A-F]{8})")
    sockets = Regex.scan(line, File.read!("/proc/net/tcp"), capture: :all_but_first)
    for [received] <- sockets, do: String.to_integer(received, 16)
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
