defmodule Ferrosock.Server.Reactor do
  @moduledoc false
  # Gives a reactor of the engine the schedulers' time: turns it whenever there is something to do. What happens
  # in a turn is the engine's concern, and who starts these processes that of `Ferrosock.Server.Reactors`.
  #
  # It is a special process (`:proc_lib`, `:sys`) and not a GenServer, because it runs once for each time that
  # the kernel has news.

  alias Ferrosock.{Label, Native, Trace}

  @spec child_spec(index :: non_neg_integer()) :: Supervisor.child_spec()
  def child_spec(index), do: %{id: index, start: {__MODULE__, :start_link, [index]}}

  @doc "The indices of the reactors that processes must turn. There are none before the first server."
  @spec indices() :: [non_neg_integer()]
  def indices do
    # To ask must not load the library.
    if :erlang.module_loaded(Native),
      do: 0 |> Stream.iterate(&(&1 + 1)) |> Enum.take_while(&Native.reactor_get/1),
      else: []
  end

  @doc "Starts turning a reactor. `:ignore` if the engine turns its reactors by itself."
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
    Label.turns(index)
    loop(parent, reactor, [])
  end

  # It is always called as a remote function, so that it goes on in new code after a load. A process that still
  # waits in old code when that is purged is killed, and started again.
  @doc false
  def loop(parent, reactor, debug) do
    patience =
      case Native.reactor_turn(reactor) do
        :idle ->
          :infinity

        :more ->
          0

        # Other processes that are ready to run go first.
        :soon ->
          :erlang.yield()
          0
      end

    receive do
      {:EXIT, ^parent, reason} ->
        exit(reason)

      {:system, from, request} ->
        :sys.handle_system_msg(request, from, parent, __MODULE__, debug, reactor)

      # Usually the message that the kernel has news.
      message ->
        __MODULE__.loop(parent, reactor, traced(debug, message))
    after
      patience -> __MODULE__.loop(parent, reactor, debug)
    end
  end

  @doc false
  def system_continue(parent, debug, reactor), do: __MODULE__.loop(parent, reactor, debug)

  @doc false
  def system_terminate(reason, _parent, _debug, _reactor), do: exit(reason)

  @doc false
  def system_code_change(reactor, _module, _old_version, _extra), do: {:ok, reactor}

  # Nothing is done for messages that nobody traces.
  defp traced([], _message), do: []
  defp traced(debug, message), do: Trace.event(debug, self(), {:in, message})
end
