defmodule Ferrosock.WebSocket.HandshakeTest do
  # From the request to the 101, as bytes. What `upgrade/4` says to a conn is tested apart.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Probe
  alias Ferrosock.UpgradeError

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  defmodule Wrapper do
    # An adapter of an app's own, around ours.
    def upgrade({adapter, payload}, protocol, argument) do
      with {:ok, payload} <- adapter.upgrade(payload, protocol, argument),
           do: {:ok, {adapter, payload}}
    end

    def websocket_options({adapter, payload}), do: adapter.websocket_options(payload)
    def get_http_protocol({adapter, payload}), do: adapter.get_http_protocol(payload)
  end

  defmodule Forbidden do
    defexception message: "you shall not pass", plug_status: 403
  end

  describe "a valid handshake" do
    test "is answered with 101 and the RFC's sample accept for its sample key (RFC6455§1.3)" do
      socket = connect(Socket.serve!())
      response = handshake(socket)

      assert response.status == 101
      assert header(response, "sec-websocket-accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
      assert [connection] = header(response, "connection")
      assert String.downcase(connection) == "upgrade"
      assert [upgrade] = header(response, "upgrade")
      assert String.downcase(upgrade) == "websocket"
      assert header(response, "sec-websocket-extensions") == []
      assert header(response, "sec-websocket-protocol") == []
      assert header(response, "content-length") == []
    end

    test "may write its tokens in any case and among others (RFC6455§4.2.1)" do
      socket = connect(Socket.serve!())

      headers =
        replace("connection", "keep-alive, UPGRADE")
        |> replace("upgrade", "h2c, WebSocket")

      assert %{status: 101} = request(socket, "GET", "/", headers)
      send_frame(socket, :text, "hello")
      assert recv_frame(socket) == {:text, "hello"}
    end

    test "is a failure where an adapter of the app's own stays around ours, and says whose" do
      state = Probe.state([])

      plug = fn conn, _ ->
        Ferrosock.upgrade(%{conn | adapter: {Wrapper, conn.adapter}}, Socket, state)
      end

      log =
        capture_log(fn ->
          socket = connect(start_server!(plug: plug))
          assert %{status: 500} = handshake(socket)
          assert closed?(socket)
        end)

      assert log =~
               "a conn with the adapter Ferrosock.WebSocket.HandshakeTest.Wrapper cannot become"
    end

    test "may follow other requests of its connection" do
      state = Probe.state([])

      plug = fn
        %{path_info: ["ws"]} = conn, _ -> Ferrosock.upgrade(conn, Socket, state)
        conn, _ -> Plug.Conn.send_resp(conn, 200, "first")
      end

      socket = connect(start_server!(plug: plug))
      assert %{body: "first"} = request(socket, "GET", "/")
      assert %{status: 101} = handshake(socket, "/ws")
      send_frame(socket, :text, "hello")
      assert recv_frame(socket) == {:text, "hello"}
    end

    test "does not lose frames that came together with it" do
      socket = connect(Socket.serve!())
      frames = [frame(:text, "first"), frame(:text, "", fin: false), frame(:continuation, "sec")]
      write(socket, [head("GET", "/", handshake_headers()) | frames])

      assert %{status: 101} = response(socket)
      assert recv_frame(socket) == {:text, "first"}
      assert recv_frame(socket) == {:text, "sec"}
    end

    test "does not lose the half of a frame that came together with it" do
      socket = connect(Socket.serve!())
      <<half::binary-size(7), rest::binary>> = frame(:text, "hello")
      write(socket, head("GET", "/", handshake_headers()) <> half)
      assert %{status: 101} = response(socket)
      write(socket, rest)
      assert recv_frame(socket) == {:text, "hello"}
    end

    test "is delivered in one piece however its bytes were cut" do
      socket = connect(Socket.serve!())
      for <<byte <- head("GET", "/", handshake_headers())>>, do: write(socket, <<byte>>)
      assert %{status: 101} = response(socket)
      send_frame(socket, :text, "hello")
      assert recv_frame(socket) == {:text, "hello"}
    end

    test "is followed at once by what init/1 pushes" do
      server = Socket.serve!(init: fn state -> {:push, {:text, "welcome"}, state} end)
      {socket, _pid} = Socket.open(server)
      assert recv_frame(socket) == {:text, "welcome"}
    end
  end

  describe "the 101 carries" do
    test "the subprotocol and other headers that the app set" do
      response =
        upgraded(fn conn ->
          conn
          |> Plug.Conn.put_resp_header("sec-websocket-protocol", "graphql-ws")
          |> Plug.Conn.put_resp_header("x-request-id", "abc")
        end)

      assert header(response, "sec-websocket-protocol") == ["graphql-ws"]
      assert header(response, "x-request-id") == ["abc"]
    end

    test "no length, whatever the app set (RFC9110§8.6)" do
      response = upgraded(&Plug.Conn.put_resp_header(&1, "content-length", "5"))
      assert header(response, "content-length") == []
    end

    test "headers that were set after upgrade/4" do
      state = Probe.state([])

      plug = fn conn, _ ->
        conn
        |> Ferrosock.upgrade(Socket, state)
        |> Map.update!(:resp_headers, &[{"x-late", "yes"} | &1])
      end

      response = handshake(connect(start_server!(plug: plug)))
      assert header(response, "x-late") == ["yes"]
    end

    test "cookies" do
      response =
        upgraded(fn conn ->
          conn
          |> Plug.Conn.put_resp_cookie("session", "s1", http_only: true)
          |> Plug.Conn.put_resp_cookie("other", "o2")
        end)

      assert [_, _] = cookies = header(response, "set-cookie")
      assert Enum.any?(cookies, &(&1 =~ "session=s1" and &1 =~ "HttpOnly"))
      assert Enum.any?(cookies, &(&1 =~ "other=o2"))
    end

    test "what before_send hooks add, which run once and see the 101" do
      test = self()

      response =
        upgraded(fn conn ->
          Plug.Conn.register_before_send(conn, fn conn ->
            send(test, {:before_send, conn.status})
            Plug.Conn.put_resp_header(conn, "x-hook", "ran")
          end)
        end)

      assert header(response, "x-hook") == ["ran"]
      assert_received {:before_send, 101}
      refute_received {:before_send, _}
    end
  end

  describe "a handshake with" do
    for {title, header, value} <- [
          {"no connection header", "connection", nil},
          {"a connection header without upgrade", "connection", "keep-alive"},
          {"no upgrade header", "upgrade", nil},
          {"an upgrade to something else", "upgrade", "h2c"},
          {"no key", "sec-websocket-key", nil},
          {"a key that is not Base64", "sec-websocket-key", "*********************=="},
          {"a key of 15 bytes", "sec-websocket-key", Base.encode64(<<0::120>>)},
          {"a key of 17 bytes", "sec-websocket-key", Base.encode64(<<0::136>>)},
          {"an empty key", "sec-websocket-key", ""},
          {"no version", "sec-websocket-version", nil}
        ] do
      test "#{title} is answered with 400, and the app can tell why (RFC6455§4.2.1)" do
        headers = replace(unquote(header), unquote(value))
        assert %{status: 400, body: reason} = rescued("GET", headers)
        assert reason =~ "not a WebSocket handshake"
        assert reason =~ "`#{unquote(header)}`"

        assert %{status: 400, body: "This is not a WebSocket handshake" <> _} =
                 unrescued("GET", headers)
      end
    end

    test "two keys is answered with 400" do
      headers = handshake_headers() ++ [{"sec-websocket-key", Base.encode64(<<0::128>>)}]
      assert %{status: 400, body: reason} = rescued("GET", headers)
      assert reason =~ "sec-websocket-key"
    end

    for {header, value, body} <- [
          {"content-length", "5", "hello"},
          {"transfer-encoding", "chunked", "5\r\nhello\r\n0\r\n\r\n"}
        ] do
      test "a body, by #{header}, is answered with 400, and the body is not taken for frames" do
        socket = connect(Socket.serve!())
        headers = handshake_headers() ++ [{unquote(header), unquote(value)}]
        write(socket, [head("GET", "/", headers), unquote(body), frame(:text, "hi")])
        assert %{status: 400, body: reason} = response(socket)
        assert reason =~ "body"
        assert closed?(socket)
      end
    end

    test "an empty body is accepted" do
      headers = handshake_headers() ++ [{"content-length", "0"}]
      assert %{status: 101} = request(connect(Socket.serve!()), "GET", "/", headers)
    end

    test "no host is answered with 400 (RFC9112§3.2)" do
      socket = connect(Socket.serve!())
      lines = for {name, value} <- handshake_headers(), do: "#{name}: #{value}\r\n"
      write(socket, ["GET / HTTP/1.1\r\n", lines, "\r\n"])
      assert %{status: 400} = response(socket)
    end

    for version <- ["8", "7", "14", "013", ""] do
      test "version #{inspect(version)} is answered with 426 and the one we speak (RFC6455§4.4)" do
        headers = replace("sec-websocket-version", unquote(version))
        response = unrescued("GET", headers)
        assert response.status == 426
        assert header(response, "sec-websocket-version") == ["13"]
        # RFC9110§15.5.22 and §7.8
        assert header(response, "upgrade") == ["websocket"]
        assert Enum.join(header(response, "connection"), ", ") =~ "upgrade"
        assert response.body =~ "only 13 is"
        assert %{status: 426} = rescued("GET", headers)
      end
    end

    test "POST is answered with 400" do
      assert %{status: 400, body: reason} = rescued("POST", handshake_headers())
      assert reason =~ "GET, not POST"
    end

    test "HEAD is answered with 400" do
      assert %{status: 400} = unrescued("HEAD", handshake_headers())
    end

    test "HTTP/1.0 is answered with 400" do
      request = head("GET", "/", handshake_headers()) |> String.replace("HTTP/1.1", "HTTP/1.0")
      socket = connect(rescuing_server())
      write(socket, request)
      assert %{status: 400, body: reason} = response(socket)
      assert reason =~ "HTTP/1.0"
    end
  end

  describe "early_validate_upgrade: false" do
    test "lets the Plug go on and answers once it has returned" do
      server = recording_server([early_validate_upgrade: false], [])

      response = request(connect(server), "GET", "/", replace("sec-websocket-version", "8"))
      assert response.status == 426
      assert header(response, "sec-websocket-version") == ["13"]
      assert_received {:recorded, :upgraded}

      assert %{status: 400} = request(connect(server), "GET", "/")
      assert_received {:recorded, :upgraded}
      assert %{status: 101} = handshake(connect(server))
    end

    test "may be the server's default" do
      server = recording_server([], websocket_options: [early_validate_upgrade: false])
      assert %{status: 400} = request(connect(server), "GET", "/")
      assert_received {:recorded, :upgraded}
    end
  end

  describe "a Plug that fails after upgrade/4" do
    test "gets the usual error page and no WebSocket" do
      socket = failing(fn -> raise "after the upgrade" end)

      log =
        capture_log(fn ->
          assert %{status: 500} = handshake(socket)
          assert closed?(socket)
        end)

      assert log =~ "after the upgrade"
      refute_received {:opened, _pid}
    end

    test "gets the status of its exception" do
      socket = failing(fn -> raise Forbidden end)
      assert %{status: 403} = handshake(socket)
      refute_received {:opened, _pid}
    end

    test "because of a header that HTTP forbids gets a 500 without it" do
      for header <- [{"x-cr", "a\r\nx: y"}, {"x-nul", "\0"}, {"x bad", "value"}] do
        plug = fn conn, _ ->
          Ferrosock.upgrade(%{conn | resp_headers: [header]}, Socket, Probe.state([]))
        end

        capture_log(fn ->
          response = handshake(connect(start_server!(plug: plug, id: make_ref())))
          assert {response.status, header(response, "x")} == {500, []}
        end)
      end
    end

    test "by a throw or an exit gets a 500" do
      for fail <- [fn -> throw(:ball) end, fn -> exit(:gone) end] do
        capture_log(fn -> assert %{status: 500} = handshake(failing(fail)) end)
        refute_received {:opened, _pid}
      end
    end

    test "in its before_send hook gets the error page too" do
      state = Probe.state([])

      plug = fn conn, _ ->
        conn
        |> Plug.Conn.register_before_send(fn _conn -> raise "in the hook" end)
        |> Ferrosock.upgrade(Socket, state)
      end

      socket = connect(start_server!(plug: plug))
      log = capture_log(fn -> assert %{status: 500} = handshake(socket) end)
      assert log =~ "in the hook"
      refute_received {:opened, _pid}
    end
  end

  test "options of upgrade/4 that are wrong raise in the Plug, with the known ones named" do
    socket = connect(Socket.serve!([], timeuot: 1))
    log = capture_log(fn -> assert %{status: 500} = handshake(socket) end)
    assert log =~ "unknown option :timeuot"
    assert log =~ ":max_frame_size"
  end

  # Tells the test when upgrade/4 has returned.
  defp recording_server(upgrade_options, server_options) do
    test = self()
    state = Probe.state([])

    plug = fn conn, _ ->
      conn = Ferrosock.upgrade(conn, Socket, state, upgrade_options)
      send(test, {:recorded, conn.state})
      conn
    end

    start_server!([plug: plug] ++ server_options)
  end

  defp upgraded(prepare) do
    state = Probe.state([])
    plug = fn conn, _ -> conn |> prepare.() |> Ferrosock.upgrade(Socket, state) end
    response = handshake(connect(start_server!(plug: plug)))
    assert response.status == 101
    response
  end

  defp rescued(method, headers), do: request(connect(rescuing_server()), method, "/", headers)

  defp unrescued(method, headers) do
    server = Socket.serve!([], [], id: make_ref())
    request(connect(server), method, "/", headers)
  end

  defp rescuing_server do
    state = Probe.state([])

    plug = fn conn, _ ->
      try do
        Ferrosock.upgrade(conn, Socket, state)
      rescue
        error in UpgradeError ->
          Plug.Conn.send_resp(conn, error.plug_status, Exception.message(error))
      end
    end

    start_server!(plug: plug, id: make_ref())
  end

  defp failing(fail) do
    state = Probe.state([])

    plug = fn conn, _ ->
      Ferrosock.upgrade(conn, Socket, state)
      fail.()
    end

    connect(start_server!(plug: plug, id: make_ref()))
  end

  defp replace(headers \\ handshake_headers(), name, value)
  defp replace(headers, name, nil), do: List.keydelete(headers, name, 0)
  defp replace(headers, name, value), do: List.keyreplace(headers, name, 0, {name, value})
end
