defmodule Ferrosock.Server.Reactors do
  @moduledoc false
  # The application, and the supervisor of the processes that turn the engine's reactors. All servers of a node
  # share these, so they live as long as the application, and servers end with it. What a reactor does in a
  # turn is the engine's concern.

  use Application

  alias Ferrosock.Native
  alias Ferrosock.Server.{Caretaker, Reactor}

  # A reactor whose process was killed loses nothing, so this may happen as often as it likes.
  @max_restarts 1_000

  @not_started "the application :ferrosock, whose processes run the engine of all servers, is not started; " <>
                 "see Application.ensure_all_started/1"

  @doc "Starts the engine, unless it runs: the first call decides about the number of reactors."
  @spec ensure_started!(:default | pos_integer()) :: :ok
  def ensure_started!(count) do
    if Process.whereis(__MODULE__) == nil, do: raise(@not_started)
    running = Native.reactors_start(if count == :default, do: 0, else: count)

    if count not in [:default, running] do
      raise ArgumentError,
            "option :reactors is #{count}, but the engine of this node runs with #{running}, " <>
              "as its first server asked; give all servers the same number"
    end

    start_all()
  end

  @doc "Monitors them all, for a process that needs them. Raises if they are not started."
  @spec monitor!() :: reference()
  def monitor! do
    case Process.whereis(__MODULE__) do
      nil -> raise @not_started
      supervisor -> Process.monitor(supervisor)
    end
  end

  @impl true
  def start(_type, _arguments) do
    load_code()
    options = [strategy: :one_for_one, max_restarts: @max_restarts, name: __MODULE__]

    with {:ok, supervisor} <- Supervisor.start_link([], options) do
      # If the application ran before, the engine still has its reactors, and perhaps connections.
      start_all()
      {:ok, supervisor}
    end
  end

  # This is also called when the supervisor was killed.
  @impl true
  def stop(_state), do: Caretaker.start(__MODULE__)

  # Outside of a release the VM reads a module's file at the first call. That is too late when the node has no
  # descriptor left: the process that has to say so would fail, and its server with it. The library with the
  # engine is loaded by the first server.
  defp load_code do
    modules = Application.spec(:ferrosock, :modules) -- [Native]

    Enum.each([:erl_posix_msg | modules], &Code.ensure_loaded/1)
  end

  defp start_all do
    for index <- Reactor.indices(),
        do: Supervisor.start_child(__MODULE__, Reactor.child_spec(index))

    :ok
  end
end
