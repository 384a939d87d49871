defmodule Ferrosock.HTTP.Status do
  @moduledoc false
  # The status of a response, with what HTTP/1 says of it in words: as Plug has it, which knows those that
  # an app has configured (`config :plug, :statuses`), too.

  alias Ferrosock.Native

  @doc "The status as it goes down. HTTP/2 has no phrases."
  @spec line(atom(), Plug.Conn.int_status()) :: Native.status()
  def line(:"HTTP/2", status), do: status

  def line(_version, status) do
    case phrase(status) do
      "OK" when status == 200 -> 200
      phrase -> {status, phrase}
    end
  end

  # RFC9112§4: it may be empty.
  defp phrase(status) do
    Plug.Conn.Status.reason_phrase(status)
  rescue
    _unknown in [ArgumentError, FunctionClauseError] -> ""
  end
end
