defmodule Ferrosock.HTTP.HalfCloseTest do
  # A client that has sent its request and then closed its side of the connection still listens
  # (RFC9112§9.6), and is answered; one that is gone shows it by a reset.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.{Certificates, Logs}

  @large 2_000_000

  setup_all do
    [made: Certificates.make()]
  end

  # What answers `/KIND`, and how much of a body there is then.
  defp answer(%{path_info: ["whole"]} = conn), do: send_resp(conn, 200, "whole")

  defp answer(%{path_info: ["large"]} = conn),
    do: send_resp(conn, 200, :binary.copy("x", @large))

  defp answer(%{path_info: ["chunks"]} = conn) do
    conn = send_chunked(conn, 200)

    Enum.reduce(1..200, conn, fn _n, conn ->
      {:ok, conn} = chunk(conn, :binary.copy("x", 10_000))
      conn
    end)
  end

  defp answer(%{path_info: ["body"]} = conn) do
    {:ok, body, conn} = read_body(conn)
    send_resp(conn, 200, body)
  end

  defp answer(%{path_info: ["file"]} = conn),
    do: send_file(conn, 200, conn.private.file)

  defp answer(%{path_info: ["small"]} = conn), do: send_file(conn, 200, __ENV__.file)

  defp answer(%{path_info: ["fails"]}), do: raise("it fails")

  defp answer(%{path_info: ["late"]} = conn) do
    send(conn.private.test, {:late, self()})
    receive do: (:answer -> send_resp(conn, 200, "late"))
  end

  defp start(transport, made, options \\ []) do
    test = self()
    file = tmp_path()
    File.write!(file, :binary.copy("x", @large))

    serve(
      fn conn -> conn |> put_private(:test, test) |> put_private(:file, file) |> answer() end,
      transport_options(transport, made) ++ options
    )
  end

  @python Path.expand("../clients/.venv/bin/python", __DIR__)
  @script Path.expand("../clients/half_close.py", __DIR__)

  defp client(server, :tls) do
    {:ok, socket} = connect_tls(server, verify: :verify_none)
    socket
  end

  defp client(server, _transport), do: connect(server)

  # TLS says so by its close_notify.
  defp half_close(socket) when is_port(socket), do: :ok = :gen_tcp.shutdown(socket, :write)
  defp half_close(socket), do: :ok = :ssl.shutdown(socket, :write)

  # The status and the length of each response to what a client sends before it closes its side.
  defp answers(server, :tls, requests, _count) do
    file = Path.join(System.tmp_dir!(), "half-close-#{System.unique_integer([:positive])}")
    File.write!(file, requests)
    command = ~s(exec "$0" -B "$1" "$2" < "$3")
    {printed, 0} = System.cmd("sh", ["-c", command, @python, @script, "#{port(server)}", file])
    File.rm!(file)

    for line <- String.split(printed, "\n", trim: true) do
      [status, length] = line |> String.split() |> Enum.map(&String.to_integer/1)
      {status, length}
    end
  end

  defp answers(server, transport, requests, count) do
    socket = client(server, transport)
    write(socket, requests)
    half_close(socket)

    answers =
      for _ <- 1..count do
        %{status: status, body: body} = response(socket)
        {status, byte_size(body)}
      end

    assert closed?(socket)
    answers
  end

  defp get(path, version \\ "1.1"),
    do: "GET #{path} HTTP/#{version}\r\nhost: localhost\r\n\r\n"

  for transport <- [:tcp, :tls, :unix],
      version <- ["1.0", "1.1"],
      {path, size} <- [
        {"/whole", 5},
        {"/large", @large},
        {"/chunks", @large},
        {"/file", @large},
        {"/small", File.stat!(__ENV__.file).size}
      ] do
    @tag transport: transport, request: "GET #{path} HTTP/#{version}\r\nhost: localhost\r\n\r\n"
    @tag size: size
    test "a request of HTTP/#{version} for #{path} over #{transport} is answered", context do
      server = start(context.transport, context.made)
      assert answers(server, context.transport, context.request, 1) == [{200, context.size}]
    end
  end

  for transport <- [:tcp, :tls] do
    @tag transport: transport
    test "requests that are pipelined over #{transport} are all answered (RFC9112§9.3.2)", %{
      transport: transport,
      made: made
    } do
      server = start(transport, made)
      post = head("POST", "/body", [{"content-length", "4"}]) <> "body"
      chunked = head("POST", "/body", [{"transfer-encoding", "chunked"}]) <> "1\r\na\r\n0\r\n\r\n"
      requests = [get("/chunks"), post, get("/whole"), chunked, get("/large"), get("/whole")]
      sizes = [@large, 4, 5, 1, @large, 5]
      assert answers(server, transport, requests, 6) == for(size <- sizes, do: {200, size})
    end

    @tag transport: transport
    test "a request over #{transport} is answered although it takes long", %{
      transport: transport,
      made: made
    } do
      server = start(transport, made)
      socket = client(server, transport)
      write(socket, get("/late"))
      assert_receive {:late, pid}
      half_close(socket)
      # The server has read that, if it reads.
      assert %{status: 200} = request(client(server, transport), "GET", "/whole")
      send(pid, :answer)
      assert response(socket).body == "late"
      assert closed?(socket)
    end

    @tag transport: transport
    test "an idle connection over #{transport} closes", %{transport: transport, made: made} do
      server = start(transport, made)
      socket = client(server, transport)
      assert %{status: 200} = request(socket, "GET", "/whole")
      half_close(socket)
      assert closed?(socket)
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
    end
  end

  test "a handler that fails is answered for, and the connection ends", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    write(socket, get("/fails"))
    half_close(socket)
    assert %{status: 500} = response(socket)
    assert closed?(socket)
    eventually(fn -> Ferrosock.info(server).connections == 0 end)
  end

  test "a handler that is killed is answered for, and the connection ends", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    write(socket, get("/late"))
    assert_receive {:late, pid}
    half_close(socket)
    Process.exit(pid, :kill)
    assert %{status: 500} = response(socket)
    assert closed?(socket)
    eventually(fn -> Ferrosock.info(server).connections == 0 end)
  end

  test "a body that is cut short is an error at once (RFC9112§8)", %{made: made} do
    Logs.attach()

    for {headers, body} <- [
          {[{"content-length", "10"}], "part"},
          {[{"transfer-encoding", "chunked"}], "a\r\npart"},
          {[{"transfer-encoding", "chunked"}], "4\r\npart\r\n"},
          {[{"transfer-encoding", "chunked"}], "4\r\npart\r\n0\r\n"}
        ] do
      socket = connect(start(:tcp, made))
      {:ok, {_address, port}} = :inet.sockname(socket)
      write(socket, head("POST", "/body", headers) <> body)
      half_close(socket)
      assert %{status: 400} = response(socket)
      assert closed?(socket)
      assert [{:log, :warning, text, _meta}] = Logs.taken("127.0.0.1:#{port} ")
      assert text =~ "cut short"
    end
  end

  test "a drain lets it have its response", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    write(socket, get("/late"))
    assert_receive {:late, pid}
    half_close(socket)
    drain = Task.async(fn -> Ferrosock.drain(server) end)
    eventually(fn -> refused?(server) end)
    send(pid, :answer)
    assert response(socket).body == "late"
    assert Task.await(drain, 20_000) == :ok
  end

  describe "a client that is gone" do
    defp streaming(made, fun) do
      test = self()

      server =
        serve(
          fn conn ->
            conn = send_chunked(conn, 200)
            {:ok, conn} = chunk(conn, "first")
            send(test, {:streaming, self()})
            fun.(conn)
            conn
          end,
          transport_options(:tcp, made)
        )

      socket = connect(server)
      write(socket, get("/"))
      assert_receive {:streaming, pid}
      {server, socket, pid}
    end

    defp read_until(socket, text, read \\ "") do
      unless String.ends_with?(read, text) do
        {:ok, data} = :gen_tcp.recv(socket, 0, 20_000)
        read_until(socket, text, read <> data)
      end
    end

    defp step(conn, test) do
      receive do
        :chunk ->
          send(test, {:chunk, chunk(conn, "more")})
          step(conn, test)
      end
    end

    test "by a FIN shows at the second chunk after it", %{made: made} do
      test = self()
      {server, socket, pid} = streaming(made, &step(&1, test))
      # What it has not read would make the close a reset.
      read_until(socket, "first\r\n")
      :gen_tcp.close(socket)
      send(pid, :chunk)
      assert_receive {:chunk, {:ok, _conn}}
      # Its answer to that was a reset.
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
      send(pid, :chunk)
      assert_receive {:chunk, {:error, :closed}}
      Process.exit(pid, :kill)
    end

    test "by a reset shows at the first one", %{made: made} do
      test = self()
      {server, socket, pid} = streaming(made, &step(&1, test))
      reset(socket)
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
      send(pid, :chunk)
      assert_receive {:chunk, {:error, :closed}}
      Process.exit(pid, :kill)
    end
  end

  test "half_close: false takes it for gone", %{made: made} do
    server = start(:tcp, made, http_1_options: [half_close: false])
    socket = connect(server)
    write(socket, get("/late"))
    assert_receive {:late, pid}
    half_close(socket)
    assert closed?(socket)
    eventually(fn -> Ferrosock.info(server).connections == 0 end)
    send(pid, :answer)
    # A client that stays is served.
    assert %{status: 200} = request(connect(server), "GET", "/whole")
  end
end
