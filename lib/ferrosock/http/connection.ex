defmodule Ferrosock.HTTP.Connection do
  @moduledoc false
  # The process of one connection, and the only receiver of its events: serves its requests one
  # after the other, and goes on as the owner of its WebSocket once one of them upgraded, so that
  # `self()`, links, the process dictionary and Logger metadata of the Plug stay valid. What a
  # request or an event means is the concern of the pipeline and of the session.
  #
  # A special process (`:proc_lib`, `:sys`) and not a GenServer, because it must receive selectively
  # while a Plug runs and hand every unknown message to the app.

  alias Ferrosock.{Label, Native, Options}
  alias Ferrosock.HTTP.Pipeline
  alias Ferrosock.Server.Drain
  alias Ferrosock.WebSocket.{Ending, Session}

  @enforce_keys [:parent, :heir, :tag, :options, :hibernate_after]
  defstruct @enforce_keys ++ [:session, :left, idle?: false, debug: []]

  @type t :: %__MODULE__{
          parent: pid(),
          # Who is the parent when that has failed.
          heir: pid(),
          tag: Native.tag(),
          # `nil` once upgraded: a WebSocket holds only what it needs.
          options: Options.t() | nil,
          hibernate_after: timeout(),
          session: Session.t() | nil,
          # How many messages of the mailbox are still to be handled before the last event is looked up;
          # `nil` until there is one.
          left: non_neg_integer() | nil,
          # Those of `:sys`.
          debug: [:sys.dbg_opt()],
          # The engine has said that nothing is sent, and nothing has come since.
          idle?: boolean()
        }

  # What the process dictionary holds on behalf of the VM and of Logger's crash reports.
  @kept_keys [:"$ancestors", :"$initial_call", :"$process_label"]

  @uploads Plug.Upload.Path

  # When this module is loaded anew, processes that wait in the old code stay there, and the VM kills them
  # at the next load. So whoever waits is made to wait elsewhere before.
  @on_load :leave_old_code

  # ms that a load waits for them.
  @patience 1_000

  @websocket {__MODULE__, :websocket}

  # Ours: an event, or a message that only a special process may handle.
  defguardp is_ours(message, tag, parent)
            when is_tuple(message) and
                   ((tuple_size(message) == 2 and elem(message, 0) == tag) or
                      (tuple_size(message) == 3 and elem(message, 0) == :EXIT and
                         elem(message, 1) == parent) or
                      (tuple_size(message) == 3 and elem(message, 0) == :system))

  @doc """
  Starts the process of a connection, linked to the caller. An exit signal from that closes a WebSocket: one
  with the reason `{:shutdown, {:drain, code}}` with that code. But a caller that fails ends nothing: `heir`
  takes its place. While the server drains, the caller is sent `{:upgraded, pid}` when the connection has
  become a WebSocket.
  """
  @spec start_link(heir :: pid(), Options.t(), Native.claim()) :: pid()
  def start_link(heir, options, claim),
    do: :proc_lib.spawn_link(__MODULE__, :init, [self(), heir, options, claim])

  # A system message that none has heard of, which is answered all the same.
  @doc false
  def leave_old_code do
    nudged =
      for pid <- :erlang.processes(), connection?(pid), into: %{} do
        ref = make_ref()
        send(pid, {:system, {self(), ref}, :leave_old_code})
        {ref, pid}
      end

    Process.send_after(self(), :leave_old_code, @patience)
    await_left(nudged)
  end

  # Those at work answer later, when they have left old code by themselves.
  defp await_left(nudged) when nudged == %{}, do: :ok

  defp await_left(nudged) do
    receive do
      {ref, _reply} when is_map_key(nudged, ref) -> nudged |> Map.delete(ref) |> await_left()
      :leave_old_code -> :ok
    end
  end

  defp connection?(pid) do
    with {:initial_call, {:proc_lib, _function, _arity}} <-
           :erlang.process_info(pid, :initial_call),
         {:dictionary, dictionary} <- :erlang.process_info(pid, :dictionary) do
      :lists.keyfind(:"$initial_call", 1, dictionary) ==
        {:"$initial_call", {__MODULE__, :init, 4}}
    else
      _other -> false
    end
  end

  @doc "Whether the connection has become a WebSocket."
  @spec websocket?(pid()) :: boolean()
  def websocket?(pid) do
    case Process.info(pid, :dictionary) do
      {:dictionary, dictionary} -> List.keymember?(dictionary, @websocket, 0)
      nil -> false
    end
  end

  @doc false
  def init(parent, heir, options, claim) do
    # So that the end of a process that the app linked reaches the app, and the server's own end
    # does not cut off a request.
    Process.flag(:trap_exit, true)
    Label.set(plug_label(options.plug))

    case Native.attach(claim) do
      {:ok, tag} ->
        ask(%__MODULE__{
          parent: parent,
          heir: heir,
          tag: tag,
          options: options,
          hibernate_after: options.hibernate_after
        })

      :gone ->
        :ok
    end
  end

  # Called by the name of the module, so that it goes on in new code where that was loaded.
  @doc false
  @spec loop(t()) :: no_return()
  def loop(%__MODULE__{left: nil} = connection) do
    receive do
      message -> connection |> traced({:in, message}) |> handle(message)
    after
      patience(connection) -> :proc_lib.hibernate(__MODULE__, :loop, [connection])
    end
  end

  # What had come when the last event was told is handled, in its order; mostly the event is among it.
  # Where it is not, a callback has received it.
  def loop(%__MODULE__{left: 0} = connection), do: last_event(connection)

  def loop(%__MODULE__{left: left} = connection) do
    receive do
      message -> %{connection | left: left - 1} |> traced({:in, message}) |> handle(message)
    after
      0 -> last_event(connection)
    end
  end

  defp handle(%{tag: tag, left: nil} = connection, {tag, :idle}),
    do: :proc_lib.hibernate(__MODULE__, :loop, [%{connection | idle?: true}])

  defp handle(%{tag: tag} = connection, {tag, event}), do: event(connection, event)

  defp handle(%{parent: parent} = connection, {:EXIT, parent, reason}),
    do: parent_ended(connection, reason)

  defp handle(%{parent: parent} = connection, {:system, from, request}) do
    :sys.handle_system_msg(request, from, parent, __MODULE__, connection.debug, connection)
  end

  defp handle(connection, message), do: message(connection, message)

  defp last_event(%{session: session} = connection) do
    case Native.socket_ending(session.socket) do
      :soon ->
        Process.sleep(1)
        __MODULE__.loop(%{connection | left: 1})

      :none ->
        session |> Session.events([{:closed, :closed}]) |> next(connection)

      event ->
        session |> Session.events([event]) |> next(connection)
    end
  end

  # The engine says when nothing has been sent for `hibernate_after`, which spares a WebSocket a timer
  # per message. But it says so once: messages of the app may wake the process and send nothing.
  defp patience(%{session: session, idle?: false}) when session != nil, do: :infinity
  defp patience(connection), do: connection.hibernate_after

  @doc false
  def system_continue(_parent, debug, connection) do
    connection = put_debug(connection, debug)

    # In hibernation no code is left that could be purged: see `leave_old_code/0`.
    if connection.left == nil,
      do: :proc_lib.hibernate(__MODULE__, :loop, [connection]),
      else: __MODULE__.loop(connection)
  end

  @doc false
  def system_terminate(reason, _parent, _debug, connection),
    do: parent_ended(connection, reason)

  @doc false
  def system_get_state(%{session: nil} = connection), do: {:ok, connection}
  def system_get_state(%{session: session}), do: {:ok, session.state}

  @doc false
  def system_replace_state(fun, %{session: nil} = connection),
    do: {:ok, connection, fun.(connection)}

  def system_replace_state(fun, %{session: session} = connection) do
    state = fun.(session.state)
    {:ok, state, %{connection | session: %{session | state: state}}}
  end

  @doc false
  def system_code_change(connection, _module, _old_version, _extra), do: {:ok, connection}

  # Nothing is done for messages that nobody traces.
  defp traced(%{debug: []} = connection, _event), do: connection
  defp traced(connection, {:in, {:system, _from, _request}}), do: connection

  defp traced(%{debug: debug} = connection, event),
    do:
      put_debug(
        connection,
        :sys.handle_debug(debug, &Ferrosock.Trace.format_event/3, self(), event)
      )

  defp put_debug(%{session: nil} = connection, debug), do: %{connection | debug: debug}

  defp put_debug(%{session: session} = connection, debug),
    do: %{connection | debug: debug, session: %{session | debug: debug}}

  # Not only told but asked: the Plug may have received the message that told it.
  defp ask(connection) do
    case Native.take(connection.tag) do
      {:request, exchange, request} -> serve(connection, exchange, request)
      :none -> __MODULE__.loop(connection)
      :closed -> exit(:normal)
    end
  end

  defp serve(connection, exchange, request) do
    peer = elem(request, 7)

    case Pipeline.run(connection.options, exchange, request) do
      # A stream has one request.
      :ok when elem(request, 5) == :"HTTP/2" ->
        exit(:normal)

      :ok ->
        forget(connection)
        connection |> with_parent() |> ask()

      # Not `:normal`, so that processes which the Plug linked end with it.
      :close ->
        exit({:shutdown, :closed})

      {:upgrade, socket, upgrade} ->
        start_session(connection, socket, upgrade, peer)
    end
  end

  # Nothing of one request may meet the next.
  defp forget(%{options: options, tag: tag, parent: parent}) do
    flush(tag, parent)
    if options.http_1_options.clear_process_dict, do: clear_dictionary()
    remove_uploads()
  end

  defp flush(tag, parent) do
    receive do
      message when not is_ours(message, tag, parent) -> flush(tag, parent)
    after
      0 -> :ok
    end
  end

  defp clear_dictionary do
    kept = for key <- @kept_keys, value = Process.get(key), do: {key, value}
    :erlang.erase()
    Enum.each(kept, fn {key, value} -> Process.put(key, value) end)
  end

  # Plug does so when the process of a request ends, and has no function for one that goes on. Files that
  # were given away are not this process's any more.
  defp remove_uploads do
    if :ets.whereis(@uploads) != :undefined do
      for {_owner, path} <- :ets.take(@uploads, self()), do: :file.delete(path, [:raw])
    end
  end

  defp start_session(connection, socket, %{websock: websock} = upgrade, peer) do
    session = %Session{
      websock: websock,
      kind: upgrade.kind,
      socket: socket,
      peer: peer,
      send_timeout: connection.options.websocket_options.send_timeout,
      log_limiter: connection.options.log_limiter,
      debug: connection.debug
    }

    Label.set({Ferrosock, websock})

    # In this order: either the acceptor finds it, or it tells the acceptor. Always to tell would wake a
    # scheduler for each handshake.
    Process.put(@websocket, true)
    if Drain.begun?(connection.options), do: send(connection.parent, {:upgraded, self()})

    run_session(%{connection | options: nil}, session, upgrade.argument, upgrade.settings.flags)
  end

  # A function of its own, because here the conn and its adapter are out of reach. They must not
  # count for a `max_heap_size` either.
  defp run_session(connection, session, argument, flags) do
    :erlang.garbage_collect()
    Enum.each(flags, fn {flag, value} -> Process.flag(flag, value) end)
    session |> Session.init(argument) |> next(connection)
  end

  defp event(%{session: nil} = connection, _request_or_closed), do: ask(connection)

  defp event(%{session: session} = connection, {:paused, batches}) do
    Native.socket_resume(session.socket, batches)
    __MODULE__.loop(connection)
  end

  defp event(%{idle?: true} = connection, events),
    do: event(%{connection | idle?: false}, events)

  defp event(%{session: session} = connection, events) when is_list(events),
    do: session |> Session.events(events) |> next(connection)

  # One that came before the last event.
  defp event(connection, :idle), do: __MODULE__.loop(connection)

  defp message(connection, {:plug_conn, :sent}), do: __MODULE__.loop(connection)
  defp message(%{session: nil} = connection, _left_over), do: __MODULE__.loop(connection)

  defp message(connection, message),
    do: connection.session |> Session.info(message) |> next(connection)

  defp next({:ok, %{ended?: true} = session}, %{left: nil} = connection) do
    {:message_queue_len, left} = Process.info(self(), :message_queue_len)
    __MODULE__.loop(%{connection | session: session, debug: session.debug, left: left})
  end

  defp next({:ok, session}, connection),
    do: __MODULE__.loop(%{connection | session: session, debug: session.debug})

  defp next({:stop, ending, session}, _connection) do
    {kind, reason, stacktrace} = Session.finish(session, ending)
    :erlang.raise(kind, reason, stacktrace)
  end

  # Where it has failed, there may be no message of it any more: the Plug may have received that.
  defp with_parent(%{parent: parent} = connection),
    do: if(Process.alive?(parent), do: connection, else: inherited(connection))

  defp parent_ended(connection, :shutdown), do: stop(connection, :shutdown)
  defp parent_ended(connection, {:shutdown, _} = reason), do: stop(connection, reason)

  defp parent_ended(%{parent: heir, heir: heir} = connection, reason),
    do: stop(connection, reason)

  defp parent_ended(connection, _reason), do: connection |> inherited() |> __MODULE__.loop()

  # A heir that is gone, too, tells so by the exit signal of such a link.
  defp inherited(%{heir: heir} = connection) do
    Process.link(heir)
    %{connection | parent: heir}
  end

  defp stop(%{session: nil}, _reason), do: exit(:shutdown)

  defp stop(connection, reason),
    do: next({:stop, Ending.shutdown(reason), connection.session}, connection)

  defp plug_label({module, _options}), do: {Ferrosock, module}
  defp plug_label(plug), do: {Ferrosock, plug}
end
