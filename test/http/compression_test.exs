defmodule Ferrosock.HTTP.CompressionTest do
  # Which responses are coded is told row by row in coding_test.exs.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Client

  @codings if Code.ensure_loaded?(:zstd),
             do: ["zstd", "gzip", "deflate"],
             else: ["gzip", "deflate"]

  # Bytes that differ and still compress to a bit more than the half.
  defp text(size), do: size |> div(2) |> :crypto.strong_rand_bytes() |> Base.encode16()

  defp decode(%{body: body} = response) do
    case header(response, "content-encoding") do
      [] -> body
      ["gzip"] -> :zlib.gunzip(body)
      ["deflate"] -> :zlib.uncompress(body)
      ["zstd"] -> :zstd |> apply(:decompress, [body]) |> IO.iodata_to_binary()
    end
  end

  # A connection to a server that answers with the body.
  defp serving(body, options \\ []),
    do: serve(&send_resp(&1, 200, body), http_options: options) |> connect()

  defp get(socket, accept \\ "gzip", method \\ "GET"),
    do: request(socket, method, "/", [{"accept-encoding", accept}])

  describe "a response" do
    test "has the coding that was agreed on, and its length is that of the coded body" do
      text = text(100_000)
      socket = serving(text)

      for coding <- @codings ++ @codings do
        response = get(socket, coding)
        assert header(response, "content-encoding") == [coding]
        assert header(response, "content-length") == ["#{byte_size(response.body)}"]
        assert header(response, "vary") == ["accept-encoding"]
        assert byte_size(response.body) < 70_000
        assert decode(response) == text
      end
    end

    test "is told to vary also where this client gets it as it is (RFC9110§12.5.5)" do
      text = text(5_000)

      for headers <- [[], [{"accept-encoding", "br"}], [{"accept-encoding", "gzip;q=0"}]] do
        response = request(serving(text), "GET", "/", headers)
        assert header(response, "content-encoding") == []
        assert header(response, "vary") == ["accept-encoding"]
        assert response.body == text
      end
    end

    test "is coded by what all fields of the request say (RFC9110§5.3)" do
      accept = [{"accept-encoding", "br, gzip;q=0"}, {"Accept-Encoding", "deflate"}]
      response = request(serving(text(5_000)), "GET", "/", accept)
      assert header(response, "content-encoding") == ["deflate"]
    end

    test "may be iodata" do
      body = for n <- 1..5_000, do: ["line ", [Integer.to_string(n) | "\n"]]

      for coding <- @codings,
          do: assert(body |> serving() |> get(coding) |> decode() == IO.iodata_to_binary(body))
    end

    test "may come from another process" do
      text = text(5_000)
      fun = fn conn -> Task.await(Task.async(fn -> send_resp(conn, 200, text) end)) end
      socket = fun |> serve() |> connect()
      for coding <- @codings, do: assert(socket |> get(coding) |> decode() == text)
    end

    test "to HEAD has the headers of the one to GET (RFC9110§9.3.2)" do
      for size <- [100, 5_000, 2_000_000] do
        socket = serving(text(size))

        [head, get] =
          for method <- ["HEAD", "GET"] do
            %{headers: headers} = get(socket, "gzip", method)
            headers |> List.keydelete("date", 0) |> Enum.sort()
          end

        assert head == get
      end
    end

    test "that coding makes no smaller goes out as it is" do
      noise = :crypto.strong_rand_bytes(100_000)

      for coding <- @codings do
        response = noise |> serving() |> get(coding)
        assert header(response, "content-encoding") == []
        assert response.body == noise
      end
    end

    test "that has no body is followed by the next" do
      fun = fn conn -> send_resp(conn, String.to_integer(conn.query_string), text(5_000)) end
      socket = fun |> serve() |> connect()

      for {status, coding, vary} <- [
            {204, [], []},
            {304, [], ["accept-encoding"]},
            {200, ["gzip"], ["accept-encoding"]},
            {204, [], []}
          ] do
        response = request(socket, "GET", "/?#{status}", [{"accept-encoding", "gzip"}])
        assert response.status == status
        assert header(response, "content-encoding") == coding
        assert header(response, "vary") == vary
      end
    end

    test "in chunks, or of a file, has no coding" do
      file = Path.expand(__ENV__.file)
      text = File.read!(file)

      for send <- [
            &send_file(&1, 200, file),
            fn conn ->
              {:ok, conn} = conn |> send_chunked(200) |> chunk(text)
              conn
            end
          ] do
        response = send |> serve() |> connect() |> get()
        assert header(response, "content-encoding") == []
        assert header(response, "vary") == []
        assert response.body == text
      end
    end

    test "of a large size reaches a slow reader whole" do
      text = text(12_000_000)
      test = self()

      server =
        serve(fn conn ->
          conn = send_resp(conn, 200, text)
          send(test, :taken)
          conn
        end)

      for coding <- @codings do
        socket = connect(server, recbuf: 16_384)
        write(socket, head("GET", "/", [{"accept-encoding", coding}]))
        refute_receive :taken, 1_000
        assert socket |> response() |> decode() == text
        assert_receive :taken
      end
    end
  end

  describe "the options" do
    test "can switch it off" do
      text = text(5_000)
      response = text |> serving(compress: false) |> get()
      assert header(response, "content-encoding") == []
      assert header(response, "vary") == []
      assert response.body == text
    end

    test "say which codings there are, the preferred first" do
      socket = serving(text(5_000), response_encodings: ["deflate", "gzip"])

      for {accept, coding} <- [{"gzip, deflate", "deflate"}, {"gzip", "gzip"}] do
        assert socket |> get(accept) |> header("content-encoding") == [coding]
      end

      assert socket |> get("zstd") |> header("content-encoding") == []
    end

    test "say how zlib compresses" do
      for coding <- ["gzip", "deflate"] do
        size = &coded_size(coding, deflate_options: &1)
        best = size.(level: 9)
        assert size.(level: 1) > best
        assert size.(level: 9, window_bits: 9) > best
        assert size.(level: 9, mem_level: 1) > best
        assert size.(level: 9, strategy: :huffman_only) > best
      end
    end

    @tag skip: "zstd" not in @codings
    test "say how zstd compresses" do
      size = &coded_size("zstd", zstd_options: [compressionLevel: &1])
      assert size.(1) > size.(9)
    end

    # Of a text that people wrote.
    defp coded_size(coding, options) do
      text = "lib/ferrosock/**/*.ex" |> Path.wildcard() |> Enum.map_join(&File.read!/1)
      response = text |> serving(options) |> get(coding)
      assert decode(response) == text
      byte_size(response.body)
    end
  end

  # Python's own zlib reads what OTP's has written.
  test "gzip and deflate are read by Python" do
    text = text(300_000)
    server = serve(&send_resp(&1, 200, text))
    Client.run_python("codings.py", ["http://127.0.0.1:#{port(server)}/"])
  end

  @tag :tmp_dir
  test "Plug.Static sends its own compressed files", %{tmp_dir: folder} do
    text = text(5_000)
    File.write!(Path.join(folder, "a.txt"), text)
    File.write!(Path.join(folder, "a.txt.gz"), :zlib.gzip("from the file"))
    static = Plug.Static.init(at: "/", from: folder, gzip: true)
    socket = serve(&Plug.Static.call(&1, static)) |> connect()

    response = request(socket, "GET", "/a.txt", [{"accept-encoding", "gzip, zstd"}])
    assert header(response, "content-encoding") == ["gzip"]
    assert header(response, "vary") == ["Accept-Encoding"]
    assert decode(response) == "from the file"

    response = request(socket, "GET", "/a.txt", [{"accept-encoding", "zstd"}])
    assert header(response, "content-encoding") == []
    assert response.body == text
  end

  test "Plug.Session's cookie goes with a coded response, and comes back" do
    session = Plug.Session.init(store: :cookie, key: "session", signing_salt: text(16))
    secret = text(64)
    text = text(5_000)

    socket =
      serve(fn conn ->
        conn = %{conn | secret_key_base: secret} |> Plug.Session.call(session) |> fetch_session()
        visits = get_session(conn, :visits) || 0
        conn |> put_session(:visits, visits + 1) |> send_resp(200, "#{visits} #{text}")
      end)
      |> connect()

    first = get(socket)
    assert header(first, "content-encoding") == ["gzip"]
    assert [cookie] = header(first, "set-cookie")
    [cookie, _attributes] = String.split(cookie, ";", parts: 2)
    second = request(socket, "GET", "/", [{"accept-encoding", "gzip"}, {"cookie", cookie}])
    assert decode(first) == "0 #{text}"
    assert decode(second) == "1 #{text}"
  end

  defmodule Failing do
    use Plug.Debugger

    def init(options), do: options
    def call(_conn, _options), do: raise("this is shown on the page")
  end

  test "Plug.Debugger's page is coded" do
    socket = start_server!(plug: Failing, id: make_ref()) |> connect()

    response =
      request(socket, "GET", "/", [{"accept-encoding", "gzip"}, {"accept", "text/html"}])

    assert response.status == 500
    assert header(response, "content-encoding") == ["gzip"]
    assert decode(response) =~ "this is shown on the page"
    # By then the failure is logged.
    assert closed?(socket)
  end
end
