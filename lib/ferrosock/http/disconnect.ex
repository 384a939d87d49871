defmodule Ferrosock.HTTP.Disconnect do
  @moduledoc false
  # Whether the client of a conn is still there. The engine knows, and tells; what a Plug then does is its own
  # concern.

  alias Ferrosock.HTTP.Exchange
  alias Ferrosock.Native
  alias Ferrosock.WebSocket.Recorder

  @doc "See `Ferrosock.notify_disconnect/1`."
  @spec notify(Plug.Conn.t()) :: reference()
  def notify(conn) do
    case Recorder.real(conn).adapter do
      {_adapter, %Exchange{handle: handle}} -> Native.exchange_notify_disconnect(handle)
      {Plug.Adapters.Test.Conn, %{ref: ref}} -> ref
      {adapter, _payload} -> refuse(adapter)
    end
  end

  @doc "See `Ferrosock.disconnected?/1`."
  @spec disconnected?(Plug.Conn.t()) :: boolean()
  def disconnected?(conn) do
    case Recorder.real(conn).adapter do
      {_adapter, %Exchange{handle: handle}} -> Native.exchange_is_disconnected(handle)
      {Plug.Adapters.Test.Conn, _state} -> false
      {adapter, _payload} -> refuse(adapter)
    end
  end

  @spec refuse(module()) :: no_return()
  defp refuse(adapter) do
    raise ArgumentError,
          "cannot tell when a client of #{inspect(adapter)} leaves: the conn must be one of Ferrosock's"
  end
end
