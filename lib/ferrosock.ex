defmodule Ferrosock do
  @moduledoc """
  A web and WebSocket server whose engine is Rust. It serves any `Plug`, and any `WebSock` that a
  Plug upgrades to.

      defmodule MyApp.Echo do
        @behaviour WebSock

        @impl true
        def init(state), do: {:ok, state}

        @impl true
        def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

        @impl true
        def handle_info(_message, state), do: {:ok, state}
      end

      defmodule MyApp.Router do
        use Plug.Router

        plug :match
        plug :dispatch

        get "/" do
          send_resp(conn, 200, "Hello")
        end

        get "/echo" do
          Ferrosock.upgrade(conn, MyApp.Echo, %{}, timeout: 30_000)
        end
      end

      Supervisor.start_link([{Ferrosock, plug: MyApp.Router, port: 4000}], strategy: :one_for_one)

  [Coming from Bandit or Cowboy](coming-from-bandit-or-cowboy.md) tells what becomes of their options.

  ## Options

  #{Ferrosock.Options.docs(:server)}
    * `:name` - registers the server's supervisor, as in `Supervisor.start_link/3`
    * `:id` - the id of the child specification. Default: the `:name`, or `Ferrosock`

  ### `:http_options`

  A body that `send_resp` sends is compressed if the client's `accept-encoding` allows one of the codings,
  and `vary` says so to caches. Some responses are left as they are: bodies of fewer than 1,024 bytes and
  those that would not become smaller, responses with a `content-encoding` or a strong `etag`, partial ones
  (206), files and chunks. An app that sets `cache-control: no-transform` keeps a response from being
  compressed. It should do so if the response has both a secret and text of the request in it: over an
  encrypted connection the length would tell whether the two are alike.

  #{Ferrosock.Options.docs(:http)}

  #### Its `:deflate_options`

  #{Ferrosock.Options.docs(:http_deflate)}

  #### Its `:zstd_options`

  #{Ferrosock.Options.docs(:zstd)}

  ### `:send_timeout`, of HTTP/1, HTTP/2 and WebSockets

  It limits how long bytes may wait for a client without moving, whoever they are from, and begins anew with each
  byte that moves. When all that waits is in the kernel, only the kernel sees it. It waits for the longest of
  the three and five seconds more (TCP_USER_TIMEOUT, RFC 5482; on Linux, and not for Unix sockets), and the
  connection ends without a word.

  ### `:http_1_options`

  #{Ferrosock.Options.docs(:http_1)}

  ### `:http_2_options`

  HTTP/2 (RFC 9113). A Plug sees a request as it would see one of HTTP/1: `host` is set from `:authority`, and
  the pieces of a `cookie` are joined. A response loses the headers that HTTP/2 does not have, such as
  `connection`. Nothing is pushed, and the trailers of requests are dropped.

  A malformed request resets its stream, or is answered with 400, and leaves the other streams of its connection
  alone (RFC 9113 §8.1.1). A client that goes on sending such requests is told `ENHANCE_YOUR_CALM` after a
  thousand.

  Streams may be WebSockets (RFC 8441). A Plug sees such a handshake as a GET with the headers
  `connection: upgrade` and `upgrade: websocket`, but without a `sec-websocket-key`.

  #{Ferrosock.Options.docs(:http_2)}

  ### `:tls_options`

  They count with `scheme: :https`. The server speaks TLS 1.2 and 1.3, and resumes sessions by tickets.

  #{Ferrosock.Options.docs(:tls)}

  ### `:websocket_options`

  #{Ferrosock.Options.docs(:websocket)}

  #### Its `:deflate_options`

  permessage-deflate (RFC 7692) is negotiated if the server's `:compress` and the upgrade's both say so and
  the client offers it.

  #{Ferrosock.Options.docs(:deflate)}

  ## Stopping and deploys

  A server that its supervisor stops, as after a SIGTERM, is drained. It stops listening and serves what has
  arrived: responses say `connection: close`, clients of HTTP/2 get a GOAWAY (RFC 9113 §6.8), and idle
  connections close at once. Its WebSockets are closed with `:shutdown_code`, not all in the same instant,
  and their `terminate/2` gets `:shutdown`. The stop waits for the clients' close frames, for no longer than
  `:close_timeout`. What has not ended after `:shutdown_timeout` is killed. The server stops as soon as its last
  connection has ended.

  `drain/2` does the same while the node runs on, with a close code and a pace of your choice. In
  Kubernetes a `preStop` hook may do it, for a server that has a `:name`:

      command: ["bin/my_app", "rpc", "Ferrosock.drain(MyApp.Server, code: 1012)"]

  Kubernetes kills the container when hook and SIGTERM together take longer than its
  `terminationGracePeriodSeconds`: let that be more than the `:deadline` of the drain and what the
  application needs to stop. A load balancer should know by then that no connection will be accepted;
  where that takes a while, let the hook sleep before it drains.

  A server needs the application `:ferrosock`, which runs the engine for all servers. When the application is
  stopped, or its supervisor killed, servers are drained and end with an error that says so.

  ## Notes

  One process serves all requests of an HTTP/1 connection. Between two requests its mailbox is emptied
  and its dictionary cleared. With HTTP/2 each request has a process of its own, which ends with it. The
  process whose Plug upgrades goes on as the WebSocket's, with its links, dictionary and mailbox.

  A request whose Plug fails ends its connection, or with HTTP/2 only its stream. If it has got no response
  yet, it is answered with the status of `Plug.Exception`.

  A client that has sent its request may close its side of the connection and still gets the response (RFC
  9112 §9.6). So a FIN alone does not end a request, although a client that leaves sends one, too. A Plug that
  works or waits for long asks to be told, by `notify_disconnect/1`. One that does not ask finds out by sending:
  if the client has left, the next chunk is answered by a reset, and `chunk/2` returns `{:error, :closed}` at the
  one after that. `http_1_options: [half_close: false]` takes every client that closes its side for gone, and ends
  its connection.

  A client that vanishes without a word, as one whose network is gone, is found out only by what is sent to it. A
  Plug that is silent for long should send something now and then, such as a comment in an event stream
  (`chunk(conn, ":\\n\\n")`): when the client takes nothing of it for `:send_timeout`, it has left.

  What a Plug leaves unread of a request's body is read after the response, up to `:max_unread_length` of
  `:http_1_options`, and the connection goes on. The response says `connection: close` if more is left, if
  the body is chunked and has not ended when the response begins, or if the client waits for a 100 (Continue)
  that nobody has asked for.

  When a client frames its body wrongly, cuts it short or does not send it in time, `read_body/2` returns
  `{:error, :closed}` or `{:error, :timeout}`. A Plug that fails then is not to blame: the client is
  answered with 400 or 408, and the log has one line and no report.

  The `content-length` of a body that is sent whole is that of the body, whatever the Plug has set. A 204, 205 or
  304 has none. The reason phrase of a status is that of `Plug.Conn.Status`, including those that are configured
  there, and empty if it has none.

  A request target may have what browsers and curl leave uncoded: `" \\ ^ \` { | }` and, which the Plug sees in
  percent codes, `< >`, `"` in a query and a backtick in a path. A target with other bytes that no URI has (DEL,
  control characters, UTF-8 that is not coded), with a fragment, or of a scheme that is not the web's, is
  answered with 400. The scheme of a conn is its connection's, whatever an absolute target says.

  Times are in milliseconds and sizes in bytes.
  """

  alias Ferrosock.HTTP.Disconnect
  alias Ferrosock.{Options, Server}
  alias Ferrosock.Server.{Drain, Listener}
  alias Ferrosock.WebSocket.{Session, Upgrade}

  @typedoc """
  `address` is what the server listens on, with the port that it got if it asked for 0; the port of a
  Unix socket is always 0. `connections` are open now; one of HTTP/2 counts once, however many streams it
  has. Those `lingering` are not among them: they have sent their last byte, and only wait for their client
  to close, too. `queued_bytes` wait for clients, see `:max_queued_bytes`.

  `accepted` connections, `requests` (of all streams), `bytes_received` and `bytes_sent` are counted since the
  start. The bytes are those on the wire, as the kernel gave and took them: with TLS, its handshakes and
  records are among them; the headers of TCP and IP are not.
  """
  @type info :: %{
          address: {:inet.ip_address() | {:local, binary()}, :inet.port_number()},
          connections: non_neg_integer(),
          lingering: non_neg_integer(),
          queued_bytes: non_neg_integer(),
          accepted: non_neg_integer(),
          requests: non_neg_integer(),
          bytes_received: non_neg_integer(),
          bytes_sent: non_neg_integer()
        }

  @doc "The specification of a server as the child of a supervisor. Takes the options of `start_link/1`."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    {supervisor_options, _server_options} = Options.split!(options)
    id = Keyword.get(options, :id, Keyword.get(supervisor_options, :name, __MODULE__))
    %{id: id, start: {__MODULE__, :start_link, [options]}, type: :supervisor}
  end

  @doc """
  Starts a server, linked to the caller. See the [options](#module-options).

  Raises `ArgumentError` on options that are wrong. Returns an error with a `Ferrosock.ListenError`
  when the address cannot be listened on.
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(options), do: Server.start_link(options)

  @doc "What a running server listens on, and its counts."
  @spec info(Supervisor.supervisor()) :: info()
  def info(server), do: server |> Server.listener() |> Listener.info()

  @doc """
  Loads the certificates and keys of a server anew, from the files and terms that its options name, for the
  connections to come. On an error, which says what is wrong with which file, the server goes on with the
  certificates that it has.
  """
  @spec reload_certificates(Supervisor.supervisor()) :: :ok | {:error, ArgumentError.t()}
  def reload_certificates(server),
    do: server |> Server.listener() |> Listener.reload_certificates()

  @doc """
  Ends all that a running server serves, and waits until it has ended. Nothing is lost:

    * The listening socket closes. Connections that the kernel has accepted are served.
    * Requests are finished. Their responses say `connection: close`; clients of HTTP/2 get a GOAWAY
      (RFC 9113 §6.8). Idle connections close at once.
    * WebSockets are closed in batches, so that not all clients come back in the same instant. What
      was pushed before arrives; `terminate/2` gets `:shutdown`.

  Returns `:ok` when all connections have ended by themselves: their processes are gone, and the last
  byte is sent. When the `:deadline` has passed, it kills the connections and processes that are left, and
  returns `{:timeout, count}` with how many there were: their clients see 500, half a response, or the close
  code 1011.

  The server stays in its supervisor, and accepts nothing any more, not even when one of its processes is
  started again; `info/1` works. A further call returns `:ok`. A call in the middle of another one waits for
  the same result, and its own options do not count.

  A Plug or a WebSocket that drains its own server would wait for itself: let another process do it.

  Raises `ArgumentError` on options that are wrong.

  ## Options

  #{Ferrosock.Options.docs(:drain)}
  """
  @spec drain(Supervisor.supervisor(), keyword()) :: :ok | {:timeout, pos_integer()}
  def drain(server, options \\ []) do
    options = Options.drain!(options)
    server |> Server.drain() |> Drain.drain(options)
  end

  @doc """
  Makes the request's connection, or its stream of HTTP/2, a WebSocket that `websock` handles. The same
  function as `WebSock.upgrade/4`.

  Returns the conn in the state `:upgraded`. The 101, with HTTP/2 a 200, goes out when the Plug has
  returned, with the response headers and cookies that the conn has then: an app that chooses a
  subprotocol sets `sec-websocket-protocol`. Then `init/1` of `websock` is called with `state`.

  Raises `Ferrosock.UpgradeError` if the request is not a valid handshake, and `ArgumentError` if an option is
  wrong or the conn is another server's. A conn of `Plug.Test` is accepted, so that an app can test its Plugs;
  the upgrade is recorded as `{websock, state, options}`.

  `WebSockAdapter.upgrade/4` does the same, with `websock_adapter` 0.5.7 or later, and ignores options that nobody
  knows; [Coming from Bandit or Cowboy](coming-from-bandit-or-cowboy.md#websockets) tells what else differs.

  ## Options

  #{Ferrosock.Options.docs(:upgrade)}
  """
  @spec upgrade(Plug.Conn.t(), module(), term(), keyword()) :: Plug.Conn.t()
  defdelegate upgrade(conn, websock, state, options \\ []), to: Upgrade

  @doc """
  Asks to be told when the client of a request leaves before it has its response: one message
  `{:ferrosock, :disconnected, ref}` comes to the process that calls this, at once if the client has left already.
  Returns the reference.

  A Plug that sends events then ends with its client, and not at some later chunk:

      get "/events" do
        ref = Ferrosock.notify_disconnect(conn)
        Phoenix.PubSub.subscribe(MyApp.PubSub, "events")

        conn
        |> put_resp_content_type("text/event-stream")
        |> send_chunked(200)
        |> send_events(ref)
      end

      defp send_events(conn, ref) do
        receive do
          {:event, data} -> send_event(conn, ref, "data: \#{data}\\n\\n")
          {:ferrosock, :disconnected, ^ref} -> conn
        after
          # Finds out a client that has vanished without a word.
          30_000 -> send_event(conn, ref, ":\\n\\n")
        end
      end

      defp send_event(conn, ref, event) do
        case chunk(conn, event) do
          {:ok, conn} -> send_events(conn, ref)
          {:error, :closed} -> conn
        end
      end

  A client has left when it has closed or reset its connection, or its stream of HTTP/2; also when the server has
  ended that, because the client took nothing for `:send_timeout` or the deadline of a drain was over. With HTTP/1
  it counts as gone as soon as it closes its side (a FIN, or the close_notify of TLS), because a browser whose tab
  is closed does no more than that. Nothing ends by it: a client that only says that it has no further request
  (RFC 9112 §9.6) may still be answered.

  The message comes once for each call, and never after the response, which is complete when `send_resp/3` or
  `send_file/5` returns, and one in chunks when the Plug does, or has given all of a `content-length`. So it
  reaches neither the next request of the connection nor a WebSocket that the request becomes. Chunks of a response
  without a body (to HEAD, with a 204, 205 or 304) go nowhere, and the message comes after its head.

  Any process may call this. It asks once for a request: each call has a reference and a message of its own, and is kept
  until the response. `disconnected?/1` looks it up without a message, as often as one likes.

  A conn of `Plug.Test` is accepted. No message comes by itself, but its reference is known beforehand, so that a
  test can send it:

      conn = conn(:get, "/events")
      {_adapter, %{ref: ref}} = conn.adapter
      send(self(), {:ferrosock, :disconnected, ref})
      assert MyApp.Router.call(conn, []).state == :chunked

  Raises `ArgumentError` if the conn is another server's.
  """
  @spec notify_disconnect(Plug.Conn.t()) :: reference()
  defdelegate notify_disconnect(conn), to: Disconnect, as: :notify

  @doc """
  Whether the client of a request has left before it had its response; `notify_disconnect/1` says when it has. For
  a Plug that computes, and looks up now and then whether anybody still waits. It need not have asked before.

      Enum.reduce_while(tokens, conn, fn token, conn ->
        if Ferrosock.disconnected?(conn), do: {:halt, conn}, else: send_token(conn, token)
      end)

  Any process may call this. `false` for a conn of `Plug.Test`. Raises `ArgumentError` if the conn is another
  server's.
  """
  @spec disconnected?(Plug.Conn.t()) :: boolean()
  defdelegate disconnected?(conn), to: Disconnect

  @doc """
  Lets a `Sock` decide about the request, and serve it if it accepts. This is for applications that were
  written to Sock 0.2; new ones use `upgrade/4`.

      get "/legacy" do
        Ferrosock.sock(conn, MyApp.Legacy, "Welcome")
      end

  A server that does nothing else takes the option `:sock` in place of `:plug`, and answers a request
  that is not a valid handshake with 400, or 426 for another version of the protocol:

      {Ferrosock, sock: {MyApp.Legacy, "Welcome"}, port: 4000}

  Calls `init/1` of `sock` with `argument`, then `negotiate/2`. If that accepts, returns the conn in the
  state `:upgraded`, as `upgrade/4` does, and takes the same options from the accept; Sock itself knows only
  `:timeout`. If it refuses, returns its conn, whose response is the application's own. Without one, the
  response is a 400, or has the status of the conn.

  Raises `Ferrosock.UpgradeError` before `negotiate/2` if the request is not a valid handshake, and
  `Ferrosock.ResultError` if `negotiate/2` returns what `Sock` does not allow. A module without
  `handle_info/3`, as of Sock 0.2.0, is not told of messages. The other callbacks are those of 0.2.5.
  """
  @spec sock(Plug.Conn.t(), module(), argument :: term()) :: Plug.Conn.t()
  defdelegate sock(conn, sock, argument), to: Ferrosock.WebSocket.Sock.Plug

  @doc """
  The code and the reason of the client's close frame, for `terminate/2` of a WebSocket; `nil` if the client
  sent none. The code of a frame without one is 1005.
  """
  @spec close_info() :: {1000..4999, binary()} | nil
  defdelegate close_info, to: Session
end
