defmodule Ferrosock.PhoenixAdapter.Front do
  @moduledoc false
  # Stands before an endpoint, for requests to the paths of its sockets that are no handshakes: they are recorded
  # as those are, so that WebSockAdapter says what is wrong with them, and Phoenix answers 400. It would refuse our
  # own adapter, which Phoenix takes for a failure of the server. What recording is, is not its concern.

  @behaviour Plug

  alias Ferrosock.WebSocket.{Recorder, Upgrade}

  @type path :: [segment :: String.t()]

  @doc "The paths of an endpoint's sockets, as they are declared."
  @spec paths(endpoint :: module()) :: [path()]
  def paths(endpoint) do
    Code.ensure_loaded!(endpoint)

    # It is no documented function of Phoenix, and all that is lost without it is the right answer.
    if function_exported?(endpoint, :__sockets__, 0) do
      for {path, _socket, options} <- endpoint.__sockets__(),
          websocket = Keyword.get(options, :websocket, true),
          do: String.split("#{path}/#{path_of(websocket)}", "/", trim: true)
    else
      []
    end
  end

  @impl true
  def init({plug, options, paths}), do: {plug, plug.init(options), paths}

  @impl true
  def call(
        %{method: "GET", adapter: {_adapter, %{options: %{record?: true}}}} = conn,
        {plug, options, paths}
      ) do
    if of_socket?(paths, conn.path_info) and not Upgrade.handshake?(conn),
      do: Recorder.run(conn, &plug.call(&1, options)),
      else: plug.call(conn, options)
  end

  def call(conn, {plug, options, _paths}), do: plug.call(conn, options)

  defp path_of(options) when is_list(options), do: Keyword.get(options, :path, "/websocket")
  defp path_of(_true), do: "/websocket"

  defp of_socket?([], _path), do: false
  defp of_socket?([one | rest], path), do: match_path?(one, path) or of_socket?(rest, path)

  defp match_path?([], []), do: true
  defp match_path?(["*" <> _name], _rest), do: true
  defp match_path?([":" <> _name | path], [_segment | rest]), do: match_path?(path, rest)
  defp match_path?([segment | path], [segment | rest]), do: match_path?(path, rest)
  defp match_path?(_path, _rest), do: false
end
