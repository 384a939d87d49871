defmodule Ferrosock.Server.Acceptors do
  @moduledoc false
  # The acceptor pool: the supervisor of a server's acceptors and, below them, of its connections. It is a dynamic
  # supervisor, because that stops all its children at once: one after the other, each could take the whole
  # `shutdown_timeout`. What an acceptor does is not its concern.

  alias Ferrosock.Options
  alias Ferrosock.Server.AcceptorPair

  @spec child_spec({:ets.table(), Options.t()}) :: Supervisor.child_spec()
  def child_spec(argument) do
    %{id: __MODULE__, start: {__MODULE__, :start_link, [argument]}, type: :supervisor}
  end

  @doc "The supervisor of a server's acceptors."
  @spec supervisor(:ets.table()) :: pid()
  def supervisor(table), do: :ets.lookup_element(table, :acceptors, 2)

  @spec start_link({:ets.table(), Options.t()}) :: Supervisor.on_start()
  def start_link({table, options} = argument) do
    {:ok, pid} = DynamicSupervisor.start_link(strategy: :one_for_one)
    :ets.insert(table, {:acceptors, pid})

    case start_all(count(options.num_acceptors), pid, argument) do
      :ok ->
        {:ok, pid}

      {:error, reason} ->
        DynamicSupervisor.stop(pid)
        {:error, reason}
    end
  end

  defp start_all(0, _pid, _argument), do: :ok

  defp start_all(count, pid, argument) do
    with {:ok, _pair} <- DynamicSupervisor.start_child(pid, {AcceptorPair, argument}),
         do: start_all(count - 1, pid, argument)
  end

  defp count(:default), do: System.schedulers_online()
  defp count(count), do: count
end
