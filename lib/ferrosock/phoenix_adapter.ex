defmodule Ferrosock.PhoenixAdapter do
  @moduledoc """
  Serves the endpoints of Phoenix 1.7 and later: pages, channels, LiveView and long polling. An app takes it by one
  line, in `config/config.exs`:

      config :my_app, MyAppWeb.Endpoint, adapter: Ferrosock.PhoenixAdapter

  and by `{:ferrosock, ...}` in its dependencies. Nothing else of the app changes: `bandit` or `plug_cowboy` may
  stay in the dependencies, and the configuration that was written for them is understood.

  When the endpoint starts, the log says

      Running MyAppWeb.Endpoint with Ferrosock 0.1.0 at 127.0.0.1:4000 (http)

  ## Options

  `:http` and `:https` of the endpoint each start a server. They take the [options of
  `Ferrosock`](Ferrosock.html#module-options), with these differences:

  | option | default | |
  |---|---|---|
  | `:port` | 4000, and 4040 for `:https` | an integer, a string of one such as `System.get_env("PORT")` returns, or `{:system, name}` for an environment variable; none with a Unix socket |
  | `:inet6` | `false` | also as a bare atom: `[:inet6, port: 4000]` |
  | `:net` | `:inet` | `:inet6` is the same as `inet6: true` |
  | `:shutdown_code` | 1012 | the close code of a server that stops. Phoenix's JavaScript client comes back after any but 1000, and LiveView without loading the page anew |
  | `:otp_app` | the endpoint's | the application whose folder relative paths of files are in |
  | `:display_plug` | the endpoint | what the line at the start names |
  | `:plug`, `:scheme` | | are the adapter's to set |

  Of the endpoint's own options the adapter reads these:

  | option | effect |
  |---|---|
  | `:code_reloader` | a request that comes while the endpoint is being compiled waits for it |
  | `:drainer` | `[shutdown: ms]` is the `:shutdown_timeout` of the servers, unless they have their own. The other options of `Plug.Cowboy.Drainer` mean nothing here, and `false` is ignored: a server that stops is always drained |

  In `config/runtime.exs`, for example:

      import Config

      if config_env() == :prod do
        config :my_app, MyAppWeb.Endpoint,
          server: true,
          url: [host: System.fetch_env!("PHX_HOST"), port: 443, scheme: "https"],
          http: [
            # All addresses of IPv6 and IPv4.
            ip: {0, 0, 0, 0, 0, 0, 0, 0},
            port: System.get_env("PORT", "4000"),
            max_connections: 50_000,
            # ms that a deploy gives to open requests.
            shutdown_timeout: 30_000,
            http_1_options: [idle_timeout: 75_000],
            websocket_options: [ping_interval: 30_000]
          ],
          secret_key_base: System.fetch_env!("SECRET_KEY_BASE")
      end

  HTTPS, whose files are in the app's `priv`, and a Unix socket behind a proxy:

      https: [port: 443, certfile: "priv/cert/fullchain.pem", keyfile: "priv/cert/key.pem"]
      http: [ip: {:local, "/run/my_app.sock"}]

  ### Sockets

  The options of `socket` in the endpoint (`:timeout`, `:compress`, `:max_frame_size`, `:fullsweep_after`, ...) are
  Phoenix's own. They apply within the limits of the server's `:websocket_options`, whose `:max_frame_size` is
  8,000,000 bytes: `max_frame_size: :infinity` at a socket needs it at the server, too.

  ### Options of Bandit and Plug.Cowboy

  What was written for Bandit (`:thousand_island_options`, and what it has in `:http_options`, `:http_1_options`,
  `:http_2_options` and `:websocket_options`) or for Plug.Cowboy (`:transport_options`, `:protocol_options`,
  `:compress`, options of sockets and of TLS beside `:port`) is translated where Ferrosock has the thing, and told
  in one warning where it has not. Where an option of Ferrosock says the same, that counts. [Coming from Bandit or
  Cowboy](coming-from-bandit-or-cowboy.md) has them all. Their numbers mean what they meant there:

    * Limits of connections, which are there for each acceptor, are multiplied by those.
    * The length of one header, of a name or of a value, can only raise that of the whole head.
    * `:infinity`, for a time that must have an end here, is the longest: 49 days.

  `:dispatch` of Plug.Cowboy is refused: handlers of Cowboy cannot be served.

  ## Errors

  The endpoint does not start, and an `ArgumentError` names it, its scheme and the option, when an option is
  unknown or has a wrong value. One names the endpoint and what to do when Phoenix is older than 1.7, or when
  `WebSockAdapter` is missing. When an address cannot be listened on, the error has a `Ferrosock.ListenError`, and one
  line of the log says so:

      Running MyAppWeb.Endpoint with Ferrosock 0.1.0 at 127.0.0.1:4000 (http) failed, port already in use

  ## Stopping and deploys

  When the endpoint stops, as after a SIGTERM, its supervisor ends its children from the last to the first:

   1. Phoenix's drainer of each socket, which tells all channels. Their clients are closed with 1012.
   2. The servers of this adapter, that of HTTPS before that of HTTP. Each [is
      drained](Ferrosock.html#module-stopping-and-deploys): it closes what WebSockets are left, also those without a
      channel, with 1012, finishes requests, and waits for the clients' close frames, all within
      `:shutdown_timeout`. The VM may halt right after that: no client is reset.
   3. The supervisors of the channels.

  A long poll that waits is a request like others: it is answered within its socket's `:window_ms`, 10 s by default.
  For as long the endpoint's stop may take where clients poll, unless `:shutdown_timeout` is less.

  `drain/2` of Ferrosock does step 2 while the node runs on:

      {:ok, server} = Ferrosock.PhoenixAdapter.server(MyAppWeb.Endpoint)
      Ferrosock.drain(server, rate: 500, deadline: 60_000)
  """

  alias Ferrosock.{Address, ListenError}
  alias Ferrosock.PhoenixAdapter.{Config, Front}
  alias Phoenix.Endpoint.SyncCodeReloadPlug

  require Logger

  # Phoenix is the app's.
  @compile {:no_warn_undefined, Phoenix.Endpoint.Supervisor}

  @type scheme :: :http | :https

  @phoenix "1.7.0"
  @ports [http: 4000, https: 4040]

  @doc false
  def child_specs(endpoint, config) do
    check_packages!(endpoint)

    {specs, ignored} =
      Enum.unzip(
        for {scheme, _port} <- @ports, config[scheme], do: spec(endpoint, scheme, config)
      )

    drainer = if config[:drainer] == false, do: [":drainer"], else: []
    warn(endpoint, Enum.concat(ignored) ++ drainer)
    specs
  end

  @doc false
  def start_link(endpoint, scheme, options) do
    {level, options} = Keyword.pop(options, :startup_log, :info)
    running = "Running #{inspect(options[:display_plug])} with Ferrosock #{vsn(:ferrosock)} at "
    warm_up(endpoint)

    case named(endpoint, scheme, fn -> Ferrosock.start_link([startup_log: false] ++ options) end) do
      {:ok, pid} ->
        if level, do: Logger.log(level, running <> place(Ferrosock.info(pid).address, scheme))
        {:ok, pid}

      {:error, {:shutdown, {:failed_to_start_child, _listener, {%ListenError{} = error, _}}}} =
          failure ->
        Logger.error(running <> place(error.address, scheme) <> " failed, #{problem(error)}")
        failure

      failure ->
        failure
    end
  end

  @doc "The server of a running endpoint, for `Ferrosock.info/1` and `Ferrosock.drain/2`."
  @spec server(endpoint :: module(), scheme()) :: {:ok, pid()} | {:error, :no_server_found}
  def server(endpoint, scheme \\ :http) do
    children = if Process.whereis(endpoint), do: Supervisor.which_children(endpoint), else: []

    case List.keyfind(children, {endpoint, scheme}, 0) do
      {_id, pid, _type, _modules} when is_pid(pid) -> {:ok, pid}
      _other -> {:error, :no_server_found}
    end
  end

  @doc "The address of a running endpoint, as `MyAppWeb.Endpoint.server_info(:http)` tells it, too."
  @spec server_info(endpoint :: module(), scheme()) ::
          {:ok, {:inet.ip_address(), :inet.port_number()} | {:local, path :: binary()}}
          | {:error, :no_server_found}
  def server_info(endpoint, scheme) do
    with {:ok, pid} <- server(endpoint, scheme) do
      case Ferrosock.info(pid).address do
        {{:local, _path} = local, _port} -> {:ok, local}
        address -> {:ok, address}
      end
    end
  end

  # Phoenix 1.7 puts together what each request needs when all children of the endpoint run. Clients who come back
  # after a deploy are sooner, and would get an error. Phoenix 1.8 does it in time.
  defp warm_up(endpoint) do
    if :persistent_term.get({Phoenix.Endpoint, endpoint}, nil) == nil and
         function_exported?(Phoenix.Endpoint.Supervisor, :warmup, 1),
       do: apply(Phoenix.Endpoint.Supervisor, :warmup, [endpoint])
  end

  # Phoenix is no dependency of Ferrosock, so nothing but this asks for its version.
  defp check_packages!(endpoint) do
    phoenix = vsn(:phoenix)

    if phoenix && Version.compare(phoenix, @phoenix) == :lt do
      raise ArgumentError,
            "#{inspect(endpoint)} has Phoenix #{phoenix}, and Ferrosock.PhoenixAdapter needs 1.7 or later: update it " <>
              ~s|with {:phoenix, "~> 1.7"} in mix.exs|
    end

    if not Code.ensure_loaded?(WebSockAdapter) do
      raise ArgumentError,
            "#{inspect(endpoint)} has no WebSockAdapter, which Phoenix upgrades its sockets with: add " <>
              ~s|{:websock_adapter, "~> 0.5.7"} to the dependencies in mix.exs|
    end
  end

  defp spec(endpoint, scheme, config) do
    {options, ignored} = named(endpoint, scheme, fn -> options(endpoint, scheme, config) end)

    spec = %{
      id: {endpoint, scheme},
      start: {__MODULE__, :start_link, [endpoint, scheme, options]},
      type: :supervisor
    }

    {spec, for(option <- ignored, do: "#{option} of #{inspect(scheme)}")}
  end

  defp options(endpoint, scheme, config) do
    {given, ignored} = Config.options(config[scheme])

    options =
      [shutdown_code: 1012, display_plug: endpoint, otp_app: Keyword.fetch!(config, :otp_app)]
      |> Keyword.merge(drainer(config[:drainer]))
      |> Keyword.merge(given)
      |> Keyword.merge(plug: plug(endpoint, config[:code_reloader]), scheme: scheme)

    {with_port(options, @ports[scheme]), ignored}
  end

  # The other options of Plug.Cowboy's drainer say how it looks for open connections.
  defp drainer(options) when is_list(options) do
    # It may be `:infinity`, as that of its listeners may.
    shutdown = for {:shutdown, time} <- options, do: {:shutdown, time}
    {options, []} = Config.options(transport_options: shutdown)
    options
  end

  defp drainer(_none), do: []

  defp warn(_endpoint, []), do: :ok

  defp warn(endpoint, ignored) do
    Logger.warning(
      "Ferrosock has nothing for these options of #{inspect(endpoint)}, and ignores them: " <>
        "#{Enum.join(ignored, ", ")}. Its guide \"Coming from Bandit or Cowboy\" says why; remove them",
      domain: [:ferrosock]
    )
  end

  defp plug(endpoint, code_reloader?) do
    # The first versions of 1.7 do not have it.
    if code_reloader? && Code.ensure_loaded?(SyncCodeReloadPlug),
      do: {Front, {SyncCodeReloadPlug, {endpoint, []}, Front.paths(endpoint)}},
      else: {Front, {endpoint, [], Front.paths(endpoint)}}
  end

  defp with_port(options, port) do
    if match?({:local, _path}, options[:ip]),
      do: options,
      else: Keyword.put_new(options, :port, port)
  end

  # An option's error comes from where nobody knows of endpoints.
  defp named(endpoint, scheme, fun) do
    fun.()
  rescue
    error in ArgumentError ->
      message = "#{inspect(endpoint)} (#{inspect(scheme)}): #{Exception.message(error)}"
      reraise ArgumentError, [message: message], __STACKTRACE__
  end

  defp place({{:local, path}, _port}, scheme), do: "#{path} (#{scheme}+unix)"
  defp place(address, scheme), do: "#{Address.format(address)} (#{scheme})"

  defp problem(%{reason: :eaddrinuse}), do: "port already in use"
  defp problem(%{reason: reason}), do: "#{:inet.format_error(reason)} (#{inspect(reason)})"

  defp vsn(app), do: with([_ | _] = vsn <- Application.spec(app, :vsn), do: to_string(vsn))
end
