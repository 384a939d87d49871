defmodule Ferrosock.Draining do
  @moduledoc false
  # What the processes of a server must know of its drain: whether the server stays closed, and the code that
  # WebSockets are closed with. Besides the engine, which knows what it still accepts, this is the only
  # place that says so. How a server is drained is the concern of `Ferrosock.Server.Drain`.
  #
  # The state is shared memory and not a message: a connection that becomes a WebSocket in the middle of a
  # drain looks here, and a process that was started again finds what its predecessor knew.

  @code 1
  @stage 2

  # A stop drains, too, but in this stage: a server whose processes its supervisor starts again is open. Only
  # `Ferrosock.drain/2` moves on to the other stages.
  @open 0
  @draining 1
  @drained 2

  @opaque t :: :atomics.atomics_ref()

  @doc "The state of a server that is open."
  @spec new() :: t()
  def new, do: :atomics.new(2, [])

  @doc "Opens the server, unless `stay_closed/1` was called."
  @spec open(t()) :: :ok | :closed
  def open(draining) do
    if stage(draining) == @open, do: :atomics.put(draining, @code, 0), else: :closed
  end

  @doc "Keeps the server closed, also when its processes are started again."
  @spec stay_closed(t()) :: :ok
  def stay_closed(draining), do: :atomics.put(draining, @stage, @draining)

  @doc "Says that the drain has ended."
  @spec drained(t()) :: :ok
  def drained(draining), do: :atomics.put(draining, @stage, @drained)

  @doc "Whether the drain has ended."
  @spec drained?(t()) :: boolean()
  def drained?(draining), do: stage(draining) == @drained

  @doc "Has connections that become WebSockets from now on close with the code."
  @spec close_with(t(), code :: 1000..4999) :: :ok
  def close_with(draining, code), do: :atomics.put(draining, @code, code)

  @doc "The code that a new WebSocket must close with, `nil` if it may stay open."
  @spec close_code(t()) :: 1000..4999 | nil
  def close_code(draining) do
    case :atomics.get(draining, @code) do
      0 -> nil
      code -> code
    end
  end

  defp stage(draining), do: :atomics.get(draining, @stage)
end
