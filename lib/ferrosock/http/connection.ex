defmodule Ferrosock.HTTP.Connection do
  @moduledoc false
  # The process of one connection, or of one stream of HTTP/2, and the only receiver of its events. It serves
  # the requests one after the other. When one of them upgrades, it goes on as the owner of the WebSocket, so
  # that `self()`, links, the process dictionary and Logger metadata of the Plug stay valid. What a request or
  # an event means is the concern of the pipeline and of the session.
  #
  # It is a special process (`:proc_lib`, `:sys`) and not a GenServer, because it must receive selectively while
  # a Plug runs, and hand every unknown message to the app.

  alias Ferrosock.{Draining, Label, Native, Options, Trace}
  alias Ferrosock.HTTP.{LeftOver, Pipeline}
  alias Ferrosock.WebSocket.{Ending, Session}

  @enforce_keys [:parent, :heir, :tag, :options, :hibernate_after]
  defstruct @enforce_keys ++ [:session, :left, idle?: false, debug: []]

  @type t :: %__MODULE__{
          # The acceptor that has started it, or the heir of that.
          parent: pid(),
          # The parent's replacement, should that fail.
          heir: pid(),
          tag: Native.tag(),
          # `nil` once upgraded: a WebSocket holds only what it needs.
          options: Options.t() | nil,
          hibernate_after: timeout(),
          # `nil` until upgraded.
          session: Session.t() | nil,
          # How many messages of the mailbox are still to be handled before the last event is looked up;
          # `nil` while there is no last event.
          left: non_neg_integer() | nil,
          # The debug options that `:sys` has set.
          debug: [:sys.dbg_opt()],
          # The engine has said that nothing is being sent, and no event has come since.
          idle?: boolean()
        }

  # When this module is loaded anew, processes that wait in the old code stay there, and the next load kills
  # them. So the load itself wakes them, and they wait in the new code from then on.
  @on_load :leave_old_code

  # Milliseconds that a load waits for them.
  @patience 1_000

  # In the process dictionary of a connection that has become a WebSocket.
  @websocket {__MODULE__, :websocket}

  @doc """
  Starts the process of a connection, linked to the caller. When the caller sends an exit signal, a WebSocket
  is closed, with the code in a reason of `{:shutdown, {:drain, code}}`. When the caller fails, the connection
  goes on, and `heir` takes the caller's place.
  """
  @spec start_link(heir :: pid(), Options.t(), Native.claim()) :: pid()
  def start_link(heir, options, claim),
    do: :proc_lib.spawn_link(__MODULE__, :init, [self(), heir, options, claim])

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
    # An exit signal of a process that the app has linked is the app's to handle, and one of the server must
    # not cut off a request.
    Process.flag(:trap_exit, true)
    Label.serves(plug_name(options))

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

  # It is always called as a remote function, so that it goes on in new code after a load.
  @doc false
  @spec loop(t()) :: no_return()
  def loop(%__MODULE__{left: nil} = connection) do
    receive do
      message -> connection |> traced(message) |> handle(message)
    after
      patience(connection) -> :proc_lib.hibernate(__MODULE__, :loop, [connection])
    end
  end

  # The messages that had come when the engine said that there is a last event are handled in their order. The
  # last event is usually among them. If it is not, a callback has received it, and the engine tells it again.
  def loop(%__MODULE__{left: 0} = connection), do: last_event(connection)

  def loop(%__MODULE__{left: left} = connection) do
    receive do
      message -> %{connection | left: left - 1} |> traced(message) |> handle(message)
    after
      0 -> last_event(connection)
    end
  end

  @doc false
  def system_continue(_parent, debug, connection) do
    connection = put_debug(connection, debug)

    # A process that hibernates is in no code that could be purged: see `leave_old_code/0`.
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

  @doc false
  def leave_old_code do
    waiting =
      for pid <- :erlang.processes(), connection?(pid), into: %{} do
        ref = make_ref()
        # A system message that nobody knows is answered all the same, and so wakes the process.
        send(pid, {:system, {self(), ref}, :leave_old_code})
        {ref, pid}
      end

    Process.send_after(self(), :leave_old_code, @patience)
    await_answers(waiting)
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

  defp await_answers(waiting) when waiting == %{}, do: :ok

  defp await_answers(waiting) do
    receive do
      {ref, _reply} when is_map_key(waiting, ref) -> waiting |> Map.delete(ref) |> await_answers()
      # The others are at work, and leave old code by themselves when they loop.
      :leave_old_code -> :ok
    end
  end

  # The engine says when nothing has been sent for `hibernate_after`, which spares a WebSocket a timer for each
  # message. It says so only once, but messages of the app may wake the process and send nothing.
  defp patience(%{session: session, idle?: false}) when session != nil, do: :infinity
  defp patience(connection), do: connection.hibernate_after

  # Nothing is done for messages that nobody traces, and system messages are not traced.
  defp traced(%{debug: []} = connection, _message), do: connection
  defp traced(connection, {:system, _from, _request}), do: connection

  defp traced(%{debug: debug} = connection, message),
    do: put_debug(connection, Trace.event(debug, self(), {:in, message}))

  defp put_debug(%{session: nil} = connection, debug), do: %{connection | debug: debug}

  defp put_debug(%{session: session} = connection, debug),
    do: %{connection | debug: debug, session: %{session | debug: debug}}

  defp handle(%{tag: tag, left: nil} = connection, {tag, :idle}),
    do: :proc_lib.hibernate(__MODULE__, :loop, [%{connection | idle?: true}])

  defp handle(%{tag: tag} = connection, {tag, event}), do: event(connection, event)

  defp handle(%{parent: parent} = connection, {:EXIT, parent, reason}),
    do: parent_ended(connection, reason)

  defp handle(%{parent: parent} = connection, {:system, from, request}) do
    :sys.handle_system_msg(request, from, parent, __MODULE__, connection.debug, connection)
  end

  defp handle(connection, {:plug_conn, :sent}), do: __MODULE__.loop(connection)

  # A message that a request has left over.
  defp handle(%{session: nil} = connection, _message), do: __MODULE__.loop(connection)

  defp handle(connection, message),
    do: connection.session |> Session.info(message) |> next(connection)

  # Without a session, an event says that there is a request, or that the connection has ended.
  defp event(%{session: nil} = connection, _event), do: ask(connection)

  defp event(%{session: session} = connection, {:paused, batches}) do
    Native.socket_resume(session.socket, batches)
    __MODULE__.loop(connection)
  end

  defp event(%{idle?: true} = connection, events),
    do: event(%{connection | idle?: false}, events)

  defp event(%{session: session} = connection, events) when is_list(events),
    do: session |> Session.events(events) |> next(connection)

  # It was sent before the last event, and the process is about to end.
  defp event(connection, :idle), do: __MODULE__.loop(connection)

  # The engine is asked, although it also tells: the Plug may have received the message that told.
  defp ask(connection) do
    case Native.take(connection.tag) do
      {:request, exchange, request} -> serve(connection, exchange, request)
      :none -> __MODULE__.loop(connection)
      :closed -> exit(:normal)
    end
  end

  defp serve(connection, exchange, request) do
    case Pipeline.run(connection.options, exchange, request) do
      # A stream has one request.
      :ok when elem(request, 5) == :"HTTP/2" ->
        exit(:normal)

      :ok ->
        remove_left_over(connection)
        connection |> with_parent() |> ask()

      # The reason is not `:normal`, so that processes which the Plug has linked end, too.
      :close ->
        exit({:shutdown, :closed})

      {:upgrade, socket, upgrade} ->
        start_session(connection, socket, upgrade, elem(request, 7))
    end
  end

  defp remove_left_over(%{tag: tag, parent: parent, options: options}),
    do: LeftOver.remove(tag, parent, options.http_1_options.clear_process_dict)

  # A parent that has failed may have left no message about it: the Plug may have received that.
  defp with_parent(%{parent: parent} = connection),
    do: if(Process.alive?(parent), do: connection, else: inherited(connection))

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

    LeftOver.remove_disconnects()
    Label.serves(websock)

    # The order matters: either a drain finds the WebSocket, or the WebSocket finds the drain.
    Process.put(@websocket, true)
    close_code = Draining.close_code(connection.options.draining)

    run_session(
      %{connection | options: nil},
      session,
      upgrade.argument,
      upgrade.settings.flags,
      close_code
    )
  end

  # This is a function of its own because in it the conn and its exchange are out of reach: the collector frees
  # them, and they do not count for a `max_heap_size`.
  defp run_session(connection, session, argument, flags, close_code) do
    :erlang.garbage_collect()
    Enum.each(flags, fn {flag, value} -> Process.flag(flag, value) end)
    session |> Session.init(argument) |> unless_draining(close_code) |> next(connection)
  end

  defp unless_draining({:ok, session}, code) when code != nil,
    do: {:stop, Ending.shutdown({:shutdown, {:drain, code}}), session}

  defp unless_draining(outcome, _code), do: outcome

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

  defp parent_ended(connection, :shutdown), do: stop(connection, :shutdown)
  defp parent_ended(connection, {:shutdown, _} = reason), do: stop(connection, reason)

  defp parent_ended(%{parent: heir, heir: heir} = connection, reason),
    do: stop(connection, reason)

  defp parent_ended(connection, _reason), do: connection |> inherited() |> __MODULE__.loop()

  # If the heir has ended, too, the link brings an exit signal that says so.
  defp inherited(%{heir: heir} = connection) do
    Process.link(heir)
    %{connection | parent: heir}
  end

  defp stop(%{session: nil}, _reason), do: exit(:shutdown)

  defp stop(connection, reason),
    do: next({:stop, Ending.shutdown(reason), connection.session}, connection)

  defp plug_name(%{display_plug: nil, plug: {module, _options}}), do: module
  defp plug_name(%{display_plug: nil, plug: plug}), do: plug
  defp plug_name(%{display_plug: plug}), do: plug
end
