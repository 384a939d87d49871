defmodule Ferrosock.Server.Listener do
  @moduledoc false
  # Owns the native listener: when this process ends, the listening ends, too. It loads certificates anew and
  # logs what the engine reports. Connections are not its concern; the engine gives them to acceptors.

  use GenServer

  alias Ferrosock.{Draining, ListenError, Log, Native, Options}
  alias Ferrosock.Server.{Caretaker, Reactors, TLS}

  @spec start_link({:ets.table(), Options.t(), TLS.t() | nil}) :: GenServer.on_start()
  def start_link({_table, _options, _tls} = argument),
    do: GenServer.start_link(__MODULE__, argument)

  @doc "Leaves certificates for the first listener. A listener that is started again loads its own."
  @spec give_certificates(:ets.table(), TLS.loaded()) :: true
  def give_certificates(table, loaded), do: :ets.insert(table, {:certificates, loaded})

  @doc "The handle and the tag of a server's listener."
  @spec handle(:ets.table()) :: {Native.listener(), Native.tag()}
  def handle(table) do
    [{:listener, listener, tag}] = :ets.lookup(table, :listener)
    {listener, tag}
  end

  @doc "See `Ferrosock.info/1`."
  @spec info(pid()) :: map()
  def info(pid), do: GenServer.call(pid, :info)

  @doc "See `Ferrosock.reload_certificates/1`."
  @spec reload_certificates(pid()) :: :ok | {:error, ArgumentError.t()}
  def reload_certificates(pid), do: GenServer.call(pid, :reload_certificates)

  @impl true
  def init({table, options, tls}) do
    # Without this, `terminate/2` would not run when the supervisor stops us.
    Process.flag(:trap_exit, true)
    reactors = Reactors.monitor!()

    state =
      case Draining.open(options.draining) do
        :ok -> open(table, options, tls)
        :closed -> take_over(table, tls)
      end

    # Last, because without this process nobody would end it.
    Options.share(table, options)
    {:ok, Map.merge(state, %{table: table, reactors: reactors})}
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
      # An error is told once and not at each look: the key of a new certificate may be on its way.
      {result, state} = reload(state)
      with {:error, error} <- result, do: Log.certificate_error(error)
      {:noreply, state}
    end
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{reactors: monitor} = state) do
    cond do
      # The reactors have been started again.
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

  @impl true
  def terminate(reason, state) do
    # One that has failed, whose reason is more than an atom, is started again and needs them.
    if is_atom(reason), do: Options.unshare(state.table)
    Native.listener_close(state.listener)
  end

  defp open(table, options, tls) do
    {config, stamp} = certificates(table, tls)
    native_options = Options.listener(options)

    case Native.listener_open(native_options, config) do
      {:ok, listener, tag} ->
        :ets.insert(table, {:listener, listener, tag})
        Log.startup(options, Native.listener_info(listener).address)
        look_later(tls)
        %{listener: listener, tag: tag, tls: tls, stamp: stamp}

      {:error, reason} ->
        # It is raised and not returned, because reports of a failed start print the message of an exception only
        # if it comes with a stacktrace.
        raise ListenError, address: native_options.address, reason: reason
    end
  end

  defp certificates(table, tls) do
    case :ets.take(table, :certificates) do
      [{:certificates, loaded}] -> loaded
      [] -> TLS.load!(tls)
    end
  end

  # The handle of the listener before this one still tells the address and the counts.
  defp take_over(table, tls) do
    {listener, tag} = handle(table)
    Native.listener_close(listener)
    %{listener: listener, tag: tag, tls: tls, stamp: nil}
  end

  defp reload(state) do
    # The stamp is taken before the files are loaded, as in `TLS.load!/1`, and also if loading them fails.
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

  # The supervisor drains and ends the whole server, and starts it again. That fails, too, unless the
  # application has been started again meanwhile.
  defp without_reactors do
    Caretaker.start(Reactors)

    raise "the application :ferrosock has stopped, whose processes run the engine: its servers end with it"
  end
end
