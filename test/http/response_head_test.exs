defmodule Ferrosock.HTTP.ResponseHeadTest do
  # The head of a response is what its body needs, in whatever case the app writes names (RFC9110§5.1) and
  # whatever it says of the length (§8.6). Plug checks names in tests alone, so they are set past it.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.HTTP2

  @text :binary.copy("compressible ", 500)

  # Serves what the function makes of a conn, with these headers as they are.
  defp answering(headers, fun \\ &send_resp(&1, 200, @text), options \\ []) do
    serve(fn conn -> fun.(%{conn | resp_headers: headers}) end, options)
  end

  defp get(server, headers \\ []), do: server |> connect() |> request("GET", "/", headers)

  @gzip [{"accept-encoding", "gzip"}]

  defp cases(name), do: [name, String.upcase(name), title(name)]

  defp title(name), do: name |> String.split("-") |> Enum.map_join("-", &String.capitalize/1)

  describe "a content-length of the app" do
    test "gives way to that of a whole body" do
      for name <- cases("content-length"), length <- ["2", "6000", "x", ""] do
        server = answering([{name, length}], &send_resp(&1, 200, "five5"))
        socket = connect(server)
        # What is read too much or too little meets the next response.
        for _ <- 1..2 do
          response = request(socket, "GET", "/")
          assert header(response, "content-length") == ["5"]
          assert response.body == "five5"
        end
      end
    end

    test "gives way when there are several" do
      server = answering([{"Content-Length", "1"}, {"content-length", "2"}])
      assert header(get(server), "content-length") == ["#{byte_size(@text)}"]
    end

    test "gives way to that of a coded, a large, an empty body and of a file" do
      large = :binary.copy("x", 1_000_000)

      for name <- cases("content-length"),
          {fun, size} <- [
            {&send_resp(&1, 200, large), 1_000_000},
            {&send_resp(&1, 200, ""), 0},
            {&send_file(&1, 200, __ENV__.file), File.stat!(__ENV__.file).size},
            {&send_file(&1, 200, __ENV__.file, 1, 10), 10},
            {&send_resp(&1, 205, "none"), 0}
          ] do
        server = answering([{name, "6000"}], fun)
        socket = connect(server)

        for _ <- 1..2 do
          response = request(socket, "GET", "/")
          assert header(response, "content-length") == ["#{size}"]
          assert byte_size(response.body) == size
        end
      end

      for name <- cases("content-length") do
        socket = connect(answering([{name, "6000"}]))

        for _ <- 1..2 do
          response = request(socket, "GET", "/", @gzip)
          assert header(response, "content-length") == ["#{byte_size(response.body)}"]
          assert :zlib.gunzip(response.body) == @text
        end
      end
    end

    test "holds for chunks, which then are none" do
      for name <- cases("content-length") do
        fun = fn conn ->
          conn = send_chunked(conn, 200)
          {:ok, conn} = chunk(conn, "five5")
          conn
        end

        response = get(answering([{name, "5"}], fun))
        assert header(response, "content-length") == ["5"]
        assert header(response, "transfer-encoding") == []
        assert response.body == "five5"
      end
    end

    test "is not sent where there cannot be one (RFC9110§8.6)" do
      for name <- cases("content-length") do
        assert header(get(answering([{name, "5"}], &send_resp(&1, 204, ""))), "content-length") ==
                 []

        assert header(get(answering([{name, "5"}], &send_resp(&1, 304, ""))), "content-length") ==
                 ["5"]
      end
    end
  end

  # RFC9110§8.6, §9.3.2
  describe "a HEAD has the head of a GET" do
    for {name, fun, headers} <- [
          {"a body", quote(do: &send_resp(&1, 200, "OK")), []},
          {"a body that compresses", quote(do: &send_resp(&1, 200, unquote(@text))), []},
          {"a large body", quote(do: &send_resp(&1, 200, :binary.copy("x", 1_000_000))), []},
          {"a file", quote(do: &send_file(&1, 200, __ENV__.file)), []},
          {"a range", quote(do: &send_file(&1, 206, __ENV__.file, 1, 5)), []},
          {"chunks", quote(do: &chunked/1), []},
          {"nothing and 204", quote(do: &send_resp(&1, 204, "")), []},
          {"nothing and 205", quote(do: &send_resp(&1, 205, "")), []},
          {"nothing and 304", quote(do: &send_resp(&1, 304, "")), []},
          {"a status without a name", quote(do: &send_resp(&1, 499, "OK")), []}
        ],
        length <- ["none", "content-length", "Content-Length"] do
      @tag name: name, length: length
      test "with #{name} and the app's length: #{length}", %{length: length} do
        headers = if length == "none", do: unquote(headers), else: [{length, "6"}]
        server = answering(headers, unquote(fun))
        socket = connect(server)

        for accepted <- [[], @gzip] do
          get = request(socket, "GET", "/", accepted)
          head = request(socket, "HEAD", "/", accepted)
          assert head.status == get.status

          for name <- ["content-length", "content-encoding", "vary", "connection"] do
            # A HEAD need not tell how the body of a GET is framed (RFC9110§9.3.2).
            unless name == "content-length" and header(get, name) in [[], ["0"]],
              do: assert(header(head, name) == header(get, name), name)
          end
        end
      end
    end

    defp chunked(conn) do
      conn = send_chunked(conn, 200)
      {:ok, conn} = chunk(conn, "123456")
      conn
    end

    test "with the length of a body that the app has not made for it" do
      fun = fn
        %{method: "HEAD"} = conn -> send_resp(conn, 200, "")
        conn -> send_resp(conn, 200, "123456")
      end

      for name <- cases("content-length") do
        socket = connect(answering([{name, "6"}], fun))

        for method <- ["HEAD", "GET", "HEAD"] do
          assert header(request(socket, method, "/"), "content-length") == ["6"]
        end
      end
    end
  end

  describe "a body is not coded" do
    for {name, value} <- [
          {"content-encoding", "br"},
          {"etag", ~s("strong")},
          {"cache-control", "no-transform"},
          {"cache-control", "public, No-Transform"},
          {"content-digest", "sha-256=:AA==:"},
          {"repr-digest", "sha-256=:AA==:"},
          {"digest", "sha-256=AA=="},
          {"content-md5", "AA=="},
          {"content-range", "bytes 0-6499/7000"},
          {"signature", "a=:AA==:"},
          {"signature-input", ~s[a=("content-digest")]}
        ] do
      test "that has #{name}: #{value}, in any case" do
        for name <- cases(unquote(name)) do
          response = get(answering([{name, unquote(value)}]), @gzip)
          assert header(response, unquote(name)) == [unquote(value)]
          refute "gzip" in header(response, "content-encoding")
          assert response.body == @text
        end
      end
    end

    test "but with what says nothing of its bytes it is" do
      for {name, value} <- [
            {"ETag", ~s(W/"weak")},
            {"Cache-Control", "public"},
            {"X-Digest", "a"}
          ] do
        response = get(answering([{name, value}]), @gzip)
        assert header(response, "content-encoding") == ["gzip"]
        assert header(response, String.downcase(name)) == [value]
      end
    end
  end

  test "vary is one list, in any case" do
    for name <- cases("vary"),
        {value, varies} <- [{"cookie", "cookie, accept-encoding"}, {"*", "*"}] do
      response = get(answering([{name, value}]), @gzip)
      assert header(response, "vary") == [varies]
    end
  end

  test "connection: close ends the connection, in any case" do
    for name <- cases("connection"), value <- ["close", "Close", "x, CLOSE"] do
      socket = connect(answering([{name, value}], &send_resp(&1, 200, "last")))
      response = request(socket, "GET", "/")
      assert header(response, "connection") == [value]
      assert response.body == "last"
      assert closed?(socket)
    end
  end

  test "transfer-encoding is not the app's, in any case" do
    for name <- cases("transfer-encoding"), value <- ["chunked", "gzip"] do
      response = get(answering([{name, value}], &send_resp(&1, 200, "whole")))
      assert header(response, "transfer-encoding") == []
      assert response.body == "whole"
    end
  end

  test "date is the app's if it has one, in any case" do
    for name <- cases("date") do
      assert header(get(answering([{name, "now"}])), "date") == ["now"]
    end
  end

  test "HTTP/2 has the same heads" do
    for name <- cases("content-length") do
      socket = HTTP2.connect(answering([{name, "2"}], &send_resp(&1, 200, "five5")))
      HTTP2.request(socket, 1, "GET", "/")
      assert %{headers: headers, body: "five5"} = HTTP2.response(socket, 1)
      assert for({"content-length", length} <- headers, do: length) == ["5"]
    end
  end

  describe "the status line" do
    defp line(status, options \\ []) do
      socket = connect(serve(&send_resp(&1, status, "body"), options))
      write(socket, head("GET", "/", [{"connection", "close"}]))
      [line | _rest] = socket |> read_all() |> String.split("\r\n")
      line
    end

    test "has the phrase that Plug has" do
      for status <- [200, 201, 302, 404, 418, 422, 425, 429, 451, 500, 511] do
        phrase = Plug.Conn.Status.reason_phrase(status)
        assert line(status) == "HTTP/1.1 #{status} #{phrase}"
      end
    end

    # RFC9112§4
    test "has no phrase where there is none" do
      for status <- [299, 399, 499, 599, 600, 799, 999] do
        assert_raise ArgumentError, fn -> Plug.Conn.Status.reason_phrase(status) end
        assert line(status) == "HTTP/1.1 #{status} "
      end
    end
  end
end
