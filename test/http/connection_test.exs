defmodule Ferrosock.HTTP.ConnectionTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn, only: [put_resp_header: 3, send_resp: 3, send_chunked: 2, chunk: 2]

  alias Ferrosock.Test.Logs

  # A server that tells the test of each request, with the process that serves it.
  defp telling(options \\ []) do
    test = self()

    serve(
      fn conn ->
        send(test, {:plug, self(), conn})
        send_resp(conn, 200, conn.request_path)
      end,
      options
    )
  end

  defp peer(socket) do
    {:ok, {_address, port}} = :inet.sockname(socket)
    "127.0.0.1:#{port}"
  end

  describe "a connection that is kept alive (RFC9112§9.3)" do
    test "has one process for all its requests" do
      socket = connect(telling())

      for n <- 1..20 do
        path = "/#{n}"
        assert request(socket, "GET", path).body == path
      end

      assert_received {:plug, pid, _conn}
      for _ <- 2..20, do: assert_received({:plug, ^pid, _conn})
    end

    test "is one of several, each with its process" do
      server = telling()
      sockets = for _ <- 1..5, do: connect(server)
      for _ <- 1..3, socket <- sockets, do: request(socket, "GET", "/")

      pids =
        for _ <- 1..15,
            do:
              (
                assert_received({:plug, pid, _conn})
                pid
              )

      assert length(Enum.uniq(pids)) == 5
    end

    test "forgets the dictionary, the mailbox and Logger's metadata between requests" do
      test = self()

      server =
        serve(fn _conn ->
          send(
            test,
            {:found, Process.get(:key), Process.info(self(), :messages), Logger.metadata()}
          )

          Process.put(:key, :value)
          Logger.metadata(request_id: "id")
          send(self(), :left_over)
        end)

      socket = connect(server)

      for _ <- 1..3 do
        request(socket, "GET", "/")
        assert_receive {:found, nil, {:messages, []}, []}
      end
    end

    test "keeps the dictionary where `clear_process_dict` is false" do
      test = self()

      server =
        serve(
          fn _conn -> send(test, {:count, Process.put(:count, Process.get(:count, 0) + 1)}) end,
          http_1_options: [clear_process_dict: false]
        )

      socket = connect(server)
      for _ <- 1..3, do: request(socket, "GET", "/")
      assert_receive {:count, nil}
      assert_receive {:count, 1}
      assert_receive {:count, 2}
    end

    test "drops what comes to its process while it is idle" do
      test = self()

      server =
        serve(fn _conn -> send(test, {:found, self(), Process.info(self(), :messages)}) end)

      socket = connect(server)
      request(socket, "GET", "/")
      assert_receive {:found, pid, {:messages, []}}
      for message <- [:late, {:plug_conn, :sent}, {make_ref(), :reply}], do: send(pid, message)
      request(socket, "GET", "/")
      assert_receive {:found, ^pid, {:messages, []}}
    end

    test "does not grow its process with its requests" do
      socket = connect(telling())
      sizes = for _ <- 1..300, do: heap_after_request(socket)
      assert Enum.max(Enum.take(sizes, -100)) <= Enum.max(Enum.take(sizes, 200))
    end

    defp heap_after_request(socket) do
      request(socket, "GET", "/", [{"x-data", String.duplicate("x", 5_000)}])
      assert_receive {:plug, pid, _conn}
      # Later than the response: until then it may have what it will not keep.
      eventually(fn -> Process.info(pid, :status) == {:status, :waiting} end)
      :erlang.garbage_collect(pid)
      {:total_heap_size, words} = Process.info(pid, :total_heap_size)
      words
    end

    test "answers pipelined requests in their order" do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          # The first one is answered when all have come.
          if conn.query_string == "0", do: receive(do: (:go -> :ok))
          send_resp(conn, 200, conn.query_string)
        end)

      socket = connect(server)
      write_alone(server, socket, Enum.map(0..19, &head("GET", "/?#{&1}")))
      assert_receive {:plug, pid}
      send(pid, :go)
      for n <- 0..19, do: assert(response(socket).body == "#{n}")
    end

    test "answers pipelined requests with bodies" do
      server =
        serve(fn conn ->
          {:ok, body, conn} = Plug.Conn.read_body(conn)
          send_resp(conn, 200, body)
        end)

      socket = connect(server)

      write(
        socket,
        for(n <- 1..50, do: head("POST", "/", [{"content-length", "8"}]) <> "body#{n + 1_000}")
      )

      for n <- 1..50, do: assert(response(socket).body == "body#{n + 1_000}")
    end

    test "of HTTP/1.0 must be asked for" do
      socket = connect(telling())

      for _ <- 1..2 do
        write(socket, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        response = response(socket)
        assert header(response, "connection") == ["keep-alive"]
      end

      write(socket, "GET / HTTP/1.0\r\n\r\n")
      assert response(socket).status == 200
      assert closed?(socket)
    end

    test "of HTTP/1.0 goes on after a response that has no body" do
      server = serve(fn conn -> send_resp(conn, String.to_integer(conn.query_string), "body") end)

      for {method, status} <- [{"HEAD", 200}, {"GET", 204}, {"GET", 304}] do
        socket = connect(server)

        for _ <- 1..2 do
          write(socket, "#{method} /?#{status} HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
          assert %{status: ^status} = response = response(socket, method)
          assert header(response, "connection") == ["keep-alive"]
        end
      end
    end
  end

  describe "a connection ends after the response" do
    test "when the client asks for it (RFC9112§9.6)" do
      for value <- ["close", "Close", "keep-alive, close"] do
        socket = connect(telling())
        response = request(socket, "GET", "/", [{"connection", value}])
        assert header(response, "connection") == ["close"]
        assert closed?(socket)
      end
    end

    test "when the app asks for it, also with chunks" do
      for send <- [
            &send_resp(&1, 200, "body"),
            fn conn ->
              conn = send_chunked(conn, 200)
              {:ok, conn} = chunk(conn, "body")
              conn
            end
          ] do
        socket =
          connect(serve(fn conn -> conn |> put_resp_header("connection", "close") |> send.() end))

        response = request(socket, "GET", "/")
        assert response.body == "body"
        assert header(response, "connection") == ["close"]
        assert closed?(socket)
      end
    end

    test "when it was the last of `max_requests`" do
      socket = connect(telling(http_1_options: [max_requests: 3]))
      for _ <- 1..2, do: assert(socket |> request("GET", "/") |> header("connection") == [])
      write(socket, [head("GET", "/"), head("GET", "/too-many")])
      response = response(socket)
      assert {response.body, header(response, "connection")} == {"/", ["close"]}
      assert closed?(socket)
      for _ <- 1..3, do: assert_received({:plug, _pid, %{request_path: "/"}})
      refute_received {:plug, _pid, _conn}
    end

    test "and so does its process" do
      socket = connect(telling())
      request(socket, "GET", "/", [{"connection", "close"}])
      assert_receive {:plug, pid, _conn}
      monitor = Process.monitor(pid)
      :gen_tcp.close(socket)
      assert_receive {:DOWN, ^monitor, :process, ^pid, reason}
      assert reason in [:normal, :noproc]
    end
  end

  describe "the deadlines" do
    setup do
      Logs.attach()
    end

    test "close an idle connection silently after `idle_timeout`" do
      socket = connect(telling(http_1_options: [idle_timeout: 100]))
      peer = peer(socket)
      request(socket, "GET", "/")
      assert_receive {:plug, pid, _conn}
      monitor = Process.monitor(pid)
      assert read_all(socket) == ""
      :gen_tcp.close(socket)
      assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
      assert Logs.taken(pid) ++ Logs.taken(peer) == []
    end

    test "count anew after each request" do
      socket = connect(telling(http_1_options: [idle_timeout: 3_000]))

      for _ <- 1..4 do
        assert %{status: 200} = request(socket, "GET", "/")
        assert :gen_tcp.recv(socket, 0, 800) == {:error, :timeout}
      end
    end

    test "close a connection silently that sends nothing for `header_timeout`" do
      socket = connect(telling(http_1_options: [header_timeout: 100]))
      peer = peer(socket)
      assert read_all(socket) == ""
      assert Logs.taken(peer) == []
    end

    test "answer a head that is not complete in time with 408 (RFC9110§15.5.9)" do
      server = telling(http_1_options: [header_timeout: 1_000])

      sockets =
        for requests <- [0, 1] do
          socket = connect(server)
          for _ <- 1..requests//1, do: request(socket, "GET", "/")
          write(socket, "GET / HTTP/1.1\r\nhost: loc")
          socket
        end

      for socket <- sockets do
        peer = peer(socket)
        assert response = response(socket)
        assert response.status == 408
        assert header(response, "connection") == ["close"]
        assert closed?(socket)
        Logs.await(peer)
      end
    end

    test "do not take line ends after a body for a head (RFC9112§2.2)" do
      socket = connect(telling(http_1_options: [header_timeout: 1_000]))
      peer = peer(socket)
      request(socket, "POST", "/", [{"content-length", "4"}], "body")
      write(socket, "\r\n")
      assert {:error, :timeout} = :gen_tcp.recv(socket, 0, 1_500)
      assert request(socket, "GET", "/next").body == "/next"
      assert Logs.taken(peer) == []
    end

    test "are not put off by a head that comes byte by byte" do
      socket = connect(telling(http_1_options: [header_timeout: 200]))
      bytes = head("GET", "/", [{"x-long", String.duplicate("x", 500)}])
      assert "HTTP/1.1 408 " <> _ = trickle(socket, bytes)
      refute_received {:plug, _pid, _conn}
    end

    # One byte after the other, until the server has something to say.
    defp trickle(socket, <<byte, rest::binary>>) do
      write(socket, <<byte>>)

      case :gen_tcp.recv(socket, 0, 5) do
        {:error, :timeout} -> trickle(socket, rest)
        {:ok, data} -> data
      end
    end

    test "do not count while the Plug runs" do
      options = [header_timeout: 1_000, idle_timeout: 1_000]

      server =
        serve(
          fn conn ->
            Process.sleep(1_200)
            send_resp(conn, 200, "slow")
          end,
          http_1_options: options
        )

      assert connect(server) |> request("GET", "/") |> Map.get(:body) == "slow"
    end

    test "do not count while a response is read slowly" do
      body = :binary.copy("x", 12_000_000)

      server =
        serve(fn conn -> send_resp(conn, 200, body) end,
          http_1_options: [header_timeout: 500, idle_timeout: 500]
        )

      socket = connect(server, recbuf: 16_384)
      write(socket, head("GET", "/"))
      Process.sleep(800)
      assert byte_size(response(socket).body) == 12_000_000
    end
  end

  describe "a server that stops" do
    test "lets a running request finish, says so, and closes (RFC9112§9.6)" do
      test = self()

      server =
        serve(
          fn conn ->
            send(test, {:plug, self()})
            assert_receive :continue
            send_resp(conn, 200, "finished")
          end,
          id: :stopping
        )

      port = port(server)
      socket = connect(server)
      write(socket, head("GET", "/"))
      assert_receive {:plug, pid}
      stop = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
      eventually(fn -> refused?(port) end)
      send(pid, :continue)
      response = response(socket)
      assert response.body == "finished"
      assert header(response, "connection") == ["close"]
      assert closed?(socket)
      assert Task.await(stop, 20_000) == :ok
    end

    test "closes idle connections at once" do
      server = telling()
      socket = connect(server)
      request(socket, "GET", "/")
      stop = Task.async(fn -> Supervisor.stop(server, :shutdown) end)
      assert read_all(socket) == ""
      :gen_tcp.close(socket)
      assert Task.await(stop, 20_000) == :ok
    end

    test "waits for `shutdown_timeout`, and no longer" do
      test = self()

      server =
        serve(
          fn _conn ->
            send(test, {:plug, self()})
            forever()
          end,
          shutdown_timeout: 100
        )

      socket = connect(server)
      write(socket, head("GET", "/"))
      assert_receive {:plug, pid}
      monitor = Process.monitor(pid)
      {time, :ok} = :timer.tc(fn -> Supervisor.stop(server, :shutdown) end, :millisecond)
      assert time in 100..20_000
      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
      assert %{status: 500} = response(socket)
    end
  end

  describe "servers" do
    test "may be several in a node" do
      sockets =
        for name <- ["one", "two", "three"],
            do: {name, connect(serve(fn conn -> send_resp(conn, 200, name) end))}

      for {name, socket} <- sockets, do: assert(request(socket, "GET", "/").body == name)
    end

    test "may have names" do
      name = :"#{__MODULE__}.Named"
      server = telling(name: name)
      assert Process.whereis(name) == server
      assert %{address: {{127, 0, 0, 1}, port}} = Ferrosock.info(name)
      assert connect(port) |> request("GET", "/") |> Map.get(:status) == 200
    end

    test "count connections and requests" do
      server = telling()
      socket = connect(server)
      for _ <- 1..3, do: request(socket, "GET", "/")
      assert %{connections: 1, accepted: 1, requests: 3} = Ferrosock.info(server)
      :gen_tcp.close(socket)
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
    end

    @tag :capture_log
    test "say in words that their port is in use" do
      port = port(telling())
      plug = fn conn, _options -> conn end
      Process.flag(:trap_exit, true)

      assert {:error, reason} =
               Ferrosock.start_link(plug: plug, port: port, ip: :loopback, startup_log: false)

      assert Exception.format_exit(reason) =~
               "cannot listen on 127.0.0.1:#{port}: address already in use (:eaddrinuse)"
    end

    test "may take the port of one that stopped, at once" do
      server = telling()
      port = port(server)
      socket = connect(server)
      request(socket, "GET", "/")
      :ok = Supervisor.stop(server, :shutdown)
      telling(port: port)
      assert connect(port) |> request("GET", "/") |> Map.get(:status) == 200
    end

    test "name the option that is wrong" do
      plug = fn conn, _options -> conn end

      for {options, text} <- [
            {[], ":plug is required"},
            {[plug: "Plug"], ":plug"},
            {[plug: plug, port: -1], ":port"},
            {[plug: plug, port: 65_536], ":port"},
            {[plug: plug, prot: 80], "unknown option :prot"},
            {[plug: plug, ip: "localhost"], ":ip"},
            {[plug: plug, http_1_options: [idle_timeout: 0]], ":idle_timeout in :http_1_options"},
            {[plug: plug, http_1_options: [idle: 1]], "unknown option :idle in :http_1_options"},
            {[plug: plug, http_1_options: 1], "in :http_1_options"},
            {[plug: plug, reactors: 1_000], ":reactors"}
          ] do
        error = assert_raise ArgumentError, fn -> Ferrosock.start_link(options) end
        assert error.message =~ text
      end
    end

    test "call the Plug's init once" do
      defmodule Initialized do
        def init(test) do
          send(test, :initialized)
          {:from_init, test}
        end

        def call(conn, {:from_init, _test}), do: Plug.Conn.send_resp(conn, 200, "")
      end

      socket = connect(start_server!(plug: {Initialized, self()}))
      for _ <- 1..2, do: assert(%{status: 200} = request(socket, "GET", "/"))
      assert_received :initialized
      refute_received :initialized
    end
  end
end
