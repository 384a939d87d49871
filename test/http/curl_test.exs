defmodule Ferrosock.HTTP.CurlTest do
  # The judgement of another client.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [serve: 1, port: 1]
  import Plug.Conn

  unless System.find_executable("curl"), do: @moduletag(skip: "there is no curl in the PATH")

  setup do
    folder =
      Path.join(
        System.tmp_dir!(),
        "ferrosock_curl_#{System.pid()}_#{System.unique_integer([:positive])}"
      )

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    test = self()

    static =
      Plug.Static.init(at: "/files", from: folder)

    server =
      serve(fn conn ->
        send(test, {:method, conn.method, get_http_protocol(conn)})
        conn = Plug.Static.call(conn, static)
        if conn.halted, do: conn, else: respond(conn.path_info, conn)
      end)

    [url: "http://127.0.0.1:#{port(server)}", folder: folder]
  end

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

  defp digest(conn, hash) do
    case read_body(conn) do
      {:more, data, conn} ->
        digest(conn, :crypto.hash_update(hash, data))

      {:ok, data, _conn} ->
        hash |> :crypto.hash_update(data) |> :crypto.hash_final() |> Base.encode16()
    end
  end

  # What curl prints of the exchange, and the body by itself.
  defp curl(arguments, folder) do
    output = Path.join(folder, "output")
    File.rm(output)

    {log, status} =
      System.cmd("curl", ["-sv", "--max-time", "20", "-o", output | arguments],
        stderr_to_stdout: true
      )

    assert status == 0, log
    body = with {:error, _} <- File.read(output), do: ""
    {log, if(is_binary(body), do: body, else: elem(body, 1))}
  end

  test "GET", %{url: url, folder: folder} do
    assert {log, "chunk 1,chunk 2,chunk 3,"} = curl([url <> "/chunks"], folder)
    assert log =~ "< HTTP/1.1 200 OK"
    assert log =~ "left intact"
    assert_received {:method, "GET", :"HTTP/1.1"}
  end

  test "several requests on one connection", %{url: url, folder: folder} do
    {log, _body} = curl([url <> "/echo", "-o", "/dev/null", url <> "/chunks"], folder)
    assert log =~ "Re-using existing connection"
  end

  test "POST", %{url: url, folder: folder} do
    assert {_log, "a=1&b=2"} = curl(["-d", "a=1&b=2", url <> "/echo"], folder)
    assert_received {:method, "POST", :"HTTP/1.1"}
  end

  test "an upload that expects 100-continue", %{url: url, folder: folder} do
    data = :crypto.strong_rand_bytes(5_000_000)
    File.write!(Path.join(folder, "upload"), data)
    upload = ["-T", Path.join(folder, "upload"), "-H", "Expect: 100-continue", url <> "/digest"]
    {log, body} = curl(upload, folder)
    assert log =~ "< HTTP/1.1 100 Continue"
    assert log =~ "< HTTP/1.1 200 OK"
    assert body == Base.encode16(:crypto.hash(:sha256, data))
    assert_received {:method, "PUT", :"HTTP/1.1"}
  end

  test "a chunked upload", %{url: url, folder: folder} do
    data = :crypto.strong_rand_bytes(5_000_000)
    File.write!(Path.join(folder, "upload"), data)
    upload = ["-T", Path.join(folder, "upload"), "-H", "Transfer-Encoding: chunked"]
    {_log, body} = curl(upload ++ [url <> "/digest"], folder)
    assert body == Base.encode16(:crypto.hash(:sha256, data))
  end

  test "an upload that is refused before it was sent", %{url: url, folder: folder} do
    File.write!(Path.join(folder, "upload"), :binary.copy("x", 5_000_000))
    upload = ["-T", Path.join(folder, "upload"), "-H", "Expect: 100-continue", url <> "/refuse"]
    {log, body} = curl(upload, folder)
    refute log =~ "100 Continue"
    assert log =~ "< HTTP/1.1 413"
    assert body == "too large"
  end

  test "an upload that is refused while it is sent", %{url: url, folder: folder} do
    File.write!(Path.join(folder, "upload"), :binary.copy("x", 20_000_000))
    upload = ["-T", Path.join(folder, "upload"), "-H", "Expect:", url <> "/refuse"]
    {log, body} = curl(upload, folder)
    assert log =~ "< HTTP/1.1 413"
    assert body == "too large"
  end

  test "HEAD", %{url: url, folder: folder} do
    File.write!(Path.join(folder, "file"), "0123456789")
    {log, _head} = curl(["--head", url <> "/files/file"], folder)
    assert log =~ "< content-length: 10"
    assert log =~ "left intact"
  end

  test "a range of a file", %{url: url, folder: folder} do
    File.write!(Path.join(folder, "file"), "0123456789")
    assert {log, "345"} = curl(["-r", "3-5", url <> "/files/file"], folder)
    assert log =~ "< HTTP/1.1 206 Partial Content"
    assert log =~ "< content-range: bytes 3-5/10"
  end

  test "the rest of a file, over HTTP/1.0 too", %{url: url, folder: folder} do
    File.write!(Path.join(folder, "file"), "0123456789")

    for version <- ["--http1.0", "--http1.1"] do
      assert {log, "6789"} = curl([version, "-r", "6-", url <> "/files/file"], folder)
      assert log =~ "206 Partial Content"
    end
  end

  test "an upload over HTTP/1.0", %{url: url, folder: folder} do
    data = :crypto.strong_rand_bytes(5_000_000)
    File.write!(Path.join(folder, "upload"), data)
    upload = ["--http1.0", "-T", Path.join(folder, "upload"), url <> "/digest"]
    {log, body} = curl(upload, folder)
    refute log =~ "100 Continue"
    assert body == Base.encode16(:crypto.hash(:sha256, data))
    assert_received {:method, "PUT", :"HTTP/1.0"}
  end

  test "several requests on one connection of HTTP/1.0", %{url: url, folder: folder} do
    request = ["--http1.0", "-H", "Connection: keep-alive", "-d", "body", url <> "/echo"]
    assert {log, "body"} = curl(request ++ ["-o", "/dev/null", url <> "/echo"], folder)
    assert log =~ "Re-using existing connection"
  end

  test "HTTP/1.0", %{url: url, folder: folder} do
    assert {log, "chunk 1,chunk 2,chunk 3,"} = curl(["--http1.0", url <> "/chunks"], folder)
    refute log =~ "transfer-encoding"
    assert_received {:method, "GET", :"HTTP/1.0"}
  end
end
