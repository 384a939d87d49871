defmodule Ferrosock.Server do
  @moduledoc false
  # One server: a listener and what depends on it. Children stop last first, so the drainer ends the
  # connections in good order before acceptors and listener stop.

  use Supervisor

  alias Ferrosock.{Log, Options}
  alias Ferrosock.HTTP.Pipeline
  alias Ferrosock.Server.{Acceptors, Drainer, Listener, Reactors, TLS}

  @doc "Starts a server. Raises on options that are wrong."
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(options) do
    {supervisor_options, options} = Options.split!(options)
    options = Options.server!(options)
    Reactors.ensure_started!(options.reactors)
    # Called here, so that what is wrong with a certificate is raised where the options are given.
    tls = TLS.new(options)
    loaded = TLS.load!(tls)
    options = TLS.forget(options)
    shared = %{log_limiter: Log.limiter(), draining: :atomics.new(1, [])}
    options = Map.merge(%{options | plug: Pipeline.init(options.plug)}, shared)
    Supervisor.start_link(__MODULE__, {options, tls, loaded}, supervisor_options)
  end

  @doc "The process that owns the listener of a running server."
  @spec listener(Supervisor.supervisor()) :: pid()
  def listener(server), do: child(server, Listener)

  @doc "The process that drains a running server."
  @spec drainer(Supervisor.supervisor()) :: pid()
  def drainer(server), do: child(server, Drainer)

  defp child(server, id) do
    {_id, pid, _type, _modules} = List.keyfind!(Supervisor.which_children(server), id, 0)
    pid
  end

  @impl true
  def init({options, tls, loaded}) do
    # Where children leave what their siblings need to find them: these start after them, in this
    # process, and know no name of theirs.
    table = :ets.new(:ferrosock_server, [:public, read_concurrency: true])
    Listener.give_certificates(table, loaded)

    # When acceptors give up, their supervisor's end closes the listener by way of the drainer. It
    # must be opened anew then, which `:rest_for_one` would not do.
    Supervisor.init(
      [
        {Listener, {table, options, tls}},
        {Acceptors, {table, options}},
        {Drainer, {table, options}}
      ],
      strategy: :one_for_all
    )
  end
end
