defmodule Ferrosock.WebSocket.FlatSerializer do
  @moduledoc false
  # Phoenix encodes a message as iodata: a list of many small parts, which the VM copies for each process that it
  # is sent to, and each of which then joins it. As one binary it is joined once, and all receivers of a broadcast
  # share it. It pays from the smallest message on: one of up to 64 bytes is copied, but its parts would be, too.
  #
  # So a socket of Phoenix's with a serializer of Phoenix's own gets the one that wraps it here. There is one for
  # each, because a broadcast is encoded once for each serializer. Serializers of the app, and what Phoenix gives
  # as one binary already, stay as they are.
  #
  # Phoenix need not be there, nor be compiled before, so its modules are only named, and its behaviour is not.

  alias Ferrosock.WebSocket.FlatSerializer

  @serializers %{
    Phoenix.Socket.V1.JSONSerializer => __MODULE__.V1,
    Phoenix.Socket.V2.JSONSerializer => __MODULE__.V2
  }

  @doc "The state that a WebSocket begins with, flat where that is a socket of Phoenix's."
  @spec flatten(state :: term()) :: term()
  def flatten({channels, %{__struct__: Phoenix.Socket, serializer: serializer} = socket})
      when is_map_key(@serializers, serializer),
      do: {channels, %{socket | serializer: Map.fetch!(@serializers, serializer)}}

  def flatten(state), do: state

  @doc "What a serializer has encoded, with the data as one binary."
  @spec joined({:socket_push, :text | :binary, iodata()}) ::
          {:socket_push, :text | :binary, binary()}
  def joined({:socket_push, opcode, data}) when is_list(data),
    do: {:socket_push, opcode, IO.iodata_to_binary(data)}

  def joined(encoded), do: encoded

  for {serializer, wrapper} <- @serializers do
    defmodule wrapper do
      @moduledoc false

      @compile {:no_warn_undefined, serializer}

      defdelegate decode!(message, options), to: serializer

      def fastlane!(broadcast),
        do: broadcast |> unquote(serializer).fastlane!() |> FlatSerializer.joined()

      def encode!(message),
        do: message |> unquote(serializer).encode!() |> FlatSerializer.joined()
    end
  end
end
