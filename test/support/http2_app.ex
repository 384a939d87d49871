defmodule Ferrosock.Test.HTTP2App do
  @moduledoc """
  What `test/clients/http2_cases.py` and `h2_websocket.py` ask for. Numbers are in the query:

    * `/echo` - the body
    * `/digest` - SHA-256 of the body, in hex, however long it is
    * `/request` - what the conn holds, a line each: `method GET`, `authority localhost:80`,
      `path /request`, then `header NAME: VALUE`
    * `/large?bytes=N` - N bytes: 0, 1, ..., 250, 0, ...
    * `/chunks?bytes=N` - the same, in chunks of 1000 and without a `content-length`
    * `/file` - a file: this module's source
    * `/hint` - 103 before the 200
    * `/empty` - 204
    * `/early` - 200 for a request whose body is not read
    * `/hold?ms=N` - 200 after N ms
    * `/socket` - a WebSocket, in the subprotocol `echo` for those who offer it: `compress`,
      `max_frame_size` are its options. The Plug's option `upgrade` may name another module whose `upgrade/4`
      makes it
    * `/held?group=NAME` - how many processes are in the group: those of requests with the same `group`
      in their query that are still served

  Everything else is a 404.
  """

  @behaviour Plug

  import Plug.Conn

  alias Plug.Conn.Utils

  defmodule Socket do
    @moduledoc """
    An echo, but for the texts `close CODE REASON`, to which it closes, and `push COUNT BYTES`: so many
    binary messages.
    """

    @behaviour WebSock

    @impl true
    def init(state), do: {:ok, state}

    @impl true
    def handle_in({"close " <> close, opcode: :text}, state) do
      [code, reason] = String.split(close, " ", parts: 2)
      {:stop, :normal, {String.to_integer(code), reason}, state}
    end

    def handle_in({"push " <> push, opcode: :text}, state) do
      [count, bytes] = push |> String.split(" ") |> Enum.map(&String.to_integer/1)
      {:push, List.duplicate({:binary, :binary.copy("x", bytes)}, count), state}
    end

    def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

    @impl true
    def handle_info(_message, state), do: {:ok, state}
  end

  @pattern :binary.list_to_bin(Enum.to_list(0..250))

  @impl true
  def init(options), do: options

  @impl true
  def call(conn, options) do
    conn = conn |> fetch_query_params() |> assign(:upgrade, options[:upgrade] || Ferrosock)
    join(conn.query_params)
    route(conn.path_info, conn, conn.query_params)
  end

  # `:pg` notices the end of a process, however it comes.
  defp join(%{"group" => group}) do
    :pg.start(__MODULE__)
    :ok = :pg.join(__MODULE__, group, self())
  end

  defp join(_query), do: :ok

  defp route([], conn, _query), do: send_resp(conn, 200, "hello")

  defp route(["echo"], conn, _query) do
    case read_body(conn, length: 100_000_000) do
      {:ok, body, conn} -> send_resp(conn, 200, body)
      {:error, _reason} -> send_resp(conn, 400, "")
    end
  end

  defp route(["digest"], conn, _query), do: digest(conn, :crypto.hash_init(:sha256))

  defp route(["request"], conn, _query) do
    lines = [
      "method #{conn.method}",
      "authority #{conn.host}:#{conn.port}",
      "path #{conn.request_path}"
      | for({name, value} <- conn.req_headers, do: "header #{name}: #{value}")
    ]

    send_resp(conn, 200, Enum.join(lines, "\n"))
  end

  defp route(["large"], conn, query), do: send_resp(conn, 200, pattern(query))

  defp route(["chunks"], conn, query) do
    conn = send_chunked(conn, 200)
    query |> pattern() |> chunks(conn)
  end

  defp route(["file"], conn, _query), do: send_file(conn, 200, __ENV__.file)

  defp route(["hint"], conn, _query) do
    conn |> inform(103, [{"link", "</style.css>; rel=preload"}]) |> send_resp(200, "hinted")
  end

  defp route(["empty"], conn, _query), do: send_resp(conn, 204, "")
  defp route(["early"], conn, _query), do: send_resp(conn, 200, "early")

  defp route(["hold"], conn, %{"ms" => ms}) do
    ms |> String.to_integer() |> Process.sleep()
    send_resp(conn, 200, "held")
  end

  defp route(["held"], conn, %{"group" => group}) do
    # Whoever asks is no member of interest.
    :pg.leave(__MODULE__, group, self())
    members = :pg.get_local_members(__MODULE__, group)
    send_resp(conn, 200, Integer.to_string(length(members)))
  end

  defp route(["socket"], conn, query) do
    conn |> choose_protocol() |> conn.assigns.upgrade.upgrade(Socket, nil, socket_options(query))
  end

  defp route(_path, conn, _query), do: send_resp(conn, 404, "not here")

  defp choose_protocol(conn) do
    offered = conn |> get_req_header("sec-websocket-protocol") |> Enum.flat_map(&Utils.list/1)
    if "echo" in offered, do: put_resp_header(conn, "sec-websocket-protocol", "echo"), else: conn
  end

  defp socket_options(query) do
    [compress: query["compress"] == "true"] ++
      for {"max_frame_size", bytes} <- query, do: {:max_frame_size, String.to_integer(bytes)}
  end

  defp digest(conn, hash) do
    case read_body(conn) do
      {:more, data, conn} ->
        digest(conn, :crypto.hash_update(hash, data))

      {:ok, data, conn} ->
        digest = hash |> :crypto.hash_update(data) |> :crypto.hash_final()
        send_resp(conn, 200, Base.encode16(digest, case: :lower))

      {:error, _reason} ->
        send_resp(conn, 400, "")
    end
  end

  defp pattern(%{"bytes" => bytes}) do
    bytes = String.to_integer(bytes)
    @pattern |> :binary.copy(div(bytes, 251) + 1) |> binary_part(0, bytes)
  end

  # The client may be gone before the end.
  defp chunks(<<data::binary-size(1000), rest::binary>>, conn) do
    with {:ok, conn} <- chunk(conn, data), do: chunks(rest, conn), else: (_error -> conn)
  end

  defp chunks(rest, conn) do
    chunk(conn, rest)
    conn
  end
end
