defmodule Ferrosock.Backpressure do
  @moduledoc false
  # The wait for a client that is slower than its sender. What becomes of a client that is too slow is the
  # sender's concern.

  @doc """
  Waits until there is room to send, at most `timeout` ms. `ask` is `Ferrosock.Native.socket_await/2` or
  `exchange_await/2` of a handle. After a timeout the answer may still come, as `{ref, answer}`.
  """
  @spec await(ask :: (reference() -> :ok | :wait), timeout()) ::
          :ok | :closed | {:timeout, reference()}
  def await(ask, timeout) do
    # The reference is made here so that the VM's receive skips the messages that came before it, however
    # many there are.
    ref = make_ref()

    case ask.(ref) do
      :ok ->
        :ok

      :wait ->
        receive do
          {^ref, :drained} -> :ok
          {^ref, :closed} -> :closed
        after
          timeout -> {:timeout, ref}
        end
    end
  end
end
