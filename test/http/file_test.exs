defmodule Ferrosock.HTTP.FileTest do
  # Larger files: those that the kernel sends by itself, and those that are encrypted first.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.{Certificates, Logs}

  # Some pieces and a part of one, no two bytes alike where a slip would matter.
  @size 2_500_000

  setup_all do
    folder = tmp_path()
    File.mkdir_p!(folder)
    path = Path.join(folder, "numbers")
    content = for n <- 1..div(@size, 4), into: "", do: <<n::32>>
    File.write!(path, content)
    %{folder: folder, path: path, content: content}
  end

  defp serve_file(path, options \\ []) do
    serve(
      fn
        %{request_path: "/small"} = conn -> send_resp(conn, 200, "small")
        %{query_string: ""} = conn -> send_file(conn, 200, path)
        %{query_string: range} = conn -> send_range(conn, path, range)
      end,
      options
    )
  end

  defp send_range(conn, path, range) do
    [offset, length] = range |> String.split("-") |> Enum.map(&String.to_integer/1)
    send_file(conn, 206, path, offset, length)
  end

  defp unix(folder),
    do: [ip: {:local, Path.join(folder, "#{System.unique_integer([:positive])}")}]

  test "is followed by the responses to what was pipelined behind it", context do
    for options <- [[], unix(context.folder)] do
      socket = context.path |> serve_file(options) |> connect()
      paths = ["/small", "/", "/", "/small", "/?1-524288", "/small"]
      write(socket, Enum.map_join(paths, &head("GET", &1)))

      for path <- paths, do: assert_body(response(socket), path, context.content)
    end
  end

  # Not by an assertion that would print both.
  defp assert_same(body, content), do: assert(same?(body, content))
  defp same?(body, content), do: body == content

  defp assert_body(%{body: body}, "/", content), do: assert_same(body, content)
  defp assert_body(%{body: body}, "/small", _content), do: assert(body == "small")

  defp assert_body(%{body: body}, "/?1-524288", content),
    do: assert_same(body, binary_part(content, 1, 524_288))

  test "is sent as any range", %{path: path, content: content} do
    path |> serve_file() |> connect() |> assert_ranges(content)
  end

  test "is sent with TLS, as any range", %{path: path, content: content} do
    made = Certificates.make()
    server = serve_file(path, scheme: :https, cert: made.cert, key: made.key)
    {:ok, socket} = connect_tls(server, cacerts: made.authorities)
    assert_same(request(socket, "GET", "/").body, content)
    assert_ranges(socket, content)
  end

  # Around the ends of pages, of what is read whole, and of pieces.
  defp assert_ranges(socket, content) do
    for offset <- [0, 1, 4095, 524_287],
        length <- [1, 65_536, 65_537, 524_288, 524_289, 1_600_000] do
      response = request(socket, "GET", "/?#{offset}-#{length}")
      assert response.status == 206
      assert_same(response.body, binary_part(content, offset, length))
    end
  end

  test "is sent to a client of HTTP/1.0, until the connection ends or not", %{
    path: path,
    content: content
  } do
    server = serve_file(path)
    socket = connect(server)
    write(socket, "GET / HTTP/1.0\r\n\r\n")

    assert ["HTTP/1.0 200 OK\r\n" <> _, body] = socket |> read_all() |> :binary.split("\r\n\r\n")
    assert_same(body, content)
    socket = connect(server)

    for _ <- 1..2 do
      write(socket, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
      assert_same(response(socket).body, content)
    end
  end

  test "leaves nothing behind for the request after a HEAD", %{path: path, content: content} do
    socket = path |> serve_file() |> connect()
    write(socket, head("HEAD", "/") <> head("GET", "/?7-700000") <> head("HEAD", "/?1-2"))
    assert header(response(socket, "HEAD"), "content-length") == ["#{@size}"]
    assert_same(response(socket).body, binary_part(content, 7, 700_000))
    assert header(response(socket, "HEAD"), "content-length") == ["2"]
    assert_same(request(socket, "GET", "/").body, content)
  end

  test "comes after the informational responses before it", %{path: path, content: content} do
    server =
      serve(fn conn ->
        conn |> inform!(103, [{"x-early", "1"}]) |> send_file(200, path)
      end)

    socket = connect(server)

    for _ <- 1..2 do
      write(socket, head("GET", "/"))
      assert response(socket).status == 103
      assert_same(response(socket).body, content)
    end
  end

  # A Unix socket takes some 200 kB, so that a part of the only piece waits.
  test "is no idle connection while its last piece waits for the client", context do
    options = [http_1_options: [idle_timeout: 100]] ++ unix(context.folder)
    socket = context.path |> serve_file(options) |> connect()
    write(socket, head("GET", "/?0-500000"))
    Process.sleep(500)
    assert_same(response(socket).body, binary_part(context.content, 0, 500_000))
  end

  test "is closed as soon as it is sent, or cannot be sent any more", %{
    folder: folder,
    content: content
  } do
    path = Path.join(folder, "closed")
    File.write!(path, content)
    server = serve_file(path)
    socket = connect(server)
    assert_same(request(socket, "GET", "/").body, content)
    eventually(fn -> open(path) == 0 end)
    assert request(socket, "GET", "/small").body == "small"

    large = Path.join(folder, "large")
    File.write!(large, :binary.copy(content, 20))
    Logs.attach()
    test = self()

    server =
      serve(fn conn ->
        send(test, {:plug, self()})
        send_file(conn, 200, large)
      end)

    for leave <- [&:gen_tcp.close/1, &reset/1] do
      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      assert read(socket, 4) == "HTTP"
      eventually(fn -> open(large) == 1 end)
      leave.(socket)
      eventually(fn -> open(large) == 0 end)
      assert_receive {:plug, pid}
      eventually(fn -> not Process.alive?(pid) end)
      assert Logs.taken(pid) == []
    end
  end

  # Of this very process of the operating system.
  defp open(path) do
    Enum.count(File.ls!("/proc/self/fd"), &(File.read_link("/proc/self/fd/#{&1}") == {:ok, path}))
  end

  test "is sent whole by a server that stops", %{folder: folder, content: content} do
    path = Path.join(folder, "stopping")
    content = :binary.copy(content, 8)
    File.write!(path, content)
    server = serve_file(path)
    socket = connect(server, recbuf: 16_384)
    write(socket, head("GET", "/"))
    assert read(socket, 4) == "HTTP"
    draining = Task.async(fn -> Ferrosock.drain(server) end)
    eventually(fn -> refused?(server) end)
    assert String.ends_with?(read_all(socket), content)
    assert Task.await(draining, 20_000) == :ok
  end

  test "that shrinks is cut off where it ends", %{folder: folder, content: content} do
    path = Path.join(folder, "shrinking")
    content = :binary.copy(content, 8)
    File.write!(path, content)
    socket = path |> serve_file() |> connect(recbuf: 16_384)
    write(socket, head("GET", "/"))
    assert read(socket, 4) == "HTTP"

    # Not to a part of it: the kernel clears the rest of the last page, also where that is on its way.
    File.write!(path, "")
    [_head, body] = socket |> read_all() |> :binary.split("\r\n\r\n")
    assert byte_size(body) < byte_size(content)
    assert_same(body, binary_part(content, 0, byte_size(body)))
  end
end
