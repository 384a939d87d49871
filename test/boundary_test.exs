defmodule Ferrosock.BoundaryTest do
  # Not async: it counts what is alive in the whole engine.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw

  alias Ferrosock.Native

  defmodule App do
    @behaviour Plug

    defmodule Socket do
      @behaviour WebSock

      @impl true
      def init(test) do
        send(test, {:websocket, self()})
        {:ok, test}
      end

      @impl true
      def handle_in({"sleep", _}, _test), do: Process.sleep(:infinity)
      def handle_in({data, opcode: opcode}, test), do: {:push, {opcode, data}, test}

      @impl true
      def handle_info(_message, test), do: {:ok, test}
    end

    @impl true
    def init(test), do: test

    @impl true
    def call(conn, test) do
      send(test, {:plug, self(), conn})
      respond(conn.path_info, conn, test)
    end

    defp respond(["wait"], _conn, _test), do: Process.sleep(:infinity)

    defp respond(["chunks"], conn, test) do
      conn = Plug.Conn.send_chunked(conn, 200)
      {:ok, _conn} = Plug.Conn.chunk(conn, "first")
      send(test, :chunk_sent)
      Process.sleep(:infinity)
    end

    defp respond(["ws"], conn, test), do: Ferrosock.upgrade(conn, Socket, test)
    defp respond([], conn, _test), do: Plug.Conn.send_resp(conn, 200, "ok")
  end

  @nothing %{listeners: 0, connections: 0, exchanges: 0, sockets: 0, tasks: 0}

  setup do
    Ferrosock.Server.Reactors.ensure_started!(:default)
    eventually(fn -> Native.stats() == @nothing end)
    fds = descriptors()

    on_exit(fn ->
      eventually(fn -> Native.stats() == @nothing end)
      eventually(fn -> descriptors() <= fds end)
    end)
  end

  describe "an owner that is killed" do
    setup do
      [server: start_server!(plug: {App, self()})]
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
    server = start_server!(plug: {App, self()})

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
      [server: start_server!(plug: {App, self()})]
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

  describe "an acceptor" do
    # A bare listener, with the test process as its owner and its acceptor.
    setup do
      options =
        listener_options(
          header_timeout: 1_000,
          idle_timeout: 1_000,
          max_request_line_length: 1_000,
          max_header_length: 10_000,
          max_header_count: 10,
          high_water_mark: 1_000
        )

      {:ok, listener, tag} = Native.listener_open(options, nil)
      on_exit(fn -> Native.listener_close(listener) end)
      {_ip, port} = Native.listener_info(listener).address
      [listener: listener, tag: tag, port: port]
    end

    test "that is missing makes the request a 503", %{port: port} do
      socket = connect(port)
      assert %{status: 503} = request(socket, "GET", "/")
      assert closed?(socket)
    end

    test "that dies with a connection in its mailbox makes the request a 500", context do
      %{listener: listener, port: port} = context
      acceptor = acceptor(listener)
      :erlang.suspend_process(acceptor)
      socket = connect(port)
      write(socket, head("GET", "/"))
      eventually(fn -> Native.stats().exchanges == 1 end)
      Process.exit(acceptor, :kill)
      assert %{status: 500} = response(socket)
      assert closed?(socket)
    end

    test "that died is not asked again", %{listener: listener, tag: tag, port: port} do
      dead = acceptor(listener)
      Process.exit(dead, :kill)
      :ok = Native.listener_accept(listener)

      for _ <- 1..3 do
        socket = connect(port)
        write(socket, head("GET", "/"))
        {_connection, exchange} = accepted(tag)
        assert :ok = Native.exchange_respond(exchange, 200, [], "")
        assert %{status: 200} = response(socket)
        :gen_tcp.close(socket)
      end
    end

    test "that lets go of an exchange ends it", %{listener: listener, tag: tag, port: port} do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      {_connection, _exchange} = accepted(tag)
      :erlang.garbage_collect()
      assert %{status: 500} = response(socket)
    end

    test "that lets go of a claim ends the connection", %{
      listener: listener,
      tag: tag,
      port: port
    } do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      assert_receive {^tag, {:connection, _claim}}
      :erlang.garbage_collect()
      assert %{status: 500} = response(socket)
      assert closed?(socket)
    end

    test "refuses what it has no process for", %{listener: listener, tag: tag, port: port} do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      assert_receive {^tag, {:connection, claim}}
      assert Native.refuse(claim) == :ok
      assert %{status: 503} = refused = response(socket)
      assert header(refused, "connection") == ["close"]
      assert closed?(socket)
      assert Native.refuse(claim) == :ok
      assert Native.attach(claim) == :gone
    end

    test "learns that a connection ended before it was attached", context do
      %{listener: listener, tag: tag, port: port} = context
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      assert_receive {^tag, {:connection, claim}}
      reset(socket)
      eventually(fn -> Native.stats().connections == 0 end)
      assert Native.attach(claim) == :gone
    end

    test "learns that its connection ended, whatever became of the message", context do
      %{listener: listener, tag: tag, port: port} = context
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      {connection, exchange} = accepted(tag)
      assert Native.take(connection) == :none
      reset(socket)
      assert_receive {^connection, :closed}, 5_000
      assert Native.take(connection) == :closed
      assert Native.exchange_respond(exchange, 200, [], "") == {:error, :closed}
      assert Native.exchange_chunk(exchange, "x") == {:error, :closed}
    end

    test "attaches once", %{listener: listener, tag: tag, port: port} do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      assert_receive {^tag, {:connection, claim}}
      assert {:ok, connection} = Native.attach(claim)
      assert Task.await(Task.async(fn -> Native.attach(claim) end)) == :gone
      assert {:request, exchange, _request} = Native.take(connection)
      assert Native.take(connection) == :none
      assert Native.exchange_respond(exchange, 200, [], "") == :ok
    end

    test "sends one response, whoever comes first", %{listener: listener, tag: tag, port: port} do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/"))
      {_connection, exchange} = accepted(tag)

      results =
        1..20
        |> Enum.map(fn _ ->
          Task.async(fn -> Native.exchange_respond(exchange, 200, [], "ok") end)
        end)
        |> Task.await_many()

      assert Enum.count(results, &(&1 == :ok)) == 1
      assert Enum.count(results, &(&1 == {:error, :already_sent})) == 19
      assert %{status: 200, body: "ok"} = response(socket)
    end

    test "whose WebSocket handle is collected closes it with 1011", context do
      %{listener: listener, tag: tag, port: port} = context
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/", handshake_headers()))
      {_connection, exchange} = accepted(tag)
      upgrade_and_drop(exchange)
      assert %{status: 101} = response(socket)
      :erlang.garbage_collect()
      assert recv_frame(socket) == {:close, 1011, ""}
    end

    test "may close twice, and send too late", %{listener: listener, tag: tag, port: port} do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/", handshake_headers()))
      {connection, exchange} = accepted(tag)
      {:ok, native} = Native.exchange_upgrade(exchange, [], socket_options())
      assert %{status: 101} = response(socket)

      # From another process too.
      assert :ok = Task.await(Task.async(fn -> Native.socket_send(native, [{:text, "a"}]) end))
      assert :ok = Native.socket_close(native, 1000, "bye")
      assert :ok = Native.socket_close(native, 1001, "bye")
      assert :closed = Native.socket_send(native, [{:text, "late"}])
      assert recv_frame(socket) == {:text, "a"}
      assert recv_frame(socket) == {:close, 1000, "bye"}
      send_frame(socket, :close, <<1000::16>>)
      assert closed?(socket)
      eventually(fn -> Native.stats().tasks == 1 end)
      assert :closed = Native.socket_send(native, [{:text, "later"}])
      assert :ok = Native.socket_close(native, 1000, "")
      assert :ok = Native.socket_abort(native)
      refute_received {^connection, _event}
    end

    test "sends whatever it is given in less than a millisecond", context do
      text = Enum.map_join(1..9_000, ",", &~s({"id":#{&1},"name":"member #{&1}","topic":"lobby"}))
      piece = binary_part(text, 0, 16_384)
      many = List.duplicate({:text, piece}, 4)
      large = {:binary, :binary.copy(<<0>>, 64_000_000)}

      for deflate <- [nil | for(level <- [1, 6, 9], do: deflate_options(level))],
          messages <- [[{:text, piece}], many, [{:text, text}], [large], List.duplicate(large, 4)] do
        times =
          for _ <- 1..9 do
            {socket, native} = websocket_handle(context, %{socket_options() | deflate: deflate})
            {time, _sent} = :timer.tc(fn -> Native.socket_send(native, messages) end)
            reset(socket)
            time
          end

        # The least, because whatever else the machine does is in the others.
        assert Enum.min(times) < 1_000
      end
    end

    test "pays for the time that its calls take", context do
      data = :binary.copy(<<0>>, 500_000)

      {times, reductions} =
        Enum.unzip(
          for _ <- 1..20 do
            {socket, native} = websocket_handle(context, socket_options())
            before = reductions()
            {time, _sent} = :timer.tc(fn -> Native.socket_send(native, [{:binary, data}]) end)
            paid = reductions() - before
            reset(socket)
            {time, paid}
          end
        )

      # A process has 4,000 for a millisecond. Half of that, as time may pass outside of the call.
      assert Enum.sum(reductions) > min(Enum.sum(times), 1_000) * 2
    end

    test "that fails to upgrade still has a connection of HTTP", context do
      %{listener: listener, tag: tag, port: port} = context
      :ok = Native.listener_accept(listener)
      upgrade = &Native.exchange_upgrade(&1, &2, socket_options())

      for answered? <- [true, false] do
        socket = connect(port)
        write(socket, head("GET", "/", handshake_headers()))
        {connection, exchange} = accepted(tag)
        bad_length = [{"content-length", "five"}]
        assert {:error, {:invalid_header, "content-length"}} = upgrade.(exchange, bad_length)

        if answered? do
          assert :ok = Native.exchange_respond(exchange, 200, [], "")
          assert {:error, :already_sent} = upgrade.(exchange, [])
          assert %{status: 200} = response(socket)
          :gen_tcp.close(socket)
          assert_receive {^connection, :closed}, 5_000
        else
          reset(socket)
          assert_receive {^connection, :closed}, 5_000
          assert {:error, :closed} = upgrade.(exchange, [])
        end

        refute_receive {^connection, _event}, 50
      end
    end

    test "gets arguments that are wrong refused", %{listener: listener, tag: tag, port: port} do
      :ok = Native.listener_accept(listener)
      socket = connect(port)
      write(socket, head("GET", "/", handshake_headers()))
      assert_receive {^tag, {:connection, claim}}
      {:ok, connection} = Native.attach(claim)
      {:request, exchange, _request} = Native.take(connection)

      for call <- [
            fn -> Native.take(claim) end,
            fn -> Native.refuse(connection) end,
            fn -> Native.listener_open(%{}, nil) end,
            fn -> Native.listener_info(exchange) end,
            fn -> Native.attach(exchange) end,
            fn -> Native.attach(make_ref()) end,
            fn -> Native.exchange_respond(connection, 200, [], "") end,
            fn -> Native.exchange_respond(exchange, 200, [:no], "") end,
            fn -> Native.exchange_respond(exchange, 200, [{"a", "b"} | :improper], "") end,
            fn -> Native.exchange_respond(exchange, 200, [], :no) end,
            fn -> Native.exchange_respond(exchange, 70_000, [], "") end,
            fn -> Native.exchange_chunk(exchange, [256]) end,
            fn -> Native.exchange_await(exchange, :no) end,
            fn -> Native.exchange_read(exchange, -1, 1, make_ref()) end,
            fn -> Native.exchange_read(exchange, 1, :never, make_ref()) end,
            fn -> Native.exchange_upgrade(exchange, [], %{}) end
          ] do
        assert_raise ArgumentError, call
      end

      assert {:error, :invalid_status} = Native.exchange_respond(exchange, 100, [], "")

      assert {:error, {:invalid_header, "x"}} =
               Native.exchange_respond(exchange, 200, [{"x", "a\nb"}], "")

      assert {:error, {:invalid_header, "x y"}} =
               Native.exchange_start(exchange, 200, [{"x y", ""}])

      {:ok, native} = Native.exchange_upgrade(exchange, [], socket_options())

      for call <- [
            fn -> Native.socket_send(native, :no) end,
            fn -> Native.socket_send(native, [{:close, ""}]) end,
            fn -> Native.socket_send(native, [{:text, 1}]) end,
            fn -> Native.socket_ack(native, [{:text, "a"} | :improper]) end,
            fn -> Native.socket_close(native, 1000, String.duplicate("x", 124)) end,
            fn -> Native.socket_close(native, -1, "") end,
            fn -> Native.socket_send(exchange, []) end,
            fn -> Native.socket_ending(exchange) end,
            fn -> Native.socket_resume(native, -1) end
          ] do
        assert_raise ArgumentError, call
      end

      assert %{status: 101} = response(socket)
    end
  end

  test "a listener closes with its owner" do
    test = self()

    owner =
      spawn(fn ->
        server = start_link_server(test)
        send(test, {:port, port(server)})
        Process.sleep(:infinity)
      end)

    assert_receive {:port, port}
    Process.exit(owner, :kill)
    eventually(fn -> Native.stats().listeners == 0 end)
    # The kernel resets what comes while it closes.
    eventually(fn -> :gen_tcp.connect({127, 0, 0, 1}, port, []) == {:error, :econnrefused} end)
  end

  @tag :capture_log
  test "a server that cannot listen leaves nothing behind" do
    port = port(start_server!(plug: {App, self()}))
    Process.flag(:trap_exit, true)
    options = [plug: {App, self()}, port: port, ip: :loopback, startup_log: false]
    descriptors = descriptors()
    for _ <- 1..20, do: assert({:error, _reason} = Ferrosock.start_link(options))
    assert Native.stats().listeners == 1
    eventually(fn -> descriptors() <= descriptors end)
  end

  test "clients that are gone before they are accepted do no harm" do
    server = start_server!(plug: {App, self()})
    for _ <- 1..200, do: server |> connect() |> reset()
    assert %{status: 200} = request(connect(server), "GET", "/")
  end

  test "a server that stops ends what it served" do
    server = start_server!(plug: {App, self()}, shutdown_timeout: 1_000)
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

  # In VMs of their own.

  test "a VM stops in order with open sockets and requests" do
    {output, 0} =
      vm("""
      sockets = for _ <- 1..50, do: Ferrosock.Test.Raw.websocket(server, "/ws")
      request = Ferrosock.Test.Raw.connect(server)
      Ferrosock.Test.Raw.write(request, Ferrosock.Test.Raw.head("GET", "/chunks"))
      receive do: (:chunk_sent -> :ok)
      IO.puts("open \#{length(sockets)}")
      System.stop(0)
      """)

    assert output == "open 50\n"
  end

  test "a VM that halts right after a stop has ended its WebSockets in order" do
    {:ok, free} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(free)
    :gen_tcp.close(free)

    vm =
      Task.async(fn ->
        vm("""
        options = [plug: {Ferrosock.BoundaryTest.App, self()}, ip: :loopback, port: #{port}]
        {:ok, second} = Ferrosock.start_link([startup_log: false] ++ options)

        until_stop = fn until_stop ->
          receive do
            {:plug, _pid, %{request_path: "/"}} -> :ok
            _other -> until_stop.(until_stop)
          end
        end

        until_stop.(until_stop)
        Supervisor.stop(second)
        System.halt(0)
        """)
      end)

    connected? = fn -> match?({:ok, _socket}, :gen_tcp.connect({127, 0, 0, 1}, port, [])) end
    eventually(connected?, 3_000)
    # An RST would be told.
    sockets = for _ <- 1..50, do: websocket(port, "/ws", [], show_econnreset: true)
    assert %{status: 200} = request(connect(port), "GET", "/")
    for socket <- sockets, do: assert(recv_frame(socket, 20_000) == {:close, 1001, ""})
    for socket <- sockets, do: send_frame(socket, :close, <<1001::16>>)
    for socket <- sockets, do: assert(:gen_tcp.recv(socket, 0, 20_000) == {:error, :closed})
    assert {_output, 0} = Task.await(vm, 60_000)
  end

  test "a VM without descriptors goes on accepting when it has some again" do
    {output, 0} =
      vm(
        """
        # Without descriptors, no code can be loaded: this loads Logger's. The server's is there.
        require Logger
        Logger.error("something else")
        first = Ferrosock.Test.Raw.connect(server)
        %{status: 200} = Ferrosock.Test.Raw.request(first, "GET", "/")

        open = fn open, files ->
          case :file.open("/dev/null", [:read, :raw]) do
            {:ok, file} -> open.(open, [file | files])
            {:error, :emfile} -> files
          end
        end

        [file | files] = open.(open, [])
        :ok = :file.close(file)
        # This takes the last descriptor, and the server needs another.
        waiting = Ferrosock.Test.Raw.connect(server)
        Ferrosock.Test.Raw.write(waiting, Ferrosock.Test.Raw.head("GET", "/"))
        since = System.monotonic_time(:second)
        :erlang.statistics(:runtime)
        {:error, :timeout} = :gen_tcp.recv(waiting, 0, 1_500)
        {_, busy} = :erlang.statistics(:runtime)
        %{status: 200} = Ferrosock.Test.Raw.request(first, "GET", "/")
        Enum.each(files, &:file.close/1)
        %{status: 200} = Ferrosock.Test.Raw.response(waiting)
        IO.puts("busy \#{busy} ms, after \#{System.monotonic_time(:second) - since} s")
        System.halt(0)
        """,
        "ulimit -n 128"
      )

    assert [_, busy, seconds] = Regex.run(~r/^busy (\d+) ms, after (\d+) s$/m, output)
    # Of 1500 ms.
    assert String.to_integer(busy) < 300
    lines = Regex.scan(~r/cannot accept connections: too many open files/, output)
    assert length(lines) in 1..(String.to_integer(seconds) + 2)
  end

  test "a VM with as many processes as it may have refuses requests, and hurts nobody" do
    {output, 0} =
      vm(
        """
        import Ferrosock.Test.Raw
        # Loads what it needs.
        Ferrosock.Log.process_limit()
        websockets = for _ <- 1..20, do: websocket(server, "/ws")
        idle = connect(server)
        %{status: 200} = request(idle, "GET", "/")

        requests =
          for _ <- 1..1_200 do
            socket = connect(server)
            write(socket, head("GET", "/wait"))
            socket
          end

        refused = requests |> Enum.take(-100) |> Enum.map(&response/1)
        true = Enum.all?(refused, &(&1.status == 503 and header(&1, "connection") == ["close"]))
        %{status: 200} = request(idle, "GET", "/")

        for socket <- websockets do
          send_frame(socket, :text, "here")
          {:text, "here"} = recv_frame(socket)
        end

        IO.puts("all here")
        System.halt(0)
        """,
        "ulimit -n 8192 && " <> flags("+P 1024")
      )

    assert output =~ "all here"
    # One of them is the test's own.
    assert length(Regex.scan(~r/refuses requests with 503/, output)) in 2..20
  end

  for flags <- ["+S 1", "+S 4:4", "+S 8:8"] do
    test "all acceptors may be killed at once, again and again: #{flags}" do
      {output, 0} =
        vm(
          """
          import Ferrosock.Test.Raw
          websocket = websocket(server, "/ws")
          idle = connect(server)
          %{status: 200} = request(idle, "GET", "/")
          children = Supervisor.which_children(server)
          {_, pool, _, _} = List.keyfind(children, Ferrosock.Server.Acceptors, 0)

          acceptors = fn ->
            for {_, pair, _, _} <- Supervisor.which_children(pool),
                {Ferrosock.Server.Acceptor, pid, _, _} <- Supervisor.which_children(pair),
                is_pid(pid),
                do: pid
          end

          for _ <- 1..10 do
            killed = acceptors.()
            Enum.each(killed, &Process.exit(&1, :kill))
            eventually(fn -> length(acceptors.() -- killed) == length(killed) end)
          end

          ^children = Supervisor.which_children(server)
          send_frame(websocket, :text, "here")
          {:text, "here"} = recv_frame(websocket)
          %{status: 200} = request(idle, "GET", "/")
          %{status: 200} = request(connect(server), "GET", "/")
          IO.puts("all here")
          System.halt(0)
          """,
          flags(unquote(flags))
        )

      assert output == "all here\n"
    end
  end

  test "a VM halts at once with sockets under load" do
    {output, 0} =
      vm("""
      for _ <- 1..20 do
        spawn_link(fn ->
          socket = Ferrosock.Test.Raw.websocket(server, "/ws")
          flood = fn flood ->
            Ferrosock.Test.Raw.send_frame(socket, :text, "hello")
            Ferrosock.Test.Raw.recv_frame(socket)
            flood.(flood)
          end
          flood.(flood)
        end)
      end
      Process.sleep(200)
      IO.puts("halt")
      System.halt(0)
      """)

    assert output == "halt\n"
  end

  test "the library may be loaded anew while connections are open" do
    {output, 0} =
      vm("""
      socket = Ferrosock.Test.Raw.websocket(server, "/ws")
      {:error, {:upgrade, _}} = Ferrosock.Native.load() |> then(fn
        {:error, {reason, _text}} -> {:error, {:upgrade, reason}}
      end)
      Ferrosock.Test.Raw.send_frame(socket, :text, "hello")
      {:text, "hello"} = Ferrosock.Test.Raw.recv_frame(socket)
      for _ <- 1..5 do
        :code.delete(Ferrosock.Native)
        :code.purge(Ferrosock.Native)
        {:module, _} = :code.load_file(Ferrosock.Native)
      end
      {:ok, second} = Ferrosock.start_link(plug: {Ferrosock.BoundaryTest.App, self()}, port: 0, startup_log: false)
      socket = Ferrosock.Test.Raw.websocket(second, "/ws")
      Ferrosock.Test.Raw.send_frame(socket, :text, "again")
      {:text, "again"} = Ferrosock.Test.Raw.recv_frame(socket)
      IO.puts("loaded")
      System.halt(0)
      """)

    assert output == "loaded\n"
  end

  for {what, stop} <- [
        {"stopped", "Application.stop(:ferrosock)"},
        {"killed", "Process.exit(Process.whereis(Ferrosock.Server.Reactors), :kill)"}
      ] do
    test "servers end when the application is #{what}, and say why; a later start works" do
      {output, 0} =
        vm("""
        import Ferrosock.Test.Raw
        websockets = for _ <- 1..20, do: websocket(server, "/ws")
        idle = connect(server)
        %{status: 200} = request(idle, "GET", "/")
        Process.flag(:trap_exit, true)
        Process.unlink(server)
        Process.exit(server, :normal)
        options = [plug: {Ferrosock.BoundaryTest.App, self()}, port: 0, startup_log: false]
        {:ok, supervisor} = Supervisor.start_link([{Ferrosock, options}], strategy: :one_for_one)
        [{_, second, _, _}] = Supervisor.which_children(supervisor)
        more = for _ <- 1..20, do: websocket(second, "/ws")
        for _ <- 1..40, do: receive(do: ({:websocket, _pid} -> :ok))

        #{unquote(stop)}

        for socket <- websockets ++ more do
          {:close, 1001, ""} = recv_frame(socket)
          send_frame(socket, :close, <<1001::16>>)
          true = closed?(socket)
        end

        true = closed?(idle)
        receive do: ({:EXIT, ^supervisor, _reason} -> :ok)
        eventually(fn -> not Process.alive?(server) end)
        eventually(fn -> Process.whereis(Ferrosock.Server.Caretaker) == nil end)
        %{listeners: 0, connections: 0, tasks: 0} = Ferrosock.Native.stats()
        {:error, {%RuntimeError{}, _}} = catch_start = (try do
          Ferrosock.start_link(options)
        rescue
          error -> {:error, {error, __STACKTRACE__}}
        end)
        IO.puts(Exception.message(elem(elem(catch_start, 1), 0)))

        {:ok, _} = Application.ensure_all_started(:ferrosock)
        {:ok, third} = Ferrosock.start_link(options)
        %{status: 200} = request(connect(third), "GET", "/")
        IO.puts("served again")
        System.halt(0)
        """)

      assert output =~ "the application :ferrosock has stopped, whose processes run the engine"
      assert output =~ "of all servers, is not started; see Application.ensure_all_started/1"
      assert output =~ "served again\n"
    end
  end

  test "a server goes on where the application is started again at once" do
    {output, 0} =
      vm("""
      import Ferrosock.Test.Raw
      Process.flag(:trap_exit, true)
      Application.stop(:ferrosock)
      {:ok, _} = Application.ensure_all_started(:ferrosock)
      true = Process.alive?(server)
      eventually(fn ->
        try do
          %{status: 200} = request(connect(server), "GET", "/")
        catch
          _, _ -> false
        end
      end)
      IO.puts("served again")
      System.halt(0)
      """)

    assert output =~ "served again\n"
  end

  test "all code may be loaded anew, twice, with connections open" do
    {output, 0} =
      vm("""
      import Ferrosock.Test.Raw
      {:ok, server} = Ferrosock.start_link(plug: {Ferrosock.BoundaryTest.App, self()}, port: 0, startup_log: false, num_acceptors: 2)
      websockets = for _ <- 1..50, do: websocket(server, "/ws")
      pids = for _ <- 1..50, do: receive(do: ({:websocket, pid} -> pid))
      kept = for _ <- 1..50, do: connect(server)
      for socket <- kept, do: %{status: 200} = request(socket, "GET", "/")
      children = Supervisor.which_children(server)
      {:ok, modules} = :application.get_key(:ferrosock, :modules)
      # A library that is in use cannot be loaded anew, which the VM says.
      Logger.configure(level: :none)

      for round <- 1..3, module <- modules -- [Ferrosock.Native] do
        :code.purge(module)
        {:module, ^module} = :code.load_file(module)
        # As fast as it goes, with this one: it is where connections wait.
        if round > 1 and module == Ferrosock.HTTP.Connection, do: for(_ <- 1..3, do: :code.load_file(module))
      end

      for {socket, n} <- Enum.with_index(websockets) do
        send_frame(socket, :text, "still \#{n}")
        {:text, "still " <> _} = recv_frame(socket)
      end

      true = Enum.all?(pids, &Process.alive?/1)
      for socket <- kept, do: %{status: 200} = request(socket, "GET", "/")
      %{status: 200} = request(connect(server), "GET", "/")
      ^children = Supervisor.which_children(server)
      :ok = Ferrosock.drain(server, deadline: 1)
             |> then(fn _ -> :ok end)
      IO.puts("all here")
      System.halt(0)
      """)

    assert output =~ "all here\n"
  end

  for threads <- [false, true] do
    test "the library stays where its code runs when its module is purged; threads: #{threads}" do
      {output, 0} =
        vm(
          """
          port = Ferrosock.Test.Raw.port(server)

          clients =
            for _ <- 1..8 do
              spawn(fn ->
                flood = fn flood, socket ->
                  :gen_tcp.send(socket, Ferrosock.Test.Raw.head("GET", "/"))
                  :gen_tcp.recv(socket, 0, 50)
                  flood.(flood, socket)
                end
                flood.(flood, Ferrosock.Test.Raw.connect(port))
              end)
            end

          receive do: ({:plug, _pid, _conn} -> :ok)
          # Of what calls it and is killed with it, nobody should report.
          Logger.configure(level: :none)

          for _ <- 1..5 do
            :code.delete(Ferrosock.Native)
            :code.purge(Ferrosock.Native)
            Process.sleep(100)
          end

          IO.puts("purged \#{length(clients)}")
          System.halt(0)
          """,
          if(unquote(threads), do: "export FERROSOCK_REACTOR_THREADS=1", else: ":")
        )

      assert output =~ "purged 8\n"
    end
  end

  defp descriptors, do: length(File.ls!("/proc/self/fd"))

  defp acceptor(listener) do
    test = self()

    pid =
      spawn(fn ->
        :ok = Native.listener_accept(listener)
        send(test, :accepting)
        Process.sleep(:infinity)
      end)

    assert_receive :accepting
    pid
  end

  # A connection that this process has, and its request.
  defp accepted(tag) do
    assert_receive {^tag, {:connection, claim}}, 5_000
    {:ok, connection} = Native.attach(claim)
    {:request, exchange, _request} = Native.take(connection)
    {connection, exchange}
  end

  defp upgrade_and_drop(exchange) do
    {:ok, _socket} = Native.exchange_upgrade(exchange, [], socket_options())
    :ok
  end

  # A WebSocket of this process, and its client.
  defp reductions, do: self() |> Process.info(:reductions) |> elem(1)

  defp websocket_handle(%{listener: listener, tag: tag, port: port}, options) do
    :ok = Native.listener_accept(listener)
    socket = connect(port)
    offer = {"sec-websocket-extensions", "permessage-deflate"}
    write(socket, head("GET", "/", [offer | handshake_headers()]))
    {_connection, exchange} = accepted(tag)
    {:ok, native} = Native.exchange_upgrade(exchange, [], options)
    assert %{status: 101} = response(socket)
    {socket, native}
  end

  defp deflate_options(level) do
    %{
      level: level,
      mem_level: 8,
      window_bits: 15,
      client_window_bits: 15,
      server_context_takeover: false,
      client_context_takeover: true,
      threshold: 0
    }
  end

  defp socket_options do
    %{
      timeout: :infinity,
      ping_interval: :infinity,
      ping_timeout: 1_000,
      max_lifetime: :infinity,
      hibernate_after: :infinity,
      close_timeout: 1_000,
      max_frame_size: :infinity,
      max_fragments: 100,
      validate_utf8: true,
      control_events: true,
      send_timeout: 15_000,
      high_water_mark: 1_000_000,
      deflate: nil
    }
  end

  defp start_link_server(test) do
    {:ok, server} =
      Ferrosock.start_link(plug: {App, test}, port: 0, ip: :loopback, startup_log: false)

    server
  end

  # A command for `vm/2`.
  defp flags(flags), do: ~s(export ELIXIR_ERL_OPTIONS="$ELIXIR_ERL_OPTIONS #{flags}")

  # Runs code in a VM that has a server of `App` under the name `server`, after a command of the shell.
  defp vm(code, command \\ ":") do
    beams =
      for path <- :code.get_path(), path = to_string(path), path =~ "_build", do: ["-pa", path]

    plug = ["-pa", to_string(:code.lib_dir(:plug)) <> "/ebin"]
    app = Path.join(System.tmp_dir!(), "boundary_app_#{System.pid()}.exs")
    {:ok, source} = File.read(__ENV__.file)
    [_, module] = Regex.run(~r/(  defmodule App do.*?\n  end\n)/s, source)

    File.write!(app, """
    defmodule Ferrosock.BoundaryTest do
    #{module}
    end
    Application.ensure_all_started(:ferrosock)
    {:ok, server} = Ferrosock.start_link(plug: {Ferrosock.BoundaryTest.App, self()}, port: 0, startup_log: false)
    #{code}
    Process.sleep(:infinity)
    """)

    elixir = [System.find_executable("elixir"), beams, plug, app]
    arguments = ["-c", command <> ~s( && exec "$@"), "sh" | List.flatten(elixir)]
    System.cmd("sh", arguments, stderr_to_stdout: true)
  end
end
