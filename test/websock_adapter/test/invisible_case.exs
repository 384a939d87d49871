defmodule WebSockAdapterTests.InvisibleTest do
  # Handshakes that are answered with something else than a WebSocket, and requests that are none.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.{Echo, HTTP2, Logs}
  alias Ferrosock.WebSocket.Recorder

  defmodule Unavailable do
    defexception message: "not now", plug_status: 503
  end

  defmodule Handled do
    use Plug.Router
    use Plug.ErrorHandler

    plug :match
    plug :dispatch

    get("/", do: raise("failed #{conn.request_path}"))

    @impl true
    def handle_errors(conn, %{kind: kind, reason: reason}),
      do: send_resp(conn, conn.status, "handled #{kind}: #{Exception.message(reason)}")
  end

  defmodule Debugged do
    use Plug.Router
    use Plug.Debugger

    plug :match
    plug :dispatch

    get("/", do: if(conn.adapter, do: raise(ArgumentError, "debugged")))
  end

  # An adapter of the app's own around the one that the conn has.
  defmodule Around do
    def wrap(%{adapter: adapter} = conn), do: %{conn | adapter: {__MODULE__, adapter}}

    def send_resp({adapter, payload}, status, headers, body) do
      headers = [{"x-around", "1"} | headers]
      {:ok, body, payload} = adapter.send_resp(payload, status, headers, body)
      {:ok, body, {adapter, payload}}
    end

    def send_chunked({adapter, payload}, status, headers) do
      {:ok, body, payload} = adapter.send_chunked(payload, status, headers)
      {:ok, body, {adapter, payload}}
    end

    def chunk({adapter, payload}, data), do: adapter.chunk(payload, data)
    def get_peer_data({adapter, payload}), do: adapter.get_peer_data(payload)
  end

  @large String.duplicate("a page that is compressed ", 20_000)

  # Each is served twice, as a handshake that is recorded and as one that is not: what the client gets is the same.
  @answers [
    {"a page", quote(do: &send_resp(&1, 200, "page"))},
    {"a page in pieces", quote(do: &send_resp(&1, 200, ["pa", [?g, "e"]]))},
    {"a page that is only set", quote(do: &resp(&1, 404, "none"))},
    {"a page without a body", quote(do: &send_resp(&1, 204, ""))},
    {"a large page", quote(do: &send_resp(&1, 200, unquote(@large)))},
    {"a page with a name in capitals of its header",
     quote(
       do: fn conn ->
         send_resp(%{conn | resp_headers: [{"X-Capitals", "1"} | conn.resp_headers]}, 200, "")
       end
     )},
    {"a page with cookies and hooks",
     quote(
       do: fn conn ->
         conn
         |> put_resp_cookie("a", "1")
         |> register_before_send(&put_resp_cookie(&1, "b", "2"))
         |> register_before_send(&put_resp_header(&1, "x-body", &1.resp_body))
         |> send_resp(200, "page")
       end
     )},
    {"a page after informational responses",
     quote(do: &(&1 |> inform(103, [{"link", "<a>"}]) |> send_resp(200, "page")))},
    {"a page of another process",
     quote(do: fn conn -> Task.await(Task.async(fn -> send_resp(conn, 200, "task") end)) end)},
    {"a page of another process, whose conn is lost",
     quote(
       do: fn conn ->
         Task.await(Task.async(fn -> send_resp(conn, 200, "task") end))
         conn
       end
     )},
    {"a page of an adapter of the app's own",
     quote(do: fn conn -> conn |> unquote(Around).wrap() |> send_resp(200, "around") end)},
    {"a page of such an adapter, and a failure",
     quote(
       do: fn conn ->
         conn |> unquote(Around).wrap() |> send_resp(200, "around")
         raise "afterwards"
       end
     )},
    {"a page after its body is read",
     quote(
       do: fn conn ->
         {:ok, body, conn} = read_body(conn)
         send_resp(conn, 200, inspect(body))
       end
     )},
    {"two pages", quote(do: &(&1 |> send_resp(200, "one") |> send_resp(200, "two")))},
    {"what a page said it was", quote(do: &send_resp(&1, 200, inspect(facts(&1))))},
    {"no page", quote(do: & &1)},
    {"no conn", quote(do: fn _conn -> throw(:no_conn) end)},
    {"a raise", quote(do: fn _conn -> raise "failed" end)},
    {"a raise with a status", quote(do: fn _conn -> raise unquote(Unavailable) end)},
    {"a raise after a page",
     quote(
       do: fn conn ->
         send_resp(conn, 200, "page")
         raise "afterwards"
       end
     )},
    {"a raise after an upgrade",
     quote(
       do: fn conn ->
         # WebSockAdapter would not do it for a conn that is not recorded.
         args = {Echo, [], []}
         upgrade_adapter(conn, :websocket, args)
         raise "afterwards"
       end
     )},
    {"an exit", quote(do: fn _conn -> exit(:failed) end)},
    {"a header that HTTP does not have",
     quote(do: &send_resp(%{&1 | resp_headers: [{"x", "a\0"}]}, 200, "page"))},
    {"an informational response with a header that HTTP does not have",
     quote(do: &(&1 |> inform(103, [{"x", "a\0"}]) |> send_resp(200, "page")))},
    {"an upgrade to what nobody speaks", quote(do: &upgrade_adapter(&1, :gopher, []))},
    {"an error page of Plug.ErrorHandler", quote(do: &unquote(Handled).call(&1, []))},
    {"an error page of Plug.Debugger", quote(do: &unquote(Debugged).call(&1, []))}
  ]

  for {answer, plug} <- @answers do
    test "a handshake that gets #{answer} is answered as it is without the recorder" do
      plug = unquote(plug)
      recorded = fn conn, _ -> plug.(recorded!(conn)) end
      real = fn conn, _ -> plug.(Recorder.real(conn)) end

      [with_recorder, without] = for plug <- [recorded, real], do: answers(plug)
      assert with_recorder == without
    end
  end

  defp recorded!(%{adapter: {Plug.Adapters.Test.Conn, %{real: _}}} = conn), do: conn

  defp facts(conn), do: {get_peer_data(conn).address, get_http_protocol(conn), conn.req_headers}

  # What a client gets of it, up to the end of the connection, and whether something is logged.
  defp answers(plug) do
    Logs.attach()
    server = start_server!(plug: plug, id: make_ref())
    socket = connect(server)
    accept = [{"accept-encoding", "gzip"}]
    write(socket, head("GET", "/", handshake_headers() ++ accept))
    again = handshake_headers() ++ [{"connection", "close"}]
    write(socket, head("GET", "/", again))
    bytes = Regex.replace(~r/^date: .*\r\n/m, read_all(socket), "")
    ended(server)
    logged = for {:log, level, text, _meta} <- Logs.taken(server), do: {level, first_line(text)}
    {bytes, logged}
  end

  defp first_line(text), do: text |> String.split("\n") |> hd()

  test "a page is sent when the Plug sends it, not when the Plug has ended" do
    test = self()

    server =
      serve(fn conn ->
        conn = send_resp(conn, 200, "page")
        send(test, {:waits, self()})
        receive do: (:go -> conn)
      end)

    assert %{status: 200, body: "page"} = server |> connect() |> handshake()
    assert_receive {:waits, pid}
    send(pid, :go)
  end

  test "our own functions find the connection of a conn that records" do
    test = self()

    server =
      serve(fn conn ->
        ref = Ferrosock.notify_disconnect(conn)
        false = Ferrosock.disconnected?(conn)
        send(test, :waits)
        receive do: ({:ferrosock, :disconnected, ^ref} -> send(test, :disconnected))
      end)

    socket = connect(server)
    write(socket, head("GET", "/", handshake_headers()))
    assert_receive :waits
    reset(socket)
    assert_receive :disconnected
  end

  test "the process that is served is told what Plug tells it" do
    test = self()

    server =
      serve(fn conn ->
        send(test, {:owner, conn.owner in [nil, self()]})
        conn = send_resp(conn, 200, "page")
        assert_receive {:plug_conn, :sent}
        conn
      end)

    assert %{status: 200} = server |> connect() |> handshake()
    assert_received {:owner, true}
  end

  # What the recorder could not do as without it: Plug's test adapter would gather it in memory.
  describe "a handshake that is answered" do
    for {answer, plug} <- [
          {"with a file", quote(do: &send_file(&1, 200, __ENV__.file))},
          {"in chunks",
           quote(
             do: fn conn ->
               conn = send_chunked(conn, 200)
               for _ <- Stream.cycle([1]), do: {:ok, _} = chunk(conn, "event")
             end
           )},
          {"in chunks by an adapter of the app's own",
           quote(do: &(&1 |> unquote(Around).wrap() |> send_chunked(200)))}
        ] do
      test "#{answer} gets a 400 that says so, before anything is read or gathered" do
        Logs.attach()
        server = serve(unquote(plug))
        assert %{status: 400, body: body} = server |> connect() |> handshake()

        assert body =~
                 ~r/^This is a WebSocket handshake, .* neither with a file nor in chunks\.\n$/

        ended(server)
        assert Logs.taken(server) == []
      end
    end
  end

  describe "a request that is no handshake is not recorded:" do
    @stray [{"connection", "upgrade"}, {"upgrade", "h2c"}]

    for {request, method, headers} <- [
          {"one without upgrade", "GET", []},
          {"one with another upgrade", "GET", @stray},
          {"a POST", "POST", handshake_headers() ++ [{"content-length", "0"}]},
          {"one without a key", "GET",
           List.keydelete(handshake_headers(), "sec-websocket-key", 0)},
          {"one of another version", "GET",
           List.keyreplace(
             handshake_headers(),
             "sec-websocket-version",
             0,
             {"sec-websocket-version", "8"}
           )},
          {"one with a body", "GET",
           (handshake_headers() ++ [{"content-length", "0"}, {"transfer-encoding", "chunked"}])
           |> List.keydelete("content-length", 0)}
        ] do
      test request do
        test = self()

        server =
          serve(fn conn ->
            send(test, {:adapter, elem(conn.adapter, 0), conn.private, conn.req_headers})
            send_file(conn, 200, __ENV__.file)
          end)

        socket = connect(server)
        method = unquote(method)
        headers = unquote(headers)
        write(socket, head(method, "/", headers))
        if {"transfer-encoding", "chunked"} in headers, do: write(socket, "0\r\n\r\n")
        assert %{status: 200, body: "defmodule" <> _} = response(socket, method)
        assert_received {:adapter, Ferrosock.Adapter, private, seen}
        assert private == %{}
        assert seen == [{"host", "localhost"} | headers]
      end
    end

    test "events, with a stray upgrade" do
      server =
        serve(fn conn ->
          conn = conn |> put_resp_content_type("text/event-stream") |> send_chunked(200)
          {:ok, conn} = chunk(conn, "data: 1\n\n")
          receive do: (:go -> conn), after: (20_000 -> conn)
        end)

      socket = connect(server)
      write(socket, head("GET", "/", @stray))

      assert eventually(fn ->
               :gen_tcp.recv(socket, 0, 20_000) |> elem(1) |> String.ends_with?("data: 1\n\n\r\n")
             end)
    end

    test "a body that comes slowly" do
      server =
        serve(fn conn ->
          {:ok, body, conn} = read_body(conn)
          send_resp(conn, 200, body)
        end)

      socket = connect(server)
      write(socket, head("POST", "/", @stray ++ [{"content-length", "2"}]))
      write_alone(server, socket, "a")
      write(socket, "b")
      assert %{status: 200, body: "ab"} = response(socket)
    end

    test "one of HTTP/2" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:adapter, elem(conn.adapter, 0), get_http_protocol(conn)})
          send_resp(conn, 200, "page")
        end)

      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/")
      assert %{status: 200, body: "page"} = HTTP2.response(socket, 1)
      assert_received {:adapter, Ferrosock.Adapter, :"HTTP/2"}
    end
  end
end
