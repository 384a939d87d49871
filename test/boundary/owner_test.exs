defmodule Ferrosock.Boundary.OwnerTest do
  # Owners and clients that end, at every stage: what was theirs ends with them, and nothing stays.
  #
  # Not async: it counts what is alive in the whole engine.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Probe, only: [down: 1]
  import Ferrosock.Test.Raw

  alias Ferrosock.Native
  alias Ferrosock.Test.{Census, TellingApp}

  setup do: Census.nothing_left()

  describe "an owner that is killed" do
    setup do
      [server: start_server!(plug: {TellingApp, self()})]
    end

    test "between two requests closes the connection", %{server: server} do
      socket = connect(server)
      assert %{status: 200} = request(socket, "GET", "/")
      assert_receive {:plug, pid, _conn}
      Process.exit(pid, :kill)
      assert closed?(socket)
    end

    test "inside the Plug answers 500 and closes", %{server: server} do
      socket = connect(server)
      write(socket, head("GET", "/wait"))
      assert_receive {:plug, pid, _conn}
      Process.exit(pid, :kill)
      assert %{status: 500} = response(socket)
      assert closed?(socket)
    end

    test "between two chunks cuts the body off", %{server: server} do
      socket = connect(server)
      write(socket, head("GET", "/chunks"))
      assert_receive {:plug, pid, _conn}
      assert_receive :chunk_sent
      Process.exit(pid, :kill)
      response = read_all(socket)
      assert response =~ "5\r\nfirst\r\n"
      refute response =~ "\r\n0\r\n"
    end

    test "as a WebSocket closes it with 1011, whatever its callback does", %{server: server} do
      for message <- ["hello", "sleep"] do
        socket = websocket(server, "/ws")
        assert_receive {:websocket, pid}
        send_frame(socket, :text, message)
        if message == "hello", do: assert(recv_frame(socket) == {:text, "hello"})
        Process.exit(pid, :kill)
        assert recv_frame(socket) == {:close, 1011, ""}
        send_frame(socket, :close, <<1011::16>>)
        assert closed?(socket)
      end
    end

    test "disturbs no other connection", %{server: server} do
      other = websocket(server, "/ws")
      assert_receive {:websocket, _pid}
      socket = websocket(server, "/ws")
      assert_receive {:websocket, pid}
      Process.exit(pid, :kill)
      assert {:close, 1011, ""} = recv_frame(socket)
      send_frame(other, :text, "still here")
      assert recv_frame(other) == {:text, "still here"}
    end
  end

  test "a message weighs little while it waits for its handler" do
    server = start_server!(plug: {TellingApp, self()})

    handlers =
      for _ <- 1..100 do
        socket = websocket(server, "/ws")
        assert_receive {:websocket, pid}
        send_frame(socket, :text, "hello")
        assert {:text, "hello"} = recv_frame(socket)
        :erlang.suspend_process(pid)
        {socket, pid}
      end

    # Not that of all processes: those of other tests come and go.
    weight = fn ->
      Enum.sum(for {_socket, pid} <- handlers, do: pid |> Process.info(:memory) |> elem(1))
    end

    before = weight.()

    for count <- 1..5 do
      for {socket, _pid} <- handlers, do: send_frame(socket, :text, "hello")

      eventually(fn ->
        Enum.all?(handlers, fn {_socket, pid} ->
          {:message_queue_len, count} == Process.info(pid, :message_queue_len)
        end)
      end)
    end

    assert weight.() - before < 5 * 100 * 500
  end

  describe "a client that goes away" do
    setup do
      [server: start_server!(plug: {TellingApp, self()})]
    end

    test "ends the process of its idle connection", %{server: server} do
      socket = connect(server)
      request(socket, "GET", "/")
      assert_receive {:plug, pid, _conn}
      monitor = Process.monitor(pid)
      # The VM may hold a monitor back, to send it together with a message.
      :erlang.yield()
      :gen_tcp.close(socket)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    end

    test "ends the process of its WebSocket", %{server: server} do
      socket = websocket(server, "/ws")
      assert_receive {:websocket, pid}
      monitor = Process.monitor(pid)
      :gen_tcp.close(socket)
      assert_receive {:DOWN, ^monitor, :process, ^pid, {:shutdown, :closed}}
    end

    test "leaves nothing behind when many do at once", %{server: server} do
      sockets = for _ <- 1..200, do: websocket(server, "/ws")
      for socket <- sockets, do: send_frame(socket, :text, "hello")
      Enum.each(sockets, &:gen_tcp.close/1)
      eventually(fn -> Native.stats().sockets == 0 end)
    end
  end

  test "a Plug that receives everything while it streams leaves no process behind when its clients leave" do
    test = self()

    server =
      serve(fn conn ->
        send(test, {:plug, self()})
        conn |> Plug.Conn.send_chunked(200) |> stream()
      end)

    connections =
      for _ <- 1..200 do
        socket = connect(server)
        write(socket, head("GET", "/"))
        assert_receive {:plug, pid}
        Process.monitor(pid)
        {socket, pid}
      end

    for {socket, _pid} <- connections, do: reset(socket)
    ended(server)

    # The next thing that it sends.
    for {_socket, pid} <- connections, do: send(pid, :tick)
    for {_socket, pid} <- connections, do: down(pid)
    eventually(fn -> Native.stats().exchanges == 0 end)
  end

  defp stream(conn) do
    receive do
      :tick ->
        case Plug.Conn.chunk(conn, "tick") do
          {:ok, conn} -> stream(conn)
          {:error, :closed} -> conn
        end

      _any ->
        stream(conn)
    end
  end

  test "a listener closes with its owner" do
    test = self()
    options = [plug: {TellingApp, test}, port: 0, ip: :loopback, startup_log: false]

    owner =
      spawn(fn ->
        {:ok, server} = Ferrosock.start_link(options)
        send(test, {:port, port(server)})
        forever()
      end)

    assert_receive {:port, port}
    Process.exit(owner, :kill)
    eventually(fn -> Native.stats().listeners == 0 end)
    # The kernel resets what comes while it closes.
    eventually(fn -> :gen_tcp.connect({127, 0, 0, 1}, port, []) == {:error, :econnrefused} end)
  end

  @tag :capture_log
  test "a server that cannot listen leaves nothing behind" do
    port = port(start_server!(plug: {TellingApp, self()}))
    Process.flag(:trap_exit, true)
    options = [plug: {TellingApp, self()}, port: port, ip: :loopback, startup_log: false]
    descriptors = Census.descriptors()
    for _ <- 1..20, do: assert({:error, _reason} = Ferrosock.start_link(options))
    eventually(fn -> Native.stats().listeners == 1 end)
    eventually(fn -> Census.descriptors() <= descriptors end)
  end

  test "clients that are gone before they are accepted do no harm" do
    server = start_server!(plug: {TellingApp, self()})
    for _ <- 1..200, do: server |> connect() |> reset()
    assert %{status: 200} = request(connect(server), "GET", "/")
  end

  test "a server that stops ends what it served" do
    server = start_server!(plug: {TellingApp, self()}, shutdown_timeout: 1_000)
    idle = connect(server)
    request(idle, "GET", "/")
    websocket = websocket(server, "/ws")
    assert_receive {:websocket, _pid}
    stop_supervised!(Ferrosock)
    assert closed?(idle)
    assert recv_frame(websocket) == {:close, 1001, ""}
    send_frame(websocket, :close, <<1001::16>>)
    assert closed?(websocket)
  end
end
