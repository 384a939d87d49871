defmodule Ferrosock.WebSocket.LifecycleTest do
  # The process of a WebSocket, from the Plug to its exit.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Probe, only: [binary_bytes: 1, down: 1, hibernates: 1, sync: 1]
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Probe

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  describe "the process of the Plug goes on as the WebSocket's:" do
    test "self(), its dictionary and Logger metadata stay" do
      test = self()
      state = Probe.state(handle_in: report(test), terminate: report(test))

      plug = fn conn, _ ->
        Process.put(:from_plug, :kept)
        Logger.metadata(request_id: "r1")
        send(test, {:plug, self()})
        Ferrosock.upgrade(conn, Socket, state)
      end

      {socket, pid} = Socket.open(start_server!(plug: plug))
      assert_receive {:plug, ^pid}

      send_frame(socket, :text, "hello")
      assert_receive {:report, ^pid, :kept, [request_id: "r1"]}
      send_frame(socket, :close, <<1000::16>>)
      assert_receive {:report, ^pid, :kept, [request_id: "r1"]}
    end

    test "its links stay" do
      test = self()
      state = Probe.state(handle_info: tell(test))

      plug = fn conn, _ ->
        {:ok, agent} = Agent.start_link(fn -> :linked_in_plug end)
        send(test, {:agent, agent})
        Ferrosock.upgrade(conn, Socket, state)
      end

      {socket, pid} = Socket.open(start_server!(plug: plug))
      assert_receive {:agent, agent}
      assert {:links, links} = Process.info(pid, :links)
      assert agent in links

      monitor = Process.monitor(agent)
      send_frame(socket, :close, <<1000::16>>)
      assert down(pid) == {:shutdown, :closed}
      # An ordinary end is not `:normal`, so that what the Plug linked ends too.
      assert_receive {:DOWN, ^monitor, :process, ^agent, {:shutdown, :closed}}
    end

    test "its names in a Registry stay until the end" do
      registry = __MODULE__.Registry
      start_supervised!({Registry, keys: :unique, name: registry})
      state = Probe.state([])

      plug = fn conn, _ ->
        {:ok, _owner} = Registry.register(registry, "user", nil)
        Ferrosock.upgrade(conn, Socket, state)
      end

      {socket, pid} = Socket.open(start_server!(plug: plug))
      assert [{^pid, nil}] = Registry.lookup(registry, "user")
      send_frame(socket, :close, <<1000::16>>)
      down(pid)
      eventually(fn -> Registry.lookup(registry, "user") == [] end)
    end

    test "messages that the Plug left come to handle_info/2 after init/1, in order" do
      test = self()

      state =
        Probe.state(init: &{:ok, tell(test).(:init, &1) |> elem(1)}, handle_info: tell(test))

      plug = fn conn, _ ->
        for i <- 1..3, do: send(self(), {:left, i})
        Ferrosock.upgrade(conn, Socket, state)
      end

      {socket, _pid} = Socket.open(start_server!(plug: plug))
      sync(socket)
      assert told() == [:init, {:left, 1}, {:left, 2}, {:left, 3}]
    end

    test "{:plug_conn, :sent} never comes to handle_info/2" do
      server = Socket.serve!(handle_info: tell(self()))
      {socket, pid} = Socket.open(server)
      send(pid, :a_message)
      sync(socket)
      assert told() == [:a_message]
    end

    test "its request is not kept: the heap is small and no binary stays" do
      state = Probe.state(handle_in: fn _message, state -> {:ok, state} end)

      plug = fn conn, _ ->
        conn
        |> Plug.Conn.assign(:large, :rand.bytes(1_000_000))
        |> Plug.Conn.assign(:deep, Enum.map(1..100_000, &{&1, &1}))
        |> Ferrosock.upgrade(Socket, state)
      end

      server = start_server!(plug: plug)
      headers = for i <- 1..50, do: {"x-header-#{i}", String.duplicate("h", 1_000)}
      websocket(server, "/", headers)
      assert_receive {:opened, pid}
      # After init/1.
      :sys.get_state(pid)

      assert {:total_heap_size, words} = Process.info(pid, :total_heap_size)
      assert words < 2_500
      assert binary_bytes(pid) < 1_000
    end

    test "has the process flags that upgrade/4 was given" do
      options = [fullsweep_after: 7, max_heap_size: %{size: 5_000_000, kill: true}]
      {_socket, pid} = Socket.open(Socket.serve!([], options))
      :sys.get_state(pid)
      {:garbage_collection, flags} = Process.info(pid, :garbage_collection)
      assert flags[:fullsweep_after] == 7
      assert %{size: 5_000_000, kill: true} = flags[:max_heap_size]
    end

    test "that outgrows its max_heap_size is killed, and the client gets 1011" do
      server =
        Socket.serve!([handle_in: fn _, state -> {:ok, Map.put(state, :x, grow())} end],
          max_heap_size: %{size: 100_000, kill: true, error_logger: false}
        )

      {socket, pid} = Socket.open(server)
      send_frame(socket, :text, "grow")
      assert down(pid) == :killed
      assert recv_frame(socket) == {:close, 1011, ""}
      refute_received {:terminated, _pid, _reason, _state}
    end

    test "has a label that names the handler" do
      {_socket, pid} = Socket.open(Socket.serve!())
      assert :proc_lib.get_label(pid) == {Ferrosock, Socket}
    end
  end

  describe "init/1" do
    test "is given the state of upgrade/4, and nothing comes before it" do
      test = self()

      server =
        Socket.serve!(
          init: fn state ->
            send(test, {:argument, state})
            receive do: (:go -> :ok)
            {:ok, Map.put(state, :ready, true)}
          end,
          handle_in: fn {data, _}, %{ready: true} = state -> {:push, {:text, data}, state} end
        )

      {socket, pid} = Socket.open(server)
      assert_receive {:argument, %{test: ^test}}
      send_frame(socket, :text, "early")
      send(pid, :go)
      assert recv_frame(socket) == {:text, "early"}
    end

    test "that raises closes with 1011 without terminate/2, and is reported once" do
      log =
        capture_log(fn ->
          {socket, pid} =
            held(fn _state -> raise "raised in init" end)

          assert recv_frame(socket) == {:close, 1011, ""}
          assert {%RuntimeError{message: "raised in init"}, [_ | _]} = down(pid)
          refute_received {:terminated, _pid, _reason, _state}
        end)

      assert reports(log, "raised in init") == 1
    end

    test "that throws or exits does too" do
      for {fail, exit} <- [
            {fn -> throw(:init_ball) end, {:nocatch, :init_ball}},
            {fn -> exit(:init_exit) end, :init_exit}
          ] do
        capture_log(fn ->
          {socket, pid} = held(fn _state -> fail.() end)
          assert recv_frame(socket) == {:close, 1011, ""}
          assert strip(down(pid)) == exit
          refute_received {:terminated, _pid, _reason, _state}
        end)
      end
    end
  end

  describe "links" do
    test "end in handle_info/2 as {:EXIT, pid, reason}" do
      test = self()

      server =
        Socket.serve!(
          handle_in: fn {reason, _}, state ->
            spawn_link(fn -> exit({:linked, reason}) end)
            {:ok, state}
          end,
          handle_info: tell(test)
        )

      {socket, pid} = Socket.open(server)
      assert {:trap_exit, true} = Process.info(pid, :trap_exit)
      send_frame(socket, :text, "one")
      assert_receive {:told, {:EXIT, linked, {:linked, "one"}}} when is_pid(linked)
      sync(socket)
    end

    test "do not end the process, whatever the reason" do
      server = Socket.serve!(handle_info: tell(self()))
      {socket, pid} = Socket.open(server)

      for reason <- [:normal, :shutdown, :boom] do
        Process.exit(pid, reason)
        # `:normal` from another process is no signal at all.
        if reason != :normal, do: assert_receive({:told, {:EXIT, _test, ^reason}})
      end

      sync(socket)
    end
  end

  describe "a client that vanishes" do
    test "by a FIN: terminate {:error, :closed}, and no log" do
      assert_vanishes(&:gen_tcp.close/1, :closed)
    end

    test "by half a close" do
      assert_vanishes(&:gen_tcp.shutdown(&1, :write), :closed)
    end

    test "by an RST: terminate {:error, :econnreset}" do
      assert_vanishes(&reset/1, :econnreset)
    end

    test "inside a frame" do
      assert_vanishes(
        fn socket ->
          write(socket, <<0x81, 0xFE, 1_000::16, 0::32, "unfinished">>)
          :gen_tcp.close(socket)
        end,
        :closed
      )
    end

    test "after messages has them handled first" do
      test = self()

      server =
        Socket.serve!(handle_in: tell(test))

      {socket, pid} = Socket.open(server)
      write(socket, for(i <- 1..10, do: frame(:text, "#{i}")))
      :gen_tcp.close(socket)
      assert down(pid) == {:shutdown, :closed}
      assert told() == for(i <- 1..10, do: {"#{i}", opcode: :text})
    end
  end

  describe "close_info/0 in terminate/2" do
    test "is the code and reason of the client" do
      assert close_info(fn socket, _ -> send_frame(socket, :close, <<4001::16, "why">>) end) ==
               {4001, "why"}
    end

    test "is 1005 for a close frame without a code (RFC6455§7.1.5)" do
      assert close_info(fn socket, _ -> send_frame(socket, :close, "") end) == {1005, ""}
    end

    test "is nil where the client did not close" do
      assert close_info(fn _, pid -> send(pid, :stop) end) == nil
      assert close_info(fn socket, _ -> :gen_tcp.close(socket) end) == nil
      capture_log(fn -> assert close_info(fn socket, _ -> write(socket, <<0xC1>>) end) == nil end)
    end
  end

  describe "the end of the server" do
    test "closes with 1001, terminate(:shutdown), exit :shutdown, no log" do
      server = Socket.serve!()
      {socket, pid} = Socket.open(server)

      log =
        capture_log(fn ->
          stopping = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
          assert recv_frame(socket) == {:close, 1001, ""}
          send_frame(socket, :close, <<1001::16>>)
          assert closed?(socket)
          Task.await(stopping, 20_000)
          assert down(pid) == :shutdown
        end)

      assert_received {:terminated, ^pid, :shutdown, _state}
      refute log =~ inspect(Socket)
    end

    test "lets the running callback finish, and sends what it pushes" do
      push = fn {data, _}, state -> {:push, {:text, data}, state} end
      server = Socket.serve!(handle_in: Probe.held(push))
      {socket, pid} = Socket.open(server)
      send_frame(socket, :text, "last words")
      assert_receive :in_callback
      stopping = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
      # The exit signal has come, and waits.
      eventually(fn -> match?({:message_queue_len, n} when n > 0, queue(pid)) end)
      send(pid, :go)
      assert recv_frame(socket) == {:text, "last words"}
      assert recv_frame(socket) == {:close, 1001, ""}
      send_frame(socket, :close, <<1001::16>>)
      Task.await(stopping, 20_000)
    end

    test "kills a WebSocket that takes longer than shutdown_timeout, and its client gets 1011" do
      server = Socket.serve!([handle_in: Probe.held()], [], shutdown_timeout: 100)
      {socket, pid} = Socket.open(server)
      send_frame(socket, :text, "block")
      assert_receive :in_callback
      stop_supervised!(Ferrosock)
      assert down(pid) == :killed
      assert recv_frame(socket) == {:close, 1011, ""}
    end
  end

  describe "a callback that" do
    for {kind, fail, told} <- [
          {"raises", quote(do: raise("raised by raises")),
           quote(do: %RuntimeError{message: "raised by raises"})},
          {"throws", quote(do: throw(:thrown_by_throws)),
           quote(do: {:nocatch, :thrown_by_throws})},
          {"exits", quote(do: exit(:exited_by_exits)), quote(do: :exited_by_exits)}
        ] do
      test "#{kind}: what was pushed before goes out, then 1011; terminate/2 sees the state before" do
        server =
          Socket.serve!(
            handle_in: fn
              {"fail", _}, _state -> unquote(fail)
              {data, _}, state -> {:push, {:text, data}, Map.put(state, :last, data)}
            end
          )

        log =
          capture_log(fn ->
            {socket, pid} = Socket.open(server)
            frames = for data <- ["a", "b", "fail", "c"], do: frame(:text, data)
            write(socket, frames)
            assert recv_frame(socket) == {:text, "a"}
            assert recv_frame(socket) == {:text, "b"}
            assert recv_frame(socket) == {:close, 1011, ""}
            reason = down(pid)
            assert_received {:terminated, ^pid, {:error, {told, stacktrace}}, %{last: "b"}}
            assert unquote(told) = told
            assert [{_, _, _, _} | _] = stacktrace
            assert strip(reason) == told
            refute_received {:terminated, _pid, _reason, _state}
          end)

        assert reports(log, "by_#{unquote(kind)}") + reports(log, "by #{unquote(kind)}") == 1
      end

      test "#{kind} as handle_info/2 or handle_control/2 ends in the same way" do
        fail = fn _message, _state -> unquote(fail) end

        capture_log(fn ->
          server = Socket.serve!([handle_info: fail], [], id: :info)
          {socket, pid} = Socket.open(server)
          send(pid, :go)
          assert recv_frame(socket) == {:close, 1011, ""}
          assert_receive {:terminated, ^pid, {:error, {unquote(told), _stacktrace}}, _state}

          server = Socket.serve!([handle_control: fail], [], id: :control)
          {socket, pid} = Socket.open(server)
          send_frame(socket, :pong, "go")
          assert recv_frame(socket) == {:close, 1011, ""}
          assert_receive {:terminated, ^pid, {:error, {unquote(told), _stacktrace}}, _state}
        end)
      end
    end

    test "fails tells its app's reporters the crash_reason and the handler" do
      test = self()
      id = :"#{inspect(__MODULE__)}.reporter"
      :ok = :logger.add_handler(id, __MODULE__.Reporter, %{config: test})
      on_exit(fn -> :logger.remove_handler(id) end)

      server = Socket.serve!(handle_in: fn _, _ -> raise "for reporters" end)
      {socket, _pid} = Socket.open(server)

      capture_log(fn ->
        send_frame(socket, :text, "go")

        assert_receive {:logged, %{websock: Socket, crash_reason: {error, [_ | _]}} = metadata}
        assert error == %RuntimeError{message: "for reporters"}
        assert metadata.domain |> List.last() == :ferrosock
      end)
    end
  end

  defmodule Reporter do
    def log(%{meta: %{websock: Socket} = metadata}, %{config: test}),
      do: send(test, {:logged, metadata})

    def log(_event, _config), do: :ok
  end

  describe "terminate/2" do
    test "that raises is reported, after the close frame went out" do
      server =
        Socket.serve!(
          handle_in: fn _, state -> {:stop, :normal, {4000, "bye"}, state} end,
          terminate: fn _, _ -> raise "raised in terminate" end
        )

      log =
        capture_log(fn ->
          {socket, pid} = Socket.open(server)
          send_frame(socket, :text, "stop")
          assert recv_frame(socket) == {:close, 4000, "bye"}
          assert {%RuntimeError{message: "raised in terminate"}, _} = down(pid)
          send_frame(socket, :close, <<4000::16>>)
          assert read_all(socket) == ""
        end)

      assert reports(log, "raised in terminate") == 1
    end

    test "that takes its time does not keep the client waiting for the close frame" do
      server =
        Socket.serve!(
          handle_in: fn _, state -> {:stop, :normal, state} end,
          terminate: fn _, _ -> receive(do: (:go -> :ok)) end
        )

      {socket, pid} = Socket.open(server)
      send_frame(socket, :text, "stop")
      assert recv_frame(socket) == {:close, 1000, ""}
      send_frame(socket, :close, <<1000::16>>)
      assert read_all(socket) == ""
      assert Process.alive?(pid)
      send(pid, :go)
      assert down(pid) == :normal
    end

    test "is not called for a process that is killed" do
      {socket, pid} = Socket.open(Socket.serve!())
      Process.exit(pid, :kill)
      assert down(pid) == :killed
      assert recv_frame(socket) == {:close, 1011, ""}
      refute_received {:terminated, _pid, _reason, _state}
    end
  end

  describe "the closing handshake" do
    for timeout <- [1_000, :infinity] do
      test "with a client that never answers is cut off, timeout: #{inspect(timeout)}" do
        server =
          Socket.serve!(
            [handle_in: fn _, state -> {:stop, :normal, state} end],
            [timeout: unquote(timeout)],
            websocket_options: [close_timeout: 200]
          )

        {socket, pid} = Socket.open(server)
        send_frame(socket, :text, "stop")
        assert recv_frame(socket) == {:close, 1000, ""}
        # The process is not kept for it.
        assert down(pid) == :normal
        {time, closed?} = :timer.tc(fn -> closed?(socket) end)
        assert closed?
        assert time < 3_000_000
      end
    end

    test "with a client that goes on sending is cut off too" do
      server =
        Socket.serve!([handle_in: fn _, state -> {:stop, :normal, state} end], [],
          websocket_options: [close_timeout: 200]
        )

      {socket, _pid} = Socket.open(server)
      send_frame(socket, :text, "stop")
      assert recv_frame(socket) == {:close, 1000, ""}
      eventually(fn -> :gen_tcp.send(socket, frame(:text, "more")) != :ok end)
    end

    test "waits for the client's close frame" do
      {socket, _pid} = Socket.open(Socket.serve!(handle_in: fn _, s -> {:stop, :normal, s} end))
      send_frame(socket, :text, "stop")
      assert recv_frame(socket) == {:close, 1000, ""}
      refute closed?(socket, 100)
      send_frame(socket, :close, <<1000::16>>)
      assert closed?(socket)
    end

    test "answers for an app that does not: the client's close is echoed within close_timeout" do
      late = Probe.held(fn _, state -> {:push, {:text, "too late"}, state} end)
      server = Socket.serve!([handle_in: late], [], websocket_options: [close_timeout: 100])

      {socket, pid} = Socket.open(server)
      send_frame(socket, :text, "block")
      assert_receive :in_callback
      send_frame(socket, :close, <<4321::16>>)
      assert recv_frame(socket) == {:close, 4321, ""}
      assert read_all(socket) == ""
      send(pid, :go)
      assert down(pid) == {:shutdown, :closed}
      assert_received {:terminated, ^pid, :remote, _state}
    end
  end

  describe "hibernation" do
    test "comes after hibernate_after, and a message ends it" do
      server = Socket.serve!([handle_info: tell(self())], [], hibernate_after: 50)
      {socket, pid} = Socket.open(server)
      hibernates(pid)
      sync(socket)
      hibernates(pid)
      send(pid, :awake?)
      assert_receive {:told, :awake?}
      hibernates(pid)
      send_frame(socket, :close, <<1000::16>>)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
    end
  end

  describe ":sys" do
    test "get_state and replace_state see the handler's state" do
      {socket, pid} = Socket.open(Socket.serve!())
      assert %{test: test} = :sys.get_state(pid)
      assert test == self()
      assert %{new: 1} = :sys.replace_state(pid, &Map.put(&1, :new, 1))
      assert %{new: 1} = :sys.get_state(pid)
      sync(socket)
    end

    test "get_status names the module and the state" do
      {_socket, pid} = Socket.open(Socket.serve!())
      assert {:status, ^pid, {:module, Ferrosock.HTTP.Connection}, items} = :sys.get_status(pid)
      assert inspect(items, limit: :infinity) =~ inspect(Socket)
    end

    test "log, statistics and trace tell of messages in and out" do
      {socket, pid} = Socket.open(Socket.serve!())
      :ok = :sys.log(pid, true)
      :ok = :sys.statistics(pid, true)
      device = ExUnit.CaptureIO.capture_io(fn -> trace(pid, socket) end)
      assert device =~ ~s([text: "traced"])
      assert device =~ ~s(sent {:text, "traced"})

      {:ok, statistics} = :sys.statistics(pid, :get)
      assert statistics[:messages_in] == 2
      assert statistics[:messages_out] == 1
      {:ok, log} = :sys.log(pid, :get)
      assert Enum.any?(log, &match?({:in, :a_message}, &1))
      :ok = :sys.log(pid, false)
      :ok = :sys.no_debug(pid)
      Probe.sync(socket)
    end

    # What is traced goes to the group leader of the process.
    defp trace(pid, socket) do
      leader = Process.info(pid, :group_leader)
      Process.group_leader(pid, Process.group_leader())
      :ok = :sys.trace(pid, true)
      send_frame(socket, :text, "traced")
      assert recv_frame(socket) == {:text, "traced"}
      send(pid, :a_message)
      :ok = :sys.trace(pid, false)
      Process.group_leader(pid, elem(leader, 1))
    end

    test "suspend holds callbacks back until resume" do
      server = Socket.serve!(handle_info: tell(self()))
      {socket, pid} = Socket.open(server)
      :ok = :sys.suspend(pid)
      send(pid, :held)
      send_frame(socket, :text, "held")
      # Answered by the engine, after it has passed on what came before.
      send_frame(socket, :ping, "p")
      assert recv_frame(socket) == {:pong, "p"}
      assert told() == []
      :ok = :sys.resume(pid)
      assert_receive {:told, :held}
      assert recv_frame(socket) == {:text, "held"}
    end

    test "terminate ends it as the server's end does" do
      {socket, pid} = Socket.open(Socket.serve!())
      :ok = :sys.terminate(pid, :shutdown)
      assert recv_frame(socket) == {:close, 1001, ""}
      assert down(pid) == :shutdown
      assert_received {:terminated, ^pid, :shutdown, _state}
    end
  end

  test "WebSockets of a server are in its supervision tree" do
    server = Socket.serve!()
    {_socket, pid} = Socket.open(server)

    {_id, acceptors, _type, _modules} =
      server |> Supervisor.which_children() |> List.keyfind(Ferrosock.Server.Acceptors, 0)

    pids =
      for {_, pair, :supervisor, _} <- Supervisor.which_children(acceptors),
          {_, connections, :supervisor, _} <- Supervisor.which_children(pair),
          {_, child, :worker, _} <- Supervisor.which_children(connections),
          do: child

    assert pid in pids
  end

  defp tell(test) do
    fn message, state ->
      send(test, {:told, message})
      {:ok, state}
    end
  end

  defp told do
    receive do
      {:told, message} -> [message | told()]
    after
      0 -> []
    end
  end

  defp report(test) do
    fn _message, state ->
      send(test, {:report, self(), Process.get(:from_plug), Logger.metadata()})
      {:ok, state}
    end
  end

  # init/1 does not fail before its process is monitored.
  defp held(fail) do
    server =
      Socket.serve!(
        [
          init: fn state ->
            receive do: (:go -> fail.(state))
          end
        ],
        [],
        id: make_ref()
      )

    {socket, pid} = Socket.open(server)
    send(pid, :go)
    {socket, pid}
  end

  # Exits of errors and throws have a stacktrace.
  defp strip({reason, [{_, _, _, _} | _]}), do: reason
  defp strip(reason), do: reason

  # How many reports with the handler's name have the text.
  defp reports(log, text) do
    log
    |> String.split("WebSocket #{inspect(Socket)} terminating")
    |> tl()
    |> Enum.count(&(&1 =~ text))
  end

  defp assert_vanishes(vanish, reason) do
    {socket, pid} = Socket.open(Socket.serve!())
    sync(socket)

    log =
      capture_log(fn ->
        vanish.(socket)
        assert down(pid) == {:shutdown, :closed}
      end)

    assert_received {:terminated, ^pid, {:error, ^reason}, _state}
    refute log =~ inspect(Socket)
  end

  defp close_info(close) do
    test = self()

    server =
      Socket.serve!(
        [
          handle_info: fn :stop, state -> {:stop, :normal, state} end,
          terminate: fn _, _ -> send(test, {:close_info, Ferrosock.close_info()}) end
        ],
        [],
        id: make_ref()
      )

    {socket, pid} = Socket.open(server)
    close.(socket, pid)
    assert_receive {:close_info, info}
    down(pid)
    info
  end

  defp queue(pid), do: Process.info(pid, :message_queue_len)

  defp grow, do: Enum.map(1..1_000_000, &{&1, &1})
end
