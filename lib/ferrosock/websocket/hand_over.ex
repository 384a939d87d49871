defmodule Ferrosock.WebSocket.HandOver do
  @moduledoc false
  # What `WebSockAdapter.upgrade/4` hands over, made ours. Its options are meant for any server, and some for none:
  # Phoenix passes the whole configuration of a socket. What another server calls otherwise is translated, and what
  # is unknown here is dropped, which is logged once for each handler. Values are checked as strictly as in our
  # own `upgrade/4`. How what is handed over gets here is not the concern of this module.

  alias Ferrosock.{Log, Options}
  alias Ferrosock.Options.{Table, Type}
  alias Ferrosock.WebSocket.{FlatSerializer, Upgrade}

  @type t :: {websock :: module(), state :: term(), options :: keyword()}

  @known Keyword.keys(Table.all().upgrade)
  @known_deflate Keyword.keys(Table.all().deflate)

  @unusable "WebSockAdapter has to be there when the server starts, and to be 0.5.7 or later"

  @doc "The upgrade that was handed over, within the limits of the server with these options."
  @spec upgrade!(t(), Options.t()) :: Upgrade.t()
  def upgrade!(handed_over, server_options) do
    {websock, state, options} = ours(handed_over, server_options)
    settings = Options.upgrade!(options, server_options.websocket_options)
    Upgrade.new!(:websocket, websock, state, settings)
  rescue
    # The call that gave the options may have returned.
    error in ArgumentError ->
      message = "WebSockAdapter.upgrade/4 to #{inspect(elem(handed_over, 0))}: #{error.message}"
      reraise ArgumentError, [message: message], __STACKTRACE__
  end

  @doc """
  What has failed a request, seen past WebSockAdapter: if that was asked to upgrade a request which is no handshake,
  the client is at fault, and is told why. WebSockAdapter itself asks first which adapter it is.
  """
  @spec failure(reason :: term(), Exception.stacktrace(), Plug.Conn.t()) :: term()
  def failure(%ArgumentError{message: "Unknown adapter " <> _} = error, stacktrace, conn) do
    if match?([{WebSockAdapter, _, _, _} | _], stacktrace),
      do: Upgrade.problem(conn) || %{error | message: "#{error.message}: #{@unusable}"},
      else: error
  end

  def failure(%{__struct__: WebSockAdapter.UpgradeError} = error, _stacktrace, conn),
    do: Upgrade.problem(conn) || error

  def failure(reason, _stacktrace, _conn), do: reason

  # Whatever is to be changed of what is handed over is changed here.
  defp ours({websock, state, options}, server_options) do
    flat? = server_options.websocket_options.flat_serializer
    state = if flat?, do: FlatSerializer.flatten(state), else: state
    {websock, state, options(websock, options)}
  end

  # What is wrong altogether is said when the options are checked.
  defp options(websock, options),
    do: if(Keyword.keyword?(options), do: known(websock, options), else: options)

  defp known(websock, options) do
    # Of a name that is there twice the first counts, as for other servers.
    {known, unknown} =
      options
      |> Enum.uniq_by(fn {name, _value} -> name end)
      |> Enum.map(&translated/1)
      |> Keyword.split(@known)

    {deflate, unknown_deflate} = deflate(known[:deflate_options])
    dropped = names(unknown, "") ++ names(unknown_deflate, " in :deflate_options")
    Log.dropped_options(websock, dropped)
    Keyword.replace(known, :deflate_options, deflate)
  end

  defp names(options, where), do: for({name, _value} <- options, do: inspect(name) <> where)

  # Bandit's word for no limit
  defp translated({:max_frame_size, 0}), do: {:max_frame_size, :infinity}
  # Cowboy's name
  defp translated({:deflate_opts, options}), do: {:deflate_options, options}
  defp translated(option), do: option

  defp deflate(options) when is_map(options), do: options |> Map.to_list() |> deflate()

  defp deflate(options) do
    if Keyword.keyword?(options),
      do: options |> Enum.map(&translated_deflate/1) |> Keyword.split(@known_deflate),
      else: {options, []}
  end

  # Cowboy's names
  defp translated_deflate({:server_max_window_bits, bits}),
    do: translated_deflate({:window_bits, bits})

  defp translated_deflate({:client_max_window_bits, bits}),
    do: translated_deflate({:client_window_bits, bits})

  defp translated_deflate({name, :takeover}), do: {name, true}
  defp translated_deflate({name, :no_takeover}), do: {name, false}

  # What zlib takes for 9
  defp translated_deflate({name, 8}) when name in [:window_bits, :client_window_bits],
    do: {name, 9}

  # zlib's names of levels; the first two mean that nothing is compressed
  defp translated_deflate({:level, level}) when level in [0, :none],
    do: {:threshold, Type.max(:non_neg_integer)}

  defp translated_deflate({:level, :best_speed}), do: {:level, 1}
  defp translated_deflate({:level, :default}), do: {:level, 6}
  defp translated_deflate({:level, :best_compression}), do: {:level, 9}
  defp translated_deflate(option), do: option
end
