defmodule Ferrosock.HTTP.Disconnect do
  @moduledoc false
  # Whether the client of a conn is still there. The engine knows, and tells; what a Plug then does is its own
  # concern.

  alias Ferrosock.HTTP.Exchange
  alias Ferrosock.Native

  @doc "See `Ferrosock.notify_disconnect/1`."
  @spec notify(Plug.Conn.t()) :: reference()
  def notify(%{adapter: {_adapter, %Exchange{handle: handle}}}),
    do: Native.exchange_notify_disconnect(handle)

  def notify(%{adapter: {Plug.Adapters.Test.Conn, %{ref: ref}}}), do: ref
  def notify(conn), do: refuse(conn)

  @doc "See `Ferrosock.disconnected?/1`."
  @spec disconnected?(Plug.Conn.t()) :: boolean()
  def disconnected?(%{adapter: {_adapter, %Exchange{handle: handle}}}),
    do: Native.exchange_is_disconnected(handle)

  def disconnected?(%{adapter: {Plug.Adapters.Test.Conn, _state}}), do: false
  def disconnected?(conn), do: refuse(conn)

  @spec refuse(Plug.Conn.t()) :: no_return()
  defp refuse(%{adapter: {adapter, _payload}}) do
    raise ArgumentError,
          "cannot tell when a client of #{inspect(adapter)} leaves: the conn must be one of Ferrosock's"
  end
end
