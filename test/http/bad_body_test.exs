defmodule Ferrosock.HTTP.BadBodyTest do
  # A client that frames its body wrongly, cuts it short or does not send it is answered by the server when
  # the Plug, which has no clause for that, fails: with one line, and without a report.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Logs

  defmodule Parsers do
    use Plug.Builder
    plug Plug.Parsers, parsers: [:urlencoded]
    plug :answer
    def answer(conn, _options), do: Plug.Conn.send_resp(conn, 200, "")
  end

  @chunked [{"transfer-encoding", "chunked"}]

  # RFC9112§7.1
  @malformed [
    {"no size", "x\r\n"},
    {"an empty size", "\r\nabc\r\n0\r\n\r\n"},
    {"a size with a sign", "+3\r\nabc\r\n0\r\n\r\n"},
    {"a size in another notation", "0x3\r\nabc\r\n0\r\n\r\n"},
    {"a size past 64 bits", "10000000000000000\r\nabc\r\n"},
    {"a size after a space", " 3\r\nabc\r\n0\r\n\r\n"},
    {"a size that ends in LF alone", "3\nabc\r\n0\r\n\r\n"},
    {"a size that ends in CR alone", "3\rabc\r\n0\r\n\r\n"},
    {"a second word after the size", "3 4\r\nabc\r\n0\r\n\r\n"},
    {"an extension with LF", "3;a\nb\r\nabc\r\n0\r\n\r\n"},
    {"a chunk that is longer than its size", "2\r\nabc\r\n0\r\n\r\n"},
    {"a chunk that ends in LF alone", "3\r\nabc\n0\r\n\r\n"},
    {"a chunk that ends in CR alone", "3\r\nabc\r0\r\n\r\n"},
    {"a bad chunk after a good one", "3\r\nabc\r\nx\r\n"},
    {"extensions without an end", "3;" <> String.duplicate("a", 20_000)},
    {"trailers without an end", "0\r\na: " <> String.duplicate("a", 70_000)}
  ]

  # What apps do with the result.
  @plugs [
    {"a match",
     quote do
       fn conn ->
         {:ok, _body, conn} = read_body(conn, read_timeout: 100)
         conn
       end
     end},
    {"a case",
     quote do
       fn conn ->
         case read_body(conn, read_timeout: 100) do
           {:ok, _body, conn} -> conn
           {:more, _body, conn} -> conn
         end
       end
     end},
    {"a function", quote(do: fn conn -> conn |> read_body(read_timeout: 100) |> elem(2) end)},
    {"a raise of its own",
     quote do
       fn conn ->
         with {:error, reason} <- read_body(conn, read_timeout: 100), do: raise("no: #{reason}")
       end
     end},
    {"an exit", quote(do: fn conn -> exit(read_body(conn, read_timeout: 100)) end)},
    {"a task",
     quote do
       fn conn ->
         Task.await(Task.async(fn -> {:ok, _, _} = read_body(conn, read_timeout: 100) end))
       end
     end}
  ]

  setup do
    Logs.attach()
  end

  defp refused(server, bytes) do
    socket = connect(server)
    {:ok, {_address, port}} = :inet.sockname(socket)
    _ = :gen_tcp.send(socket, bytes)
    response = response(socket)
    assert header(response, "connection") == ["close"]
    assert closed?(socket)
    {response.status, Logs.taken("127.0.0.1:#{port} ")}
  end

  for {name, bytes} <- @malformed do
    @tag bytes: bytes
    test "#{name} is answered with 400, one line and no report", %{bytes: bytes} do
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          {:ok, _body, conn} = read_body(conn)
          conn
        end)

      bytes = head("POST", "/", @chunked) <> bytes <> head("GET", "/smuggled")
      assert {400, [{:log, :warning, line, _meta}]} = refused(server, bytes)
      assert line =~ "malformed request body"
      assert line =~ "MatchError"
      refute line =~ "\n"
      assert_received {:plug, pid}
      assert Enum.all?(Logs.taken(pid), &match?({:log, :warning, ^line, _}, &1))
      refute_received {:plug, _pid}
    end
  end

  for {name, plug} <- @plugs do
    test "#{name} that fails is not the app's fault" do
      server = serve(unquote(plug))
      bytes = head("POST", "/", @chunked) <> "x\r\n"
      assert {400, [{:log, :warning, _line, _meta}]} = refused(server, bytes)

      # RFC9110§15.5.9
      bytes = head("POST", "/", [{"content-length", "10"}]) <> "part"
      assert {408, [{:log, :warning, line, _meta}]} = refused(server, bytes)
      assert line =~ "not complete in time"
    end
  end

  test "Plug.Parsers answers it with 400, without a line" do
    server = start_server!(plug: Parsers)
    headers = [{"content-type", "application/x-www-form-urlencoded"} | @chunked]
    assert {400, []} = refused(server, head("POST", "/", headers) <> "x\r\n")
  end

  test "a Plug that knows what to do answers itself" do
    server =
      serve(fn conn ->
        assert {:error, :closed} = read_body(conn)
        # It stays so: a body without its end is never whole.
        assert {:error, :closed} = read_body(conn)
        send_resp(conn, 422, "")
      end)

    assert {422, []} = refused(server, head("POST", "/", @chunked) <> "3\r\nabc\r\nx\r\n")
  end

  test "a Plug that fails after a body that could be read is reported" do
    test = self()

    server =
      serve(fn conn ->
        {:error, :timeout} = read_body(conn, read_timeout: 20)
        send(test, :timed_out)
        {:ok, "body", _conn} = read_body(conn, read_timeout: 5_000)
        raise "its own fault"
      end)

    socket = connect(server)
    write(socket, head("POST", "/", [{"content-length", "4"}]))
    assert_receive :timed_out
    write(socket, "body")
    assert %{status: 500} = response(socket)
  end

  test "many of them are logged at most ten times a second" do
    server =
      serve(fn conn ->
        {:ok, _body, conn} = read_body(conn)
        conn
      end)

    start = System.monotonic_time(:second)
    bytes = head("POST", "/", @chunked) <> "x\r\n"
    lines = for _ <- 1..50, line <- elem(refused(server, bytes), 1), do: line
    seconds = System.monotonic_time(:second) - start + 1
    assert length(lines) in 1..(10 * (seconds + 1))
  end
end
