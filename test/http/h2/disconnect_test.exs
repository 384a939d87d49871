defmodule Ferrosock.HTTP.H2.DisconnectTest do
  # `Ferrosock.notify_disconnect/1` over HTTP/2: of a stream and of its connection.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [serve: 2, ended: 1, reset: 1]

  alias Ferrosock.Test.{Asking, HTTP2, Logs, Raw}

  @python Path.expand("../../clients/.venv/bin/python", __DIR__)
  @script Path.expand("../../clients/h2_disconnect.py", __DIR__)

  setup do: Logs.attach()

  defp ask(socket, id, path, method \\ "GET") do
    HTTP2.request(socket, id, method, path)
    Asking.await()
  end

  for path <- ["/poll", "/events"] do
    @tag path: path
    test "a client that resets its stream (RFC9113§8.7) on #{path} is told, and others live on",
         %{
           path: path
         } do
      server = Asking.start()
      socket = HTTP2.connect(server)
      {pid, ref} = ask(socket, 1, path)
      {other, other_ref} = ask(socket, 3, path)
      refute Asking.run(pid, &Ferrosock.disconnected?/1)

      HTTP2.reset(socket, 1)
      assert_receive {:told, ^pid, ^ref}
      assert Asking.run(pid, &Ferrosock.disconnected?/1)
      refute Asking.run(other, &Ferrosock.disconnected?/1)
      Asking.answer(pid)
      Asking.answer(other)
      assert %{status: 200, end: :fin} = HTTP2.response(socket, 3)
      refute_received {:told, ^other, ^other_ref}

      # The one is over, and the connection goes on.
      {third, _ref} = ask(socket, 5, path)
      Asking.answer(third)
      assert %{status: 200, end: :fin} = HTTP2.response(socket, 5)
      :gen_tcp.close(socket)
      ended(server)
      refute_received {:told, _pid, _ref}
      assert Logs.taken(server) == []
    end

    for way <- [:fin, :reset] do
      @tag path: path, way: way
      test "a client whose connection ends by #{way} is told on all streams, on #{path} too", %{
        path: path,
        way: way
      } do
        server = Asking.start()
        socket = HTTP2.connect(server)
        asked = for id <- [1, 3, 5], do: ask(socket, id, path)
        if way == :fin, do: :gen_tcp.close(socket), else: reset(socket)

        for {pid, ref} <- asked do
          assert_receive {:told, ^pid, ^ref}
          Asking.answer(pid)
        end

        ended(server)
        refute_received {:told, _pid, _ref}
        assert Logs.taken(server) == []
      end
    end

    @tag path: path
    test "a GOAWAY of the client ends no request on #{path} (RFC9113§6.8)", %{path: path} do
      server = Asking.start()
      socket = HTTP2.connect(server)
      {pid, ref} = ask(socket, 1, path)
      :ok = :gen_tcp.send(socket, :cow_http2.goaway(0, :no_error, ""))
      HTTP2.window_update(socket, 1, 1)
      refute Asking.run(pid, &Ferrosock.disconnected?/1)
      refute_receive {:told, ^pid, ^ref}, 100
      :gen_tcp.close(socket)
      assert_receive {:told, ^pid, ^ref}
    end
  end

  test "a client that leaves after an informational response is told", %{} do
    server = Asking.start()
    socket = HTTP2.connect(server)
    {pid, ref} = ask(socket, 1, "/poll")
    Asking.run(pid, &Plug.Conn.inform(&1, 103, [{"link", "</style.css>"}]))
    refute Asking.run(pid, &Ferrosock.disconnected?/1)
    HTTP2.reset(socket, 1)
    assert_receive {:told, ^pid, ^ref}
  end

  test "a client that leaves while it sends a body is told" do
    server = Asking.start()
    socket = HTTP2.connect(server)
    HTTP2.request(socket, 1, "POST", "/poll", [], :more)
    {pid, ref} = Asking.await()
    HTTP2.data(socket, 1, :nofin, "part")
    HTTP2.reset(socket, 1)
    assert_receive {:told, ^pid, ^ref}
  end

  test "who asks after the client has left is told at once, and may look it up before" do
    test = self()

    server =
      serve(
        fn conn ->
          send(test, {:serving, self()})
          Raw.eventually(fn -> Ferrosock.disconnected?(conn) end)
          Asking.call(conn, test)
        end,
        shutdown_timeout: 100
      )

    socket = HTTP2.connect(server)
    HTTP2.request(socket, 1, "GET", "/poll")
    assert_receive {:serving, _pid}
    HTTP2.reset(socket, 1)
    {pid, ref} = Asking.await()
    assert_receive {:told, ^pid, ^ref}
  end

  test "a client whose window stays closed for send_timeout has left" do
    server = Asking.start(http_2_options: [send_timeout: 300])
    socket = HTTP2.connect(server, %{initial_window_size: 0})
    HTTP2.request(socket, 1, "GET", "/events")
    {pid, ref} = Asking.await()
    assert_receive {:told, ^pid, ^ref}
  end

  test "who asks about a response without a body is told that nobody takes its chunks" do
    server = Asking.start()
    socket = HTTP2.connect(server)
    {pid, ref} = ask(socket, 1, "/events", "HEAD")
    assert_receive {:told, ^pid, ^ref}
    Asking.answer(pid)
    assert %{status: 200, end: :fin} = HTTP2.response(socket, 1)
  end

  test "a killed Plug is told to those who have asked beside it" do
    server = Asking.start()
    socket = HTTP2.connect(server)

    for {id, path} <- [{1, "/poll"}, {3, "/events"}] do
      {pid, _ref} = ask(socket, id, path)
      {beside, ref} = Asking.ask_beside(pid)
      Process.exit(pid, :kill)
      assert_receive {:told, ^beside, ^ref}
    end
  end

  # With the HTTP/2 of PyPI's h2.
  test "python's h2 resets one stream, goes on with another, and is killed" do
    server = Asking.start()
    arguments = ["-B", @script, "#{Raw.port(server)}"]
    process = Port.open({:spawn_executable, @python}, [:binary, :exit_status, args: arguments])
    {:os_pid, os_pid} = Port.info(process, :os_pid)
    asked = for _ <- 1..2, do: Asking.await()
    assert_receive {:told, first, ref}
    assert [{second, second_ref}] = asked -- [{first, ref}]
    assert {:ok, _conn} = Asking.run(second, &Plug.Conn.chunk(&1, "more"))
    assert_receive {^process, {:data, "more\n"}}
    refute_received {:told, ^second, ^second_ref}
    {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
    assert_receive {:told, ^second, ^second_ref}
  end
end
