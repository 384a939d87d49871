defmodule Ferrosock.Test.Probe do
  @moduledoc """
  WebSocket handlers whose callbacks are functions of a test.

      defmodule Socket, do: use Ferrosock.Test.Probe

      server = Socket.serve!(handle_in: fn {data, _}, state -> {:push, {:text, data}, state} end)
      {socket, pid} = Socket.open(server)

  The state is a map with the test process as `:test`. Without a function, `handle_in/2` echoes and
  the other callbacks return the state. The test process is told `{:opened, pid}` by `init/1` and
  `{:terminated, pid, reason, state}` by `terminate/2`; `open/2` monitors the process for it.

  A module for each test file, because tests that run at the same time share one log.
  """

  import ExUnit.Assertions

  alias Ferrosock.Test.{Logs, Raw}

  @sync "sync with the test"

  defmacro __using__([]) do
    quote do
      @behaviour WebSock

      def serve!(callbacks \\ [], upgrade_options \\ [], server_options \\ []),
        do: unquote(__MODULE__).serve!(__MODULE__, callbacks, upgrade_options, server_options)

      defdelegate open(server, options \\ []), to: unquote(__MODULE__)

      @impl true
      def init(state), do: unquote(__MODULE__).init(state)

      @impl true
      def handle_in({_data, opcode: _} = message, state),
        do: unquote(__MODULE__).call(:handle_in, [message, state])

      @impl true
      def handle_control({_data, opcode: _} = message, state),
        do: unquote(__MODULE__).call(:handle_control, [message, state])

      @impl true
      def handle_info(message, state),
        do: unquote(__MODULE__).call(:handle_info, [message, state])

      @impl true
      def terminate(reason, state), do: unquote(__MODULE__).terminate(reason, state)
    end
  end

  @doc "Starts a server that upgrades every request."
  def serve!(websock, callbacks, upgrade_options, server_options) do
    state = state(callbacks)
    plug = fn conn, _ -> Ferrosock.upgrade(conn, websock, state, upgrade_options) end
    Raw.start_server!([plug: plug] ++ server_options)
  end

  @doc "The argument of `init/1`, for a Plug of the test's own."
  def state(callbacks), do: %{test: self(), callbacks: Map.new(callbacks)}

  @doc "A WebSocket and its process. Options are those of `:gen_tcp`."
  def open(server, options) do
    socket = Raw.websocket(server, "/", [], options)
    assert_receive {:opened, pid}
    Process.monitor(pid)
    # The VM may hold a monitor back, to send it together with a message.
    :erlang.yield()
    {socket, pid}
  end

  @doc "Waits until all that the server was sent before is handled, and nothing else was pushed."
  def sync(socket) do
    Raw.send_frame(socket, :text, @sync)
    assert Raw.recv_frame(socket) == {:text, @sync}
  end

  @doc "Waits for the end of a process, and returns its exit reason."
  def down(pid, timeout \\ 20_000) do
    assert_receive {:DOWN, _monitor, :process, ^pid, reason}, timeout
    reason
  end

  @doc "The bytes break the protocol: the close code, the reason, the exit and one line of the log say so."
  def assert_refused(socket, pid, bytes, code, reason) do
    phrase = reason |> to_string() |> String.replace("_", " ")
    {:ok, {_address, port}} = :inet.sockname(socket)
    Logs.attach()
    Raw.write(socket, bytes)
    assert Raw.recv_frame(socket) == {:close, code, phrase}
    assert down(pid) == {:shutdown, reason}
    assert_received {:terminated, ^pid, {:error, ^reason}, _state}
    assert [{:log, :warning, line, _meta}] = Logs.taken(pid)

    assert line =~
             ~r/^Ferrosock closed the WebSocket of 127.0.0.1:#{port} \(\S+\) with #{code}: #{phrase}$/

    assert Raw.read_all(socket) == ""
  end

  @doc "Whether the process hibernates."
  def hibernated?(pid), do: current_function(pid) == {:erlang, :hibernate}

  @doc "Waits until the process hibernates."
  def hibernates(pid), do: Raw.eventually(fn -> hibernated?(pid) end)

  @doc "Whether the process waits until its client has taken what waits for it."
  def waits_for_client?(pid), do: current_function(pid) == {Ferrosock.Backpressure, :await}

  defp current_function(pid) do
    {:current_function, {module, function, _arity}} = Process.info(pid, :current_function)
    {module, function}
  end

  @doc "The size of the binaries that the process refers to."
  def binary_bytes(pid) do
    {:binary, binaries} = Process.info(pid, :binary)
    binaries |> Enum.map(&elem(&1, 1)) |> Enum.sum()
  end

  @doc "A callback that tells the test `:in_callback`, and waits for `:go` before it does what `fun` does."
  def held(fun \\ fn _message, state -> {:ok, state} end) do
    test = self()

    fn message, state ->
      send(test, :in_callback)
      receive do: (:go -> fun.(message, state))
    end
  end

  @doc "Callbacks that tell the test of each call, as `{:called, callback, argument}`; `:push` has one pushed."
  def reporting do
    test = self()

    called = fn callback, argument, result ->
      send(test, {:called, callback, argument})
      result
    end

    [
      handle_in: fn message, state -> called.(:handle_in, message, {:ok, state}) end,
      handle_control: fn message, state -> called.(:handle_control, message, {:ok, state}) end,
      handle_info: fn
        :push, state -> called.(:handle_info, :push, {:push, {:text, "pushed"}, state})
        message, state -> called.(:handle_info, message, {:ok, state})
      end
    ]
  end

  @doc "Answers pings for so many milliseconds, by a frame of that kind."
  def answer_pings(socket, opcode, ms), do: answer_pings_until(socket, opcode, now() + ms)

  defp answer_pings_until(socket, opcode, until) do
    assert Raw.recv_frame(socket) == {:ping, ""}
    Raw.send_frame(socket, opcode, "")
    if now() < until, do: answer_pings_until(socket, opcode, until)
  end

  defp now, do: System.monotonic_time(:millisecond)

  def init(state) do
    send(state.test, {:opened, self()})
    call(:init, [state])
  end

  def terminate(reason, state) do
    send(state.test, {:terminated, self(), reason, state})
    call(:terminate, [reason, state])
  end

  def call(:handle_in, [{@sync, _}, state]), do: {:push, {:text, @sync}, state}

  def call(callback, arguments) do
    state = List.last(arguments)

    case state.callbacks do
      %{^callback => fun} -> apply(fun, arguments)
      %{} -> default(callback, arguments)
    end
  end

  defp default(:handle_in, [{data, opcode: opcode}, state]), do: {:push, {opcode, data}, state}
  defp default(_callback, arguments), do: {:ok, List.last(arguments)}
end
