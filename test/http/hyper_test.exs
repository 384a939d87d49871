defmodule Ferrosock.HTTP.HyperTest do
  # Where a request is read as hyper has it and not as RFC 9112 has it: `hyper.md` says why. A case that
  # changes fails here, and its row there can go.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  @chunked [{"transfer-encoding", "chunked"}]

  defp server(options \\ []) do
    serve(fn conn ->
      {:ok, body, conn} = read_body(conn, options)
      send_resp(conn, 200, conn.request_path <> body)
    end)
  end

  for {name, coded} <- [
        {"an empty extension", "5;\r\nhello\r\n0\r\n\r\n"},
        {"an extension with NUL", "5;\0ext\r\nhello\r\n0\r\n\r\n"},
        {"an extension that has no tokens", "5;bad[=x\r\nhello\r\n0\r\n\r\n"},
        {"a space after the size", "5 \r\nhello\r\n0\r\n\r\n"}
      ] do
    test "#{name} is ignored, and what follows is the next request" do
      socket = connect(server())
      write(socket, head("POST", "/case", @chunked) <> unquote(coded) <> head("GET", "/next"))
      assert response(socket).body == "/casehello"
      assert response(socket).body == "/next"
    end
  end

  test "a lone LF after the last chunk is no end: it is waited for, and told" do
    socket = connect(server(read_timeout: 100))
    write(socket, head("POST", "/case", @chunked) <> "5\r\nhello\r\n0\r\n\n")
    assert %{status: 408} = response(socket)
    assert closed?(socket)

    socket = connect(server())

    write(
      socket,
      head("POST", "/case", @chunked) <> "5\r\nhello\r\n0\r\n\n" <> head("GET", "/next")
    )

    :ok = :gen_tcp.shutdown(socket, :write)
    assert %{status: 400} = response(socket)
    assert read_all(socket) == ""
  end

  test "a head that came with the request before it has no fragment either" do
    socket = connect(server())
    write(socket, head("GET", "/first") <> head("GET", "/next#fragment"))
    assert response(socket).body == "/first"
    assert response(socket).body == "/next"
  end

  test "a head that came with the request before it has no codings but the last" do
    socket = connect(server())

    write(
      socket,
      head("GET", "/first") <> head("POST", "/next", [{"transfer-encoding", "chunked,"}])
    )

    assert response(socket).body == "/first"
    assert %{status: 400} = response(socket)
    assert closed?(socket)
  end
end
