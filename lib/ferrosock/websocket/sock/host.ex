defmodule Ferrosock.WebSocket.Sock.Host do
  @moduledoc false
  # What makes a session's handler a `Sock` where it would be a `WebSock`: which callback stands for
  # which, and what its results mean. When callbacks run is the session's concern, what leads to a
  # session that of `Ferrosock.WebSocket.Sock.Plug`.

  alias Ferrosock.ResultError
  alias Ferrosock.WebSocket.{Ending, Result, Session}
  alias Ferrosock.WebSocket.Sock.Socket

  @doc "Runs what stands for a callback of `WebSock`, with that one's arguments."
  @spec call(Session.t(), callback :: atom(), arguments :: [term()]) :: Result.t()
  def call(session, :init, [state]), do: run(session, :handle_connection, [], state)

  def call(session, :handle_in, [{data, opcode: :text}, state]),
    do: run(session, :handle_text_frame, [data], state)

  def call(session, :handle_in, [{data, opcode: :binary}, state]),
    do: run(session, :handle_binary_frame, [data], state)

  def call(session, :handle_control, [{data, opcode: :ping}, state]),
    do: run(session, :handle_ping_frame, [data], state)

  def call(session, :handle_control, [{data, opcode: :pong}, state]),
    do: run(session, :handle_pong_frame, [data], state)

  def call(session, :handle_info, [message, state]) do
    # It came with Sock 0.2.1.
    if function_exported?(session.websock, :handle_info, 3),
      do: run(session, :handle_info, [message], state),
      else: {:ok, state, []}
  end

  @doc "Runs the last callback: the one that is told of such an ending."
  @spec terminate(Session.t(), Ending.t()) :: any()
  def terminate(%{websock: sock, state: state} = session, ending) do
    socket = socket(session)

    case ending.terminate do
      :remote -> sock.handle_close({:remote, code(Session.close_info())}, socket, state)
      :timeout -> sock.handle_timeout(socket, state)
      {:error, reason} -> sock.handle_error(reason, socket, state)
      _normal_or_shutdown -> sock.handle_close({:local, code(ending.close)}, socket, state)
    end
  end

  defp run(session, callback, arguments, state) do
    arguments = arguments ++ [socket(session), state]
    result = apply(session.websock, callback, arguments)

    case read(result) do
      {:error, explanation} ->
        raise ResultError,
          websock: session.websock,
          callback: callback,
          arity: length(arguments),
          result: result,
          explanation: explanation

      result ->
        unless_slow(result)
    end
  end

  defp code({code, _reason}), do: code

  defp socket(session),
    do: %Socket{handle: session.socket, owner: self(), send_timeout: session.send_timeout}

  defp read({:continue, state}), do: {:ok, state, []}
  defp read({:close, state}), do: {:stop, state, [], Ending.stop(:normal, nil)}

  # An error whatever the reason, also where a `WebSock` would close in good order with it.
  defp read({:error, reason, state}),
    do: {:stop, state, [], %{Ending.stop(reason, {1011, ""}) | terminate: {:error, reason}}}

  defp read(_other),
    do: {:error, "expected {:continue, state}, {:close, state} or {:error, reason, state}"}

  # Whatever the callback decided then, the client cannot be told.
  defp unless_slow(result) do
    if Socket.slow_client?(),
      do: {:stop, elem(result, 1), [], Ending.slow_client()},
      else: result
  end
end
