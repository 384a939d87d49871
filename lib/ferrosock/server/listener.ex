defmodule Ferrosock.Server.Listener do
  @moduledoc false
  # Owns the native listener: when this process ends, so does the listening. Connections are not
  # its concern; the engine gives them to acceptors.

  use GenServer

  alias Ferrosock.{ListenError, Log, Native, Options}
  alias Ferrosock.Server.{Caretaker, Reactors, TLS}

  @spec start_link({:ets.table(), Options.t(), TLS.t() | nil}) :: GenServer.on_start()
  def start_link({_table, _options, _tls} = argument),
    do: GenServer.start_link(__MODULE__, argument)

  @doc "Leaves certificates for the listener that starts first. One that is started again loads its own."
  @spec give_certificates(:ets.table(), TLS.loaded()) :: true
  def give_certificates(table, loaded), do: :ets.insert(table, {:certificates, loaded})

  @doc "Has listeners that are started again listen no more: a drained server is to stay so."
  @spec stay_closed(:ets.table()) :: true
  def stay_closed(table), do: :ets.insert(table, {:stay_closed})

  @doc "The handle and the tag of a server's listener."
  @spec handle(:ets.table()) :: {Native.listener(), Native.tag()}
  def handle(table) do
    [{:listener, listener, tag}] = :ets.lookup(table, :listener)
    {listener, tag}
  end

  @doc "See `Ferrosock.info/1`."
  @spec info(pid()) :: Ferrosock.info()
  def info(pid), do: GenServer.call(pid, :info)

  @doc "See `Ferrosock.reload_certificates/1`."
  @spec reload_certificates(pid()) :: :ok | {:error, ArgumentError.t()}
  def reload_certificates(pid), do: GenServer.call(pid, :reload_certificates)

  @impl true
  def init({table, options, tls}) do
    # Without this, `terminate/2` would not run when the supervisor stops us.
    Process.flag(:trap_exit, true)
    reactors = Reactors.monitor!()

    {:ok, state} =
      if :ets.member(table, :stay_closed),
        do: take_over(table, tls),
        else: open(table, options, tls)

    {:ok, Map.put(state, :reactors, reactors)}
  end

  @impl true
  def handle_call(:info, _from, state) do
    {:reply, Native.listener_info(state.listener), state}
  end

  def handle_call(:reload_certificates, _from, state) do
    {result, state} = reload(state)
    {:reply, result, state}
  end

  @impl true
  def handle_info(:look, state) do
    look_later(state.tls)

    if TLS.stamp(state.tls) == state.stamp do
      {:noreply, state}
    else
      # Told once and not at each look: its key may be on the way.
      {result, state} = reload(state)
      with {:error, error} <- result, do: Log.certificate_error(error)
      {:noreply, state}
    end
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{reactors: monitor} = state) do
    cond do
      # They are back.
      Process.whereis(Reactors) -> {:noreply, %{state | reactors: Reactors.monitor!()}}
      # The end of the node is no fault.
      match?({:stopping, _}, :init.get_status()) -> {:stop, {:shutdown, :stopping}, state}
      true -> without_reactors()
    end
  end

  def handle_info({tag, {:accept_error, reason}}, %{tag: tag} = state) do
    Log.accept_error(reason)
    {:noreply, state}
  end

  def handle_info({tag, {:http_error, peer, reason}}, %{tag: tag} = state) do
    Log.http_error(peer, reason)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # The supervisor ends the whole server, in good order, and starts it again: in vain, unless the application
  # is started again meanwhile.
  defp without_reactors do
    Caretaker.start()

    raise "the application :ferrosock has stopped, whose processes run the engine: its servers end with it"
  end

  # The handle of the one before still tells the address and the counts.
  defp take_over(table, tls) do
    {listener, tag} = handle(table)
    Native.listener_close(listener)
    {:ok, %{listener: listener, tag: tag, tls: tls, stamp: nil}}
  end

  defp open(table, options, tls) do
    {config, stamp} = certificates(table, tls)
    native_options = Options.listener(options)

    case Native.listener_open(native_options, config) do
      {:ok, listener, tag} ->
        :ets.insert(table, {:listener, listener, tag})
        Log.startup(options, Native.listener_info(listener).address)
        look_later(tls)
        {:ok, %{listener: listener, tag: tag, tls: tls, stamp: stamp}}

      {:error, reason} ->
        # Raised, because only an exception with its stacktrace is told in words by those who
        # report a failed start.
        raise ListenError, address: native_options.address, reason: reason
    end
  end

  defp certificates(table, tls) do
    case :ets.take(table, :certificates) do
      [{:certificates, loaded}] -> loaded
      [] -> TLS.load!(tls)
    end
  end

  defp reload(state) do
    # Before they are loaded, as in `TLS.load!/1`; also where that fails.
    state = %{state | stamp: TLS.stamp(state.tls)}

    try do
      config = TLS.config!(state.tls)
      if config, do: Native.listener_set_tls(state.listener, config)
      {:ok, state}
    rescue
      error in ArgumentError -> {{:error, error}, state}
    end
  end

  defp look_later(%TLS{interval: interval}) when is_integer(interval),
    do: Process.send_after(self(), :look, interval)

  defp look_later(_tls), do: :ok

  @impl true
  def terminate(_reason, state), do: Native.listener_close(state.listener)
end
