defmodule Ferrosock.Server.DrainTest do
  # What a drain does with what a server serves. drain_late_test.exs has what it does while the reactors are late.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn, only: [send_resp: 3]

  alias Ferrosock.Test.{Logs, Probe}

  defmodule Socket, do: use(Ferrosock.Test.Probe)

  describe "a drained server" do
    test "refuses connections, stays in its supervisor and tells its counts" do
      {server, port} = hello()
      socket = connect(server)
      request(socket, "GET", "/")
      children = Supervisor.which_children(server)

      assert Ferrosock.drain(server) == :ok
      assert refused?(port)
      assert Supervisor.which_children(server) == children
      assert %{connections: 0, accepted: 1, requests: 1} = Ferrosock.info(server)
    end

    test "may be drained again, and stopped" do
      {server, _port} = hello()
      for _ <- 1..2, do: assert(Ferrosock.drain(server) == :ok)
      assert Supervisor.stop(server, :shutdown) == :ok
    end

    test "leaves its port to another one" do
      {server, port} = hello()
      assert Ferrosock.drain(server) == :ok
      {other, ^port} = hello(port: port)
      assert connect(other) |> request("GET", "/") |> Map.get(:status) == 200
    end

    test "does not listen again when an acceptor fails" do
      {server, port} = hello()
      assert Ferrosock.drain(server) == :ok
      children = Supervisor.which_children(server)
      acceptors = acceptors(server)

      for acceptor <- acceptors do
        Process.exit(acceptor, :kill)
        eventually(fn -> acceptor not in acceptors(server) end)
      end

      assert length(acceptors) > 0
      assert Supervisor.which_children(server) == children
      assert refused?(port)
    end
  end

  describe "a process of a drained server that is started again" do
    @describetag :capture_log

    for id <- [Ferrosock.Server.Listener, Ferrosock.Server.Drain] do
      test "does not listen: #{inspect(id)}" do
        {server, port} = hello()
        server |> connect() |> request("GET", "/")
        assert Ferrosock.drain(server) == :ok
        info = Ferrosock.info(server)

        fail(server, unquote(id))
        assert refused?(port)
        assert Ferrosock.info(server) == info
        assert Ferrosock.drain(server) == :ok
      end

      test "does not listen in the midst of the drain: #{inspect(id)}" do
        {server, _socket, _plug} = busy(shutdown_timeout: 100)
        port = port(server)
        drain = Task.async(fn -> catch_exit(exit(Ferrosock.drain(server, deadline: 60_000))) end)
        eventually(fn -> refused?(port) end)
        address = Ferrosock.info(server).address

        fail(server, unquote(id))
        Task.await(drain, 20_000)
        assert refused?(port)
        eventually(fn -> match?(%{address: ^address, connections: 0}, Ferrosock.info(server)) end)
      end
    end

    defp fail(server, id) do
      {_id, pid, _type, _modules} = child(server, id)
      Process.exit(pid, :kill)
      eventually(fn -> child(server, id) |> elem(1) != pid end)
      # Asked after the restart.
      assert server |> child(id) |> elem(1) |> Process.alive?()
    end
  end

  test "a server whose acceptors fail starts anew, without a drain" do
    {server, _port} = hello()
    partial = connected_with_partial_head(server)
    {_id, acceptors, _type, _modules} = child(server, Ferrosock.Server.Acceptors)

    Logs.attach()
    Process.exit(acceptors, :kill)
    eventually(fn -> child(server, Ferrosock.Server.Acceptors) |> elem(1) != acceptors end)
    assert %{status: 200} = server |> connect() |> request("GET", "/")
    assert read_all(partial) == ""

    refute Enum.any?(Logs.taken(server), fn {:log, _, text, _} ->
             text =~ "Ferrosock.Server.Drain"
           end)
  end

  describe "an HTTP connection" do
    test "closes at once when it is idle, also where its client does not" do
      # A server that waited for its clients to close would wait for a second. The machine may be busy for as
      # long, but not each time.
      assert Enum.any?(1..5, fn _ ->
               {server, _port} = hello()
               idle = for _ <- 1..3, do: connect(server)
               Enum.each(idle, &request(&1, "GET", "/"))
               {time, :ok} = timed(fn -> Ferrosock.drain(server) end)
               for socket <- idle, do: assert(read_all(socket) == "")
               time < 900
             end)
    end

    test "closes a little later when its client has just connected and is silent" do
      {server, _port} = hello()
      socket = connect(server)
      eventually(fn -> Ferrosock.info(server).accepted == 1 end)
      assert Ferrosock.drain(server) == :ok
      assert read_all(socket) == ""
    end

    test "ends after the response to its request, which says so (RFC9112§9.6)" do
      {server, socket, pid} = busy()
      draining = Task.async(fn -> Ferrosock.drain(server) end)
      eventually(fn -> refused?(server) end)
      assert Task.yield(draining, 100) == nil
      send(pid, :go)
      response = response(socket)
      assert response.body == "finished"
      assert header(response, "connection") == ["close"]
      assert closed?(socket)
      assert Task.await(draining, 20_000) == :ok
    end

    test "is waited for until its client has read the response" do
      body = :binary.copy("x", 12_000_000)
      server = serve(&send_resp(&1, 200, body))
      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      eventually(fn -> Ferrosock.info(server).requests == 1 end)
      stopping = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
      assert Task.yield(stopping, 300) == nil
      assert response(socket).body == body
      assert Task.await(stopping, 20_000) == :ok
    end

    test "whose head is on its way is served" do
      {server, _port} = hello()

      for requests <- [0, 1] do
        socket = connect(server)
        for _ <- 1..requests//1, do: request(socket, "GET", "/")
        write(socket, "GET / HTTP/1.1\r\nhost: loc")
        send(self(), {:partial, socket})
      end

      eventually(fn -> Ferrosock.info(server).accepted == 2 end)
      draining = Task.async(fn -> Ferrosock.drain(server) end)
      eventually(fn -> refused?(server) end)
      assert Task.yield(draining, 100) == nil

      for _ <- 1..2 do
        assert_received {:partial, socket}
        write(socket, "alhost\r\n\r\n")
        assert response = response(socket)
        assert response.body == "hello"
        assert header(response, "connection") == ["close"]
      end

      assert Task.await(draining, 20_000) == :ok
    end
  end

  describe "a WebSocket" do
    test "whose acceptor has failed is closed with the code, too, and belongs to its server" do
      server = Socket.serve!()
      {socket, pid} = Socket.open(server)
      for acceptor <- acceptors(server), do: Process.exit(acceptor, :kill)
      Probe.sync(socket)
      {_id, acceptors, _type, _modules} = child(server, Ferrosock.Server.Acceptors)

      assert [_heir] =
               for(
                 {_id, pair, _type, _modules} <- Supervisor.which_children(acceptors),
                 {Ferrosock.Server.Connections, heir, _type, _modules} <-
                   Supervisor.which_children(pair),
                 {_id, ^pid, _type, _modules} <- Supervisor.which_children(heir),
                 do: heir
               )

      drain = Task.async(fn -> Ferrosock.drain(server, code: 1012) end)
      assert closed_with?(socket, 1012)
      assert Task.await(drain, 20_000) == :ok
      assert Probe.down(pid) == :shutdown
    end

    test "is closed with 1001, or with the code that was asked for" do
      for {options, code} <- [{[], 1001}, {[code: 1012], 1012}, {[code: 4321], 4321}] do
        server = Socket.serve!([], [], id: code)
        {socket, pid} = Socket.open(server)
        drain = Task.async(fn -> Ferrosock.drain(server, options) end)
        assert closed_with?(socket, code)
        assert Task.await(drain, 20_000) == :ok
        assert Probe.down(pid) == :shutdown
        assert_received {:terminated, ^pid, :shutdown, _state}
      end
    end

    test "is closed with the server's :shutdown_code, by a stop and by a drain that asks for no other" do
      for {ending, code} <- [
            {&Supervisor.stop(&1, :shutdown), 1012},
            {&Ferrosock.drain(&1, rate: 7), 1012},
            {&Ferrosock.drain(&1, code: 4321), 4321}
          ] do
        server = Socket.serve!([], [], shutdown_code: 1012, id: make_ref())
        {socket, pid} = Socket.open(server)
        task = Task.async(fn -> ending.(server) end)
        assert closed_with?(socket, code)
        assert Task.await(task, 20_000) == :ok
        assert_received {:terminated, ^pid, :shutdown, _state}
      end
    end

    test "gets what was pushed before, and what the running callback pushes" do
      {server, socket, pid} = held()
      send_frame(socket, :text, "second")
      draining = Task.async(fn -> Ferrosock.drain(server) end)
      eventually(fn -> exit_is_waiting?(pid) end)
      send(pid, :go)
      send(pid, :go)
      assert recv_frame(socket) == {:text, "first"}
      assert recv_frame(socket) == {:text, "second"}
      assert closed_with?(socket, 1001)
      assert Task.await(draining, 20_000) == :ok
    end

    test "that a request in flight becomes is closed with the code, too" do
      test = self()
      state = Probe.state([])

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          receive do: (:go -> Ferrosock.upgrade(conn, Socket, state))
        end)

      socket = connect(server)
      write(socket, head("GET", "/", handshake_headers()))
      assert_receive {:plug, pid}
      draining = Task.async(fn -> Ferrosock.drain(server, code: 1012) end)
      eventually(fn -> refused?(server) end)
      assert Task.yield(draining, 100) == nil
      send(pid, :go)
      assert %{status: 101} = response(socket)
      assert closed_with?(socket, 1012)
      assert Task.await(draining, 20_000) == :ok
      assert_received {:terminated, ^pid, :shutdown, _state}
    end
  end

  describe "the pace" do
    test "is that of :rate" do
      server = Socket.serve!()
      sockets = for _ <- 1..10, do: elem(Socket.open(server), 0)
      drain = Task.async(fn -> timed(fn -> Ferrosock.drain(server, rate: 20) end) end)
      assert all_closed_with?(sockets, 1001)
      {time, :ok} = Task.await(drain, 20_000)
      assert time >= 9 * 50
    end

    test "is faster where it would take more than half of the deadline" do
      server = Socket.serve!()
      sockets = for _ <- 1..20, do: elem(Socket.open(server), 0)
      options = [rate: 1, deadline: 4_000, code: 1012]
      drain = Task.async(fn -> Ferrosock.drain(server, options) end)
      assert all_closed_with?(sockets, 1012)
      assert Task.await(drain, 20_000) == :ok
    end

    test "does not hold up the stop of a server with ten WebSockets" do
      server = Socket.serve!()
      sockets = for _ <- 1..10, do: elem(Socket.open(server), 0)
      stop = Task.async(fn -> timed(fn -> Supervisor.stop(server, :shutdown) end) end)
      assert all_closed_with?(sockets, 1001)
      {time, :ok} = Task.await(stop, 20_000)
      assert time < 5_000
    end
  end

  describe "a closing handshake" do
    test "is waited for" do
      server = Socket.serve!()
      {socket, _pid} = Socket.open(server)
      drain = Task.async(fn -> Ferrosock.drain(server) end)
      assert recv_frame(socket) == {:close, 1001, ""}
      assert Task.yield(drain, 100) == nil
      send_frame(socket, :close, <<1001::16>>)
      assert Task.await(drain, 20_000) == :ok
      assert closed?(socket)
    end

    test "that does not come is waited for as long as close_timeout" do
      server = Socket.serve!([], [], websocket_options: [close_timeout: 100])
      {socket, _pid} = Socket.open(server)
      {time, :ok} = :timer.tc(fn -> Ferrosock.drain(server) end, :millisecond)
      assert time >= 100
      assert recv_frame(socket) == {:close, 1001, ""}
    end
  end

  describe "what has not ended by the deadline" do
    test "is never given less time" do
      {server, _socket, _plug} = busy()
      {time, {:timeout, 1}} = :timer.tc(fn -> Ferrosock.drain(server, deadline: 100) end)
      assert time >= 100_000
    end

    test "is counted and killed" do
      {server, socket, pid} = held()
      assert Ferrosock.drain(server, deadline: 100) == {:timeout, 1}
      assert Probe.down(pid) == :killed
      assert recv_frame(socket) == {:close, 1011, ""}
      assert Ferrosock.drain(server) == :ok
    end

    test "is counted and closed where it has no process yet" do
      {server, _port} = hello()
      socket = connected_with_partial_head(server)
      assert Ferrosock.drain(server, deadline: 100) == {:timeout, 1}
      assert read_all(socket) == ""
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
    end

    test "is cut off where only its client is slow" do
      server = serve(&send_resp(&1, 200, :binary.copy("x", 12_000_000)))
      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      eventually(fn -> Ferrosock.info(server).requests == 1 end)
      assert Ferrosock.drain(server, deadline: 100) == {:timeout, 1}
      assert Ferrosock.drain(server) == :ok
      assert byte_size(read_all(socket)) < 12_000_000
    end

    test "has the server's shutdown_timeout where none is given" do
      {server, _socket, _pid} = held(shutdown_timeout: 100)
      {time, {:timeout, 1}} = timed(fn -> Ferrosock.drain(server) end)
      assert time >= 100
    end
  end

  describe "callers at the same time" do
    test "get the same result" do
      {server, _socket, _pid} = held()

      calls =
        for _ <- 1..3, do: Task.async(fn -> Ferrosock.drain(server, deadline: 500) end)

      assert Task.await_many(calls, 20_000) == List.duplicate({:timeout, 1}, 3)
    end

    test "get the result of a stop that comes in between, within the stop's time" do
      {server, _socket, _pid} = held(shutdown_timeout: 100)
      call = Task.async(fn -> Ferrosock.drain(server, deadline: 60_000) end)
      eventually(fn -> refused?(server) end)
      assert Supervisor.stop(server, :shutdown) == :ok
      assert Task.await(call, 20_000) == {:timeout, 1}
    end

    test "have a stop that comes in between use their code" do
      server = Socket.serve!()
      sockets = for _ <- 1..2, do: elem(Socket.open(server), 0)
      call = Task.async(fn -> Ferrosock.drain(server, rate: 1, deadline: 60_000, code: 1012) end)
      assert_receive {:terminated, _pid, :shutdown, _state}
      stop = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
      assert all_closed_with?(sockets, 1012)
      assert Task.await(stop, 20_000) == :ok
      assert Task.await(call, 20_000) == :ok
    end
  end

  test "options are checked by the caller" do
    {server, _port} = hello()

    for {options, text} <- [
          {[code: 1005], "accepted is a close code that may be sent: 1000 to 1003, 1007 to"},
          {[code: 999], ":code"},
          {[code: 5000], ":code"},
          {[code: "1001"], ":code"},
          {[rate: 0], ":rate"},
          {[deadline: :infinity], ":deadline"},
          {[timeout: 1], "unknown option :timeout; known are :rate, :code, :deadline"}
        ] do
      error = assert_raise ArgumentError, fn -> Ferrosock.drain(server, options) end
      assert error.message =~ text
    end

    assert %{status: 200} = server |> connect() |> request("GET", "/")
  end

  # Answers the close frame, as clients do.
  defp closed_with?(socket, code) do
    assert recv_frame(socket) == {:close, code, ""}
    send_frame(socket, :close, <<code::16>>)
    closed?(socket)
  end

  defp all_closed_with?(sockets, code), do: Enum.all?(sockets, &closed_with?(&1, code))

  defp hello(options \\ []) do
    server = serve(&send_resp(&1, 200, "hello"), options)
    {server, port(server)}
  end

  # A request that is answered after `:go`.
  defp busy(options \\ []) do
    test = self()

    plug = fn conn ->
      send(test, {:plug, self()})
      receive do: (:go -> send_resp(conn, 200, "finished"))
    end

    server = serve(plug, options)

    socket = connect(server)
    write(socket, head("GET", "/"))
    assert_receive {:plug, pid}
    {server, socket, pid}
  end

  # A WebSocket whose callback echoes after `:go`.
  defp held(options \\ []) do
    echo = fn {data, opcode: opcode}, state -> {:push, {opcode, data}, state} end
    server = Socket.serve!([handle_in: Probe.held(echo)], [], options)
    {socket, pid} = Socket.open(server)
    send_frame(socket, :text, "first")
    assert_receive :in_callback
    {server, socket, pid}
  end

  defp exit_is_waiting?(pid) do
    {:messages, messages} = Process.info(pid, :messages)
    Enum.any?(messages, &match?({:EXIT, _parent, _reason}, &1))
  end

  defp acceptors(server) do
    {_id, acceptors, _type, _modules} = child(server, Ferrosock.Server.Acceptors)

    for {_id, pair, _type, _modules} <- Supervisor.which_children(acceptors),
        {Ferrosock.Server.Acceptor, acceptor, _type, _modules} <- Supervisor.which_children(pair),
        do: acceptor
  end

  # The only client that the server has had.
  defp connected_with_partial_head(server) do
    socket = connect(server)
    write(socket, "GET / HTTP/1.1\r\nhost: loc")
    eventually(fn -> Ferrosock.info(server).accepted == 1 end)
    socket
  end

  defp child(server, id), do: server |> Supervisor.which_children() |> List.keyfind(id, 0)

  defp timed(fun), do: :timer.tc(fun, :millisecond)
end
