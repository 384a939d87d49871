# An app that has the `sock` package keeps its `Sock`, for the reasons that `lib/websock.ex` has.
package? = not match?({:error, _}, :code.lib_dir(:sock))

defmodule Ferrosock.SockPackage do
  @moduledoc false
  # Has Mix compile this file again when the package comes or goes, as `Ferrosock.WebSockPackage` does.
  def __mix_recompile__?,
    do: unquote(package?) == match?({:error, _}, :code.lib_dir(:sock))
end

if not package? do
  defmodule Sock do
    @moduledoc """
    The predecessor of `WebSock`, for applications that were written to it. New ones use `WebSock`.

    A Sock is served by a Plug that calls `Ferrosock.sock/3`, or as a whole server by the option
    `:sock` of `Ferrosock`. The server checks that a request is a valid handshake and asks
    `c:negotiate/2` whether it may become a WebSocket. Then the same process calls
    `c:handle_connection/2`, a callback for each thing that happens, and at the end exactly one of
    `c:handle_close/3`, `c:handle_error/3` and `c:handle_timeout/2`. One callback runs at a time.

        defmodule MyApp.Legacy do
          @behaviour Sock

          alias Sock.Socket

          @impl true
          def init(greeting), do: %{greeting: greeting}

          @impl true
          def negotiate(conn, state) do
            if Plug.Conn.get_req_header(conn, "origin") == ["https://example.com"],
              do: {:accept, conn, state, timeout: 30_000},
              else: {:refuse, Plug.Conn.resp(conn, 403, "Unknown origin"), state}
          end

          @impl true
          def handle_connection(socket, state) do
            Socket.send_text_frame(socket, state.greeting)
            {:continue, state}
          end

          @impl true
          def handle_text_frame("bye", _socket, state), do: {:close, state}

          def handle_text_frame(text, socket, state) do
            Socket.send_text_frame(socket, text)
            {:continue, state}
          end

          @impl true
          def handle_binary_frame(data, socket, state) do
            Socket.send_binary_frame(socket, data)
            {:continue, state}
          end

          @impl true
          def handle_ping_frame(_data, _socket, state), do: {:continue, state}

          @impl true
          def handle_pong_frame(_data, _socket, state), do: {:continue, state}

          @impl true
          def handle_info(_message, _socket, state), do: {:continue, state}

          @impl true
          def handle_close(_reason, _socket, _state), do: :ok

          @impl true
          def handle_error(_reason, _socket, _state), do: :ok

          @impl true
          def handle_timeout(_socket, _state), do: :ok
        end

        Supervisor.start_link([{Ferrosock, sock: {MyApp.Legacy, "Welcome"}, port: 4000}],
          strategy: :one_for_one
        )
    """

    @typedoc "What callbacks are given, and return changed"
    @type state :: term()

    @typedoc "The client's silence, in ms, after which the WebSocket ends"
    @type negotiate_opts :: {:timeout, timeout()}

    @typedoc "The answer to a handshake; the accept without options is that of Sock 0.2.0 and 0.2.1"
    @type negotiate_result ::
            {:accept, Plug.Conn.t(), state(), [negotiate_opts()]}
            | {:accept, Plug.Conn.t(), state()}
            | {:refuse, Plug.Conn.t(), state()}

    @typedoc """
    What callbacks return.

      * `{:continue, state}` - goes on
      * `{:close, state}` - closes with 1000. `c:handle_close/3` gets `{:local, 1000}`
      * `{:error, reason, state}` - closes with 1011. `c:handle_error/3` gets the reason
    """
    @type handle_result :: {:continue, state()} | {:close, state()} | {:error, term(), state()}

    @typedoc "The code of a close frame"
    @type status_code :: non_neg_integer()

    @typedoc "Which side closes, and its code"
    @type close_reason :: {:local, status_code()} | {:remote, status_code()}

    @doc """
    Makes the state that every WebSocket begins with.

    With the option `:sock` of a server it is called once, when the server starts, so it must return
    nothing that belongs to one WebSocket or one process.
    """
    @callback init(init_arg :: term()) :: state()

    @doc """
    Called with a request that is a valid handshake (RFC6455§4.2.1). No later callback has the conn:
    what is needed of it goes into the state.

    To accept, return the conn without having sent a response: its response headers go out with the
    101. To refuse, set or send a response first; the state is dropped.
    """
    @callback negotiate(Plug.Conn.t(), state()) :: negotiate_result()

    @doc "Called after the handshake. Can send already."
    @callback handle_connection(Sock.Socket.t(), state()) :: handle_result()

    @doc "Called with each whole text message of the client: fragments are joined before."
    @callback handle_text_frame(binary(), Sock.Socket.t(), state()) :: handle_result()

    @doc "Called with each whole binary message of the client: fragments are joined before."
    @callback handle_binary_frame(binary(), Sock.Socket.t(), state()) :: handle_result()

    @doc "Called with each ping of the client. It has been answered by then: do not send a pong."
    @callback handle_ping_frame(binary(), Sock.Socket.t(), state()) :: handle_result()

    @doc "Called with each pong of the client."
    @callback handle_pong_frame(binary(), Sock.Socket.t(), state()) :: handle_result()

    @doc """
    Called at the end of a WebSocket that is closed by a close frame. What it returns is ignored. The
    socket is still open: what is sent here goes out before the server's close frame, but a client
    that has closed need not read it. The reason is

      * `{:local, 1000}` - a callback returned `{:close, state}`
      * `{:local, 1001}` - the server stops
      * `{:local, 1012}` - the WebSocket has been open for the server's `:max_lifetime`
      * `{:remote, code}` - the client closed, with that code; it is 1005 when there was none
    """
    @callback handle_close(close_reason(), Sock.Socket.t(), state()) :: any()

    @doc """
    Called at the end of a WebSocket that failed. What it returns is ignored. The reason is

      * the one that a callback returned, or `{exception, stacktrace}` when a callback raised; the
        socket is still open
      * an atom such as `:invalid_utf8` when the client broke the protocol; the socket is still open
      * `:slow_client` when the client did not read what it was sent
      * `:closed` or a POSIX code when the connection was lost
    """
    @callback handle_error(reason :: term(), Sock.Socket.t(), state()) :: any()

    @doc """
    Called at the end of a WebSocket whose client sent nothing for the `timeout`. What it returns is
    ignored. The socket is still open.
    """
    @callback handle_timeout(Sock.Socket.t(), state()) :: any()

    @doc "Called with each message that other processes send to this one."
    @callback handle_info(term(), Sock.Socket.t(), state()) :: handle_result()
  end

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
