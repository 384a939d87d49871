defmodule Ferrosock.WebSocket.CallbacksTest do
  # What each callback is given, and what each of its results does to the peer and to the process.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Probe, only: [binary_bytes: 1, down: 1, sync: 1]
  import Ferrosock.Test.Raw

  alias Ferrosock.ResultError
  alias Ferrosock.Test.Quiet

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  for callback <- [:init, :handle_in, :handle_control, :handle_info] do
    describe "the result of #{callback}" do
      @describetag callback: callback

      test "{:ok, state} keeps the state", %{callback: callback} do
        {socket, pid} = returning(callback, &{:ok, Map.put(&1, :seen, true)})
        sync(socket)
        assert %{seen: true} = :sys.get_state(pid)
      end

      test "{:push, message, state} sends it and keeps the state", %{callback: callback} do
        {socket, pid} = returning(callback, &{:push, {:text, "a"}, Map.put(&1, :seen, true)})
        assert recv_frame(socket) == {:text, "a"}
        assert %{seen: true} = :sys.get_state(pid)
      end

      test "{:push, messages, state} sends them in order", %{callback: callback} do
        messages = [text: "a", ping: "b", binary: <<0, 255>>, pong: "c", text: "d"]
        {socket, _pid} = returning(callback, &{:push, messages, &1})
        for message <- messages, do: assert(recv_frame(socket) == message)
      end

      test "{:push, [], state} sends nothing", %{callback: callback} do
        {socket, _pid} = returning(callback, &{:push, [], &1})
        sync(socket)
      end

      test "{:reply, term, messages, state} sends as a push does", %{callback: callback} do
        {socket, _pid} = returning(callback, &{:reply, :ok, {:text, "a"}, &1})
        assert recv_frame(socket) == {:text, "a"}

        {socket, pid} =
          returning(callback, &{:reply, 1, [text: "a", text: "b"], Map.put(&1, :seen, true)})

        assert recv_frame(socket) == {:text, "a"}
        assert recv_frame(socket) == {:text, "b"}
        assert %{seen: true} = :sys.get_state(pid)
      end

      for {reason, code, told} <- [
            {:normal, 1000, :normal},
            {{:shutdown, :disconnected}, 1000, :normal},
            {{:shutdown, :restart}, 1012, :normal},
            {{:shutdown, :other}, 1011, {:error, {:shutdown, :other}}},
            {:shutdown, 1011, {:error, :shutdown}},
            {:boom, 1011, {:error, :boom}}
          ] do
        test "{:stop, #{inspect(reason)}, state} closes with #{code}", %{callback: callback} do
          reason = unquote(Macro.escape(reason))

          capture_log(fn ->
            {socket, pid} = returning(callback, &{:stop, reason, Map.put(&1, :seen, true)})
            assert recv_frame(socket) == {:close, unquote(code), ""}
            assert down(pid) == reason
            assert_received {:terminated, ^pid, told, %{seen: true}}
            assert told == unquote(Macro.escape(told))
            refute_received {:terminated, _pid, _reason, _state}
          end)
        end
      end

      test "{:stop, reason, code, state} closes with the code", %{callback: callback} do
        {socket, pid} = returning(callback, &{:stop, :normal, 4001, &1})
        assert recv_frame(socket) == {:close, 4001, ""}
        assert_receive {:terminated, ^pid, :normal, _state}
      end

      test "{:stop, reason, {code, reason}, state} closes with both", %{callback: callback} do
        for {detail, close} <- [
              {{3000, "bye"}, {:close, 3000, "bye"}},
              {{1008, ["no", ?!]}, {:close, 1008, "no!"}},
              {{1001, nil}, {:close, 1001, ""}}
            ] do
          {socket, pid} = returning(callback, &{:stop, {:shutdown, :app}, detail, &1})
          assert recv_frame(socket) == close
          assert_receive {:terminated, ^pid, {:error, {:shutdown, :app}}, _state}
        end
      end

      test "{:stop, reason, detail, messages, state} sends them before the close frame",
           %{callback: callback} do
        {socket, pid} = returning(callback, &{:stop, :normal, 4001, {:text, "last"}, &1})
        assert recv_frame(socket) == {:text, "last"}
        assert recv_frame(socket) == {:close, 4001, ""}
        assert_receive {:terminated, ^pid, :normal, _state}

        {socket, _pid} =
          returning(callback, &{:stop, :normal, {4002, "x"}, [text: "a", ping: nil], &1})

        assert recv_frame(socket) == {:text, "a"}
        assert recv_frame(socket) == {:ping, ""}
        assert recv_frame(socket) == {:close, 4002, "x"}
      end

      test "that is none is a crash that names the callback and what it returned",
           %{callback: callback} do
        arity = if callback == :init, do: 1, else: 2

        for {result, told} <- [
              {{:noreply, :what}, "{:noreply, :what}"},
              {nil, "nil"},
              {{:push, {:frame, "a"}, :s}, "{:frame, \"a\"} is not a message"},
              {{:push, [{:text, "good"}, {:text, :bad}], :s}, "not iodata"},
              {{:push, {:ping, String.duplicate("p", 126)}, :s}, "126 bytes"}
            ] do
          log = crash(callback, fn _state -> result end)
          assert log =~ "#{inspect(Socket)}.#{callback}/#{arity} returned #{inspect(result)}"
          assert log =~ told
        end
      end

      test "with a close code that must not be sent is a crash that says so (RFC6455§7.4)",
           %{callback: callback} do
        for code <- [0, 999, 1004, 1005, 1006, 1015, 5000] do
          log = crash(callback, &{:stop, :normal, code, &1})
          assert log =~ "the close code #{code} must not be sent"
        end
      end

      test "with a close reason over 123 bytes is a crash that says so (RFC6455§5.5)",
           %{callback: callback} do
        reason = String.duplicate("r", 123)
        {socket, pid} = returning(callback, &{:stop, :normal, {1000, reason}, &1})
        assert recv_frame(socket) == {:close, 1000, reason}
        assert_receive {:terminated, ^pid, :normal, _state}

        log = crash(callback, &{:stop, :normal, {1000, reason <> "r"}, &1})
        assert log =~ "the close reason has 124 bytes"
      end
    end
  end

  describe "a message" do
    test "may have nil as its payload, which is an empty one" do
      server =
        Socket.serve!(handle_in: &push([text: nil, binary: nil, ping: nil, pong: nil], &1, &2))

      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "go")
      for opcode <- [:text, :binary, :ping, :pong], do: assert(recv_frame(socket) == {opcode, ""})
    end

    test "may be iodata of any depth" do
      iodata = ["a", [?b, ["c" | "d"]], [], "", [[["é"]]] | "f"]
      server = Socket.serve!(handle_in: &push([text: iodata, ping: ["x", ?y]], &1, &2))
      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "go")
      assert recv_frame(socket) == {:text, "abcdéf"}
      assert recv_frame(socket) == {:ping, "xy"}
    end

    test "may have up to 125 bytes as a ping or pong" do
      payload = String.duplicate("p", 125)
      server = Socket.serve!(handle_in: &push([ping: payload, pong: payload], &1, &2))
      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "go")
      assert recv_frame(socket) == {:ping, payload}
      assert recv_frame(socket) == {:pong, payload}
    end

    test "of one callback is written before those of the next" do
      server =
        Socket.serve!(
          handle_in: fn {data, _}, state ->
            send(self(), {:more, data})
            {:push, [text: data, text: data <> "'"], state}
          end,
          handle_info: fn {:more, data}, state -> {:push, {:text, data <> "!"}, state} end
        )

      {socket, _pid} = Socket.open(server)
      write(socket, for(i <- 1..50, do: frame(:text, "#{i}")))
      frames = for _ <- 1..150, do: elem(recv_frame(socket), 1)

      assert for(data <- frames, not String.ends_with?(data, "!"), do: data) ==
               Enum.flat_map(1..50, &["#{&1}", "#{&1}'"])

      assert for(data <- frames, String.ends_with?(data, "!"), do: data) ==
               Enum.map(1..50, &"#{&1}!")
    end
  end

  describe "handle_in/2" do
    test "is given the data as one binary and the opcode" do
      server = Socket.serve!(handle_in: &tell/2)
      {socket, _pid} = Socket.open(server)

      send_frame(socket, :text, "häppy")
      assert_receive {:called, {"häppy", [opcode: :text]}}
      send_frame(socket, :binary, <<0, 255>>)
      assert_receive {:called, {<<0, 255>>, [opcode: :binary]}}
      send_frame(socket, :text, "")
      assert_receive {:called, {"", [opcode: :text]}}
    end

    test "is called once for a fragmented message, with the opcode of its first frame" do
      server = Socket.serve!(handle_in: &tell/2)
      {socket, _pid} = Socket.open(server)

      write(socket, [
        frame(:binary, "one", fin: false),
        frame(:continuation, "", fin: false),
        frame(:continuation, "two")
      ])

      assert_receive {:called, {"onetwo", [opcode: :binary]}}
      sync(socket)
      refute_received {:called, _message}
    end

    test "may keep a part of what it was given without keeping the rest alive" do
      server =
        Socket.serve!(handle_in: fn {data, _}, state -> {:ok, Map.put(state, :kept, data)} end)

      {socket, pid} = Socket.open(server)
      write(socket, [for(_ <- 1..100, do: frame(:binary, <<0::8_000>>)), frame(:text, "kept")])
      sync(socket)
      assert %{kept: "kept"} = :sys.get_state(pid)
      :erlang.garbage_collect(pid)
      assert binary_bytes(pid) < 10_000
    end
  end

  describe "handle_control/2" do
    test "is given pings and pongs with their payload, which is \"\" when empty" do
      server = Socket.serve!(handle_control: &tell/2)
      {socket, _pid} = Socket.open(server)

      for opcode <- [:ping, :pong],
          payload <- ["", "x", <<0, 255>>, String.duplicate("p", 125)] do
        send_frame(socket, opcode, payload)
        assert_receive {:called, {^payload, [opcode: ^opcode]}}
      end
    end

    test "is called after the pong was queued" do
      server = Socket.serve!(handle_control: &push({:text, "after"}, &1, &2))
      {socket, _pid} = Socket.open(server)
      send_frame(socket, :ping, "payload")
      assert recv_frame(socket) == {:pong, "payload"}
      assert recv_frame(socket) == {:text, "after"}
    end

    test "is called between the fragments of a message" do
      server = Socket.serve!(handle_control: &tell/2, handle_in: &tell/2)
      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "one", fin: false)
      send_frame(socket, :ping, "between")
      assert_receive {:called, {"between", [opcode: :ping]}}
      assert recv_frame(socket) == {:pong, "between"}
      send_frame(socket, :continuation, "two")
      assert_receive {:called, {"onetwo", [opcode: :text]}}
    end

    test "need not exist: pings are answered, pongs pass" do
      {socket, pid} = Quiet.open()
      send_frame(socket, :ping, "hello")
      assert recv_frame(socket) == {:pong, "hello"}
      send_frame(socket, :pong, "unasked")
      send_frame(socket, :text, "still here")
      assert recv_frame(socket) == {:text, "still here"}
      assert Process.alive?(pid)
    end
  end

  describe "terminate/2" do
    test "need not exist" do
      {socket, pid} = Quiet.open()
      send(pid, :stop)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == :normal
    end

    test "may return anything" do
      server = Socket.serve!(terminate: fn _reason, _state -> {:what, :ever} end)
      {socket, pid} = Socket.open(server)
      send_frame(socket, :close, <<1000::16>>)
      assert down(pid) == {:shutdown, :closed}
    end
  end

  describe "a stop" do
    test "ends the callbacks: what came with its message is not handled" do
      server =
        Socket.serve!(
          handle_in: fn
            {"stop", _}, state ->
              send(self(), :late)
              {:stop, :normal, state}

            {data, _} = message, state ->
              tell(message, state)
              {:push, {:text, data}, state}
          end,
          handle_info: &tell/2
        )

      {socket, pid} = Socket.open(server)
      write(socket, for(data <- ["before", "stop", "after"], do: frame(:text, data)))
      assert recv_frame(socket) == {:text, "before"}
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == :normal
      assert_received {:called, {"before", _}}
      refute_received {:called, _message}
    end

    test "logs nothing for :normal, :shutdown and {:shutdown, _}" do
      log =
        capture_log(fn ->
          for reason <- [:normal, :shutdown, {:shutdown, :unlogged_reason}] do
            {socket, pid} = returning(:handle_info, &{:stop, reason, &1})
            assert {:close, _code, ""} = recv_frame(socket)
            assert down(pid) == reason
          end
        end)

      refute log =~ "unlogged_reason"
      refute log =~ "(stop) normal"
      refute log =~ "(stop) shutdown"
    end

    test "for another reason logs one report with the handler's name" do
      log =
        capture_log(fn ->
          {socket, pid} = returning(:handle_info, &{:stop, :boom_of_this_test, &1})
          assert recv_frame(socket) == {:close, 1011, ""}
          assert down(pid) == :boom_of_this_test
        end)

      assert length(String.split(log, "boom_of_this_test")) == 2
      assert log =~ ~r/WebSocket #{inspect(Socket)} terminating\n.*boom_of_this_test/
    end
  end

  # Makes the callback return what `fun` makes of the state.
  defp returning(callback, fun) do
    server = Socket.serve!([{callback, when_triggered(callback, fun)}], [], id: make_ref())
    {socket, pid} = Socket.open(server)
    trigger(callback, socket, pid)
    {socket, pid}
  end

  # Not before the process is monitored.
  defp when_triggered(:init, fun) do
    fn state ->
      receive do: (:go -> fun.(state))
    end
  end

  defp when_triggered(_callback, fun), do: fn _message, state -> fun.(state) end

  defp trigger(:init, _socket, pid), do: send(pid, :go)
  defp trigger(:handle_in, socket, _pid), do: send_frame(socket, :text, "go")
  defp trigger(:handle_control, socket, _pid), do: send_frame(socket, :pong, "go")
  defp trigger(:handle_info, _socket, pid), do: send(pid, :go)

  # The log of a callback that returns what it must not.
  defp crash(callback, fun) do
    capture_log(fn ->
      {socket, pid} = returning(callback, fun)
      assert recv_frame(socket) == {:close, 1011, ""}
      reason = down(pid)
      assert {%ResultError{callback: ^callback, websock: Socket}, [_ | _]} = reason

      if callback != :init do
        assert_received {:terminated, ^pid, {:error, ^reason}, _state}
      end

      refute_received {:terminated, _pid, _reason, _state}
    end)
  end

  defp push(messages, _message, state), do: {:push, messages, state}

  defp tell(message, state) do
    send(state.test, {:called, message})
    {:ok, state}
  end
end
