defmodule Ferrosock.Acceptors do
  @moduledoc false
  # The supervisor of a server's acceptors. A dynamic one because that stops all its children at
  # once: one after the other, each could take the whole `shutdown_timeout`.

  alias Ferrosock.{Acceptor, Options}

  @spec child_spec({:ets.table(), Options.t()}) :: Supervisor.child_spec()
  def child_spec(argument) do
    %{id: __MODULE__, start: {__MODULE__, :start_link, [argument]}, type: :supervisor}
  end

  @doc "The supervisor of a server's acceptors."
  @spec supervisor(:ets.table()) :: pid()
  def supervisor(table), do: :ets.lookup_element(table, :acceptors, 2)

  @doc "The acceptors that a supervisor has now."
  @spec list(supervisor :: pid()) :: [pid()]
  def list(supervisor) do
    for {_id, pid, _type, _modules} <- DynamicSupervisor.which_children(supervisor),
        is_pid(pid),
        do: pid
  end

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
    case DynamicSupervisor.start_child(pid, {Acceptor, argument}) do
      {:error, reason} -> {:error, reason}
      # Or ignored: the listener has failed meanwhile, and all will be started anew.
      _started -> start_all(count - 1, pid, argument)
    end
  end

  defp count(:default), do: System.schedulers_online()
  defp count(count), do: count
end
