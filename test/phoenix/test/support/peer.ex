defmodule Sample.Peer do
  @moduledoc false
  # The app in another VM, which is controlled by its standard input and output. It logs nothing.

  @doc "Starts it. Returns the peer, and the port of its endpoint."
  def start!(arguments \\ []) do
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])

    options = %{
      connection: :standard_io,
      args: paths ++ Enum.map(arguments, &to_charlist/1),
      wait_boot: 60_000
    }

    child = %{id: make_ref(), start: {__MODULE__, :start_link, [options]}, restart: :temporary}
    peer = ExUnit.Callbacks.start_supervised!(child)
    {:ok, _started} = call(peer, :application, :ensure_all_started, [:logger])
    call(peer, Logger, :configure, [[level: :none]])

    for app <- [:phoenix, :sample],
        do: call(peer, Application, :put_all_env, [[{app, Application.get_all_env(app)}]])

    {:ok, _started} = call(peer, Application, :ensure_all_started, [:sample])
    {:ok, {_ip, port}} = call(peer, SampleWeb.Endpoint, :server_info, [:http])
    {peer, port}
  end

  @doc false
  # One that is a distributed node returns its name, too.
  def start_link(options) do
    with {:ok, peer, _node} <- :peer.start_link(options), do: {:ok, peer}
  end

  def call(peer, module, function, arguments),
    do: :peer.call(peer, module, function, arguments, 60_000)

  @doc "The same without an answer, for what ends the VM."
  def cast(peer, module, function, arguments),
    do: :peer.cast(peer, module, function, arguments)

  @doc "For a peer: stops its endpoint, and halts."
  def stop_and_halt do
    Supervisor.terminate_child(Sample.Supervisor, SampleWeb.Endpoint)
    System.halt(0)
  end
end
