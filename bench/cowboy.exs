# The same echo behind a Plug as Ferrosock's example, on plug_cowboy:
# `PORT=4001 elixir -pa '.toolchain/deps/*/ebin' bench/cowboy.exs`

defmodule Bench.Echo do
  @behaviour WebSock

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

  @impl true
  def handle_info(_message, state), do: {:ok, state}
end

defmodule Bench.Router do
  use Plug.Router

  plug :match
  plug :dispatch

  get "/echo" do
    WebSockAdapter.upgrade(conn, Bench.Echo, [], timeout: :infinity)
  end

  get "/compressed" do
    WebSockAdapter.upgrade(conn, Bench.Echo, [], timeout: :infinity, compress: true)
  end

  get "/health" do
    conn |> put_resp_content_type("text/plain") |> send_resp(200, "ok")
  end
end

{:ok, _apps} = Application.ensure_all_started([:plug_cowboy, :websock_adapter])
port = "PORT" |> System.fetch_env!() |> String.to_integer()
cowboy = {Plug.Cowboy, scheme: :http, plug: Bench.Router, ip: {127, 0, 0, 1}, port: port}
{:ok, _pid} = Supervisor.start_link([cowboy], strategy: :one_for_one)

Process.sleep(:infinity)
