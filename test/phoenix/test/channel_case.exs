defmodule Sample.ChannelCase do
  # Channels and what Phoenix does to their sockets. Not async: what is logged is the whole VM's.
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw
  import Sample.Client

  setup_all do
    [port: port()]
  end

  describe "a channel" do
    test "is joined, replies, and hears what is said", %{port: port} do
      [ada, bob, eve] = for _ <- 1..3, do: open(port)
      for socket <- [ada, bob], do: assert(join(socket, "room:1") == {"ok", %{"room" => "1"}})
      assert join(eve, "room:2") == {"ok", %{"room" => "2"}}

      push(ada, "room:1", "echo", %{text: "hi"})
      assert reply(ada, "room:1") == {"ok", %{"text" => "hi"}}

      push(ada, "room:1", "say", %{text: "to all"})

      for socket <- [ada, bob],
          do: assert(receive_message(socket) == {"room:1", "said", %{"text" => "to all"}})

      push(ada, "room:1", "say_to_others", %{text: "to bob"})
      assert receive_message(bob) == {"room:1", "said", %{"text" => "to bob"}}

      # Nobody has heard anything else.
      for {socket, topic} <- [{ada, "room:1"}, {eve, "room:2"}] do
        push(socket, topic, "echo", %{})
        assert reply(socket, topic) == {"ok", %{}}
      end
    end

    test "may be refused, left, and joined again", %{port: port} do
      socket = open(port)
      assert join(socket, "room:closed") == {"error", %{"reason" => "closed"}}
      assert join(socket, "other:1") == {"error", %{"reason" => "unmatched topic"}}

      for _ <- 1..2 do
        assert {"ok", _response} = join(socket, "room:1")
        push(socket, "room:1", "phx_leave", %{}, "room:1")
        assert reply(socket, "room:1") == {"ok", %{}}
        assert receive_message(socket) == {"room:1", "phx_close", %{}}
      end
    end

    test "takes and gives binaries and large texts", %{port: port} do
      socket = open(port)
      join(socket, "room:1")
      text = String.duplicate("ü", 250_000)
      push(socket, "room:1", "echo", %{text: text})
      assert reply(socket, "room:1") == {"ok", %{"text" => text}}

      data = :crypto.strong_rand_bytes(100_000)
      # Version 2 of the serializer: the kind, the lengths of the fields, the fields, the payload.
      [join_ref, ref, topic, _event] = fields = ["room:1", "9", "room:1", "echo"]
      lengths = for field <- fields, do: byte_size(field)
      send_frame(socket, :binary, IO.iodata_to_binary([0, lengths, fields, data]))
      assert {:binary, <<1, _lengths::binary-size(4), rest::binary>>} = recv_frame(socket)
      assert rest == join_ref <> ref <> topic <> "ok" <> data
    end

    test "hears heartbeats", %{port: port} do
      socket = open(port)
      send_frame(socket, :text, Jason.encode!([nil, "5", "phoenix", "heartbeat", %{}]))

      assert {:text, reply} = recv_frame(socket)

      assert Jason.decode!(reply) ==
               [nil, "5", "phoenix", "phx_reply", %{"status" => "ok", "response" => %{}}]
    end
  end

  test "a broadcast of \"disconnect\" ends the sockets of a user, and no others", %{port: port} do
    [first, second] = for _ <- 1..2, do: open(port, "user=1")
    other = open(port, "user=2")
    for socket <- [first, second, other], do: join(socket, "room:1")

    SampleWeb.Endpoint.broadcast("users_socket:1", "disconnect", %{})
    for socket <- [first, second], do: assert(disconnected?(socket))
    push(other, "room:1", "echo", %{})
    assert reply(other, "room:1") == {"ok", %{}}
  end

  test "a channel that is killed tells its client, whose socket goes on", %{port: port} do
    socket = open(port)
    join(socket, "room:1")
    [channel, _transport] = pids(socket, "room:1")
    Process.exit(channel, :kill)
    assert receive_message(socket) == {"room:1", "phx_error", %{}}
    assert join(socket, "room:1") == {"ok", %{"room" => "1"}}
  end

  describe "a client that leaves" do
    for {how, leave} <- [
          {"with a close frame", quote(do: &send_frame(&1, :close, <<1000::16>>))},
          {"as a browser does", quote(do: &send_frame(&1, :close, <<1001::16>>))},
          {"without a word", quote(do: &:gen_tcp.close/1)},
          {"by a reset", quote(do: &reset/1)}
        ] do
      test "#{how} ends its processes with {:shutdown, :closed}, and logs nothing", %{port: port} do
        log =
          capture_log([level: :notice], fn ->
            socket = open(port, "user=3")
            join(socket, "room:1")
            monitors = for pid <- pids(socket, "room:1"), do: {Process.monitor(pid), pid}
            unquote(leave).(socket)

            for {monitor, pid} <- monitors,
                do: assert_receive({:DOWN, ^monitor, :process, ^pid, {:shutdown, :closed}})
          end)

        assert log == ""
      end
    end
  end
end
