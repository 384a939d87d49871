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

  # Told by what was read last being LF, and none of the data.
  for {name, coded} <- [
        {"after the last chunk", "5\r\nhello\r\n0\r\n\n"},
        {"after the only chunk", "0\r\n\n"},
        {"after an extension", "0;a\r\n\n"},
        {"after trailers", "0\r\na: b\r\n\n"}
      ] do
    test "a lone LF #{name} is malformed, at once" do
      bytes = head("POST", "/case", @chunked) <> unquote(coded)
      server = server()

      for at <- [
            byte_size(bytes),
            byte_size(bytes) - 1,
            byte_size(bytes) - byte_size(unquote(coded))
          ] do
        socket = connect(server)
        <<before::binary-size(at), rest::binary>> = bytes
        write_alone(server, socket, before)
        if rest != "", do: write(socket, rest)
        assert %{status: 400} = response(socket)
        assert closed?(socket)
      end
    end
  end

  test "a lone LF that is data is data, wherever the bytes are split" do
    coded = "4\r\n0\r\n\n\r\n10\r\n\n23456789012345\n\r\n1\r\n\n\r\n0\r\n\r\n"
    server = server()
    socket = connect(server)

    for at <- 0..byte_size(coded) do
      <<before::binary-size(at), rest::binary>> = coded
      write_alone(server, socket, head("POST", "/case", @chunked) <> before)
      write(socket, rest <> head("GET", "/next"))
      assert response(socket).body == "/case0\r\n\n\n23456789012345\n\n"
      assert response(socket).body == "/next"
    end
  end

  test "a lone LF that ends a head is none of the body" do
    server = server()
    socket = connect(server)
    head = "POST /case HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\n"
    write_alone(server, socket, head)
    write(socket, "5\r\nhello\r\n0\r\n\r\n")
    assert response(socket).body == "/casehello"
  end

  test "a lone LF after data that ends in one is told when more comes, or when the time is over" do
    for {rest, status} <- [{head("GET", "/next"), 400}, {"", 408}] do
      socket = connect(server(read_timeout: 200))
      write(socket, head("POST", "/case", @chunked) <> "6\r\nhello\n\r\n0\r\n\n" <> rest)
      assert %{status: ^status} = response(socket)
      assert read_all(socket) == ""
    end
  end

  # One of chunks has its end where hyper says.
  for {name, bytes, status} <- [
        {"a fragment is cut off", "GET /next#a HTTP/1.1\r\nhost: a\r\n\r\n", 200},
        {"a list of codings that ends in nothing is refused",
         "POST /next HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked,\r\n\r\n0\r\n\r\n", 400},
        {"a character that no URI has is refused", "GET /next< HTTP/1.1\r\nhost: a\r\n\r\n", 400},
        {"a target that is too long is a head that is",
         "GET /#{String.duplicate("a", 70_000)} HTTP/1.1\r\nhost: a\r\n\r\n", 431}
      ] do
    test "in a head that came together with chunks before it, #{name}" do
      socket = connect(server())
      first = head("POST", "/first", @chunked) <> "1\r\na\r\n0\r\n\r\n"
      write(socket, first <> unquote(bytes))
      assert response(socket).body == "/firsta"
      assert response(socket).status == unquote(status)
    end
  end

  for {name, bytes, status} <- [
        {"a fragment is refused", "GET /next#a HTTP/1.1\r\nhost: a\r\n\r\n", 400},
        {"a list of codings that ends in nothing is served",
         "POST /next HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked,\r\n\r\n0\r\n\r\n", 200},
        {"a character that no URI has is served", "GET /next< HTTP/1.1\r\nhost: a\r\n\r\n", 200},
        {"a target that is too long is one that is",
         "GET /#{String.duplicate("a", 70_000)} HTTP/1.1\r\nhost: a\r\n\r\n", 414},
        {"a method that is too long is one that is",
         "#{String.duplicate("a", 70_000)} / HTTP/1.1\r\nhost: a\r\n\r\n", 501}
      ] do
    test "in a head that came together with another request before it, #{name}" do
      for first <- [head("GET", "/first"), head("POST", "/first", [{"content-length", 1}]) <> "a"] do
        socket = connect(server())
        write(socket, first <> first <> unquote(bytes))
        for _ <- 1..2, do: assert(response(socket).body =~ "/first")
        assert response(socket).status == unquote(status)
      end
    end
  end
end
