defmodule Ferrosock.Label do
  @moduledoc false
  # What observers call a process, where the VM has labels: from Elixir 1.17 and OTP 27 on.

  if Code.ensure_loaded?(Process) and function_exported?(Process, :set_label, 1) do
    @spec set(term()) :: :ok
    def set(label), do: Process.set_label(label)
  else
    @spec set(term()) :: :ok
    def set(_label), do: :ok
  end
end
