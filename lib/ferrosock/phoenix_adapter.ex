defmodule Ferrosock.PhoenixAdapter do
  @moduledoc """
  Serves the endpoints of Phoenix 1.7 and later.

      config :my_app, MyAppWeb.Endpoint, adapter: Ferrosock.PhoenixAdapter
  """

  alias Ferrosock.Address

  require Logger

  @schemes [:http, :https]

  @doc false
  def child_specs(endpoint, config) do
    for scheme <- @schemes, given = config[scheme] do
      options =
        [plug: plug(endpoint, config[:code_reloader]), scheme: scheme] ++
          [display_plug: endpoint, otp_app: Keyword.fetch!(config, :otp_app)] ++ given

      %{
        id: {endpoint, scheme},
        start: {__MODULE__, :start_link, [endpoint, scheme, options]},
        type: :supervisor
      }
    end
  end

  @doc false
  def start_link(endpoint, scheme, options) do
    {level, options} = Keyword.pop(options, :startup_log, :info)

    with {:ok, pid} <- Ferrosock.start_link([startup_log: false] ++ options) do
      if level, do: Logger.log(level, running(endpoint, place(pid, scheme)))
      {:ok, pid}
    end
  end

  @doc "The server of a running endpoint, for `Ferrosock.info/1` and `Ferrosock.drain/2`."
  @spec server(module(), :http | :https) :: {:ok, pid()} | {:error, :no_server_found}
  def server(endpoint, scheme \\ :http) do
    children = if Process.whereis(endpoint), do: Supervisor.which_children(endpoint), else: []

    case List.keyfind(children, {endpoint, scheme}, 0) do
      {_id, pid, _type, _modules} when is_pid(pid) -> {:ok, pid}
      _other -> {:error, :no_server_found}
    end
  end

  @doc "The address of a running endpoint. Phoenix's own `c:Phoenix.Endpoint.server_info/1` calls this."
  @spec server_info(module(), :http | :https) ::
          {:ok, {:inet.ip_address(), :inet.port_number()} | {:local, binary()}}
          | {:error, :no_server_found}
  def server_info(endpoint, scheme) do
    with {:ok, pid} <- server(endpoint, scheme) do
      case Ferrosock.info(pid).address do
        {{:local, _path} = local, _port} -> {:ok, local}
        address -> {:ok, address}
      end
    end
  end

  defp plug(endpoint, true), do: {Phoenix.Endpoint.SyncCodeReloadPlug, {endpoint, []}}
  defp plug(endpoint, _code_reloader), do: {endpoint, []}

  defp running(endpoint, where),
    do:
      "Running #{inspect(endpoint)} with Ferrosock #{Application.spec(:ferrosock, :vsn)} at #{where}"

  defp place(pid, scheme) do
    case Ferrosock.info(pid).address do
      {{:local, path}, _port} -> "#{path} (#{scheme}+unix)"
      address -> "#{Address.format(address)} (#{scheme})"
    end
  end
end
