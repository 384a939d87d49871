# An app that has the `websock` package keeps its `WebSock`: a release with two would not assemble. We look for
# the application and not for the module, because the module may be the one that we compiled earlier.
package? = not match?({:error, _}, :code.lib_dir(:websock))

defmodule Ferrosock.WebSockPackage do
  @moduledoc false
  # Has Mix compile this file again when the package comes or goes. Mix asks a module that the file defined, and
  # `WebSock` is not always defined.
  def __mix_recompile__?,
    do: unquote(package?) == match?({:error, _}, :code.lib_dir(:websock))
end

if not package? do
  defmodule WebSock do
    @moduledoc """
    A behaviour for WebSocket applications.

    A Plug decides that a request becomes a WebSocket and calls `upgrade/4`. Once the Plug has
    returned and the handshake is done, the same process calls `c:init/1`, then `c:handle_in/2` for
    each message of the client, `c:handle_control/2` for each of its pings and pongs, and
    `c:handle_info/2` for each message of other processes: one at a time. At the end it calls
    `c:terminate/2`, and nothing after it.

        defmodule MyApp.Echo do
          @behaviour WebSock

          @impl true
          def init(state), do: {:ok, state}

          @impl true
          def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

          @impl true
          def handle_info(_message, state), do: {:ok, state}
        end
    """

    @typedoc "A module that implements this behaviour"
    @type impl :: module()

    @typedoc "What callbacks are given, and return changed"
    @type state :: term()

    @typedoc "The kinds of messages"
    @type data_opcode :: :text | :binary

    @typedoc "The kinds of control frames that an application sees"
    @type control_opcode :: :ping | :pong

    @typedoc "All kinds of what can be sent"
    @type opcode :: data_opcode() | control_opcode()

    @typedoc "Something to send; `nil` is an empty payload, and so is that of a ping or pong alone"
    @type message :: {opcode(), iodata() | nil} | control_opcode()

    @typedoc "One or several things to send, in order"
    @type messages :: message() | [message()]

    @typedoc "The code of a close frame, with or without a reason"
    @type close_detail :: integer() | {integer(), iodata() | nil}

    @typedoc """
    What callbacks return.

      * `{:ok, state}` - goes on
      * `{:push, messages, state}` - sends the messages and goes on
      * `{:reply, term, messages, state}` - the same; the term means nothing
      * `{:stop, reason, state}` - closes. `:normal` and `{:shutdown, :disconnected}` close with 1000,
        `{:shutdown, :restart}` with 1012, and `c:terminate/2` gets `:normal`. Any other reason closes
        with 1011, and `c:terminate/2` gets `{:error, reason}`
      * `{:stop, reason, close_detail, state}` - the same, with that close frame
      * `{:stop, reason, close_detail, messages, state}` - the same, after the messages
    """
    @type handle_result ::
            {:ok, state()}
            | {:push, messages(), state()}
            | {:reply, term(), messages(), state()}
            | {:stop, {:shutdown, :restart} | term(), state()}
            | {:stop, term(), close_detail(), state()}
            | {:stop, term(), close_detail(), messages(), state()}

    @typedoc "Why a WebSocket ended"
    @type close_reason :: :normal | :remote | :shutdown | :timeout | {:error, term()}

    @typedoc "An option of `upgrade/4`"
    @type connection_opt ::
            {:timeout, timeout()}
            | {:compress, boolean()}
            | {:max_frame_size, pos_integer() | :infinity}
            | {:fullsweep_after, non_neg_integer()}
            | {:max_heap_size, :erlang.max_heap_size()}
            | {:validate_utf8, boolean()}
            | {:deflate_options, keyword()}
            | {:early_validate_upgrade, boolean()}
            | {:active_n, integer()}

    @doc "Called after the handshake with the state that was given to `upgrade/4`."
    @callback init(term()) :: handle_result()

    @doc "Called with each whole message of the client: fragments are joined before."
    @callback handle_in({binary(), opcode: data_opcode()}, state()) :: handle_result()

    @doc """
    Called with each ping and pong of the client. Pings have been answered by then: do not send a
    pong.
    """
    @callback handle_control({binary(), opcode: control_opcode()}, state()) :: handle_result()

    @doc "Called with each message that other processes send to this one."
    @callback handle_info(term(), state()) :: handle_result()

    @doc """
    Called once, at the end. What it returns is ignored. The reason is

      * `:normal` - a callback closed in good order
      * `:remote` - the client closed
      * `:shutdown` - the server stops
      * `:timeout` - the client sent nothing for the `timeout`
      * `{:error, reason}` - anything else
    """
    @callback terminate(close_reason(), state()) :: any()

    @optional_callbacks handle_control: 2, terminate: 2

    @doc "Makes the request's connection a WebSocket that `websock` handles: `Ferrosock.upgrade/4`."
    @spec upgrade(Plug.Conn.t(), impl(), state(), [connection_opt()]) :: Plug.Conn.t()
    defdelegate upgrade(conn, websock, state, opts), to: Ferrosock
  end
end
