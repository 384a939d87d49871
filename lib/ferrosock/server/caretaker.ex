defmodule Ferrosock.Server.Caretaker do
  @moduledoc false
  # Turns the reactors when the application has stopped, or has been killed, for as long as there is
  # something left: servers that find it gone end then, and their clients must hear of it. Not a part of
  # any supervision tree, because there is none left that it could be in.

  alias Ferrosock.Native
  alias Ferrosock.Server.{Reactor, Reactors}

  # ms from one look at what is left to the next.
  @look 20

  @doc "Starts it, unless it runs or is not needed."
  @spec start() :: :ok
  def start do
    if Reactors.indices() != [] and Native.stats().tasks > 0 do
      pid = spawn(__MODULE__, :init, [])
      # The application's end kills whoever still has its group leader.
      Process.group_leader(pid, Process.whereis(:init))
      send(pid, :go)
    end

    :ok
  end

  @doc false
  def init do
    receive do: (:go -> :ok)
    Process.flag(:trap_exit, true)

    # There may be one already, as each server starts it.
    if Process.whereis(__MODULE__) == nil and registered?() do
      __MODULE__.loop(for index <- Reactors.indices(), into: %{}, do: start(index))
    end
  end

  @doc false
  def loop(reactors) do
    receive do
      {:EXIT, pid, _reason} when is_map_key(reactors, pid) ->
        {index, reactors} = Map.pop!(reactors, pid)
        {pid, index} = start(index)
        __MODULE__.loop(Map.put(reactors, pid, index))
    after
      @look ->
        # The application's own ones take over.
        needed? = Process.whereis(Reactors) == nil and Native.stats().tasks > 0
        if needed?, do: __MODULE__.loop(reactors), else: exit(:shutdown)
    end
  end

  defp registered? do
    Process.register(self(), __MODULE__)
  rescue
    ArgumentError -> false
  end

  defp start(index) do
    {:ok, pid} = Reactor.start_link(index)
    {pid, index}
  end
end
