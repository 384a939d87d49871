defmodule Ferrosock.Boundary.StreamsTest do
  # Streams of HTTP/2 that end, and of which nothing is left in the engine.
  #
  # Not async: it counts what is alive in the whole engine.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Ferrosock.Test.Probe, only: [down: 1]
  import Ferrosock.Test.Raw, only: [eventually: 1, serve: 1, serve: 2]
  import Plug.Conn

  alias Ferrosock.Native
  alias Ferrosock.Test.{Census, HTTP2}

  defmodule Socket, do: use(Ferrosock.Test.Probe)

  @file_path List.to_string(:code.which(:lists))

  setup do: Census.nothing_left()

  test "a response that its client does not take is given up" do
    server =
      serve(
        fn conn ->
          case conn.path_info do
            [] -> send_resp(conn, 200, :binary.copy("x", 100_000))
            ["chunks"] -> conn |> send_chunked(200) |> endless()
            ["file"] -> send_file(conn, 200, @file_path)
          end
        end,
        http_2_options: [send_timeout: 300]
      )

    socket = HTTP2.connect(server, %{initial_window_size: 1_000})

    for {id, path} <- [{1, "/"}, {3, "/chunks"}, {5, "/file"}] do
      HTTP2.request(socket, id, "GET", path)
      assert %{status: 200, body: body, end: {:reset, reason}} = HTTP2.response(socket, id)
      assert byte_size(body) <= 1_000
      assert reason in [:cancel, :internal_error]
    end

    eventually(fn -> Native.stats().exchanges == 0 end)
  end

  defp endless(conn) do
    case chunk(conn, :binary.copy("x", 100_000)) do
      {:ok, conn} -> endless(conn)
      {:error, :closed} -> conn
    end
  end

  test "a process that fails leaves its connection to the others" do
    server =
      serve(fn conn ->
        case conn.path_info do
          ["raise"] -> raise "oops"
          ["kill"] -> Process.exit(self(), :kill)
          ["half"] -> conn |> send_chunked(200) |> half()
          [] -> send_resp(conn, 200, "fine")
        end
      end)

    socket = HTTP2.connect(server)

    log =
      capture_log(fn ->
        HTTP2.request(socket, 1, "GET", "/raise")
        assert %{status: 500, end: :fin} = HTTP2.response(socket, 1)
        HTTP2.request(socket, 3, "GET", "/kill")
        assert %{status: 500, end: :fin} = HTTP2.response(socket, 3)
        HTTP2.request(socket, 5, "GET", "/half")
        assert %{status: 200, end: {:reset, :internal_error}} = HTTP2.response(socket, 5)
      end)

    assert log =~ "oops"
    HTTP2.request(socket, 7, "GET", "/")
    assert %{status: 200, body: "fine"} = HTTP2.response(socket, 7)
    eventually(fn -> Native.stats().exchanges == 0 end)
  end

  defp half(conn) do
    {:ok, _conn} = chunk(conn, "half")
    raise "half"
  end

  test "the end of a connection is that of all its WebSockets" do
    socket = HTTP2.connect(Socket.serve!())
    pids = for id <- [1, 3, 5], do: HTTP2.websocket(socket, id)
    :gen_tcp.close(socket)
    for pid <- pids, do: assert(down(pid) == {:shutdown, :closed})
    eventually(fn -> match?(%{sockets: 0, connections: 0, exchanges: 0}, Native.stats()) end)
  end
end
