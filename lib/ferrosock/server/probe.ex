defmodule Ferrosock.Server.Probe do
  @moduledoc false
  # Finds out at a server's start how `WebSockAdapter.upgrade/4` works on its conns: not at all, where the app
  # does not have it; directly, where it knows our adapter; or else by the recorder, which is tried out. How
  # recording works is not its concern.

  alias Ferrosock.{Adapter, Log, Options}
  alias Ferrosock.HTTP.Exchange
  alias Ferrosock.WebSocket.{Recorder, Upgrade}
  alias Plug.Adapters.Test.Conn, as: TestAdapter

  @compile {:no_warn_undefined, WebSockAdapter}

  @handshake [
    {"host", "localhost"},
    {"connection", "upgrade"},
    {"upgrade", "websocket"},
    {"sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="},
    {"sec-websocket-version", "13"}
  ]

  # What the probes upgrade to.
  defmodule Handler do
    @moduledoc false
    def init(state), do: {:ok, state}
    def handle_in(_message, state), do: {:ok, state}
    def handle_info(_message, state), do: {:ok, state}
  end

  @doc "Whether the server has to record handshakes. Logs a warning where neither way works."
  @spec record?(Options.t()) :: boolean()
  def record?(%{plug: {:sock, _sock, _argument}}), do: false

  def record?(options) do
    # An app that has it can load it now, also in a release, which loads all modules when it boots.
    Code.ensure_loaded?(WebSockAdapter) and
      not Enum.all?([:"HTTP/1.1", :"HTTP/2"], &direct?(&1, options)) and recordable?()
  end

  defp direct?(version, options) do
    exchange = %Exchange{options: options, method: "GET", version: version}
    conn = upgrade(%Plug.Conn{adapter: {Adapter, exchange}})
    match?(%{adapter: {Adapter, %{upgrade: %Upgrade{websock: Handler}}}}, conn)
  rescue
    _unknown_adapter -> false
  end

  defp recordable? do
    allow_capitals()
    works? = works?()
    if not works?, do: Log.no_way_for_web_sock_adapter()
    works?
  end

  # Plug refuses header names in capitals where its test adapter is at work. A server is to take what others
  # take, but in tests of people that is a setting of theirs.
  defp allow_capitals do
    if Application.spec(:ex_unit, :vsn) == nil,
      do: Application.put_env(:plug, :validate_header_keys_during_test, false)
  end

  defp works? do
    %{adapter: {_adapter, %{ref: ref}}} = conn = TestAdapter.conn(%Plug.Conn{}, "GET", "/", nil)
    Recorder.run(conn, &upgrade/1)

    receive do
      {^ref, :upgrade, asked} -> match?({:websocket, {Handler, :state, [_ | _]}}, asked)
    after
      0 -> false
    end
  rescue
    _error -> false
  end

  defp upgrade(conn) do
    %{conn | method: "GET", req_headers: @handshake}
    |> Plug.Conn.put_resp_header("sec-websocket-protocol", "probe")
    |> WebSockAdapter.upgrade(Handler, :state, timeout: 60_000)
  end
end
