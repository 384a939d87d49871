defmodule Ferrosock.Server.Caretaker do
  @moduledoc false
  # Turns the reactors when the application has stopped or was killed, until nothing is left to do: servers end
  # when they notice, and their clients must hear of it. It is in no supervision tree, because none is left
  # that it could be in. While the application runs, the reactors are the concern of
  # `Ferrosock.Server.Reactors`.

  alias Ferrosock.Native
  alias Ferrosock.Server.Reactor

  # Milliseconds from one look at what is left to the next.
  @look 20

  @doc "Starts it, unless it runs or is not needed. It ends when a process is registered as `reactors`."
  @spec start(reactors :: module()) :: :ok
  def start(reactors) do
    if Reactor.indices() != [] and Native.stats().tasks > 0 do
      pid = spawn(__MODULE__, :init, [reactors])
      # The application's end kills whoever still has its group leader.
      Process.group_leader(pid, Process.whereis(:init))
      send(pid, :go)
    end

    :ok
  end

  @doc false
  def init(reactors) do
    receive do: (:go -> :ok)
    Process.flag(:trap_exit, true)

    # Each server starts one, and the first of them registers.
    if registered?() do
      __MODULE__.loop(reactors, Map.new(Reactor.indices(), &start_reactor/1))
    end
  end

  @doc false
  def loop(reactors, turning) do
    receive do
      {:EXIT, pid, _reason} when is_map_key(turning, pid) ->
        {index, turning} = Map.pop!(turning, pid)
        {pid, index} = start_reactor(index)
        __MODULE__.loop(reactors, Map.put(turning, pid, index))
    after
      @look ->
        # The reactors of an application that was started again take over.
        needed? = Process.whereis(reactors) == nil and Native.stats().tasks > 0
        if needed?, do: __MODULE__.loop(reactors, turning), else: exit(:shutdown)
    end
  end

  defp registered? do
    Process.register(self(), __MODULE__)
  rescue
    ArgumentError -> false
  end

  defp start_reactor(index) do
    {:ok, pid} = Reactor.start_link(index)
    {pid, index}
  end
end
