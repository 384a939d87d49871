defmodule Ferrosock.HTTP.CurlTest do
  # The judgement of another client.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [serve: 2, port: 1, transport_options: 2]
  import Plug.Conn

  alias Ferrosock.Test.Certificates

  unless System.find_executable("curl"), do: @moduletag(skip: "there is no curl in the PATH")

  setup_all do
    %{made: Certificates.make()}
  end

  setup %{transport: transport, made: made} do
    folder =
      Path.join(
        System.tmp_dir!(),
        "ferrosock_curl_#{System.pid()}_#{System.unique_integer([:positive])}"
      )

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    File.write!(Path.join(folder, "file"), "0123456789")
    File.write!(Path.join(folder, "authorities"), Certificates.pem(made.authorities))
    options = transport_options(transport, made)
    server = folder |> plug(self()) |> serve(options)
    {arguments, origin} = reach(transport, server, options, folder)
    [arguments: arguments, url: origin, folder: folder]
  end

  defp plug(folder, test) do
    static = Plug.Static.init(at: "/files", from: folder)

    fn conn ->
      send(test, {:request, conn.method, get_http_protocol(conn), conn.scheme})
      conn = Plug.Static.call(conn, static)
      if conn.halted, do: conn, else: respond(conn.path_info, conn)
    end
  end

  # What curl must be told, and where the server is.
  defp reach(:tcp, server, _options, _folder), do: {[], "http://127.0.0.1:#{port(server)}"}

  defp reach(:tls, server, _options, folder) do
    host = "localhost:#{port(server)}"
    authorities = Path.join(folder, "authorities")
    {["--cacert", authorities, "--resolve", "#{host}:127.0.0.1"], "https://#{host}"}
  end

  defp reach(:unix, _server, [ip: {:local, path}], _folder),
    do: {["--unix-socket", path], "http://localhost"}

  defp respond(["echo"], conn) do
    {:ok, body, conn} = read_body(conn, length: 100_000_000)
    send_resp(conn, 200, body)
  end

  defp respond(["digest"], conn),
    do: send_resp(conn, 200, digest(conn, :crypto.hash_init(:sha256)))

  defp respond(["refuse"], conn), do: send_resp(conn, 413, "too large")

  defp respond(["chunks"], conn) do
    conn = send_chunked(conn, 200)
    for n <- 1..3, do: {:ok, _conn} = chunk(conn, "chunk #{n},")
    conn
  end

  defp respond(_path, conn), do: send_resp(conn, 404, "nothing here")

  defp digest(conn, hash) do
    case read_body(conn) do
      {:more, data, conn} ->
        digest(conn, :crypto.hash_update(hash, data))

      {:ok, data, _conn} ->
        hash |> :crypto.hash_update(data) |> :crypto.hash_final() |> Base.encode16()
    end
  end

  # What curl prints of the exchange, and the last body by itself.
  defp curl(context, arguments) do
    output = Path.join(context.folder, "output")
    File.rm(output)
    common = ["-sv", version(context), "--max-time", "20", "-o", output]

    {log, status} =
      System.cmd("curl", common ++ context.arguments ++ arguments, stderr_to_stdout: true)

    assert status == 0, log
    # curl is content with HTTP/1.1 where TLS agrees on that.
    if context.version == "2", do: assert(log =~ "< HTTP/2 ")

    case File.read(output) do
      {:ok, body} -> {log, body}
      {:error, :enoent} -> {log, ""}
    end
  end

  defp version(%{version: "2", transport: :tls}), do: "--http2"
  defp version(%{version: "2"}), do: "--http2-prior-knowledge"
  defp version(%{version: version}), do: "--http#{version}"

  defp data!(folder, bytes) do
    data = :crypto.strong_rand_bytes(bytes)
    path = Path.join(folder, "upload")
    File.write!(path, data)
    {path, Base.encode16(:crypto.hash(:sha256, data))}
  end

  for transport <- [:tcp, :tls, :unix], version <- ["1.0", "1.1", "2"] do
    describe "over #{transport}, HTTP/#{version}:" do
      @describetag transport: transport, version: version

      test "a body of unknown length", %{url: url} = context do
        assert {log, "chunk 1,chunk 2,chunk 3,"} = curl(context, [url <> "/chunks"])
        assert log =~ ~r"< HTTP/[\d.]+ 200"
        assert log =~ "transfer-encoding: chunked" == (context.version == "1.1")
        protocol = :"HTTP/#{context.version}"
        scheme = if context.transport == :tls, do: :https, else: :http
        assert_received {:request, "GET", ^protocol, ^scheme}
      end

      test "a status", %{url: url} = context do
        assert {log, "nothing here"} = curl(context, [url <> "/nowhere"])
        assert log =~ ~r"< HTTP/[\d.]+ 404"
      end

      test "a form", %{url: url} = context do
        assert {_log, "a=1&b=2"} = curl(context, ["-d", "a=1&b=2", url <> "/echo"])
        assert_received {:request, "POST", _protocol, _scheme}
      end

      test "HEAD", %{url: url} = context do
        {log, _head} = curl(context, ["--head", url <> "/files/file"])
        assert log =~ "< content-length: 10"
        assert_received {:request, "HEAD", _protocol, _scheme}
      end

      test "a range of a file", %{url: url} = context do
        assert {log, "345"} = curl(context, ["-r", "3-5", url <> "/files/file"])
        assert log =~ ~r"< HTTP/[\d.]+ 206"
        assert log =~ "< content-range: bytes 3-5/10"
      end

      test "the rest of a file", %{url: url} = context do
        assert {log, "6789"} = curl(context, ["-r", "6-", url <> "/files/file"])
        assert log =~ ~r"< HTTP/[\d.]+ 206"
      end

      # curl 7.88 forgets that a connection speaks HTTP/2 where TLS does not tell it.
      if version != "2" or transport == :tls do
        test "several requests on one connection", %{url: url} = context do
          # HTTP/1.0 has to be asked.
          ask = if context.version == "1.0", do: ["-H", "Connection: keep-alive"], else: []
          several = ["-d", "body", url <> "/echo", "-o", "/dev/null", url <> "/echo"]
          assert {log, "body"} = curl(context, ask ++ several)
          assert log =~ "Re-using existing connection"
          assert log =~ "left intact"
        end
      end

      test "an upload", %{url: url} = context do
        {path, digest} = data!(context.folder, 5_000_000)
        assert {log, ^digest} = curl(context, ["-T", path, "-H", "Expect:", url <> "/digest"])
        refute log =~ "100 Continue"
        assert_received {:request, "PUT", _protocol, _scheme}
      end

      test "an upload that expects 100-continue", %{url: url} = context do
        {path, digest} = data!(context.folder, 5_000_000)
        upload = ["-T", path, "-H", "Expect: 100-continue", url <> "/digest"]
        assert {log, ^digest} = curl(context, upload)
        # There is none in HTTP/1.0 (RFC9110§10.1.1), and over HTTP/2 curl does not wait for it.
        if context.version == "1.0", do: refute(log =~ "100 Continue")
        if context.version == "1.1", do: assert(log =~ "< HTTP/1.1 100 Continue")
        assert log =~ ~r"< HTTP/[\d.]+ 200"
      end

      test "an upload that is refused while it is sent", %{url: url} = context do
        {path, _digest} = data!(context.folder, 20_000_000)
        assert {log, "too large"} = curl(context, ["-T", path, "-H", "Expect:", url <> "/refuse"])
        assert log =~ ~r"< HTTP/[\d.]+ 413"
      end
    end
  end

  for transport <- [:tcp, :tls, :unix] do
    describe "over #{transport}, HTTP/1.1 alone:" do
      @describetag transport: transport, version: "1.1"

      test "a chunked upload", %{url: url} = context do
        {path, digest} = data!(context.folder, 5_000_000)
        upload = ["-T", path, "-H", "Transfer-Encoding: chunked", url <> "/digest"]
        assert {log, ^digest} = curl(context, upload)
        assert log =~ "> Transfer-Encoding: chunked"
      end

      test "an upload that is refused before it was sent", %{url: url} = context do
        {path, _digest} = data!(context.folder, 5_000_000)
        upload = ["-T", path, "-H", "Expect: 100-continue", url <> "/refuse"]
        assert {log, "too large"} = curl(context, upload)
        refute log =~ "100 Continue"
        assert log =~ "< HTTP/1.1 413"
      end
    end
  end
end
