defmodule Ferrosock.Native do
  @moduledoc false
  # The boundary between the BEAM and the engine. Its concern is the shape of calls and messages;
  # what they mean to a request or a WebSocket is decided by their callers, and what they do to
  # sockets by `native/engine`.
  #
  # ## Calls go down
  #
  # No call waits: each returns in microseconds. A call whose answer takes time takes a reference
  # made by its caller and answers with one message `{ref, answer}`.
  #
  # The engine works while a process turns its reactors (`reactor_turn/1`): reading and writing, the
  # handlers and what they send are then on the same schedulers, and no thread has to wake another.
  #
  # ## Messages come up
  #
  # These are all messages that the engine sends. Each has a reference that nobody else can have: a tag that
  # the engine made, the one that a caller gave, or a handle. So no message of an app can be taken for one.
  #
  # To the process that turns a reactor, when `reactor_turn/1` has returned `:idle`:
  #
  #     {:select, reactor, :undefined, :ready_input}    there is something to do again
  #
  # To the caller of a call that is answered later, once, whatever happens, with the reference that it gave:
  #
  #     {ref, :drained | :closed}               `exchange_await/2` and `socket_await/2`: there is room to
  #                                             send, or will never be
  #     {ref, :closed}                          `listener_drain/2`: the address is free
  #     {ref, {:ok | :more, data}}              `exchange_read/4`: the end of the body, or a piece before it
  #     {ref, {:error, read_error}}             `exchange_read/4`, see `t:read_error/0`
  #     {ref, :ok}                              `exchange_send_file/7`: the response is on its way
  #     {ref, {:error, send_error | posix}}     `exchange_send_file/7`: there is no response yet, see
  #                                             `t:send_error/0`
  #
  # To the caller of `exchange_notify_disconnect/1`, with the reference that it was given, once at most:
  #
  #     {:ferrosock, :disconnected, ref}        the client has left; `exchange_is_disconnected/1` tells, too
  #
  # To the process that opened a listener, with the listener's tag:
  #
  #     {tag, {:accept_error, posix}}           accepting failed (out of descriptors, ...); it goes on.
  #                                             At most one of these a second
  #     {tag, {:http_error, peer, reason}}      a peer sent what is not HTTP and was answered; at most
  #                                             ten of these a second. The reason is an atom of the engine's
  #                                             `HttpError::name`
  #
  # To an acceptor (`listener_accept/1`), with the listener's tag, one acceptor after the other:
  #
  #     {tag, {:connection, claim}}             a connection with its first request, for the process that
  #                                             will `attach/1`; with HTTP/2 each stream is one to us,
  #                                             and has one request
  #
  # To the process that has a connection (`attach/1`), with the connection's tag:
  #
  #     {tag, :request}                         the next request of a kept-alive connection; once after
  #                                             each `take/1` that returned `:none`
  #     {tag, :closed}                          the HTTP connection has ended; nothing follows
  #     {tag, [event]}                          once upgraded: a batch of WebSocket events, see `t:event/0`
  #     {tag, {:paused, batches}}               reading has waited for answers for 250 ms, or twice as
  #                                             long as the last time: `socket_resume/2`
  #     {tag, :idle}                            nothing was sent either way for the socket's
  #                                             `hibernate_after`; once, until something is
  #
  # A batch is answered by exactly one `socket_ack/2`, which lets the engine read on.
  #
  # The app's code runs in that process, and may receive any of these before we do. So none of them is the
  # only one to tell: `take/1` is asked after each Plug, `socket_send/2` and `socket_ack/2` say `:ended` when
  # there is a last event, which `socket_ending/1` tells again, and what is not answered is asked for again.
  #
  # When the process that has a connection dies, or nobody has its claim any more, its connection, or its
  # stream, ends: a request without a response is answered with 500, a half-sent response is cut off, a
  # WebSocket is closed with 1011. A handle that is garbage collected ends in the same way.

  alias Ferrosock.Address
  alias Ferrosock.Options.Engine

  @on_load :load

  @type reactor :: reference()
  @type listener :: reference()
  @type tls :: reference()
  @type claim :: reference()
  @type exchange :: reference()
  @type socket :: reference()
  @type tag :: reference()

  @typedoc """
  The head of a request. `host` is `""` when an HTTP/1.0 request named none; `port` is `nil` when the
  request named none. `query` is `""` when there is none.
  """
  @type request ::
          {method :: binary(), host :: binary(), port :: :inet.port_number() | nil,
           path :: binary(), query :: binary(), version :: :"HTTP/1.0" | :"HTTP/1.1" | :"HTTP/2",
           headers :: [{binary(), binary()}], peer :: Address.t()}

  @typedoc "A status, perhaps with its reason phrase (RFC9112§4); the engine knows those of RFC9110§15"
  @type status :: Plug.Conn.int_status() | {Plug.Conn.int_status(), binary()}

  @typedoc """
  An event of a WebSocket. The last five end it: nothing follows them.

    * `{:close, code, reason}` - the peer's close frame; `code` is `nil` when it had none
    * `{:error, code, reason}` - the peer broke the protocol, or takes nothing of what waits for it; `code`
      is the close code it deserves
    * `:timeout` - the peer sent nothing for the socket's `timeout`
    * `:max_lifetime` - the socket has been open for its `max_lifetime`
    * `{:closed, reason}` - the transport is gone: `:closed`, or a POSIX code
  """
  @type event ::
          {:text | :binary | :ping | :pong, binary()}
          | {:close, code :: 1000..4999 | nil, reason :: binary()}
          | {:error, code :: 1002 | 1007 | 1009 | 1013, reason :: atom()}
          | :timeout
          | :max_lifetime
          | {:closed, reason :: atom()}

  @type message :: {:text | :binary | :ping | :pong, iodata() | nil}

  @typedoc "What a server's options are to the engine"
  @type listener_options :: unquote(Engine.typespec(:listener))

  @type http2_options :: unquote(Engine.typespec(:http2))

  @typedoc "What an upgrade's options are to the engine"
  @type socket_options :: unquote(Engine.typespec(:socket))

  @typedoc "How permessage-deflate may be negotiated (RFC7692§7.1)"
  @type deflate_options :: unquote(Engine.typespec(:deflate))

  @type read_error :: :timeout | :closed | :malformed | :already_reading

  @type send_error :: :closed | :already_sent | {:invalid_header, binary()} | :invalid_status

  @doc """
  Starts the engine with so many reactors, unless it runs already. `0` asks for the default number.
  Returns how many there are: the first call decides.
  """
  @spec reactors_start(count :: non_neg_integer()) :: pos_integer()
  def reactors_start(_count), do: nif_error()

  @doc "A reactor for the caller to turn, counted from 0. `nil` where the engine does that itself."
  @spec reactor_get(index :: non_neg_integer()) :: reactor() | nil
  def reactor_get(_index), do: nif_error()

  @doc """
  Does what is due in a reactor's connections, for a fraction of a millisecond at most. With `:idle`,
  `{:select, reactor, :undefined, :ready_input}` comes when there is something to do again; with
  `:more` there is already; with `:soon` it pays to call again before waiting.
  """
  @spec reactor_turn(reactor()) :: :idle | :more | :soon
  def reactor_turn(_reactor), do: nif_error()

  @doc "`reactor_turn/1`, and the CPU time in ns that its thread spent on it: for tests and benchmarks."
  @spec reactor_turn_timed(reactor()) :: {:idle | :more | :soon, nanoseconds :: non_neg_integer()}
  def reactor_turn_timed(_reactor), do: nif_error()

  @doc "Counts of what is alive in the engine, for tests and for `Ferrosock.Server.Caretaker`."
  @spec stats() :: %{
          listeners: non_neg_integer(),
          connections: non_neg_integer(),
          exchanges: non_neg_integer(),
          sockets: non_neg_integer(),
          tasks: non_neg_integer()
        }
  def stats, do: nif_error()

  @doc "The configuration that the engine makes of options, told again: for tests."
  @spec config(:listener, listener_options()) :: listener_options()
  @spec config(:socket, socket_options()) :: socket_options()
  def config(_kind, _options), do: nif_error()

  @doc """
  Checks certificates and keys, in DER, and makes a configuration of them. The number in an error is
  the index of the identity or authority that is wrong.
  """
  @spec tls_config(%{
          identities: [
            %{chain: [binary()], key: {:rsa | :ec | :pkcs8, binary()}, hosts: [String.t()]}
          ],
          client_auth: %{authorities: [binary()], required: boolean()} | nil,
          versions: [:tls12 | :tls13],
          http2: boolean()
        }) ::
          {:ok, tls()}
          | {:error, {:identity | :authority | :other, non_neg_integer(), String.t()}}
  def tls_config(_terms), do: nif_error()

  @doc "Binds and listens. The caller owns the listener: it closes when the caller dies."
  @spec listener_open(listener_options(), tls() | nil) ::
          {:ok, listener(), tag()} | {:error, posix :: atom()}
  def listener_open(_options, _tls), do: nif_error()

  @doc """
  The bound address, and counts since the start, but for the first three: on `connections` there may be
  something to say; those `lingering` have sent their last byte and only wait for their peer to close;
  `queued_bytes` wait for the peers.
  """
  @spec listener_info(listener()) :: %{
          address: Address.t(),
          connections: non_neg_integer(),
          lingering: non_neg_integer(),
          queued_bytes: non_neg_integer(),
          accepted: non_neg_integer(),
          requests: non_neg_integer(),
          bytes_received: non_neg_integer(),
          bytes_sent: non_neg_integer()
        }
  def listener_info(_listener), do: nif_error()

  @doc "Serves the connections to come with another configuration."
  @spec listener_set_tls(listener(), tls()) :: :ok
  def listener_set_tls(_listener, _tls), do: nif_error()

  @doc "Makes the caller one of the listener's acceptors, until it dies."
  @spec listener_accept(listener()) :: :ok | {:error, :closed}
  def listener_accept(_listener), do: nif_error()

  @doc """
  Stops accepting, but takes the connections that the kernel has accepted. Idle connections close; the
  others after the response to the request of which something has arrived. WebSockets are left to
  their owners. Answers `{ref, :closed}` when the address is free.
  """
  @spec listener_drain(listener(), reference()) :: :ok
  def listener_drain(_listener, _ref), do: nif_error()

  @doc """
  Stops accepting at once. A connection whose request has no response yet closes after it, the others
  at once. WebSockets are left to their owners.
  """
  @spec listener_close(listener()) :: :ok
  def listener_close(_listener), do: nif_error()

  @doc """
  Makes the caller the process that has the connection, whose tag it gets. `:gone` when the connection
  has ended meanwhile, or another process has it; then nothing will come.
  """
  @spec attach(claim()) :: {:ok, tag()} | :gone
  def attach(_claim), do: nif_error()

  @doc "Answers the request of a connection with 503, and ends it: there is no process that could have it."
  @spec refuse(claim()) :: :ok
  def refuse(_claim), do: nif_error()

  @doc """
  The request that waits for the process that has the connection. `:none`: a message will come. Without
  this there is none: a process that is at work is not told of the next request.
  `:closed`: the HTTP connection has ended.
  """
  @spec take(tag()) :: {:request, exchange(), request()} | :none | :closed
  def take(_tag), do: nif_error()

  @doc """
  Sends a whole response. Its `content-length` is that of the body; only of a HEAD that is answered without one
  it is the caller's. A `date` is added unless given.
  """
  @spec exchange_respond(exchange(), status(), Plug.Conn.headers(), iodata()) ::
          :ok | {:error, send_error()}
  def exchange_respond(_exchange, _status, _headers, _body), do: nif_error()

  @doc "Sends a response's head; its body follows by `exchange_chunk/2`."
  @spec exchange_start(exchange(), status(), Plug.Conn.headers()) ::
          :ok | {:error, send_error()}
  def exchange_start(_exchange, _status, _headers), do: nif_error()

  @doc """
  Sends a piece of the body. `:full` says that it was taken, and that the caller should wait
  (`exchange_await/2`) before it sends more.
  """
  @spec exchange_chunk(exchange(), iodata()) :: :ok | :full | {:error, :closed}
  def exchange_chunk(_exchange, _data), do: nif_error()

  @doc "`:ok` when there is room to send; else `:wait`, and `{ref, :drained}` or `{ref, :closed}` comes."
  @spec exchange_await(exchange(), reference()) :: :ok | :wait
  def exchange_await(_exchange, _ref), do: nif_error()

  @doc "Ends the body of a started response. Does nothing to a response that is not being streamed."
  @spec exchange_finish(exchange()) :: :ok
  def exchange_finish(_exchange), do: nif_error()

  @doc "Ends the exchange and its connection, or its stream; a half-sent body gets no proper end."
  @spec exchange_abort(exchange()) :: :ok
  def exchange_abort(_exchange), do: nif_error()

  @doc """
  Reads up to `length` bytes of the request's body, or what there is of it; waits at most `timeout`
  ms for each piece. Answers `{ref, {:ok, data}}` at the end of the body, `{ref, {:more, data}}`
  before it, or `{ref, {:error, t:read_error/0}}`.
  """
  @spec exchange_read(exchange(), length :: pos_integer(), timeout(), reference()) :: :ok
  def exchange_read(_exchange, _length, _timeout, _ref), do: nif_error()

  @doc "Why the last read of the body came to nothing; `nil` if it did not."
  @spec exchange_body_error(exchange()) :: read_error() | nil
  def exchange_body_error(_exchange), do: nif_error()

  @doc """
  Sends a response whose body is `length` bytes of a file from `offset` on. Answers `{ref, :ok}`
  once the file is open and the head is on its way, or `{ref, {:error, t:send_error/0 | posix}}`.
  """
  @spec exchange_send_file(
          exchange(),
          status(),
          Plug.Conn.headers(),
          path :: binary(),
          offset :: non_neg_integer(),
          length :: non_neg_integer(),
          reference()
        ) :: :ok | {:error, {:invalid_header, binary()}}
  def exchange_send_file(_exchange, _status, _headers, _path, _offset, _length, _ref),
    do: nif_error()

  @doc "Sends an informational (1xx) response before the final one."
  @spec exchange_inform(exchange(), status(), Plug.Conn.headers()) ::
          :ok | {:error, send_error() | :not_supported}
  def exchange_inform(_exchange, _status, _headers), do: nif_error()

  @doc """
  Has the caller told when the client leaves before it has the whole response, at once if it has left:
  `{:ferrosock, :disconnected, ref}`. When the call has returned that completes a response of HTTP/1, or agrees to
  an upgrade, no such message comes any more.
  """
  @spec exchange_notify_disconnect(exchange()) :: reference()
  def exchange_notify_disconnect(_exchange), do: nif_error()

  @doc "Whether the client has left before it had the whole response."
  @spec exchange_is_disconnected(exchange()) :: boolean()
  def exchange_is_disconnected(_exchange), do: nif_error()

  @doc "The version, the cipher suite and the client's certificate; `nil` without TLS."
  @spec exchange_tls(exchange()) ::
          {:"tlsv1.2" | :"tlsv1.3", String.t() | nil, certificate :: binary() | nil} | nil
  def exchange_tls(_exchange), do: nif_error()

  @doc "The local address of the exchange's connection."
  @spec exchange_sock(exchange()) :: Address.t()
  def exchange_sock(_exchange), do: nif_error()

  @doc """
  Agrees to a handshake with `headers`, by 101, or by 200 with HTTP/2, and turns the connection or the
  stream into a WebSocket. What is sent on the socket follows the response. `sec-websocket-accept`,
  `sec-websocket-extensions`, `upgrade` and `connection` are added here.
  """
  @spec exchange_upgrade(exchange(), Plug.Conn.headers(), socket_options()) ::
          {:ok, socket()} | {:error, send_error() | :not_supported}
  def exchange_upgrade(_exchange, _headers, _options), do: nif_error()

  @doc """
  Sends messages in order, in one write where the kernel takes it. `:full` says that they were taken
  and that the caller should wait (`socket_await/2`) before it sends more. `:ended` says that they were
  taken, and that the socket's last event has been told or is about to be. `:closed` says that they were
  dropped: a close was sent before, or the transport is gone.
  """
  @spec socket_send(socket(), [message()]) :: :ok | :full | :ended | :closed
  def socket_send(_socket, _messages), do: nif_error()

  @doc """
  `socket_send/2`, and the answer to one batch of events. The first one, before any batch, says that
  the caller is ready: the socket's `timeout` counts from then on.
  """
  @spec socket_ack(socket(), [message()]) :: :ok | :full | :ended | :closed
  def socket_ack(_socket, _messages), do: nif_error()

  @doc "Answers `{tag, {:paused, batches}}`: all that came before it has been handled, or was lost."
  @spec socket_resume(socket(), batches :: non_neg_integer()) :: :ok
  def socket_resume(_socket, _batches), do: nif_error()

  @doc """
  The last event, for the process that did not get its message. `:soon`: the message is being sent.
  `:none`: there is none.
  """
  @spec socket_ending(socket()) :: event() | :soon | :none
  def socket_ending(_socket), do: nif_error()

  @doc "`:ok` when there is room to send; else `:wait`, and `{ref, :drained}` or `{ref, :closed}` comes."
  @spec socket_await(socket(), reference()) :: :ok | :wait
  def socket_await(_socket, _ref), do: nif_error()

  @doc """
  Sends a close frame after what was sent before; `nil` is one without a code. No event follows. The
  engine ends the closing handshake by itself (RFC6455§7.1), also when the caller is gone by then. A
  second close does nothing.
  """
  @spec socket_close(socket(), code :: 1000..4999 | nil, reason :: binary()) :: :ok
  def socket_close(_socket, _code, _reason), do: nif_error()

  @doc "Ends the connection at once with a reset, or the stream, whatever is queued."
  @spec socket_abort(socket()) :: :ok
  def socket_abort(_socket), do: nif_error()

  @doc false
  def load do
    path = Application.app_dir(:ferrosock, "priv/native/ferrosock_nif")
    :erlang.load_nif(String.to_charlist(path), 0)
  end

  defp nif_error, do: :erlang.nif_error(:not_loaded)
end
