defmodule Ferrosock.WebSocket.Recorder do
  @moduledoc false
  # Lets a Plug upgrade by `WebSockAdapter.upgrade/4`, which asks for the name of the conn's adapter and knows
  # five. One of them is Plug's own test adapter, which records what it is asked for as messages to a process.
  # So a handshake is served with it, and what it has recorded is then done by the real adapter.
  #
  # A process of the recorder's own keeps the messages, because that of the request belongs to the app, which may
  # receive everything. A response is not recorded: a `before_send` hook sends it by the real adapter when Plug is
  # about to. Files and chunks are refused: Plug would read the ones into memory and gather the others there.
  #
  # Which requests are recorded, and whether the recorder is needed at all, is not its concern.

  alias Ferrosock.UpgradeError
  alias Plug.Adapters.Test.Conn, as: TestAdapter

  # Any key would do for WebSockAdapter: a handshake of HTTP/2 has none (RFC8441§5).
  @key {"sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="}

  @doc """
  Calls the Plug with a conn that records, and returns its conn with the adapter that it had before and with the
  upgrade that was recorded. What the Plug raises is raised.
  """
  @spec run(Plug.Conn.t(), (Plug.Conn.t() -> result)) :: result when result: term()
  def run(conn, plug) do
    %{adapter: {_adapter, %{owner: keeper, ref: ref}}} = recorded = record(conn)

    try do
      plug.(recorded)
    catch
      kind, reason ->
        stacktrace = __STACKTRACE__
        recorded_upgrade(keeper, ref)
        :erlang.raise(kind, reason, stacktrace)
    else
      returned -> play(returned, recorded_upgrade(keeper, ref))
    end
  end

  @doc """
  The conn with its real adapter, for functions of ours that are given a conn by the app. A conn that does not
  record stays as it is.
  """
  @spec real(Plug.Conn.t()) :: Plug.Conn.t()
  def real(%{adapter: {TestAdapter, %{real: real}}} = conn), do: %{conn | adapter: real}
  def real(conn), do: conn

  defp record(%{adapter: {adapter, payload} = real} = conn) do
    ref = make_ref()

    recording = %{
      method: conn.method,
      params: nil,
      # A handshake has no body.
      req_body: "",
      chunks: nil,
      ref: ref,
      owner: spawn(__MODULE__, :init_keeper, [self(), ref, real]),
      # WebSockAdapter wants a CONNECT over HTTP/2, and here a Plug sees a GET over either.
      http_protocol: :"HTTP/1.1",
      peer_data: adapter.get_peer_data(payload),
      # Only newer versions of Plug ask for these.
      sock_data: fact(real, :get_sock_data),
      ssl_data: fact(real, :get_ssl_data),
      real: real
    }

    %{conn | adapter: {TestAdapter, recording}, req_headers: with_key(conn.req_headers)}
    # It is registered first, so it runs last.
    |> Plug.Conn.register_before_send(&respond(&1, adapter))
  end

  defp fact({adapter, payload}, name),
    do: if(function_exported?(adapter, name, 1), do: apply(adapter, name, [payload]))

  defp with_key(headers) do
    if List.keymember?(headers, "sec-websocket-key", 0), do: headers, else: headers ++ [@key]
  end

  # A function of ours that upgrades has given it back.
  defp respond(%{adapter: {adapter, _payload}} = conn, adapter), do: conn

  defp respond(%{adapter: {TestAdapter, %{real: real}}, state: :set} = conn, _adapter) do
    private = Map.delete(conn.private, :before_send)
    Plug.Conn.send_resp(%{conn | adapter: real, private: private})
    %{conn | resp_body: ""}
  end

  # The app has put an adapter of its own around this one. The keeper gets the response.
  defp respond(%{state: :set} = conn, _adapter), do: conn

  defp respond(_conn, _adapter) do
    raise UpgradeError,
      message: "a WebSocket handshake, which is not answered with a file or in chunks"
  end

  defp play(%Plug.Conn{adapter: {TestAdapter, %{real: real}}, state: :upgraded} = conn, upgrade) do
    {protocol, argument} = upgrade
    Plug.Conn.upgrade_adapter(%{conn | adapter: real, state: :unset}, protocol, argument)
  end

  defp play(%Plug.Conn{} = conn, _upgrade), do: real(conn)
  defp play(other, _upgrade), do: other

  defp recorded_upgrade(keeper, ref) do
    monitor = Process.monitor(keeper)
    send(keeper, {ref, :finish, self(), monitor})

    receive do
      {^monitor, upgrade} ->
        Process.demonitor(monitor, [:flush])
        upgrade

      {:DOWN, ^monitor, :process, _keeper, reason} ->
        exit(reason)
    end
  end

  @doc false
  def init_keeper(owner, ref, real), do: keep(Process.monitor(owner), ref, real, nil)

  defp keep(monitor, ref, {adapter, payload} = real, upgrade) do
    receive do
      {^ref, :upgrade, upgrade} ->
        keep(monitor, ref, real, upgrade)

      {^ref, :inform, {status, headers}} ->
        adapter.inform(payload, status, headers)
        keep(monitor, ref, real, upgrade)

      {^ref, {status, headers, body}} ->
        send_resp(real, status, headers, body)
        keep(monitor, ref, real, upgrade)

      {^ref, :finish, from, tag} ->
        send(from, {tag, upgrade})

      {:DOWN, ^monitor, :process, _owner, _reason} ->
        :ok

      _other ->
        keep(monitor, ref, real, upgrade)
    end
  end

  # Nearly always the hook has sent it.
  defp send_resp({adapter, payload}, status, headers, body) do
    adapter.send_resp(payload, status, headers, body)
  rescue
    Plug.Conn.AlreadySentError -> :ok
  end
end
