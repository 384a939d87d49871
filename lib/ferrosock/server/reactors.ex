defmodule Ferrosock.Server.Reactors do
  @moduledoc false
  # The processes that turn the engine's reactors. All servers of a node share them, so they live as
  # long as the application, and servers end with it.

  use Application

  alias Ferrosock.Native
  alias Ferrosock.Server.{Caretaker, Reactor}

  # A reactor whose process was killed loses nothing, so it may be as often as it likes.
  @max_restarts 1_000

  @not_started "the application :ferrosock, whose processes run the engine of all servers, is not started; " <>
                 "see Application.ensure_all_started/1"

  @impl true
  def start(_type, _arguments) do
    load_code()
    options = [strategy: :one_for_one, max_restarts: @max_restarts, name: __MODULE__]

    with {:ok, supervisor} <- Supervisor.start_link([], options) do
      # Those of an engine that has run before: something may be left of it.
      start_all()
      {:ok, supervisor}
    end
  end

  # Outside of a release the VM reads a module's file when it is first called: too late where the node has no
  # descriptor left, as whoever is to say so would fail, and its server with it. The engine has its time.
  defp load_code do
    modules = Application.spec(:ferrosock, :modules) -- [Native]

    Enum.each([:erl_posix_msg | modules], &Code.ensure_loaded/1)
  end

  # Also where the supervisor was killed.
  @impl true
  def stop(_state), do: Caretaker.start()

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

  @doc "Monitors them all, for whoever cannot be without them. Raises where they are not started."
  @spec monitor!() :: reference()
  def monitor! do
    case Process.whereis(__MODULE__) do
      nil -> raise @not_started
      supervisor -> Process.monitor(supervisor)
    end
  end

  @doc "Of the reactors that are for processes to turn. None before there was a server."
  @spec indices() :: [non_neg_integer()]
  def indices do
    # The library is not loaded for this.
    if :erlang.module_loaded(Native),
      do: 0 |> Stream.iterate(&(&1 + 1)) |> Enum.take_while(&Native.reactor_get/1),
      else: []
  end

  defp start_all do
    for index <- indices(), do: Supervisor.start_child(__MODULE__, Reactor.child_spec(index))
    :ok
  end
end
