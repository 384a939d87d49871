defmodule Ferrosock.Trace do
  @moduledoc false
  # How our special processes, which are no GenServers, answer `:sys.trace/2` and `:sys.log/2`.

  @type event :: {:in, message :: term()} | {:out, message :: term(), to :: term()}

  @doc "Tells the debug functions of `:sys` about an event. Returns the debug options to go on with."
  @spec event([:sys.dbg_opt()], name :: term(), event()) :: [:sys.dbg_opt()]
  def event(debug, name, event),
    do: :sys.handle_debug(debug, &__MODULE__.format_event/3, name, event)

  @doc false
  @spec format_event(IO.device(), event(), name :: term()) :: :ok
  def format_event(device, {:in, message}, name),
    do: IO.puts(device, "*DBG* #{inspect(name)} got #{inspect(message)}")

  def format_event(device, {:out, message, _to}, name),
    do: IO.puts(device, "*DBG* #{inspect(name)} sent #{inspect(message)}")
end
