defmodule Ferrosock.Adapter do
  @moduledoc false
  # Plug's view of an exchange. Any process may use it; `{:plug_conn, :sent}` goes to the process that serves the
  # request. HTTP's grammar and its limits are the engine's concern, and how a response is sent is that of
  # `Ferrosock.HTTP.Body`.
  #
  # The module's name is public: apps and libraries see it in `conn.adapter`.

  @behaviour Plug.Conn.Adapter
  @behaviour Ferrosock.WebSocket.Upgrade

  alias Ferrosock.{Native, UpgradeError}
  alias Ferrosock.HTTP.{Body, Compression, Status}
  alias Ferrosock.WebSocket.{HandOver, Upgrade}

  @already_sent {:plug_conn, :sent}

  # Bytes, and milliseconds: larger limits of `read_body/2` are lowered to this, which is as good as none.
  @max_read 0xFFFFFFFFFFFF

  # Not every version of Plug has all of these callbacks.
  @callbacks Plug.Conn.Adapter.behaviour_info(:callbacks)

  @impl true
  def send_resp(%{upgrade: upgrade} = exchange, 101, headers, _body) when upgrade != nil do
    options = Upgrade.socket_options(upgrade, exchange.options)

    case Native.exchange_upgrade(exchange.handle, headers, options) do
      {:ok, socket} -> sent(:ok, %{exchange | socket: socket})
      {:error, reason} -> sent({:error, reason}, exchange)
    end
  end

  def send_resp(exchange, status, headers, body) do
    {headers, body} = Compression.encode(exchange, status, headers, body)
    exchange |> Body.respond(status, headers, body) |> sent(exchange)
  end

  @impl true
  def send_file(exchange, status, headers, path, offset, length) do
    length = file_range!(path, offset, length)

    case Body.respond_file(exchange, status, headers, {path, offset, length}) do
      {:error, {:file, reason}} -> raise_file_error(reason, path)
      result -> sent(result, exchange)
    end
  end

  @impl true
  def send_chunked(exchange, status, headers) do
    {result, exchange} = Body.start_stream(exchange, status, headers)
    sent(result, exchange)
  end

  @impl true
  def chunk(exchange, data) do
    with :ok <- Body.stream(exchange, data), do: {:ok, nil, exchange}
  end

  @impl true
  def read_req_body(exchange, options) do
    length = options |> Keyword.get(:length, 8_000_000) |> read_limit!(:length)
    timeout = options |> Keyword.get(:read_timeout, 15_000) |> read_limit!(:read_timeout)
    ref = make_ref()
    Native.exchange_read(exchange.handle, length, timeout, ref)

    receive do
      # Plug knows no such reason. If the Plug fails because of it, the pipeline asks the engine for it.
      {^ref, {:error, :malformed}} -> {:error, :closed}
      {^ref, {:error, reason}} -> {:error, reason}
      {^ref, {more_or_ok, data}} -> {more_or_ok, data, exchange}
    end
  end

  @impl true
  def inform(exchange, status, headers) do
    status = Status.line(exchange.version, status)
    headers = for {name, value} <- headers, do: {to_string(name), value}

    case Native.exchange_inform(exchange.handle, status, headers) do
      {:error, :not_supported} -> {:error, :not_supported}
      result -> with {:ok, nil, exchange} <- checked(result, exchange), do: {:ok, exchange}
    end
  end

  @impl true
  def upgrade(exchange, _kind, %Upgrade{} = upgrade), do: {:ok, %{exchange | upgrade: upgrade}}

  def upgrade(exchange, :websocket, {websock, _state, _options} = handed_over)
      when is_atom(websock) do
    {:ok, %{exchange | upgrade: HandOver.upgrade!(handed_over, exchange.options)}}
  end

  def upgrade(_exchange, _protocol, _options), do: {:error, :not_supported}

  @impl true
  def websocket_options(exchange), do: exchange.options.websocket_options

  @impl true
  def push(_exchange, _path, _headers), do: {:error, :not_supported}

  @impl true
  def get_peer_data(%{peer: {address, port}} = exchange) do
    certificate = with {_version, _suite, certificate} <- tls(exchange), do: certificate
    %{address: address, port: port, ssl_cert: certificate}
  end

  @impl {:get_sock_data, 1} in @callbacks
  def get_sock_data(exchange) do
    {address, port} = Native.exchange_sock(exchange.handle)
    %{address: address, port: port}
  end

  @impl {:get_ssl_data, 1} in @callbacks
  def get_ssl_data(exchange) do
    with {version, suite, _certificate} <- tls(exchange) do
      suite = suite |> to_charlist() |> :ssl.str_to_suite()
      [protocol: version, selected_cipher_suite: suite]
    end
  end

  @impl true
  def get_http_protocol(exchange), do: exchange.version

  defp sent(result, exchange) do
    result = checked(result, exchange)
    send(exchange.owner, @already_sent)
    result
  end

  # A client that has left is no fault of the Plug that answers it.
  defp checked(result, exchange) when result in [:ok, {:error, :closed}],
    do: {:ok, nil, exchange}

  defp checked({:error, :already_sent}, _exchange), do: raise(Plug.Conn.AlreadySentError)

  defp checked({:error, {:invalid_header, name}}, _exchange) do
    raise ArgumentError,
          "response header #{inspect(name)} has a character that HTTP does not allow there"
  end

  defp checked({:error, :invalid_status}, _exchange),
    do: raise(ArgumentError, "the status is none that a response can have")

  defp checked({:error, :not_supported}, _exchange),
    do: raise(UpgradeError, message: "no connection that can become a WebSocket")

  defp file_range!(path, offset, length) do
    size = file_size!(path)
    length = if length == :all, do: size - offset, else: length

    if offset < 0 or length < 0 or offset + length > size do
      raise ArgumentError,
            "cannot send #{length} bytes from offset #{offset} of #{inspect(path)}, " <>
              "which has #{size} bytes"
    end

    length
  end

  defp file_size!(path) do
    with {:ok, info} <- :file.read_file_info(path, [:raw, time: :posix]),
         %File.Stat{type: :regular, size: size} <- File.Stat.from_record(info) do
      size
    else
      {:error, reason} -> raise_file_error(reason, path)
      %File.Stat{type: type} -> raise_file_error(irregular(type), path)
    end
  end

  defp irregular(:directory), do: :eisdir
  defp irregular(_type), do: :einval

  defp raise_file_error(reason, path),
    do: raise(File.Error, reason: reason, action: "send file", path: path)

  defp read_limit!(:infinity, :length), do: @max_read
  defp read_limit!(:infinity, :read_timeout), do: :infinity
  defp read_limit!(value, _name) when is_integer(value) and value >= 0, do: min(value, @max_read)

  defp read_limit!(value, name) do
    raise ArgumentError,
          "invalid value for option #{inspect(name)} of read_body/2: #{inspect(value)}; accepted is " <>
            "a non-negative integer or `:infinity`"
  end

  defp tls(%{options: %{scheme: :http}}), do: nil
  defp tls(exchange), do: Native.exchange_tls(exchange.handle)
end
