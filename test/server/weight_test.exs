defmodule Ferrosock.Server.WeightTest do
  # What waits for clients that take nothing, by the memory and the descriptors that it takes.
  #
  # Not async: these are of the whole process of the operating system.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.{Census, Pushing}

  # A client that takes little ahead of its reading.
  @slow [recbuf: 4_096, buffer: 4_096]

  describe "a payload that waits" do
    test "is held, not copied: many clients may wait with the same" do
      server = start_server!([plug: Pushing.plug()] ++ limits([]))

      pids =
        for _ <- 1..200 do
          websocket(server, "/", [], @slow)
          assert_receive {:opened, pid}
          pid
        end

      shared = :rand.bytes(60_000)
      before = Census.resident_bytes()

      # More than the kernel takes. Past the mark of a megabyte the processes wait, though the kernel may take
      # some more of it then.
      for pid <- pids, _ <- 1..100, do: send(pid, {:push, shared})
      eventually(fn -> Ferrosock.info(server).queued_bytes > 200 * 750_000 end)
      assert Census.resident_bytes() - before < 40_000_000
    end

    test "in many small messages weighs what it counts for, and costs the same at the end" do
      server =
        start_server!([plug: Pushing.plug()] ++ limits(high_water_mark: 20_000_000))

      websocket(server, "/", [], @slow ++ [sndbuf: 4_096])
      assert_receive {:opened, pid}
      # So that all that follows waits.
      send(pid, {:push, :binary.copy(<<0>>, 10_000_000)})
      assert_receive :pushing
      # What waits when the kernel has taken what it takes.
      eventually(fn -> Ferrosock.info(server).queued_bytes > 0 end)
      queued = settled(fn -> Ferrosock.info(server).queued_bytes end)
      before = Census.resident_bytes()

      [first | _] = times = for _ <- 1..10, do: time_of_pushes(pid, 10_000)
      assert Enum.min(Enum.take(times, -3)) < 5 * first
      assert (Ferrosock.info(server).queued_bytes - queued) in 300_000..330_000
      assert Census.resident_bytes() - before < 20_000_000
    end
  end

  test "informational responses that wait have a bound, and the final one arrives" do
    plug = fn conn, _ ->
      for _ <- 1..20_000, do: Plug.Conn.inform!(conn, 103, [{"link", "</style.css>"}])
      Plug.Conn.send_resp(conn, 200, "done")
    end

    server = start_server!(plug: plug)
    socket = connect(server, @slow ++ [sndbuf: 4_096])
    write(socket, head("GET", "/", [{"connection", "close"}]))
    before = Census.resident_bytes()
    eventually(fn -> Ferrosock.info(server).requests == 1 end)
    bytes = read_all(socket)
    assert String.ends_with?(bytes, "done")
    assert Census.resident_bytes() - before < 10_000_000
  end

  test "max_connections counts a connection until its descriptor is closed" do
    plug = fn conn, _ -> Plug.Conn.send_resp(conn, 200, "ok") end
    server = start_server!(plug: plug, max_connections: 2, overload: :refuse)
    before = Census.descriptors()

    clients =
      for _ <- 1..2 do
        socket = connect(server)
        # No HTTP: answered with 400, after which the server waits for the client to close.
        write(socket, "\0\r\n\r\n")
        assert %{status: 400} = response(socket)
        socket
      end

    eventually(fn -> match?(%{connections: 0, lingering: 2}, Ferrosock.info(server)) end)
    third = connect(server)
    assert %{status: 503} = response(third)
    assert Census.descriptors() - before < 10
    for socket <- clients, do: :gen_tcp.close(socket)
    :gen_tcp.close(third)
    eventually(fn -> Ferrosock.info(server).lingering == 0 end)
    assert %{status: 200} = server |> connect() |> request("GET", "/")
  end

  defp limits(websocket_options) do
    defaults = [send_timeout: 60_000, timeout: 60_000]
    [websocket_options: defaults ++ websocket_options]
  end

  defp time_of_pushes(pid, count) do
    {time, :ok} =
      :timer.tc(fn ->
        for _ <- 1..count, do: send(pid, {:push, "x"})
        for _ <- 1..count, do: assert_receive(:pushing, 30_000)
        :ok
      end)

    time
  end
end
