defmodule Ferrosock.WebSocket.OverHTTP2Test do
  # WebSockets on the streams of an HTTP/2 connection (RFC 8441).
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe, only: [down: 1]
  import Ferrosock.Test.Raw, only: [frame: 2, serve: 1]
  import Plug.Conn

  alias Ferrosock.Test.{HTTP2, Logs, Probe}

  defmodule Socket, do: use(Ferrosock.Test.Probe)

  describe "the handshake" do
    test "is announced, and told to the Plug as one of HTTP/1" do
      test = self()
      state = Probe.state([])

      server =
        serve(fn conn ->
          send(test, {:conn, conn})
          conn = put_resp_header(conn, "sec-websocket-protocol", "chat")
          Ferrosock.upgrade(conn, Socket, state)
        end)

      socket = HTTP2.connect(server)
      {:settings, settings} = HTTP2.take(socket, &match?({:settings, _}, &1))
      assert settings.enable_connect_protocol == true
      HTTP2.upgrade(socket, 1, "/room?a=b", [{"origin", "http://localhost"}])
      {200, headers} = HTTP2.head(socket, 1)
      assert {"sec-websocket-protocol", "chat"} in headers
      refute List.keymember?(headers, "sec-websocket-accept", 0)

      assert_receive {:conn, conn}
      assert %{method: "GET", request_path: "/room", query_string: "a=b"} = conn
      assert get_req_header(conn, "upgrade") == ["websocket"]
      assert get_req_header(conn, "connection") == ["upgrade"]
      assert get_req_header(conn, "origin") == ["http://localhost"]
      assert get_http_protocol(conn) == :"HTTP/2"
    end

    test "that is wrong gets a status, and leaves the connection to the others" do
      socket = HTTP2.connect(Socket.serve!())

      pseudo = [
        {":method", "CONNECT"},
        {":protocol", "websocket"},
        {":scheme", "http"},
        {":authority", "localhost"},
        {":path", "/"}
      ]

      HTTP2.headers(socket, 1, :nofin, pseudo)
      assert %{status: 400, body: body} = HTTP2.response(socket, 1)
      assert body =~ "sec-websocket-version"
      HTTP2.headers(socket, 3, :nofin, pseudo ++ [{"sec-websocket-version", "8"}])
      assert %{status: 426, headers: headers} = HTTP2.response(socket, 3)
      assert {"sec-websocket-version", "13"} in headers
      HTTP2.request(socket, 5, "GET", "/", [{"sec-websocket-version", "13"}])
      assert %{status: 400} = HTTP2.response(socket, 5)

      HTTP2.websocket(socket, 7)
    end

    # As RFC 9110, 8.6 and 9.3.6 have it: a length would be that of the whole stream.
    test "is answered without a length, whatever the Plug has set" do
      state = Probe.state([])

      server =
        serve(fn conn ->
          conn = put_resp_header(conn, "content-length", "5")
          Ferrosock.upgrade(conn, Socket, state)
        end)

      socket = HTTP2.connect(server)
      HTTP2.upgrade(socket, 1, "/")
      {200, headers} = HTTP2.head(socket, 1)
      refute List.keymember?(headers, "content-length", 0)
    end

    test "may be answered otherwise" do
      socket = HTTP2.connect(serve(&send_resp(&1, 403, "no")))
      HTTP2.upgrade(socket, 1, "/")
      assert %{status: 403, body: "no", end: :fin} = HTTP2.response(socket, 1)
    end
  end

  test "each has a stream, a process and an end of its own" do
    socket = HTTP2.connect(Socket.serve!())
    [first, second] = for id <- [1, 3], do: HTTP2.websocket(socket, id)
    assert first != second

    for id <- [1, 3] do
      HTTP2.data(socket, id, :nofin, frame(:text, "to #{id}"))
      assert read_frame(socket, id) == {:text, "to #{id}"}
    end

    HTTP2.data(socket, 1, :nofin, frame(:close, <<1000::16, "bye">>))
    assert read_frame(socket, 1) == {:close, <<1000::16>>}
    assert_receive {:terminated, ^first, :remote, _state}
    assert down(first) == {:shutdown, :closed}
    # The stream ends in good order on both sides.
    assert {:data, 1, :fin, ""} = HTTP2.take(socket, &match?({:data, 1, _, _}, &1))
    HTTP2.data(socket, 1, :fin, "")

    HTTP2.data(socket, 3, :nofin, frame(:text, "still here"))
    assert read_frame(socket, 3) == {:text, "still here"}
    refute Enum.any?(Process.get(socket).frames, &match?({:rst_stream, 1, _}, &1))
    assert Process.alive?(second)
  end

  test "a frame may come in pieces, and pieces may have several frames" do
    socket = HTTP2.connect(Socket.serve!())
    HTTP2.websocket(socket, 1)
    for <<byte <- frame(:text, "slowly")>>, do: HTTP2.data(socket, 1, :nofin, <<byte>>)
    assert read_frame(socket, 1) == {:text, "slowly"}
    HTTP2.data(socket, 1, :nofin, [frame(:ping, "p"), frame(:text, "a"), frame(:text, "b")])
    assert read_frame(socket, 1) == {:pong, "p"}
    assert read_frame(socket, 1) == {:text, "a"}
    assert read_frame(socket, 1) == {:text, "b"}
  end

  test "a message larger than the windows goes both ways" do
    socket = HTTP2.connect(Socket.serve!())
    HTTP2.websocket(socket, 1)
    data = :crypto.strong_rand_bytes(200_000)
    message = IO.iodata_to_binary(frame(:binary, data))
    # As much as the windows have room for.
    <<first::binary-size(60_000), rest::binary>> = message
    HTTP2.data(socket, 1, :nofin, binary_part(first, 0, 16_000))

    for at <- [16_000, 32_000, 48_000],
        do: HTTP2.data(socket, 1, :nofin, binary_part(first, at, min(16_000, 60_000 - at)))

    HTTP2.take(socket, &match?({:window_update, _more}, &1))
    for piece <- pieces(rest), do: HTTP2.data(socket, 1, :nofin, piece)
    HTTP2.window_update(socket, 1, 1_000_000)

    assert <<1::1, 0::3, 2::4, 0::1, 127::7, 200_000::64, echo::binary>> =
             HTTP2.read(socket, 1, 200_010)

    assert echo == data
  end

  defp pieces(<<piece::binary-size(16_000), rest::binary>>), do: [piece | pieces(rest)]
  defp pieces(rest), do: [rest]

  describe "the end" do
    test "of a stream by a reset is that of the WebSocket" do
      socket = HTTP2.connect(Socket.serve!())
      pid = HTTP2.websocket(socket, 1)
      HTTP2.reset(socket, 1)
      assert_receive {:terminated, ^pid, {:error, :econnreset}, _state}
      assert down(pid) == {:shutdown, :closed}
    end

    test "of a stream without a close frame is one, too" do
      socket = HTTP2.connect(Socket.serve!())
      pid = HTTP2.websocket(socket, 1)
      HTTP2.data(socket, 1, :fin, "")
      assert_receive {:terminated, ^pid, {:error, _reason}, _state}
      assert down(pid) == {:shutdown, :closed}
    end

    test "of a process is told by 1011" do
      socket = HTTP2.connect(Socket.serve!())
      pid = HTTP2.websocket(socket, 1)
      Process.exit(pid, :kill)
      assert read_frame(socket, 1) == {:close, <<1011::16>>}
    end

    test "of the server by its code, and by GOAWAY" do
      server = Socket.serve!()
      socket = HTTP2.connect(server)
      pid = HTTP2.websocket(socket, 1)
      drain = Task.async(fn -> Ferrosock.drain(server, code: 1012) end)
      assert read_frame(socket, 1) == {:close, <<1012::16>>}
      HTTP2.data(socket, 1, :fin, frame(:close, <<1012::16>>))
      assert down(pid) == :shutdown
      assert HTTP2.closed(socket) == :no_error
      assert Task.await(drain, 20_000) == :ok
    end
  end

  test "a client that does not read makes its process wait, and is given up" do
    test = self()

    push = fn _message, state ->
      send(test, :pushed)
      {:push, {:binary, :binary.copy("x", 100_000)}, state}
    end

    Logs.attach()
    options = [high_water_mark: 100_000, send_timeout: 300, close_timeout: 300]
    server = Socket.serve!([handle_info: push], [], websocket_options: options)
    socket = HTTP2.connect(server, %{initial_window_size: 1_000})
    pid = HTTP2.websocket(socket, 1)
    other = HTTP2.websocket(socket, 3)

    for _ <- 1..10, do: send(pid, :push)
    assert_receive {:terminated, ^pid, {:error, :slow_client}, _state}
    assert down(pid) == {:shutdown, :slow_client}
    assert {:rst_stream, 1, :cancel} = HTTP2.take(socket, &match?({:rst_stream, 1, _}, &1))
    assert [{:log, :warning, line, _meta}] = Logs.taken(server)
    assert line =~ "slow client"
    HTTP2.data(socket, 3, :nofin, frame(:text, "fine"))
    assert read_frame(socket, 3) == {:text, "fine"}
    assert Process.alive?(other)
  end

  # A short one.
  defp read_frame(socket, id) do
    key = {socket, id}
    data = HTTP2.read(socket, id, 2, Process.get(key, ""))
    <<1::1, 0::3, opcode::4, 0::1, length::7, rest::binary>> = data
    <<payload::binary-size(^length), rest::binary>> = HTTP2.read(socket, id, length, rest)
    Process.put(key, rest)
    {Map.fetch!(%{1 => :text, 8 => :close, 9 => :ping, 10 => :pong}, opcode), payload}
  end
end
