defmodule Ferrosock.WebSocket.KeepaliveTest do
  # What happens while nothing happens: pings, deadlines and hibernation.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe, only: [down: 1, sync: 1]
  import Ferrosock.Test.Raw

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  # Has no `handle_control/2`.
  defmodule Quiet do
    @behaviour WebSock

    @impl true
    def init(test), do: {:ok, send(test, {:opened, self()})}
    @impl true
    def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}
    @impl true
    def handle_info(_message, state), do: {:ok, state}
  end

  # Whatever the load of the machine, a client that answers pings within this is not late.
  @patient [ping_interval: 50, ping_timeout: 10_000]

  describe "ping_interval" do
    test "has pings sent to a silent client, and no callback runs" do
      server = serve!(reporting(), [ping_interval: 100, ping_timeout: 60_000], timeout: :infinity)
      {socket, pid} = Socket.open(server)
      assert recv_frame(socket) == {:ping, ""}
      # One is enough until the client sends something.
      assert recv_frame(socket, 500) == {:error, :timeout}
      refute_received {:called, _callback, _argument}

      send_frame(socket, :pong)
      assert_receive {:called, :handle_control, {"", opcode: :pong}}, 5_000
      assert recv_frame(socket) == {:ping, ""}
      assert Process.alive?(pid)
    end

    test "does not let pings disturb a handler without handle_control/2" do
      {socket, pid} = open_quiet(websocket_options: @patient)
      before = reductions(pid)

      for _ <- 1..5 do
        assert recv_frame(socket) == {:ping, ""}
        send_frame(socket, :pong)
      end

      assert recv_frame(socket) == {:ping, ""}
      # To be asked costs it a few.
      assert reductions(pid) - before < 20
    end

    test "keeps a client that answers beyond its `timeout`" do
      server = serve!([], @patient, timeout: 1_000)
      {socket, _pid} = Socket.open(server)
      answer_pings(socket, :pong, until(2_500))
      sync_after_pings(socket)
    end

    test "counts data as an answer, of any kind" do
      callbacks = [handle_in: fn _message, state -> {:ok, state} end]
      server = serve!(callbacks, @patient, timeout: 1_000)

      for opcode <- [:text, :binary] do
        {socket, _pid} = Socket.open(server)
        answer_pings(socket, opcode, until(1_500))
        sync_after_pings(socket)
      end
    end

    test "counts half a frame as an answer" do
      server = serve!([], @patient, timeout: :infinity)
      {socket, _pid} = Socket.open(server)
      message = "byte by byte"

      for <<byte <- frame(:text, message)>> do
        assert recv_frame(socket) == {:ping, ""}
        write(socket, <<byte>>)
      end

      assert frame_after_pings(socket) == {:text, message}
    end

    test "is not over while the client sends by itself" do
      server = serve!([], [ping_interval: 2_000], timeout: :infinity)
      {socket, _pid} = Socket.open(server)

      for i <- 1..25 do
        send_frame(socket, :text, "#{i}")
        assert recv_frame(socket) == {:text, "#{i}"}
        Process.sleep(100)
      end

      assert recv_frame(socket) == {:ping, ""}
    end

    test "is over also while the server pushes" do
      callbacks = [
        handle_info: fn :push, state ->
          Process.send_after(self(), :push, 20)
          {:push, {:text, "tick"}, state}
        end
      ]

      server = serve!(callbacks, [ping_interval: 200, ping_timeout: 300], timeout: :infinity)
      {socket, pid} = Socket.open(server)
      send(pid, :push)
      frames = frames_until_close(socket)
      assert {:ping, ""} in frames
      assert {:text, "tick"} in frames
      assert List.last(frames) == {:close, 1001, "idle timeout"}
    end

    test "has pings sent while a callback runs" do
      test = self()

      callbacks = [
        handle_in: fn _, state ->
          send(test, :in_callback)
          receive do: (:go -> {:ok, state})
        end
      ]

      {socket, pid} = Socket.open(serve!(callbacks, @patient, timeout: :infinity))
      send_frame(socket, :text, "block")
      assert_receive :in_callback, 5_000
      answer_pings(socket, :pong, until(300))
      send(pid, :go)
      sync_after_pings(socket)
    end

    test "is no more after our close frame" do
      callbacks = [handle_in: fn _, state -> {:stop, :normal, state} end]
      server = serve!(callbacks, [ping_interval: 100, close_timeout: 500], timeout: :infinity)
      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "stop")
      assert {:close, 1000, ""} in frames_until_close(socket)
      assert read_all(socket) == ""
    end

    test "is off by default" do
      {socket, _pid} = Socket.open(Socket.serve!([], [], websocket_options: [ping_timeout: 1]))
      assert recv_frame(socket, 500) == {:error, :timeout}

      assert Ferrosock.Options.server!(plug: __MODULE__).websocket_options.ping_interval ==
               :infinity
    end
  end

  describe "a client that does not answer a ping" do
    test "is closed with 1001 after ping_timeout" do
      server = serve!(reporting(), [ping_interval: 50, ping_timeout: 300], timeout: :infinity)
      started = System.monotonic_time(:millisecond)
      {socket, pid} = Socket.open(server)
      assert recv_frame(socket) == {:ping, ""}
      assert recv_frame(socket) == {:close, 1001, "idle timeout"}
      assert System.monotonic_time(:millisecond) - started >= 350
      assert down(pid) == {:shutdown, :timeout}
      assert_received {:terminated, ^pid, :timeout, _state}
      refute_received {:called, _callback, _argument}
    end

    test "is closed by `timeout` where that is earlier" do
      server = serve!([], [ping_interval: 50, ping_timeout: 60_000], timeout: 300)
      {socket, pid} = Socket.open(server)
      assert recv_frame(socket) == {:ping, ""}
      assert recv_frame(socket) == {:close, 1001, "idle timeout"}
      assert down(pid) == {:shutdown, :timeout}
      assert_received {:terminated, ^pid, :timeout, _state}
    end
  end

  describe "max_lifetime" do
    test "closes with 1012" do
      {socket, pid} = Socket.open(serve!([], [max_lifetime: 300], timeout: :infinity))
      assert recv_frame(socket) == {:close, 1012, "maximum lifetime"}
      assert down(pid) == {:shutdown, :max_lifetime}
      assert_received {:terminated, ^pid, :shutdown, _state}
      send_frame(socket, :close, <<1012::16>>)
      assert read_all(socket) == ""
    end

    test "closes a busy one too, after what it pushed" do
      {socket, pid} = Socket.open(serve!([], max_lifetime: 500))
      frames = converse(socket, 1)
      assert List.last(frames) == {:close, 1012, "maximum lifetime"}
      assert down(pid) == {:shutdown, :max_lifetime}

      for {frame, i} <- frames |> Enum.drop(-1) |> Enum.with_index(1),
          do: assert(frame == {:text, "#{i}"})
    end

    test "runs no shorter than it says" do
      started = System.monotonic_time(:millisecond)
      {socket, _pid} = Socket.open(serve!([], max_lifetime: 700))
      assert recv_frame(socket) == {:close, 1012, "maximum lifetime"}
      assert System.monotonic_time(:millisecond) - started >= 700
    end

    test "is not counted for the connection before its upgrade" do
      plug = fn conn ->
        case conn.path_info do
          [] ->
            Plug.Conn.send_resp(conn, 200, "")

          ["ws"] ->
            Ferrosock.upgrade(conn, Socket, Ferrosock.Test.Probe.state([]), timeout: 60_000)
        end
      end

      server = serve(plug, websocket_options: [max_lifetime: 1_500])
      socket = connect(server)
      started = System.monotonic_time(:millisecond)
      request(socket, "GET", "/")
      Process.sleep(1_000)
      assert %{status: 101} = handshake(socket, "/ws")
      assert recv_frame(socket) == {:close, 1012, "maximum lifetime"}
      assert System.monotonic_time(:millisecond) - started >= 2_500
    end
  end

  describe "hibernate_after" do
    test "lets the process of a silent WebSocket hibernate, again after each traffic" do
      server = Socket.serve!(reporting(), [], hibernate_after: 100)
      {socket, pid} = Socket.open(server)
      hibernates(pid)

      # What the client sends.
      sync(socket)
      hibernates(pid)

      # What the app pushes.
      send(pid, :push)
      assert recv_frame(socket) == {:text, "pushed"}
      hibernates(pid)

      # What the app does by itself.
      send(pid, :nothing)
      assert_receive {:called, :handle_info, :nothing}, 5_000
      hibernates(pid)
      send(pid, :nothing)
      assert_receive {:called, :handle_info, :nothing}, 5_000
      hibernates(pid)

      # What `:sys` asks.
      :sys.get_state(pid)
      hibernates(pid)
      sync(socket)
      hibernates(pid)
    end

    test "counts from the last message, whoever sent it" do
      {socket, pid} = Socket.open(Socket.serve!(reporting(), [], hibernate_after: 1_500))
      sync(socket)
      Process.sleep(300)
      refute hibernated?(pid)

      {time, _} =
        :timer.tc(
          fn ->
            send(pid, :push)
            assert recv_frame(socket) == {:text, "pushed"}
            hibernates(pid)
          end,
          :millisecond
        )

      assert time >= 1_500
    end

    test "is reached while the engine exchanges pings with the client" do
      {socket, pid} = open_quiet(websocket_options: @patient, hibernate_after: 300)
      answer_pings(socket, :pong, until(1_000))
      assert hibernated?(pid)
      answer_pings(socket, :pong, until(500))
      assert hibernated?(pid)
    end

    test "makes its heap small" do
      callbacks = [
        handle_in: fn {_data, _}, state ->
          garbage = Enum.to_list(1..100_000)
          {:push, {:text, "#{length(garbage)}"}, state}
        end
      ]

      {socket, pid} = Socket.open(Socket.serve!(callbacks, [], hibernate_after: 200))

      for _ <- 1..2 do
        send_frame(socket, :text, "go")
        assert recv_frame(socket) == {:text, "100000"}
        # The collection is a part of it.
        eventually(fn -> hibernated?(pid) and heap_size(pid) < 1_000 end)
      end
    end

    test "is not reached while there is traffic either way" do
      server = Socket.serve!(reporting(), [], hibernate_after: 2_000)
      {socket, pid} = Socket.open(server)

      for i <- 1..30 do
        if rem(i, 2) == 0, do: sync(socket), else: send(pid, :push)
        if rem(i, 2) == 1, do: assert(recv_frame(socket) == {:text, "pushed"})
        refute hibernated?(pid)
        Process.sleep(100)
      end
    end

    test "wakes for the end" do
      {socket, pid} = Socket.open(Socket.serve!([], [], hibernate_after: 50))
      hibernates(pid)
      send_frame(socket, :close, <<1000::16>>)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :remote}
    end

    test "goes together with pings and a lifetime" do
      limits = @patient ++ [max_lifetime: 1_000]
      {socket, pid} = Socket.open(serve!([], limits, [timeout: :infinity], hibernate_after: 100))
      answer_pings(socket, :pong, until(300))
      frames = frames_until_close(socket)
      assert List.last(frames) == {:close, 1012, "maximum lifetime"}
      assert down(pid) == {:shutdown, :max_lifetime}
    end

    test "lets an idle connection between two requests hibernate" do
      test = self()

      server =
        serve(fn _conn -> send(test, {:pid, self()}) end, hibernate_after: 100)

      socket = connect(server)

      for _ <- 1..2 do
        assert %{status: 200} = request(socket, "GET", "/")
        assert_receive {:pid, pid}, 5_000
        hibernates(pid)
      end
    end
  end

  defp serve!(callbacks, limits, upgrade_options \\ [], server_options \\ []) do
    Socket.serve!(callbacks, upgrade_options, [websocket_options: limits] ++ server_options)
  end

  defp open_quiet(server_options) do
    test = self()
    plug = fn conn -> Ferrosock.upgrade(conn, Quiet, test, timeout: :infinity) end
    socket = websocket(serve(plug, server_options))
    assert_receive {:opened, pid}, 5_000
    {socket, pid}
  end

  # Callbacks that tell the test of each call.
  defp reporting do
    test = self()

    called = fn callback, argument, result ->
      send(test, {:called, callback, argument})
      result
    end

    [
      handle_in: fn message, state -> called.(:handle_in, message, {:ok, state}) end,
      handle_control: fn message, state -> called.(:handle_control, message, {:ok, state}) end,
      handle_info: fn
        :push, state -> called.(:handle_info, :push, {:push, {:text, "pushed"}, state})
        message, state -> called.(:handle_info, message, {:ok, state})
      end
    ]
  end

  defp until(ms), do: System.monotonic_time(:millisecond) + ms

  defp answer_pings(socket, opcode, until) do
    assert recv_frame(socket) == {:ping, ""}
    send_frame(socket, opcode, "")
    if System.monotonic_time(:millisecond) < until, do: answer_pings(socket, opcode, until)
  end

  # As `sync/1`, past pings.
  defp sync_after_pings(socket) do
    send_frame(socket, :text, "sync with the test")
    assert frame_after_pings(socket) == {:text, "sync with the test"}
  end

  defp frame_after_pings(socket) do
    with {:ping, ""} <- recv_frame(socket), do: frame_after_pings(socket)
  end

  defp frames_until_close(socket) do
    case recv_frame(socket) do
      {:close, _code, _reason} = close -> [close]
      {opcode, _payload} = frame when opcode != :error -> [frame | frames_until_close(socket)]
    end
  end

  # Sends a number, then the next once it is echoed, until the server closes.
  defp converse(socket, i) do
    send_frame(socket, :text, "#{i}")

    case recv_frame(socket) do
      {:text, _} = frame -> [frame | converse(socket, i + 1)]
      close -> [close]
    end
  end

  defp hibernates(pid), do: eventually(fn -> hibernated?(pid) end)

  defp hibernated?(pid) do
    {:current_function, {module, function, _}} = Process.info(pid, :current_function)
    {module, function} == {:erlang, :hibernate}
  end

  defp heap_size(pid) do
    {:total_heap_size, words} = Process.info(pid, :total_heap_size)
    words
  end

  defp reductions(pid) do
    {:reductions, count} = Process.info(pid, :reductions)
    count
  end
end
