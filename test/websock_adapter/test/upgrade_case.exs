defmodule WebSockAdapterTests.UpgradeTest do
  # WebSockets of apps that call `WebSockAdapter.upgrade/4`.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.{Certificates, Client, Echo, HTTP2, HTTP2App, Logs}
  alias Ferrosock.WebSocket.Recorder

  # Tells the test, who is the state, what it gets.
  defmodule Telling do
    @behaviour WebSock

    @impl true
    def init(test) do
      send(test, {:init, self()})
      {:ok, test}
    end

    @impl true
    def handle_in({data, opcode: opcode}, test), do: {:push, {opcode, data}, test}

    @impl true
    def handle_info(message, test) do
      send(test, {:handle_info, message})
      {:ok, test}
    end

    @impl true
    def terminate(reason, test), do: send(test, {:terminate, reason})
  end

  test "the packages are the genuine ones" do
    for module <- [WebSock, WebSockAdapter] do
      assert to_string(:code.which(module)) =~ ~r"/websock(_adapter)?/ebin/"
    end

    refute function_exported?(WebSock, :upgrade, 4)
  end

  describe "a WebSocket" do
    test "is the one of the handler and the state that were handed over" do
      test = self()
      server = serve(&WebSockAdapter.upgrade(&1, Telling, test, timeout: 30_000))
      socket = websocket(server)
      assert_receive {:init, pid}
      assert_echo(socket)
      send(pid, :hello)
      assert_receive {:handle_info, :hello}
      send_frame(socket, :close, <<1000::16>>)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert_receive {:terminate, :remote}
      refute_received {:handle_info, _message}
    end

    test "begins with the response of its conn: headers, cookies, and what its hooks add" do
      server =
        serve(fn conn ->
          conn
          |> put_resp_header("sec-websocket-protocol", "chat")
          |> put_resp_cookie("token", "1")
          |> register_before_send(&put_resp_header(&1, "x-hook", "#{&1.state} #{&1.status}"))
          |> WebSockAdapter.upgrade(Echo, [], [])
          |> halt()
        end)

      assert %{status: 101} = response = server |> connect() |> handshake()
      assert header(response, "sec-websocket-protocol") == ["chat"]
      assert header(response, "sec-websocket-accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
      assert header(response, "set-cookie") == ["token=1; path=/; HttpOnly"]
      assert header(response, "x-hook") == ["set 101"]
    end

    test "gets what its process was sent before, and nothing of ours" do
      test = self()

      server =
        serve(fn conn ->
          send(self(), :before)
          conn = WebSockAdapter.upgrade(conn, Telling, test, [])
          send(self(), :after)
          conn
        end)

      socket = websocket(server)
      assert_receive {:handle_info, :before}
      assert_receive {:handle_info, :after}
      assert_echo(socket)
      refute_received {:handle_info, _message}
    end

    test "comes of a Plug that receives every message" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:received, receive_all()})
          conn = WebSockAdapter.upgrade(conn, Telling, test, [])
          send(test, {:received, receive_all()})
          conn
        end)

      socket = websocket(server)
      assert_receive {:received, []}
      assert_receive {:received, []}
      assert_echo(socket)
    end

    test "may be asked for by another process than that of the request" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          Task.await(Task.async(fn -> WebSockAdapter.upgrade(conn, Telling, test, []) end))
        end)

      socket = websocket(server)
      assert_receive {:plug, pid}
      assert_receive {:init, ^pid}
      assert_echo(socket)
    end

    test "follows a page on the same connection, each with the state of its own request" do
      test = self()

      server =
        serve(fn
          %{request_path: "/page"} = conn -> send_resp(conn, 200, "page")
          conn -> WebSockAdapter.upgrade(conn, Telling, test, [])
        end)

      socket = connect(server)
      request = &head("GET", &1, handshake_headers())
      write(socket, [request.("/page"), request.("/page"), request.("/"), frame(:text, "early")])
      assert %{status: 200, body: "page"} = response(socket)
      assert %{status: 200, body: "page"} = response(socket)
      assert %{status: 101} = response(socket)
      assert recv_frame(socket) == {:text, "early"}
    end

    test "is each client's own, where hundreds come at once" do
      server =
        serve(fn conn ->
          WebSockAdapter.upgrade(conn, __MODULE__.Named, conn.query_string, [])
        end)

      1..300
      |> Task.async_stream(
        fn n ->
          socket = websocket(server, "/?#{n}")
          send_frame(socket, :text, "")
          assert recv_frame(socket) == {:text, "#{n}"}
        end,
        max_concurrency: 50,
        timeout: 60_000
      )
      |> Stream.run()
    end

    test "costs no process of the recorder's, and neither does a page or a failure" do
      server =
        serve(fn
          %{request_path: "/ws"} = conn -> WebSockAdapter.upgrade(conn, Echo, [], [])
          %{request_path: "/own"} = conn -> Ferrosock.upgrade(conn, Echo, [])
          %{request_path: "/page"} = conn -> send_resp(conn, 200, "page")
          _conn -> raise "no such page"
        end)

      [socket, own] = for path <- ["/ws", "/own"], do: websocket(server, path)
      page = connect(server)
      assert %{status: 200} = handshake(page, "/page")
      assert %{status: 500} = server |> connect() |> handshake("/raise")
      eventually(fn -> keepers() == 0 end)
      for socket <- [socket, own], do: assert_echo(socket)
      assert %{status: 200} = handshake(page, "/page")
    end

    test "that its keeper was killed over is a failure that says so" do
      Logs.attach()

      server =
        serve(fn %{adapter: {_adapter, %{owner: keeper}}} = conn ->
          conn = WebSockAdapter.upgrade(conn, Echo, [], [])
          monitor = Process.monitor(keeper)
          Process.exit(keeper, :kill)
          receive do: ({:DOWN, ^monitor, _, _, :killed} -> conn)
        end)

      assert %{status: 500} = server |> connect() |> handshake()
      ended(server)
      assert [{:log, :error, text, _meta}] = Logs.taken(server)
      assert text =~ "the process that kept what was recorded has ended"
    end

    test "over TLS, and its Plug knows whom it talks to" do
      test = self()
      made = Certificates.make()

      server =
        serve(
          fn conn ->
            real = Recorder.real(conn)
            refute real.adapter == conn.adapter
            send(test, {get_peer_data(conn), get_peer_data(real)})
            WebSockAdapter.upgrade(conn, Echo, [], [])
          end,
          transport_options(:tls, made)
        )

      {:ok, socket} = connect_tls(server, verify: :verify_none)
      assert %{status: 101} = handshake(socket)
      assert_receive {%{address: {127, 0, 0, 1}} = peer, peer}
      assert_echo(socket)
    end
  end

  describe "over HTTP/2" do
    test "a WebSocket is the same for its Plug" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, conn})
          conn = put_resp_header(conn, "sec-websocket-protocol", "chat")
          WebSockAdapter.upgrade(conn, Telling, test, [])
        end)

      socket = HTTP2.connect(server)
      HTTP2.upgrade(socket, 1, "/room?a=b")
      assert {200, headers} = HTTP2.head(socket, 1)
      assert {"sec-websocket-protocol", "chat"} in headers
      HTTP2.data(socket, 1, :nofin, frame(:text, "over"))
      assert HTTP2.read(socket, 1, 6) == <<0x81, 4, "over">>

      # What WebSockAdapter asks of a handshake of HTTP/1.
      assert_receive {:plug, %{method: "GET", query_string: "a=b"} = conn}
      assert get_http_protocol(conn) == :"HTTP/1.1"
      assert [_key] = get_req_header(conn, "sec-websocket-key")
    end

    test "WebSockets satisfy PyPI's h2 and wsproto, and none is logged as an error" do
      Logs.attach()
      limits = [send_timeout: 2_000]
      plug = {HTTP2App, upgrade: WebSockAdapter}
      server = start_server!(plug: plug, http_2_options: limits, websocket_options: limits)
      Client.run_python("h2_websocket.py", ["127.0.0.1", "#{port(server)}"])
      assert for({:log, :error, text, _meta} <- Logs.taken(server), do: text) == []
    end
  end

  for compress <- [false, true] do
    test "an endpoint with compress: #{compress} satisfies PyPI's websockets" do
      server = serve(&WebSockAdapter.upgrade(&1, Echo, [], compress: unquote(compress)))
      Client.run_python("websockets_client.py", ["ws://127.0.0.1:#{port(server)}/"])
    end
  end

  describe "our own upgrade of the same request" do
    # Of a conn of Plug's tests it would not know them.
    @limits [websocket_options: [max_frame_size: 10, compress: false]]

    test "is the server's, with its limits" do
      server = serve(&Ferrosock.upgrade(&1, Echo, [], compress: true), @limits)
      offer = [{"sec-websocket-extensions", "permessage-deflate"}]
      socket = connect(server)
      assert %{status: 101} = response = handshake(socket, "/", offer)
      assert header(response, "sec-websocket-extensions") == []
      send_frame(socket, :text, "0123456789")
      assert recv_frame(socket) == {:text, "0123456789"}
      send_frame(socket, :text, "0123456789a")
      assert {:close, 1009, _reason} = recv_frame(socket)
    end

    test "is strict about its options" do
      server = serve(&Ferrosock.upgrade(&1, Echo, [], path: "/websocket"))
      Logs.attach()
      assert %{status: 500} = server |> connect() |> handshake()
      ended(server)
      assert [{:log, :error, text, _meta}] = Logs.taken(server)
      assert text =~ "unknown option :path; known are :timeout"
    end

    test "of a Sock is the server's, and may be refused in chunks" do
      defmodule Legacy do
        def init(argument), do: argument
        def negotiate(%{request_path: "/"} = conn, state), do: {:accept, conn, state, []}

        def negotiate(conn, state) do
          conn = send_chunked(conn, 403)
          {:ok, conn} = chunk(conn, "no")
          {:refuse, conn, state}
        end

        def handle_connection(_socket, state), do: {:continue, state}

        def handle_text_frame(data, socket, state) do
          :ok = Sock.Socket.send_text_frame(socket, data)
          {:continue, state}
        end

        def handle_close(_origin, _socket, _state), do: :ok
        def handle_error(_reason, _socket, _state), do: :ok
      end

      server = serve(&Ferrosock.sock(&1, Legacy, []), @limits)
      socket = websocket(server)
      assert_echo(socket)
      send_frame(socket, :text, "0123456789a")
      assert {:close, 1009, _reason} = recv_frame(socket)
      assert %{status: 403, body: "no"} = server |> connect() |> handshake("/refused")
    end
  end

  defmodule Named do
    @behaviour WebSock

    @impl true
    def init(name), do: {:ok, name}

    @impl true
    def handle_in(_message, name), do: {:push, {:text, name}, name}

    @impl true
    def handle_info(_message, name), do: {:ok, name}
  end

  defp assert_echo(socket) do
    send_frame(socket, :text, "echo")
    assert recv_frame(socket) == {:text, "echo"}
  end

  defp receive_all do
    receive do
      message -> [message | receive_all()]
    after
      0 -> []
    end
  end

  # Of all servers of this VM: the other tests' end, too.
  defp keepers do
    Enum.count(Process.list(), fn pid ->
      Process.info(pid, :initial_call) == {:initial_call, {Recorder, :init_keeper, 3}}
    end)
  end
end
