# The same guard as of `Sock`.
if match?({:error, _}, :code.lib_dir(:sock)) do
  defprotocol Sock.Socket do
    @moduledoc """
    What a `Sock` sends with. The callbacks are given a value that implements it; it is valid for as
    long as the WebSocket lives.

    Each function sends at once, before it returns. While the client is slow to read it waits, and
    once the WebSocket has ended it drops what it is given; it returns `:ok` in any case.
    """

    @doc "Sends a text message."
    @spec send_text_frame(t(), binary()) :: :ok
    def send_text_frame(socket, data)

    @doc "Sends a binary message."
    @spec send_binary_frame(t(), binary()) :: :ok
    def send_binary_frame(socket, data)

    @doc "Sends a ping, whose payload has at most 125 bytes (RFC6455§5.5)."
    @spec send_ping_frame(t(), binary()) :: :ok
    def send_ping_frame(socket, data)

    @doc """
    Sends a pong that answers nothing: a heartbeat in one direction (RFC6455§5.5.3). The server answers
    pings by itself. The payload has at most 125 bytes.
    """
    @spec send_pong_frame(t(), binary()) :: :ok
    def send_pong_frame(socket, data)
  end
end
