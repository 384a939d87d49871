defmodule Ferrosock.WebSocket.Session do
  @moduledoc false
  # One WebSocket: runs its callbacks and applies their results. It decides and sends. Receiving is the
  # concern of the connection's process, except for the wait for a slow client.
  #
  # What callbacks push is gathered, so that a batch of events costs one call and one write. The state is
  # committed after each callback: `terminate/2` sees the state before a callback that failed.

  alias Ferrosock.{Address, Backpressure, Log, Native, ResultError, Trace}
  alias Ferrosock.WebSocket.{Ending, Result, Upgrade}
  alias Ferrosock.WebSocket.Sock.{Host, Socket}

  # Bytes. When more is gathered, it is sent before the batch has ended.
  @gather_limit 65_536

  # What a message counts for in `@gather_limit` besides its payload, so that many small ones count, too.
  @message_cost 64

  @close_info {__MODULE__, :close_info}

  @enforce_keys [:websock, :socket, :peer, :send_timeout, :log_limiter]
  defstruct @enforce_keys ++
              [:state, kind: :websocket, pushes: [], gathered: 0, ended?: false, debug: []]

  @type t :: %__MODULE__{
          websock: module(),
          # Whether `websock` is a `WebSock` or a `Sock`.
          kind: Upgrade.kind(),
          socket: Native.socket(),
          peer: Address.t(),
          send_timeout: timeout(),
          log_limiter: Log.limiter(),
          state: term(),
          # What waits to be sent, newest first.
          pushes: [Native.message()],
          # What `pushes` counts for in `@gather_limit`.
          gathered: non_neg_integer(),
          # The engine has said that there is a last event.
          ended?: boolean(),
          # The debug options that `:sys` has set on the process.
          debug: [:sys.dbg_opt()]
        }

  @type outcome :: {:ok, t()} | {:stop, Ending.t(), t()}

  @doc "Runs `init/1`."
  @spec init(t(), argument :: term()) :: outcome()
  # A `Sock` has had its state since the negotiation.
  def init(%{kind: :sock} = session, state) do
    with {:ok, session} <- call(%{session | state: state}, :init, [state]),
         do: acknowledge(session)
  end

  def init(session, argument) do
    case call(session, :init, [argument]) do
      # There is no state yet that `terminate/2` could be given.
      {:stop, %Ending{crash?: true} = ending, session} ->
        {:stop, %{ending | terminate: nil}, session}

      {:stop, ending, session} ->
        {:stop, ending, session}

      # From here on the engine counts how long the client is silent.
      {:ok, session} ->
        acknowledge(session)
    end
  end

  @doc "Runs `handle_info/2`."
  @spec info(t(), message :: term()) :: outcome()
  def info(session, message) do
    # The engine is called even if there is nothing to send: the callback may have received the message with
    # the last event, and only the answer to this call says so.
    with {:ok, session} <- call(session, :handle_info, [message, session.state]),
         do: deliver(session, &Native.socket_send/2)
  end

  @doc "Handles a batch of events, and answers it."
  @spec events(t(), [Native.event()]) :: outcome()
  def events(session, [event | rest]) do
    with {:ok, session} <- event(session, event), do: events(session, rest)
  end

  # The engine waits for the answer, even if there is nothing to send.
  def events(session, []), do: acknowledge(session)

  @doc """
  Carries out an ending: pushes, close frame, `terminate/2`. Tells how the process must exit. The last
  callback of a `Sock` comes before the close frame, because it may still send.
  """
  @spec finish(t(), Ending.t()) :: Log.failure()
  def finish(session, ending) do
    if session.pushes != [], do: Native.socket_send(session.socket, Enum.reverse(session.pushes))
    log_fault(session, ending)
    exit = close_and_terminate(session, ending)
    log_exit(session.websock, exit)
    exit
  end

  @doc "See `Ferrosock.close_info/0`."
  @spec close_info() :: {1000..4999, binary()} | nil
  def close_info, do: Process.get(@close_info)

  defp event(session, {opcode, data}) when opcode in [:text, :binary],
    do: call(session, :handle_in, [{data, opcode: opcode}, session.state])

  defp event(session, {opcode, data}) when opcode in [:ping, :pong],
    do: call(session, :handle_control, [{data, opcode: opcode}, session.state])

  defp event(session, {:close, code, reason} = event) do
    # RFC6455§7.1.5: 1005 stands for a close frame without a code.
    Process.put(@close_info, {code || 1005, reason})
    {:stop, Ending.event(event), session}
  end

  defp event(session, event), do: {:stop, Ending.event(event), session}

  defp call(session, callback, arguments) do
    case run(session, callback, arguments) do
      {:ok, state, messages} ->
        gather(%{session | state: state}, messages)

      {:stop, state, messages, ending} ->
        with {:ok, session} <- gather(%{session | state: state}, messages),
             do: {:stop, ending, session}

      {:crash, ending} ->
        {:stop, ending, session}
    end
  end

  defp run(session, callback, arguments) do
    if session.kind == :sock,
      do: Host.call(session.websock, sock_socket(session), callback, arguments),
      else: apply_websock(session.websock, callback, arguments)
  catch
    kind, reason -> {:crash, Ending.crash(kind, reason, __STACKTRACE__)}
  end

  defp apply_websock(websock, callback, arguments) do
    result = apply(websock, callback, arguments)

    with {:error, explanation} <- Result.read(result),
         do: raise(ResultError.new(websock, callback, length(arguments), result, explanation))
  end

  defp sock_socket(session),
    do: %Socket{handle: session.socket, owner: self(), send_timeout: session.send_timeout}

  defp gather(session, []), do: {:ok, session}

  defp gather(session, [message | rest]) do
    with {:ok, session} <- session |> traced(message) |> add(message, Result.size(message)),
         do: gather(session, rest)
  end

  defp traced(%{debug: []} = session, _message), do: session

  defp traced(session, message) do
    event = {:out, message, session.socket}
    %{session | debug: Trace.event(session.debug, session.websock, event)}
  end

  defp add(session, message, size) do
    gathered = session.gathered + size + @message_cost
    session = %{session | pushes: [joined(message, size) | session.pushes], gathered: gathered}

    if gathered > @gather_limit,
      do: deliver(session, &Native.socket_send/2),
      else: {:ok, session}
  end

  # The VM joins a long list in slices of time, which the engine could not do.
  defp joined({opcode, data}, size) when size > @gather_limit,
    do: {opcode, IO.iodata_to_binary(data)}

  defp joined(message, _size), do: message

  defp acknowledge(session), do: deliver(session, &Native.socket_ack/2)

  defp deliver(session, send) do
    case send.(session.socket, Enum.reverse(session.pushes)) do
      :ok -> {:ok, %{session | pushes: [], gathered: 0}}
      :full -> await(%{session | pushes: [], gathered: 0})
      _ended_or_closed -> {:ok, %{session | pushes: [], gathered: 0, ended?: true}}
    end
  end

  defp await(session) do
    case Backpressure.await(&Native.socket_await(session.socket, &1), session.send_timeout) do
      :ok -> {:ok, session}
      :closed -> {:ok, %{session | ended?: true}}
      {:timeout, _ref} -> {:stop, Ending.slow_client(), session}
    end
  end

  defp log_fault(_session, %{fault: nil}), do: :ok

  defp log_fault(session, %{fault: fault, close: {code, _reason}}),
    do: Log.websocket_error(session.log_limiter, session.peer, session.websock, {fault, code})

  defp close_and_terminate(%{kind: :sock} = session, ending) do
    case terminate(session, ending) do
      :ok ->
        close(session.socket, ending.close)
        ending.exit

      failure ->
        close(session.socket, {1011, ""})
        failure
    end
  end

  defp close_and_terminate(session, ending) do
    close(session.socket, ending.close)
    with :ok <- terminate(session, ending), do: ending.exit
  end

  defp close(_socket, nil), do: :ok
  defp close(socket, {code, reason}), do: Native.socket_close(socket, code, reason)

  defp terminate(_session, %{terminate: nil}), do: :ok

  defp terminate(%{websock: websock, state: state} = session, ending) do
    if session.kind == :sock,
      do: Host.terminate(websock, sock_socket(session), state, ending, close_info()),
      else: terminate_websock(websock, state, ending.terminate)

    :ok
  catch
    kind, reason -> {kind, reason, __STACKTRACE__}
  end

  defp terminate_websock(websock, state, reason) do
    if function_exported?(websock, :terminate, 2), do: websock.terminate(reason, state)
  end

  defp log_exit(_websock, {:exit, reason, _stacktrace}) when reason in [:normal, :shutdown],
    do: :ok

  defp log_exit(_websock, {:exit, {:shutdown, _reason}, _stacktrace}), do: :ok
  defp log_exit(websock, exit), do: Log.websocket_crash(websock, exit)
end
