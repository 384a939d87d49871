defmodule Ferrosock.Reactors do
  @moduledoc false
  # The processes that turn the engine's reactors. All servers of a node share them, so they live as
  # long as the application.

  use Application

  alias Ferrosock.{Native, Reactor}

  # A reactor whose process was killed loses nothing, so it may be as often as it likes.
  @max_restarts 1_000

  @impl true
  def start(_type, _arguments) do
    Supervisor.start_link([],
      strategy: :one_for_one,
      max_restarts: @max_restarts,
      name: __MODULE__
    )
  end

  @doc "Starts the engine, unless it runs: the first call decides about the number of reactors."
  @spec ensure_started!(:default | pos_integer()) :: :ok
  def ensure_started!(count) do
    if Process.whereis(__MODULE__) == nil do
      raise "the application :ferrosock is not started; see Application.ensure_all_started/1"
    end

    running = Native.reactors_start(if count == :default, do: 0, else: count)

    if count not in [:default, running] do
      raise ArgumentError,
            "option :reactors is #{count}, but the engine of this node runs with #{running}, " <>
              "as its first server asked; give all servers the same number"
    end

    for index <- 0..(running - 1),
        do: Supervisor.start_child(__MODULE__, Reactor.child_spec(index))

    :ok
  end
end
