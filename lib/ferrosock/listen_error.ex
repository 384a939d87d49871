defmodule Ferrosock.ListenError do
  @moduledoc "Why a server did not start: its address could not be listened on."

  defexception [:address, :reason]

  @type t :: %__MODULE__{address: Ferrosock.Address.t(), reason: atom()}

  @impl true
  def message(%__MODULE__{address: address, reason: reason}) do
    "cannot listen on #{Ferrosock.Address.format(address)}: " <>
      "#{:inet.format_error(reason)} (#{inspect(reason)})"
  end
end
