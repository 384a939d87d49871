defmodule Ferrosock.WebSocket.Sock.Plug do
  @moduledoc false
  # The way of a request to a `Sock`: validation, negotiation, upgrade or refusal. As a Plug it serves all
  # requests of a server with the option `:sock`. What the `Sock` does once it is connected is the concern
  # of `Ferrosock.WebSocket.Sock.Host`.

  @behaviour Plug

  alias Ferrosock.{Options, ResultError, UpgradeError}
  alias Ferrosock.WebSocket.{Recorder, Upgrade}

  @doc "See `Ferrosock.sock/3`."
  @spec sock(Plug.Conn.t(), module(), term()) :: Plug.Conn.t()
  def sock(conn, sock, argument) do
    conn = Recorder.real(conn)
    Upgrade.validate!(conn)
    negotiate(conn, sock, sock.init(argument))
  end

  @impl true
  def init({sock, argument}) do
    # A Sock that refuses all requests needs no more callbacks than these.
    Options.implements!(sock, [init: 1, negotiate: 2], "option :sock needs a Sock")
    {sock, sock.init(argument)}
  end

  @impl true
  def call(conn, {sock, state}) do
    conn = Recorder.real(conn)

    case Upgrade.problem(conn) do
      nil -> negotiate(conn, sock, state)
      error -> reject(conn, error)
    end
  end

  defp reject(conn, error) do
    {headers, body} = UpgradeError.response(error)

    conn
    |> Plug.Conn.merge_resp_headers(headers)
    |> Plug.Conn.send_resp(error.plug_status, body)
  end

  defp negotiate(conn, sock, state) do
    case sock.negotiate(conn, state) do
      {:accept, %Plug.Conn{} = conn, state, options} ->
        Upgrade.upgrade(conn, sock, state, options, :sock)

      {:accept, %Plug.Conn{} = conn, state} ->
        Upgrade.upgrade(conn, sock, state, [], :sock)

      {:refuse, %Plug.Conn{} = conn, _state} ->
        refuse(conn)

      other ->
        explanation = "expected {:accept, conn, state, options} or {:refuse, conn, state}"
        raise ResultError.new(sock, :negotiate, 2, other, explanation)
    end
  end

  defp refuse(%{state: :unset} = conn),
    do: Plug.Conn.resp(conn, conn.status || 400, "The WebSocket was refused.\n")

  defp refuse(conn), do: conn
end
