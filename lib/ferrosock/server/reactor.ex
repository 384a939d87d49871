defmodule Ferrosock.Server.Reactor do
  @moduledoc false
  # Gives a reactor of the engine the schedulers' time: turns it whenever there is something to do.
  # What happens in a turn is the engine's concern. `Ferrosock.Server.Reactors` starts these.
  #
  # A special process (`:proc_lib`, `:sys`) and not a GenServer: it runs once for each time that the
  # kernel has news.

  alias Ferrosock.{Label, Native}

  @spec child_spec(index :: non_neg_integer()) :: Supervisor.child_spec()
  def child_spec(index), do: %{id: index, start: {__MODULE__, :start_link, [index]}}

  @doc "`:ignore` where the engine turns its reactors by itself."
  @spec start_link(index :: non_neg_integer()) :: {:ok, pid()} | :ignore
  def start_link(index) do
    case Native.reactor_get(index) do
      nil -> :ignore
      reactor -> {:ok, :proc_lib.spawn_link(__MODULE__, :init, [self(), reactor, index])}
    end
  end

  @doc false
  def init(parent, reactor, index) do
    Process.flag(:trap_exit, true)
    # Whatever the module is called: observers know the process by this.
    Label.set({Ferrosock.Reactor, index})
    loop(parent, reactor, [])
  end

  # Called by the name of the module, so that it goes on in new code where that was loaded. One that still
  # waits in code which is purged is killed, and started again.
  @doc false
  def loop(parent, reactor, debug) do
    patience =
      case Native.reactor_turn(reactor) do
        :idle ->
          :infinity

        :more ->
          0

        # Whoever is to run goes first.
        :soon ->
          :erlang.yield()
          0
      end

    receive do
      {:EXIT, ^parent, reason} ->
        exit(reason)

      {:system, from, request} ->
        :sys.handle_system_msg(request, from, parent, __MODULE__, debug, reactor)

      # Mostly that there is news.
      message ->
        __MODULE__.loop(parent, reactor, traced(debug, message))
    after
      patience -> __MODULE__.loop(parent, reactor, debug)
    end
  end

  defp traced([], _message), do: []

  defp traced(debug, message),
    do: :sys.handle_debug(debug, &Ferrosock.Trace.format_event/3, self(), {:in, message})

  @doc false
  def system_continue(parent, debug, reactor), do: __MODULE__.loop(parent, reactor, debug)

  @doc false
  def system_terminate(reason, _parent, _debug, _reactor), do: exit(reason)

  @doc false
  def system_code_change(reactor, _module, _old_version, _extra), do: {:ok, reactor}
end
