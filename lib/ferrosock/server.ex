defmodule Ferrosock.Server do
  @moduledoc false
  # One server: a listener and what depends on it. The last child stops first, so the drain ends the connections
  # in good order before the acceptors and the listener stop. Each child's work is that child's concern.

  use Supervisor

  alias Ferrosock.{Draining, Log, Options}
  alias Ferrosock.HTTP.Pipeline
  alias Ferrosock.Server.{Acceptors, Drain, Listener, Probe, Reactors, TLS}

  @doc "Starts a server. Raises `ArgumentError` on options that are wrong."
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(options) do
    {supervisor_options, options} = Options.split!(options)
    options = Options.server!(options)
    Reactors.ensure_started!(options.reactors)

    # Certificates are loaded here, so that what is wrong with them is raised where the options are given.
    tls = TLS.new(options)
    loaded = TLS.load!(tls)
    options = TLS.forget(options)

    shared = %{
      log_limiter: Log.limiter(),
      draining: Draining.new(),
      record?: Probe.record?(options)
    }

    options = Map.merge(%{options | plug: Pipeline.init(options.plug)}, shared)
    Supervisor.start_link(__MODULE__, {options, tls, loaded}, supervisor_options)
  end

  @doc "The process that owns the listener of a running server."
  @spec listener(Supervisor.supervisor()) :: pid()
  def listener(server), do: child(server, Listener)

  @doc "The process that drains a running server."
  @spec drain(Supervisor.supervisor()) :: pid()
  def drain(server), do: child(server, Drain)

  @impl true
  def init({options, tls, loaded}) do
    # Here children leave what their siblings need to find them, because none of them has a name.
    table = :ets.new(:ferrosock_server, [:public, read_concurrency: true])
    Listener.give_certificates(table, loaded)

    # When the acceptors give up, the drain stops, too, and so closes the listener. It must be opened anew then,
    # which `:rest_for_one` would not do.
    Supervisor.init(
      [
        {Listener, {table, options, tls}},
        {Acceptors, {table, options}},
        {Drain, {table, options}}
      ],
      strategy: :one_for_all
    )
  end

  defp child(server, id) do
    {_id, pid, _type, _modules} = List.keyfind!(Supervisor.which_children(server), id, 0)
    pid
  end
end
