defmodule Ferrosock.HTTP.DisconnectTest do
  # `Ferrosock.notify_disconnect/1` over HTTP/1. Over HTTP/2 it is in h2/disconnect_test.exs; that nothing is left of
  # those who have asked, in boundary/disconnect_test.exs.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.{Asking, Certificates, Logs}

  @python Path.expand("../clients/.venv/bin/python", __DIR__)
  @script Path.expand("../clients/close_notify.py", __DIR__)

  @get "GET /poll HTTP/1.1\r\nhost: localhost\r\n\r\n"

  setup_all do
    [made: Certificates.make()]
  end

  setup do: Logs.attach()

  defp start(transport, made, options \\ []),
    do: Asking.start(transport_options(transport, made) ++ options)

  defp client(server, :tls) do
    {:ok, socket} = connect_tls(server, verify: :verify_none, nodelay: true)
    socket
  end

  defp client(server, _transport), do: connect(server)

  defp ask(socket, path, more \\ "") do
    write(socket, head("GET", path) <> more)
    asked = Asking.await()

    # What a client has not read would make its close a reset.
    if path == "/events" do
      {:ok, 200} = status(socket)
      read_chunk(socket)
    end

    asked
  end

  defp status(socket) do
    head = read_until(socket, "\r\n\r\n")
    {status, _rest} = head |> binary_part(9, 3) |> Integer.parse()
    {:ok, status}
  end

  defp read_chunk(socket), do: read_until(socket, Asking.first() <> "\r\n")

  defp read_until(socket, text, read \\ "") do
    if String.ends_with?(read, text),
      do: read,
      else: read_until(socket, text, read <> read(socket, 1))
  end

  defp leave(socket, :half_close), do: :ok = transport(socket).shutdown(socket, :write)
  defp leave(socket, :reset), do: reset(socket)
  defp leave(socket, :fin) when is_port(socket), do: :gen_tcp.close(socket)
  # OTP says so by close_notify and FIN, and then waits for the server's.
  defp leave(socket, :fin), do: spawn(fn -> :ssl.close(socket) end)

  @ways for transport <- [:tcp, :tls, :unix],
            way <- [:fin, :half_close, :reset],
            way != :reset or transport == :tcp,
            do: {transport, way}

  for {transport, way} <- @ways, path <- ["/poll", "/events"] do
    @tag transport: transport, way: way, path: path
    test "a client of #{path} over #{transport} that leaves by #{way} is told, once", context do
      %{transport: transport, way: way} = context
      server = start(transport, context.made)
      socket = client(server, transport)
      {pid, ref} = ask(socket, context.path)
      refute Asking.run(pid, &Ferrosock.disconnected?/1)
      refute_received {:told, _pid, _ref}

      leave(socket, way)
      assert_receive {:told, ^pid, ^ref}
      assert Asking.run(pid, &Ferrosock.disconnected?/1)
      Asking.answer(pid)
      ended(server)
      refute_received {:told, _pid, _ref}
      assert Logs.taken(server) == []
    end
  end

  for transport <- [:tcp, :tls] do
    @tag transport: transport
    test "a client over #{transport} that has sent its next requests before it leaves is told", %{
      transport: transport,
      made: made
    } do
      server = start(transport, made)
      socket = client(server, transport)

      # More than hyper reads, and less than the kernel keeps: what it does not keep, its FIN waits behind.
      {pid, ref} = ask(socket, "/poll", String.duplicate(@get, 500))
      leave(socket, :half_close)
      assert_receive {:told, ^pid, ^ref}
      transport(socket).close(socket)
      Asking.answer(pid)
    end
  end

  for path <- ["/poll", "/events"] do
    @tag path: path
    test "a client of #{path} that sends a close_notify and waits for the server's is told", %{
      path: path,
      made: made
    } do
      server = start(:tls, made)

      process =
        Port.open({:spawn_executable, @python}, [
          :binary,
          args: ["-B", @script, "#{port(server)}", path]
        ])

      {pid, ref} = Asking.await()
      refute Asking.run(pid, &Ferrosock.disconnected?/1)
      # Its word to leave.
      Port.command(process, "\n")
      assert_receive {:told, ^pid, ^ref}
      assert Asking.run(pid, &Ferrosock.disconnected?/1)
      Asking.answer(pid)
      ended(server)
      assert Logs.taken(server) == []
    end
  end

  test "a close_notify is found by who only looks it up", %{made: made} do
    test = self()

    server =
      serve(
        fn conn ->
          send(test, :serving)
          send(test, {:left, eventually(fn -> Ferrosock.disconnected?(conn) end)})
        end,
        transport_options(:tls, made)
      )

    process =
      Port.open({:spawn_executable, @python}, [
        :binary,
        args: ["-B", @script, "#{port(server)}", "/"]
      ])

    assert_receive :serving
    Port.command(process, "\n")
    assert_receive {:left, true}
  end

  # It is read ahead for the close_notify.
  test "a client over tls is served on where somebody has asked", %{made: made} do
    server =
      serve(
        fn conn ->
          Ferrosock.notify_disconnect(conn)
          {:ok, body, conn} = read_body(conn)
          send_resp(conn, 200, body)
        end,
        transport_options(:tls, made)
      )

    socket = client(server, :tls)

    for n <- 1..200 do
      {head, body} = {head("POST", "/", [{"content-length", "8"}]), String.pad_leading("#{n}", 8)}
      # Cut anywhere, and what follows sent at once or when there has been an answer.
      {first, rest} = String.split_at(head <> body, rem(n * 7, byte_size(head) + 8))
      write(socket, first)
      if rem(n, 3) == 0, do: Process.sleep(1)
      write(socket, rest)
      assert %{status: 200, body: ^body} = response(socket)
    end

    write(socket, List.duplicate(head("POST", "/", [{"content-length", "4"}]) <> "body", 500))
    for _ <- 1..500, do: assert(%{status: 200, body: "body"} = response(socket))
  end

  test "a client that only closes its side has its response all the same (RFC9112§9.6)", %{
    made: made
  } do
    server = start(:tcp, made)
    socket = connect(server)
    {pid, ref} = ask(socket, "/poll")
    leave(socket, :half_close)
    assert_receive {:told, ^pid, ^ref}
    Asking.answer(pid)
    assert %{status: 200, body: "answer"} = response(socket)
    assert closed?(socket)
  end

  test "one that closes its side and then vanishes is told once", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    {pid, ref} = ask(socket, "/events")
    leave(socket, :half_close)
    assert_receive {:told, ^pid, ^ref}
    reset(socket)
    ended(server)
    Asking.run(pid, fn _conn -> :handled end)
    refute_received {:told, _pid, _ref}
  end

  test "with half_close switched off it is told, and its connection has ended", %{made: made} do
    server = start(:tcp, made, http_1_options: [half_close: false])
    socket = connect(server)
    {pid, ref} = ask(socket, "/poll")
    leave(socket, :half_close)
    assert_receive {:told, ^pid, ^ref}
    ended(server)
  end

  test "a client that cuts its own body short is told", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    write(socket, head("POST", "/poll", [{"content-length", "10"}]) <> "part")
    {pid, ref} = Asking.await()
    leave(socket, :fin)
    assert_receive {:told, ^pid, ^ref}
  end

  for transport <- [:tcp, :tls], version <- ["--http1.1", "--http2"] do
    # It has no time for a close_notify or a GOAWAY.
    @tag transport: transport, version: version
    test "curl #{version} over #{transport} that is killed is told", context do
      server = start(context.transport, context.made)
      scheme = if context.transport == :tls, do: "https", else: "http"
      curl = System.find_executable("curl") || flunk("there is no curl in the PATH")
      url = "#{scheme}://127.0.0.1:#{port(server)}/events"
      arguments = ["-skN", context.version, "--max-time", "60", url]
      process = Port.open({:spawn_executable, curl}, [:binary, :exit_status, args: arguments])
      {:os_pid, os_pid} = Port.info(process, :os_pid)
      {pid, ref} = Asking.await()
      assert_receive {^process, {:data, _first}}
      {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
      assert_receive {:told, ^pid, ^ref}
      assert_receive {^process, {:exit_status, _status}}
      Asking.answer(pid)
      ended(server)
      assert Logs.taken(server) == []
    end
  end

  test "a client that takes nothing for send_timeout has left, and all who have asked are told",
       %{
         made: made
       } do
    server = start(:tcp, made, http_1_options: [send_timeout: 300])
    socket = connect(server, recbuf: 4_096)
    write(socket, head("GET", "/events"))
    {pid, ref} = Asking.await()
    {beside, ref_beside} = Asking.ask_beside(pid)
    send(pid, {:run, &send_all/1})
    assert_receive {:ran, :closed}
    assert_receive {:told, ^pid, ^ref}
    assert_receive {:told, ^beside, ^ref_beside}
    :gen_tcp.close(socket)
  end

  defp send_all(conn) do
    case chunk(conn, :binary.copy("x", 100_000)) do
      {:ok, conn} -> send_all(conn)
      {:error, reason} -> reason
    end
  end

  test "a drain ends no request, but tells of those that it kills", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    {pid, _ref} = ask(socket, "/events")
    {beside, ref} = Asking.ask_beside(pid)
    drain = Task.async(fn -> Ferrosock.drain(server, deadline: 500) end)
    eventually(fn -> refused?(server) end)
    refute Asking.run(pid, &Ferrosock.disconnected?/1)
    assert Task.await(drain, 20_000) == {:timeout, 1}
    assert_receive {:told, ^beside, ^ref}
    refute_received {:told, ^pid, _ref}
  end

  test "whose Plug is killed is gone for those who have asked beside it", %{made: made} do
    server = start(:tcp, made)
    socket = connect(server)
    {pid, _ref} = ask(socket, "/poll")
    {beside, ref} = Asking.ask_beside(pid)
    Process.exit(pid, :kill)
    assert_receive {:told, ^beside, ^ref}
    assert %{status: 500} = response(socket)
  end

  describe "who asks" do
    test "may be any process, any number of times", %{made: made} do
      server = start(:tcp, made)
      socket = connect(server)
      {pid, first} = ask(socket, "/poll")
      {beside, beside_ref} = Asking.ask_beside(pid)
      second = Asking.run(pid, &Ferrosock.notify_disconnect/1)
      assert first != second
      leave(socket, :fin)
      for ref <- [first, second], do: assert_receive({:told, ^pid, ^ref})
      assert_receive {:told, ^beside, ^beside_ref}
    end

    test "after the client has left is told at once", %{made: made} do
      test = self()

      server =
        serve(
          fn conn ->
            send(test, {:serving, self()})
            eventually(fn -> Ferrosock.disconnected?(conn) end)
            Asking.call(conn, test)
          end,
          transport_options(:tcp, made)
        )

      socket = connect(server)
      write(socket, @get)
      assert_receive {:serving, _pid}
      leave(socket, :fin)
      {pid, first} = Asking.await()
      assert_receive {:told, ^pid, ^first}
      second = Asking.run(pid, &Ferrosock.notify_disconnect/1)
      assert_receive {:told, ^pid, ^second}
      Asking.answer(pid)
      ended(server)
    end

    for path <- ["/poll", "/events"] do
      @tag path: path
      test "about #{path} is told nothing after the response", %{path: path, made: made} do
        server = start(:tcp, made)
        socket = connect(server)
        {pid, _ref} = ask(socket, path)
        conn = Asking.run(pid, & &1)
        {_beside, _ref} = Asking.ask_beside(pid)
        Asking.answer(pid)
        if path == "/poll", do: response(socket), else: read_until(socket, "0\r\n\r\n")

        late = Ferrosock.notify_disconnect(conn)
        leave(socket, :fin)
        ended(server)
        refute Ferrosock.disconnected?(conn)
        refute_receive {:ferrosock, :disconnected, ^late}, 300
        refute_received {:told, _pid, _ref}
      end
    end

    test "about chunks with a length is told nothing after the last of them", %{made: made} do
      test = self()

      server =
        serve(
          fn conn ->
            conn = conn |> put_resp_header("content-length", "10") |> send_chunked(200)
            ref = Ferrosock.notify_disconnect(conn)
            for data <- ["hello", "world"], do: {:ok, _conn} = chunk(conn, data)
            send(test, {:gave, self()})
            receive do: (:go -> send(test, {:left, Ferrosock.disconnected?(conn)}))
            refute_received {:ferrosock, :disconnected, ^ref}
            conn
          end,
          transport_options(:tcp, made)
        )

      socket = connect(server)
      write(socket, @get)
      assert_receive {:gave, pid}
      assert %{status: 200, body: "helloworld"} = response(socket)
      leave(socket, :fin)
      send(pid, :go)
      assert_receive {:left, false}
      ended(server)
      assert Logs.taken(server) == []
    end

    test "and receives everything can look it up", %{made: made} do
      test = self()

      server =
        serve(
          fn conn ->
            Ferrosock.notify_disconnect(conn)
            send(test, {:asked, self(), nil})
            send(test, {:ended, lose_all(conn)})
          end,
          transport_options(:tcp, made)
        )

      socket = connect(server)
      ask(socket, "/poll")
      leave(socket, :fin)
      assert_receive {:ended, :disconnected}
      ended(server)
    end

    test "may be in a receive of its own, as a long poll is", %{made: made} do
      test = self()

      server =
        serve(
          fn conn ->
            ref = Ferrosock.notify_disconnect(conn)
            send(test, {:asked, self(), ref})

            receive do
              {:ferrosock, :disconnected, ^ref} -> send(test, {:told, self(), ref})
            end

            send_resp(conn, 204, "")
          end,
          transport_options(:tcp, made)
        )

      socket = connect(server)
      {pid, ref} = ask(socket, "/poll")
      # What is before it in the mailbox stays there.
      for n <- 1..1_000, do: send(pid, n)
      leave(socket, :fin)
      assert_receive {:told, ^pid, ^ref}
      ended(server)
    end

    test "about a response without a body is told that nobody takes its chunks", %{made: made} do
      server = start(:tcp, made)
      socket = connect(server)
      write(socket, head("HEAD", "/events"))
      {pid, ref} = Asking.await()
      assert_receive {:told, ^pid, ^ref}
      Asking.answer(pid)
      assert %{status: 200} = response(socket, "HEAD")
      assert %{status: 200, body: "answer"} = poll(socket)
    end
  end

  defp lose_all(conn) do
    receive do
      _message -> :lost
    after
      10 -> :nothing
    end

    if Ferrosock.disconnected?(conn), do: :disconnected, else: lose_all(conn)
  end

  # The connection goes on.
  defp poll(socket) do
    write(socket, @get)
    {pid, _ref} = Asking.await()
    Asking.answer(pid)
    response(socket)
  end

  describe "a notice for one request" do
    # Whatever the two do at the same time.
    test "never meets the next one", %{made: made} do
      test = self()

      server =
        serve(
          fn conn ->
            {:messages, messages} = Process.info(self(), :messages)
            ref = Ferrosock.notify_disconnect(conn)
            send(test, {:found, for({:ferrosock, _, _} = message <- messages, do: message)})
            if conn.path_info == ["wait"], do: eventually(fn -> Ferrosock.disconnected?(conn) end)
            send_resp(conn, 200, inspect(ref))
          end,
          transport_options(:tcp, made)
        )

      for n <- 1..200 do
        socket = connect(server)
        first = if rem(n, 2) == 0, do: "/wait", else: "/"
        write(socket, head("GET", first) <> head("GET", "/"))
        leave(socket, :half_close)
        for _request <- 1..2, do: assert_receive({:found, []})
        assert [%{status: 200}, %{status: 200}] = for(_ <- 1..2, do: response(socket))
        :gen_tcp.close(socket)
      end
    end

    defmodule Socket do
      use Ferrosock.Test.Probe
    end

    alias Ferrosock.Test.Probe

    defp upgrading(made, before) do
      test = self()

      told = fn message, state ->
        send(test, {:info, message})
        {:ok, state}
      end

      state = Probe.state(handle_info: told)

      serve(
        fn conn ->
          ref = Ferrosock.notify_disconnect(conn)
          before.(conn)
          send(self(), {:the_apps_own, ref})
          Ferrosock.upgrade(conn, Socket, state)
        end,
        transport_options(:tcp, made)
      )
    end

    test "never meets the WebSocket that the request becomes", %{made: made} do
      server = upgrading(made, fn _conn -> :ok end)
      socket = websocket(server)
      assert_receive {:opened, pid}
      assert_receive {:info, {:the_apps_own, ref}} when is_reference(ref)
      leave(socket, :fin)
      assert_receive {:terminated, ^pid, _reason, _state}
      refute_received {:info, _message}
    end

    test "never meets it also where the client has left before", %{made: made} do
      server = upgrading(made, fn conn -> eventually(fn -> Ferrosock.disconnected?(conn) end) end)
      socket = connect(server)
      write(socket, head("GET", "/", handshake_headers()))
      leave(socket, :half_close)
      assert %{status: 101} = response(socket)
      assert_receive {:terminated, _pid, _reason, _state}
      assert_received {:info, {:the_apps_own, _ref}}
      refute_received {:info, _message}
    end
  end

  describe "a conn of another server" do
    test "is refused" do
      conn = %{Plug.Test.conn(:get, "/") | adapter: {Plug.MissingAdapter, nil}}

      for ask <- [&Ferrosock.notify_disconnect/1, &Ferrosock.disconnected?/1] do
        assert_raise ArgumentError, ~r/Plug.MissingAdapter leaves: .* Ferrosock's/, fn ->
          ask.(conn)
        end
      end
    end

    test "is accepted from Plug.Test, where a test says that the client leaves" do
      conn = Plug.Test.conn(:get, "/events")
      {_adapter, %{ref: ref}} = conn.adapter
      refute Ferrosock.disconnected?(conn)
      assert Ferrosock.notify_disconnect(conn) == ref
      refute_received {:ferrosock, _, _}
      send(self(), {:ferrosock, :disconnected, ref})
      send(self(), :answer)
      assert %{state: :chunked} = Asking.call(conn, self())
      assert_received {:told, _pid, ^ref}
    end
  end
end
