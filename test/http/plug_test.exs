defmodule Ferrosock.HTTP.PlugTest do
  # The plugs that come with Plug, through a real server.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  defp open(plug), do: connect(start_server!(plug: plug, id: make_ref()))

  # A connection to a server of one of Plug's plugs, with a function behind it.
  defp behind(plug, options, fun) do
    options = plug.init(options)

    open(fn conn, _options ->
      conn = plug.call(conn, options)
      if conn.halted, do: conn, else: fun.(conn)
    end)
  end

  defp tmp_dir do
    dir = "ferrosock_plug_#{System.pid()}_#{System.unique_integer([:positive])}"
    dir = Path.join(System.tmp_dir!(), dir)
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end

  defp post(socket, path, type, body) do
    headers = [{"content-type", type}, {"content-length", byte_size(body)}]
    request(socket, "POST", path, headers, body)
  end

  describe "Plug.Router" do
    defmodule Items do
      use Plug.Router

      plug :match
      plug :dispatch

      get "/:id" do
        send_resp(conn, 200, inspect({id, conn.script_name, conn.path_info, conn.request_path}))
      end

      match(_, do: send_resp(conn, 404, "no such item"))
    end

    defmodule Router do
      use Plug.Router

      plug :match
      plug :dispatch

      get("/hello/:name", do: send_resp(conn, 200, "hello #{name}"))
      post("/hello/:name", do: send_resp(conn, 201, "posted #{name}"))
      get("/files/*path", do: send_resp(conn, 200, Enum.join(path, "|")))
      get("/host", host: "example.", do: send_resp(conn, 200, "an example"))
      forward "/items", to: Items
      match(_, do: send_resp(conn, 404, "nothing here"))
    end

    test "matches methods, paths and hosts" do
      socket = open(Router)

      for {method, path, status, body} <- [
            {"GET", "/hello/joe", 200, "hello joe"},
            {"GET", "/hello/j%C3%B6rg?a=b", 200, "hello jörg"},
            {"POST", "/hello/joe", 201, "posted joe"},
            {"DELETE", "/hello/joe", 404, "nothing here"},
            {"GET", "/files/a/b//c%2Fd", 200, "a|b|c/d"},
            {"GET", "/host", 404, "nothing here"},
            {"GET", "http://example.org/host", 200, "an example"},
            {"GET", "/", 404, "nothing here"}
          ] do
        response = request(socket, method, path)
        assert {path, response.status, response.body} == {path, status, body}
      end
    end

    test "forwards" do
      socket = open(Router)

      assert request(socket, "GET", "/items/7").body ==
               inspect({"7", ["items"], ["7"], "/items/7"})

      assert %{status: 404, body: "no such item"} = request(socket, "GET", "/items/7/parts")
    end
  end

  describe "Plug.Static" do
    setup do
      dir = tmp_dir()
      File.write!(Path.join(dir, "file.txt"), "0123456789")
      File.write!(Path.join(dir, "file.txt.gz"), :zlib.gzip("0123456789"))
      options = [at: "/static", from: dir, gzip: true]
      [socket: behind(Plug.Static, options, &send_resp(&1, 404, "not there"))]
    end

    @path "/static/file.txt"

    test "sends a file, and says how it may be kept", %{socket: socket} do
      response = request(socket, "GET", @path)
      assert {response.status, response.body} == {200, "0123456789"}
      assert header(response, "content-type") == ["text/plain"]
      assert header(response, "content-length") == ["10"]
      assert header(response, "cache-control") == ["public"]
      assert [_etag] = header(response, "etag")
      assert %{status: 404, body: "not there"} = request(socket, "GET", "/static/other.txt")
    end

    test "sends nothing anew that the client has", %{socket: socket} do
      [etag] = socket |> request("GET", @path) |> header("etag")
      response = request(socket, "GET", @path, [{"if-none-match", etag}])
      assert response.status == 304
      assert header(response, "etag") == [etag]
      assert %{status: 200} = request(socket, "GET", @path, [{"if-none-match", "\"other\""}])
    end

    test "sends ranges (RFC9110§14)", %{socket: socket} do
      for {range, sent, content_range} <- [
            {"bytes=0-2", "012", "bytes 0-2/10"},
            {"bytes=7-", "789", "bytes 7-9/10"},
            {"bytes=-4", "6789", "bytes 6-9/10"},
            {"bytes=8-99", "89", "bytes 8-9/10"}
          ] do
        response = request(socket, "GET", @path, [{"range", range}])
        assert {range, response.status, response.body} == {range, 206, sent}
        assert header(response, "content-range") == [content_range]
        assert header(response, "content-length") == ["#{byte_size(sent)}"]
      end
    end

    test "sends what was compressed to clients that take it", %{socket: socket} do
      response = request(socket, "GET", @path, [{"accept-encoding", "br, gzip"}])
      assert header(response, "content-encoding") == ["gzip"]
      assert header(response, "vary") == ["Accept-Encoding"]
      assert :zlib.gunzip(response.body) == "0123456789"
    end

    test "has the length of a file for HEAD", %{socket: socket} do
      response = request(socket, "HEAD", @path)
      assert {response.status, header(response, "content-length")} == {200, ["10"]}
      assert %{status: 200} = request(socket, "GET", @path)
    end

    for path <- ["/static/../mix.exs", "/static/%2e%2e/mix.exs", "/static/..%2fmix.exs"] do
      test "does not leave its folder for #{path}", %{socket: socket} do
        assert %{status: 400} = request(socket, "GET", unquote(path))
      end
    end
  end

  describe "Plug.Session" do
    setup do
      session = Plug.Session.init(store: :cookie, key: "_session", signing_salt: "salt")

      socket =
        open(fn conn, _options ->
          conn = %{conn | secret_key_base: String.duplicate("s", 64)}
          conn = conn |> Plug.Session.call(session) |> fetch_session()
          count = get_session(conn, :count) || 0
          conn |> put_session(:count, count + 1) |> send_resp(200, "#{count}")
        end)

      [socket: socket]
    end

    test "is kept in a cookie", %{socket: socket} do
      for count <- 0..2, reduce: [] do
        headers ->
          response = request(socket, "GET", "/", headers)
          assert response.body == "#{count}"
          [{"cookie", cookie(response)}]
      end
    end

    test "is a new one where the cookie was changed", %{socket: socket} do
      cookie = socket |> request("GET", "/") |> cookie()
      assert request(socket, "GET", "/", [{"cookie", cookie}]).body == "1"
      assert request(socket, "GET", "/", [{"cookie", cookie <> "x"}]).body == "0"
    end

    # As a client sends it back.
    defp cookie(response) do
      assert ["_session=" <> _ = set_cookie] = header(response, "set-cookie")
      set_cookie |> String.split(";") |> hd()
    end
  end

  describe "Plug.Parsers" do
    setup do
      options = [
        parsers: [:urlencoded, :multipart, :json],
        json_decoder: {:json, :decode, []},
        length: 100_000
      ]

      test = self()

      socket =
        behind(Plug.Parsers, options, fn conn ->
          send(test, {:params, read_uploads(conn.params)})
          send_resp(conn, 200, "")
        end)

      [socket: socket]
    end

    # Its files are gone when the request is over.
    defp read_uploads(params) do
      Map.new(params, fn
        {name, %Plug.Upload{} = upload} ->
          {name, {upload.filename, upload.content_type, File.read!(upload.path)}}

        param ->
          param
      end)
    end

    test "reads a form, next to the query", %{socket: socket} do
      type = "application/x-www-form-urlencoded"
      assert %{status: 200} = post(socket, "/?q=1&b=query", type, "a[]=x&a[]=%C3%BC&b=+")
      assert_received {:params, %{"a" => ["x", "ü"], "b" => " ", "q" => "1"}}
    end

    test "reads JSON", %{socket: socket} do
      assert %{status: 200} = post(socket, "/", "application/json", ~s({"a": [1, null, "ü"]}))
      assert_received {:params, %{"a" => [1, _null, "ü"]}}
      assert %{status: 200} = post(socket, "/", "application/vnd.api+json", "[1]")
      assert_received {:params, %{"_json" => [1]}}
    end

    test "reads fields and files", %{socket: socket} do
      data = :crypto.strong_rand_bytes(50_000)

      body = "field" |> multipart(data) |> IO.iodata_to_binary()
      assert %{status: 200} = post(socket, "/", "multipart/form-data; boundary=xx", body)
      assert_received {:params, %{"field" => "value", "file" => file}}
      assert file == {"data.bin", "application/octet-stream", data}
    end

    test "has its files removed after the request, but for those that were given away" do
      test = self()
      options = [parsers: [:multipart]]

      socket =
        behind(Plug.Parsers, options, fn conn ->
          %{"kept" => kept, "left" => left} = conn.params
          :ok = Plug.Upload.give_away(kept, test)
          send(test, {:paths, kept.path, left.path})
          send_resp(conn, 200, "")
        end)

      body =
        for name <- ["kept", "left"], into: "" do
          """
          --xx\r
          content-disposition: form-data; name="#{name}"; filename="#{name}"\r
          \r
          data\r
          """
        end

      for _ <- 1..2 do
        type = "multipart/form-data; boundary=xx"
        assert %{status: 200} = post(socket, "/", type, body <> "--xx--\r\n")
        assert_received {:paths, kept, left}
        eventually(fn -> not File.exists?(left) end)
        assert File.read!(kept) == "data"
      end
    end

    test "refuses what it cannot read, and the connection ends", %{socket: socket} do
      {:ok, {{127, 0, 0, 1}, port}} = :inet.peername(socket)
      form = "application/x-www-form-urlencoded"

      for {status, type, body} <- [
            {400, "application/json", "{"},
            {400, form, "a=%ff"},
            {413, form, "a=" <> String.duplicate("x", 100_000)},
            {415, "application/unknown", "body"}
          ] do
        socket = connect(port)
        assert %{status: ^status} = post(socket, "/", type, body)
        assert closed?(socket)
      end

      refute_received {:params, _params}
    end

    test "answers a body whose chunks are none with 400", %{socket: socket} do
      type = {"content-type", "application/x-www-form-urlencoded"}
      write(socket, head("POST", "/", [type, {"transfer-encoding", "chunked"}]) <> "x\r\n")
      assert %{status: 400} = response(socket)
      assert closed?(socket)
    end
  end

  describe "Plug.RequestId" do
    test "names each request in the response and in the log" do
      socket =
        behind(Plug.RequestId, [], fn conn ->
          send_resp(conn, 200, Logger.metadata()[:request_id])
        end)

      ids =
        for _ <- 1..3 do
          response = request(socket, "GET", "/")
          assert header(response, "x-request-id") == [response.body]
          response.body
        end

      assert ids == Enum.uniq(ids)

      given = String.duplicate("0123456789", 3)
      response = request(socket, "GET", "/", [{"x-request-id", given}])
      assert {response.body, header(response, "x-request-id")} == {given, [given]}
    end
  end

  describe "Plug.Telemetry" do
    test "tells of each request once, with its status" do
      prefix = [:ferrosock, :plug_test]
      events = [prefix ++ [:start], prefix ++ [:stop]]
      :ok = :telemetry.attach_many(__MODULE__, events, &__MODULE__.tell/4, self())
      on_exit(fn -> :telemetry.detach(__MODULE__) end)

      responses = %{
        "/send" => &send_resp(&1, 201, "body"),
        "/chunks" => &send_chunked(&1, 202),
        "/file" => &send_file(&1, 203, __ENV__.file)
      }

      socket =
        behind(Plug.Telemetry, [event_prefix: prefix], fn conn ->
          Map.fetch!(responses, conn.request_path).(conn)
        end)

      for {path, status} <- [{"/send", 201}, {"/chunks", 202}, {"/file", 203}] do
        assert %{status: ^status} = request(socket, "GET", path)
        assert_receive {:telemetry, :start, _time, %{request_path: ^path}}
        assert_receive {:telemetry, :stop, %{duration: duration}, %{status: ^status}}
        assert duration > 0
      end

      refute_received {:telemetry, _event, _measurements, _conn}
    end

    def tell([_, _, event], measurements, %{conn: conn}, test),
      do: send(test, {:telemetry, event, measurements, conn})
  end

  describe "Plug.BasicAuth" do
    test "lets those in who know the password" do
      plug = fn conn, _options ->
        conn = Plug.BasicAuth.basic_auth(conn, username: "joe", password: "secret")
        if conn.halted, do: conn, else: send_resp(conn, 200, "in")
      end

      socket = open(plug)
      refused = request(socket, "GET", "/")
      assert refused.status == 401
      assert header(refused, "www-authenticate") == [~s(Basic realm="Application")]

      for {password, status} <- [{"wrong", 401}, {"secret", 200}] do
        authorization = {"authorization", Plug.BasicAuth.encode_basic_auth("joe", password)}
        assert %{status: ^status} = request(socket, "GET", "/", [authorization])
      end
    end
  end

  describe "Plug.Head" do
    test "has HEAD served as GET, and the body is still not sent" do
      responses = [
        &send_resp(&1, 200, &1.method),
        &send_resp(&1, 200, String.duplicate(&1.method, 200_000)),
        &send_file(&1, 200, __ENV__.file),
        fn conn ->
          conn = send_chunked(conn, 200)
          {:ok, conn} = chunk(conn, conn.method)
          conn
        end
      ]

      for respond <- responses do
        socket = behind(Plug.Head, [], respond)
        assert %{status: 200} = head = request(socket, "HEAD", "/")
        # Were there a body, it would be taken for this response.
        get = request(socket, "GET", "/")
        assert header(head, "content-length") == header(get, "content-length")
      end
    end
  end

  describe "Plug.MethodOverride" do
    test "takes the method from a form" do
      parsers = Plug.Parsers.init(parsers: [:urlencoded])

      socket =
        open(fn conn, _options ->
          conn = conn |> Plug.Parsers.call(parsers) |> Plug.MethodOverride.call([])
          send_resp(conn, 200, conn.method)
        end)

      type = "application/x-www-form-urlencoded"
      assert post(socket, "/", type, "_method=delete").body == "DELETE"
      # A body for HEAD is one all the same, because the request was a POST.
      assert post(socket, "/", type, "_method=HEAD").body == "POST"
      assert post(socket, "/", type, "a=b").body == "POST"
    end
  end

  describe "behind a proxy" do
    @forwarded [
      {"x-forwarded-for", "203.0.113.7"},
      {"x-forwarded-host", "example.org"},
      {"x-forwarded-port", "8443"},
      {"x-forwarded-proto", "https"}
    ]

    test "Plug.RewriteOn tells the Plug what the client asked for" do
      options = [
        :x_forwarded_for,
        :x_forwarded_host,
        :x_forwarded_port,
        :x_forwarded_proto
      ]

      socket =
        behind(Plug.RewriteOn, options, fn conn ->
          send_resp(conn, 200, "#{:inet.ntoa(conn.remote_ip)} #{request_url(conn)}")
        end)

      assert request(socket, "GET", "/path?q", @forwarded).body ==
               "203.0.113.7 https://example.org:8443/path?q"

      assert request(socket, "GET", "/path").body == "127.0.0.1 http://localhost/path"
    end

    test "Plug.SSL redirects those that came without TLS" do
      options = [rewrite_on: [:x_forwarded_proto], exclude: []]
      socket = behind(Plug.SSL, options, &send_resp(&1, 200, "secure"))

      for {method, status} <- [{"GET", 301}, {"HEAD", 301}, {"POST", 307}] do
        redirect = request(socket, method, "/path?q")
        assert redirect.status == status
        assert header(redirect, "location") == ["https://localhost/path?q"]
      end

      # An absolute target does not make it so.
      assert %{status: 301} = request(socket, "GET", "https://localhost/path")

      secure = request(socket, "GET", "/path", [{"x-forwarded-proto", "https"}])
      assert {secure.status, secure.body} == {200, "secure"}
      assert ["max-age=" <> _] = header(secure, "strict-transport-security")
    end
  end

  describe "server-sent events" do
    test "arrive one by one, until the client leaves" do
      test = self()

      socket =
        open(fn conn, _options ->
          conn = conn |> put_resp_content_type("text/event-stream") |> send_chunked(200)
          send(test, {:plug, self()})
          send(test, {:ended, send_events(conn, 1)})
          conn
        end)

      write(socket, head("GET", "/"))
      assert_receive {:plug, pid}
      {:ok, head} = :gen_tcp.recv(socket, 0, 20_000)
      assert head =~ "content-type: text/event-stream"

      for n <- 1..3 do
        send(pid, :event)
        event = "data: #{n}\n\n"
        assert read(socket, 14) == "9\r\n" <> event <> "\r\n"
      end

      :gen_tcp.close(socket)

      eventually(fn ->
        send(pid, :event)
        receive do: ({:ended, result} -> result == {:error, :closed}), after: (0 -> false)
      end)
    end

    defp send_events(conn, n) do
      receive do: (:event -> :ok)
      with {:ok, conn} <- chunk(conn, "data: #{n}\n\n"), do: send_events(conn, n + 1)
    end
  end

  describe "a request that another process serves" do
    test "may be read, informed and answered in pieces by it" do
      socket =
        open(fn conn, _options ->
          Task.await(
            Task.async(fn ->
              conn = inform(conn, 103, [{"link", "</a.css>"}])
              {:more, first, conn} = read_body(conn, length: 2)
              {:ok, second, conn} = read_body(conn)
              conn = send_chunked(conn, 200)
              {:ok, conn} = chunk(conn, second)
              {:ok, conn} = chunk(conn, first)
              conn
            end)
          )
        end)

      for _ <- 1..2 do
        write(socket, head("POST", "/", [{"content-length", "4"}]) <> "abcd")
        assert %{status: 103} = response(socket)
        assert %{status: 200, body: "cdab"} = response(socket)
      end
    end

    test "may be a file that it sends" do
      path = Path.join(tmp_dir(), "file")
      File.write!(path, "0123456789")

      socket =
        open(fn conn, _options ->
          Task.await(Task.async(fn -> send_file(conn, 206, path, 2, 3) end))
        end)

      for _ <- 1..2, do: assert(%{status: 206, body: "234"} = request(socket, "GET", "/"))
    end

    test "may be read by one process while it is answered by others" do
      socket =
        open(fn conn, _options ->
          reader = Task.async(fn -> read_body(conn) end)
          conn = send_chunked(conn, 200)
          for n <- 1..3, do: Task.await(Task.async(fn -> {:ok, _} = chunk(conn, "#{n},") end))
          {:ok, body, _conn} = Task.await(reader, 20_000)
          {:ok, conn} = chunk(conn, body)
          conn
        end)

      write(socket, head("POST", "/", [{"content-length", "4"}]))
      {:ok, head} = :gen_tcp.recv(socket, 0, 20_000)
      assert head =~ "HTTP/1.1 200 OK"
      write(socket, "body")
      assert socket |> read_all_until("0\r\n\r\n") |> String.contains?("4\r\nbody\r\n")
    end
  end

  defp read_all_until(socket, ending, read \\ "") do
    {:ok, data} = :gen_tcp.recv(socket, 0, 20_000)
    read = read <> data
    if String.ends_with?(read, ending), do: read, else: read_all_until(socket, ending, read)
  end
end
