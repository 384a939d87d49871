defmodule Ferrosock.ReactorTest do
  # Not async: these tests kill and suspend what all servers of the VM share.
  use ExUnit.Case

  import Ferrosock.Test.Raw

  alias Ferrosock.{Native, Reactors}

  defmodule Echo do
    @behaviour WebSock

    @impl true
    def init(state), do: {:ok, state}
    @impl true
    def handle_in({"pid", _}, state), do: {:push, {:text, :erlang.pid_to_list(self())}, state}
    def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}
    @impl true
    def handle_info(:stop, state), do: {:stop, :normal, state}
  end

  defmodule Sink do
    @behaviour WebSock

    @impl true
    def init(state), do: {:ok, state}
    @impl true
    def handle_in(_message, state), do: {:ok, state}
    @impl true
    def handle_info(_message, state), do: {:ok, state}
  end

  setup do
    server = serve(fn conn -> Plug.Conn.send_resp(conn, 200, "ok") end)
    %{server: server, reactor: reactor()}
  end

  test "does nothing while nothing happens", %{server: server, reactor: reactor} do
    sockets = for _ <- 1..100, do: connect(server)
    assert %{status: 200} = request(hd(sockets), "GET", "/")
    before = settled_reductions(reactor)
    Process.sleep(500)
    assert settled_reductions(reactor) == before
  end

  test "that is killed is replaced, and no connection notices", context do
    %{server: server, reactor: reactor} = context
    socket = connect(server)
    assert %{status: 200} = request(socket, "GET", "/")
    descriptors = descriptors()

    for _ <- 1..20 do
      Process.exit(reactor(), :kill)
      assert %{status: 200} = request(socket, "GET", "/")
      assert %{status: 200} = server |> connect() |> request("GET", "/")
    end

    refute Process.alive?(reactor)
    assert_in_delta descriptors(), descriptors + 40, 10
  end

  test "answers system messages, and ignores all others", context do
    %{server: server, reactor: reactor} = context
    send(reactor, :hello)
    :ok = :sys.suspend(reactor)
    socket = connect(server)
    write(socket, head("GET", "/"))
    assert {:error, :timeout} = :gen_tcp.recv(socket, 0, 300)
    :ok = :sys.resume(reactor)
    assert %{status: 200} = response(socket)
    assert reactor() == reactor
  end

  test "that is late does not take it out on a client whose bytes wait" do
    server = serve(fn conn -> Ferrosock.upgrade(conn, Echo, self(), timeout: 1_500) end)
    socket = websocket(server)
    other = websocket(server)
    send_frame(other, :text, "pid")
    assert {:text, other_pid} = recv_frame(other)
    :ok = :sys.suspend(reactor())
    send_frame(socket, :text, "in time")
    Process.sleep(1_600)
    # A call that runs the tasks that are ready, and these are the ones whose time is over.
    send(:erlang.list_to_pid(String.to_charlist(other_pid)), :stop)
    Process.sleep(100)
    :ok = :sys.resume(reactor())
    assert recv_frame(socket) == {:text, "in time"}
  end

  # Nine out of ten, in the CPU time of the thread: the machine may give the core to others in the middle of a
  # turn. Where large messages grow, most of it is the kernel's: new pages.
  describe "a turn stays short" do
    test "with the tiniest messages" do
      many = :binary.copy(frame(:text, ""), 100_000)
      assert turn_time(websockets(many)) < 1_000
    end

    test "with large messages" do
      large = frame(:binary, :binary.copy(<<0>>, 7_000_000))
      assert turn_time(websockets(large)) < 5_000
    end

    test "with little that inflates to much" do
      bomb = frame(:binary, deflate(:binary.copy(<<0>>, 7_000_000)), rsv: 4)
      assert turn_time(websockets(:binary.copy(bomb, 20))) < 10_000
    end

    test "with a chunk size that does not end" do
      server = serve(fn conn -> Plug.Conn.read_body(conn) end)

      flood =
        head("POST", "/", [{"transfer-encoding", "chunked"}]) <> :binary.copy("0", 30_000_000)

      assert turn_time(for(_ <- 1..2, do: {connect(server), flood})) < 50_000
    end
  end

  # Clients that are each to send the flood.
  defp websockets(flood) do
    server = serve(fn conn -> Ferrosock.upgrade(conn, Sink, nil, compress: true) end)
    offer = {"sec-websocket-extensions", "permessage-deflate"}
    for _ <- 1..4, do: {websocket(server, "/", [offer]), flood}
  end

  # Turns the reactor in place of its process while the clients send. The 90th percentile of the turns
  # that had something to do, in µs.
  defp turn_time(clients) do
    :ok = :sys.suspend(reactor())
    for {socket, flood} <- clients, do: spawn(fn -> :gen_tcp.send(socket, flood) end)

    until = System.monotonic_time(:millisecond) + 1_500
    times = Native.reactor_get(0) |> turn_until(until, []) |> Enum.sort()
    :ok = :sys.resume(reactor())
    Enum.at(times, div(length(times) * 9, 10))
  end

  @idle_turn 50

  defp turn_until(reactor, until, times) do
    if System.monotonic_time(:millisecond) > until do
      times
    else
      {_turned, nanoseconds} = Native.reactor_turn_timed(reactor)
      time = div(nanoseconds, 1_000)
      turn_until(reactor, until, if(time > @idle_turn, do: [time | times], else: times))
    end
  end

  defp deflate(data) do
    z = :zlib.open()
    :ok = :zlib.deflateInit(z, 9, :deflated, -15, 8, :default)
    deflated = IO.iodata_to_binary(:zlib.deflate(z, data, :sync))
    :zlib.close(z)
    binary_part(deflated, 0, byte_size(deflated) - 4)
  end

  defp reactor do
    [{0, pid, :worker, _modules}] = Supervisor.which_children(Reactors)
    pid
  end

  # When two looks at it agree.
  defp settled_reductions(reactor) do
    count = reductions(reactor)
    Process.sleep(50)
    if reductions(reactor) == count, do: count, else: settled_reductions(reactor)
  end

  defp reductions(reactor), do: reactor |> Process.info(:reductions) |> elem(1)

  defp descriptors, do: length(File.ls!("/proc/self/fd"))
end
