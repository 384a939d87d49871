defmodule Ferrosock.Log do
  @moduledoc false
  # Every line that a server logs. What peers can cause at will is one line each, and only so many lines a
  # second: the engine limits what it reports, and this module limits `websocket_error/4` and `body_error/4`.

  require Logger

  alias Ferrosock.{Address, Options}

  @lines_per_second 10

  # Characters of a Plug's failure in a line whose subject is the client.
  @banner_length 200

  @typedoc "A second, and how many lines were logged in it"
  @type limiter :: :atomics.atomics_ref()

  @type failure :: {Exception.kind(), reason :: term(), Exception.stacktrace()}

  @spec limiter() :: limiter()
  def limiter, do: :atomics.new(2, signed: true)

  @doc "Whether one more line may be logged now. A race may let a few more through, which does no harm."
  @spec allow?(limiter(), integer()) :: boolean()
  def allow?(limiter, second \\ System.monotonic_time(:second)) do
    if :atomics.exchange(limiter, 1, second) != second, do: :atomics.put(limiter, 2, 0)
    :atomics.add_get(limiter, 2, 1) <= @lines_per_second
  end

  @spec startup(Options.t(), Address.t()) :: :ok
  def startup(%{startup_log: false}, _address), do: :ok

  def startup(options, address) do
    version = Application.spec(:ferrosock, :vsn)
    url = "#{options.scheme}://#{Address.format(address)}"

    Logger.log(
      options.startup_log,
      "Running #{plug(options)} with Ferrosock #{version} at #{url}"
    )
  end

  @spec accept_error(atom()) :: :ok
  def accept_error(reason) do
    text = "Ferrosock cannot accept connections: #{:inet.format_error(reason)} (#{reason})"
    Logger.error(text, domain: [:ferrosock])
  end

  @doc "The node has as many processes as it may have, so a connection got none."
  @spec process_limit() :: :ok
  def process_limit do
    text =
      "Ferrosock refuses requests with 503: the node has #{:erlang.system_info(:process_limit)} " <>
        "processes, as many as it may have (see +P of erl)"

    Logger.error(text, domain: [:ferrosock])
  end

  @spec certificate_error(Exception.t()) :: :ok
  def certificate_error(error) do
    text = "Ferrosock goes on with the certificates that it has: #{Exception.message(error)}"
    Logger.error(text, domain: [:ferrosock])
  end

  @spec http_error(Address.t(), term()) :: :ok
  def http_error(peer, :slow_client) do
    Logger.warning(
      "Ferrosock closed the connection of #{Address.format(peer)}: slow client, which takes nothing of what " <>
        "waits for it",
      domain: [:ferrosock]
    )
  end

  def http_error(peer, reason) do
    text = "Ferrosock refused what #{Address.format(peer)} sent: #{phrase(reason)}"
    Logger.warning(text, domain: [:ferrosock])
  end

  @doc "A Plug failed because the body of its request cannot be read, which is the client's fault."
  @spec body_error(limiter(), Address.t(), {Plug.Conn.int_status(), String.t()}, String.t()) ::
          :ok
  def body_error(limiter, peer, {status, fault}, banner) do
    if allow?(limiter) do
      what = banner |> String.split() |> Enum.join(" ") |> String.slice(0, @banner_length)

      Logger.warning(
        "Ferrosock answered what #{Address.format(peer)} sent with #{status}: #{fault}; " <>
          "its Plug failed with #{what}",
        domain: [:ferrosock]
      )
    end

    :ok
  end

  @spec websocket_error(limiter(), Address.t(), module(), {atom(), 1000..4999}) :: :ok
  def websocket_error(limiter, peer, websock, {reason, code}) do
    if allow?(limiter) do
      Logger.warning(
        "Ferrosock closed the WebSocket of #{Address.format(peer)} (#{inspect(websock)}) " <>
          "with #{code}: #{phrase(reason)}",
        domain: [:ferrosock]
      )
    end

    :ok
  end

  @spec no_way_for_web_sock_adapter() :: :ok
  def no_way_for_web_sock_adapter do
    Logger.warning(
      "WebSockAdapter.upgrade/4 does not work with Ferrosock in this version of websock_adapter, which is to be " <>
        "0.5.7 or later: use that, or call Ferrosock.upgrade/4",
      domain: [:ferrosock]
    )
  end

  @doc "Options that WebSockAdapter has handed over and that there are not here. Each is told once for each handler."
  @spec dropped_options(module(), [String.t()]) :: :ok
  def dropped_options(websock, names) do
    new = Enum.reject(names, &told?({__MODULE__, websock, &1}))

    if new != [] do
      text = "Ferrosock ignores options of WebSockAdapter.upgrade/4 to #{inspect(websock)}"
      Logger.debug("#{text}: #{Enum.join(new, ", ")}", domain: [:ferrosock])
    end

    :ok
  end

  # Handlers and names are written in the app's code, so there are few.
  defp told?(key), do: :persistent_term.get(key, false) || :persistent_term.put(key, true) != :ok

  @doc """
  The process of a WebSocket ends abnormally. It is logged here, as a GenServer logs its own end: the report
  of `:proc_lib` is a SASL report, which Elixir's Logger leaves out by default.
  """
  @spec websocket_crash(module(), failure()) :: :ok
  def websocket_crash(websock, {kind, reason, stacktrace} = failure) do
    text = Exception.format(kind, reason, stacktrace)
    log_failure("WebSocket #{inspect(websock)} terminating\n#{text}", failure, websock: websock)
  end

  @doc "A request failed with a status that says that the server is at fault."
  @spec request_error(failure(), keyword()) :: :ok
  def request_error({kind, reason, stacktrace} = failure, metadata) do
    log_failure(Exception.format(kind, reason, stacktrace), failure, metadata)
  end

  @doc "A failure as one term, as exit reasons and the metadata `crash_reason` have it."
  @spec crash_reason(Exception.kind(), term(), Exception.stacktrace()) ::
          {term(), Exception.stacktrace()}
  def crash_reason(:throw, value, stacktrace), do: {{:nocatch, value}, stacktrace}

  def crash_reason(:error, reason, stacktrace),
    do: {Exception.normalize(:error, reason, stacktrace), stacktrace}

  def crash_reason(:exit, reason, stacktrace), do: {reason, stacktrace}

  @doc "A reason in words."
  @spec phrase(term()) :: String.t()
  def phrase(reason) when is_atom(reason), do: reason |> to_string() |> String.replace("_", " ")
  def phrase(reason) when is_binary(reason), do: reason
  def phrase(reason), do: inspect(reason)

  defp log_failure(text, {kind, reason, stacktrace}, metadata) do
    crash_reason = crash_reason(kind, reason, stacktrace)
    Logger.error(text, [crash_reason: crash_reason, domain: [:ferrosock]] ++ metadata)
  end

  defp plug(%{display_plug: nil, plug: {module, _options}}), do: inspect(module)
  defp plug(%{display_plug: nil, plug: plug}), do: inspect(plug)
  defp plug(%{display_plug: text}) when is_binary(text), do: text
  defp plug(%{display_plug: term}), do: inspect(term)
end
