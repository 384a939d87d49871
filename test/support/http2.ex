defmodule Ferrosock.Test.HTTP2 do
  @moduledoc """
  A client of HTTP/2 frames, coded by cowlib, so that the server's code is not its own judge. What it knows of
  a connection is kept in the process of the test.
  """

  import ExUnit.Assertions

  alias Ferrosock.Test.Raw

  @preface "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

  @timeout 20_000

  @doc "A connection whose client knows that the server speaks HTTP/2. The settings are cowlib's."
  def connect(server, settings \\ %{}) do
    socket = Raw.connect(server)
    open(socket, settings)
    socket
  end

  @doc "Begins on a connection; `send` sends the preface, if not all at once."
  def open(socket, settings, send \\ &write/2) do
    state = %{bytes: "", frames: [], encoder: :cow_hpack.init(), decoder: :cow_hpack.init()}
    Process.put(socket, state)
    send.(socket, @preface)
    write(socket, :cow_http2.settings(settings))
  end

  @doc "Sends a request; without a body, or with all of it, or with `:more` to come by `data/4`."
  def request(socket, id, method, path, headers \\ [], body \\ nil) do
    headers = pseudo(method, path) ++ headers
    headers(socket, id, if(body, do: :nofin, else: :fin), headers)
    if is_binary(body), do: data(socket, id, :fin, body)
  end

  @doc "Sends a request and takes it back, in one piece."
  def request_and_reset(socket, id) do
    head = head_frame(socket, id, :fin, pseudo("GET", "/"))
    write(socket, [head, :cow_http2.rst_stream(id, :cancel)])
  end

  defp pseudo(method, path) do
    [{":method", method}, {":scheme", "http"}, {":authority", "localhost"}, {":path", path}]
  end

  @doc "Asks for a WebSocket (RFC 8441)."
  def upgrade(socket, id, path, headers \\ []) do
    pseudo = [{":protocol", "websocket"} | pseudo("CONNECT", path)]
    headers(socket, id, :nofin, pseudo ++ [{"sec-websocket-version", "13"} | headers])
  end

  @doc "A WebSocket of `Ferrosock.Test.Probe` on the stream: its process, which is monitored."
  def websocket(socket, id) do
    upgrade(socket, id, "/")
    {200, _headers} = head(socket, id)
    assert_receive {:opened, pid}
    Process.monitor(pid)
    pid
  end

  def headers(socket, id, fin, headers),
    do: write(socket, head_frame(socket, id, fin, headers))

  defp head_frame(socket, id, fin, headers) do
    %{encoder: encoder} = state = Process.get(socket)
    {block, encoder} = :cow_hpack.encode(headers, encoder)
    Process.put(socket, %{state | encoder: encoder})
    :cow_http2.headers(id, fin, block)
  end

  def data(socket, id, fin, data), do: write(socket, :cow_http2.data(id, fin, data))
  def reset(socket, id), do: write(socket, :cow_http2.rst_stream(id, :cancel))

  @doc "Lets the server send so many bytes more, of the stream and of them all."
  def window_update(socket, id, bytes) do
    write(socket, :cow_http2.window_update(bytes))
    write(socket, :cow_http2.window_update(id, bytes))
  end

  @doc """
  What comes on a stream until its end: `%{status, headers, body, end}`, where the end is `:fin`,
  `{:reset, reason}`, or `:closed` when it is that of the connection, and `informed` what came before.
  """
  def response(socket, id) do
    collect(socket, id, %{informed: [], status: nil, headers: [], body: ""})
  end

  defp collect(socket, id, response) do
    case take(socket, &(elem(&1, 1) == id and elem(&1, 0) in [:headers, :data, :rst_stream])) do
      {:headers, ^id, fin, [{":status", status} | headers]} ->
        response |> head(String.to_integer(status), headers) |> go_on(socket, id, fin)

      {:data, ^id, fin, data} ->
        go_on(%{response | body: response.body <> data}, socket, id, fin)

      {:rst_stream, ^id, reason} ->
        Map.put(response, :end, {:reset, reason})

      :closed ->
        Map.put(response, :end, :closed)
    end
  end

  defp head(response, status, headers) when status in 100..199,
    do: %{response | informed: response.informed ++ [{status, headers}]}

  defp head(response, status, headers), do: %{response | status: status, headers: headers}

  defp go_on(response, _socket, _id, :fin), do: Map.put(response, :end, :fin)
  defp go_on(response, socket, id, :nofin), do: collect(socket, id, response)

  @doc "The status and the headers that begin a response which goes on."
  def head(socket, id) do
    {:headers, ^id, :nofin, [{":status", status} | headers]} =
      take(socket, &match?({:headers, ^id, _, _}, &1))

    {String.to_integer(status), headers}
  end

  @doc "The data of a stream, until there are so many bytes."
  def read(socket, id, bytes, data \\ "")
  def read(_socket, _id, bytes, data) when byte_size(data) >= bytes, do: data

  def read(socket, id, bytes, data) do
    {:data, ^id, _fin, more} = take(socket, &match?({:data, ^id, _, _}, &1))
    read(socket, id, bytes, data <> more)
  end

  @doc "The first frame, as cowlib tells it, that fits; the others stay. `:closed` at the end."
  def take(socket, fits?, timeout \\ @timeout) do
    %{frames: frames} = state = Process.get(socket)

    case Enum.split_while(frames, &(not fits?.(&1))) do
      {before, [frame | rest]} ->
        Process.put(socket, %{state | frames: before ++ rest})
        frame

      {_all, []} ->
        with :ok <- receive_frames(socket, timeout), do: take(socket, fits?, timeout)
    end
  end

  @doc "Whether the server has asked for no more requests, as far as was read."
  def goaway?(socket), do: Enum.any?(Process.get(socket).frames, &match?({:goaway, _, _, _}, &1))

  @doc "Whether the connection ends, after a GOAWAY or without one: its reason, or `nil`."
  def closed(socket, timeout \\ @timeout) do
    :closed = take(socket, fn _frame -> false end, timeout)
    goaways = for {:goaway, _last, reason, _data} <- Process.get(socket).frames, do: reason
    List.last(goaways)
  end

  defp receive_frames(socket, timeout) do
    case :gen_tcp.recv(socket, 0, timeout) do
      {:ok, bytes} -> parse(socket, bytes)
      {:error, :timeout} -> {:timeout, Process.get(socket).frames}
      {:error, _closed} -> :closed
    end
  end

  defp parse(socket, bytes) do
    state = Process.get(socket)
    {frames, rest} = frames(state.bytes <> bytes, [])
    {frames, decoder} = Enum.map_reduce(frames, state.decoder, &decode/2)
    state = %{state | bytes: rest, frames: state.frames ++ frames, decoder: decoder}
    Process.put(socket, state)
    Enum.each(frames, &answer(socket, &1))
  end

  # In the order in which they come, as each adds to what the next refers to.
  defp decode({:headers, id, fin, :head_fin, block}, decoder) do
    {headers, decoder} = :cow_hpack.decode(block, decoder)
    {{:headers, id, fin, headers}, decoder}
  end

  defp decode(frame, decoder), do: {frame, decoder}

  defp frames(bytes, frames) do
    case :cow_http2.parse(bytes) do
      {:ok, :settings_ack, rest} -> frames(rest, frames)
      {:ok, frame, rest} -> frames(rest, [frame | frames])
      {:ignore, rest} -> frames(rest, frames)
      :more -> {Enum.reverse(frames), bytes}
    end
  end

  defp answer(socket, {:settings, _settings}), do: write(socket, :cow_http2.settings_ack())
  defp answer(socket, {:ping, data}), do: write(socket, :cow_http2.ping_ack(data))
  defp answer(_socket, _frame), do: :ok

  # Where the connection has ended, reading tells.
  defp write(socket, bytes), do: _ = :gen_tcp.send(socket, bytes)
end
