# Beside the chat example, in its VM: the app of the benchmarks on Ferrosock, for what the example has
# no route for or where both servers are to run the same Plug. In examples/chat:
# `PORT=4001 BENCH_PORT=4002 TLS_PORT=4003 CERTFILE=… KEYFILE=… WITNESS_PORT=4004 \
# mix run ../../bench/ferrosock.exs`

Code.require_file("witness.exs", __DIR__)
Code.require_file("app.exs", __DIR__)

port = fn name -> name |> System.fetch_env!() |> String.to_integer() end
router = {Bench.Router, upgrade: &WebSock.upgrade/4}
options = [plug: router, ip: {127, 0, 0, 1}]
plain = options ++ [id: :plain, port: port.("BENCH_PORT")]

tls =
  options ++
    [
      id: :tls,
      scheme: :https,
      port: port.("TLS_PORT"),
      certfile: System.fetch_env!("CERTFILE"),
      keyfile: System.fetch_env!("KEYFILE")
    ]

Bench.Storm.start()
Bench.Witness.start(port.("WITNESS_PORT"))
children = [{Ferrosock, plain}, {Ferrosock, tls}]
{:ok, _pid} = Supervisor.start_link(children, strategy: :one_for_one)

Process.sleep(:infinity)
