defmodule Ferrosock.WebSocket.HibernateTest do
  # `hibernate_after`: the process of a WebSocket without traffic has a small heap.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe,
    only: [answer_pings: 3, down: 1, hibernated?: 1, hibernates: 1, reporting: 0, sync: 1]

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Quiet

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  # Whatever the load of the machine, a client that answers pings within this is not late.
  @patient [ping_interval: 50, ping_timeout: 10_000]

  describe "hibernate_after" do
    test "lets the process of a silent WebSocket hibernate, again after each traffic" do
      server = Socket.serve!(reporting(), [], hibernate_after: 100)
      started = System.monotonic_time(:millisecond)
      {socket, pid} = Socket.open(server)
      hibernates(pid)
      assert System.monotonic_time(:millisecond) - started >= 100

      # What the client sends.
      sync(socket)
      hibernates(pid)

      # What the app pushes.
      send(pid, :push)
      assert recv_frame(socket) == {:text, "pushed"}
      hibernates(pid)

      # What the app does by itself.
      send(pid, :nothing)
      assert_receive {:called, :handle_info, :nothing}
      hibernates(pid)
      send(pid, :nothing)
      assert_receive {:called, :handle_info, :nothing}
      hibernates(pid)

      # What `:sys` asks.
      :sys.get_state(pid)
      hibernates(pid)
      sync(socket)
      hibernates(pid)
    end

    test "is reached while the engine exchanges pings with the client" do
      {socket, pid} = Quiet.open(websocket_options: @patient, hibernate_after: 300)
      # Each comes long before hibernate_after is over.
      eventually(fn ->
        answer_pings(socket, :pong, 0)
        hibernated?(pid)
      end)

      answer_pings(socket, :pong, 100)
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

    test "wakes for the end" do
      {socket, pid} = Socket.open(Socket.serve!([], [], hibernate_after: 50))
      hibernates(pid)
      send_frame(socket, :close, <<1000::16>>)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
    end

    test "lets an idle connection between two requests hibernate" do
      test = self()

      server =
        serve(fn _conn -> send(test, {:pid, self()}) end, hibernate_after: 100)

      socket = connect(server)

      for _ <- 1..2 do
        assert %{status: 200} = request(socket, "GET", "/")
        assert_receive {:pid, pid}
        hibernates(pid)
      end
    end
  end

  defp heap_size(pid) do
    {:total_heap_size, words} = Process.info(pid, :total_heap_size)
    words
  end
end
