defmodule Ferrosock.Boundary.AcceptorTest do
  # The calls of a process that takes connections, right and wrong, from a bare listener.
  #
  # Not async: it counts what is alive in the whole engine.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw

  alias Ferrosock.Native
  alias Ferrosock.Test.Census

  setup do: Census.nothing_left()

  describe "an acceptor" do
    # A bare listener, with the test process as its owner and its acceptor.
    setup do
      options =
        listener_options(
          header_timeout: 1_000,
          idle_timeout: 1_000,
          max_request_line_length: 1_000,
          max_header_length: 10_000,
          max_header_count: 10,
          high_water_mark: 1_000
        )

      {:ok, listener, tag} = Native.listener_open(options, nil)
      on_exit(fn -> Native.listener_close(listener) end)
      {_ip, port} = Native.listener_info(listener).address
      [listener: listener, tag: tag, port: port]
    end

    test "that is missing makes the request a 503", %{port: port} do
      socket = connect(port)
      assert %{status: 503} = request(socket, "GET", "/")
      assert closed?(socket)
    end

    test "that dies with a connection in its mailbox makes the request a 500", context do
      %{listener: listener, port: port} = context
      acceptor = acceptor(listener)
      :erlang.suspend_process(acceptor)
      socket = connect(port)
      write(socket, head("GET", "/"))
      eventually(fn -> Native.stats().exchanges == 1 end)
      Process.exit(acceptor, :kill)
      assert %{status: 500} = response(socket)
      assert closed?(socket)
    end

    test "that died is not asked again", %{listener: listener, tag: tag, port: port} do
      dead = acceptor(listener)
      Process.exit(dead, :kill)
      :ok = Native.listener_accept(listener)

      for _ <- 1..3 do
        socket = connect(port)
        write(socket, head("GET", "/"))
        {_connection, exchange} = accepted(tag)
        assert :ok = Native.exchange_respond(exchange, 200, [], "")
        assert %{status: 200} = response(socket)
        :gen_tcp.close(socket)
      end
    end

    test "that lets go of an exchange ends it", %{listener: listener, tag: tag, port: port} do
      socket = asked(listener, port)
      {_connection, _exchange} = accepted(tag)
      :erlang.garbage_collect()
      assert %{status: 500} = response(socket)
    end

    test "that lets go of a claim ends the connection", %{
      listener: listener,
      tag: tag,
      port: port
    } do
      socket = asked(listener, port)
      assert_receive {^tag, {:connection, _claim}}
      :erlang.garbage_collect()
      assert %{status: 500} = response(socket)
      assert closed?(socket)
    end

    test "refuses what it has no process for", %{listener: listener, tag: tag, port: port} do
      socket = asked(listener, port)
      assert_receive {^tag, {:connection, claim}}
      assert Native.refuse(claim) == :ok
      assert %{status: 503} = refused = response(socket)
      assert header(refused, "connection") == ["close"]
      assert closed?(socket)
      assert Native.refuse(claim) == :ok
      assert Native.attach(claim) == :gone
    end

    test "learns that a connection ended before it was attached", context do
      %{listener: listener, tag: tag, port: port} = context
      socket = asked(listener, port)
      assert_receive {^tag, {:connection, claim}}
      reset(socket)
      eventually(fn -> Native.stats().connections == 0 end)
      assert Native.attach(claim) == :gone
    end

    test "learns that its connection ended, whatever became of the message", context do
      %{listener: listener, tag: tag, port: port} = context
      socket = asked(listener, port)
      {connection, exchange} = accepted(tag)
      assert Native.take(connection) == :none
      reset(socket)
      assert_receive {^connection, :closed}
      assert Native.take(connection) == :closed
      assert Native.exchange_respond(exchange, 200, [], "") == {:error, :closed}
      assert Native.exchange_chunk(exchange, "x") == {:error, :closed}
    end

    test "attaches once", %{listener: listener, tag: tag, port: port} do
      _socket = asked(listener, port)
      assert_receive {^tag, {:connection, claim}}
      assert {:ok, connection} = Native.attach(claim)
      assert Task.await(Task.async(fn -> Native.attach(claim) end)) == :gone
      assert {:request, exchange, _request} = Native.take(connection)
      assert Native.take(connection) == :none
      assert Native.exchange_respond(exchange, 200, [], "") == :ok
    end

    test "sends one response, whoever comes first", %{listener: listener, tag: tag, port: port} do
      socket = asked(listener, port)
      {_connection, exchange} = accepted(tag)

      results =
        1..20
        |> Enum.map(fn _ ->
          Task.async(fn -> Native.exchange_respond(exchange, 200, [], "ok") end)
        end)
        |> Task.await_many()

      assert Enum.count(results, &(&1 == :ok)) == 1
      assert Enum.count(results, &(&1 == {:error, :already_sent})) == 19
      assert %{status: 200, body: "ok"} = response(socket)
    end

    test "whose WebSocket handle is collected closes it with 1011", context do
      %{listener: listener, tag: tag, port: port} = context
      socket = asked(listener, port, handshake_headers())
      {_connection, exchange} = accepted(tag)
      upgrade_and_drop(exchange)
      assert %{status: 101} = response(socket)
      :erlang.garbage_collect()
      assert recv_frame(socket) == {:close, 1011, ""}
    end

    test "may close twice, and send too late", %{listener: listener, tag: tag, port: port} do
      socket = asked(listener, port, handshake_headers())
      {connection, exchange} = accepted(tag)
      {:ok, native} = Native.exchange_upgrade(exchange, [], socket_options())
      assert %{status: 101} = response(socket)

      # From another process too.
      assert :ok = Task.await(Task.async(fn -> Native.socket_send(native, [{:text, "a"}]) end))
      assert :ok = Native.socket_close(native, 1000, "bye")
      assert :ok = Native.socket_close(native, 1001, "bye")
      assert :closed = Native.socket_send(native, [{:text, "late"}])
      assert recv_frame(socket) == {:text, "a"}
      assert recv_frame(socket) == {:close, 1000, "bye"}
      send_frame(socket, :close, <<1000::16>>)
      assert closed?(socket)
      eventually(fn -> Native.stats().tasks == 1 end)
      assert :closed = Native.socket_send(native, [{:text, "later"}])
      assert :ok = Native.socket_close(native, 1000, "")
      assert :ok = Native.socket_abort(native)
      refute_received {^connection, _event}
    end

    test "sends whatever it is given in less than a millisecond", context do
      text = Enum.map_join(1..9_000, ",", &~s({"id":#{&1},"name":"member #{&1}","topic":"lobby"}))
      piece = binary_part(text, 0, 16_384)
      many = List.duplicate({:text, piece}, 4)
      large = {:binary, :binary.copy(<<0>>, 64_000_000)}

      for deflate <- [nil | for(level <- [1, 6, 9], do: deflate_options(level))],
          messages <- [[{:text, piece}], many, [{:text, text}], [large], List.duplicate(large, 4)] do
        times =
          for _ <- 1..9 do
            {socket, native} = websocket_handle(context, %{socket_options() | deflate: deflate})
            {time, _sent} = :timer.tc(fn -> Native.socket_send(native, messages) end)
            reset(socket)
            time
          end

        # The least, because whatever else the machine does is in the others.
        assert Enum.min(times) < 1_000
      end
    end

    test "pays for the time that its calls take", context do
      data = :binary.copy(<<0>>, 500_000)

      {times, reductions} =
        Enum.unzip(
          for _ <- 1..20 do
            {socket, native} = websocket_handle(context, socket_options())
            before = reductions()
            {time, _sent} = :timer.tc(fn -> Native.socket_send(native, [{:binary, data}]) end)
            paid = reductions() - before
            reset(socket)
            {time, paid}
          end
        )

      # A process has 4,000 for a millisecond. Half of that, as time may pass outside of the call.
      assert Enum.sum(reductions) > min(Enum.sum(times), 1_000) * 2
    end

    test "that fails to upgrade still has a connection of HTTP", context do
      %{listener: listener, tag: tag, port: port} = context
      :ok = Native.listener_accept(listener)
      upgrade = &Native.exchange_upgrade(&1, &2, socket_options())

      for answered? <- [true, false] do
        socket = connect(port)
        write(socket, head("GET", "/", handshake_headers()))
        {connection, exchange} = accepted(tag)
        bad_length = [{"content-length", "five"}]
        assert {:error, {:invalid_header, "content-length"}} = upgrade.(exchange, bad_length)

        if answered? do
          assert :ok = Native.exchange_respond(exchange, 200, [], "")
          assert {:error, :already_sent} = upgrade.(exchange, [])
          assert %{status: 200} = response(socket)
          :gen_tcp.close(socket)
          assert_receive {^connection, :closed}
        else
          reset(socket)
          assert_receive {^connection, :closed}
          assert {:error, :closed} = upgrade.(exchange, [])
        end

        refute_receive {^connection, _event}, 50
      end
    end

    test "gets arguments that are wrong refused", %{listener: listener, tag: tag, port: port} do
      socket = asked(listener, port, handshake_headers())
      assert_receive {^tag, {:connection, claim}}
      {:ok, connection} = Native.attach(claim)
      {:request, exchange, _request} = Native.take(connection)

      for call <- [
            fn -> Native.take(claim) end,
            fn -> Native.refuse(connection) end,
            fn -> Native.listener_open(%{}, nil) end,
            fn -> Native.listener_info(exchange) end,
            fn -> Native.attach(exchange) end,
            fn -> Native.attach(make_ref()) end,
            fn -> Native.exchange_respond(connection, 200, [], "") end,
            fn -> Native.exchange_respond(exchange, 200, [:no], "") end,
            fn -> Native.exchange_respond(exchange, 200, [{"a", "b"} | :improper], "") end,
            fn -> Native.exchange_respond(exchange, 200, [], :no) end,
            fn -> Native.exchange_respond(exchange, 70_000, [], "") end,
            fn -> Native.exchange_chunk(exchange, [256]) end,
            fn -> Native.exchange_await(exchange, :no) end,
            fn -> Native.exchange_read(exchange, -1, 1, make_ref()) end,
            fn -> Native.exchange_read(exchange, 1, :never, make_ref()) end,
            fn -> Native.exchange_upgrade(exchange, [], %{}) end
          ] do
        assert_raise ArgumentError, call
      end

      assert {:error, :invalid_status} = Native.exchange_respond(exchange, 100, [], "")

      assert {:error, {:invalid_header, "x"}} =
               Native.exchange_respond(exchange, 200, [{"x", "a\nb"}], "")

      assert {:error, {:invalid_header, "x y"}} =
               Native.exchange_start(exchange, 200, [{"x y", ""}])

      {:ok, native} = Native.exchange_upgrade(exchange, [], socket_options())

      for call <- [
            fn -> Native.socket_send(native, :no) end,
            fn -> Native.socket_send(native, [{:close, ""}]) end,
            fn -> Native.socket_send(native, [{:text, 1}]) end,
            fn -> Native.socket_ack(native, [{:text, "a"} | :improper]) end,
            fn -> Native.socket_close(native, 1000, String.duplicate("x", 124)) end,
            fn -> Native.socket_close(native, -1, "") end,
            fn -> Native.socket_send(exchange, []) end,
            fn -> Native.socket_ending(exchange) end,
            fn -> Native.socket_resume(native, -1) end
          ] do
        assert_raise ArgumentError, call
      end

      assert %{status: 101} = response(socket)
    end
  end

  defp acceptor(listener) do
    test = self()

    pid =
      spawn(fn ->
        :ok = Native.listener_accept(listener)
        send(test, :accepting)
        forever()
      end)

    assert_receive :accepting
    pid
  end

  # A connection that this process has, and its request.
  # A client that has sent a request, for which this process is the acceptor.
  defp asked(listener, port, headers \\ []) do
    :ok = Native.listener_accept(listener)
    socket = connect(port)
    write(socket, head("GET", "/", headers))
    socket
  end

  defp accepted(tag) do
    assert_receive {^tag, {:connection, claim}}
    {:ok, connection} = Native.attach(claim)
    {:request, exchange, _request} = Native.take(connection)
    {connection, exchange}
  end

  defp upgrade_and_drop(exchange) do
    {:ok, _socket} = Native.exchange_upgrade(exchange, [], socket_options())
    :ok
  end

  defp reductions, do: self() |> Process.info(:reductions) |> elem(1)

  # A WebSocket of this process, and its client.
  defp websocket_handle(%{listener: listener, tag: tag, port: port}, options) do
    offer = {"sec-websocket-extensions", "permessage-deflate"}
    socket = asked(listener, port, [offer | handshake_headers()])
    {_connection, exchange} = accepted(tag)
    {:ok, native} = Native.exchange_upgrade(exchange, [], options)
    assert %{status: 101} = response(socket)
    {socket, native}
  end

  defp deflate_options(level) do
    %{
      level: level,
      mem_level: 8,
      window_bits: 15,
      client_window_bits: 15,
      server_context_takeover: false,
      client_context_takeover: true,
      threshold: 0,
      # So that each is compressed.
      cache: false
    }
  end

  defp socket_options do
    %{
      timeout: :infinity,
      ping_interval: :infinity,
      ping_timeout: 1_000,
      max_lifetime: :infinity,
      hibernate_after: :infinity,
      close_timeout: 1_000,
      max_frame_size: :infinity,
      max_fragments: 100,
      validate_utf8: true,
      control_events: true,
      send_timeout: 15_000,
      high_water_mark: 1_000_000,
      deflate: nil
    }
  end
end
