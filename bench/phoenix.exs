# The Phoenix app of the benchmarks, the same on both servers. In bench/phoenix:
# `ADAPTER=Ferrosock.PhoenixAdapter PORT=4001 WITNESS_PORT=4002 mix run ../phoenix.exs`, or with
# `ADAPTER=Phoenix.Endpoint.Cowboy2Adapter`. `WITHOUT=flat_serializer` and `WITHOUT=cache` switch off what
# broadcasts gain by.

Code.require_file("witness.exs", __DIR__)

# Whatever a member joins with, it can have broadcast, with the number of the broadcast in it.
defmodule Bench.Room do
  use Phoenix.Channel

  @impl true
  def join("room:lobby", params, socket),
    do: {:ok, assign(socket, say: params["say"], number: 1)}

  @impl true
  def handle_in("shout", _params, %{assigns: %{say: say, number: number}} = socket) do
    socket.endpoint.broadcast!(socket.topic, "said", Map.put(say, "number", number))
    {:noreply, assign(socket, :number, number + 1)}
  end
end

defmodule Bench.UserSocket do
  use Phoenix.Socket

  channel "room:*", Bench.Room

  @impl true
  def connect(_params, socket, _info), do: {:ok, socket}

  @impl true
  def id(_socket), do: nil
end

defmodule Bench.Endpoint do
  use Phoenix.Endpoint, otp_app: :bench_phoenix

  # Members send no heartbeats.
  socket "/plain", Bench.UserSocket, websocket: [timeout: :infinity]
  socket "/compressed", Bench.UserSocket, websocket: [timeout: :infinity, compress: true]
end

port = fn name -> name |> System.fetch_env!() |> String.to_integer() end
adapter = Module.concat([System.fetch_env!("ADAPTER")])

http = [ip: {127, 0, 0, 1}, port: port.("PORT")]

{flat, cache} =
  case System.get_env("WITHOUT", "") do
    "" -> {[], []}
    "flat_serializer" -> {[flat_serializer: false], []}
    "cache" -> {[], [cache: false]}
  end

# Of equal work: plug_cowboy compresses at level 9, and Phoenix has no way to tell it another one.
ours = [websocket_options: flat ++ [deflate_options: [level: 9] ++ cache]]

Application.put_env(:bench_phoenix, Bench.Endpoint,
  adapter: adapter,
  http: if(adapter == Ferrosock.PhoenixAdapter, do: http ++ ours, else: http),
  pubsub_server: Bench.PubSub,
  server: true
)

Logger.configure(level: :warning)
Bench.Witness.start(port.("WITNESS_PORT"))
children = [{Phoenix.PubSub, name: Bench.PubSub}, Bench.Endpoint]
{:ok, _pid} = Supervisor.start_link(children, strategy: :one_for_one)

Process.sleep(:infinity)
