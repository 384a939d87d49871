defmodule Ferrosock.Connection do
  @moduledoc false
  # The process of one connection, and the only receiver of its events: serves its requests one
  # after the other, and goes on as the owner of its WebSocket once one of them upgraded, so that
  # `self()`, links, the process dictionary and Logger metadata of the Plug stay valid. What a
  # request or an event means is the concern of the pipeline and of the session.
  #
  # A special process (`:proc_lib`, `:sys`) and not a GenServer, because it must receive selectively
  # while a Plug runs and hand every unknown message to the app.

  alias Ferrosock.{Drain, Ending, Label, Native, Options, Pipeline, Session}

  @enforce_keys [:parent, :tag, :options, :hibernate_after]
  defstruct @enforce_keys ++ [:session, idle?: false]

  @type t :: %__MODULE__{
          parent: pid(),
          tag: Native.tag(),
          # `nil` once upgraded: a WebSocket holds only what it needs.
          options: Options.t() | nil,
          hibernate_after: timeout(),
          session: Session.t() | nil,
          # The engine has said that nothing is sent, and nothing has come since.
          idle?: boolean()
        }

  # What the process dictionary holds on behalf of the VM and of Logger's crash reports.
  @kept_keys [:"$ancestors", :"$initial_call", :"$process_label"]

  @uploads Plug.Upload.Path

  @websocket {__MODULE__, :websocket}

  # Ours: an event, or a message that only a special process may handle.
  defguardp is_ours(message, tag, parent)
            when is_tuple(message) and
                   ((tuple_size(message) == 2 and elem(message, 0) == tag) or
                      (tuple_size(message) == 3 and elem(message, 0) == :EXIT and
                         elem(message, 1) == parent) or
                      (tuple_size(message) == 3 and elem(message, 0) == :system))

  @doc """
  Starts the process of a connection, linked to the caller, with its first request. An exit signal from
  the caller closes a WebSocket: one with the reason `{:shutdown, {:drain, code}}` with that code. While
  the server drains, the caller is sent `{:upgraded, pid}` when the connection has become one.
  """
  @spec start_link(Options.t(), Native.tag(), Native.exchange(), Native.request()) :: pid()
  def start_link(options, tag, exchange, request),
    do: :proc_lib.spawn_link(__MODULE__, :init, [self(), options, tag, exchange, request])

  @doc "Whether the connection has become a WebSocket."
  @spec websocket?(pid()) :: boolean()
  def websocket?(pid) do
    case Process.info(pid, :dictionary) do
      {:dictionary, dictionary} -> List.keymember?(dictionary, @websocket, 0)
      nil -> false
    end
  end

  @doc false
  def init(parent, options, tag, exchange, request) do
    # So that the end of a process that the app linked reaches the app, and the server's own end
    # does not cut off a request.
    Process.flag(:trap_exit, true)
    Label.set(plug_label(options.plug))

    connection = %__MODULE__{
      parent: parent,
      tag: tag,
      options: options,
      hibernate_after: options.hibernate_after
    }

    case Native.attach(tag) do
      :ok -> serve(connection, exchange, request)
      :gone -> :ok
    end
  end

  @doc false
  @spec loop(t()) :: no_return()
  def loop(%__MODULE__{tag: tag, parent: parent} = connection) do
    receive do
      {^tag, :idle} ->
        :proc_lib.hibernate(__MODULE__, :loop, [%{connection | idle?: true}])

      {^tag, event} ->
        event(connection, event)

      {:EXIT, ^parent, reason} ->
        stop(connection, reason)

      {:system, from, request} ->
        :sys.handle_system_msg(request, from, parent, __MODULE__, [], connection)

      message ->
        message(connection, message)
    after
      patience(connection) -> :proc_lib.hibernate(__MODULE__, :loop, [connection])
    end
  end

  # The engine says when nothing has been sent for `hibernate_after`, which spares a WebSocket a timer
  # per message. But it says so once: messages of the app may wake the process and send nothing.
  defp patience(%{session: session, idle?: false}) when session != nil, do: :infinity
  defp patience(connection), do: connection.hibernate_after

  @doc false
  def system_continue(_parent, _debug, connection), do: loop(connection)

  @doc false
  def system_terminate(reason, _parent, _debug, connection), do: stop(connection, reason)

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

  defp serve(connection, exchange, request) do
    peer = elem(request, 7)

    case Pipeline.run(connection.options, exchange, request) do
      # A stream has one request.
      :ok when elem(request, 5) == :"HTTP/2" ->
        exit(:normal)

      :ok ->
        forget(connection)
        loop(connection)

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
      log_limiter: connection.options.log_limiter
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

  defp event(%{session: nil} = connection, {:request, exchange, request}),
    do: serve(connection, exchange, request)

  defp event(%{session: nil}, :closed), do: exit(:normal)

  defp event(%{idle?: true} = connection, events),
    do: event(%{connection | idle?: false}, events)

  defp event(%{session: session} = connection, events) when is_list(events),
    do: session |> Session.events(events) |> next(connection)

  defp message(connection, {:plug_conn, :sent}), do: loop(connection)
  defp message(%{session: nil} = connection, _left_over), do: loop(connection)

  defp message(connection, message),
    do: connection.session |> Session.info(message) |> next(connection)

  defp next({:ok, session}, connection), do: loop(%{connection | session: session})

  defp next({:stop, ending, session}, _connection) do
    {kind, reason, stacktrace} = Session.finish(session, ending)
    :erlang.raise(kind, reason, stacktrace)
  end

  defp stop(%{session: nil}, _reason), do: exit(:shutdown)

  defp stop(connection, reason),
    do: next({:stop, Ending.shutdown(reason), connection.session}, connection)

  defp plug_label({module, _options}), do: {Ferrosock, module}
  defp plug_label(plug), do: {Ferrosock, plug}
end
