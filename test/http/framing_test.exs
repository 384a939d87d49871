defmodule Ferrosock.HTTP.FramingTest do
  # Where a request ends and the next one begins (RFC9112§6). Every case is followed, in the same
  # bytes, by a request for /next: a server that reads the case in another way than the next one on
  # the path would find something else there. Cases that are refused are in `malformed_test.exs`.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  setup do
    test = self()

    server =
      serve(fn conn ->
        {body, conn} = read(conn)
        send(test, {:served, conn.request_path, body})
        send_resp(conn, 200, conn.request_path)
      end)

    [server: server]
  end

  defp read(%{request_path: "/unread"} = conn), do: {:unread, conn}

  defp read(conn) do
    case read_body(conn) do
      {:ok, body, conn} -> {body, conn}
      {:error, reason} -> {{:error, reason}, conn}
    end
  end

  @host "host: localhost\r\n"
  @get "GET /case HTTP/1.1\r\n" <> @host
  @post "POST /case HTTP/1.1\r\n" <> @host
  @unread "POST /unread HTTP/1.1\r\n" <> @host
  @get_1_0 "GET /case HTTP/1.0\r\n"
  @chunked "transfer-encoding: chunked\r\n\r\n"
  @smuggled "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"

  # Names, the bytes, and the body that the Plug reads.
  @open [
    {"neither a length nor a coding", @post <> "\r\n", ""},
    {"a length of zero", @post <> "content-length: 0\r\n\r\n", ""},
    {"a length", @post <> "content-length: 3\r\n\r\nabc", "abc"},
    {"a length with leading zeros", @post <> "content-length: 0003\r\n\r\nabc", "abc"},
    {"a length with whitespace around it", @post <> "content-length: \t 3 \t\r\n\r\nabc", "abc"},
    {"twice the same length (RFC9110§8.6)",
     @post <> "content-length: 3\r\ncontent-length: 3\r\n\r\nabc", "abc"},
    {"a length for GET", @get <> "content-length: 3\r\n\r\nabc", "abc"},
    {"a body that looks like a request",
     @post <> "content-length: #{byte_size(@smuggled)}\r\n\r\n" <> @smuggled, @smuggled},
    {"a body that looks like a last chunk", @post <> "content-length: 5\r\n\r\n0\r\n\r\n",
     "0\r\n\r\n"},
    {"a line end too many after the body (RFC9112§2.2)",
     @post <> "content-length: 3\r\n\r\nabc\r\n", "abc"},
    {"empty lines before the request (RFC9112§2.2)", "\r\n\n\r\n" <> @get <> "\r\n", ""},
    {"bare LF for line ends (RFC9112§2.2)",
     "POST /case HTTP/1.1\nhost: localhost\ncontent-length: 3\n\nabc", "abc"},
    {"a bare LF before a header, which makes it one",
     @post <> "x: y\ncontent-length: 3\r\n\r\nabc", "abc"},
    {"a length and an upgrade that nobody serves (RFC9110§7.8)",
     @post <> "connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc", "abc"},
    {"chunks", @post <> @chunked <> "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"},
    {"chunks, and no data", @post <> @chunked <> "0\r\n\r\n", ""},
    {"chunked in any case", @post <> "Transfer-Encoding: cHuNkEd\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     "abc"},
    {"a list of codings that begins with nothing (RFC9110§5.6.1.2)",
     @post <> "transfer-encoding: , chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"},
    {"a list of codings that ends in nothing",
     @post <> "Transfer-Encoding: chunked, ,\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"},
    {"chunked with whitespace around it",
     @post <> "transfer-encoding: \t chunked \t\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"},
    {"chunk sizes in either case",
     @post <> @chunked <> "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
     "01234567890123456789"},
    {"chunk sizes with leading zeros", @post <> @chunked <> "0003\r\nabc\r\n000\r\n\r\n", "abc"},
    {"chunk sizes with whitespace after them", @post <> @chunked <> "3 \t\r\nabc\r\n0 \r\n\r\n",
     "abc"},
    {"chunk extensions (RFC9112§7.1.1)",
     @post <> @chunked <> ~s(3;a;b=c ; d="0\\"5"\r\nabc\r\n0;last\r\n\r\n), "abc"},
    {"trailers, which are dropped", @post <> @chunked <> "3\r\nabc\r\n0\r\nx: y\r\nz:\r\n\r\n",
     "abc"},
    {"trailers that must not be any (RFC9110§6.5.1)",
     @post <>
       @chunked <>
       "3\r\nabc\r\n0\r\ncontent-length: 50\r\ntransfer-encoding: chunked\r\nhost: other\r\n\r\n",
     "abc"},
    {"a chunk that looks like a request",
     @post <>
       @chunked <>
       "#{Integer.to_string(byte_size(@smuggled), 16)}\r\n" <>
       @smuggled <>
       "\r\n0\r\n\r\n", @smuggled},
    {"HTTP/1.0 that asks for keep-alive", @get_1_0 <> "connection: keep-alive\r\n\r\n", ""},
    {"HTTP/1.0 with a length that asks for keep-alive",
     "POST /case HTTP/1.0\r\nconnection: Keep-Alive\r\ncontent-length: 3\r\n\r\nabc", "abc"}
  ]

  @closed [
    {"close (RFC9112§9.6)", @get <> "connection: close\r\n\r\n", ""},
    {"close in a list", @get <> "connection: te , CLOSE\r\n\r\n", ""},
    {"close before keep-alive", @get <> "connection: close\r\nconnection: keep-alive\r\n\r\n",
     ""},
    {"close after keep-alive", @get <> "connection: keep-alive\r\nconnection: close\r\n\r\n", ""},
    {"HTTP/1.0", @get_1_0 <> "\r\n", ""},
    {"HTTP/1.0 that asks for both",
     @get_1_0 <> "connection: close\r\nconnection: keep-alive\r\n\r\n", ""},
    {"HTTP/1.0 that asks a proxy for keep-alive (RFC9112§C.2.2)",
     @get_1_0 <> "proxy-connection: keep-alive\r\n\r\n", ""},
    {"HTTP/1.0 with a length", "POST /case HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc", "abc"},
    # RFC9112§6.1: the coding wins.
    {"a length and then a coding",
     @post <> "content-length: 3\r\n" <> @chunked <> "2\r\nde\r\n0\r\n\r\n", "de"},
    {"a coding and then a length",
     @post <> "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n2\r\nde\r\n0\r\n\r\n",
     "de"},
    {"a coding between two lengths",
     @post <>
       "content-length: 3\r\nTransfer-Encoding: Chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
     ""},
    {"a coding and a length that covers what follows",
     @post <> "content-length: 9999\r\n" <> @chunked <> "0\r\n\r\n", ""},
    {"a coding and a length that is none",
     @post <> "transfer-encoding: chunked\r\ncontent-length: none\r\n\r\n0\r\n\r\n", ""},
    {"a coding, a length and keep-alive",
     @post <> "connection: keep-alive\r\ncontent-length: 3\r\n" <> @chunked <> "0\r\n\r\n", ""},
    {"a chunk size that is none", @post <> @chunked <> "x\r\n", {:error, :closed}},
    {"a chunk that is longer than its size", @post <> @chunked <> "2\r\nabc\r\n0\r\n\r\n",
     {:error, :closed}},
    {"an unread length past what comes", @unread <> "content-length: 9999\r\n\r\n", :unread},
    {"an unread length past what can come",
     @unread <> "content-length: 18446744073709551613\r\n\r\n", :unread},
    {"unread chunks without an end", @unread <> @chunked <> "fff\r\n", :unread},
    {"unread chunks that are none", @unread <> @chunked <> "x\r\n\r\n", :unread}
  ]

  for {name, bytes, body} <- @open do
    @tag bytes: bytes, body: body
    test "after a request with #{name} comes the next", %{
      server: server,
      bytes: bytes,
      body: body
    } do
      socket = connect(server)
      write(socket, bytes <> keep_alive("/next"))
      assert %{status: 200, body: "/case"} = response(socket)
      assert %{status: 200, body: "/next"} = response(socket)
      assert served() == [{"/case", body}, {"/next", ""}]
      write(socket, keep_alive("/last"))
      assert %{status: 200, body: "/last"} = response(socket)
    end
  end

  for {name, bytes, body} <- @closed do
    @tag bytes: bytes, body: body
    test "after a request with #{name} the connection ends", context do
      socket = connect(context.server)
      write(socket, context.bytes <> keep_alive("/next"))
      assert [[_only_one]] = Regex.scan(~r"HTTP/1.[01] \d{3} ", read_all(socket))
      assert [{_path, body}] = served()
      assert body == context.body
    end
  end

  # Whatever the connection has been so far.
  defp keep_alive(path), do: head("GET", path, [{"connection", "keep-alive"}])

  defp served(served \\ []) do
    receive do
      {:served, path, body} -> served([{path, body} | served])
    after
      0 -> Enum.reverse(served)
    end
  end

  test "a large body that is not read is never taken for requests", %{server: server} do
    body = String.duplicate(@smuggled, 20_000)
    size = byte_size(body)
    chunk = [Integer.to_string(size, 16), "\r\n", body, "\r\n"]

    for {coded, framing} <- [
          {body, {"content-length", size}},
          {[chunk, "0\r\n\r\n"], {"transfer-encoding", "chunked"}},
          {[List.duplicate("1\r\nG\r\n", 10_000), chunk, "0\r\n\r\n"],
           {"transfer-encoding", "chunked"}}
        ] do
      socket = connect(server)
      # The server may have closed before it has read all of this.
      _ = :gen_tcp.send(socket, [head("POST", "/unread", [framing]), coded, keep_alive("/next")])
      assert %{status: 200, body: "/unread"} = response(socket)
      _ = :gen_tcp.shutdown(socket, :write)
      refute read_all(socket) =~ "smuggled"
      assert [{"/unread", :unread} | rest] = served()
      assert rest in [[], [{"/next", ""}]]
    end
  end

  test "requests that are split anywhere are the same as at once", %{server: server} do
    bytes =
      @post <>
        "content-length: 3\r\n\r\nabc\r\n" <>
        @post <>
        @chunked <>
        "2;x=y\r\nde\r\n10\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n" <> @get <> "\r\n"

    for at <- 1..(byte_size(bytes) - 1) do
      {before, rest} = String.split_at(bytes, at)
      socket = connect(server)
      write_alone(server, socket, before)
      write(socket, rest)
      for _ <- 1..3, do: assert(%{status: 200} = response(socket))
      bodies = for {"/case", body} <- served(), do: body
      assert bodies == ["abc", "de0123456789abcdef", ""], "split at #{at}"
      :gen_tcp.close(socket)
    end
  end
end
