defmodule Ferrosock.Server.AcceptorPair do
  @moduledoc false
  # An acceptor, and the supervisor that takes over its connections when it fails. Only an acceptor whose
  # heir has failed begins anew with it.

  use Supervisor

  alias Ferrosock.Options
  alias Ferrosock.Server.{Acceptor, Connections}

  # An acceptor that was killed loses at most what is in its mailbox, so it may be as often as it likes.
  @max_restarts 1_000

  @spec start_link({:ets.table(), Options.t()}) :: Supervisor.on_start()
  def start_link({_table, _options} = argument),
    do: Supervisor.start_link(__MODULE__, argument)

  @impl true
  def init(argument) do
    Supervisor.init([{Connections, argument}, {Acceptor, argument}],
      strategy: :rest_for_one,
      max_restarts: @max_restarts
    )
  end
end
