defmodule Ferrosock.Body do
  @moduledoc false
  # How a response's body goes down: whole where it is small, else in pieces, each waiting for room,
  # so that no call into the engine takes long and no response fills the memory. A method or status
  # that has no body gets none (RFC9110§6.4.1).

  alias Ferrosock.{Adapter, Backpressure, Native}

  # A copy of this much takes some tens of microseconds, well under what a scheduler may spend.
  @piece 262_144

  @send_errors [:closed, :already_sent, :invalid_status]

  @type result :: :ok | {:error, Native.send_error()}

  @doc "Whether a response to the method with the status has a body."
  @spec allowed?(Plug.Conn.method(), Plug.Conn.int_status()) :: boolean()
  def allowed?("HEAD", _status), do: false
  def allowed?(_method, status), do: status not in [204, 304]

  @doc "Sends a whole response."
  @spec respond(Adapter.t(), Plug.Conn.int_status(), Plug.Conn.headers(), iodata()) :: result()
  def respond(adapter, status, headers, _body) when status in [204, 304],
    do: Native.exchange_respond(adapter.exchange, status, bodiless(headers, status), "")

  def respond(adapter, status, headers, body) do
    case IO.iodata_length(body) do
      size when size <= @piece ->
        headers = own_length(headers, adapter.method)
        Native.exchange_respond(adapter.exchange, status, headers, body)

      size when adapter.method == "HEAD" ->
        head_only(adapter, status, put_length(headers, size))

      size ->
        with :ok <- start(adapter, status, put_length(headers, size)),
             :ok <- stream(adapter, body),
             do: Native.exchange_finish(adapter.exchange)
    end
  end

  @doc "Sends a response whose body is a range of a file, which must exist."
  @spec respond_file(Adapter.t(), Plug.Conn.int_status(), Plug.Conn.headers(), range) ::
          result() | {:error, {:file, :file.posix()}}
        when range: {Path.t(), non_neg_integer(), non_neg_integer()}
  def respond_file(adapter, status, headers, _range) when status in [204, 304],
    do: respond(adapter, status, headers, "")

  def respond_file(%{method: "HEAD"} = adapter, status, headers, {_path, _offset, length}),
    do: head_only(adapter, status, put_length(headers, length))

  def respond_file(adapter, status, headers, {path, offset, length}) do
    ref = make_ref()
    headers = own_length(headers, adapter.method)

    with :ok <-
           Native.exchange_send_file(adapter.exchange, status, headers, path, offset, length, ref) do
      receive do
        {^ref, {:error, reason}} when is_atom(reason) and reason not in @send_errors ->
          {:error, {:file, reason}}

        {^ref, result} ->
          result
      end
    end
  end

  @doc "Sends the head of a streamed response."
  @spec start(Adapter.t(), Plug.Conn.int_status(), Plug.Conn.headers()) :: result()
  def start(adapter, status, headers) when status in [204, 304],
    do: respond(adapter, status, headers, "")

  def start(adapter, status, headers),
    do: Native.exchange_start(adapter.exchange, status, headers)

  @doc "Sends data of a streamed response; waits while the client is slow."
  @spec stream(Adapter.t(), iodata()) :: :ok | {:error, :closed}
  def stream(adapter, data) do
    case IO.iodata_length(data) do
      # In chunked coding an empty chunk is the end of the body.
      0 -> :ok
      size when size <= @piece -> piece(adapter, data)
      _size -> pieces(adapter, IO.iodata_to_binary(data))
    end
  end

  defp pieces(adapter, <<piece::binary-size(@piece), rest::binary>>) do
    with :ok <- piece(adapter, piece), do: pieces(adapter, rest)
  end

  defp pieces(_adapter, ""), do: :ok
  defp pieces(adapter, rest), do: piece(adapter, rest)

  defp piece(adapter, data) do
    with :full <- Native.exchange_chunk(adapter.exchange, data), do: await(adapter)
  end

  defp await(%{exchange: exchange} = adapter) do
    case Backpressure.await(&Native.exchange_await(exchange, &1), send_timeout(adapter)) do
      :ok -> :ok
      :closed -> {:error, :closed}
      {:timeout, ref} -> give_up(exchange, ref)
    end
  end

  defp send_timeout(%{version: :"HTTP/2", options: options}),
    do: options.http_2_options.send_timeout

  defp send_timeout(%{options: options}), do: options.http_1_options.send_timeout

  # The late answer must not stay in the mailbox of a process that is not the connection's own.
  defp give_up(exchange, ref) do
    Native.exchange_abort(exchange)

    receive do
      {^ref, _answer} -> {:error, :closed}
    after
      0 -> {:error, :closed}
    end
  end

  defp head_only(adapter, status, headers) do
    with :ok <- start(adapter, status, headers), do: Native.exchange_finish(adapter.exchange)
  end

  # RFC9110§8.6: no length with 204; with 304 it is that of the response to a GET.
  defp bodiless(headers, 204), do: delete_length(headers)
  defp bodiless(headers, 304), do: headers

  # A wrong length from the app would break the framing, so the engine sets its own. A HEAD's
  # describes the body that a GET would have got, which only the app may know.
  defp own_length(headers, "HEAD"), do: headers
  defp own_length(headers, _method), do: delete_length(headers)

  defp put_length(headers, size),
    do: [{"content-length", Integer.to_string(size)} | delete_length(headers)]

  defp delete_length(headers), do: for({name, _} = h <- headers, name != "content-length", do: h)
end
