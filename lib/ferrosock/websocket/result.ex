defmodule Ferrosock.WebSocket.Result do
  @moduledoc false
  # Reads what a callback of a `WebSock` returned; no other module knows the shapes that it may have. Sending
  # the messages is the session's concern.

  import Ferrosock.CloseCode, only: [is_close_code: 1]

  alias Ferrosock.Native
  alias Ferrosock.WebSocket.Ending

  @type t ::
          {:ok, state :: term(), [Native.message()]}
          | {:stop, state :: term(), [Native.message()], Ending.t()}

  @data [:text, :binary]
  @control [:ping, :pong]

  # Bytes that the payload of a control frame may have (RFC6455§5.5).
  @max_control 125
  @max_close_reason 123

  @doc "Reads a result. An error explains what is wrong with it."
  @spec read(term()) :: t() | {:error, explanation :: String.t()}
  def read({:ok, state}), do: {:ok, state, []}
  def read({:push, messages, state}), do: continue(messages, state)
  def read({:reply, _term, messages, state}), do: continue(messages, state)
  def read({:stop, reason, state}), do: {:stop, state, [], Ending.stop(reason, nil)}
  def read({:stop, reason, detail, state}), do: stop(reason, detail, [], state)
  def read({:stop, reason, detail, messages, state}), do: stop(reason, detail, messages, state)

  def read(_other) do
    {:error,
     "expected {:ok, state}, {:push, messages, state}, {:reply, term, messages, state}, " <>
       "{:stop, reason, state}, {:stop, reason, close_detail, state} or " <>
       "{:stop, reason, close_detail, messages, state}"}
  end

  @doc "The bytes of a message's payload."
  @spec size(Native.message()) :: non_neg_integer()
  def size({_opcode, nil}), do: 0
  def size({_opcode, data}) when is_binary(data), do: byte_size(data)
  def size({_opcode, data}), do: IO.iodata_length(data)

  defp continue(messages, state) do
    with {:ok, messages} <- checked(messages), do: {:ok, state, messages}
  end

  defp stop(reason, detail, messages, state) do
    with {:ok, messages} <- checked(messages),
         {:ok, close} <- close(detail),
         do: {:stop, state, messages, Ending.stop(reason, close)}
  end

  defp checked(messages) do
    messages = listed(messages)

    case check(messages) do
      :ok -> {:ok, messages}
      :bare -> {:ok, Enum.map(messages, &whole/1)}
      {:error, explanation} -> {:error, explanation}
    end
  end

  defp whole(opcode) when is_atom(opcode), do: {opcode, nil}
  defp whole(message), do: message

  defp listed(messages) when is_list(messages), do: messages
  defp listed(message), do: [message]

  # `:bare` says that one of the messages is a ping or pong without its tuple, which Cowboy accepts, too.
  defp check([]), do: :ok

  defp check([opcode | rest]) when opcode in @control do
    with :ok <- check(rest), do: :bare
  end

  defp check([message | rest]) do
    with :ok <- check_message(message), do: check(rest)
  end

  defp check(_improper), do: {:error, "its messages are not a proper list"}

  defp check_message({opcode, data}) when opcode in @data and (is_binary(data) or data == nil),
    do: :ok

  defp check_message({opcode, _data} = message) when opcode in @data or opcode in @control do
    check_size(opcode, size(message))
  rescue
    ArgumentError -> {:error, "#{inspect(message)} has a payload that is not iodata"}
  end

  defp check_message(message) do
    {:error,
     "#{inspect(message)} is not a message: that is {opcode, iodata | nil} with the opcode " <>
       ":text, :binary, :ping or :pong" <> hint(message)}
  end

  # Apps that come from Cowboy close a WebSocket with such a message.
  defp hint(message)
       when message == :close or (is_tuple(message) and elem(message, 0) == :close),
       do: "; a WebSocket is closed by {:stop, :normal, code, state}"

  defp hint(_message), do: ""

  defp check_size(opcode, size) when opcode in @control and size > @max_control do
    {:error,
     "the payload of its #{opcode} has #{size} bytes, but at most #{@max_control} are allowed " <>
       "(RFC6455§5.5)"}
  end

  defp check_size(_opcode, _size), do: :ok

  defp close({code, reason}) do
    with {:ok, code} <- close_code(code), do: close_reason(code, reason || "")
  end

  defp close(code), do: close({code, nil})

  defp close_code(code) when is_close_code(code), do: {:ok, code}

  defp close_code(code),
    do: {:error, "the close code #{inspect(code)} must not be sent (RFC6455§7.4)"}

  defp close_reason(code, reason) do
    reason = IO.iodata_to_binary(reason)

    cond do
      byte_size(reason) > @max_close_reason ->
        {:error,
         "the close reason has #{byte_size(reason)} bytes, but at most #{@max_close_reason} " <>
           "are allowed (RFC6455§5.5)"}

      not String.valid?(reason) ->
        {:error, "the close reason is not valid UTF-8 (RFC6455§5.5.1)"}

      true ->
        {:ok, {code, reason}}
    end
  rescue
    ArgumentError -> {:error, "the close reason #{inspect(reason)} is not iodata"}
  end
end
