defmodule Ferrosock.WebSocket.BackpressureTest do
  # Clients that read too slowly or send too fast, and apps that are busy.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  import Ferrosock.Test.Probe,
    only: [binary_bytes: 1, down: 1, held: 0, held: 1, sync: 1, waits_for_client?: 1]

  import Ferrosock.Test.Raw

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  # Sends more than all buffers on the way hold, and does not hear of pings.
  defmodule Deaf do
    @behaviour WebSock

    @impl true
    def init(test), do: {:ok, test}

    @impl true
    def handle_in({"go", _}, test) do
      send(test, {:pushing, self()})
      {:push, {:binary, :binary.copy(<<0>>, 10_000_000)}, test}
    end

    def handle_in({data, _}, test), do: {:push, {:text, data}, test}

    @impl true
    def handle_info(_message, test), do: {:ok, test}
  end

  # A client that takes little ahead of its reading.
  @slow [recbuf: 16_384, buffer: 16_384]

  @chunk 100_000

  describe "a client that does not read" do
    test "makes the process wait, which holds no more than the high water mark; reading resumes it" do
      total = 400
      {socket, pid, pushed, _server} = flooded(total, high_water_mark: 200_000)

      stalled = stalls(pid, pushed)
      assert stalled < total
      # The wait is in the process, which takes no more messages meanwhile.
      assert {:message_queue_len, 1} = Process.info(pid, :message_queue_len)
      :erlang.garbage_collect(pid)
      assert binary_bytes(pid) < 3 * @chunk

      for i <- 1..total, do: assert(recv_frame(socket) == {:binary, chunk(i)})
      assert :counters.get(pushed, 1) == total
      sync(socket)
    end

    test "is given up after send_timeout: 1013, {:error, :slow_client}, one line" do
      log =
        capture_log(fn ->
          {socket, pid, _pushed, _server} =
            flooded(400, high_water_mark: 200_000, send_timeout: 200)

          assert down(pid) == {:shutdown, :slow_client}
          assert_received {:terminated, ^pid, {:error, :slow_client}, _state}
          refute_received {:terminated, _pid, _reason, _state}
          # It reads at last, while there is still time for that, and answers.
          assert read_until_close(socket) =~ <<1013::16, "slow client">>
          send_frame(socket, :close, <<1013::16>>)
          assert closed?(socket)
        end)

      # Tests of other handlers share the log.
      assert [_before, _after] = String.split(log, "(#{inspect(Socket)}) with 1013: slow client")
    end

    test "for close_timeout longer is reset, and does not see the 1013" do
      limits = [high_water_mark: 200_000, send_timeout: 200, close_timeout: 200]
      {socket, pid, _pushed, server} = flooded(400, limits)
      assert down(pid) == {:shutdown, :slow_client}
      ended(server)
      refute String.ends_with?(read_to_the_end(socket), <<1013::16, "slow client">>)
      assert :gen_tcp.send(socket, "x") != :ok
    end

    test "and reads again before send_timeout is kept" do
      {socket, pid, pushed, _server} =
        flooded(400, high_water_mark: 200_000, send_timeout: 15_000)

      stalls(pid, pushed)
      for i <- 1..400, do: assert(recv_frame(socket) == {:binary, chunk(i)})
      sync(socket)
      assert Process.alive?(pid)
    end

    test "and goes away lets the waiting process end at once" do
      {socket, pid, pushed, _server} = flooded(400, high_water_mark: 200_000)
      stalls(pid, pushed)
      reset(socket)
      assert {:shutdown, :closed} = down(pid)
      assert_received {:terminated, ^pid, {:error, _posix}, _state}
    end

    test "and pings is not answered without bound" do
      test = self()
      plug = fn conn, _ -> Ferrosock.upgrade(conn, Deaf, test) end
      server = start_server!(plug: plug, websocket_options: [high_water_mark: 100_000])
      socket = websocket(server, "/", [], [sndbuf: 65_536] ++ @slow)
      send_frame(socket, :text, "go")
      assert_receive {:pushing, pid}
      eventually(fn -> waits_for_client?(pid) end)

      # More than all buffers on the way hold, so that most are read while nothing can be sent.
      pings = :binary.copy(frame(:ping, String.duplicate("p", 125)), 1_000)
      for _ <- 1..100, do: write(socket, pings)
      send_frame(socket, :text, "end")

      frames = frames_until(socket, {:text, "end"})
      assert {:binary, <<0::80_000_000>>} = hd(frames)
      assert Enum.count(frames, &match?({:pong, _}, &1)) < 80_000
    end
  end

  test "a push larger than the kernel takes arrives whole" do
    size = 30_000_000
    whole = :rand.bytes(size)
    parts = for i <- 1..100, do: chunk(i)

    server =
      Socket.serve!(
        handle_in: fn
          # Binaries that are nobody's but the engine's once the callback has returned.
          {"one", _}, state ->
            {:push, {:binary, :binary.copy(whole)}, state}

          {"part of one", _}, state ->
            {:push, {:binary, binary_part(:binary.copy(whole), 1, size - 2)}, state}

          {"iodata", _}, state ->
            {:push, {:binary, [parts, "end"]}, state}

          {"many", _}, state ->
            {:push, for(part <- parts, do: {:binary, :binary.copy(part)}), state}
        end
      )

    {socket, pid} = Socket.open(server, @slow)

    for {request, expected} <- [
          {"one", [whole]},
          {"part of one", [binary_part(whole, 1, size - 2)]},
          {"iodata", [IO.iodata_to_binary([parts, "end"])]},
          {"many", parts}
        ] do
      send_frame(socket, :text, request)
      # The process's own references go while most of the bytes wait.
      eventually(fn -> waits_for_client?(pid) end)
      :erlang.garbage_collect(pid)
      for data <- expected, do: assert(recv_frame(socket) == {:binary, data})
    end

    sync(socket)
  end

  test "a close after a large push follows it" do
    whole = :rand.bytes(8_000_000)
    server = Socket.serve!(handle_in: fn _, s -> {:stop, :normal, 4000, {:binary, whole}, s} end)

    {socket, pid} = Socket.open(server, @slow)
    send_frame(socket, :text, "go")
    eventually(fn -> waits_for_client?(pid) end)
    assert recv_frame(socket) == {:binary, whole}
    assert recv_frame(socket) == {:close, 4000, ""}
    assert down(pid) == :normal
  end

  describe "a client that floods a slow handler" do
    test "is not read on: memory stays bounded, then all arrives in order" do
      test = self()

      server =
        Socket.serve!(
          handle_in: fn
            {<<i::32, _::binary>>, _}, %{released: true} = state ->
              send(test, {:handled, i})
              {:ok, state}

            {<<i::32, _::binary>>, _}, state ->
              receive do: (:go -> :ok)
              send(test, {:handled, i})
              {:ok, Map.put(state, :released, true)}
          end
        )

      {socket, pid} = Socket.open(server)
      total = 300
      frames = for i <- 1..total, do: frame(:binary, <<i::32, 0::size(@chunk)-unit(8)>>)
      flood = Task.async(fn -> Enum.each(frames, &write(socket, &1)) end)

      assert Task.yield(flood, 500) == nil
      assert batches(pid) <= 8
      # A quarter of a megabyte, and a frame that was under way.
      assert binary_bytes(pid) < 600_000

      send(pid, :go)
      assert :ok = Task.await(flood, 20_000)
      for i <- 1..total, do: assert_receive({:handled, ^i})
    end

    test "of many small messages is not read on either" do
      server = Socket.serve!(handle_in: &wait_once/2)
      {socket, pid} = Socket.open(server, sndbuf: 65_536)
      frames = :binary.copy(frame(:text, "small message"), 10_000)
      flood = Task.async(fn -> Enum.each(1..100, fn _ -> write(socket, frames) end) end)

      assert Task.yield(flood, 500) == nil
      assert batches(pid) <= 8
      send(pid, :go)
      assert :ok = Task.await(flood, 30_000)
      sync(socket)
    end

    test "does not stop another client" do
      server = Socket.serve!()
      {quiet, _pid} = Socket.open(server)
      {loud, _pid} = Socket.open(server)
      bytes = :binary.copy(frame(:binary, :rand.bytes(1_000)), 100)

      flood =
        Task.async(fn ->
          receive do: (:go -> :ok)
          flood(loud, bytes)
        end)

      drain = Task.async(fn -> drain(loud) end)
      send(flood.pid, :go)

      for i <- 1..100 do
        send_frame(quiet, :text, "#{i}")
        assert recv_frame(quiet) == {:text, "#{i}"}
      end

      for task <- [flood, drain], do: Task.shutdown(task, :brutal_kill)
    end
  end

  describe "a ping is answered" do
    test "while the app is silent" do
      {socket, _pid} = Socket.open(Socket.serve!())
      send_frame(socket, :ping, "silent")
      assert recv_frame(socket) == {:pong, "silent"}
    end

    test "while a callback runs" do
      {socket, pid} = Socket.open(Socket.serve!(handle_in: held()))
      send_frame(socket, :text, "block")
      assert_receive :in_callback
      send_frame(socket, :ping, "busy")
      assert recv_frame(socket) == {:pong, "busy"}
      send(pid, :go)
      sync(socket)
    end

    test "while the process is suspended" do
      {socket, pid} = Socket.open(Socket.serve!())
      :ok = :sys.suspend(pid)
      send_frame(socket, :ping, "suspended")
      assert recv_frame(socket) == {:pong, "suspended"}
    end
  end

  describe "pushes to a client that is gone" do
    test "are dropped: no callback fails, and the process ends by the socket's last event" do
      lost = [text: "lost", binary: :rand.bytes(1_000_000), ping: "x"]

      server =
        Socket.serve!(
          handle_in: held(fn _, state -> {:push, lost, state} end),
          handle_info: fn _, state -> {:push, {:text, "lost too"}, state} end
        )

      log =
        capture_log(fn ->
          {socket, pid} = Socket.open(server)
          send_frame(socket, :text, "go")
          assert_receive :in_callback
          reset(socket)
          # The last event has come, and waits.
          eventually(fn -> Process.info(pid, :message_queue_len) == {:message_queue_len, 1} end)
          for _ <- 1..10, do: send(pid, :tick)
          send(pid, :go)
          assert down(pid) == {:shutdown, :closed}
          assert_received {:terminated, ^pid, {:error, :econnreset}, _state}
        end)

      refute log =~ inspect(Socket)
    end

    test "from terminate/2's own process do no harm either" do
      server =
        Socket.serve!(
          handle_info: fn _, state -> {:push, {:text, "tick"}, state} end,
          terminate: fn _, _ -> send(self(), :tick) end
        )

      {socket, pid} = Socket.open(server)
      :gen_tcp.close(socket)
      for _ <- 1..100, do: send(pid, :tick)
      assert down(pid) == {:shutdown, :closed}
    end
  end

  # A look at a message costs the VM a reduction, so that work is counted here and not time.
  describe "a mailbox with 100,000 messages" do
    test "does not slow a callback that calls another process down" do
      {:ok, agent} = Agent.start_link(fn -> 0 end)
      test = self()

      server =
        Socket.serve!(
          handle_in: fn _, state ->
            fill_mailbox()
            before = reductions()
            for _ <- 1..100, do: Agent.get(agent, & &1)
            send(test, {:reductions, reductions() - before})
            {:ok, state}
          end
        )

      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "go")
      assert_receive {:reductions, count}
      assert count < 1_000_000
    end

    test "does not slow our own wait for the client down" do
      test = self()

      server =
        Socket.serve!(
          handle_in: fn _, state ->
            fill_mailbox()
            messages = for i <- 1..30, do: {:binary, large(i)}
            {:push, messages, Map.put(state, :before, reductions())}
          end,
          handle_info: fn
            {:filler, 1}, state ->
              send(test, {:reductions, reductions() - state.before})
              {:ok, state}

            {:filler, _}, state ->
              {:ok, state}
          end
        )

      {socket, pid} = Socket.open(server, @slow)
      send_frame(socket, :text, "go")

      for i <- 1..30 do
        # Every push but the first and the last few has to wait.
        if i in 2..20, do: eventually(fn -> waits_for_client?(pid) end)
        assert recv_frame(socket) == {:binary, large(i)}
      end

      assert_receive {:reductions, count}
      assert count < 1_000_000
    end
  end

  defp reductions do
    {:reductions, count} = Process.info(self(), :reductions)
    count
  end

  defp large(i), do: :binary.copy(<<i::32>>, 500_000)

  # A WebSocket whose process pushes `total` chunks, one callback after the other, and counts them; its server.
  defp flooded(total, limits) do
    pushed = :counters.new(1, [])

    server =
      Socket.serve!(
        [
          handle_in: fn _, state -> {:ok, send_next(state, 1)} end,
          handle_info: fn
            {:push, i}, state when i > total ->
              {:ok, state}

            {:push, i}, state ->
              :counters.add(pushed, 1, 1)
              {:push, {:binary, chunk(i)}, send_next(state, i + 1)}
          end
        ],
        [],
        websocket_options: limits
      )

    {socket, pid} = Socket.open(server, @slow)
    send_frame(socket, :text, "go")
    {socket, pid, pushed, server}
  end

  defp send_next(state, i) do
    send(self(), {:push, i})
    state
  end

  # Waits until the process waits for its client, and returns what it has pushed until then.
  defp stalls(pid, pushed) do
    eventually(fn -> waits_for_client?(pid) end)
    before = settled(fn -> :counters.get(pushed, 1) end)
    if waits_for_client?(pid), do: before, else: stalls(pid, pushed)
  end

  defp wait_once(_message, %{waited: true} = state), do: {:ok, state}

  defp wait_once(_message, state) do
    receive do: (:go -> {:ok, Map.put(state, :waited, true)})
  end

  defp fill_mailbox, do: for(i <- 1..100_000, do: send(self(), {:filler, i}))

  defp chunk(i), do: :binary.copy(<<i::32>>, div(@chunk, 4))

  defp flood(socket, bytes) do
    write(socket, bytes)
    flood(socket, bytes)
  end

  defp drain(socket) do
    {:ok, _data} = :gen_tcp.recv(socket, 0)
    drain(socket)
  end

  defp frames_until(socket, last) do
    case recv_frame(socket) do
      ^last -> [last]
      frame -> [frame | frames_until(socket, last)]
    end
  end

  # The last of the bytes before the close frame, with that.
  defp read_until_close(socket, last \\ "") do
    {:ok, data} = :gen_tcp.recv(socket, 0, 15_000)
    last = last <> data
    last = binary_part(last, byte_size(last), -min(byte_size(last), 1_000))
    if String.ends_with?(last, "slow client"), do: last, else: read_until_close(socket, last)
  end

  # Whether that is a FIN or a reset.
  defp read_to_the_end(socket, read \\ []) do
    # Longer than the `close_timeout` that it may have to wait for.
    case :gen_tcp.recv(socket, 0, 15_000) do
      {:ok, data} -> read_to_the_end(socket, [read | data])
      {:error, reason} when reason != :timeout -> IO.iodata_to_binary(read)
    end
  end

  # Besides these it is told now and then that reading waits for it.
  defp batches(pid) do
    {:messages, messages} = Process.info(pid, :messages)
    Enum.count(messages, &match?({_tag, [_event | _]}, &1))
  end
end
