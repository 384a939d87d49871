defmodule Ferrosock.HTTP.Status do
  @moduledoc false
  # The status of a response with its reason phrase. The phrases are Plug's, because an app may have configured
  # some of its own (`config :plug, :statuses`). What a status means is not the concern of this module.

  alias Ferrosock.Native

  @doc "The status as the engine takes it. HTTP/2 has no phrases."
  @spec line(atom(), Plug.Conn.int_status()) :: Native.status()
  def line(:"HTTP/2", status), do: status

  def line(_version, status) do
    case phrase(status) do
      "OK" when status == 200 -> 200
      phrase -> {status, phrase}
    end
  end

  # The phrase may be empty (RFC9112§4).
  defp phrase(status) do
    Plug.Conn.Status.reason_phrase(status)
  rescue
    _unknown in [ArgumentError, FunctionClauseError] -> ""
  end
end
