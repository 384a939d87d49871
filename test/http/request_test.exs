defmodule Ferrosock.HTTP.RequestTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  # What the Plug sees of a request.
  setup do
    test = self()
    server = serve(fn conn -> send(test, {:conn, conn}) end)
    [socket: connect(server), server: server]
  end

  defp seen(socket, bytes) do
    write(socket, bytes)
    assert_receive {:conn, conn}
    %{status: 200} = response(socket)
    conn
  end

  defp get(socket, path, headers \\ []), do: seen(socket, head("GET", path, headers))

  describe "the request line" do
    test "is the method, the path and the query", %{socket: socket} do
      conn = get(socket, "/a/b/c.html?d=e&f=g%20h")
      assert conn.method == "GET"
      assert conn.request_path == "/a/b/c.html"
      assert conn.path_info == ["a", "b", "c.html"]
      assert conn.script_name == []
      assert conn.query_string == "d=e&f=g%20h"
      assert Plug.Conn.fetch_query_params(conn).params == %{"d" => "e", "f" => "g h"}
    end

    test "may have any method that is a token, as it was written (RFC9110§9.1)", %{socket: socket} do
      for method <- ["DELETE", "PROPFIND", "get", "M-SEARCH", "!"] do
        assert seen(socket, head(method, "/")).method == method
      end
    end

    test "keeps percent-encoding, dots and empty segments as they came", %{socket: socket} do
      conn = get(socket, "/a%2Fb/%E2%9C%93/../.%2e//c/?x=%26%3D+;/?")
      assert conn.request_path == "/a%2Fb/%E2%9C%93/../.%2e//c/"
      assert conn.path_info == ["a%2Fb", "%E2%9C%93", "..", ".%2e", "c"]
      assert conn.query_string == "x=%26%3D+;/?"
    end

    test "that begins with two slashes is a path and no host", %{socket: socket} do
      conn = get(socket, "//evil.example/path")
      assert conn.request_path == "//evil.example/path"
      assert conn.host == "localhost"
    end

    test "with a bare question mark has an empty query", %{socket: socket} do
      conn = get(socket, "/path?")
      assert conn.request_path == "/path"
      assert conn.query_string == ""
    end

    test "in absolute form names the host, and the header does not (RFC9112§3.2.2)", context do
      conn = get(context.socket, "http://example.org:81/path?query")
      assert {conn.host, conn.port} == {"example.org", 81}
      assert {conn.request_path, conn.query_string} == {"/path", "query"}
      assert Plug.Conn.get_req_header(conn, "host") == ["localhost"]
    end

    test "in absolute form without a path is for the root", %{socket: socket} do
      conn = get(socket, "http://example.org?query")
      assert {conn.host, conn.request_path, conn.path_info} == {"example.org", "/", []}
      assert conn.query_string == "query"
    end

    test "in absolute form cannot claim TLS", %{socket: socket} do
      conn = get(socket, "https://example.org/")
      assert conn.scheme == :http
      assert conn.port == 80
    end

    test "in absolute form may name another scheme of the web, which is not taken from it", %{
      socket: socket
    } do
      conn = get(socket, "wss://example.org/path")
      assert {conn.scheme, conn.host, conn.port} == {:http, "example.org", 80}
    end

    # What browsers leave as it is (https://url.spec.whatwg.org/#query-percent-encode-set), and more.
    test "keeps what is no URI and does no harm", %{socket: socket} do
      conn = get(socket, "/%zz/{\"a\"}\\^|~?%|\\`{}^'[]")
      assert {conn.request_path, conn.query_string} == {"/%zz/{\"a\"}\\^|~", "%|\\`{}^'[]"}
    end

    # As curl sends what its user wrote.
    test "has the other characters that no URI has in percent codes", %{socket: socket} do
      conn = get(socket, "/<b>`?q=<\"b\">&r=`")
      assert {conn.request_path, conn.path_info} == {"/%3Cb%3E%60", ["%3Cb%3E%60"]}
      assert conn.query_string == "q=%3C%22b%22%3E&r=`"
      assert Plug.Conn.fetch_query_params(conn).query_params == %{"q" => "<\"b\">", "r" => "`"}
      # One after the other, and one that comes byte by byte.
      for byte <- String.graphemes(head("GET", "/<?\"")), do: write(socket, byte)
      assert seen(socket, "").request_path == "/%3C"
    end

    test "that has grown by its codes loses nothing of what follows" do
      test = self()

      server =
        serve(fn conn ->
          {:ok, body, conn} = Plug.Conn.read_body(conn)
          send(test, {:served, byte_size(conn.query_string), body})
          :ok
        end)

      socket = connect(server)
      body = :binary.copy("body", 10_000)
      headers = [{"content-length", byte_size(body)}]
      write(socket, head("POST", "/?" <> :binary.copy("<", 2_000), headers) <> body)
      assert %{status: 200} = response(socket)
      assert_receive {:served, 6_000, ^body}
      assert %{status: 200} = request(socket, "GET", "/?<")
    end

    test "in asterisk form is told as such (RFC9112§3.2.4)", %{socket: socket} do
      conn = seen(socket, head("OPTIONS", "*"))
      assert {conn.method, conn.request_path, conn.path_info} == {"OPTIONS", "*", ["*"]}
    end

    test "may follow an empty line (RFC9112§2.2)", %{socket: socket} do
      assert seen(socket, "\r\n" <> head("GET", "/first")).request_path == "/first"
      assert seen(socket, "\r\n" <> head("GET", "/next")).request_path == "/next"
    end
  end

  describe "the host" do
    test "and the port come from the header", %{socket: socket} do
      for {header, host, port} <- [
            {"example.org:8080", "example.org", 8080},
            {"example.org", "example.org", 80},
            {"example.org:", "example.org", 80},
            {"192.0.2.1:1", "192.0.2.1", 1},
            {"[::1]:4000", "[::1]", 4000},
            {"[2001:db8::1]", "[2001:db8::1]", 80},
            {"under_score.example", "under_score.example", 80}
          ] do
        conn = seen(socket, "GET / HTTP/1.1\r\nHost: #{header}\r\n\r\n")
        assert {conn.host, conn.port} == {host, port}
        assert conn.scheme == :http
      end
    end

    test "may be empty, for a target without one (RFC9112§3.2)", %{socket: socket} do
      assert seen(socket, "GET / HTTP/1.1\r\nHost:\r\n\r\n").host == ""
    end
  end

  describe "headers" do
    test "come in their order, with names in lower case", %{socket: socket} do
      conn = get(socket, "/", [{"X-Zebra", "1"}, {"ACCEPT", "*/*"}, {"x-apple", "2"}])

      assert conn.req_headers == [
               {"host", "localhost"},
               {"x-zebra", "1"},
               {"accept", "*/*"},
               {"x-apple", "2"}
             ]
    end

    test "that are repeated keep all their values in order", %{socket: socket} do
      headers = [{"x-many", "one"}, {"accept", "*/*"}, {"X-Many", "two"}, {"x-many", "one"}]
      conn = get(socket, "/", headers)
      assert Plug.Conn.get_req_header(conn, "x-many") == ["one", "two", "one"]
    end

    test "lose the whitespace around values, and no more (RFC9112§5.1)", %{socket: socket} do
      bytes =
        "GET / HTTP/1.1\r\nhost:localhost\r\nx-none:a\r\nx-some: \t a \t b \t\r\nx-empty:  \r\n\r\n"

      conn = seen(socket, bytes)
      assert {"x-none", "a"} in conn.req_headers
      assert {"x-some", "a \t b"} in conn.req_headers
      assert {"x-empty", ""} in conn.req_headers
    end

    test "may have bytes past ASCII in their values (RFC9110§5.5)", %{socket: socket} do
      value = <<"caf", 0xE9, " ✓">>
      conn = seen(socket, "GET / HTTP/1.1\r\nhost: localhost\r\nx-text: " <> value <> "\r\n\r\n")
      assert {"x-text", value} in conn.req_headers
    end

    test "give cookies to Plug, also from several lines", %{socket: socket} do
      conn = get(socket, "/", [{"cookie", "a=1; b=2"}, {"cookie", "c=3"}])
      assert Plug.Conn.fetch_cookies(conn).cookies == %{"a" => "1", "b" => "2", "c" => "3"}
    end

    test "may be a hundred, with long values", %{socket: socket} do
      headers = for n <- 2..100, do: {"x-#{n}", String.duplicate("v", 500)}
      assert tl(get(socket, "/", headers).req_headers) == headers
    end
  end

  describe "the connection" do
    test "is told by its two addresses", %{socket: socket, server: server} do
      conn = get(socket, "/")
      {:ok, {address, port}} = :inet.sockname(socket)
      assert conn.remote_ip == address
      assert Plug.Conn.get_peer_data(conn) == %{address: address, port: port, ssl_cert: nil}
      # Plug has functions for these two only from 1.18 on.
      {adapter, state} = conn.adapter
      assert adapter.get_sock_data(state) == %{address: {127, 0, 0, 1}, port: port(server)}
      assert adapter.get_ssl_data(state) == nil
    end

    test "is told also when the client has gone", %{server: server} do
      socket = connect(server)
      conn = get(socket, "/")
      %{connections: count} = Ferrosock.info(server)
      reset(socket)
      eventually(fn -> Ferrosock.info(server).connections < count end)
      {adapter, state} = conn.adapter
      assert adapter.get_sock_data(state) == %{address: {127, 0, 0, 1}, port: port(server)}
      assert adapter.get_ssl_data(state) == nil
      assert %{ssl_cert: nil} = adapter.get_peer_data(state)
    end

    test "has the request's version of HTTP", %{server: server} do
      for version <- [:"HTTP/1.0", :"HTTP/1.1"] do
        conn = seen(connect(server), "GET / #{version}\r\nhost: localhost\r\n\r\n")
        assert Plug.Conn.get_http_protocol(conn) == version
      end
    end

    test "is owned by the process that runs the Plug", %{server: server} do
      test = self()
      own = serve(fn conn -> send(test, {:owner, conn.owner, self()}) end)
      request(connect(own), "GET", "/")
      assert_receive {:owner, pid, pid}
      assert pid != server
    end

    test "of HTTP/1.0 needs no host", %{socket: socket} do
      conn = seen(socket, "GET /old HTTP/1.0\r\n\r\n")
      assert {conn.host, conn.port, conn.request_path} == {"", 80, "/old"}
      assert closed?(socket)
    end
  end

  test "arriving byte by byte is the same as at once", %{socket: socket} do
    bytes = head("GET", "/slow?q=1", [{"x-last", "value"}])
    for <<byte <- bytes>>, do: write(socket, <<byte>>)
    assert_receive {:conn, conn}
    assert {conn.request_path, conn.query_string} == {"/slow", "q=1"}
    assert {"x-last", "value"} in conn.req_headers
  end
end
