defmodule Ferrosock.WebSocket.Recorder do
  @moduledoc false
  # Lets a Plug upgrade by `WebSockAdapter.upgrade/4`, which asks for the name of the conn's adapter and knows
  # five. One of them is Plug's own test adapter, which tells a process what it is asked for. So a handshake is
  # served with that one, and what it has told is then done by the real adapter.
  #
  # It tells a process of the recorder's own, the keeper: that of the request is the app's, which may receive every
  # message. A response does not wait for the Plug's end: a `before_send` hook sends it by the real adapter. Files
  # and chunks are refused there, because Plug would read the ones into memory and gather the others in it.
  #
  # Which requests are recorded, and whether they have to be, is not the concern of this module.

  alias Ferrosock.UpgradeError
  alias Plug.Adapters.Test.Conn, as: TestAdapter

  # WebSockAdapter wants any key, and a handshake of HTTP/2 has none (RFC8441§5).
  @key {"sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="}

  @doc """
  Calls the Plug with a conn that records. The conn that it returns gets back its adapter, and what was recorded is
  done. What the Plug raises is raised.
  """
  @spec run(Plug.Conn.t(), (Plug.Conn.t() -> result)) :: result when result: term()
  def run(conn, plug) do
    %{adapter: {_adapter, recorder}} = recorded = record(conn)

    try do
      plug.(recorded)
    catch
      kind, reason ->
        # What the Plug has sent goes out before the response to its failure.
        ask(recorder, :finish)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      returned -> play(returned, recorder |> ask(:finish) |> done!())
    end
  end

  @doc "The conn with its real adapter, for our own functions that the app gives its conn."
  @spec real(Plug.Conn.t()) :: Plug.Conn.t()
  def real(%{adapter: {TestAdapter, %{real: real}}} = conn), do: %{conn | adapter: real}
  def real(conn), do: conn

  defp record(%{adapter: {adapter, payload} = real} = conn) do
    ref = make_ref()

    recorder = %{
      method: conn.method,
      params: nil,
      # A handshake has none.
      req_body: "",
      chunks: nil,
      ref: ref,
      owner: spawn(__MODULE__, :init_keeper, [self(), ref, real]),
      # Over HTTP/2 WebSockAdapter would want a CONNECT, and a Plug sees the same GET over both here.
      http_protocol: :"HTTP/1.1",
      peer_data: adapter.get_peer_data(payload),
      # These two are not in all versions of Plug.
      sock_data: fact(real, :get_sock_data),
      ssl_data: fact(real, :get_ssl_data),
      real: real
    }

    version = adapter.get_http_protocol(payload)

    %{conn | adapter: {TestAdapter, recorder}, req_headers: with_key(conn.req_headers, version)}
    # As the first that is registered, it runs last.
    |> Plug.Conn.register_before_send(&respond(&1, adapter))
  end

  defp fact({adapter, payload}, name),
    do: if(function_exported?(adapter, name, 1), do: apply(adapter, name, [payload]))

  defp with_key(headers, :"HTTP/2") do
    if List.keymember?(headers, "sec-websocket-key", 0), do: headers, else: headers ++ [@key]
  end

  defp with_key(headers, _version), do: headers

  # One of our own functions was given the conn.
  defp respond(%{adapter: {adapter, _payload}} = conn, adapter), do: conn

  defp respond(%{adapter: {TestAdapter, %{real: real} = recorder}, state: :set} = conn, _adapter) do
    # Informational responses come first.
    recorder |> ask(:wait) |> done!()
    Plug.Conn.send_resp(%{conn | adapter: real, private: Map.delete(conn.private, :before_send)})
    %{conn | resp_body: ""}
  end

  # The app has put an adapter of its own around this one, so the keeper gets the response.
  defp respond(%{state: :set} = conn, _adapter), do: conn

  defp respond(_conn, _adapter) do
    raise UpgradeError,
      message:
        "a WebSocket handshake, which this server answers neither with a file nor in chunks"
  end

  defp play(%Plug.Conn{adapter: {TestAdapter, _recorder}, state: :upgraded} = conn, upgrade) do
    {protocol, argument} = upgrade || raise "the process that kept what was recorded has ended"
    Plug.Conn.upgrade_adapter(%{real(conn) | state: :unset}, protocol, argument)
  end

  defp play(%Plug.Conn{} = conn, _upgrade), do: real(conn)
  defp play(other, _upgrade), do: other

  # What the keeper has, when it has done what it was told: the upgrade, and what has failed.
  defp ask(%{owner: keeper, ref: ref}, question) do
    monitor = Process.monitor(keeper)
    send(keeper, {ref, question, self(), monitor})

    receive do
      {^monitor, kept} ->
        Process.demonitor(monitor, [:flush])
        kept

      {:DOWN, ^monitor, :process, _keeper, _reason} ->
        {nil, nil}
    end
  end

  # The upgrade. What the keeper could not do is an error of the Plug's, as it is without the recorder.
  defp done!({upgrade, nil}), do: upgrade
  defp done!({_upgrade, {error, stacktrace}}), do: reraise(error, stacktrace)

  @doc false
  def init_keeper(owner, ref, real) do
    keep(%{monitor: Process.monitor(owner), ref: ref, real: real, upgrade: nil, failure: nil})
  end

  defp keep(%{monitor: monitor, ref: ref, real: {adapter, payload}} = keeper) do
    receive do
      {^ref, :upgrade, upgrade} ->
        keep(%{keeper | upgrade: upgrade})

      {^ref, :inform, {status, headers}} ->
        keeper |> attempt(fn -> adapter.inform(payload, status, headers) end) |> keep()

      # Nearly always the hook has sent it.
      {^ref, {status, headers, body}} ->
        keeper |> attempt(fn -> adapter.send_resp(payload, status, headers, body) end) |> keep()

      {^ref, :wait, from, tag} ->
        send(from, {tag, {keeper.upgrade, keeper.failure}})
        # It is told once: an error page may follow.
        keep(%{keeper | failure: nil})

      {^ref, :finish, from, tag} ->
        send(from, {tag, {keeper.upgrade, keeper.failure}})

      {:DOWN, ^monitor, :process, _owner, _reason} ->
        :ok

      _other ->
        keep(keeper)
    end
  end

  defp attempt(keeper, fun) do
    fun.()
    keeper
  rescue
    Plug.Conn.AlreadySentError -> keeper
    error -> %{keeper | failure: keeper.failure || {error, __STACKTRACE__}}
  end
end
