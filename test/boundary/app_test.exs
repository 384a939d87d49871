defmodule Ferrosock.Boundary.AppTest do
  # What an app may do in the process of its connection: receive whatever comes, ours too. Nothing is
  # lost then, and nothing stays (which is counted in owner_test.exs, too).
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe, only: [down: 1]
  import Ferrosock.Test.Raw

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  # Receives all that comes, until it is told to go on, and tells the test of it.
  defp eat(test) do
    receive do
      :go ->
        :ok

      message ->
        send(test, {:eaten, message})
        eat(test)
    end
  end

  # Receives all that has come.
  defp eat_now do
    receive do
      message -> [message | eat_now()]
    after
      0 -> []
    end
  end

  describe "a Plug that receives everything" do
    test "after its response does not keep the process of a client that leaves" do
      {server, plug} = eating()
      socket = connect(server)
      assert %{status: 200} = request(socket, "GET", "/")
      pid = plug.()
      :gen_tcp.close(socket)
      assert_receive {:eaten, {_tag, :closed}}
      send(pid, :go)
      down(pid)
    end

    test "after its response loses no request" do
      {server, plug} = eating()
      socket = connect(server)

      for _ <- 1..3 do
        assert %{status: 200} = request(socket, "GET", "/")
        pid = plug.()
        %{requests: count} = Ferrosock.info(server)
        write(socket, head("GET", "/"))
        eventually(fn -> Ferrosock.info(server).requests == count + 1 end)
        send(pid, :go)
        assert %{status: 200} = response(socket)
        assert plug.() == pid
        send(pid, :go)
      end
    end

    test "loses no pipelined request" do
      server =
        serve(fn conn -> conn |> Plug.Conn.send_resp(200, conn.request_path) |> eaten() end)

      socket = connect(server)
      paths = for n <- 1..50, do: "/#{n}"
      write(socket, Enum.map(paths, &head("GET", &1)))
      for n <- paths, do: assert(%{status: 200, body: ^n} = response(socket))
    end

    test "loses nothing of a body that it reads" do
      server =
        serve(fn conn ->
          {:more, first, conn} = Plug.Conn.read_body(conn, length: 10)
          eat_now()
          {:ok, rest, conn} = Plug.Conn.read_body(conn)
          eat_now()
          Plug.Conn.send_resp(conn, 200, first <> rest)
        end)

      body = String.duplicate("0123456789", 1_000)
      length = [{"content-length", "10000"}]
      assert %{status: 200, body: ^body} = request(connect(server), "POST", "/", length, body)
    end

    test "is told to stop with its server all the same" do
      {server, plug} = eating(shutdown_timeout: 200)
      socket = connect(server)
      assert %{status: 200} = request(socket, "GET", "/")
      pid = plug.()
      assert {:timeout, 1} = Ferrosock.drain(server)
      down(pid)
    end
  end

  test "a request that its process never takes is answered when that dies" do
    test = self()

    server =
      serve(fn conn ->
        send(test, {:plug, self()})
        conn = Plug.Conn.send_resp(conn, 200, "")
        forever()
        conn
      end)

    socket = connect(server)
    assert %{status: 200} = request(socket, "GET", "/")
    assert_receive {:plug, pid}
    write(socket, head("GET", "/"))
    eventually(fn -> Ferrosock.info(server).requests == 2 end)
    Process.exit(pid, :kill)
    assert %{status: 500} = response(socket)
    assert closed?(socket)
  end

  # What a client can do at its end, and what `terminate/2` is told of it.
  @endings [
    {"closes", :remote, quote(do: &send_frame(&1, :close, <<1000::16>>))},
    {"vanishes by a FIN", {:error, :closed}, quote(do: &:gen_tcp.close/1)},
    {"vanishes by an RST", {:error, :econnreset}, quote(do: &reset/1)},
    {"breaks the protocol", {:error, :reserved_opcode}, quote(do: &send_frame(&1, 3, "x"))}
  ]

  describe "a WebSocket whose callback receives everything ends when its client" do
    for callback <- [:handle_in, :handle_info], {what, reason, action} <- @endings do
      test "#{what}: #{callback}" do
        test = self()

        eating = fn _message, state ->
          send(test, :eating)
          eat(test)
          {:ok, state}
        end

        server = Socket.serve!([{unquote(callback), eating}])
        {socket, pid} = Socket.open(server)

        if unquote(callback) == :handle_in,
          do: send_frame(socket, :text, "eat"),
          else: send(pid, :eat)

        assert_receive :eating
        unquote(action).(socket)
        assert_receive {:eaten, {_tag, [_event]}}
        send(pid, :go)
        down(pid)
        assert_received {:terminated, ^pid, unquote(Macro.escape(reason)), _state}
        refute_received {:terminated, _, _, _}
      end
    end

    test "has closed while callbacks of its own messages are still to come" do
      test = self()

      server =
        Socket.serve!(
          handle_in: fn _message, state ->
            for n <- 1..10, do: send(self(), n)
            {:ok, state}
          end,
          handle_info: fn
            1, state ->
              send(test, :eating)
              eat_but_numbers(test)
              {:ok, state}

            n, state ->
              send(test, n)
              {:ok, state}
          end
        )

      {socket, pid} = Socket.open(server)
      send_frame(socket, :text, "count")
      assert_receive :eating
      send_frame(socket, :close, <<1000::16>>)
      assert_receive {:eaten, {_tag, [{:close, 1000, ""}]}}
      send(pid, :go)
      down(pid)
      # What had come before it is handled, in order.
      for n <- 2..10, do: assert_received(^n)
      assert_received {:terminated, ^pid, :remote, _state}
      refute_received {:terminated, _, _, _}
    end

    test "has closed although it never has an empty mailbox" do
      test = self()

      server =
        Socket.serve!(
          handle_info: fn :again, state ->
            ate = eat_now()
            if ate != [], do: send(test, {:eaten, ate})
            send(self(), :again)
            {:ok, state}
          end
        )

      {socket, pid} = Socket.open(server)
      send(pid, :again)
      send_frame(socket, :close, <<1000::16>>)
      down(pid)
      assert_received {:terminated, ^pid, :remote, _state}
    end
  end

  test "reading goes on although callbacks have received messages and answered none of them" do
    test = self()

    server =
      Socket.serve!(
        handle_in: fn
          {"eat", _}, state ->
            send(test, :eating)
            eat(test)
            {:ok, state}

          {data, opcode: opcode}, state ->
            {:push, {opcode, data}, state}
        end
      )

    {socket, pid} = Socket.open(server)
    large = :binary.copy("x", 300_000)

    for message <- ["small", large] do
      send_frame(socket, :text, "eat")
      assert_receive :eating
      send_until_paused(socket, message)
      send(pid, :go)
      send_frame(socket, :text, "echo")
      assert last_frame(socket) == {:text, "echo"}
    end
  end

  test "whatever callbacks receive, in whatever order, each WebSocket ends once, with its client" do
    seed = :rand.uniform(1_000_000_000)
    handle = fn _message, state -> random_callback(state) end
    server = Socket.serve!(init: handle_once(handle), handle_in: handle, handle_info: handle)

    websockets = for n <- 1..180, do: {n, Socket.open(server)}

    # Each has its own random choices, and all their waits pass at once.
    for {n, {socket, pid}} <- websockets do
      Task.async(fn ->
        :rand.seed(:exsss, {seed, 0, n})
        for _ <- 1..:rand.uniform(20), do: random_act(socket, pid)
        random_end(socket)
      end)
    end
    |> Task.await_many(60_000)

    for {n, {socket, pid}} <- websockets do
      receive do
        {:DOWN, _monitor, :process, ^pid, _reason} -> :ok
      after
        30_000 -> flunk("socket #{n} of seed #{seed}: the process stays")
      end

      assert_received {:terminated, ^pid, _reason, _state}
      refute_received {:terminated, ^pid, _reason, _state}
      :gen_tcp.close(socket)
    end
  end

  defp handle_once(handle), do: fn state -> handle.(:init, state) end

  defp random_callback(state) do
    case :rand.uniform(6) do
      1 -> eat_now()
      2 -> send(self(), :more)
      3 -> :erlang.yield()
      4 -> receive do: (_any -> :ok), after: (1 -> :ok)
      _ -> :ok
    end

    if :rand.uniform(3) == 1, do: {:push, {:text, "push"}, state}, else: {:ok, state}
  end

  defp random_act(socket, pid) do
    case :rand.uniform(5) do
      1 -> send(pid, :message)
      2 -> :gen_tcp.send(socket, frame(:text, :binary.copy("x", 300_000)))
      3 -> :gen_tcp.send(socket, for(_ <- 1..20, do: frame(:text, "many")))
      4 -> :erlang.yield()
      5 -> :gen_tcp.send(socket, frame(:ping, ""))
    end
  end

  # A client that only waits is read, too: its close frame comes after all that.
  defp random_end(socket) do
    case :rand.uniform(4) do
      1 -> :gen_tcp.send(socket, frame(:close, <<1000::16>>))
      2 -> :gen_tcp.close(socket)
      3 -> reset(socket)
      4 -> :gen_tcp.send(socket, frame(3, "x"))
    end
  end

  # What was not eaten is echoed.
  defp last_frame(socket) do
    case recv_frame(socket, 10_000) do
      {:text, "echo"} = frame -> frame
      {:text, _message} -> last_frame(socket)
    end
  end

  # One after the other, so that each is a batch of its own.
  defp send_until_paused(socket, message) do
    send_frame(socket, :text, message)

    receive do
      {:eaten, {_tag, [_event]}} -> send_until_paused(socket, message)
    after
      200 -> :ok
    end
  end

  defp eat_but_numbers(test) do
    receive do
      :go ->
        :ok

      message when not is_integer(message) ->
        send(test, {:eaten, message})
        eat_but_numbers(test)
    end
  end

  # A server whose Plug responds and receives everything until it is sent `:go`, and what waits for it.
  defp eating(options \\ []) do
    test = self()

    server =
      serve(
        fn conn ->
          conn = Plug.Conn.send_resp(conn, 200, "")
          send(test, {:plug, self()})
          eat(test)
          conn
        end,
        options
      )

    await = fn ->
      assert_receive {:plug, pid}
      Process.monitor(pid)
      pid
    end

    {server, await}
  end

  defp eaten(conn) do
    eat_now()
    conn
  end
end
