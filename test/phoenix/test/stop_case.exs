defmodule Sample.StopCase do
  # What clients see when the app stops and its VM goes away at once: a client of another make counts the codes.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Sample.Peer

  @count 50

  for {how, {module, function, arguments}} <- [
        {"the stop of the VM", {System, :stop, [0]}},
        {"a halt right after the endpoint's stop", {Peer, :stop_and_halt, []}}
      ] do
    describe "#{how}" do
      setup do
        {peer, port} = Peer.start!()
        [peer: peer, port: port, stop: {unquote(module), unquote(function), unquote(arguments)}]
      end

      test "tells the clients of channels 1012, and resets none", context do
        client = Sample.Closes.start!(context.port, @count)
        stop(context)
        assert Sample.Closes.codes(client) == %{"1012" => @count}
      end

      test "tells clients 1012 that are in no channel and go on sending, and resets none",
           context do
        path = "/socket/websocket?vsn=2.0.0"

        # A reset would be told.
        sockets =
          for _ <- 1..@count, do: websocket(context.port, path, [], show_econnreset: true)

        clients = for socket <- sockets, do: Task.async(fn -> talk_until_closed(socket) end)
        stop(context)
        assert clients |> Task.await_many(60_000) |> Enum.uniq() == [{1012, {:error, :closed}}]
      end
    end
  end

  defp stop(%{peer: peer, stop: {module, function, arguments}}),
    do: Peer.cast(peer, module, function, arguments)

  # Heartbeats, one after the other: some are on their way whenever the server closes.
  defp talk_until_closed(socket) do
    send_frame(socket, :text, Jason.encode!([nil, "1", "phoenix", "heartbeat", %{}]))

    case recv_frame(socket) do
      {:text, _reply} ->
        talk_until_closed(socket)

      {:close, code, _reason} ->
        send_frame(socket, :close, <<code::16>>)
        {code, :gen_tcp.recv(socket, 0, 20_000)}
    end
  end
end
