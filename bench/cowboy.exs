# The app of the benchmarks on plug_cowboy:
# `PORT=4001 WITNESS_PORT=4002 elixir -pa '.toolchain/deps/*/ebin' bench/cowboy.exs`

{:ok, _apps} = Application.ensure_all_started([:plug_cowboy, :websock_adapter])
Code.require_file("witness.exs", __DIR__)
Code.require_file("app.exs", __DIR__)

defmodule Bench.Cowboy do
  def upgrade(conn, handler, state, options) do
    case Keyword.pop(options, :deflate_options) do
      {nil, options} -> WebSockAdapter.upgrade(conn, handler, state, options)
      {deflate, options} -> deflated(conn, handler, state, options, deflate)
    end
  end

  # What WebSockAdapter.upgrade/4 does, but that it leaves the options of compression out.
  defp deflated(conn, handler, state, [timeout: timeout, compress: true], deflate) do
    options = %{idle_timeout: timeout, compress: true, deflate_opts: Map.new(deflate)}
    adapted = {WebSockAdapter.CowboyAdapter, {handler, %{}, state}, options}
    Plug.Conn.upgrade_adapter(conn, :websocket, adapted)
  end
end

port = fn name -> name |> System.fetch_env!() |> String.to_integer() end
router = {Bench.Router, upgrade: &Bench.Cowboy.upgrade/4}
# It would close a connection after a thousand requests.
http_options = [max_keepalive: 1_000_000_000]

options = [
  scheme: :http,
  plug: router,
  ip: {127, 0, 0, 1},
  port: port.("PORT"),
  protocol_options: http_options
]

Bench.Storm.start()
Bench.Witness.start(port.("WITNESS_PORT"))
{:ok, _pid} = Supervisor.start_link([{Plug.Cowboy, options}], strategy: :one_for_one)

Process.sleep(:infinity)
