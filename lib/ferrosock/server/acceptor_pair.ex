defmodule Ferrosock.Server.AcceptorPair do
  @moduledoc false
  # An acceptor, and its heir: the supervisor that takes over its connections when it fails. When the heir
  # fails, the acceptor is started again, too. What either does is not the concern of this module.

  use Supervisor

  alias Ferrosock.Options
  alias Ferrosock.Server.{Acceptor, Connections}

  # An acceptor that was killed loses at most what is in its mailbox, so this may happen as often as it likes.
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
