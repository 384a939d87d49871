# What both servers on the BEAM run, each with its own function to upgrade: `upgrade: &…/4`.

defmodule Bench.Echo do
  @behaviour WebSock

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

  @impl true
  def handle_info(_message, state), do: {:ok, state}
end

# Whatever a client sends, its handler sends to all handlers, and each pushes it.
defmodule Bench.Storm do
  @behaviour WebSock
  @handlers __MODULE__

  # The table belongs to the caller.
  def start, do: :ets.new(@handlers, [:named_table, :public])

  @impl true
  def init(state) do
    :ets.insert(@handlers, {self()})
    {:ok, state}
  end

  @impl true
  def handle_in({data, opcode: opcode}, state) do
    for {pid} <- :ets.tab2list(@handlers), do: send(pid, {:push, {opcode, data}})
    {:ok, state}
  end

  @impl true
  def handle_info({:push, message}, state), do: {:push, message, state}

  @impl true
  def terminate(_reason, _state), do: :ets.delete(@handlers, self())
end

# Pushes a message of as many bytes as a client's message says.
defmodule Bench.Push do
  @behaviour WebSock

  # The largest one, made before anybody's time is measured. Byte for byte it would take seconds.
  @impl true
  def init(_state), do: {:ok, :binary.copy(<<0::8_000_000>>, 300)}

  @impl true
  def handle_in({size, opcode: :text}, payload),
    do: {:push, {:binary, binary_part(payload, 0, String.to_integer(size))}, payload}

  @impl true
  def handle_info(_message, payload), do: {:ok, payload}
end

defmodule Bench.Router do
  use Plug.Router, copy_opts_to_assign: :bench

  # Of equal work: both servers have their own defaults.
  @deflate [level: 1, mem_level: 8]

  plug :match
  plug :dispatch

  # With plug_cowboy, a WebSocket over HTTP/2 has the method CONNECT.
  match "/echo", via: [:get, :connect] do
    conn.assigns.bench[:upgrade].(conn, Bench.Echo, [], timeout: :infinity)
  end

  get "/compressed" do
    options = [timeout: :infinity, compress: true, deflate_options: @deflate]
    conn.assigns.bench[:upgrade].(conn, Bench.Echo, [], options)
  end

  get "/storm" do
    conn.assigns.bench[:upgrade].(conn, Bench.Storm, [], timeout: :infinity)
  end

  get "/push" do
    conn.assigns.bench[:upgrade].(conn, Bench.Push, [], timeout: :infinity)
  end

  get "/health" do
    conn |> put_resp_content_type("text/plain") |> send_resp(200, "ok")
  end
end
