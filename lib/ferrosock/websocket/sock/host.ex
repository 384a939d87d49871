defmodule Ferrosock.WebSocket.Sock.Host do
  @moduledoc false
  # Lets a session run a `Sock` in place of a `WebSock`: which callback of the one stands for which of the
  # other, and what the results mean. When callbacks run is the session's concern; how a request becomes a
  # session is that of `Ferrosock.WebSocket.Sock.Plug`.

  alias Ferrosock.ResultError
  alias Ferrosock.WebSocket.{Ending, Result}
  alias Ferrosock.WebSocket.Sock.Socket

  @doc "Runs what stands for a callback of `WebSock`, whose arguments end with the state."
  @spec call(sock :: module(), Socket.t(), callback :: atom(), arguments :: [term()]) ::
          Result.t()
  def call(sock, socket, :init, [state]), do: run(sock, :handle_connection, [socket, state])

  def call(sock, socket, :handle_in, [{data, opcode: :text}, state]),
    do: run(sock, :handle_text_frame, [data, socket, state])

  def call(sock, socket, :handle_in, [{data, opcode: :binary}, state]),
    do: run(sock, :handle_binary_frame, [data, socket, state])

  def call(sock, socket, :handle_control, [{data, opcode: :ping}, state]),
    do: run(sock, :handle_ping_frame, [data, socket, state])

  def call(sock, socket, :handle_control, [{data, opcode: :pong}, state]),
    do: run(sock, :handle_pong_frame, [data, socket, state])

  def call(sock, socket, :handle_info, [message, state]) do
    # A module that was written to Sock 0.2.0 has no such callback.
    if function_exported?(sock, :handle_info, 3),
      do: run(sock, :handle_info, [message, socket, state]),
      else: {:ok, state, []}
  end

  @doc "Runs the last callback: the one that is told of such an ending."
  @spec terminate(module(), Socket.t(), state, Ending.t(), close_info) :: any()
        when state: term(), close_info: {1000..4999, binary()} | nil
  def terminate(sock, socket, state, ending, close_info) do
    case ending.terminate do
      :remote -> sock.handle_close({:remote, elem(close_info, 0)}, socket, state)
      :timeout -> sock.handle_timeout(socket, state)
      {:error, reason} -> sock.handle_error(reason, socket, state)
      _normal_or_shutdown -> sock.handle_close({:local, elem(ending.close, 0)}, socket, state)
    end
  end

  defp run(sock, callback, arguments) do
    result = apply(sock, callback, arguments)

    case read(result) do
      {:error, explanation} ->
        raise ResultError.new(sock, callback, length(arguments), result, explanation)

      result ->
        unless_slow(result)
    end
  end

  defp read({:continue, state}), do: {:ok, state, []}
  defp read({:close, state}), do: {:stop, state, [], Ending.stop(:normal, nil)}

  # This is an error whatever the reason, even one with which a `WebSock` would close normally.
  defp read({:error, reason, state}),
    do: {:stop, state, [], %{Ending.stop(reason, {1011, ""}) | terminate: {:error, reason}}}

  defp read(_other),
    do: {:error, "expected {:continue, state}, {:close, state} or {:error, reason, state}"}

  # Whatever the callback decided, its client can no longer be told.
  defp unless_slow(result) do
    if Socket.slow_client?(),
      do: {:stop, elem(result, 1), [], Ending.slow_client()},
      else: result
  end
end
