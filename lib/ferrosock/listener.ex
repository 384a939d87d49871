defmodule Ferrosock.Listener do
  @moduledoc false
  # Owns the native listener: when this process ends, so does the listening. Connections are not
  # its concern; the engine gives them to acceptors.

  use GenServer

  alias Ferrosock.{ListenError, Log, Native, Options}

  @spec start_link({:ets.table(), Options.t()}) :: GenServer.on_start()
  def start_link({_table, _options} = argument), do: GenServer.start_link(__MODULE__, argument)

  @doc "The handle and the tag of a server's listener."
  @spec handle(:ets.table()) :: {Native.listener(), Native.tag()}
  def handle(table) do
    [{:listener, listener, tag}] = :ets.lookup(table, :listener)
    {listener, tag}
  end

  @doc "See `Ferrosock.info/1`."
  @spec info(pid()) :: Ferrosock.info()
  def info(pid), do: GenServer.call(pid, :info)

  @impl true
  def init({table, options}) do
    # Without this, `terminate/2` would not run when the supervisor stops us.
    Process.flag(:trap_exit, true)
    native_options = Options.listener(options)

    case Native.listener_open(native_options) do
      {:ok, listener, tag} ->
        :ets.insert(table, {:listener, listener, tag})
        Log.startup(options, Native.listener_info(listener).address)
        {:ok, %{listener: listener, tag: tag}}

      {:error, reason} ->
        # Raised, because only an exception with its stacktrace is told in words by those who
        # report a failed start.
        raise ListenError, address: native_options.address, reason: reason
    end
  end

  @impl true
  def handle_call(:info, _from, state) do
    {:reply, Native.listener_info(state.listener), state}
  end

  @impl true
  def handle_info({tag, {:accept_error, reason}}, %{tag: tag} = state) do
    Log.accept_error(reason)
    {:noreply, state}
  end

  def handle_info({tag, {:http_error, peer, reason}}, %{tag: tag} = state) do
    Log.http_error(peer, reason)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: Native.listener_close(state.listener)
end
