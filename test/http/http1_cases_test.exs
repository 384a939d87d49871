defmodule Ferrosock.HTTP.HTTP1CasesTest do
  # A table of requests of HTTP/1, each before each kind of response, over TCP and TLS: what comes after one
  # in the same bytes is served as well, and so it is when the client has closed its side by then.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Certificates

  @host "host: localhost\r\n"
  @chunked "transfer-encoding: chunked\r\n"

  # Names with their clauses; the bytes with TARGET where the target is, and what a Plug reads of the body.
  @requests [
    {"no body (RFC9112§6.3)", "GET TARGET HTTP/1.1\r\n#{@host}\r\n", ""},
    {"a length of zero (RFC9110§8.6)",
     "POST TARGET HTTP/1.1\r\n#{@host}content-length: 0\r\n\r\n", ""},
    {"a length (RFC9112§6.2)", "POST TARGET HTTP/1.1\r\n#{@host}content-length: 3\r\n\r\nabc",
     "abc"},
    {"a length, with GET (RFC9110§9.3.1)",
     "GET TARGET HTTP/1.1\r\n#{@host}content-length: 3\r\n\r\nabc", "abc"},
    {"a body with line ends at its end (RFC9112§2.2)",
     "POST TARGET HTTP/1.1\r\n#{@host}content-length: 7\r\n\r\nabc\r\n\r\n", "abc\r\n\r\n"},
    {"chunks (RFC9112§7.1)",
     "POST TARGET HTTP/1.1\r\n#{@host}#{@chunked}\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"},
    {"no chunks but the last (RFC9112§7.1)",
     "POST TARGET HTTP/1.1\r\n#{@host}#{@chunked}\r\n0\r\n\r\n", ""},
    {"chunk extensions (RFC9112§7.1.1)",
     "POST TARGET HTTP/1.1\r\n#{@host}#{@chunked}\r\n3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n", "abc"},
    {"trailers (RFC9112§7.1.2)",
     "POST TARGET HTTP/1.1\r\n#{@host}#{@chunked}\r\n3\r\nabc\r\n0\r\na: b\r\nc:\r\n\r\n", "abc"},
    {"codings that begin with nothing (RFC9110§5.6.1.2)",
     "POST TARGET HTTP/1.1\r\n#{@host}transfer-encoding: ,chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     "abc"},
    {"codings that end in nothing (RFC9110§5.6.1.2)",
     "POST TARGET HTTP/1.1\r\n#{@host}transfer-encoding: chunked,\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     "abc"},
    {"a name in another case (RFC9110§5.1)",
     "POST TARGET HTTP/1.1\r\nHOST: localhost\r\nConTent-LenGth: 3\r\n\r\nabc", "abc"},
    {"empty lines before it (RFC9112§2.2)", "\r\n\r\nGET TARGET HTTP/1.1\r\n#{@host}\r\n", ""},
    {"LF for line ends (RFC9112§2.2)",
     "POST TARGET HTTP/1.1\nhost: localhost\ncontent-length: 3\n\nabc", "abc"},
    {"an absolute form (RFC9112§3.2.2)",
     "POST http://localhostTARGET HTTP/1.1\r\n#{@host}content-length: 3\r\n\r\nabc", "abc"},
    {"an absolute form of https (RFC9112§3.2.2)",
     "GET https://localhostTARGET HTTP/1.1\r\n#{@host}\r\n", ""},
    {"a host in percent codes (RFC3986§3.2.2)",
     "GET TARGET HTTP/1.1\r\nhost: %2Ftmp%2Fapp.sock\r\n\r\n", ""},
    {"a host that is empty (RFC9110§7.2)", "GET TARGET HTTP/1.1\r\nhost:\r\n\r\n", ""},
    {"a query that is no URI (RFC3986§3.4)",
     "POST TARGET?a=<\"`\\{|}^> HTTP/1.1\r\n#{@host}content-length: 3\r\n\r\nabc", "abc"},
    {"an expectation of nothing (RFC9110§10.1.1)",
     "POST TARGET HTTP/1.1\r\n#{@host}expect: 100-continue\r\ncontent-length: 0\r\n\r\n", ""},
    {"an upgrade that nobody knows (RFC9110§7.8)",
     "POST TARGET HTTP/1.1\r\n#{@host}connection: upgrade\r\nupgrade: x/1\r\ncontent-length: 3\r\n\r\nabc",
     "abc"},
    {"a method that nobody knows (RFC9110§9.1)",
     "FETCH TARGET HTTP/1.1\r\n#{@host}content-length: 3\r\n\r\nabc", "abc"},
    {"HTTP/1.0 and keep-alive (RFC9112§9.3)",
     "POST TARGET HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc", "abc"}
  ]

  @large 300_000

  # The paths that say what the response is, its status and the size of its body.
  @responses [
    {"/whole", 200, 5},
    {"/empty", 200, 0},
    {"/large", 200, @large},
    {"/coded", 200, :any},
    {"/file", 200, File.stat!(__ENV__.file).size},
    {"/range", 206, 10},
    {"/created", 201, 4},
    {"/nothing", 204, 0},
    {"/reset", 205, 0},
    {"/unmodified", 304, 0},
    {"/unknown", 499, 4},
    {"/counted", 200, 6},
    {"/chunks", 200, 6},
    {"/interim", 200, 4}
  ]

  setup_all do
    made = Certificates.make()
    file = tmp_path()
    File.write!(file, :binary.copy("x", @large))
    [made: made, file: file]
  end

  defp start(transport, context) do
    test = self()

    serve(
      fn conn ->
        conn = fetch_query_params(conn)
        send(test, {:served, conn.request_path, conn.host})
        conn |> take(test) |> answer(context.file)
      end,
      transport_options(transport, context.made)
    )
  end

  defp take(%{request_path: "/unread" <> path} = conn, _test), do: %{conn | request_path: path}

  defp take(conn, test) do
    {:ok, body, conn} = read_body(conn)
    send(test, {:body, body})
    conn
  end

  defp answer(%{request_path: "/whole"} = conn, _), do: send_resp(conn, 200, "whole")
  defp answer(%{request_path: "/empty"} = conn, _), do: send_resp(conn, 200, "")
  defp answer(%{request_path: "/large"} = conn, _), do: send_resp(conn, 200, bytes(@large))
  defp answer(%{request_path: "/file"} = conn, _), do: send_file(conn, 200, __ENV__.file)
  defp answer(%{request_path: "/range"} = conn, file), do: send_file(conn, 206, file, 5, 10)
  defp answer(%{request_path: "/created"} = conn, _), do: send_resp(conn, 201, "made")
  defp answer(%{request_path: "/nothing"} = conn, _), do: send_resp(conn, 204, "none")
  defp answer(%{request_path: "/reset"} = conn, _), do: send_resp(conn, 205, "none")
  defp answer(%{request_path: "/unmodified"} = conn, _), do: send_resp(conn, 304, "none")
  defp answer(%{request_path: "/unknown"} = conn, _), do: send_resp(conn, 499, "what")
  defp answer(%{request_path: "/next"} = conn, _), do: send_resp(conn, 200, "next")

  defp answer(%{request_path: "/coded"} = conn, _),
    do: send_resp(%{conn | resp_headers: [{"Content-Length", "1"}]}, 200, bytes(@large))

  defp answer(%{request_path: "/interim"} = conn, _) do
    # Not for HTTP/1.0.
    inform(conn, 103, [{"link", "</a>"}])
    send_resp(conn, 200, "then")
  end

  defp answer(%{request_path: "/counted"} = conn, _),
    do: chunks(%{conn | resp_headers: [{"Content-Length", "6"}]})

  defp answer(%{request_path: "/chunks"} = conn, _), do: chunks(conn)

  defp chunks(conn) do
    conn = send_chunked(conn, 200)
    {:ok, conn} = chunk(conn, "abc")
    {:ok, conn} = chunk(conn, "def")
    conn
  end

  defp bytes(size), do: :binary.copy("x", size)

  defp client(server, :tls) do
    {:ok, socket} = connect_tls(server, verify: :verify_none)
    socket
  end

  defp client(server, :tcp), do: connect(server)

  defp half_close(socket) when is_port(socket), do: :ok = :gen_tcp.shutdown(socket, :write)
  defp half_close(socket), do: :ok = :ssl.shutdown(socket, :write)

  defp final(socket) do
    case response(socket) do
      %{status: 103} -> final(socket)
      response -> response
    end
  end

  defp answered(socket, {path, status, size}) do
    response = final(socket)
    assert response.status == status, path
    assert header(response, "connection") in [[], ["keep-alive"]], path
    assert size == :any or byte_size(response.body) == size, path
  end

  defp next(version), do: "GET /next HTTP/#{version}\r\nhost: a\r\nconnection: keep-alive\r\n\r\n"

  for transport <- [:tcp, :tls], {name, bytes, body} <- @requests do
    @tag transport: transport, bytes: bytes, body: body
    test "#{name}, over #{transport}: what follows each kind of response is served", context do
      %{transport: transport, bytes: bytes, body: body} = context
      server = start(transport, context)
      going_on = client(server, transport)

      for read <- ["", "/unread"],
          {path, _status, _size} = expected <- @responses,
          # Only the end of the connection can be the end of that (RFC9112§6.3).
          not (path == "/chunks" and bytes =~ "HTTP/1.0") do
        bytes = String.replace(bytes, "TARGET", read <> path)
        # One of HTTP/1.0 that asks for keep-alive ends no connection, either.
        # Chunks end where hyper says, which then has what follows: `hyper_test.exs`.
        if bytes =~ "chunked" do
          write(going_on, [bytes, next("1.0")])
          answered(going_on, expected)
          answered(going_on, {"/next", 200, 4})
          write(going_on, [bytes, next("1.1")])
        else
          write(going_on, [bytes, next("1.1"), bytes, next("1.0")])
          answered(going_on, expected)
          answered(going_on, {"/next", 200, 4})
        end

        answered(going_on, expected)
        answered(going_on, {"/next", 200, 4})

        ending = client(server, transport)
        write(ending, [bytes, next("1.1")])
        half_close(ending)
        answered(ending, expected)
        answered(ending, {"/next", 200, 4})
        assert closed?(ending)
        if read == "", do: assert_received({:body, ^body})
      end
    end
  end

  for transport <- [:tcp, :tls] do
    @tag transport: transport
    test "a HEAD has no body, and what follows it is served, over #{transport} (RFC9110§9.3.2)",
         context do
      server = start(context.transport, context)
      socket = client(server, context.transport)

      for {path, status, _size} <- @responses do
        write(socket, [head("HEAD", path), next("1.1")])
        response = response(socket, "HEAD")
        response = if response.status == 103, do: response(socket, "HEAD"), else: response
        assert response.status == status
        answered(socket, {"/next", 200, 4})
      end
    end
  end
end
