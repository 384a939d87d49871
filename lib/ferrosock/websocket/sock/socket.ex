defmodule Ferrosock.WebSocket.Sock.Socket do
  @moduledoc false
  # The value that a `Sock` sends with. It sends at once and gathers nothing, because a callback may wait for
  # the answer to what it sent. Which callback runs is the host's concern.

  alias Ferrosock.{Backpressure, Native}

  @slow_client {__MODULE__, :slow_client}

  # Bytes that the payload of a control frame may have (RFC6455§5.5).
  @max_control 125

  @enforce_keys [:handle, :owner, :send_timeout]
  defstruct @enforce_keys

  @type t :: %__MODULE__{handle: Native.socket(), owner: pid(), send_timeout: timeout()}

  @doc "Sends one message, and waits while the client is slow."
  @spec push(t(), :text | :binary | :ping | :pong, iodata()) :: :ok
  def push(socket, opcode, data) do
    data = IO.iodata_to_binary(data)
    check!(opcode, byte_size(data))

    case Native.socket_send(socket.handle, [{opcode, data}]) do
      :full -> await(socket)
      # With `:ended` and `:closed`, the end is already on its way to the owner.
      _other -> :ok
    end
  end

  @doc "Whether a push of this process found the client too slow."
  @spec slow_client?() :: boolean()
  def slow_client?, do: Process.get(@slow_client, false)

  defp check!(opcode, size) when opcode in [:ping, :pong] and size > @max_control do
    raise ArgumentError,
          "the payload of a #{opcode} has #{size} bytes, but at most #{@max_control} are allowed " <>
            "(RFC6455§5.5)"
  end

  defp check!(_opcode, _size), do: :ok

  defp await(socket) do
    case Backpressure.await(&Native.socket_await(socket.handle, &1), socket.send_timeout) do
      {:timeout, ref} -> give_up(socket, ref)
      _ok_or_closed -> :ok
    end
  end

  # A push always returns `:ok`, so the callback that pushed goes on, and what it still pushes is dropped. The
  # owner ends when its callback has returned. If another process pushed, the owner hears of a lost
  # connection.
  defp give_up(socket, ref) do
    if self() == socket.owner, do: Process.put(@slow_client, true)
    Native.socket_abort(socket.handle)

    # The reset answers the wait, and the answer must not stay in the mailbox.
    receive do
      {^ref, _answer} -> :ok
    end
  end

  defimpl Sock.Socket do
    alias Ferrosock.WebSocket.Sock.Socket

    def send_text_frame(socket, data), do: Socket.push(socket, :text, data)
    def send_binary_frame(socket, data), do: Socket.push(socket, :binary, data)
    def send_ping_frame(socket, data), do: Socket.push(socket, :ping, data)
    def send_pong_frame(socket, data), do: Socket.push(socket, :pong, data)
  end
end
