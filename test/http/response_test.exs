defmodule Ferrosock.HTTP.ResponseTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Logs

  # The response to one request of a server whose Plug is the function.
  defp respond(fun, method \\ "GET", headers \\ []),
    do: fun |> serve() |> connect() |> request(method, "/", headers)

  # All that the server sends, as bytes, to a request after which it closes.
  defp raw(fun, request) do
    socket = fun |> serve() |> connect()
    write(socket, request)
    read_all(socket)
  end

  describe "a response" do
    test "has the status, the headers and the body that were sent" do
      response =
        respond(fn conn ->
          conn |> put_resp_header("x-test", "value") |> send_resp(201, "body")
        end)

      assert response.status == 201
      assert header(response, "x-test") == ["value"]
      assert header(response, "content-length") == ["4"]
      assert header(response, "connection") == []
      assert response.body == "body"
    end

    test "may be put and left to the server to send" do
      response = respond(fn conn -> resp(conn, 202, "later") end)
      assert {response.status, response.body} == {202, "later"}
    end

    test "may have any status from 200 to 599, and beyond" do
      server =
        serve(fn conn -> send_resp(conn, conn.query_string |> String.to_integer(), "body") end)

      socket = connect(server)

      for status <- [200, 206, 299, 301, 418, 451, 499, 500, 503, 599, 799, 999] do
        assert %{status: ^status, body: "body"} = request(socket, "GET", "/?#{status}")
      end
    end

    test "may be iodata" do
      body = ["a", [?b, "c" | "d"], [], ["e", [["f"]]]]
      assert %{body: "abcdef"} = respond(fn conn -> send_resp(conn, 200, body) end)
    end

    test "may be empty" do
      response = respond(fn conn -> send_resp(conn, 200, "") end)
      assert header(response, "content-length") == ["0"]
    end

    test "may have cookies, each on its own line (RFC6265§3)" do
      response =
        respond(fn conn ->
          conn |> put_resp_cookie("a", "1") |> put_resp_cookie("b", "2") |> send_resp(200, "")
        end)

      assert response |> header("set-cookie") |> Enum.sort() ==
               ["a=1; path=/; HttpOnly", "b=2; path=/; HttpOnly"]
    end

    test "keeps repeated headers in order" do
      headers = [{"link", "<1>"}, {"x-other", "value"}, {"link", "<2>"}]

      response =
        respond(fn conn -> conn |> Map.put(:resp_headers, headers) |> send_resp(200, "") end)

      assert header(response, "link") == ["<1>", "<2>"]
    end

    test "may have bytes past ASCII in a header's value" do
      value = <<"caf", 0xE9>>

      assert raw(
               fn conn -> conn |> put_resp_header("x-text", value) |> send_resp(200, "") end,
               head("GET", "/", [{"connection", "close"}])
             ) =~ "x-text: " <> value <> "\r\n"
    end

    test "may come from another process, whose end does no harm" do
      response =
        respond(fn conn ->
          Task.await(Task.async(fn -> send_resp(conn, 200, "from a task") end))
        end)

      assert response.body == "from a task"
    end

    test "may be large, from another process than the connection's" do
      body = String.duplicate("0123456789", 100_000)
      fun = fn conn -> Task.await(Task.async(fn -> send_resp(conn, 200, body) end)) end
      assert respond(fun).body == body
    end
  end

  describe "the length" do
    test "that the app gives is replaced when it is wrong (RFC9112§6.3)" do
      for wrong <- ["3", "400", "nonsense", "-1"] do
        fun = fn conn ->
          conn |> put_resp_header("content-length", wrong) |> send_resp(200, "body")
        end

        response = respond(fun)
        assert header(response, "content-length") == ["4"]
        assert response.body == "body"
      end
    end

    test "is that of the body also when the app says that it is chunked" do
      response =
        respond(fn conn ->
          conn |> put_resp_header("transfer-encoding", "chunked") |> send_resp(200, "body")
        end)

      assert response.body == "body"
      assert header(response, "content-length") == ["4"]
      assert header(response, "transfer-encoding") == []
    end

    test "that the app gives to chunks must be one" do
      for headers <- [
            [{"content-length", "nonsense"}],
            [{"content-length", "+1"}],
            [{"content-length", "1"}, {"content-length", "2"}],
            [{"content-length", "99999999999999999999"}]
          ] do
        assert %{status: 500} =
                 respond(fn conn -> send_chunked(%{conn | resp_headers: headers}, 200) end)
      end
    end

    test "is absent with 204, and so is the body (RFC9110§8.6)" do
      socket = connect(serve(fn conn -> send_resp(conn, 204, "not sent") end))
      response = request(socket, "GET", "/")
      assert response.status == 204
      assert header(response, "content-length") == []
      assert header(response, "transfer-encoding") == []
      assert %{status: 204} = request(socket, "GET", "/")
    end

    test "with 304 is the app's, and there is no body (RFC9110§15.4.5)" do
      fun = fn conn ->
        conn |> put_resp_header("content-length", "1234") |> send_resp(304, "not sent")
      end

      socket = connect(serve(fun))
      response = request(socket, "GET", "/")
      assert response.status == 304
      assert header(response, "content-length") == ["1234"]
      assert %{status: 304} = request(socket, "GET", "/")
    end

    test "to HEAD is that of the body, which is not sent (RFC9110§9.3.2)" do
      for body <- ["body", String.duplicate("b", 1_000_000)] do
        socket = connect(serve(fn conn -> send_resp(conn, 200, body) end))

        for _ <- 1..2 do
          response = request(socket, "HEAD", "/")
          assert header(response, "content-length") == ["#{byte_size(body)}"]
          assert header(response, "transfer-encoding") == []
        end
      end
    end

    test "to HEAD may be given by an app that made no body" do
      response =
        respond(
          fn conn -> conn |> put_resp_header("content-length", "1234") |> send_resp(200, "") end,
          "HEAD"
        )

      assert header(response, "content-length") == ["1234"]
    end
  end

  describe "the date" do
    test "is there once, in the form of RFC9110§5.6.7" do
      before = DateTime.utc_now()
      assert [date] = respond(fn conn -> send_resp(conn, 200, "") end) |> header("date")
      seconds = DateTime.diff(DateTime.utc_now(), before)

      near =
        for s <- -2..(seconds + 2),
            do: Calendar.strftime(DateTime.add(before, s), "%a, %d %b %Y %H:%M:%S GMT")

      assert date in near
    end

    test "is the app's where it gives one" do
      date = "Tue, 15 Nov 1994 08:12:31 GMT"

      response =
        respond(fn conn -> conn |> put_resp_header("date", date) |> send_resp(200, "") end)

      assert header(response, "date") == [date]
    end
  end

  describe "a header that HTTP forbids" do
    setup do
      Logs.attach()
    end

    test "makes the response a 500, and the log names it" do
      for {name, value} <- [
            {"x-nul", "a\0b"},
            {"x-lf", "a\nset-cookie: b"},
            {"x-cr", "a\rb"},
            {"x-del", "a\x7fb"},
            {"x bad", "value"},
            {"x-bad:", "value"},
            {"x-é", "value"},
            {"x\r\nset-cookie", "value"}
          ],
          send <- [
            &send_resp(&1, 200, ""),
            &send_chunked(&1, 200),
            &send_file(&1, 200, __ENV__.file)
          ] do
        test = self()

        fun = fn conn ->
          send(test, {:plug, self()})
          send.(%{conn | resp_headers: [{name, value}]})
        end

        response = respond(fun)
        assert response.status == 500
        assert header(response, "set-cookie") == []
        assert_received {:plug, pid}
        assert [{:log, :error, text, _meta}] = Logs.taken(pid)
        assert text =~ "ArgumentError"
        assert text =~ inspect(name)
      end
    end
  end

  describe "a status that HTTP has not" do
    test "is a failure of the Plug" do
      for status <- [0, 99, 100, 101, 199, 1000] do
        assert %{status: 500} = respond(fn conn -> send_resp(conn, status, "") end)
      end
    end
  end

  describe "a slow reader" do
    test "of a large body makes its process wait, and gets all of it" do
      test = self()
      body = :crypto.strong_rand_bytes(12_000_000)

      server =
        serve(fn conn ->
          conn = send_resp(conn, 200, body)
          send(test, :taken)
          conn
        end)

      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      refute_receive :taken, 300
      response = response(socket)
      assert_receive :taken
      assert response.body == body
    end

    test "of chunks makes its process wait, and gets all of them" do
      test = self()
      chunk = :crypto.strong_rand_bytes(100_000)

      server =
        serve(fn conn ->
          conn =
            Enum.reduce(1..120, send_chunked(conn, 200), fn _, conn ->
              {:ok, conn} = chunk(conn, chunk)
              conn
            end)

          send(test, :taken)
          conn
        end)

      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      refute_receive :taken, 300
      assert response(socket).body == String.duplicate(chunk, 120)
      assert_receive :taken
    end

    test "that reads nothing for `send_timeout` is given up" do
      test = self()

      server =
        serve(
          fn conn ->
            conn = send_chunked(conn, 200)
            send(test, {:result, chunk(conn, :binary.copy("x", 20_000_000))})
            conn
          end,
          http_1_options: [send_timeout: 100]
        )

      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      assert_receive {:result, {:error, :closed}}
      refute read_all(socket) =~ "\r\n0\r\n\r\n"
    end

    for body <- [:whole, :chunks, :file] do
      test "that reads nothing of a response (#{body}) loses its connection" do
        {path, size} = {List.to_string(:code.which(:lists)), 250_000}

        server =
          serve(
            fn conn ->
              case unquote(body) do
                :whole -> send_resp(conn, 200, :binary.copy("x", size))
                :chunks -> conn |> send_chunked(200) |> chunk_on(:binary.copy("x", size))
                :file -> send_file(conn, 200, path)
              end
            end,
            http_1_options: [send_timeout: 200]
          )

        socket = connect(server, recbuf: 2_000, buffer: 2_000)
        # Together more than the kernel takes.
        write(socket, List.duplicate(head("GET", "/"), 100))
        eventually(fn -> Ferrosock.info(server).requests > 0 end)
        eventually(fn -> Ferrosock.info(server).connections == 0 end)
      end
    end
  end

  defp chunk_on(conn, data) do
    case chunk(conn, data) do
      {:ok, conn} -> chunk_on(conn, data)
      {:error, :closed} -> conn
    end
  end

  describe "chunks" do
    test "arrive one by one, and the connection goes on" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          conn = conn |> put_resp_content_type("text/plain") |> send_chunked(200)

          for chunk <- ["one", ["t", ?w, "o"], "three"] do
            {:ok, _conn} = chunk(conn, chunk)
            assert_receive :continue
          end

          conn
        end)

      socket = connect(server)
      write(socket, head("GET", "/"))
      assert_receive {:plug, pid}
      {:ok, data} = :gen_tcp.recv(socket, 0)
      assert [head, rest] = String.split(data, "\r\n\r\n", parts: 2)
      assert head =~ "transfer-encoding: chunked"
      refute head =~ "content-length"
      rest = if rest == "", do: read(socket, 8), else: rest
      assert rest == "3\r\none\r\n"
      send(pid, :continue)
      assert read(socket, 8) == "3\r\ntwo\r\n"
      send(pid, :continue)
      assert read(socket, 10) == "5\r\nthree\r\n"
      send(pid, :continue)
      assert read(socket, 5) == "0\r\n\r\n"
    end

    test "may be none" do
      response = respond(fn conn -> send_chunked(conn, 200) end)
      assert response.body == ""
      assert header(response, "transfer-encoding") == ["chunked"]
    end

    test "that are empty do not end the body (RFC9112§7.1)" do
      response =
        respond(fn conn ->
          conn = send_chunked(conn, 200)
          for data <- ["", "a", [], [""], "b", ""], do: {:ok, _conn} = chunk(conn, data)
          conn
        end)

      assert response.body == "ab"
    end

    test "go to HTTP/1.0 without the coding, until the connection ends (RFC9112§6.1)" do
      bytes =
        raw(
          fn conn ->
            conn = send_chunked(conn, 200)
            {:ok, conn} = chunk(conn, "one,")
            {:ok, conn} = chunk(conn, "two")
            conn
          end,
          "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
        )

      [head, body] = String.split(bytes, "\r\n\r\n", parts: 2)
      refute String.downcase(head) =~ "transfer-encoding"
      refute String.downcase(head) =~ "keep-alive"
      assert body == "one,two"
    end

    test "with a length from the app are sent as a body of that length" do
      socket =
        connect(
          serve(fn conn ->
            conn = conn |> put_resp_header("content-length", "7") |> send_chunked(200)
            {:ok, conn} = chunk(conn, "one,")
            {:ok, conn} = chunk(conn, "two")
            conn
          end)
        )

      for _ <- 1..2 do
        response = request(socket, "GET", "/")
        assert header(response, "content-length") == ["7"]
        assert header(response, "transfer-encoding") == []
        assert response.body == "one,two"
      end
    end

    test "that are fewer than the length cut the connection, so that the client can tell" do
      bytes =
        raw(
          fn conn ->
            conn = conn |> put_resp_header("content-length", "7") |> send_chunked(200)
            {:ok, conn} = chunk(conn, "one,")
            conn
          end,
          head("GET", "/")
        )

      assert String.ends_with?(bytes, "\r\n\r\none,")
    end

    test "that are more than the length do not reach the next response" do
      socket =
        connect(
          serve(fn conn ->
            conn = conn |> put_resp_header("content-length", "3") |> send_chunked(200)
            {:ok, conn} = chunk(conn, "one,HTTP/1.1 200 Smuggled\r\n\r\n")
            conn
          end)
        )

      assert request(socket, "GET", "/").body == "one"
      write(socket, head("GET", "/", [{"connection", "close"}]))
      assert String.ends_with?(read_all(socket), "\r\n\r\none")
    end

    test "are none with HEAD, 204 and 304, though the app sends some" do
      for {method, status} <- [{"HEAD", 200}, {"GET", 204}, {"GET", 304}] do
        socket =
          connect(
            serve(fn conn ->
              conn = send_chunked(conn, status)
              {:ok, conn} = chunk(conn, "not sent")
              conn
            end)
          )

        for _ <- 1..2, do: assert(%{status: ^status} = request(socket, method, "/"))
      end
    end

    test "to a client that left are an error" do
      test = self()

      server =
        serve(fn conn ->
          conn = send_chunked(conn, 200)
          send(test, :started)
          send(test, {:result, chunk_until_error(conn)})
          conn
        end)

      socket = connect(server)
      write(socket, head("GET", "/"))
      assert_receive :started
      :gen_tcp.close(socket)
      assert_receive {:result, {:error, :closed}}
    end

    defp chunk_until_error(conn) do
      with {:ok, conn} <- chunk(conn, "chunk"), do: chunk_until_error(conn)
    end

    test "may come from another process" do
      response =
        respond(fn conn ->
          conn = send_chunked(conn, 200)
          Task.await(Task.async(fn -> {:ok, _conn} = chunk(conn, "task") end))
          conn
        end)

      assert response.body == "task"
    end
  end

  describe "a file" do
    setup do
      Logs.attach()

      folder =
        Path.join(
          System.tmp_dir!(),
          "ferrosock_#{System.pid()}_#{System.unique_integer([:positive])}"
        )

      File.mkdir_p!(folder)
      on_exit(fn -> File.rm_rf!(folder) end)
      path = Path.join(folder, "numbers")
      File.write!(path, "0123456789")
      [path: path, folder: folder]
    end

    test "is sent whole", %{path: path} do
      socket = connect(serve(fn conn -> send_file(conn, 200, path) end))

      for _ <- 1..2 do
        response = request(socket, "GET", "/")
        assert response.body == "0123456789"
        assert header(response, "content-length") == ["10"]
      end
    end

    test "is sent as a range", %{path: path} do
      for {offset, length, sent} <- [
            {0, 3, "012"},
            {7, 3, "789"},
            {4, :all, "456789"},
            {10, :all, ""},
            {3, 0, ""}
          ] do
        response = respond(fn conn -> send_file(conn, 206, path, offset, length) end)
        assert {response.status, response.body} == {206, sent}
        assert header(response, "content-length") == ["#{byte_size(sent)}"]
      end
    end

    test "has its length but no body with HEAD", %{path: path} do
      socket = connect(serve(fn conn -> send_file(conn, 200, path, 2, 5) end))

      for _ <- 1..2 do
        response = request(socket, "HEAD", "/")
        assert header(response, "content-length") == ["5"]
      end
    end

    test "is not sent with 204 and 304", %{path: path} do
      for status <- [204, 304] do
        socket = connect(serve(fn conn -> send_file(conn, status, path) end))
        for _ <- 1..2, do: assert(%{status: ^status} = request(socket, "GET", "/"))
      end
    end

    test "may be empty", %{folder: folder} do
      path = Path.join(folder, "empty")
      File.touch!(path)
      response = respond(fn conn -> send_file(conn, 200, path) end)
      assert {response.status, response.body} == {200, ""}
      assert header(response, "content-length") == ["0"]
    end

    test "replaces a wrong length from the app", %{path: path} do
      for wrong <- ["3", "400"] do
        response =
          respond(fn conn ->
            conn |> put_resp_header("content-length", wrong) |> send_file(200, path)
          end)

        assert header(response, "content-length") == ["10"]
        assert response.body == "0123456789"
      end
    end

    test "that is missing or none is a failure that names it", %{folder: folder} do
      for {name, reason} <- [
            {"missing", "no such file or directory"},
            {"", "illegal operation on a directory"}
          ] do
        path = Path.join(folder, name)
        {response, log} = failed(fn conn -> send_file(conn, 200, path) end)
        assert response.status == 500
        assert log =~ "File.Error"
        assert log =~ path
        assert log =~ reason
      end
    end

    test "with a range that is outside of it is a failure", %{path: path} do
      for {offset, length} <- [{11, :all}, {0, 11}, {5, 6}, {-1, :all}, {-1, 2}, {0, -1}] do
        {response, log} = failed(fn conn -> send_file(conn, 200, path, offset, length) end)
        assert response.status == 500
        assert log =~ "Error"
      end
    end

    test "that shrinks while it is sent cuts the connection", %{folder: folder} do
      path = Path.join(folder, "shrinking")
      File.write!(path, :binary.copy("x", 20_000_000))
      socket = connect(serve(fn conn -> send_file(conn, 200, path) end), recbuf: 16_384)
      write(socket, head("GET", "/"))
      assert read(socket, 4) == "HTTP"
      File.write!(path, "")
      assert byte_size(read_all(socket)) < 20_000_000
    end

    defp failed(fun) do
      test = self()

      response =
        respond(fn conn ->
          send(test, {:plug, self()})
          fun.(conn)
        end)

      assert_received {:plug, pid}
      assert [{:log, :error, text, _meta}] = Logs.taken(pid)
      {response, text}
    end
  end

  describe "an informational response" do
    test "goes out before the final one (RFC8297)" do
      test = self()

      server =
        serve(fn conn ->
          conn = inform!(conn, 103, [{"link", "</app.css>; rel=preload"}])
          send(test, {:plug, self()})
          assert_receive :continue
          send_resp(conn, 200, "body")
        end)

      socket = connect(server)

      for _ <- 1..2 do
        write(socket, head("GET", "/"))
        assert_receive {:plug, pid}
        early = response(socket)
        assert early.status == 103
        assert header(early, "link") == ["</app.css>; rel=preload"]
        send(pid, :continue)
        assert %{status: 200, body: "body"} = response(socket)
      end
    end

    test "may be several" do
      socket =
        connect(
          serve(fn conn ->
            for n <- 1..3, do: inform!(conn, 103, [{"x-n", "#{n}"}])
            send_resp(conn, 200, "body")
          end)
        )

      write(socket, head("GET", "/"))
      for n <- 1..3, do: assert(socket |> response() |> header("x-n") == ["#{n}"])
      assert %{status: 200} = response(socket)
    end

    test "does not go to HTTP/1.0 (RFC9110§15.2)" do
      bytes =
        raw(
          fn conn -> conn |> inform(103, [{"link", "<1>"}]) |> send_resp(200, "body") end,
          "GET / HTTP/1.0\r\n\r\n"
        )

      assert bytes =~ " 200 OK\r\n"
      refute bytes =~ "103"
    end

    test "with a header that HTTP forbids is not sent, and the response is a 500" do
      for header <- [{"x-cr", "a\r\nx: y"}, {"x-nul", "\0"}, {"x bad", "value"}] do
        fun = fn %{adapter: {adapter, state}} = conn ->
          adapter.inform(state, 103, [{"x-good", "value"}, header])
          conn
        end

        bytes = raw(fun, head("GET", "/"))
        assert "HTTP/1.1 500 " <> _ = bytes
        refute bytes =~ "x-good"
      end
    end

    test "cannot follow the response" do
      test = self()

      respond(fn conn ->
        conn = send_resp(conn, 200, "")

        try do
          inform!(conn, 103, [])
        rescue
          error -> send(test, {:raised, error.__struct__})
        end

        conn
      end)

      assert_receive {:raised, Plug.Conn.AlreadySentError}
    end
  end

  describe "the message that a response was sent" do
    test "reaches the process of the connection, whoever sent it" do
      test = self()

      fun = fn conn ->
        conn = Task.await(Task.async(fn -> send_resp(conn, 200, "") end))
        assert_received {:plug_conn, :sent}
        send(test, :received)
        conn
      end

      respond(fun)
      assert_receive :received
    end

    test "does not reach the next request" do
      test = self()

      socket =
        connect(
          serve(fn conn ->
            send(test, Process.info(self(), :messages))
            send_resp(conn, 200, "")
          end)
        )

      for _ <- 1..2 do
        request(socket, "GET", "/")
        assert_receive {:messages, []}
      end
    end
  end

  test "a second response raises, and the first stays" do
    test = self()

    fun = fn conn ->
      send_resp(conn, 200, "first")

      # The stale conn still looks unsent to Plug; the exchange knows better.
      try do
        send_resp(conn, 200, "second")
      rescue
        error -> send(test, {:raised, error.__struct__})
      end

      nil
    end

    plug = fn conn, _options ->
      fun.(conn)
      %{conn | state: :sent}
    end

    socket = connect(start_server!(plug: plug))
    assert %{body: "first"} = request(socket, "GET", "/")
    assert_receive {:raised, Plug.Conn.AlreadySentError}
    assert %{body: "first"} = request(socket, "GET", "/")
  end

  test "server push is not supported" do
    test = self()

    respond(fn conn ->
      {adapter, state} = conn.adapter
      send(test, adapter.push(state, "/style.css", []))
      send_resp(conn, 200, "")
    end)

    assert_receive {:error, :not_supported}
  end
end
