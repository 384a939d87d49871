defmodule Ferrosock.WebSocket.LifetimeTest do
  # `max_lifetime`: a WebSocket ends after some time, whatever happens.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe, only: [down: 1]
  import Ferrosock.Test.Raw

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  describe "max_lifetime" do
    test "closes with 1012, and no earlier than it says" do
      started = System.monotonic_time(:millisecond)
      {socket, pid} = Socket.open(serve!([], [max_lifetime: 300], timeout: :infinity))
      assert recv_frame(socket) == {:close, 1012, "maximum lifetime"}
      assert System.monotonic_time(:millisecond) - started >= 300
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

    test "is not counted for the connection before its upgrade" do
      plug = fn conn ->
        case conn.path_info do
          [] ->
            Plug.Conn.send_resp(conn, 200, "")

          ["ws"] ->
            Ferrosock.upgrade(conn, Socket, Ferrosock.Test.Probe.state([]), timeout: 60_000)
        end
      end

      server = serve(plug, websocket_options: [max_lifetime: 500])
      socket = connect(server)
      started = System.monotonic_time(:millisecond)
      request(socket, "GET", "/")
      assert :gen_tcp.recv(socket, 0, 300) == {:error, :timeout}
      assert %{status: 101} = handshake(socket, "/ws")
      assert recv_frame(socket) == {:close, 1012, "maximum lifetime"}
      assert System.monotonic_time(:millisecond) - started >= 800
    end
  end

  defp serve!(callbacks, limits, upgrade_options \\ []),
    do: Socket.serve!(callbacks, upgrade_options, websocket_options: limits)

  # Sends a number, then the next once it is echoed, until the server closes.
  defp converse(socket, i) do
    send_frame(socket, :text, "#{i}")

    case recv_frame(socket) do
      {:text, _} = frame -> [frame | converse(socket, i + 1)]
      close -> [close]
    end
  end
end
