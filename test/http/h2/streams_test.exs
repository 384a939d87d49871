defmodule Ferrosock.HTTP.H2.StreamsTest do
  # Requests and responses as a Plug and a client of frames see them. That nothing is left of streams is told by
  # boundary/streams_test.exs.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [serve: 1, serve: 2, write: 2, ended: 1, eventually: 1]
  import Plug.Conn

  alias Ferrosock.Test.{Certificates, HTTP2, Logs, Raw}

  @file_path List.to_string(:code.which(:lists))

  setup do: Logs.attach()

  describe "the preface" do
    test "may come byte by byte" do
      server = serve(&send_resp(&1, 200, "hello"))
      socket = Raw.connect(server)

      HTTP2.open(socket, %{}, fn socket, preface ->
        for <<byte <- preface>>, do: Raw.write_alone(server, socket, <<byte>>)
      end)

      HTTP2.request(socket, 1, "GET", "/")
      assert %{status: 200, body: "hello"} = HTTP2.response(socket, 1)
    end

    test "has the time of a handshake with TLS" do
      %{cert: cert, key: key} = Certificates.make()
      server = serve(& &1, scheme: :https, cert: cert, key: key, handshake_timeout: 2_000)

      {:ok, socket} =
        Raw.connect_tls(server, alpn_advertised_protocols: ["h2"], verify: :verify_none)

      assert :ssl.negotiated_protocol(socket) == {:ok, "h2"}
      {:ok, _settings} = :ssl.recv(socket, 9, 5_000)
      assert drained(socket) == {:error, :closed}
    end

    test "is refused where HTTP/2 is switched off" do
      server = serve(&send_resp(&1, 200, ""), http_2_options: [enabled: false])
      socket = HTTP2.connect(server)
      assert HTTP2.closed(socket) == nil
      assert %{status: 200} = server |> Raw.connect() |> Raw.request("GET", "/")
    end
  end

  defp drained(socket) do
    with {:ok, _bytes} <- :ssl.recv(socket, 0, 20_000), do: drained(socket)
  end

  describe "a request" do
    # RFC3986§3.2.2; clients of Unix sockets send the path as their host.
    test "may have a host in percent codes" do
      server = serve(&send_resp(&1, 200, "#{&1.host} #{get_req_header(&1, "x")}"))
      socket = HTTP2.connect(server)

      for {id, host, more, answer} <- [
            {1, "localhost", [], {200, "localhost v"}},
            {3, "%2Ftmp%2Fapp.sock", [], {200, "%2Ftmp%2Fapp.sock v"}},
            {5, "localhost", [], {200, "localhost v"}},
            {7, "%2Ftmp%2Fapp.sock:80", [{"host", "%2Ftmp%2Fapp.sock:80"}],
             {200, "%2Ftmp%2Fapp.sock v"}},
            {9, "%2Ftmp", [{"host", "%2Fother"}], {400, ""}},
            {11, "%2", [], {400, ""}},
            {13, "localhost", [], {200, "localhost v"}}
          ] do
        pseudo = [{":method", "GET"}, {":scheme", "http"}, {":authority", host}, {":path", "/"}]
        HTTP2.headers(socket, id, :fin, pseudo ++ [{"x", "v"} | more])
        assert %{status: status, body: body} = HTTP2.response(socket, id)
        assert {status, body} == answer
      end
    end

    test "is told as one of HTTP/1 would be" do
      test = self()
      server = serve(&send(test, {:conn, &1}))
      socket = HTTP2.connect(server)

      HTTP2.request(socket, 1, "PUT", "/a/b?c=d", [
        {"x-one", "1"},
        {"cookie", "a=1"},
        {"x-one", "2"},
        {"cookie", "b=2"}
      ])

      assert %{status: 200, end: :fin} = HTTP2.response(socket, 1)
      assert_receive {:conn, conn}
      assert %{method: "PUT", host: "localhost", port: 80, scheme: :http} = conn
      assert %{path_info: ["a", "b"], query_string: "c=d"} = conn
      assert get_http_protocol(conn) == :"HTTP/2"
      assert get_req_header(conn, "x-one") == ["1", "2"]
      assert get_req_header(conn, "cookie") == ["a=1; b=2"]
      assert get_req_header(conn, "host") == ["localhost"]
      {:ok, {address, port}} = :inet.sockname(socket)
      assert %{address: ^address, port: ^port, ssl_cert: nil} = get_peer_data(conn)
    end

    test "has a process of its own, which ends with it" do
      test = self()
      server = serve(fn _conn -> send(test, {:serving, self()}) end)
      socket = HTTP2.connect(server)

      pids =
        for id <- [1, 3] do
          HTTP2.request(socket, id, "GET", "/")
          assert_receive {:serving, pid}
          monitor = Process.monitor(pid)
          assert %{status: 200} = HTTP2.response(socket, id)

          assert_receive {:DOWN, ^monitor, :process, ^pid, reason}
                         when reason in [:normal, :noproc]

          pid
        end

      assert [first, second] = pids
      assert first != second
      assert %{connections: 1, accepted: 1, requests: 2} = Ferrosock.info(server)
    end

    test "is refused when it has too many headers, or one that names another host" do
      server = serve(&send_resp(&1, 200, ""), http_2_options: [max_header_count: 10])
      socket = HTTP2.connect(server)
      many = for n <- 1..11, do: {"x-#{n}", ""}

      HTTP2.request(socket, 1, "GET", "/", many)
      assert %{status: 431} = HTTP2.response(socket, 1)
      HTTP2.request(socket, 3, "GET", "/", [{"host", "other"}])
      assert %{status: 400} = HTTP2.response(socket, 3)
      HTTP2.request(socket, 5, "GET", "/", [{"host", "LOCALHOST"}])
      assert %{status: 200} = HTTP2.response(socket, 5)
    end

    test "is not delayed by one that is slow" do
      server = serve_slowly()
      socket = HTTP2.connect(server)
      slow = slow_request(socket, 1)
      HTTP2.request(socket, 3, "GET", "/")
      assert %{status: 200, body: "quick"} = HTTP2.response(socket, 3)
      send(slow, :go)
      assert %{status: 200, body: "slow"} = HTTP2.response(socket, 1)
    end

    test "that is malformed ends its stream alone, without a process and without a word (RFC9113§8.1.1)" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:serving, conn.request_path, self()})
          if conn.request_path == "/held", do: receive(do: (:go_on -> :ok))
          send_resp(conn, 200, conn.request_path)
        end)

      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/held")
      assert_receive {:serving, "/held", held}

      wrong = [{"X-Upper", "a"}, {"x a", ""}, {"x-a", "b\nc"}, {"x-a", <<0>>}, {":foo", "a"}]

      for {field, id} <- Enum.zip(wrong, Stream.iterate(3, &(&1 + 4))) do
        # What is put into the header table on the way is named by its index afterwards.
        kept = {"x-kept-#{id}", "kept"}
        HTTP2.request(socket, id, "GET", "/wrong", [field, kept])
        assert %{status: nil, end: {:reset, :protocol_error}} = HTTP2.response(socket, id)
        HTTP2.request(socket, id + 2, "GET", "/#{id}", [kept])
        assert %{status: 200} = HTTP2.response(socket, id + 2)
      end

      assert Logs.taken(server) == []
      refute_received {:serving, "/wrong", _pid}
      send(held, :go_on)
      assert %{status: 200, body: "/held"} = HTTP2.response(socket, 1)
      refute HTTP2.goaway?(socket)
      assert %{connections: 1} = Ferrosock.info(server)
    end

    test "that goes on being malformed is told to be calm, in one line" do
      server = serve(&send_resp(&1, 200, ""))
      socket = HTTP2.connect(server)

      # More than there may be; the rest is not received any more.
      for n <- 1..1100, do: HTTP2.request(socket, 2 * n - 1, "GET", "/", [{"X", ""}])
      assert HTTP2.closed(socket) == :enhance_your_calm
      ended(server)

      assert [{:log, :warning, line, _meta}] = Logs.taken(server)
      assert line =~ "http2 protocol error"
    end

    test "may have a body that is larger than the windows" do
      test = self()

      server =
        serve(fn conn ->
          {:ok, body, conn} = read_body(conn, length: 10_000_000)
          send(test, {:digest, :crypto.hash(:sha256, body)})
          send_resp(conn, 200, "#{byte_size(body)}")
        end)

      socket = HTTP2.connect(server)
      data = :crypto.strong_rand_bytes(2_000_000)
      HTTP2.request(socket, 1, "POST", "/", [], :more)
      upload(socket, 1, data)
      assert %{status: 200, body: "2000000"} = HTTP2.response(socket, 1)
      assert_receive {:digest, digest}
      assert digest == :crypto.hash(:sha256, data)
    end

    test "whose body nobody reads takes no more of it than a window" do
      server = serve_slowly(http_2_options: [initial_window_size: 65_535])
      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "POST", "/slow", [], :more)
      assert_receive {:slow, slow}
      settings = HTTP2.take(socket, &match?({:settings, _}, &1))
      assert {:settings, %{initial_window_size: 65_535}} = settings
      for _ <- 1..3, do: HTTP2.data(socket, 1, :nofin, :binary.copy("x", 16_384))
      # Longer than a window update takes to come.
      assert {:timeout, _frames} = HTTP2.take(socket, &match?({:window_update, 1, _}, &1), 300)
      send(slow, :go)
      # The response is whole without the request being so (RFC9113§8.1).
      assert %{status: 200, body: "slow", end: :fin} = HTTP2.response(socket, 1)
      assert HTTP2.take(socket, &match?({:rst_stream, 1, _}, &1)) == {:rst_stream, 1, :no_error}
    end
  end

  # Keeps to the windows that the server opens.
  defp upload(socket, id, data, stream \\ 65_535, connection \\ 65_535)

  defp upload(socket, id, data, stream, connection) do
    case min(min(stream, connection), 16_384) do
      0 ->
        update = HTTP2.take(socket, &(elem(&1, 0) in [:window_update, :settings]))

        case update do
          {:window_update, ^id, more} ->
            upload(socket, id, data, stream + more, connection)

          {:window_update, more} ->
            upload(socket, id, data, stream, connection + more)

          {:settings, %{initial_window_size: size}} ->
            upload(socket, id, data, stream + size - 65_535, connection)
        end

      room when room >= byte_size(data) ->
        HTTP2.data(socket, id, :fin, data)

      room ->
        <<part::binary-size(^room), rest::binary>> = data
        HTTP2.data(socket, id, :nofin, part)
        upload(socket, id, rest, stream - room, connection - room)
    end
  end

  # What is slow is answered after `:go`.
  defp serve_slowly(options \\ []) do
    test = self()

    serve(
      fn
        %{request_path: "/slow"} = conn ->
          send(test, {:slow, self()})
          receive do: (:go -> send_resp(conn, 200, "slow"))

        conn ->
          send_resp(conn, 200, "quick")
      end,
      options
    )
  end

  # Its process.
  defp slow_request(socket, id) do
    HTTP2.request(socket, id, "GET", "/slow")
    assert_receive {:slow, pid}
    pid
  end

  describe "a response" do
    test "has what its status and method allow" do
      server =
        serve(fn
          %{path_info: [status]} = conn -> send_resp(conn, String.to_integer(status), "body")
          conn -> conn |> put_resp_header("connection", "close") |> send_resp(200, "body")
        end)

      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/")
      assert %{status: 200, body: "body", headers: headers} = HTTP2.response(socket, 1)
      assert {"content-length", "4"} in headers
      assert [{"date", date}] = for({"date", _} = header <- headers, do: header)
      assert date =~ ~r/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/
      refute List.keymember?(headers, "connection", 0)

      HTTP2.request(socket, 3, "HEAD", "/")
      assert %{status: 200, body: "", headers: headers, end: :fin} = HTTP2.response(socket, 3)
      assert {"content-length", "4"} in headers

      for {id, status} <- [{5, 204}, {7, 304}] do
        HTTP2.request(socket, id, "GET", "/#{status}")
        assert %{status: ^status, body: "", end: :fin} = HTTP2.response(socket, id)
      end
    end

    test "may come after informational ones" do
      server = serve(&(&1 |> inform!(:early_hints, [{"link", "</a>"}]) |> send_resp(200, "")))
      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/")
      response = HTTP2.response(socket, 1)
      assert %{status: 200, informed: [{103, [{"link", "</a>"}]}]} = response
    end

    test "waits for the client's windows, and so does its process" do
      test = self()

      server =
        serve(fn conn ->
          conn = send_chunked(conn, 200)

          for n <- 1..40 do
            {:ok, _conn} = chunk(conn, :binary.copy(<<n>>, 50_000))
            send(test, {:chunk, n})
          end

          conn
        end)

      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/")
      assert {200, _headers} = HTTP2.head(socket, 1)
      assert_receive {:chunk, 5}
      refute_receive {:chunk, 20}, 200
      HTTP2.window_update(socket, 1, 10_000_000)
      data = HTTP2.read(socket, 1, 2_000_000)
      assert data == for(n <- 1..40, into: "", do: :binary.copy(<<n>>, 50_000))
      assert_receive {:chunk, 40}
    end

    test "of a file arrives whole" do
      server = serve(&send_file(&1, 200, @file_path))
      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/")
      HTTP2.window_update(socket, 1, 10_000_000)
      assert %{status: 200, body: body} = HTTP2.response(socket, 1)
      assert body == File.read!(@file_path)
    end
  end

  describe "a client" do
    test "may not have more streams than the server allows" do
      server = serve_slowly(http_2_options: [max_concurrent_streams: 2])
      socket = HTTP2.connect(server)
      {:settings, settings} = HTTP2.take(socket, &match?({:settings, _}, &1))
      assert settings.max_concurrent_streams == 2
      slow = for id <- [1, 3], do: slow_request(socket, id)
      HTTP2.request(socket, 5, "GET", "/slow")
      assert %{end: {:reset, :refused_stream}} = HTTP2.response(socket, 5)
      for pid <- slow, do: send(pid, :go)
      assert %{status: 200} = HTTP2.response(socket, 1)
      assert %{status: 200} = HTTP2.response(socket, 3)
      HTTP2.request(socket, 7, "GET", "/")
      assert %{status: 200} = HTTP2.response(socket, 7)
    end

    test "that resets its streams keeps few processes at work, and is told to be calm" do
      test = self()

      server =
        serve(
          fn _conn ->
            send(test, :serving)
            Raw.forever()
          end,
          http_2_options: [max_concurrent_streams: 10],
          shutdown_timeout: 100
        )

      socket = HTTP2.connect(server)

      HTTP2.request(socket, 1, "GET", "/")
      assert_receive :serving
      HTTP2.reset(socket, 1)

      for id <- 3..201//2 do
        received = Ferrosock.info(server).bytes_received
        HTTP2.request_and_reset(socket, id)

        eventually(fn ->
          info = Ferrosock.info(server)
          info.bytes_received > received or info.connections == 0
        end)
      end

      assert HTTP2.closed(socket) == :enhance_your_calm
      ended(server)

      assert [{:log, :warning, "Ferrosock refused what" <> _, _meta}] = Logs.taken(server)
      assert count(:serving) < 20
    end

    test "without a stream is sent away after a while" do
      server = serve_slowly(http_2_options: [idle_timeout: 200])
      socket = HTTP2.connect(server)
      slow = slow_request(socket, 1)
      # Longer than idle_timeout, which a stream puts off.
      assert {:timeout, _frames} = HTTP2.take(socket, &(elem(&1, 0) == :goaway), 300)
      send(slow, :go)
      assert %{status: 200} = HTTP2.response(socket, 1)
      assert HTTP2.closed(socket) == :no_error
    end

    test "may send so many requests" do
      server = serve(&send_resp(&1, 200, ""), http_2_options: [max_requests: 2])
      socket = HTTP2.connect(server)
      HTTP2.request(socket, 1, "GET", "/")
      HTTP2.request(socket, 3, "GET", "/")
      assert %{status: 200} = HTTP2.response(socket, 1)
      assert %{status: 200} = HTTP2.response(socket, 3)
      assert HTTP2.closed(socket) == :no_error
    end

    test "that breaks the protocol costs a line" do
      server = serve(&send_resp(&1, 200, ""))
      socket = HTTP2.connect(server)

      # HEADERS without an end, and something in between (RFC9113§6.10).
      write(socket, <<0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82>>)
      write(socket, :cow_http2.ping(0))
      assert HTTP2.closed(socket) == :protocol_error
      ended(server)

      assert [{:log, :warning, line, _meta}] = Logs.taken(server)
      assert line =~ "http2 protocol error"
    end
  end

  defp count(message, count \\ 0) do
    receive do
      ^message -> count(message, count + 1)
    after
      0 -> count
    end
  end

  describe "a drain" do
    test "says GOAWAY, lets requests end, and closes" do
      server = serve_slowly()
      busy = HTTP2.connect(server)
      idle = HTTP2.connect(server)
      HTTP2.request(idle, 1, "GET", "/")
      assert %{status: 200} = HTTP2.response(idle, 1)
      slow = slow_request(busy, 1)

      drain = Task.async(fn -> Ferrosock.drain(server) end)
      assert HTTP2.closed(idle) == :no_error
      send(slow, :go)
      assert %{status: 200, body: "slow", end: :fin} = HTTP2.response(busy, 1)
      assert HTTP2.closed(busy) == :no_error
      assert Task.await(drain, 20_000) == :ok
      assert Ferrosock.info(server).connections == 0
    end

    test "does not wait for a client that does not answer" do
      server = serve(&send_resp(&1, 200, ""))
      silent = HTTP2.connect(server)
      HTTP2.request(silent, 1, "GET", "/")
      assert %{status: 200} = HTTP2.response(silent, 1)
      assert Ferrosock.drain(server, deadline: 5_000) == :ok
    end
  end
end
