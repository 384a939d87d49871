defmodule Ferrosock.WebSocket.IdleTest do
  # `timeout`: a WebSocket ends whose client is silent.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Probe, only: [down: 1, sync: 1]
  import Ferrosock.Test.Raw

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  describe "the timeout" do
    test "ends a WebSocket whose client is silent: 1001 \"idle timeout\", terminate :timeout" do
      server = Socket.serve!([], timeout: 100)

      log =
        capture_log(fn ->
          {socket, pid} = Socket.open(server)
          assert recv_frame(socket) == {:close, 1001, "idle timeout"}
          assert down(pid) == {:shutdown, :timeout}
          assert_received {:terminated, ^pid, :timeout, _state}
          send_frame(socket, :close, <<1001::16>>)
          assert read_all(socket) == ""
        end)

      refute log =~ inspect(Socket)
    end

    test "may be the server's default" do
      {socket, _pid} = Socket.open(Socket.serve!([], [], websocket_options: [timeout: 100]))
      assert recv_frame(socket) == {:close, 1001, "idle timeout"}
    end

    test "counts from the last byte" do
      {socket, _pid} = Socket.open(Socket.serve!([], timeout: 400))
      assert recv_frame(socket, 200) == {:error, :timeout}

      {time, frame} =
        :timer.tc(fn ->
          sync(socket)
          recv_frame(socket)
        end)

      assert frame == {:close, 1001, "idle timeout"}
      assert time >= 400_000
    end

    test "does not hit a client whose messages wait for us" do
      server = Socket.serve!([handle_in: &wait_once/2], timeout: 2_000)
      {socket, pid} = Socket.open(server)

      # More than may be under way, so that reading pauses. All at once: a client that is late is silent.
      write(socket, for(i <- 1..40, do: frame(:binary, :binary.copy(<<i>>, 64_000))))
      assert recv_frame(socket, 3_000) == {:error, :timeout}
      send(pid, :go)
      sync(socket)
    end

    test "may be :infinity" do
      {socket, pid} =
        Socket.open(Socket.serve!([], [timeout: :infinity], websocket_options: [timeout: 50]))

      assert recv_frame(socket, 300) == {:error, :timeout}
      sync(socket)
      assert Process.alive?(pid)
    end
  end

  test "init/1 may take longer than the timeout, which counts from its end" do
    server =
      Socket.serve!([init: fn state -> receive(do: (:go -> {:ok, state})) end], timeout: 200)

    {socket, pid} = Socket.open(server)
    assert recv_frame(socket, 400) == {:error, :timeout}
    send(pid, :go)
    sync(socket)
    assert recv_frame(socket) == {:close, 1001, "idle timeout"}
  end

  defp wait_once(_message, %{waited: true} = state), do: {:ok, state}

  defp wait_once(_message, state) do
    receive do: (:go -> {:ok, Map.put(state, :waited, true)})
  end
end
