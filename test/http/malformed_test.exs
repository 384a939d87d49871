defmodule Ferrosock.HTTP.MalformedTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Logs

  setup do
    Logs.attach()
    test = self()

    server =
      serve(
        fn conn ->
          send(test, {:plug, conn.request_path})
          {_, _, conn} = Plug.Conn.read_body(conn)
          Plug.Conn.send_resp(conn, 200, conn.request_path)
        end,
        http_1_options: [
          max_request_line_length: 1_000,
          max_header_length: 10_000,
          max_header_count: 20,
          header_timeout: 1_000
        ]
      )

    [server: server]
  end

  @line "GET / HTTP/1.1\r\n"
  @host "host: localhost\r\n"
  @get @line <> @host
  @post "POST / HTTP/1.1\r\n" <> @host

  # Names, the status that answers, and the bytes.
  @refused [
    {"a request line of one word", 400, "GET\r\n\r\n"},
    {"a request line of two words (HTTP/0.9)", 400, "GET /\r\n\r\n"},
    {"a request line of four words", 400, "GET / / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a method that is no token", 400, "G@T / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a method with a byte past ASCII", 400,
     "G" <> <<0xC9>> <> "T / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a space before the method", 400, " " <> @get <> "\r\n"},
    {"a target that is no URI", 400, "GET nowhere HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"an asterisk for another method than OPTIONS", 400, "GET * HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target that is an authority", 400, "GET localhost:80 HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with a space", 400, "GET /a b HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with NUL", 400, "GET /\0 HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with a lone CR", 400, "GET /\rx HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with a tab", 400, "GET /\tx HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with DEL", 400, "GET /\x7f HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target that is not UTF-8", 400,
     "GET /" <> <<0xE9>> <> " HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target that is a query alone", 400, "GET ?a=b HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with a scheme and no host", 400,
     "GET http:///path HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with two ports", 400, "GET http://localhost:1:2/ HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"two spaces after the method", 400, "GET  / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"two spaces before the version", 400, "GET /  HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a space after the version", 400, "GET / HTTP/1.1 \r\n" <> @host <> "\r\n"},
    {"bare CR for line ends", 400, "GET / HTTP/1.1\rhost: localhost\r\r"},
    {"a bare CR before the request line", 400, "\r" <> @get <> "\r\n"},
    {"no version", 400, "GET / \r\n" <> @host <> "\r\n"},
    {"version 1.2", 400, "GET / HTTP/1.2\r\n" <> @host <> "\r\n"},
    {"version 2.0", 400, "GET / HTTP/2.0\r\n" <> @host <> "\r\n"},
    {"a version in lower case", 400, "GET / http/1.1\r\n" <> @host <> "\r\n"},
    {"a version with more digits", 400, "GET / HTTP/1.10\r\n" <> @host <> "\r\n"},
    {"CONNECT", 501, "CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n"},
    {"a header without a colon", 400, @get <> "x-none\r\n\r\n"},
    {"a header without a name", 400, @get <> ": value\r\n\r\n"},
    {"a space before the colon (RFC9112§5.1)", 400, @get <> "x-space : value\r\n\r\n"},
    {"a tab before the colon", 400, @get <> "x-tab\t: value\r\n\r\n"},
    {"a space in a name", 400, @get <> "x space: value\r\n\r\n"},
    {"NUL in a name", 400, @get <> "x\0nul: value\r\n\r\n"},
    {"a byte past ASCII in a name", 400, @get <> "x-" <> <<0xE9>> <> ": value\r\n\r\n"},
    {"parentheses in a name", 400, @get <> "x(y): value\r\n\r\n"},
    {"NUL in a value (RFC9110§5.5)", 400, @get <> "x-nul: a\0b\r\n\r\n"},
    {"a lone CR in a value", 400, @get <> "x-cr: a\rb\r\n\r\n"},
    {"a control character in a value", 400, @get <> "x-bell: a\x07b\r\n\r\n"},
    {"DEL in a value", 400, @get <> "x-del: a\x7fb\r\n\r\n"},
    {"a vertical tab around a value", 400, @get <> "x-vt: \x0ba\r\n\r\n"},
    {"a folded line (RFC9112§5.2)", 400, @get <> "x-fold: a\r\n b\r\n\r\n"},
    {"a folded first line", 400, @line <> " x: y\r\n" <> @host <> "\r\n"},
    {"no host (RFC9112§3.2)", 400, @line <> "\r\n"},
    {"two hosts", 400, @get <> "host: other\r\n\r\n"},
    {"twice the same host", 400, @get <> @host <> "\r\n"},
    {"no host next to an absolute form", 400, "GET http://localhost/ HTTP/1.1\r\n\r\n"},
    {"a host with a space", 400, @line <> "host: local host\r\n\r\n"},
    {"a host with a path", 400, @line <> "host: localhost/path\r\n\r\n"},
    {"a host with a user", 400, @line <> "host: user@localhost\r\n\r\n"},
    {"a host with a list", 400, @line <> "host: localhost, other\r\n\r\n"},
    {"a host with a list without spaces", 400, @line <> "host: localhost,other\r\n\r\n"},
    {"a host with a query", 400, @line <> "host: localhost?query\r\n\r\n"},
    {"a host with a fragment", 400, @line <> "host: localhost#fragment\r\n\r\n"},
    {"a host with a backslash", 400, @line <> "host: local\\host\r\n\r\n"},
    {"a host with half a code in percent", 400, @line <> "host: local%6ost\r\n\r\n"},
    {"a host past ASCII", 400, @line <> "host: lücalhost\r\n\r\n"},
    {"a host with brackets", 400, @line <> "host: local[host]\r\n\r\n"},
    {"a host with half a bracket", 400, @line <> "host: [::1\r\n\r\n"},
    {"a host with more than an address in brackets", 400, @line <> "host: [::1]x:80\r\n\r\n"},
    {"a port that is no number", 400, @line <> "host: localhost:port\r\n\r\n"},
    {"a port past 65535", 400, @line <> "host: localhost:65536\r\n\r\n"},
    {"a port with a sign", 400, @line <> "host: localhost:+80\r\n\r\n"},
    {"two ports", 400, @line <> "host: localhost:80:80\r\n\r\n"},
    {"a negative port", 400, @line <> "host: localhost:-1\r\n\r\n"},
    {"a port without a host", 400, @line <> "host: :80\r\n\r\n"},
    {"a user in the target", 400, "GET http://user@localhost/ HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"differing lengths (RFC9112§6.3)", 400,
     @post <> "content-length: 1\r\ncontent-length: 2\r\n\r\nab"},
    {"a list of differing lengths", 400, @post <> "content-length: 1, 2\r\n\r\nab"},
    {"a list of equal lengths", 400, @post <> "content-length: 1, 1\r\n\r\na"},
    {"a negative length", 400, @post <> "content-length: -1\r\n\r\n"},
    {"a length with a sign", 400, @post <> "content-length: +1\r\n\r\na"},
    {"a length in hexadecimal", 400, @post <> "content-length: 0x1\r\n\r\na"},
    {"a length with a fraction", 400, @post <> "content-length: 1.0\r\n\r\na"},
    {"a length with a space in it", 400, @post <> "content-length: 1 1\r\n\r\na"},
    {"a length with a parameter", 400, @post <> "content-length: 1;x\r\n\r\na"},
    {"a length in quotes", 400, @post <> "content-length: \"1\"\r\n\r\na"},
    {"a length in digits past ASCII", 400, @post <> "content-length: １\r\n\r\na"},
    {"a length on a folded line", 400, @post <> "content-length:\r\n 1\r\n\r\na"},
    {"a length with a space before the colon", 400, @post <> "content-length : 1\r\n\r\na"},
    {"a length next to an empty one", 400,
     @post <> "content-length: 1\r\ncontent-length:\r\n\r\na"},
    {"an empty length", 400, @post <> "content-length:\r\n\r\n"},
    {"a length past 64 bits", 400, @post <> "content-length: 99999999999999999999\r\n\r\n"},
    {"a length past what can be", 431, @post <> "content-length: 18446744073709551615\r\n\r\n"},
    {"a coding on HTTP/1.0 (RFC9112§6.1)", 400,
     "POST / HTTP/1.0\r\n" <> @host <> "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"a coding that does not end in chunked", 400, @post <> "transfer-encoding: gzip\r\n\r\n"},
    {"chunked before another coding", 400, @post <> "transfer-encoding: chunked, gzip\r\n\r\n"},
    {"a coding that is only like chunked", 400, @post <> "transfer-encoding: xchunked\r\n\r\n"},
    {"a coding with a control character", 400, @post <> "transfer-encoding: \x0bchunked\r\n\r\n"},
    {"another coding before chunked (RFC9112§6.1)", 501,
     @post <> "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
    {"another coding before chunked on its own line", 501,
     @post <> "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"chunked twice", 501, @post <> "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
    {"chunked on two lines", 501,
     @post <> "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"chunked with a parameter", 400, @post <> "transfer-encoding: chunked;x=y\r\n\r\n0\r\n\r\n"},
    {"chunked in quotes", 400, @post <> "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
    {"chunked on a folded line", 400, @post <> "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"},
    {"chunked with a space before the colon", 400,
     @post <> "transfer-encoding : chunked\r\n\r\n0\r\n\r\n"},
    {"an empty coding", 400, @post <> "transfer-encoding:\r\n\r\n"},
    {"a target past the limit", 414,
     "GET /#{String.duplicate("a", 1_000)} HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a query past the limit", 414,
     "GET /?#{String.duplicate("a", 1_000)} HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a method past the limit", 414,
     "#{String.duplicate("A", 1_000)} / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"an authority past the limit", 414,
     "GET http://#{String.duplicate("a", 1_000)}/ HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a method past the limit by itself (RFC9110§15.6.2)", 501,
     "#{String.duplicate("A", 1_001)} / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target past the limit of the whole head (RFC9110§15.5.15)", 414,
     "GET /#{String.duplicate("a", 70_000)} HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target past the limit that does not end", 414, "GET /#{String.duplicate("a", 2_000)}"},
    {"a method past the limit of the whole head", 501,
     "#{String.duplicate("A", 70_000)} / HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target with a fragment (RFC9112§3.2)", 400, "GET /#a HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a query with a fragment", 400, "GET /?a#b HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"an absolute form with a fragment", 400,
     "GET http://localhost/#a HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"an absolute form of another scheme", 400,
     "GET ftp://localhost/ HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a target in UTF-8 (RFC3986§2)", 400, "GET /é HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a query in UTF-8", 400, "GET /?é HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"a query with DEL", 400, "GET /?\x7f HTTP/1.1\r\n" <> @host <> "\r\n"},
    {"empty lines without an end", 431, String.duplicate("\r\n", 6_000)},
    {"too many headers", 431, @get <> String.duplicate("a: b\r\n", 20) <> "\r\n"},
    {"a header past the limit", 431, @get <> "x: #{String.duplicate("a", 10_000)}\r\n\r\n"},
    {"headers past the limit", 431,
     @get <> String.duplicate("x: #{String.duplicate("a", 1_000)}\r\n", 10) <> "\r\n"},
    {"a name past the limit", 431, @get <> String.duplicate("a", 10_000) <> ": b\r\n\r\n"},
    {"headers without an end", 431,
     @get <> String.duplicate("x: #{String.duplicate("a", 1_000)}\r\n", 12)},
    {"a TLS hello", 400, <<22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0::256, 32, 0::256>>},
    {"a WebSocket frame", 400, <<0x81, 0x85, 1, 2, 3, 4, 105, 103, 111, 104, 110>>},
    # As far as its methods go, it may be one of HTTP/2.
    {"the beginning of a preface", 400, "PRI * HTTP/2.0\r\n\r\nSM \r\n\r\n"}
  ]

  for {name, status, bytes} <- @refused do
    @tag status: status, bytes: bytes
    test "#{name} is refused with #{status}", %{server: server, status: status, bytes: bytes} do
      other = connect(server)
      assert %{status: 200} = request(other, "GET", "/other")
      assert_received {:plug, "/other"}

      {peer, received} = exchange(server, bytes)
      assert statuses(received) == [status]
      assert received =~ ~r/^(connection: close|content-length: 0)\r$/im
      refute_received {:plug, _path}
      assert length(Logs.taken(peer)) <= 1

      assert %{status: 200} = request(other, "GET", "/other")
    end
  end

  # All that comes until the server closes, and the address that it knows the client by.
  defp exchange(server, bytes) do
    socket = connect(server)
    {:ok, {_address, port}} = :inet.sockname(socket)
    _ = :gen_tcp.send(socket, bytes)
    {"127.0.0.1:#{port}", received(socket, "")}
  end

  defp received(socket, received) do
    case :gen_tcp.recv(socket, 0, 3_000) do
      {:ok, data} -> received(socket, received <> data)
      {:error, :timeout} -> flunk("the connection stays open after #{inspect(received)}")
      {:error, _closed} -> received
    end
  end

  defp statuses(received) do
    for [_, status] <- Regex.scan(~r/HTTP\/1\.[01] (\d{3}) /, received),
        do: String.to_integer(status)
  end

  describe "a request that is good" do
    test "is answered before a bad one that follows it", %{server: server} do
      {_peer, received} = exchange(server, [head("GET", "/good"), "bad\r\n\r\n"])
      assert statuses(received) == [200, 400]
      assert_received {:plug, "/good"}
      refute_received {:plug, _path}
    end
  end

  test "random bytes never reach the Plug, and leave the server well", %{server: server} do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..200 do
      socket = connect(server)
      _ = :gen_tcp.send(socket, :rand.bytes(:rand.uniform(600)) <> "\r\n\r\n")
      _ = :gen_tcp.shutdown(socket, :write)
      assert Enum.all?(statuses(received(socket, "")), &(&1 in [400, 408, 431]))
    end

    refute_received {:plug, _path}
    assert connect(server) |> request("GET", "/") |> Map.get(:status) == 200
    eventually(fn -> Ferrosock.info(server).connections <= 1 end)
  end

  test "requests with one byte changed are refused or served, and nothing else", %{server: server} do
    :rand.seed(:exsss, {4, 5, 6})

    bytes =
      "POST /path?query HTTP/1.1\r\nhost: localhost:4000\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"

    for _ <- 1..300 do
      at = :rand.uniform(byte_size(bytes)) - 1
      before = binary_part(bytes, 0, at)
      rest = binary_part(bytes, at + 1, byte_size(bytes) - at - 1)
      socket = connect(server)
      _ = :gen_tcp.send(socket, [before, :rand.uniform(256) - 1, rest])
      _ = :gen_tcp.shutdown(socket, :write)
      statuses = statuses(received(socket, ""))
      assert Enum.all?(statuses, &(&1 in [200, 400, 501])), inspect({at, statuses})
    end

    assert connect(server) |> request("GET", "/") |> Map.get(:status) == 200
  end

  test "a peer that sends much that is bad is logged at most ten times a second", %{
    server: server
  } do
    start = System.monotonic_time(:second)
    peers = for _ <- 1..50, do: server |> exchange("bad\r\n\r\n") |> elem(0)
    seconds = System.monotonic_time(:second) - start + 1
    # The listener has logged what was sent to it before this call.
    Ferrosock.info(server)

    lines =
      for {:log, _, text, _} <- Logs.taken("malformed request"), text =~ own(peers), do: text

    assert length(lines) in 1..(10 * (seconds + 1))
  end

  defp own(peers), do: Regex.compile!(Enum.map_join(peers, "|", &Regex.escape(&1 <> " sent")))
end
