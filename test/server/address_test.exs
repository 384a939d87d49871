defmodule Ferrosock.Server.AddressTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Echo

  defmodule App do
    use Plug.Router

    plug :match
    plug :dispatch

    get("/ws", do: Ferrosock.upgrade(conn, Echo, nil))

    get "/addresses" do
      # Not every version of Plug has a function for the last.
      {adapter, state} = conn.adapter
      addresses = {conn.remote_ip, conn.port, get_peer_data(conn), adapter.get_sock_data(state)}
      send_resp(conn, 200, :erlang.term_to_binary(addresses))
    end

    post "/echo" do
      {:ok, body, conn} = read_body(conn)
      send_resp(conn, 200, body)
    end

    match(_, do: send_resp(conn, 404, ""))
  end

  setup do
    %{path: tmp_path()}
  end

  defp start!(path), do: start_server!(plug: App, ip: {:local, path}, port: 0, id: make_ref())

  defp start(path) do
    Ferrosock.start_link(plug: App, ip: {:local, path}, startup_log: false)
  end

  describe "a server on a Unix socket" do
    test "serves requests and WebSockets", %{path: path} do
      server = start!(path)
      assert %{address: {{:local, ^path}, 0}} = Ferrosock.info(server)
      socket = connect(server)

      for body <- ["one", String.duplicate("x", 1_000_000)] do
        headers = [{"content-length", "#{byte_size(body)}"}]
        assert %{status: 200, body: ^body} = request(socket, "POST", "/echo", headers, body)
      end

      websocket = websocket(server, "/ws")
      send_frame(websocket, :text, "hello")
      assert recv_frame(websocket) == {:text, "hello"}
      large = :binary.copy("large", 1_000_000)
      send_frame(websocket, :binary, large)
      assert recv_frame(websocket) == {:binary, large}
      send_frame(websocket, :close, <<1000::16>>)
      assert recv_frame(websocket) == {:close, 1000, ""}
      assert :gen_tcp.recv(websocket, 0, 5_000) == {:error, :closed}
      assert Ferrosock.info(server).accepted == 2
    end

    test "tells a Plug the addresses as :inet does", %{path: path} do
      %{body: body} = path |> start!() |> connect() |> request("GET", "/addresses")
      peer = %{address: {:local, ""}, port: 0, ssl_cert: nil}
      sock = %{address: {:local, path}, port: 0}
      assert :erlang.binary_to_term(body) == {{:local, ""}, 80, peer, sock}
    end

    test "logs what a client broke", %{path: path} do
      server = start!(path)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          socket = connect(server)
          write(socket, "nonsense\r\n\r\n")
          assert {:ok, "HTTP/1.1 400" <> _} = :gen_tcp.recv(socket, 0, 20_000)
          ended(server)
        end)

      assert log =~ "Ferrosock refused what unix: sent"
    end

    test "answers curl", %{path: path} do
      start!(path)

      for _ <- 1..2 do
        arguments = ~w(-sS --unix-socket #{path} -d hello http://localhost/echo)
        assert System.cmd("curl", arguments, stderr_to_stdout: true) == {"hello", 0}
      end
    end
  end

  describe "the file" do
    test "goes with its server", %{path: path} do
      {:ok, server} = start(path)
      assert File.exists?(path)
      Supervisor.stop(server)
      refute File.exists?(path)
    end

    test "that a dead server left is replaced", %{path: path} do
      {:ok, socket} = :gen_tcp.listen(0, ip: {:local, path})
      :gen_tcp.close(socket)
      assert File.exists?(path)
      assert %{status: 404} = path |> start!() |> connect() |> request("GET", "/")
    end

    test "of a server that lives is left alone", %{path: path} do
      server = start!(path)
      Process.flag(:trap_exit, true)
      assert {:error, {:shutdown, {:failed_to_start_child, _, reason}}} = start(path)

      assert {%Ferrosock.ListenError{reason: :eaddrinuse} = error, _} = reason
      assert Exception.message(error) =~ "cannot listen on unix:#{path}: address already in use"
      assert %{status: 404} = server |> connect() |> request("GET", "/")
    end

    test "that is no socket is left alone", %{path: path} do
      File.write!(path, "precious")
      Process.flag(:trap_exit, true)
      assert {:error, {:shutdown, _}} = start(path)
      assert File.read!(path) == "precious"
    end

    test "of a server that took its place is left alone", %{path: path} do
      {:ok, first} = start(path)
      File.rm!(path)
      second = start!(path)
      Supervisor.stop(first)
      assert %{status: 404} = second |> connect() |> request("GET", "/")
    end

    test "that cannot be made is told", %{path: path} do
      Process.flag(:trap_exit, true)
      missing = Path.join(path, "app.sock")
      assert {:error, {:shutdown, {:failed_to_start_child, _, {error, _}}}} = start(missing)
      assert %Ferrosock.ListenError{reason: :enoent} = error
    end
  end

  test "a name that starts with NUL needs no file" do
    name = <<0, unique_name()::binary>>
    server = start!(name)
    assert %{status: 404} = server |> connect() |> request("GET", "/")
    refute File.exists?("@" <> binary_part(name, 1, byte_size(name) - 1))
  end

  describe "options" do
    test "that contradict a Unix socket are refused", %{path: path} do
      assert_raise ArgumentError, ~r/:port has no meaning with a Unix socket/, fn ->
        Ferrosock.start_link(plug: App, ip: {:local, path}, port: 4000)
      end

      for wrong <- ["", String.duplicate("x", 108), :name] do
        assert_raise ArgumentError, ~r/`{:local, path}` with the path of a Unix socket/, fn ->
          Ferrosock.start_link(plug: App, ip: {:local, wrong})
        end
      end
    end

    test "may choose IPv6" do
      server = start_server!(plug: App, inet6: true)
      assert {{0, 0, 0, 0, 0, 0, 0, 1}, port} = Ferrosock.info(server).address
      {:ok, socket} = :gen_tcp.connect(~c"::1", port, [:binary, :inet6, active: false])
      assert %{status: 404} = request(socket, "GET", "/")
    end

    test "serve IPv4 beside IPv6" do
      server = start_server!(plug: App, ip: :any, inet6: true)
      assert {{0, 0, 0, 0, 0, 0, 0, 0}, _port} = Ferrosock.info(server).address
      assert %{status: 404} = server |> connect() |> request("GET", "/")
    end

    test "let several servers listen on one port" do
      start = fn text, port ->
        plug = fn conn, _ -> Plug.Conn.send_resp(conn, 200, text) end
        start_server!(plug: plug, port: port, reuse_port: true, id: text)
      end

      first = start.("first", 0)
      start.("second", port(first))

      answers =
        for _ <- 1..50 do
          %{body: body} = first |> connect() |> request("GET", "/")
          body
        end

      assert answers |> Enum.uniq() |> Enum.sort() == ["first", "second"]

      Process.flag(:trap_exit, true)
      options = [plug: App, ip: :loopback, port: port(first), startup_log: false]
      assert {:error, _} = Ferrosock.start_link(options)
    end

    test "that contradict IPv6 are refused" do
      assert_raise ArgumentError, ~r/:inet6 contradicts :ip/, fn ->
        Ferrosock.start_link(plug: App, ip: {127, 0, 0, 1}, inet6: true)
      end
    end
  end
end
