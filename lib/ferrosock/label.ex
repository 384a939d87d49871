defmodule Ferrosock.Label do
  @moduledoc false
  # What observers call our processes, where the VM has labels: from Elixir 1.17 and OTP 27 on. The names are
  # the ones that people search for, and do not follow the names of our modules.

  # Atoms and not aliases, because this file depends on neither module.
  @server :"Elixir.Ferrosock"
  @reactor :"Elixir.Ferrosock.Reactor"

  @doc "The caller serves `app`: a Plug, a `WebSock` or a `Sock`."
  @spec serves(app :: term()) :: :ok
  def serves(app), do: set({@server, app})

  @doc "The caller turns the reactor with the index."
  @spec turns(index :: non_neg_integer()) :: :ok
  def turns(index), do: set({@reactor, index})

  if Code.ensure_loaded?(Process) and function_exported?(Process, :set_label, 1) do
    defp set(label), do: Process.set_label(label)
  else
    defp set(_label), do: :ok
  end
end
