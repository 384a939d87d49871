# What the attacking client attacks, in examples/chat: `mix run --no-start
# ../../test/conformance/attack/server.exs CERTFILE KEYFILE`. It prints a line of JSON that says where it is,
# and answers each connection to its desk with one that says how it is.

defmodule Attacked.Echo do
  @behaviour WebSock

  @impl true
  def init(state), do: {:ok, state}

  # Pushes so many messages of so many bytes.
  @impl true
  def handle_in({"push " <> what, opcode: :text}, state) do
    [count, size] = what |> String.split() |> Enum.map(&String.to_integer/1)
    {:push, List.duplicate({:binary, :binary.copy("p", size)}, count), state}
  end

  def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

  @impl true
  def handle_info(_message, state), do: {:ok, state}
end

defmodule Attacked.Error do
  defexception [:path]

  @impl true
  def message(error), do: "#{error.path} was asked for by a client"
end

defmodule Attacked.Router do
  use Plug.Router

  @mebibyte 1_048_576
  @page :binary.copy("0123456789abcdef", 4 * 4_096)
  @file_path Path.join(System.tmp_dir!(), "ferrosock-attacked-#{System.pid()}")

  # What is served from it is the same as "/page".
  def write_file, do: File.write!(@file_path, @page)
  def remove_file, do: File.rm!(@file_path)

  plug Plug.Head
  plug :match
  plug :dispatch

  get("/hello", do: send_resp(conn, 200, "hello " <> conn.query_string))
  get("/page", do: send_resp(conn, 200, @page))
  get("/file", do: send_file(conn, 200, @file_path))

  get "/slow" do
    Process.sleep(200)
    send_resp(conn, 200, "slow " <> conn.query_string)
  end

  get "/chunks" do
    conn = send_chunked(conn, 200)

    Enum.reduce_while(1..64, conn, fn n, conn ->
      case chunk(conn, :binary.copy(<<n>>, 4_096)) do
        {:ok, conn} -> {:cont, conn}
        {:error, _reason} -> {:halt, conn}
      end
    end)
  end

  # Ends with its client, and else after as many events as the query has characters.
  get "/events" do
    conn = conn |> put_resp_content_type("text/event-stream") |> send_chunked(200)
    count = String.length(conn.query_string)

    Enum.reduce_while(1..count//1, conn, fn n, conn ->
      Process.sleep(50)

      case chunk(conn, "data: #{n}\n\n") do
        {:ok, conn} -> {:cont, conn}
        {:error, _reason} -> {:halt, conn}
      end
    end)
  end

  post "/echo" do
    case body(conn, [], 0) do
      {:ok, body, conn} -> send_resp(conn, 200, body)
      {:too_large, conn} -> send_resp(conn, 413, "")
      {:error, conn} -> send_resp(conn, 400, "")
    end
  end

  post("/ignore", do: send_resp(conn, 200, "ignored " <> conn.query_string))

  match "/raise" do
    raise Attacked.Error, path: conn.request_path
  end

  get "/socket" do
    Ferrosock.upgrade(conn, Attacked.Echo, nil, compress: true)
  end

  match(_, do: send_resp(conn, 404, ""))

  defp body(conn, read, size) when size <= @mebibyte do
    case read_body(conn, length: 65_536, read_timeout: 2_000) do
      {:ok, data, conn} -> {:ok, [read | data], conn}
      {:more, data, conn} -> body(conn, [read | data], size + byte_size(data))
      {:error, _reason} -> {:error, conn}
    end
  end

  defp body(conn, _read, _size), do: {:too_large, conn}
end

# How late the schedulers are at most, and for how long one of them was kept at most.
defmodule Attacked.Lateness do
  @pause_ms 20
  @long_ms 100

  @late 1
  @kept 2

  def start do
    :persistent_term.put(__MODULE__, :atomics.new(2, []))
    spawn_link(&watch/0)
    spawn_link(&monitor/0)
  end

  def late_seconds, do: most(@late)
  def kept_seconds, do: most(@kept)

  defp most(what), do: :atomics.get(:persistent_term.get(__MODULE__), what) / 1_000

  # Each is written by one process alone.
  defp seen(what, ms) do
    most = :persistent_term.get(__MODULE__)
    :atomics.put(most, what, max(:atomics.get(most, what), ms))
  end

  defp watch do
    start = System.monotonic_time(:millisecond)
    Process.sleep(@pause_ms)
    seen(@late, System.monotonic_time(:millisecond) - start - @pause_ms)
    watch()
  end

  defp monitor do
    :erlang.system_monitor(self(), long_schedule: @long_ms)
    count()
  end

  defp count do
    receive do: ({:monitor, _who, :long_schedule, [{:timeout, ms} | _where]} -> seen(@kept, ms))
    count()
  end
end

# Counts what is logged, and keeps what nobody asked for. All of it goes to standard error: nobody reads the
# standard output all the time.
defmodule Attacked.Logs do
  @kept 20

  def start do
    {:ok, %{module: module} = default} = :logger.get_handler_config(:default)
    :ok = :logger.remove_handler(:default)
    :ok = :logger.add_handler(:default, module, %{default | config: %{type: :standard_error}})
    :ets.new(__MODULE__, [:named_table, :public])
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{level: :warning})
  end

  def log(%{level: level, msg: msg, meta: meta}, _config) do
    text = text(msg)

    asked_for? =
      inspect({text, meta[:crash_reason]}, printable_limit: :infinity) =~ "asked for by a client"

    unless asked_for? do
      second = System.convert_time_unit(meta.time, :microsecond, :second)
      :ets.update_counter(__MODULE__, {:second, second}, 1, {{:second, second}, 0})

      if level != :warning and :ets.update_counter(__MODULE__, :errors, 1, {:errors, 0}) <= @kept,
        do: :ets.insert(__MODULE__, {{:error, make_ref()}, String.slice(text, 0, 1_000)})
    end
  end

  def figures do
    %{
      errors: for([text] <- :ets.match(__MODULE__, {{:error, :_}, :"$1"}), do: text),
      most_lines_per_second:
        __MODULE__
        |> :ets.match({{:second, :_}, :"$1"})
        |> List.flatten()
        |> Enum.max(fn -> 0 end)
    }
  end

  defp text({:string, text}), do: to_string(text)
  defp text({:report, report}), do: inspect(report)
  defp text({format, arguments}), do: format |> :io_lib.format(arguments) |> to_string()
end

defmodule Attacked.Desk do
  def start do
    options = [:binary, ip: {127, 0, 0, 1}, active: false, reuseaddr: true]
    {:ok, listener} = :gen_tcp.listen(0, options)
    spawn_link(fn -> serve(listener) end)
    {:ok, port} = :inet.port(listener)
    port
  end

  defp serve(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)
    # What nobody refers to any more is not what is asked about.
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :gen_tcp.send(socket, [:json.encode(figures()), ?\n])
    :gen_tcp.close(socket)
    serve(listener)
  end

  defp figures do
    Map.merge(Attacked.Logs.figures(), %{
      processes: length(Process.list()),
      ports: length(Port.list()),
      stats: Ferrosock.Native.stats(),
      beam_bytes: :erlang.memory(:total),
      late_seconds: Attacked.Lateness.late_seconds(),
      kept_seconds: Attacked.Lateness.kept_seconds(),
      mailboxes:
        Enum.sum(
          for pid <- Process.list(), {_, n} <- [Process.info(pid, :message_queue_len)], do: n
        )
    })
  end
end

[certfile, keyfile] = System.argv()
{:ok, _apps} = Application.ensure_all_started([:logger, :ferrosock])
Attacked.Logs.start()
Attacked.Lateness.start()
Attacked.Router.write_file()

options = [
  plug: Attacked.Router,
  ip: {127, 0, 0, 1},
  port: 0,
  max_connections: 3_000,
  handshake_timeout: 3_000,
  shutdown_timeout: 3_000,
  http_1_options: [header_timeout: 3_000, idle_timeout: 5_000, send_timeout: 4_000],
  http_2_options: [max_concurrent_streams: 64, idle_timeout: 5_000, send_timeout: 4_000],
  websocket_options:
    [timeout: 5_000, send_timeout: 4_000, close_timeout: 1_000] ++
      [max_frame_size: 1_000_000, max_fragments: 10_000]
]

servers =
  for {id, more} <- [plain: [], tls: [scheme: :https, certfile: certfile, keyfile: keyfile]],
      do: {Ferrosock, [id: id] ++ options ++ more}

{:ok, supervisor} = Supervisor.start_link(servers, strategy: :one_for_one)

ports =
  for {id, pid, _type, _modules} <- Supervisor.which_children(supervisor), into: %{} do
    {_ip, port} = Ferrosock.info(pid).address
    {id, port}
  end

started = Map.merge(ports, %{desk: Attacked.Desk.start(), pid: String.to_integer(System.pid())})
IO.puts(["attacked ", :json.encode(started)])

# Until whoever started it closes standard input.
IO.read(:stdio, :line)
Supervisor.stop(supervisor)
Attacked.Router.remove_file()
