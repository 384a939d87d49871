defmodule Ferrosock.Boundary.VMTest do
  # The engine in a VM that stops, halts, has no descriptor or process left, or schedulers of another number: each
  # test has a VM of its own.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.VM

  test "a VM stops in order with open sockets and requests" do
    {output, 0} =
      VM.run("""
      sockets = for _ <- 1..50, do: websocket(server, "/ws")
      request = connect(server)
      write(request, head("GET", "/chunks"))
      receive do: (:chunk_sent -> :ok)
      IO.puts("open \#{length(sockets)}")
      System.stop(0)
      """)

    assert output == "open 50\n"
  end

  @tag :tmp_dir
  test "a VM that halts right after a stop has ended its WebSockets in order", %{tmp_dir: folder} do
    file = Path.join(folder, "port")

    vm =
      Task.async(fn ->
        VM.run("""
        {:ok, second} = Ferrosock.start_link(options)
        File.write!(#{inspect(file <> ".new")}, to_string(port(second)))
        File.rename!(#{inspect(file <> ".new")}, #{inspect(file)})

        until_stop = fn until_stop ->
          receive do
            {:plug, _pid, %{request_path: "/"}} -> :ok
            _other -> until_stop.(until_stop)
          end
        end

        until_stop.(until_stop)
        Supervisor.stop(second)
        System.halt(0)
        """)
      end)

    eventually(fn -> File.exists?(file) end, 60_000)
    port = file |> File.read!() |> String.to_integer()
    # An RST would be told.
    sockets = for _ <- 1..50, do: websocket(port, "/ws", [], show_econnreset: true)
    assert %{status: 200} = request(connect(port), "GET", "/")
    for socket <- sockets, do: assert(recv_frame(socket, 20_000) == {:close, 1001, ""})
    for socket <- sockets, do: send_frame(socket, :close, <<1001::16>>)
    for socket <- sockets, do: assert(:gen_tcp.recv(socket, 0, 20_000) == {:error, :closed})
    assert {_output, 0} = Task.await(vm, 60_000)
  end

  test "a VM without descriptors goes on accepting when it has some again" do
    {output, 0} =
      VM.run(
        """
        # Without descriptors, no code can be loaded: this loads Logger's. The server's is there.
        require Logger
        Logger.error("something else")
        first = connect(server)
        %{status: 200} = request(first, "GET", "/")

        open = fn open, files ->
          case :file.open("/dev/null", [:read, :raw]) do
            {:ok, file} -> open.(open, [file | files])
            {:error, :emfile} -> files
          end
        end

        [file | files] = open.(open, [])
        :ok = :file.close(file)
        # This takes the last descriptor, and the server needs another.
        waiting = connect(server)
        write(waiting, head("GET", "/"))
        since = System.monotonic_time(:second)
        :erlang.statistics(:runtime)
        {:error, :timeout} = :gen_tcp.recv(waiting, 0, 1_500)
        {_, busy} = :erlang.statistics(:runtime)
        %{status: 200} = request(first, "GET", "/")
        Enum.each(files, &:file.close/1)
        %{status: 200} = response(waiting)
        IO.puts("busy \#{busy} ms, after \#{System.monotonic_time(:second) - since} s")
        System.halt(0)
        """,
        "ulimit -n 128"
      )

    assert [_, busy, seconds] = Regex.run(~r/^busy (\d+) ms, after (\d+) s$/m, output)
    # Of 1500 ms.
    assert String.to_integer(busy) < 300
    lines = Regex.scan(~r/cannot accept connections: too many open files/, output)
    assert length(lines) in 1..(String.to_integer(seconds) + 2)
  end

  test "a VM with as many processes as it may have refuses requests, and hurts nobody" do
    {output, 0} =
      VM.run(
        """
        # Loads what it needs.
        Ferrosock.Log.process_limit()
        websockets = for _ <- 1..20, do: websocket(server, "/ws")
        idle = connect(server)
        %{status: 200} = request(idle, "GET", "/")

        requests =
          for _ <- 1..1_200 do
            socket = connect(server)
            write(socket, head("GET", "/wait"))
            socket
          end

        refused = requests |> Enum.take(-100) |> Enum.map(&response/1)
        true = Enum.all?(refused, &(&1.status == 503 and header(&1, "connection") == ["close"]))
        %{status: 200} = request(idle, "GET", "/")

        for socket <- websockets do
          send_frame(socket, :text, "here")
          {:text, "here"} = recv_frame(socket)
        end

        IO.puts("all here")
        System.halt(0)
        """,
        "ulimit -n 8192 && " <> VM.flags("+P 1024")
      )

    assert output =~ "all here"
    # One of them is the test's own.
    assert length(Regex.scan(~r/refuses requests with 503/, output)) in 2..20
  end

  for flags <- ["+S 1", "+S 4:4", "+S 8:8"] do
    test "all acceptors may be killed at once, again and again: #{flags}" do
      {output, 0} =
        VM.run(
          """
          websocket = websocket(server, "/ws")
          idle = connect(server)
          %{status: 200} = request(idle, "GET", "/")
          children = Supervisor.which_children(server)
          {_, pool, _, _} = List.keyfind(children, Ferrosock.Server.Acceptors, 0)

          acceptors = fn ->
            for {_, pair, _, _} <- Supervisor.which_children(pool),
                {Ferrosock.Server.Acceptor, pid, _, _} <- Supervisor.which_children(pair),
                is_pid(pid),
                do: pid
          end

          for _ <- 1..10 do
            killed = acceptors.()
            Enum.each(killed, &Process.exit(&1, :kill))
            eventually(fn -> length(acceptors.() -- killed) == length(killed) end)
          end

          ^children = Supervisor.which_children(server)
          send_frame(websocket, :text, "here")
          {:text, "here"} = recv_frame(websocket)
          %{status: 200} = request(idle, "GET", "/")
          %{status: 200} = request(connect(server), "GET", "/")
          IO.puts("all here")
          System.halt(0)
          """,
          VM.flags(unquote(flags))
        )

      assert output == "all here\n"
    end
  end

  test "a VM halts at once with sockets under load" do
    {output, 0} =
      VM.run("""
      echoes = :counters.new(1, [])

      for _ <- 1..20 do
        spawn_link(fn ->
          socket = websocket(server, "/ws")
          flood = fn flood ->
            send_frame(socket, :text, "hello")
            recv_frame(socket)
            :counters.add(echoes, 1, 1)
            flood.(flood)
          end
          flood.(flood)
        end)
      end

      eventually(fn -> :counters.get(echoes, 1) > 1_000 end)
      IO.puts("halt")
      System.halt(0)
      """)

    assert output == "halt\n"
  end
end
