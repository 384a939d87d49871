defmodule Ferrosock.Server.TrafficTest do
  # What the client's own socket has counted is the judge.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.{Certificates, Echo}

  defmodule App do
    use Plug.Router

    plug :match
    plug :dispatch

    get("/ws", do: Ferrosock.upgrade(conn, Echo, nil))
    get("/file", do: send_file(conn, 200, __ENV__.file))
    get("/large-file", do: send_file(conn, 200, List.to_string(:code.which(:erl_lint))))
    get("/large", do: send_resp(conn, 200, :binary.copy("0123456789", 300_000)))
    post("/refuse", do: send_resp(conn, 413, "too large"))

    get "/chunks" do
      conn = send_chunked(conn, 200)
      for n <- 1..3, do: {:ok, _conn} = chunk(conn, "chunk #{n},")
      conn
    end

    post "/echo" do
      {:ok, body, conn} = read_body(conn)
      send_resp(conn, 200, body)
    end
  end

  setup_all do
    %{made: Certificates.make()}
  end

  defp start!(transport, made) do
    start_server!([plug: App, id: make_ref()] ++ transport_options(transport, made))
  end

  defp connect!(server, :tls) do
    {:ok, socket} = connect_tls(server, verify: :verify_none)
    socket
  end

  defp connect!(server, _transport), do: connect(server)

  # What the kernel has taken may be a moment ahead of what is counted.
  defp assert_counted(server, sockets) do
    eventually(fn ->
      %{bytes_received: received, bytes_sent: sent} = Ferrosock.info(server)
      {received, sent} == {sum(sockets, :send_oct), sum(sockets, :recv_oct)}
    end)
  end

  defp sum(sockets, counter) do
    sockets
    |> Enum.map(fn socket ->
      getstat = if is_port(socket), do: &:inet.getstat/2, else: &:ssl.getstat/2
      {:ok, [{^counter, bytes}]} = getstat.(socket, [counter])
      bytes
    end)
    |> Enum.sum()
  end

  for transport <- [:tcp, :tls, :unix] do
    describe "info/1 counts the bytes over #{transport}" do
      setup %{made: made} do
        server = start!(unquote(transport), made)
        %{server: server, socket: connect!(server, unquote(transport))}
      end

      test "of requests and responses", %{server: server, socket: socket} do
        body = :crypto.strong_rand_bytes(2_000_000)
        headers = [{"content-length", byte_size(body)}]
        assert %{status: 200, body: ^body} = request(socket, "POST", "/echo", headers, body)

        for path <- ["/chunks", "/large", "/file", "/large-file"],
            do: assert(%{status: 200} = request(socket, "GET", path))

        assert_counted(server, [socket])
      end

      test "of WebSockets", %{server: server, socket: socket} do
        assert %{status: 101} = handshake(socket, "/ws")

        for size <- [0, 1, 200, 1_000_000] do
          data = :crypto.strong_rand_bytes(size)
          send_frame(socket, :binary, data)
          assert recv_frame(socket) == {:binary, data}
        end

        write(socket, for(_ <- 1..100, do: frame(:text, "hello")))
        for _ <- 1..100, do: assert(recv_frame(socket) == {:text, "hello"})
        assert_counted(server, [socket])
      end
    end
  end

  test "info/1 counts the bytes that nobody wanted", %{made: made} do
    server = start!(:tcp, made)
    socket = connect(server)
    body = :binary.copy("x", 3_000_000)
    headers = [{"content-length", byte_size(body)}]
    assert %{status: 413} = request(socket, "POST", "/refuse", headers, body)
    assert_counted(server, [socket])
  end

  test "info/1 adds up the bytes of one server's connections", %{made: made} do
    [server, other] = for _ <- 1..2, do: start!(:tcp, made)
    sockets = [one, two] = for _ <- 1..2, do: connect(server)
    for socket <- [one, two], do: assert(%{status: 200} = request(socket, "GET", "/large"))
    assert_counted(server, sockets)
    assert %{bytes_received: 0, bytes_sent: 0} = Ferrosock.info(other)
  end
end
