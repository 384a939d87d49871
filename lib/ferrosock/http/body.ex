defmodule Ferrosock.HTTP.Body do
  @moduledoc false
  # Sends a response: whole if it is small, else in pieces, each of which waits for room, so that no call into
  # the engine takes long and no response fills the memory. Whether a response has a body at all is the
  # concern of `Ferrosock.HTTP.Response`.

  alias Ferrosock.{Backpressure, Native}
  alias Ferrosock.HTTP.{Exchange, Response, Status}

  # Bytes. To copy this many takes some tens of microseconds, well under what a call may keep a scheduler.
  @piece 262_144

  # What the engine answers to any response. Other reasons are POSIX codes of the file.
  @send_errors [:closed, :already_sent, :invalid_status]

  @type result :: :ok | {:error, Native.send_error()}

  @doc "Sends a whole response."
  @spec respond(Exchange.t(), Plug.Conn.int_status(), Plug.Conn.headers(), iodata()) :: result()
  def respond(exchange, status, headers, body) do
    case Response.content(exchange.method, status) do
      content when content in [:sent, :left_out] ->
        size = IO.iodata_length(body)

        if size <= @piece,
          do: whole(exchange, status, headers, body),
          else: large(content, exchange, status, Response.put_length(headers, size), body)

      _none_or_described ->
        whole(exchange, status, headers, "")
    end
  end

  @doc "Sends a response whose body is a range of a file, which must exist."
  @spec respond_file(Exchange.t(), Plug.Conn.int_status(), Plug.Conn.headers(), range) ::
          result() | {:error, {:file, :file.posix()}}
        when range: {Path.t(), non_neg_integer(), non_neg_integer()}
  def respond_file(exchange, status, headers, {_path, _offset, length} = range) do
    case Response.content(exchange.method, status) do
      :sent -> file(exchange, status, headers, range)
      :left_out -> head_only(exchange, status, Response.put_length(headers, length))
      _none_or_described -> whole(exchange, status, headers, "")
    end
  end

  @doc "Starts a response whose body follows by `stream/2`, unless it has none."
  @spec start_stream(Exchange.t(), Plug.Conn.int_status(), Plug.Conn.headers()) ::
          {result(), Exchange.t()}
  def start_stream(exchange, status, headers) do
    case Response.content(exchange.method, status) do
      :sent -> {start(exchange, status, headers), exchange}
      :left_out -> {start(exchange, status, headers), %{exchange | body?: false}}
      _none_or_described -> {whole(exchange, status, headers, ""), %{exchange | body?: false}}
    end
  end

  @doc "Sends data of a streamed response; waits while the client is slow."
  @spec stream(Exchange.t(), iodata()) :: :ok | {:error, :closed}
  def stream(%{body?: false}, _data), do: :ok

  def stream(exchange, data) do
    case IO.iodata_length(data) do
      # In chunked coding an empty chunk would end the body.
      0 -> :ok
      size when size <= @piece -> piece(exchange, data)
      _size -> pieces(exchange, IO.iodata_to_binary(data))
    end
  end

  defp whole(exchange, status, headers, body),
    do: Native.exchange_respond(exchange.handle, status_line(exchange, status), headers, body)

  defp large(:left_out, exchange, status, headers, _body),
    do: head_only(exchange, status, headers)

  defp large(:sent, exchange, status, headers, body) do
    with :ok <- start(exchange, status, headers),
         :ok <- stream(exchange, body),
         do: Native.exchange_finish(exchange.handle)
  end

  defp head_only(exchange, status, headers) do
    with :ok <- start(exchange, status, headers), do: Native.exchange_finish(exchange.handle)
  end

  defp start(exchange, status, headers),
    do: Native.exchange_start(exchange.handle, status_line(exchange, status), headers)

  defp status_line(exchange, status), do: Status.line(exchange.version, status)

  defp file(%{handle: handle} = exchange, status, headers, {path, offset, length}) do
    ref = make_ref()
    status = status_line(exchange, status)

    with :ok <- Native.exchange_send_file(handle, status, headers, path, offset, length, ref) do
      receive do
        {^ref, {:error, reason}} when is_atom(reason) and reason not in @send_errors ->
          {:error, {:file, reason}}

        {^ref, result} ->
          result
      end
    end
  end

  defp pieces(exchange, <<piece::binary-size(@piece), rest::binary>>) do
    with :ok <- piece(exchange, piece), do: pieces(exchange, rest)
  end

  defp pieces(_exchange, ""), do: :ok
  defp pieces(exchange, rest), do: piece(exchange, rest)

  defp piece(exchange, data) do
    with :full <- Native.exchange_chunk(exchange.handle, data), do: await(exchange)
  end

  defp await(%{handle: handle} = exchange) do
    case Backpressure.await(&Native.exchange_await(handle, &1), send_timeout(exchange)) do
      :ok -> :ok
      :closed -> {:error, :closed}
      {:timeout, ref} -> give_up(handle, ref)
    end
  end

  defp send_timeout(%{version: :"HTTP/2", options: options}),
    do: options.http_2_options.send_timeout

  defp send_timeout(%{options: options}), do: options.http_1_options.send_timeout

  # The late answer must not stay in the mailbox: the process may be one of the app's, which lives on.
  defp give_up(handle, ref) do
    Native.exchange_abort(handle)

    receive do
      {^ref, _answer} -> {:error, :closed}
    after
      0 -> {:error, :closed}
    end
  end
end
