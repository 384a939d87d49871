defmodule Ferrosock.Server.StallTest do
  # Clients that take nothing. Whatever they speak and whoever the bytes are from: what waits and does
  # not move for `send_timeout` ends the connection, and what waits has a bound. What it weighs is told by
  # weight_test.exs.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.{Certificates, HTTP2, Logs, Pushing}

  @transports [:tcp, :tls]

  # A client that takes little ahead of its reading.
  @slow [recbuf: 4_096, buffer: 4_096]

  setup_all do
    [certificate: Certificates.make()]
  end

  setup do: Logs.attach()

  describe "a client of HTTP/2 that opens its windows wide, asks for much and reads nothing" do
    test "is gone after send_timeout, at the cost of one line" do
      body = :binary.copy("x", 60_000)
      plug = fn conn, _ -> Plug.Conn.send_resp(conn, 200, body) end
      options = [http_2_options: [send_timeout: 300], http_options: [compress: false]]
      server = start_server!([plug: plug] ++ options)

      socket = HTTP2.connect(server, %{initial_window_size: 2_147_483_647})
      :ok = :inet.setopts(socket, @slow)
      HTTP2.window_update(socket, 0, 1_000_000_000)
      for id <- 1..199//2, do: HTTP2.request(socket, id, "GET", "/")
      eventually(fn -> Ferrosock.info(server).requests >= 90 end)
      ended(server)
      eventually(fn -> Ferrosock.info(server).lingering == 0 end)
      assert reset?(socket)
      assert [_one_line] = lines(server, "slow client")
      assert Ferrosock.info(server).queued_bytes == 0
    end

    test "on a stream alone loses that, and not the connection" do
      plug = fn
        %{path_info: ["large"]} = conn, _ ->
          Plug.Conn.send_resp(conn, 200, :binary.copy("x", 200_000))

        conn, _ ->
          Plug.Conn.send_resp(conn, 200, "ok")
      end

      options = [http_2_options: [send_timeout: 300], http_options: [compress: false]]
      server = start_server!([plug: plug] ++ options)
      socket = HTTP2.connect(server)
      HTTP2.window_update(socket, 0, 500_000)
      HTTP2.request(socket, 1, "GET", "/large")
      assert {:rst_stream, 1, :cancel} = HTTP2.take(socket, &match?({:rst_stream, 1, _}, &1))
      HTTP2.request(socket, 3, "GET", "/")
      assert %{status: 200, body: "ok"} = HTTP2.response(socket, 3)
    end
  end

  for transport <- @transports do
    describe "over #{transport}, a WebSocket whose client pings for ever and reads nothing" do
      test "ends after send_timeout: 1013, {:error, :slow_client}, one line", context do
        server = flood_of_pings(context, unquote(transport), [])
        assert [_one_line] = lines(server, "with 1013: slow client")
        assert_received {:terminated, {:error, :slow_client}}
        assert Ferrosock.info(server).queued_bytes == 0
      end
    end
  end

  test "the same on a stream of HTTP/2 whose window is 0" do
    server = start_server!([plug: Pushing.plug()] ++ limits([]))

    socket = HTTP2.connect(server, %{initial_window_size: 0})
    HTTP2.upgrade(socket, 1, "/")
    assert {200, _headers} = HTTP2.head(socket, 1)
    assert_receive {:opened, pid}
    ref = Process.monitor(pid)
    for _ <- 1..1_000, do: HTTP2.data(socket, 1, :nofin, frame(:ping, ""))
    # One pong waits, whatever came.
    assert Ferrosock.info(server).queued_bytes < 500
    assert_receive {:DOWN, ^ref, :process, ^pid, {:shutdown, :slow_client}}
    assert {:rst_stream, 1, _reason} = HTTP2.take(socket, &match?({:rst_stream, 1, _}, &1))
    assert [_one_line] = lines(server, "with 1013: slow client")
  end

  test "a handler that is busy does not put off the end of a client that takes nothing" do
    test = self()

    defmodule Busy do
      @behaviour WebSock
      @impl true
      def init(test), do: {:ok, test}
      @impl true
      def handle_in({"push", _}, test),
        do: {:push, {:binary, :binary.copy(<<0>>, 20_000_000)}, test}

      def handle_in({"wait", _}, test) do
        send(test, {:waiting, self()})
        receive do: (:go -> {:ok, test})
      end

      @impl true
      def handle_info(_message, test), do: {:ok, test}
    end

    limits = [send_timeout: 300, close_timeout: 300, high_water_mark: 100_000_000]
    plug = fn conn, _ -> Ferrosock.upgrade(conn, Busy, test) end

    server = start_server!(plug: plug, websocket_options: limits)
    socket = websocket(server, "/", [], @slow)
    write(socket, [frame(:text, "push"), frame(:text, "wait")])
    assert_receive {:waiting, pid}
    ref = Process.monitor(pid)
    ended(server)
    assert reset?(socket)
    send(pid, :go)
    assert_receive {:DOWN, ^ref, :process, ^pid, {:shutdown, :slow_client}}
  end

  test "what only the kernel has for a client that takes nothing ends the connection, too" do
    options = [send_timeout: 1_000]
    limits = [http_1_options: options, http_2_options: options]

    server =
      start_server!(
        [plug: Pushing.plug()] ++ limits ++ limits(send_timeout: 1_000, timeout: 60_000)
      )

    socket = websocket(server, "/", [], @slow)
    assert_receive {:opened, pid}
    ref = Process.monitor(pid)
    send_frame(socket, :text, String.duplicate("x", 100_000))
    # It says that it is there, and the engine has nothing that waits.
    eventually(fn -> :gen_tcp.send(socket, frame(:pong, "")) != :ok end)
    assert_receive {:DOWN, ^ref, :process, ^pid, {:shutdown, :closed}}
    assert_received {:terminated, {:error, :etimedout}}
  end

  test "a client that takes a little at a time is not one that takes nothing" do
    plug = fn conn, _ -> Plug.Conn.send_resp(conn, 200, :binary.copy("x", 200_000)) end
    options = [http_1_options: [send_timeout: 1_000], http_options: [compress: false]]
    server = start_server!([plug: plug] ++ options)
    socket = connect(server, @slow ++ [sndbuf: 4_096])
    write(socket, head("GET", "/"))

    # Longer in all than send_timeout, which begins anew with each piece.
    for _ <- 1..12 do
      read(socket, 10_000)
      Process.sleep(150)
    end

    read(socket, 80_000)
    assert Ferrosock.info(server).connections == 1
  end

  test "max_queued_bytes bounds what waits for all clients together" do
    options = limits(send_timeout: 60_000, timeout: 60_000) ++ [max_queued_bytes: 3_000_000]
    server = start_server!([plug: Pushing.plug()] ++ options)

    sockets =
      for _ <- 1..20 do
        socket = websocket(server, "/", [], @slow)
        for _ <- 1..60, do: send_frame(socket, :text, "push 1")
        socket
      end

    eventually(fn -> Ferrosock.info(server).queued_bytes > 3_000_000 end)
    # No more than one push for each that could still send its own.
    assert settled(fn -> Ferrosock.info(server).queued_bytes end) < 3_000_000 + 20 * 110_000

    # Whoever takes what it is sent is not concerned.
    quick = websocket(server)
    send_frame(quick, :text, "hello")
    assert recv_frame(quick) == {:text, "hello"}
    send_frame(quick, :text, "push 3")
    for _ <- 1..3, do: assert({:binary, _data} = recv_frame(quick))

    # Nothing is lost: all arrives when it is taken.
    sockets
    |> Enum.map(fn socket ->
      :ok = :inet.setopts(socket, recbuf: 1_000_000, buffer: 1_000_000)
      Task.async(fn -> for _ <- 1..60, do: assert({:binary, _} = recv_frame(socket)) end)
    end)
    |> Task.await_many(60_000)

    eventually(fn -> Ferrosock.info(server).queued_bytes == 0 end)
  end

  test "max_connections holds few of those that it refuses" do
    server = start_server!(plug: Pushing.plug(), max_connections: 1, overload: :refuse)
    websocket(server)
    # Those that are reset at once may learn of it as they connect.
    sockets = for _ <- 1..150, do: :gen_tcp.connect({127, 0, 0, 1}, port(server), [])
    eventually(fn -> Ferrosock.info(server).accepted >= 151 end)
    assert Ferrosock.info(server).lingering <= 64
    for {:ok, socket} <- sockets, do: :gen_tcp.close(socket)
  end

  defp limits(websocket_options) do
    defaults = [send_timeout: 300, close_timeout: 300, timeout: 2_000]
    [websocket_options: Keyword.merge(defaults, websocket_options)]
  end

  # Pings until the server ends the connection, and returns it.
  defp flood_of_pings(context, transport, limits) do
    options = transport_options(transport, context.certificate)
    server = start_server!([plug: Pushing.plug()] ++ limits(limits) ++ options)
    socket = opened(server, transport)
    assert_receive {:opened, pid}
    ref = Process.monitor(pid)
    other = opened(server, transport)
    # As long as they may be, so that what the kernel takes is soon full of pongs.
    pings = :binary.copy(frame(:ping, :binary.copy("p", 125)), 1_000)
    flood = spawn_link(fn -> write_until_closed(socket, pings) end)
    # A client in between is served as ever.
    send_frame(other, :text, "hello")
    assert recv_frame(other) == {:text, "hello"}
    assert_receive {:DOWN, ^ref, :process, ^pid, {:shutdown, :slow_client}}
    transport(other).close(other)
    ended(server)
    Process.unlink(flood)
    Process.exit(flood, :kill)
    server
  end

  defp opened(server, :tcp), do: websocket(server, "/", [], @slow)

  defp opened(server, :tls) do
    {:ok, socket} = connect_tls(server, [verify: :verify_none] ++ @slow)
    assert %{status: 101} = handshake(socket)
    socket
  end

  defp lines(server, text),
    do: for({:log, _level, logged, _meta} <- Logs.taken(server), logged =~ text, do: logged)

  defp write_until_closed(socket, data) do
    case transport(socket).send(socket, data) do
      :ok -> write_until_closed(socket, data)
      {:error, _reason} -> :ok
    end
  end

  defp reset?(socket) do
    case :gen_tcp.recv(socket, 0, 20_000) do
      {:ok, _data} -> reset?(socket)
      {:error, reason} -> reason in [:closed, :econnreset]
    end
  end
end
