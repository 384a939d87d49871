defmodule Ferrosock.Trace do
  @moduledoc false
  # What `:sys.trace/2` prints of our special processes.

  @spec format_event(IO.device(), :sys.system_event(), term()) :: :ok
  def format_event(device, {:in, message}, name),
    do: IO.puts(device, "*DBG* #{inspect(name)} got #{inspect(message)}")

  def format_event(device, {:out, message, _to}, name),
    do: IO.puts(device, "*DBG* #{inspect(name)} sent #{inspect(message)}")
end
