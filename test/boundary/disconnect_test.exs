defmodule Ferrosock.Boundary.DisconnectTest do
  # What is left of those who have asked to be told when their client leaves. Not async: the engine's counts are
  # those of all tests.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Native
  alias Ferrosock.Test.{Asking, Census, HTTP2, Logs}

  @clients 1_000

  setup do
    Logs.attach()
    Census.nothing_left()
  end

  defp told(count) do
    for _ <- 1..count do
      assert_receive {:told, pid, ref}
      {pid, ref}
    end
  end

  test "a thousand clients that leave at once are told, each once, and their Plugs end" do
    test = self()
    server = serve(&events(&1, test))
    sockets = for _ <- 1..@clients, do: connect(server)
    for socket <- sockets, do: write(socket, head("GET", "/events"))
    asked = for _ <- sockets, do: Asking.await()
    Enum.each(sockets, &reset_or_close/1)
    assert Enum.sort(told(@clients)) == Enum.sort(asked)
    ended(server)
    eventually(fn -> not Enum.any?(asked, fn {pid, _ref} -> Process.alive?(pid) end) end)
    refute_received {:told, _pid, _ref}
    assert Logs.taken(server) == []
  end

  # As a Plug that sends events would.
  defp events(conn, test) do
    {:ok, conn} = conn |> send_chunked(200) |> chunk(Asking.first())
    ref = Ferrosock.notify_disconnect(conn)
    send(test, {:asked, self(), ref})

    receive do
      {:ferrosock, :disconnected, ref} -> send(test, {:told, self(), ref})
    end

    conn
  end

  defp reset_or_close(socket) do
    if rem(:erlang.phash2(socket), 2) == 0, do: reset(socket), else: :gen_tcp.close(socket)
  end

  test "a thousand streams whose connections end are told, each once" do
    test = self()
    server = serve(&events(&1, test))

    sockets =
      for _ <- 1..div(@clients, 100) do
        socket = HTTP2.connect(server)
        for n <- 1..100, do: HTTP2.request(socket, 2 * n - 1, "GET", "/events")
        socket
      end

    asked = for _ <- 1..@clients, do: Asking.await()
    Enum.each(sockets, &reset_or_close/1)
    assert Enum.sort(told(@clients)) == Enum.sort(asked)
    ended(server)
    refute_received {:told, _pid, _ref}
    assert Logs.taken(server) == []
  end

  test "nothing watches any more when a response is complete, although its connection goes on" do
    test = self()

    server =
      serve(fn conn ->
        before = Native.stats().tasks
        for _ <- 1..10, do: Ferrosock.notify_disconnect(conn)
        send(test, {:watching, Native.stats().tasks - before})
        send_resp(conn, 200, "")
      end)

    socket = connect(server)
    assert %{status: 200} = request(socket, "GET", "/")
    # One task, however many ask.
    assert_receive {:watching, 1}
    tasks = settled(fn -> Native.stats().tasks end)
    for _ <- 1..100, do: assert(%{status: 200} = request(socket, "GET", "/"))
    eventually(fn -> Native.stats().tasks == tasks end)
    :gen_tcp.close(socket)
  end

  test "an asker that dies before the client leaves is no obstacle to the others" do
    server = Asking.start()
    socket = connect(server)
    write(socket, head("GET", "/events"))
    {pid, ref} = Asking.await()
    {dead, _ref} = Asking.ask_beside(pid)
    Process.monitor(dead)
    Process.exit(dead, :kill)
    assert_receive {:DOWN, _monitor, :process, ^dead, :killed}
    {beside, beside_ref} = Asking.ask_beside(pid)
    :gen_tcp.close(socket)
    assert_receive {:told, ^pid, ^ref}
    assert_receive {:told, ^beside, ^beside_ref}
    Asking.answer(pid)
    Asking.answer(beside)
    ended(server)
  end

  test "a conn that outlives its Plug tells nobody, and holds no connection" do
    test = self()
    server = serve(fn conn -> send(test, {:conn, conn}) end)
    socket = connect(server)
    assert %{status: 200} = request(socket, "GET", "/")
    assert_receive {:conn, conn}
    ref = Ferrosock.notify_disconnect(conn)
    :gen_tcp.close(socket)
    ended(server)
    refute Ferrosock.disconnected?(conn)
    refute_received {:ferrosock, :disconnected, ^ref}
  end
end
