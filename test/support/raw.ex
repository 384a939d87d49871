defmodule Ferrosock.Test.Raw do
  @moduledoc """
  A client of raw bytes over `:gen_tcp`, or `:ssl`: its own reading and writing of HTTP and WebSocket frames, so
  that the server's code is not its own judge.
  """

  import Bitwise

  alias Ferrosock.Options

  # Nobody waits for so long, but for a machine that is busy with other things.
  @timeout 20_000
  @key "dGhlIHNhbXBsZSBub25jZQ=="

  def start_server!(options) do
    # The clients' handshakes share the VM with all other tests.
    defaults = [port: 0, ip: :loopback, startup_log: false, handshake_timeout: 60_000]
    ExUnit.Callbacks.start_supervised!({Ferrosock, Keyword.merge(defaults, options)})
  end

  @doc """
  The options of a server on TCP, on TLS with a certificate of `Ferrosock.Test.Certificates`, or on a Unix
  socket.
  """
  def transport_options(:tcp, _made), do: []
  def transport_options(:tls, made), do: [scheme: :https, cert: made.cert, key: made.key]

  def transport_options(:unix, _made) do
    [ip: {:local, tmp_path()}]
  end

  @doc """
  A path that nobody else has; what is there after the test is removed. It is not below the project, as that of a
  Unix socket must be short.
  """
  def tmp_path do
    path = Path.join(System.tmp_dir!(), unique_name())
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  @doc "A name that no other test has, also in another VM."
  def unique_name, do: "ferrosock-#{System.pid()}-#{System.unique_integer([:positive])}"

  @doc "What opens a bare listener, without a server around it."
  def listener_options(http_1_options) do
    [plug: fn conn, _ -> conn end, ip: :loopback, port: 0, backlog: 16]
    |> Keyword.put(:http_1_options, http_1_options)
    |> Options.server!()
    |> Options.listener()
  end

  @doc """
  A server whose Plug is the function; one that sends no response gets an empty 200. A test may have
  several.
  """
  def serve(fun, options \\ []) do
    plug = fn conn, _options ->
      case fun.(conn) do
        %Plug.Conn{} = conn -> conn
        _other -> Plug.Conn.send_resp(conn, 200, "")
      end
    end

    start_server!([plug: plug, id: make_ref()] ++ options)
  end

  def port(server), do: Ferrosock.info(server).address |> elem(1)

  def connect(server_or_port, options \\ [])

  def connect(server, options) when is_pid(server) do
    case Ferrosock.info(server).address do
      {{:local, _path} = host, 0} -> connect_to(host, 0, options)
      {_ip, port} -> connect(port, options)
    end
  end

  def connect(port, options), do: connect_to({127, 0, 0, 1}, port, [nodelay: true] ++ options)

  defp connect_to(host, port, options) do
    options = [:binary, active: false] ++ options
    {:ok, socket} = :gen_tcp.connect(host, port, options, @timeout)
    socket
  end

  @doc "A connection with TLS; the options are those of `:ssl.connect/4`."
  def connect_tls(server, options) do
    options = [mode: :binary, active: false, server_name_indication: ~c"localhost"] ++ options
    :ssl.connect({127, 0, 0, 1}, port(server), options, @timeout)
  end

  @doc "Whether there is nobody who listens."
  def refused?(server) when is_pid(server), do: server |> port() |> refused?()

  def refused?(port) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, [], @timeout) do
      {:ok, socket} -> :gen_tcp.close(socket) != :ok
      {:error, _reason} -> true
    end
  end

  defp recv(socket, size, timeout), do: transport(socket).recv(socket, size, timeout)

  defp setopts(socket, options) when is_port(socket), do: :inet.setopts(socket, options)
  defp setopts(socket, options), do: :ssl.setopts(socket, options)

  @doc "The module whose functions the socket is for."
  def transport(socket) when is_port(socket), do: :gen_tcp
  def transport(_socket), do: :ssl

  def write(socket, data), do: :ok = transport(socket).send(socket, data)

  @doc """
  Sends, and waits until the server has read it, so that what is sent next is a read of its own. The server reads
  nothing else meanwhile.
  """
  def write_alone(server, socket, data) do
    {received, sent} = {Ferrosock.info(server).bytes_received, sent(socket)}
    write(socket, data)
    sent = sent(socket) - sent
    eventually(fn -> Ferrosock.info(server).bytes_received >= received + sent end)
  end

  # What the socket itself has counted, so that TLS counts as what it is on the wire.
  defp sent(socket) do
    getstat = if is_port(socket), do: &:inet.getstat/2, else: &:ssl.getstat/2
    {:ok, [send_oct: bytes]} = getstat.(socket, [:send_oct])
    bytes
  end

  @doc "Sends a request and reads its response."
  def request(socket, method, path, headers \\ [], body \\ "") do
    write(socket, head(method, path, headers) <> body)
    response(socket, method)
  end

  def head(method, path, headers \\ []) do
    lines = for {name, value} <- [{"host", "localhost"} | headers], do: "#{name}: #{value}\r\n"
    "#{method} #{path} HTTP/1.1\r\n#{lines}\r\n"
  end

  @doc "The body of a form with a field and a file, whose boundary is `xx`."
  def multipart(field, data) do
    before = """
    --xx\r
    content-disposition: form-data; name="#{field}"\r
    \r
    value\r
    --xx\r
    content-disposition: form-data; name="file"; filename="data.bin"\r
    content-type: application/octet-stream\r
    \r
    """

    [before, data, "\r\n--xx--\r\n"]
  end

  @doc "Reads a response: its status, headers and body."
  def response(socket, method \\ "GET") do
    {:ok, status} = response_line(socket)
    headers = headers(socket, [])
    %{status: status, headers: headers, body: body(socket, method, status, headers)}
  end

  def header(%{headers: headers}, name), do: for({^name, value} <- headers, do: value)

  defp response_line(socket) do
    with {:ok, {:http_response, _version, status, _phrase}} <- packet(socket, :http_bin),
         do: {:ok, status}
  end

  defp headers(socket, headers) do
    case packet(socket, :httph_bin) do
      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, [{name |> to_string() |> String.downcase(), value} | headers])

      {:ok, :http_eoh} ->
        Enum.reverse(headers)
    end
  end

  defp packet(socket, type) do
    setopts(socket, packet: type)
    result = recv(socket, 0, @timeout)
    setopts(socket, packet: :raw)
    result
  end

  defp body(_socket, "HEAD", _status, _headers), do: ""
  defp body(_socket, _method, status, _headers) when status in [101, 204, 304], do: ""
  defp body(_socket, _method, status, _headers) when status in 100..199, do: ""

  defp body(socket, _method, _status, headers) do
    headers = Map.new(headers)

    cond do
      headers["transfer-encoding"] == "chunked" -> chunks(socket, [])
      length = headers["content-length"] -> read(socket, String.to_integer(length))
      true -> read_all(socket)
    end
  end

  defp chunks(socket, chunks) do
    case socket |> line() |> String.to_integer(16) do
      0 ->
        "" = line(socket)
        chunks |> Enum.reverse() |> IO.iodata_to_binary()

      size ->
        chunk = read(socket, size)
        "" = line(socket)
        chunks(socket, [chunk | chunks])
    end
  end

  defp line(socket) do
    setopts(socket, packet: :line)
    {:ok, line} = recv(socket, 0, @timeout)
    setopts(socket, packet: :raw)
    String.trim_trailing(line, "\r\n")
  end

  def read(_socket, 0), do: ""

  def read(socket, size) do
    {:ok, data} = recv(socket, size, @timeout)
    data
  end

  @doc "Reads until the server closes."
  def read_all(socket, read \\ []) do
    case recv(socket, 0, @timeout) do
      {:ok, data} -> read_all(socket, [read | data])
      {:error, :closed} -> IO.iodata_to_binary(read)
    end
  end

  @doc "Whether the server closes within the time, whatever it still sends."
  def closed?(socket, timeout \\ @timeout) do
    case recv(socket, 0, timeout) do
      {:ok, _data} -> closed?(socket, timeout)
      {:error, reason} -> reason != :timeout
    end
  end

  # WebSockets

  @doc "A connection on which the opening handshake is done."
  def websocket(server_or_port, path \\ "/", headers \\ [], options \\ []) do
    socket = connect(server_or_port, options)
    %{status: 101} = handshake(socket, path, headers)
    socket
  end

  def handshake(socket, path \\ "/", headers \\ []),
    do: request(socket, "GET", path, handshake_headers() ++ headers)

  def handshake_headers do
    [
      {"connection", "Upgrade"},
      {"upgrade", "websocket"},
      {"sec-websocket-key", @key},
      {"sec-websocket-version", "13"}
    ]
  end

  @doc "Ends the connection by a reset."
  def reset(socket) do
    :ok = :inet.setopts(socket, linger: {true, 0})
    :gen_tcp.close(socket)
  end

  @opcodes [continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10]

  @doc "Sends one frame, masked, final."
  def send_frame(socket, opcode, payload \\ "", options \\ []),
    do: write(socket, frame(opcode, payload, options))

  @doc "The bytes of a client's frame; an opcode may be a number. Options: `fin`, `rsv`, `mask` (`nil` for none)."
  def frame(opcode, payload, options \\ []) do
    opcode = if is_atom(opcode), do: Keyword.fetch!(@opcodes, opcode), else: opcode
    fin = if Keyword.get(options, :fin, true), do: 1, else: 0
    rsv = Keyword.get(options, :rsv, 0)
    mask = Keyword.get(options, :mask, <<0x37, 0xFA, 0x21, 0x3D>>)
    masked = if mask, do: 1, else: 0

    length =
      case byte_size(payload) do
        size when size < 126 -> <<size::7>>
        size when size < 65_536 -> <<126::7, size::16>>
        size -> <<127::7, size::64>>
      end

    <<fin::1, rsv::3, opcode::4, masked::1, length::bitstring, mask || ""::binary,
      mask(payload, mask)::binary>>
  end

  defp mask(payload, nil), do: payload
  defp mask(payload, mask), do: mask(payload, mask, [])

  defp mask(<<part::32, rest::binary>>, <<key::32>> = mask, done),
    do: mask(rest, mask, [done | <<bxor(part, key)::32>>])

  defp mask(rest, mask, done) do
    rest = :crypto.exor(rest, binary_part(mask, 0, byte_size(rest)))
    IO.iodata_to_binary([done | rest])
  end

  @doc "Reads one frame of the server: `{opcode, payload}`; a close frame is `{:close, code, reason}`."
  def recv_frame(socket, timeout \\ @timeout) do
    with {:ok, <<1::1, 0::3, opcode::4, 0::1, length::7>>} <- recv(socket, 2, timeout) do
      {opcode, _} = List.keyfind(@opcodes, opcode, 1)

      case {opcode, read(socket, length(socket, length))} do
        {:close, ""} -> {:close, nil, ""}
        {:close, <<code::16, reason::binary>>} -> {:close, code, reason}
        frame -> frame
      end
    end
  end

  @doc "The frames of the server until its close frame, with that."
  def frames_until_close(socket) do
    case recv_frame(socket) do
      {:close, _code, _reason} = close -> [close]
      {opcode, _payload} = frame when opcode != :error -> [frame | frames_until_close(socket)]
    end
  end

  defp length(socket, 126), do: socket |> read(2) |> :binary.decode_unsigned()
  defp length(socket, 127), do: socket |> read(8) |> :binary.decode_unsigned()
  defp length(_socket, length), do: length

  # Waiting

  @doc "Waits until the connections of a server have ended, and what is to be logged about them is."
  def ended(server) do
    eventually(fn -> Ferrosock.info(server).connections == 0 end)
    # Answered by the process that logs, after what it was told before.
    Ferrosock.info(server)
  end

  @doc "Waits until `fun` returns something true, for at most twenty seconds."
  def eventually(fun, patience \\ @timeout),
    do: await(fun, System.monotonic_time(:millisecond) + patience, 1)

  # Looks often at first: most of what is awaited is about to come.
  defp await(fun, until, pause) do
    fun.() ||
      if System.monotonic_time(:millisecond) < until do
        Process.sleep(pause)
        await(fun, until, min(pause + 1, 10))
      else
        ExUnit.Assertions.flunk("it did not come true in time")
      end
  end

  @doc "What `fun` returns when it has stopped changing: when it is the same a tenth of a second later."
  def settled(fun), do: settled(fun, fun.())

  defp settled(fun, before) do
    Process.sleep(100)
    if (now = fun.()) == before, do: now, else: settled(fun, now)
  end

  @doc "A port that nobody listens on now, for a server that has to be told one."
  @spec free_port() :: :inet.port_number()
  def free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  @doc "For a process that stays until somebody ends it."
  @spec forever() :: no_return()
  def forever, do: Process.sleep(:infinity)
end
