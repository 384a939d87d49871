defmodule Ferrosock.Server.DrainLossTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn, only: [send_resp: 3]

  alias Ferrosock.Test.{HTTP2, Logs}

  @websockets 230
  @keep_alive 150
  @http2 50
  @connecting 20
  @slow 50

  # The first request of each client that is no WebSocket.
  @first ~r"^/slow/\d+$|^/(kept|h2|new)/\d+/1$"

  # A machine may be busy: what is lost is the point, and not how long it takes.
  @deadline 60_000
  @patience 90_000

  defmodule Echo do
    @behaviour WebSock

    @impl true
    def init(state), do: {:ok, state}

    # Counted before it is pushed.
    @impl true
    def handle_in({data, opcode: opcode}, {echoed, name, test} = state) do
      if :ets.update_counter(echoed, name, 1, {name, 0}) == 1, do: send(test, {:busy, self()})
      {:push, {opcode, data}, state}
    end

    @impl true
    def handle_info(_message, state), do: {:ok, state}
  end

  @tag timeout: 180_000
  test "nothing that 500 busy clients were served is lost" do
    handled = :ets.new(:handled, [:public, write_concurrency: true])
    echoed = :ets.new(:echoed, [:public, write_concurrency: true])

    Logs.attach()
    test = self()

    server =
      serve(fn conn ->
        if conn.request_path =~ @first, do: send(test, {:busy, self()})
        handle(conn, handled, {echoed, conn.request_path, test})
      end)

    port = port(server)
    websockets = clients(@websockets, "ws", &websocket_client(port, &1))
    keep_alive = clients(@keep_alive, "kept", &keep_alive_client(port, &1))
    http2 = clients(@http2, "h2", &http2_client(port, &1))
    connecting = clients(@connecting, "new", &connecting_client(port, &1))
    slow = clients(@slow, "slow", &slow_client(port, &1))
    processes = for _ <- 1..500, do: busy()
    draining = Task.async(fn -> Ferrosock.drain(server, code: 1012, deadline: @deadline) end)
    eventually(fn -> refused?(port) end)
    # Of all of them, those of slow requests heed it.
    for pid <- processes, do: Process.send_after(pid, :go, :rand.uniform(500))
    assert Task.await(draining, @patience) == :ok

    for {task, name} <- websockets do
      {echoes, close} = Task.await(task, @patience)
      assert close == {:close, 1012, ""}
      assert [{^name, ^echoes}] = :ets.lookup(echoed, name)
    end

    answered =
      for {task, _name} <- keep_alive ++ http2 ++ connecting ++ slow,
          path <- Task.await(task, @patience),
          do: path

    assert Enum.sort(answered) ==
             handled |> :ets.tab2list() |> Enum.map(&elem(&1, 0)) |> Enum.sort()

    assert length(answered) + @websockets == Ferrosock.info(server).requests
    assert for({:log, :error, text, _meta} <- Logs.taken(server), do: text) == []
  end

  defp handle(%{request_path: "/ws/" <> _} = conn, _handled, state),
    do: Ferrosock.upgrade(conn, Echo, state)

  defp handle(%{request_path: path} = conn, handled, _state) do
    # Fails for a path that comes twice.
    true = :ets.insert_new(handled, {path})
    if path =~ "slow", do: receive(do: (:go -> :ok))
    send_resp(conn, 200, body(path))
  end

  defp busy do
    assert_receive {:busy, pid}, @patience
    pid
  end

  # Of some length, so that a part of it would be noticed.
  defp body(path), do: String.duplicate(path, 500)

  defp clients(count, kind, run) do
    for n <- 1..count do
      name = "/#{kind}/#{n}"
      {Task.async(fn -> run.(name) end), name}
    end
  end

  # The number of echoes, and the close frame.
  defp websocket_client(port, name) do
    socket = websocket(port, name)
    result = echoes(socket, 0)
    send_frame(socket, :close, <<1012::16>>)
    assert closed?(socket)
    result
  end

  # Three messages are under way at a time.
  defp echoes(socket, n) do
    for i <- 1..3, do: send_frame(socket, :text, "#{n + i}")

    case receive_echoes(socket, n, 3) do
      {:ok, n} ->
        pause(n)
        echoes(socket, n)

      {:closed, n, close} ->
        {n, close}
    end
  end

  defp receive_echoes(_socket, n, 0), do: {:ok, n}

  defp receive_echoes(socket, n, left) do
    expected = "#{n + 1}"

    case recv_frame(socket) do
      {:text, ^expected} -> receive_echoes(socket, n + 1, left - 1)
      {:close, _code, _reason} = close -> {:closed, n, close}
    end
  end

  # The paths whose response came whole. The last one says that it is, or is followed by the end of
  # the connection, which a client has to expect between two requests (RFC9112§9.3.1).
  defp keep_alive_client(port, name), do: keep_alive(connect(port), name, 1, [])

  defp keep_alive(socket, name, n, answered) do
    path = "#{name}/#{n}"

    case get(socket, path) do
      {:ok, ["close"]} ->
        assert closed?(socket)
        [path | answered]

      {:ok, []} ->
        pause(n)
        keep_alive(socket, name, n + 1, [path | answered])

      :closed ->
        answered
    end
  end

  # Three requests are under way at a time, until the server asks for no more. What it has not begun to
  # handle then gets no answer (RFC9113§6.8).
  defp http2_client(port, name), do: port |> HTTP2.connect() |> http2(name, 1, [])

  defp http2(socket, name, n, answered) do
    paths = for i <- n..(n + 2), do: {2 * i - 1, "#{name}/#{i}"}
    for {id, path} <- paths, do: HTTP2.request(socket, id, "GET", path)

    answered =
      Enum.reduce(paths, answered, fn {id, path}, answered ->
        case HTTP2.response(socket, id) do
          %{status: 200, end: :fin, body: body} ->
            assert body == body(path)
            [path | answered]

          %{status: nil, end: :closed} ->
            answered
        end
      end)

    if HTTP2.goaway?(socket) do
      assert HTTP2.closed(socket) == :no_error
      answered
    else
      pause(n)
      http2(socket, name, n + 3, answered)
    end
  end

  # A connection for each request, until one is refused.
  defp connecting_client(port, name), do: connecting(port, name, 1, [])

  defp connecting(port, name, n, answered) do
    path = "#{name}/#{n}"

    with {:ok, socket} <-
           :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false], @patience),
         {:ok, _close} <- get(socket, path) do
      :gen_tcp.close(socket)
      pause(n)
      connecting(port, name, n + 1, [path | answered])
    else
      _refused -> answered
    end
  end

  defp slow_client(port, path) do
    socket = connect(port)
    assert {:ok, ["close"]} = get(socket, path)
    assert closed?(socket)
    [path]
  end

  # The response's `connection` header.
  defp get(socket, path) do
    with :ok <- :gen_tcp.send(socket, head("GET", path)),
         {:ok, response} <- whole_response(socket) do
      assert response.body == body(path)
      {:ok, header(response, "connection")}
    else
      _closed -> :closed
    end
  end

  # Clients that leave the machine some time.
  defp pause(n), do: Process.sleep(10 + rem(n, 20))

  defp whole_response(socket) do
    {:ok, response(socket)}
  rescue
    MatchError -> :closed
  end
end
