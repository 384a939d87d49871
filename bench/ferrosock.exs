# Beside the chat example, in its VM: the app of the benchmarks on Ferrosock, for what the example has
# no route for or where both servers are to run the same Plug. In examples/chat:
# `PORT=4001 BENCH_PORT=4002 TLS_PORT=4003 CERTFILE=… KEYFILE=… RSA_PORT=4004 RSA_CERTFILE=… \
# RSA_KEYFILE=… WITNESS_PORT=4005 mix run ../../bench/ferrosock.exs`

Code.require_file("witness.exs", __DIR__)
Code.require_file("app.exs", __DIR__)

# Turns the reactors in place of their processes, and tells the longest turn. What it costs to look at
# the clock would count in other cases.
defmodule Bench.Turns do
  alias Ferrosock.Native
  alias Ferrosock.Server.Reactors

  # Gives what ends it.
  def watch do
    reactors =
      for {index, pid, :worker, _modules} <- Supervisor.which_children(Reactors), do: {index, pid}

    for {_index, pid} <- reactors, do: :ok = :sys.suspend(pid)

    watchers =
      for {index, _pid} <- reactors, do: spawn_link(fn -> turn(Native.reactor_get(index), 0) end)

    fn ->
      longest = for watcher <- watchers, do: stop(watcher)
      for {_index, pid} <- reactors, do: :ok = :sys.resume(pid)
      %{turn_max_us: Enum.max(longest) / 1_000}
    end
  end

  # As Ferrosock.Server.Reactor does.
  defp turn(reactor, longest) do
    {turned, time} = Native.reactor_turn_timed(reactor)
    if turned == :soon, do: :erlang.yield()
    longest = max(time, longest)

    receive do
      {:stop, from} -> send(from, {self(), longest})
      _news -> turn(reactor, longest)
    after
      if(turned == :idle, do: :infinity, else: 0) -> turn(reactor, longest)
    end
  end

  defp stop(watcher) do
    send(watcher, {:stop, self()})
    receive do: ({^watcher, longest} -> longest)
  end
end

port = fn name -> name |> System.fetch_env!() |> String.to_integer() end
router = {Bench.Router, upgrade: &WebSock.upgrade/4}
options = [plug: router, ip: {127, 0, 0, 1}]
plain = options ++ [id: :plain, port: port.("BENCH_PORT")]

tls =
  for {id, prefix} <- [tls: "", rsa: "RSA_"] do
    certificate = [
      id: id,
      scheme: :https,
      port: port.(if(id == :tls, do: "TLS_PORT", else: "RSA_PORT")),
      certfile: System.fetch_env!(prefix <> "CERTFILE"),
      keyfile: System.fetch_env!(prefix <> "KEYFILE")
    ]

    {Ferrosock, options ++ certificate}
  end

Bench.Storm.start()
Bench.Witness.start(port.("WITNESS_PORT"), &Bench.Turns.watch/0)
children = [{Ferrosock, plain} | tls]
{:ok, _pid} = Supervisor.start_link(children, strategy: :one_for_one)

Process.sleep(:infinity)
