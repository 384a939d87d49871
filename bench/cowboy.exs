# The app of the benchmarks on plug_cowboy:
# `PORT=4001 TLS_PORT=4002 CERTFILE=… KEYFILE=… RSA_PORT=4003 RSA_CERTFILE=… RSA_KEYFILE=… \
# WITNESS_PORT=4004 elixir -pa '.toolchain/deps/*/ebin' bench/cowboy.exs`

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

# It would close a connection after a thousand requests, and one of HTTP/2 that sends a thousand frames
# a second. WebSockets over HTTP/2 are off by default.
http_options = [
  max_keepalive: 1_000_000_000,
  max_received_frame_rate: {1_000_000_000, 10_000},
  enable_connect_protocol: true
]

options = [plug: router, ip: {127, 0, 0, 1}, protocol_options: http_options]
plain = options ++ [scheme: :http, port: port.("PORT")]

tls =
  for {id, prefix} <- [tls: "", rsa: "RSA_"] do
    certificate = [
      ref: id,
      scheme: :https,
      port: port.(if(id == :tls, do: "TLS_PORT", else: "RSA_PORT")),
      certfile: System.fetch_env!(prefix <> "CERTFILE"),
      keyfile: System.fetch_env!(prefix <> "KEYFILE")
    ]

    Supervisor.child_spec({Plug.Cowboy, options ++ certificate}, id: id)
  end

Bench.Storm.start()
Bench.Witness.start(port.("WITNESS_PORT"))
children = [{Plug.Cowboy, plain} | tls]
{:ok, _pid} = Supervisor.start_link(children, strategy: :one_for_one)

Process.sleep(:infinity)
