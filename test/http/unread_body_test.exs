defmodule Ferrosock.HTTP.UnreadBodyTest do
  # What becomes of a connection whose request had a body that the Plug has not read (RFC9112§9.3): a rest
  # of a bounded length is read, and the connection goes on; else the response says that it does not.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Certificates

  @limit 100_000

  setup_all do
    [made: Certificates.make()]
  end

  setup context do
    made = transport_options(context[:transport] || :tcp, context.made)
    options = context[:options] || [max_unread_length: @limit]
    [server: serve(&answer/1, made ++ [http_1_options: options])]
  end

  defp answer(%{path_info: [kind | rest]} = conn), do: kind |> respond(take(conn, rest))

  # Reads as many bytes as the second segment of the path says.
  defp take(conn, []), do: conn

  defp take(conn, [length]) do
    {_more_or_ok, _read, conn} = read_body(conn, length: String.to_integer(length))
    conn
  end

  defp respond("whole", conn), do: send_resp(conn, 200, conn.request_path)
  defp respond("large", conn), do: send_resp(conn, 200, :binary.copy("x", 1_000_000))
  defp respond("none", conn), do: send_resp(conn, 204, "")
  defp respond("unmodified", conn), do: send_resp(conn, 304, "")
  defp respond("file", conn), do: send_file(conn, 200, __ENV__.file)

  defp respond("chunks", conn) do
    conn = send_chunked(conn, 200)
    {:ok, conn} = chunk(conn, conn.request_path)
    conn
  end

  # After its response the Plug may still want the body.
  defp respond("read_later", conn) do
    conn = send_chunked(conn, 200)
    {:ok, body, conn} = read_body(conn)
    {:ok, conn} = chunk(conn, "#{byte_size(body)}")
    conn
  end

  defp respond("closes", conn),
    do: conn |> put_resp_header("connection", "close") |> send_resp(200, "close")

  defp client(server, :tls) do
    {:ok, socket} = connect_tls(server, verify: :verify_none)
    socket
  end

  defp client(server, _transport), do: connect(server)

  defp post(path, body), do: [head("POST", path, [{"content-length", byte_size(body)}]), body]

  defp chunked(path, pieces) do
    coded =
      for piece <- pieces, do: [Integer.to_string(byte_size(piece), 16), "\r\n", piece, "\r\n"]

    [head("POST", path, [{"transfer-encoding", "chunked"}]), coded, "0\r\n\r\n"]
  end

  # Looks like requests, so that none can be taken for one unseen.
  defp bytes(size) do
    request = head("GET", "/smuggled")
    binary_part(:binary.copy(request, div(size, byte_size(request)) + 1), 0, size)
  end

  @kinds ~w(/whole /whole/10 /large /chunks /none /unmodified /file /chunks/10)

  for transport <- [:tcp, :tls], path <- @kinds, size <- [1, 5_000, @limit] do
    @tag transport: transport, path: path, size: size
    test "#{path} over #{transport} after #{size} bytes goes on", context do
      %{path: path, size: size, transport: transport} = context
      socket = client(context.server, transport)

      # At once; in a segment of its own; and after the response.
      for pause <- [:none, :head, :response] do
        [head, body] = post(path, bytes(size))
        if pause == :none, do: write(socket, [head, body, head("GET", "/whole")])
        if pause != :none, do: write_alone(context.server, socket, head)
        if pause == :head, do: write(socket, [body, head("GET", "/whole")])

        # The Plug waits for what it reads.
        if pause == :response and path =~ "10",
          do: write(socket, binary_part(body, 0, min(size, 10)))

        assert header(response(socket), "connection") == []
        read = if path =~ "10", do: min(size, 10), else: 0

        if pause == :response,
          do: write(socket, [binary_part(body, read, size - read), head("GET", "/whole")])

        assert %{status: 200, body: "/whole"} = response(socket)
      end
    end
  end

  for path <- @kinds do
    @tag path: path
    test "#{path} past the limit says close", %{server: server, path: path} do
      for sent <- [0, 10, 50_000] do
        socket = connect(server)
        body = bytes(2 * @limit)
        write(socket, head("POST", path, [{"content-length", byte_size(body)}]))
        write(socket, binary_part(body, 0, if(path =~ "10", do: max(sent, 10), else: sent)))
        assert header(response(socket), "connection") == ["close"]
        # What the client still sends is read, so that no reset takes the response away.
        write(socket, bytes(1_000_000))
        assert closed?(socket)
      end
    end

    @tag path: path
    test "#{path} after chunks that have all come goes on", %{server: server, path: path} do
      socket = connect(server)

      for pieces <- [["body"], [bytes(20), bytes(30_000), "c"], for(_ <- 1..40, do: "a"), []] do
        write(socket, [chunked(path, pieces), head("GET", "/whole")])
        assert header(response(socket), "connection") == []
        assert %{status: 200, body: "/whole"} = response(socket)
      end
    end

    @tag path: path
    test "#{path} after chunks without an end says close", %{server: server, path: path} do
      for coded <- ["a\r\n0123456789\r\n", "a\r\n0123456789\r\n0\r\n", "20\r\n0123456789"] do
        socket = connect(server)
        write(socket, [head("POST", path, [{"transfer-encoding", "chunked"}]), coded])
        assert header(response(socket), "connection") == ["close"]
        _ = :gen_tcp.send(socket, "0\r\n\r\n" <> head("GET", "/whole"))
        assert read_all(socket) == ""
      end
    end
  end

  test "many small chunks that nobody reads are not kept", %{server: server} do
    socket = connect(server)
    # They have come before the Plug is called, or not: the response tells.
    write(socket, chunked("/whole", for(_ <- 1..5_000, do: "a")))
    response = response(socket)
    write(socket, head("GET", "/whole"))

    case header(response, "connection") do
      [] -> assert %{status: 200} = response(socket)
      ["close"] -> assert closed?(socket)
    end
  end

  test "a body whose end does not come closes the connection, silently", %{server: server} do
    socket = connect(server)
    write(socket, head("POST", "/whole", [{"content-length", 10}]) <> "part")
    assert header(response(socket), "connection") == []
    assert read_all(socket) == ""
  end

  # RFC9110§10.1.1
  test "a body that was expected and never asked for says close, and is not asked for", %{
    server: server
  } do
    for framing <- [{"content-length", 4}, {"transfer-encoding", "chunked"}],
        path <- ["/whole", "/chunks", "/file"] do
      socket = connect(server)
      write(socket, head("POST", path, [framing, {"expect", "100-Continue"}]))
      assert %{status: 200} = response = response(socket)
      assert header(response, "connection") == ["close"]
      assert closed?(socket)
    end
  end

  test "a body that was expected and has been asked for in part goes on", %{server: server} do
    socket = connect(server)
    headers = [{"content-length", "20"}, {"expect", "100-continue"}]
    write(socket, head("POST", "/whole/10", headers))
    assert %{status: 100} = response(socket)
    write(socket, bytes(20) <> head("GET", "/whole"))
    assert header(response(socket), "connection") == []
    assert %{status: 200, body: "/whole"} = response(socket)
  end

  test "an expectation without a body is none", %{server: server} do
    socket = connect(server)
    headers = [{"content-length", "0"}, {"expect", "100-continue"}]
    write(socket, head("POST", "/whole", headers) <> head("GET", "/whole"))
    assert header(response(socket), "connection") == []
    assert %{status: 200} = response(socket)
  end

  test "a response that has begun leaves the body to the Plug", %{server: server} do
    socket = connect(server)

    for size <- [1, 5_000, @limit] do
      [head, body] = post("/read_later", bytes(size))
      write_alone(server, socket, head)
      write(socket, body)
      response = response(socket)
      assert response.body == "#{size}"
      assert header(response, "connection") == []
    end

    # That of chunks is told if it has come before the response begins.
    other = connect(server)
    write(other, chunked("/read_later", [bytes(5_000)]))
    assert response(other).body == "5000"

    # It says close, as it cannot know; and is read all the same.
    body = bytes(@limit + 1)
    write(socket, post("/read_later", body))
    response = response(socket)
    assert response.body == "#{@limit + 1}"
    assert header(response, "connection") == ["close"]
    assert closed?(socket)
  end

  test "a client that says close is not waited for", %{server: server} do
    for version <- ["1.0", "1.1"] do
      socket = connect(server)

      head =
        "POST /whole HTTP/#{version}\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n"

      write(socket, head <> "\r\npart")
      assert %{status: 200} = response(socket)
      assert closed?(socket, 1_000)
    end
  end

  test "an app that says close is not waited for", %{server: server} do
    socket = connect(server)
    write(socket, head("POST", "/closes", [{"content-length", 10}]) <> "part")
    assert header(response(socket), "connection") == ["close"]
    assert closed?(socket, 1_000)
  end

  @tag options: [max_unread_length: 0]
  test "max_unread_length: 0 reads nothing", %{server: server} do
    socket = connect(server)
    write(socket, head("POST", "/whole", [{"content-length", 1}]))
    assert header(response(socket), "connection") == ["close"]
    assert closed?(socket)
  end

  test "HTTP/1.0 with keep-alive goes on, too", %{server: server} do
    socket = connect(server)
    line = "POST /whole HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\n"
    write(socket, line)
    assert header(response(socket), "connection") == ["keep-alive"]
    write(socket, "body" <> line <> "body")
    assert header(response(socket), "connection") == ["keep-alive"]
  end

  test "a stop does not wait for the rest of a body" do
    # The rest has three seconds. The machine may be busy for as long, but not each time.
    assert Enum.any?(1..5, fn _ ->
             server = serve(&answer/1)
             socket = connect(server)
             write(socket, head("POST", "/whole", [{"content-length", 10}]) <> "part")
             assert %{status: 200} = response(socket)
             {time, :ok} = :timer.tc(fn -> Supervisor.stop(server, :shutdown) end, :millisecond)
             time < 2_500
           end)
  end
end
