defmodule Ferrosock.WebSocket.SockTest do
  # A Sock 0.2.5 behind the server: every callback, every result, and every way in which it ends.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw

  alias Ferrosock.{ResultError, UpgradeError}
  alias Sock.Socket

  # Each callback tells the test, and then does what the test's function for it says.
  defmodule App do
    @behaviour Sock

    @impl true
    def init(state) do
      send(state.test, {:init, self()})
      state
    end

    @impl true
    def negotiate(conn, state) do
      send(state.test, {:negotiate, self(), state})
      call(state, :negotiate, [conn, state], {:accept, conn, state, []})
    end

    @impl true
    def handle_connection(socket, state), do: handle(:handle_connection, [socket, state])

    @impl true
    def handle_text_frame("sync", socket, state) do
      :ok = Socket.send_text_frame(socket, "sync")
      {:continue, state}
    end

    def handle_text_frame(data, socket, state),
      do: handle(:handle_text_frame, [data, socket, state])

    @impl true
    def handle_binary_frame(data, socket, state),
      do: handle(:handle_binary_frame, [data, socket, state])

    @impl true
    def handle_ping_frame(data, socket, state),
      do: handle(:handle_ping_frame, [data, socket, state])

    @impl true
    def handle_pong_frame(data, socket, state),
      do: handle(:handle_pong_frame, [data, socket, state])

    @impl true
    def handle_info(message, socket, state), do: handle(:handle_info, [message, socket, state])

    @impl true
    def handle_close(reason, socket, state), do: handle(:handle_close, [reason, socket, state])

    @impl true
    def handle_error(reason, socket, state), do: handle(:handle_error, [reason, socket, state])

    @impl true
    def handle_timeout(socket, state), do: handle(:handle_timeout, [socket, state])

    defp handle(callback, arguments) do
      state = List.last(arguments)
      told = Enum.drop(arguments, -2)
      send(state.test, {:called, self(), callback, told, Map.drop(state, [:test, :callbacks])})
      call(state, callback, arguments, {:continue, state})
    end

    defp call(state, callback, arguments, default) do
      case state.callbacks do
        %{^callback => fun} -> apply(fun, arguments)
        %{} -> default
      end
    end
  end

  # The callbacks of Sock 0.2.0, whose accept has no options and which had no handle_info/3.
  defmodule Old do
    def init(test), do: test
    def negotiate(conn, test), do: {:accept, conn, test}

    def handle_connection(_socket, test) do
      send(test, {:opened, self()})
      {:continue, test}
    end

    def handle_text_frame(data, socket, test) do
      Socket.send_text_frame(socket, data)
      {:continue, test}
    end

    def handle_close(_reason, _socket, _test), do: :ok
    def handle_error(_reason, _socket, _test), do: :ok
  end

  @handlers [
    :handle_connection,
    :handle_text_frame,
    :handle_binary_frame,
    :handle_ping_frame,
    :handle_pong_frame,
    :handle_info
  ]

  describe "init/1" do
    test "runs once, when a server with the option :sock starts" do
      server = serve_sock!()
      assert_received {:init, _pid}

      for _ <- 1..2, do: open(server)
      refute_received {:init, _pid}
    end

    test "runs at each request of Ferrosock.sock/3" do
      server = serve_plug!()
      refute_received {:init, _pid}
      {_socket, pid} = open(server)
      assert_received {:init, ^pid}
    end

    test "is given [] where the option names a module alone" do
      defmodule Bare do
        def init([]), do: :initial
        def negotiate(conn, :initial), do: {:refuse, Plug.Conn.resp(conn, 403, "initial"), nil}
      end

      server = start_server!(sock: Bare)
      assert %{status: 403, body: "initial"} = server |> connect() |> handshake()
    end
  end

  describe "negotiate/2" do
    test "is given the conn and the state of init/1" do
      test = self()

      server =
        serve_sock!(
          [
            negotiate: fn conn, state ->
              send(test, {:request, conn.request_path, conn.query_string, conn.state})
              {:accept, conn, state, []}
            end
          ],
          from: :init
        )

      websocket(server, "/chat?room=1")
      assert_receive {:negotiate, pid, %{from: :init}}
      assert_receive {:request, "/chat", "room=1", :unset}
      # The same process goes on.
      assert_receive {:called, ^pid, :handle_connection, [], _state}
    end

    test "may change the state, for its WebSocket alone" do
      put_path = fn conn, state ->
        {:accept, conn, Map.put(state, :path, conn.request_path), []}
      end

      server = serve_sock!([negotiate: put_path], path: nil)

      for path <- ["/a", "/b"] do
        websocket(server, path)
        assert_receive {:negotiate, pid, %{path: nil}}
        assert_receive {:called, ^pid, :handle_connection, [], %{path: ^path}}
      end
    end

    test "accepts with the response headers of the conn" do
      accept = fn conn, state ->
        conn = Plug.Conn.put_resp_header(conn, "sec-websocket-protocol", "chat")
        {:accept, Plug.Conn.put_resp_cookie(conn, "session", "1"), state, []}
      end

      response = serve_sock!(negotiate: accept) |> connect() |> handshake()
      assert %{status: 101} = response
      assert header(response, "sec-websocket-protocol") == ["chat"]
      assert header(response, "set-cookie") == ["session=1; path=/; HttpOnly"]
    end

    test "accepts without options, as of Sock 0.2.0" do
      server = serve_sock!(negotiate: fn conn, state -> {:accept, conn, state} end)
      {socket, _pid} = open(server)
      sync(socket)
    end

    test "refuses with the response that it set" do
      refuse = fn conn, state -> {:refuse, Plug.Conn.resp(conn, 403, "not you"), state} end
      socket = connect(serve_sock!(negotiate: refuse))

      # The connection lives on.
      for _ <- 1..2, do: assert(%{status: 403, body: "not you"} = handshake(socket))
      refute_received {:called, _pid, _callback, _told, _state}
    end

    test "refuses with the response that it sent" do
      refuse = fn conn, state -> {:refuse, Plug.Conn.send_resp(conn, 401, "who?"), state} end
      server = serve_sock!(negotiate: refuse)
      assert %{status: 401, body: "who?"} = server |> connect() |> handshake()
    end

    test "refuses with the response that it streamed" do
      refuse = fn conn, state ->
        conn = Plug.Conn.send_chunked(conn, 403)
        {:ok, conn} = Plug.Conn.chunk(conn, "a")
        {:ok, conn} = Plug.Conn.chunk(conn, "b")
        {:refuse, conn, state}
      end

      server = serve_sock!(negotiate: refuse)
      assert %{status: 403, body: "ab"} = server |> connect() |> handshake()
    end

    test "refuses with 400, or its own status, where it set no response" do
      server = serve_sock!(negotiate: &{:refuse, &1, &2})

      assert %{status: 400, body: "The WebSocket was refused.\n"} =
               server |> connect() |> handshake()

      server = serve_sock!(negotiate: &{:refuse, Plug.Conn.put_status(&1, 403), &2})
      assert %{status: 403} = server |> connect() |> handshake()
    end

    test "that sent a response cannot accept" do
      accept = fn conn, state -> {:accept, Plug.Conn.send_resp(conn, 200, "sent"), state, []} end
      server = serve_sock!(negotiate: accept)

      log =
        capture_log(fn ->
          socket = connect(server)
          assert %{status: 200, body: "sent"} = handshake(socket)
          assert closed?(socket)
        end)

      assert log =~ "AlreadySentError"
      refute_received {:called, _pid, _callback, _told, _state}
    end

    test "that raises is answered as a Plug that raises" do
      server = serve_sock!(negotiate: fn _conn, _state -> raise "negotiation broke" end)

      log = capture_log(fn -> assert %{status: 500} = server |> connect() |> handshake() end)
      assert log =~ "negotiation broke"
    end

    test "that returns what it must not is told so" do
      server = serve_sock!(negotiate: fn _conn, _state -> {:ok, :negotiated_wrongly} end)

      log = capture_log(fn -> assert %{status: 500} = server |> connect() |> handshake() end)
      assert log =~ "App.negotiate/2 returned {:ok, :negotiated_wrongly}: expected {:accept,"
    end

    test "that accepts with unknown options is told so" do
      server = serve_sock!(negotiate: fn conn, state -> {:accept, conn, state, timeuot: 1} end)

      log = capture_log(fn -> assert %{status: 500} = server |> connect() |> handshake() end)
      assert log =~ "unknown option :timeuot"
    end
  end

  describe "a request that is no valid handshake" do
    test "is answered by a server with the option :sock, without a negotiation" do
      server = serve_sock!()

      assert %{status: 400, body: "This is not a WebSocket handshake: " <> _} =
               server |> connect() |> request("GET", "/")

      headers = List.keydelete(handshake_headers(), "sec-websocket-key", 0)
      assert %{status: 400, body: body} = server |> connect() |> request("GET", "/", headers)
      assert body =~ "sec-websocket-key"

      assert %{status: 400, body: body} =
               server |> connect() |> request("POST", "/", handshake_headers())

      assert body =~ "GET, not POST"
      refute_received {:negotiate, _pid, _state}
    end

    test "is answered with 426 for another version of the protocol (RFC6455§4.4)" do
      server = serve_sock!()

      version = "sec-websocket-version"
      headers = List.keyreplace(handshake_headers(), version, 0, {version, "8"})
      response = server |> connect() |> request("GET", "/", headers)

      assert %{status: 426, body: "This is not a WebSocket handshake: version 8" <> _} = response
      assert header(response, version) == ["13"]
      assert header(response, "upgrade") == ["websocket"]
      refute_received {:negotiate, _pid, _state}
    end

    test "does not end its connection" do
      socket = connect(serve_sock!())
      assert %{status: 400} = request(socket, "GET", "/")
      assert %{status: 101} = handshake(socket)
    end

    test "raises in the Plug that calls Ferrosock.sock/3, without a negotiation" do
      state = state()

      server =
        serve(fn conn ->
          error = assert_raise UpgradeError, fn -> Ferrosock.sock(conn, App, state) end
          send(state.test, {:raised, error.plug_status})
        end)

      assert %{status: 200} = server |> connect() |> request("GET", "/")
      assert_received {:raised, 400}
      refute_received {:negotiate, _pid, _state}
    end
  end

  describe "a WebSocket of Ferrosock.sock/3" do
    test "runs as that of the option :sock" do
      server = serve_plug!(handle_text_frame: echo())
      {socket, pid} = open(server)
      send_frame(socket, :text, "hello")
      assert recv_frame(socket) == {:text, "hello"}
      send_frame(socket, :close, <<1000::16>>)
      assert_receive {:called, ^pid, :handle_close, [remote: 1000], _state}
    end

    test "is recorded in Plug's own tests" do
      headers = [{"host", "localhost"} | handshake_headers()]
      conn = %{Plug.Test.conn(:get, "/") | req_headers: headers}
      state = state(negotiate: &{:accept, &1, &2, timeout: 1})
      assert Ferrosock.sock(conn, App, state).state == :upgraded
      assert_received {_ref, :upgrade, {:sock, {App, ^state, [timeout: 1]}}}
    end
  end

  describe "the callback" do
    test "handle_connection/2 runs first, and once" do
      {socket, pid} = open(serve_sock!())
      send_frame(socket, :text, "a")
      assert_receive {:called, ^pid, :handle_text_frame, ["a"], _state}
      refute_received {:called, ^pid, _callback, _told, _state}
    end

    test "handle_text_frame/3 is given whole text messages" do
      {socket, pid} = open(serve_sock!())

      for text <- ["häppy", ""] do
        send_frame(socket, :text, text)
        assert_receive {:called, ^pid, :handle_text_frame, [^text], _state}
      end

      write(socket, [frame(:text, "one", fin: false), frame(:continuation, "two")])
      assert_receive {:called, ^pid, :handle_text_frame, ["onetwo"], _state}
      sync(socket)
      refute_received {:called, ^pid, _callback, _told, _state}
    end

    test "handle_binary_frame/3 is given whole binary messages" do
      {socket, pid} = open(serve_sock!())
      write(socket, [frame(:binary, <<0>>, fin: false), frame(:continuation, <<255>>)])
      assert_receive {:called, ^pid, :handle_binary_frame, [<<0, 255>>], _state}
      sync(socket)
      refute_received {:called, ^pid, _callback, _told, _state}
    end

    test "handle_ping_frame/3 is given pings that were answered" do
      server =
        serve_sock!(
          handle_ping_frame: fn _data, socket, state ->
            Socket.send_text_frame(socket, "after")
            {:continue, state}
          end
        )

      {socket, pid} = open(server)
      send_frame(socket, :ping, "payload")
      assert_receive {:called, ^pid, :handle_ping_frame, ["payload"], _state}
      assert recv_frame(socket) == {:pong, "payload"}
      assert recv_frame(socket) == {:text, "after"}
    end

    test "handle_pong_frame/3 is given pongs" do
      {socket, pid} = open(serve_sock!())
      send_frame(socket, :pong)
      assert_receive {:called, ^pid, :handle_pong_frame, [""], _state}
      sync(socket)
    end

    test "handle_info/3 is given messages, those sent before the handshake too" do
      negotiate = fn conn, state ->
        send(self(), :early)
        {:accept, conn, state, []}
      end

      {_socket, pid} = open(serve_sock!(negotiate: negotiate))
      assert_receive {:called, ^pid, :handle_info, [:early], _state}
      send(pid, {:a, "message"})
      assert_receive {:called, ^pid, :handle_info, [{:a, "message"}], _state}
    end

    test "handle_info/3 need not exist, as in Sock 0.2.0" do
      socket = websocket(start_server!(sock: {Old, self()}))
      assert_receive {:opened, pid}
      send(pid, :message)
      send_frame(socket, :text, "alive")
      assert recv_frame(socket) == {:text, "alive"}
    end
  end

  for callback <- @handlers do
    describe "the result of #{callback}" do
      @describetag callback: callback

      test "{:continue, state} keeps the state", %{callback: callback} do
        {socket, pid} = returning(callback, &{:continue, Map.put(&1, :seen, true)})
        sync(socket)
        assert %{seen: true} = :sys.get_state(pid)
      end

      test "{:close, state} closes with 1000", %{callback: callback} do
        {socket, pid} = returning(callback, &{:close, Map.put(&1, :seen, true)})
        assert recv_frame(socket) == {:close, 1000, ""}
        assert down(pid) == :normal
        assert endings(pid) == [{:handle_close, [local: 1000], %{seen: true}}]
      end

      for reason <- [:broke, :normal, :timeout, {:shutdown, :restart}] do
        test "{:error, #{inspect(reason)}, state} closes with 1011", %{callback: callback} do
          reason = unquote(reason)

          capture_log(fn ->
            {socket, pid} = returning(callback, &{:error, reason, Map.put(&1, :seen, true)})
            assert recv_frame(socket) == {:close, 1011, ""}
            assert down(pid) == reason
            assert endings(pid) == [{:handle_error, [reason], %{seen: true}}]
          end)
        end
      end

      test "that is none is a crash that names the callback and what it returned",
           %{callback: callback} do
        arity = if callback == :handle_connection, do: 2, else: 3

        log =
          capture_log(fn ->
            {socket, pid} = returning(callback, fn _state -> {:ok, :sock} end)
            assert recv_frame(socket) == {:close, 1011, ""}
            assert {%ResultError{websock: App, callback: ^callback}, [_ | _]} = reason = down(pid)
            assert endings(pid) == [{:handle_error, [reason], %{}}]
          end)

        assert log =~
                 "App.#{callback}/#{arity} returned {:ok, :sock}: expected {:continue, state}"
      end

      test "is none when it raises: handle_error/3 gets the state from before",
           %{callback: callback} do
        log =
          capture_log(fn ->
            {socket, pid} = returning(callback, fn _state -> raise "raised by a Sock" end)
            assert recv_frame(socket) == {:close, 1011, ""}
            assert {%RuntimeError{message: "raised by a Sock"}, [_ | _]} = reason = down(pid)
            assert endings(pid) == [{:handle_error, [reason], %{}}]
          end)

        assert log =~ "WebSocket #{inspect(App)} terminating"
        assert length(String.split(log, "raised by a Sock")) == 2
      end
    end
  end

  describe "the end" do
    test "by the client's close frame: {:remote, code}, and the code is echoed" do
      for code <- [1000, 1001, 1012, 4999] do
        {socket, pid} = open(serve_sock!())
        send_frame(socket, :close, <<code::16, "bye">>)
        assert recv_frame(socket) == {:close, code, ""}
        assert down(pid) == {:shutdown, :closed}
        assert endings(pid) == [{:handle_close, [remote: code], %{}}]
      end
    end

    test "by a close frame without a code: {:remote, 1005}" do
      {socket, pid} = open(serve_sock!())
      send_frame(socket, :close)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
      assert endings(pid) == [{:handle_close, [remote: 1005], %{}}]
    end

    test "by the server's stop: {:local, 1001}" do
      server = serve_sock!([], [], websocket_options: [close_timeout: 100])
      {socket, pid} = open(server)
      Supervisor.stop(server)
      assert recv_frame(socket) == {:close, 1001, ""}
      assert down(pid) == :shutdown
      assert endings(pid) == [{:handle_close, [local: 1001], %{}}]
    end

    test "by a drain of the server: {:local, code}" do
      server = serve_sock!([], [], websocket_options: [close_timeout: 100])
      {socket, pid} = open(server)
      assert Ferrosock.drain(server, code: 1012) == :ok
      assert recv_frame(socket) == {:close, 1012, ""}
      assert down(pid) == :shutdown
      assert endings(pid) == [{:handle_close, [local: 1012], %{}}]
    end

    test "by the server's max_lifetime: {:local, 1012}" do
      {socket, pid} = open(serve_sock!([], [], websocket_options: [max_lifetime: 100]))
      assert {:close, 1012, _text} = recv_frame(socket)
      assert down(pid) == {:shutdown, :max_lifetime}
      assert endings(pid) == [{:handle_close, [local: 1012], %{}}]
    end

    test "by silence: handle_timeout/2, after the accept's timeout" do
      {socket, pid} = open(serve_sock!(negotiate: &{:accept, &1, &2, timeout: 100}))
      assert recv_frame(socket) == {:close, 1001, "idle timeout"}
      assert down(pid) == {:shutdown, :timeout}
      assert endings(pid) == [{:handle_timeout, [], %{}}]
    end

    test "by a lost connection: handle_error/3" do
      {socket, pid} = open(serve_sock!())
      :gen_tcp.close(socket)
      assert down(pid) == {:shutdown, :closed}
      assert endings(pid) == [{:handle_error, [:closed], %{}}]

      {socket, pid} = open(serve_sock!())
      reset(socket)
      assert down(pid) == {:shutdown, :closed}
      assert endings(pid) == [{:handle_error, [:econnreset], %{}}]
    end

    test "by what breaks the protocol: handle_error/3 and its close code" do
      for {bytes, code} <- [
            {frame(:text, "unmasked", mask: nil), 1002},
            {frame(:continuation, "of nothing"), 1002},
            {frame(:close, <<999::16>>), 1002},
            {frame(:text, <<255>>), 1007}
          ] do
        {socket, pid} = open(serve_sock!())
        write(socket, bytes)
        assert {:close, ^code, _text} = recv_frame(socket)
        assert {:shutdown, reason} = down(pid)
        assert endings(pid) == [{:handle_error, [reason], %{}}]
      end
    end

    test "by a message over the size that the accept allows: handle_error/3 and 1009" do
      {socket, pid} = open(serve_sock!(negotiate: &{:accept, &1, &2, max_frame_size: 10}))
      send_frame(socket, :text, "eleven bytes")
      assert {:close, 1009, _text} = recv_frame(socket)
      assert down(pid) == {:shutdown, :too_big}
      assert endings(pid) == [{:handle_error, [:too_big], %{}}]
    end

    test "by a kill: 1011, and no callback" do
      {socket, pid} = open(serve_sock!())
      Process.exit(pid, :kill)
      assert recv_frame(socket) == {:close, 1011, ""}
      assert down(pid) == :killed
      assert called(pid) == []
    end

    test "is the last of the callbacks: what came with its message is not handled" do
      close = fn
        "close", _socket, state ->
          send(self(), :late)
          {:close, state}

        _data, _socket, state ->
          {:continue, state}
      end

      {socket, pid} = open(serve_sock!(handle_text_frame: close))
      write(socket, for(data <- ["before", "close", "after"], do: frame(:text, data)))
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == :normal

      assert for({callback, told, _state} <- called(pid), do: {callback, told}) == [
               handle_text_frame: ["before"],
               handle_text_frame: ["close"],
               handle_close: [local: 1000]
             ]
    end

    test "comes while the socket is open: what its callback sends precedes the close frame" do
      last = fn _reason, socket, _state -> Socket.send_text_frame(socket, "last") end
      callbacks = [handle_close: last, handle_error: last, handle_timeout: &last.(nil, &1, &2)]

      capture_log(fn ->
        for {end_it, code} <- [
              {fn _server, _socket, pid -> send(pid, &{:close, &1}) end, 1000},
              {fn _server, _socket, pid -> send(pid, &{:error, :broke, &1}) end, 1011},
              {fn _server, _socket, pid -> send(pid, fn _ -> raise "broke" end) end, 1011},
              {fn _server, socket, _pid -> send_frame(socket, :close, <<4000::16>>) end, 4000},
              {fn _server, socket, _pid -> send_frame(socket, :text, <<255>>) end, 1007},
              {fn server, _socket, _pid -> Supervisor.stop(server) end, 1001}
            ] do
          server =
            serve_sock!(
              [{:handle_info, fn fun, _, state -> fun.(state) end} | callbacks],
              [],
              websocket_options: [close_timeout: 100]
            )

          {socket, pid} = open(server)
          end_it.(server, socket, pid)
          assert recv_frame(socket) == {:text, "last"}
          assert {:close, ^code, _text} = recv_frame(socket)
        end

        negotiate = &{:accept, &1, &2, timeout: 100}
        {socket, _pid} = open(serve_sock!([negotiate: negotiate] ++ callbacks))
        assert recv_frame(socket) == {:text, "last"}
        assert recv_frame(socket) == {:close, 1001, "idle timeout"}
      end)
    end

    test "may send to a connection that is lost, which does nothing" do
      test = self()

      push = fn _reason, socket, _state ->
        send(test, {:sent, Socket.send_text_frame(socket, "into the void")})
      end

      {socket, pid} = open(serve_sock!(handle_error: push))
      reset(socket)
      assert down(pid) == {:shutdown, :closed}
      assert_received {:sent, :ok}
    end

    test "whose callback raises closes with 1011, and is reported" do
      boom = fn _reason, _socket, _state -> raise "raised by an ending Sock" end

      log =
        capture_log(fn ->
          {socket, pid} = open(serve_sock!(handle_close: boom))
          send_frame(socket, :close, <<1000::16>>)
          assert recv_frame(socket) == {:close, 1011, ""}
          assert {%RuntimeError{message: "raised by an ending Sock"}, _stacktrace} = down(pid)
          assert [{:handle_close, [remote: 1000], %{}}] = endings(pid)
        end)

      assert log =~ "WebSocket #{inspect(App)} terminating"
    end

    test "may ask for the client's close reason" do
      test = self()
      info = fn _reason, _socket, _state -> send(test, {:info, Ferrosock.close_info()}) end
      {socket, pid} = open(serve_sock!(handle_close: info))
      send_frame(socket, :close, <<4001::16, "why">>)
      down(pid)
      assert_received {:info, {4001, "why"}}
    end
  end

  describe "Sock.Socket" do
    test "sends frames of each kind, from the first callback on" do
      server =
        serve_sock!(
          handle_connection: fn socket, state ->
            assert Socket.send_text_frame(socket, "téxt") == :ok
            assert Socket.send_binary_frame(socket, <<0, 255>>) == :ok
            assert Socket.send_ping_frame(socket, "ping") == :ok
            assert Socket.send_pong_frame(socket, "") == :ok
            {:continue, state}
          end
        )

      {socket, _pid} = open(server)

      for frame <- [text: "téxt", binary: <<0, 255>>, ping: "ping", pong: ""],
          do: assert(recv_frame(socket) == frame)
    end

    test "sends before its callback returns" do
      server =
        serve_sock!(
          handle_text_frame: fn "ask", socket, state ->
            Socket.send_text_frame(socket, "question")
            receive do: (:answer -> {:continue, Map.put(state, :answered, true)})
          end
        )

      {socket, pid} = open(server)
      send_frame(socket, :text, "ask")
      assert recv_frame(socket) == {:text, "question"}
      send(pid, :answer)
      sync(socket)
      assert %{answered: true} = :sys.get_state(pid)
    end

    test "keeps the order of what callbacks send" do
      server =
        serve_sock!(
          handle_text_frame: fn data, socket, state ->
            Socket.send_text_frame(socket, data)
            Socket.send_text_frame(socket, data <> "'")
            {:continue, state}
          end
        )

      {socket, _pid} = open(server)
      write(socket, for(i <- 1..50, do: [frame(:text, "#{i}"), frame(:ping, "#{i}")]))
      frames = for _ <- 1..150, do: recv_frame(socket)

      assert for({:text, data} <- frames, do: data) == Enum.flat_map(1..50, &["#{&1}", "#{&1}'"])
      assert for({:pong, data} <- frames, do: data) == Enum.map(1..50, &"#{&1}")
    end

    test "sends what came before a failure" do
      fail = fn _data, socket, _state ->
        Socket.send_text_frame(socket, "before")
        raise "failed"
      end

      capture_log(fn ->
        {socket, _pid} = open(serve_sock!(handle_text_frame: fail))
        send_frame(socket, :text, "go")
        assert recv_frame(socket) == {:text, "before"}
        assert recv_frame(socket) == {:close, 1011, ""}
      end)
    end

    test "may be kept in the state" do
      server =
        serve_sock!(
          handle_connection: fn socket, state -> {:continue, Map.put(state, :kept, socket)} end,
          handle_info: fn :send, _socket, state ->
            Socket.send_text_frame(state.kept, "kept")
            {:continue, state}
          end
        )

      {socket, pid} = open(server)
      send(pid, :send)
      assert recv_frame(socket) == {:text, "kept"}
    end

    test "may be used by another process" do
      {socket, sender} = open_with_socket()
      assert Socket.send_text_frame(sender, "from the test") == :ok
      assert recv_frame(socket) == {:text, "from the test"}
    end

    test "does nothing once the WebSocket has ended" do
      {socket, sender} = open_with_socket()
      send_frame(socket, :close, <<1000::16>>)
      down(sender.owner)
      assert Socket.send_text_frame(sender, "late") == :ok
      assert recv_frame(socket) == {:close, 1000, ""}
      assert recv_frame(socket) == {:error, :closed}
    end

    test "raises on a ping or pong over 125 bytes (RFC6455§5.5)" do
      {socket, sender} = open_with_socket()
      payload = String.duplicate("p", 125)
      assert Socket.send_ping_frame(sender, payload) == :ok
      assert recv_frame(socket) == {:ping, payload}

      for send <- [&Socket.send_ping_frame/2, &Socket.send_pong_frame/2] do
        assert_raise ArgumentError, ~r/126 bytes/, fn -> send.(sender, payload <> "p") end
      end
    end

    test "raises on what is no data" do
      {_socket, sender} = open_with_socket()

      for data <- [nil, :atom, 1],
          do: assert_raise(ArgumentError, fn -> Socket.send_text_frame(sender, data) end)
    end

    test "waits while the client is slow" do
      client = flooded(websocket_options: [high_water_mark: 100_000, send_timeout: 60_000])
      refute_receive {:flooded, _pid}, 300

      :ok = :inet.setopts(client, recbuf: 1_000_000, buffer: 1_000_000)
      for _ <- 1..200, do: assert({:binary, <<_::800_000>>} = recv_frame(client))
      assert_receive {:flooded, pid}
      assert Process.alive?(pid)
      sync(client)
    end

    test "gives up a client that stays slow: handle_error/3 with :slow_client" do
      options = [websocket_options: [high_water_mark: 100_000, send_timeout: 200]]

      log =
        capture_log(fn ->
          client = flooded(options)
          # The callback that sends goes on: the rest of its pushes does nothing.
          assert_receive {:flooded, pid}
          reason = down(pid)

          assert {endings(pid), reason} ==
                   {[{:handle_error, [:slow_client], %{}}], {:shutdown, :slow_client}}

          assert closed?(client)
        end)

      assert log =~ "(#{inspect(App)}) with 1013: slow client"
    end

    test "gives up a client that another process finds slow" do
      limits = [high_water_mark: 100_000, send_timeout: 200, close_timeout: 500]
      options = [websocket_options: limits]
      {client, sender} = open_with_socket(options, recbuf: 1000)

      for _ <- 1..200, do: assert(Socket.send_binary_frame(sender, <<0::800_000>>) == :ok)
      # The engine, too, finds it slow, and may be the first.
      assert {:shutdown, reason} = down(sender.owner)
      assert reason in [:closed, :slow_client]
      assert [{:handle_error, [_reason], %{}}] = endings(sender.owner)
      assert closed?(client)
      # Nothing of the wait stays behind.
      assert {:messages, messages} = Process.info(self(), :messages)
      assert for({ref, _} = message when is_reference(ref) <- messages, do: message) == []
    end
  end

  describe "the options" do
    test ":plug and :sock exclude each other, and one is needed" do
      plug = fn conn, _ -> conn end

      assert_raise ArgumentError, ~r/:plug and :sock exclude each other/, fn ->
        Ferrosock.start_link(plug: plug, sock: {App, state()})
      end

      assert_raise ArgumentError, ~r/option :plug is required.* :sock is/, fn ->
        Ferrosock.start_link(port: 0)
      end
    end

    test ":sock is a module, or one with an argument" do
      for wrong <- ["App", nil, true, {nil, 1}, {App, 1, 2}, fn -> App end] do
        assert_raise ArgumentError, ~r/invalid value for option :sock/, fn ->
          Ferrosock.start_link(sock: wrong)
        end
      end
    end

    test "the line at the start names the Sock" do
      log = capture_log(fn -> serve_sock!([], [], startup_log: :info) end)
      assert log =~ "Running #{inspect(App)} with Ferrosock"
    end
  end

  # The argument of App's init/1.
  defp state(callbacks \\ [], state \\ []),
    do: Map.merge(%{test: self(), callbacks: Map.new(callbacks)}, Map.new(state))

  defp serve_sock!(callbacks \\ [], state \\ [], options \\ []),
    do: start_server!([sock: {App, state(callbacks, state)}, id: make_ref()] ++ options)

  defp serve_plug!(callbacks \\ []) do
    state = state(callbacks)
    start_server!(plug: fn conn, _ -> Ferrosock.sock(conn, App, state) end)
  end

  # A WebSocket whose handle_connection/2 is running or has run, and its process.
  defp open(server, options \\ []) do
    socket = websocket(server, "/", [], options)
    assert_receive {:called, pid, :handle_connection, [], _state}
    Process.monitor(pid)

    # The VM may hold the monitor back until the process has ended, which it would call `:noproc`:
    # yielding sends it, and by the answer the process has it.
    :erlang.yield()
    assert Process.alive?(pid)
    {socket, pid}
  end

  # A WebSocket and what it sends with.
  defp open_with_socket(server_options \\ [], options \\ []) do
    test = self()

    handle_connection = fn socket, state ->
      send(test, {:socket, socket})
      {:continue, state}
    end

    server = serve_sock!([handle_connection: handle_connection], [], server_options)
    {client, pid} = open(server, options)
    assert_receive {:socket, %{owner: ^pid} = socket}
    {client, socket}
  end

  # A client that does not read, and a callback that sends it 20 MB.
  defp flooded(options) do
    test = self()

    flood = fn "flood", socket, state ->
      for _ <- 1..200, do: assert(Socket.send_binary_frame(socket, <<0::800_000>>) == :ok)
      send(test, {:flooded, self()})
      {:continue, state}
    end

    server = serve_sock!([handle_text_frame: flood], [], options)
    {client, _pid} = open(server, recbuf: 1000)
    send_frame(client, :text, "flood")
    client
  end

  # Makes the callback return what `fun` makes of the state.
  defp returning(callback, fun) do
    server = serve_sock!([{callback, when_triggered(callback, fun)}])
    {socket, pid} = open(server)
    trigger(callback, socket, pid)
    {socket, pid}
  end

  # Not before the process is monitored.
  defp when_triggered(:handle_connection, fun) do
    fn _socket, state ->
      receive do: (:go -> fun.(state))
    end
  end

  defp when_triggered(_callback, fun), do: fn _message, _socket, state -> fun.(state) end

  defp trigger(:handle_text_frame, socket, _pid), do: send_frame(socket, :text, "go")
  defp trigger(:handle_binary_frame, socket, _pid), do: send_frame(socket, :binary, "go")
  defp trigger(:handle_ping_frame, socket, _pid), do: ping(socket)
  defp trigger(:handle_pong_frame, socket, _pid), do: send_frame(socket, :pong, "go")
  defp trigger(_connection_or_info, _socket, pid), do: send(pid, :go)

  defp ping(socket) do
    send_frame(socket, :ping, "go")
    assert recv_frame(socket) == {:pong, "go"}
  end

  # Waits until all that the server was sent before is handled, and nothing else was sent.
  defp sync(socket) do
    send_frame(socket, :text, "sync")
    assert recv_frame(socket) == {:text, "sync"}
  end

  # Waits for the end of a process that `open/2` monitors, and returns its exit reason.
  defp down(pid) do
    assert_receive {:DOWN, _monitor, :process, ^pid, reason}
    reason
  end

  # The callbacks that ran in the process and were not received yet.
  defp called(pid, called \\ []) do
    receive do
      {:called, ^pid, callback, told, state} -> called(pid, [{callback, told, state} | called])
    after
      0 -> Enum.reverse(called)
    end
  end

  # Those of them that tell of an end.
  defp endings(pid) do
    for {callback, _told, _state} = ending <- called(pid),
        callback in [:handle_close, :handle_error, :handle_timeout],
        do: ending
  end

  defp echo do
    fn data, socket, state ->
      Socket.send_text_frame(socket, data)
      {:continue, state}
    end
  end
end
