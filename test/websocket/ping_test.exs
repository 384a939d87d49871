defmodule Ferrosock.WebSocket.PingTest do
  # Pings to clients that are silent, and the end of those that do not answer.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe, only: [answer_pings: 3, down: 1, held: 0, reporting: 0]
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Quiet

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  # Whatever the load of the machine, a client that answers pings within this is not late.
  @patient [ping_interval: 50, ping_timeout: 10_000]

  describe "ping_interval" do
    test "has pings sent to a silent client, and no callback runs" do
      server = serve!(reporting(), [ping_interval: 100, ping_timeout: 60_000], timeout: :infinity)
      {socket, pid} = Socket.open(server)
      assert recv_frame(socket) == {:ping, ""}
      # One is enough until the client sends something.
      assert recv_frame(socket, 250) == {:error, :timeout}
      refute_received {:called, _callback, _argument}

      send_frame(socket, :pong)
      assert_receive {:called, :handle_control, {"", opcode: :pong}}
      assert recv_frame(socket) == {:ping, ""}
      assert Process.alive?(pid)
    end

    test "does not let pings disturb a handler without handle_control/2" do
      {socket, pid} = Quiet.open(websocket_options: @patient)
      before = reductions(pid)

      for _ <- 1..10 do
        assert recv_frame(socket) == {:ping, ""}
        send_frame(socket, :pong)
      end

      assert recv_frame(socket) == {:ping, ""}

      # Each time that it is woken costs it some forty. Once it may be: it was asked while it was about to open.
      assert reductions(pid) - before < 150
    end

    test "has pings sent while a callback runs" do
      {socket, pid} = Socket.open(serve!([handle_in: held()], @patient, timeout: :infinity))
      send_frame(socket, :text, "block")
      assert_receive :in_callback
      answer_pings(socket, :pong, 100)
      send(pid, :go)
      sync_after_pings(socket)
    end

    test "is off by default" do
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
  end

  defp serve!(callbacks, limits, upgrade_options),
    do: Socket.serve!(callbacks, upgrade_options, websocket_options: limits)

  # As `sync/1`, past pings.
  defp sync_after_pings(socket) do
    send_frame(socket, :text, "sync with the test")
    assert frame_after_pings(socket) == {:text, "sync with the test"}
  end

  defp frame_after_pings(socket) do
    with {:ping, ""} <- recv_frame(socket), do: frame_after_pings(socket)
  end

  defp reductions(pid) do
    {:reductions, count} = Process.info(pid, :reductions)
    count
  end
end
