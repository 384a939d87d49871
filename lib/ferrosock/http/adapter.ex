defmodule Ferrosock.Adapter do
  @moduledoc false
  # Plug's view of an exchange. Any process may use it; `{:plug_conn, :sent}` goes to the one that
  # serves the request. HTTP's own grammar and limits are the engine's concern.

  @behaviour Plug.Conn.Adapter

  alias Ferrosock.{Address, Native, Options}
  alias Ferrosock.HTTP.{Body, Compression, Status}

  @already_sent {:plug_conn, :sent}

  # Bytes, and ms.
  @max_read 0xFFFFFFFFFFFF

  # Not every version of Plug has all of them.
  @callbacks Plug.Conn.Adapter.behaviour_info(:callbacks)

  defstruct [
    :exchange,
    :owner,
    :method,
    :version,
    :peer,
    # The values of the request's header fields of this name.
    :accept_encoding,
    :options,
    # What `upgrade/3` recorded, and the socket that came of it.
    :upgrade,
    :socket,
    # Whether chunks have a body to go to: not with HEAD, 204 or 304.
    body?: true
  ]

  @type t :: %__MODULE__{
          exchange: Native.exchange(),
          owner: pid(),
          method: Plug.Conn.method(),
          version: :"HTTP/1.0" | :"HTTP/1.1" | :"HTTP/2",
          peer: Address.t(),
          accept_encoding: [binary()],
          options: Options.t(),
          upgrade: Ferrosock.WebSocket.Upgrade.t() | nil,
          socket: Native.socket() | nil,
          body?: boolean()
        }

  @impl true
  def send_resp(%__MODULE__{upgrade: upgrade} = adapter, 101, headers, _body)
      when upgrade != nil do
    case Native.exchange_upgrade(adapter.exchange, headers, socket_options(adapter)) do
      {:ok, socket} -> sent(:ok, %{adapter | socket: socket})
      {:error, reason} -> sent({:error, reason}, adapter)
    end
  end

  def send_resp(adapter, status, headers, body) do
    {headers, body} = Compression.encode(adapter, status, headers, body)
    adapter |> Body.respond(status, headers, body) |> sent(adapter)
  end

  @impl true
  def send_file(adapter, status, headers, path, offset, length) do
    length = file_range!(path, offset, length)

    case Body.respond_file(adapter, status, headers, {path, offset, length}) do
      {:error, {:file, reason}} -> raise_file_error(reason, path)
      result -> sent(result, adapter)
    end
  end

  @impl true
  def send_chunked(adapter, status, headers) do
    adapter = %{adapter | body?: Body.allowed?(adapter.method, status)}
    adapter |> Body.start(status, headers) |> sent(adapter)
  end

  @impl true
  def chunk(%__MODULE__{body?: false} = adapter, _data), do: {:ok, nil, adapter}

  def chunk(adapter, data) do
    with :ok <- Body.stream(adapter, data), do: {:ok, nil, adapter}
  end

  @impl true
  def read_req_body(adapter, options) do
    length = options |> Keyword.get(:length, 8_000_000) |> read_limit!(:length)
    timeout = options |> Keyword.get(:read_timeout, 15_000) |> read_limit!(:read_timeout)
    ref = make_ref()
    Native.exchange_read(adapter.exchange, length, timeout, ref)

    receive do
      # What the client did wrong is the pipeline's concern.
      {^ref, {:error, :malformed}} -> {:error, :closed}
      {^ref, {:error, reason}} -> {:error, reason}
      {^ref, {more_or_ok, data}} -> {more_or_ok, data, adapter}
    end
  end

  # More than there will ever be is as good as no limit.
  defp read_limit!(:infinity, :length), do: @max_read
  defp read_limit!(:infinity, :read_timeout), do: :infinity
  defp read_limit!(value, _name) when is_integer(value) and value >= 0, do: min(value, @max_read)

  defp read_limit!(value, name) do
    raise ArgumentError,
          "invalid value for option #{inspect(name)} of read_body/2: #{inspect(value)}; accepted is " <>
            "a non-negative integer or `:infinity`"
  end

  @impl true
  def inform(adapter, status, headers) do
    headers = for {name, value} <- headers, do: {to_string(name), value}

    case Native.exchange_inform(adapter.exchange, Status.line(adapter.version, status), headers) do
      {:error, :not_supported} -> {:error, :not_supported}
      result -> with {:ok, nil, adapter} <- checked(result, adapter), do: {:ok, adapter}
    end
  end

  @impl true
  def upgrade(adapter, kind, {websock, argument, options})
      when kind in [:websocket, :sock] and is_atom(websock) do
    if kind == :websocket do
      functions = [init: 1, handle_in: 2, handle_info: 2]
      Options.implements!(websock, functions, "the upgrade needs a WebSock")
    end

    settings = Options.upgrade!(options, adapter.options.websocket_options)
    upgrade = %{kind: kind, websock: websock, argument: argument, settings: settings}
    {:ok, %{adapter | upgrade: upgrade}}
  end

  def upgrade(_adapter, _protocol, _options), do: {:error, :not_supported}

  @impl true
  def push(_adapter, _path, _headers), do: {:error, :not_supported}

  @impl true
  def get_peer_data(%__MODULE__{peer: {address, port}} = adapter) do
    certificate =
      case tls(adapter) do
        {_version, _suite, certificate} -> certificate
        nil -> nil
      end

    %{address: address, port: port, ssl_cert: certificate}
  end

  @impl {:get_sock_data, 1} in @callbacks
  def get_sock_data(adapter) do
    {address, port} = Native.exchange_sock(adapter.exchange)
    %{address: address, port: port}
  end

  @impl {:get_ssl_data, 1} in @callbacks
  def get_ssl_data(adapter) do
    with {version, suite, _certificate} <- tls(adapter) do
      suite = suite |> to_charlist() |> :ssl.str_to_suite()
      [protocol: version, selected_cipher_suite: suite]
    end
  end

  defp tls(%{options: %{scheme: :http}}), do: nil
  defp tls(adapter), do: Native.exchange_tls(adapter.exchange)

  @impl true
  def get_http_protocol(adapter), do: adapter.version

  defp socket_options(%{upgrade: upgrade, options: options}) do
    Map.merge(upgrade.settings.socket, %{
      control_events: control_events?(upgrade),
      hibernate_after: options.hibernate_after
    })
  end

  defp control_events?(%{kind: :sock}), do: true

  # A handler without `handle_control/2` is not woken by pings and pongs.
  defp control_events?(%{websock: websock}),
    do: Code.ensure_loaded?(websock) and function_exported?(websock, :handle_control, 2)

  defp sent(result, adapter) do
    result = checked(result, adapter)
    send(adapter.owner, @already_sent)
    result
  end

  # A client that went away is no fault of the Plug that answers it.
  defp checked(result, adapter) when result in [:ok, {:error, :closed}], do: {:ok, nil, adapter}
  defp checked({:error, :already_sent}, _adapter), do: raise(Plug.Conn.AlreadySentError)

  defp checked({:error, {:invalid_header, name}}, _adapter) do
    raise ArgumentError,
          "response header #{inspect(name)} has a character that HTTP does not allow there"
  end

  defp checked({:error, :invalid_status}, _adapter),
    do: raise(ArgumentError, "the status is none that a response can have")

  defp checked({:error, :not_supported}, _adapter) do
    raise Ferrosock.UpgradeError, message: "the connection cannot become a WebSocket"
  end

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
end
