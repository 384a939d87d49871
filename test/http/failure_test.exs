defmodule Ferrosock.HTTP.FailureTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Logs

  defmodule Refusal do
    defexception message: "refused", plug_status: 404
  end

  defmodule Odd do
    defexception [:status, message: "odd"]

    defimpl Plug.Exception do
      def status(%{status: :raise}), do: raise("no status")
      def status(%{status: :throw}), do: throw(:no_status)
      def status(%{status: status}), do: status
      def actions(_exception), do: []
    end
  end

  setup do
    Logs.attach()
  end

  # A server whose Plug tells the test its process and then runs the function.
  defp telling(fun, options \\ []) do
    test = self()

    plug = fn conn, _options ->
      send(test, {:plug, self()})
      fun.(conn)
    end

    start_server!([plug: plug, id: make_ref()] ++ options)
  end

  @failures [
    {"raises", quote(do: raise("oops")), %RuntimeError{message: "oops"}},
    {"throws", quote(do: throw(:oops)), {:nocatch, :oops}},
    {"exits", quote(do: exit(:oops)), :oops}
  ]

  for {how, failure, reason} <- @failures do
    @reason reason

    test "a Plug that #{how} before it responds is a 500 and one log event" do
      socket = connect(telling(fn _conn -> unquote(failure) end))
      response = request(socket, "GET", "/path")
      assert {response.status, response.body} == {500, ""}
      assert header(response, "connection") == ["close"]
      assert closed?(socket)
      assert_received {:plug, pid}
      assert [{:log, :error, text, meta}] = events(pid)
      assert text =~ "oops"
      assert text =~ inspect(__MODULE__)
      assert {@reason, [_ | _]} = meta.crash_reason
      assert %Plug.Conn{request_path: "/path"} = meta.conn
      assert meta.domain == [:elixir, :ferrosock] or meta.domain == [:ferrosock]
    end

    test "a Plug that #{how} after its response leaves that response, and ends the connection" do
      fun = fn conn ->
        send_resp(conn, 200, "done")
        unquote(failure)
      end

      socket = connect(telling(fun))
      assert %{status: 200, body: "done"} = request(socket, "GET", "/")
      assert read_all(socket) == ""
      assert_received {:plug, pid}
      assert [{:log, :error, _text, %{crash_reason: {@reason, _}}}] = events(pid)
    end

    test "a Plug that #{how} between two chunks cuts the body off" do
      fun = fn conn ->
        conn = send_chunked(conn, 200)
        {:ok, _conn} = chunk(conn, "first")
        unquote(failure)
      end

      socket = connect(telling(fun))
      write(socket, head("GET", "/"))
      received = read_all(socket)
      assert String.ends_with?(received, "\r\n\r\n5\r\nfirst\r\n")
      assert_received {:plug, pid}
      assert [{:log, :error, _text, %{crash_reason: {@reason, _}}}] = events(pid)
    end
  end

  # The events of a process that has ended, so that all are there.
  defp events(pid) do
    eventually(fn -> not Process.alive?(pid) end)
    Logs.taken(pid)
  end

  describe "an exception" do
    test "has the status that Plug.Exception gives it" do
      for {exception, status} <- [
            {%Refusal{}, 404},
            {%Refusal{plug_status: 422}, 422},
            {%Refusal{plug_status: 503}, 503},
            {%Plug.BadRequestError{}, 400},
            {%Plug.TimeoutError{}, 408},
            {%Plug.Parsers.RequestTooLargeError{}, 413},
            {%RuntimeError{message: "oops"}, 500}
          ] do
        socket = connect(telling(fn _conn -> raise exception end))
        assert %{status: ^status} = request(socket, "GET", "/")
        assert_received {:plug, pid}
        assert length(events(pid)) == if(status >= 500, do: 1, else: 0)
      end
    end

    test "may have the status by name, and does no harm with none that it could have" do
      for {status, sent} <- [
            {:service_unavailable, 503},
            {:not_found, 404},
            {:unheard_of, 500},
            {:ok, 500},
            {200, 500},
            {302, 500},
            {700, 500},
            {-1, 500},
            {"503", 500},
            {nil, 500},
            {:raise, 500},
            {:throw, 500}
          ] do
        socket = connect(telling(fn _conn -> raise Odd, status: status end))
        assert %{status: ^sent} = request(socket, "GET", "/")
        assert_received {:plug, pid}
        assert length(events(pid)) == if(sent >= 500, do: 1, else: 0), inspect(status)
      end
    end

    test "inside Plug.Router is told as itself, with the conn that it had" do
      defmodule Router do
        use Plug.Router
        plug :match
        plug :dispatch

        get "/:id" do
          _ = conn
          raise "no #{id}"
        end
      end

      test = self()

      plug = fn conn, _options ->
        send(test, {:plug, self()})
        Router.call(conn, [])
      end

      assert %{status: 500} =
               [plug: plug] |> start_server!() |> connect() |> request("GET", "/one")

      assert_received {:plug, pid}
      assert [{:log, :error, text, meta}] = events(pid)
      assert text =~ "(RuntimeError) no one"
      assert {%RuntimeError{message: "no one"}, _stacktrace} = meta.crash_reason
      assert meta.conn.path_params == %{"id" => "one"}
    end

    test "of no route is an error of the app, as Plug says" do
      defmodule NoRoute do
        use Plug.Router
        plug :match
        plug :dispatch
        get("/known", do: send_resp(conn, 200, ""))
      end

      socket = connect(start_server!(plug: NoRoute))
      assert %{status: 500} = request(socket, "GET", "/unknown")
    end

    test "that Plug.ErrorHandler answers is not answered again" do
      defmodule Handled do
        use Plug.Router
        use Plug.ErrorHandler
        plug :match
        plug :dispatch

        get "/:status" do
          raise Refusal, plug_status: String.to_integer(status)
          conn
        end

        @impl Plug.ErrorHandler
        def handle_errors(conn, %{kind: :error, reason: %Refusal{}}),
          do: send_resp(conn, conn.status, "handled")
      end

      server = start_server!(plug: Handled)

      for status <- [404, 500] do
        socket = connect(server)
        assert %{status: ^status, body: "handled"} = request(socket, "GET", "/#{status}")
        assert read_all(socket) == ""
      end
    end

    test "is a page of Plug.Debugger where an app uses it" do
      defmodule Debugged do
        use Plug.Router
        use Plug.Debugger
        plug :match
        plug :dispatch

        get "/" do
          _ = conn
          raise "the debugger shows this"
        end
      end

      socket = connect(start_server!(plug: Debugged))
      response = request(socket, "GET", "/", [{"accept", "text/html"}])
      assert response.status == 500
      assert response.body =~ "the debugger shows this"
    end
  end

  describe "a Plug that returns" do
    test "without a response is a Plug.Conn.NotSentError" do
      socket = connect(telling(fn conn -> conn end))
      assert %{status: 500} = request(socket, "GET", "/")
      assert_received {:plug, pid}
      assert [{:log, :error, _text, meta}] = events(pid)
      assert {%Plug.Conn.NotSentError{}, _stacktrace} = meta.crash_reason
    end

    test "something else than a conn is told so" do
      for other <- [:ok, nil, {:ok, :conn}] do
        socket = connect(telling(fn _conn -> other end))
        assert %{status: 500} = request(socket, "GET", "/")
        assert_received {:plug, pid}
        assert [{:log, :error, text, _meta}] = events(pid)
        assert text =~ "to return a Plug.Conn, got: #{inspect(other)}"
      end
    end
  end

  describe "a failure" do
    test "ends what the Plug linked" do
      test = self()

      fun = fn _conn ->
        send(test, {:linked, spawn_link(&forever/0)})
        raise "oops"
      end

      request(connect(telling(fun)), "GET", "/")
      assert_received {:linked, linked}
      eventually(fn -> not Process.alive?(linked) end)
    end

    test "disturbs no other connection" do
      server =
        telling(fn conn ->
          if conn.request_path == "/fail", do: raise("oops")
          send_resp(conn, 200, "")
        end)

      socket = connect(server)
      assert %{status: 200} = request(socket, "GET", "/")
      for _ <- 1..20, do: assert(%{status: 500} = request(connect(server), "GET", "/fail"))
      assert %{status: 200} = request(socket, "GET", "/")
    end

    test "drops the requests that were pipelined behind it" do
      server = telling(fn _conn -> raise "oops" end)
      socket = connect(server)
      write(socket, [head("GET", "/"), head("GET", "/")])
      assert %{status: 500} = response(socket)
      assert closed?(socket)
      assert_received {:plug, _pid}
      refute_received {:plug, _pid}
    end

    test "of a process that the Plug linked and did not await does no harm" do
      fun = fn conn ->
        {pid, monitor} = Process.spawn(fn -> exit(:oops) end, [:link, :monitor])
        assert_receive {:DOWN, ^monitor, :process, ^pid, :oops}
        send_resp(conn, 200, "unharmed")
      end

      socket = connect(telling(fun))
      for _ <- 1..2, do: assert(%{body: "unharmed"} = request(socket, "GET", "/"))
    end
  end

  # A client that leaves is no failure: no report, and the process ends in order.
  describe "a client that goes away" do
    defp goes_away(fun, bytes) do
      test = self()

      server =
        telling(fn conn ->
          conn = fun.(conn)
          send(test, :returned)
          conn
        end)

      socket = connect(server, recbuf: 16_384)
      write(socket, bytes)
      assert_receive {:plug, pid}
      monitor = Process.monitor(pid)
      # The VM may hold a monitor back, to send it together with a message.
      :erlang.yield()
      # A FIN alone does not say that it is gone: `half_close_test.exs`.
      reset(socket)
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
      send(pid, :continue)
      assert_receive {:DOWN, ^monitor, :process, ^pid, reason}
      assert reason == :normal or match?({:shutdown, _}, reason), inspect(reason)
      assert Logs.taken(pid) == []
    end

    test "before the response" do
      goes_away(
        fn conn ->
          assert_receive :continue
          send_resp(conn, 200, "nobody reads this")
        end,
        head("GET", "/")
      )

      assert_received :returned
    end

    test "before a large response" do
      goes_away(
        fn conn ->
          assert_receive :continue
          send_resp(conn, 200, :binary.copy("x", 5_000_000))
        end,
        head("GET", "/")
      )

      assert_received :returned
    end

    test "before chunks" do
      goes_away(
        fn conn ->
          assert_receive :continue
          conn = send_chunked(conn, 200)
          assert {:error, :closed} = chunk(conn, "nobody reads this")
          conn
        end,
        head("GET", "/")
      )

      assert_received :returned
    end

    test "before a file" do
      goes_away(
        fn conn ->
          assert_receive :continue
          send_file(conn, 200, __ENV__.file)
        end,
        head("GET", "/")
      )

      assert_received :returned
    end

    test "in the middle of a large response" do
      goes_away(
        fn conn -> send_resp(conn, 200, :binary.copy("x", 20_000_000)) end,
        head("GET", "/")
      )

      assert_received :returned
    end

    test "in the middle of its own body" do
      goes_away(
        fn conn ->
          assert {:error, :closed} = read_body(conn)
          send_resp(conn, 200, "nobody reads this")
        end,
        head("POST", "/", [{"content-length", "10"}]) <> "part"
      )

      assert_received :returned
    end

    test "in the middle of a form that Plug.Parsers reads" do
      options = Plug.Parsers.init(parsers: [:urlencoded])
      headers = [{"content-length", "10"}, {"content-type", "application/x-www-form-urlencoded"}]
      goes_away(&Plug.Parsers.call(&1, options), head("POST", "/", headers) <> "a=")
    end

    test "between two requests" do
      goes_away(fn conn -> send_resp(conn, 200, "") end, head("GET", "/"))
    end

    test "before its whole head came" do
      server = telling(fn conn -> send_resp(conn, 200, "") end)
      socket = connect(server)
      {:ok, {_address, port}} = :inet.sockname(socket)
      write(socket, "GET / HT")
      :gen_tcp.close(socket)
      eventually(fn -> Ferrosock.info(server).connections == 0 end)
      assert Logs.taken("127.0.0.1:#{port} ") == []
    end
  end
end
