defmodule Ferrosock.HTTP.Body do
  @moduledoc false
  # How a response's body goes down: whole where it is small, else in pieces, each waiting for room,
  # so that no call into the engine takes long and no response fills the memory. A method or status
  # that has no body gets none (RFC9110§6.4.1).

  alias Ferrosock.{Adapter, Backpressure, Native}
  alias Ferrosock.HTTP.{Header, Status}

  # A copy of this much takes some tens of microseconds, well under what a scheduler may spend.
  @piece 262_144

  # RFC9110§15.3.5, §15.3.6, §15.4.5
  @bodiless [204, 205, 304]

  @send_errors [:closed, :already_sent, :invalid_status]

  @type result :: :ok | {:error, Native.send_error()}

  @doc "Whether a response to the method with the status has a body."
  @spec allowed?(Plug.Conn.method(), Plug.Conn.int_status()) :: boolean()
  def allowed?("HEAD", _status), do: false
  def allowed?(_method, status), do: status not in @bodiless

  @doc "Sends a whole response."
  @spec respond(Adapter.t(), Plug.Conn.int_status(), Plug.Conn.headers(), iodata()) :: result()
  def respond(adapter, status, headers, _body) when status in @bodiless,
    do: whole(adapter, status, headers, "")

  def respond(adapter, status, headers, body) do
    case IO.iodata_length(body) do
      size when size <= @piece ->
        whole(adapter, status, headers, body)

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
  def respond_file(adapter, status, headers, _range) when status in @bodiless,
    do: respond(adapter, status, headers, "")

  def respond_file(%{method: "HEAD"} = adapter, status, headers, {_path, _offset, length}),
    do: head_only(adapter, status, put_length(headers, length))

  def respond_file(adapter, status, headers, {path, offset, length}) do
    ref = make_ref()
    status = Status.line(adapter.version, status)

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
  def start(adapter, status, headers) when status in @bodiless,
    do: respond(adapter, status, headers, "")

  def start(adapter, status, headers),
    do: Native.exchange_start(adapter.exchange, Status.line(adapter.version, status), headers)

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

  # The length of a body that is here is the engine's to tell, whatever the app says of it.
  defp whole(%{exchange: exchange, version: version}, status, headers, body),
    do: Native.exchange_respond(exchange, Status.line(version, status), headers, body)

  defp put_length(headers, size),
    do: Header.put(headers, "content-length", Integer.to_string(size))
end
