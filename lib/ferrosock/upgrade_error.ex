defmodule Ferrosock.UpgradeError do
  @moduledoc """
  Raised by `Ferrosock.upgrade/4` when the request is not a valid WebSocket handshake
  (RFC6455§4.2.1). Left alone, it is answered with its `plug_status`: 426 for a version of the
  protocol other than 13, else 400.
  """

  defexception [:message, plug_status: 400]

  @type t :: %__MODULE__{message: String.t(), plug_status: 400 | 426}

  @doc false
  # A refusal of the version says which versions are understood (RFC6455§4.4), and a 426 names the protocol
  # (RFC9110§15.5.22).
  @spec response(t()) :: {Plug.Conn.headers(), body :: String.t()}
  def response(error) do
    headers = [{"content-type", "text/plain; charset=utf-8"}]
    {headers ++ version_headers(error.plug_status), "This is #{error.message}.\n"}
  end

  defp version_headers(426) do
    [{"connection", "upgrade"}, {"upgrade", "websocket"}, {"sec-websocket-version", "13"}]
  end

  defp version_headers(_status), do: []
end
