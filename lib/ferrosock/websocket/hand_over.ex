defmodule Ferrosock.WebSocket.HandOver do
  @moduledoc false
  # What `WebSockAdapter.upgrade/4` hands over, made ours. Its options are those of all servers, and of the app:
  # Phoenix passes the whole configuration of a socket. What a server calls otherwise is translated, and what
  # nobody here knows is dropped, which is logged once for each handler. Values are checked all the same.

  alias Ferrosock.{Log, Options}
  alias Ferrosock.Options.Table
  alias Ferrosock.WebSocket.{FlatSerializer, Upgrade}

  @type t :: {websock :: module(), state :: term(), options :: keyword()}

  @known Keyword.keys(Table.all().upgrade)
  @known_deflate Keyword.keys(Table.all().deflate)

  @late ": the server was started when WebSockAdapter was not yet there, and has to be started again"

  @doc "The upgrade that was handed over, within the limits of the server with these options."
  @spec upgrade!(t(), Options.t()) :: Upgrade.t()
  def upgrade!(handed_over, server_options) do
    {websock, state, options} = ours(handed_over, server_options)
    settings = Options.upgrade!(options, server_options.websocket_options)
    Upgrade.new!(:websocket, websock, state, settings)
  end

  @doc """
  The failure of a request, seen past `WebSockAdapter.upgrade/4`: where the request is no handshake, what is wrong
  with it. WebSockAdapter says so itself only where it knows our adapter or its work is recorded.
  """
  @spec failure(term(), Exception.stacktrace(), Plug.Conn.t()) :: term()
  def failure(%{__struct__: WebSockAdapter.UpgradeError} = error, _stacktrace, conn),
    do: Upgrade.problem(conn) || error

  def failure(
        %ArgumentError{message: "Unknown adapter " <> _name} = error,
        [{WebSockAdapter, _function, _arity, _location} | _callers],
        conn
      ) do
    Upgrade.problem(conn) || %{error | message: error.message <> @late}
  end

  def failure(reason, _stacktrace, _conn), do: reason

  # Whatever is to be changed of what is handed over is changed here.
  defp ours({websock, state, options}, server_options) do
    flat? = server_options.websocket_options.flat_serializer
    state = if flat?, do: FlatSerializer.flatten(state), else: state
    {websock, state, options(websock, options)}
  end

  defp options(websock, options) do
    if not Keyword.keyword?(options) do
      raise ArgumentError,
            "options of WebSockAdapter.upgrade/4 must be a keyword list, got: #{inspect(options)}"
    end

    # Of a key that is there twice, the first counts for WebSockAdapter.
    {known, unknown} =
      options
      |> Enum.uniq_by(fn {name, _value} -> name end)
      |> Enum.flat_map(&translated/1)
      |> Keyword.split(@known)

    {deflate, unknown_deflate} =
      known |> Keyword.get(:deflate_options, []) |> Keyword.split(@known_deflate)

    dropped(websock, Keyword.keys(unknown) ++ Keyword.keys(unknown_deflate))

    if deflate == [],
      do: Keyword.delete(known, :deflate_options),
      else: Keyword.replace!(known, :deflate_options, deflate)
  end

  # Bandit's word for no limit
  defp translated({:max_frame_size, 0}), do: [max_frame_size: :infinity]

  # Cowboy's
  defp translated({:deflate_opts, options}), do: translated({:deflate_options, options})

  defp translated({:deflate_options, options}) when is_map(options),
    do: translated({:deflate_options, Map.to_list(options)})

  defp translated(option), do: [option]

  defp dropped(_websock, []), do: :ok
  defp dropped(websock, names), do: Log.dropped_options(websock, names)
end
