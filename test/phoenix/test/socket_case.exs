defmodule Sample.SocketCase do
  # Sockets as Phoenix's own transport opens them: what it checks, what it passes on, how they end.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Sample.Probe, only: [report_to: 1]

  alias SampleWeb.SocketsEndpoint, as: Endpoint

  setup_all do
    start_supervised!(Endpoint)
    [port: Sample.Client.port(Endpoint)]
  end

  describe "connect_info" do
    test "has all that the request tells", %{port: port} do
      headers = [
        {"user-agent", "a client"},
        {"x-forwarded-for", "192.0.2.1"},
        {"x-custom", "one"},
        {"traceparent", "00-1-2-01"},
        {"accept", "nothing"}
      ]

      socket = websocket(port, "/info/websocket?a=1&b[]=2", headers)
      {:ok, {_ip, client_port}} = :inet.sockname(socket)

      assert %{
               transport: :websocket,
               endpoint: Endpoint,
               params: %{"a" => "1", "b" => ["2"]},
               connect_info: %{
                 peer_data: %{address: {127, 0, 0, 1}, port: ^client_port, ssl_cert: nil},
                 trace_context_headers: [{"traceparent", "00-1-2-01"}],
                 user_agent: "a client",
                 x_headers: x_headers,
                 uri: %URI{
                   scheme: "http",
                   host: "localhost",
                   port: 80,
                   path: "/info/websocket",
                   query: "a=1&b[]=2"
                 },
                 session: nil,
                 custom: "value"
               }
             } = info(socket)

      assert Enum.sort(x_headers) == [{"x-custom", "one"}, {"x-forwarded-for", "192.0.2.1"}]
    end

    test "has the session of a page, if its token is shown", %{port: port} do
      page = port |> connect() |> request("GET", "/")
      [cookie] = header(page, "set-cookie")
      headers = [{"cookie", cookie |> String.split(";") |> hd()}]
      token = URI.encode_www_form(page.body)

      socket = websocket(port, "/info/websocket?_csrf_token=#{token}", headers)
      assert %{connect_info: %{session: %{"user" => "Ada"}}} = info(socket)

      for {path, headers} <- [
            {"/info/websocket", headers},
            {"/info/websocket?_csrf_token=wrong", headers},
            {"/info/websocket?_csrf_token=#{token}", []}
          ] do
        assert %{connect_info: %{session: nil}} = port |> websocket(path, headers) |> info()
      end
    end

    test "has parameters of the path", %{port: port} do
      assert %{params: %{"room" => "blue", "seat" => "7", "q" => "1"}} =
               port |> websocket("/rooms/blue/ws/7?q=1") |> info()

      assert handshake(connect(port), "/rooms/blue/elsewhere/7").status == 200
    end
  end

  describe "an origin" do
    test "is checked as the socket says", %{port: port} do
      for {path, origin, status} <- [
            {"/origin/own", "http://localhost", 101},
            {"/origin/own", "http://localhost:1234", 101},
            {"/origin/own", "http://example.com", 403},
            {"/origin/own", nil, 101},
            {"/origin/listed", "https://example.com", 101},
            {"/origin/listed", "https://www.example.org", 101},
            {"/origin/listed", "https://www.example.com", 403},
            {"/origin/listed", "http://localhost", 403},
            {"/origin/any", "http://example.com", 101}
          ] do
        headers = if origin, do: [{"origin", origin}], else: []
        response = port |> connect() |> handshake(path <> "/websocket", headers)
        assert response.status == status, "#{path} of #{inspect(origin)}: #{response.status}"
        assert response.body == ""
      end
    end
  end

  describe "a connection that is refused" do
    test "gets 403, or what the error handler makes of it", %{port: port} do
      for {path, status, body} <- [
            {"/info/websocket?refuse=error", 403, ""},
            {"/info/websocket?refuse=rate_limit", 403, ""},
            {"/error/websocket?refuse=error", 403, ""},
            {"/error/websocket?refuse=rate_limit", 429, "too many: rate_limit"}
          ] do
        socket = connect(port)
        assert %{status: ^status, body: ^body} = handshake(socket, path)
        # The connection is still one of HTTP.
        assert %{status: 200} = request(socket, "GET", "/")
      end
    end

    test "is told what is wrong with its handshake", %{port: port} do
      get = port |> connect() |> request("GET", "/info/websocket")
      assert get.status == 400
      assert get.body =~ "upgrade"
      keyless = List.keydelete(handshake_headers(), "sec-websocket-key", 0)
      get = port |> connect() |> request("GET", "/info/websocket", keyless)
      assert get.status == 400
      assert get.body =~ "sec-websocket-key"
      assert %{status: 400} = port |> connect() |> request("POST", "/info/websocket")
    end
  end

  test "the subprotocol is the first of the socket's that the client offers", %{port: port} do
    for {offer, chosen} <- [
          {"chat.v1", ["chat.v1"]},
          {"chat.v1, chat.v2", ["chat.v2"]},
          {"other, chat.v1", ["chat.v1"]},
          {nil, []}
        ] do
      headers = if offer, do: [{"sec-websocket-protocol", offer}], else: []
      response = port |> connect() |> handshake("/protocols/websocket", headers)
      assert {response.status, header(response, "sec-websocket-protocol")} == {101, chosen}
    end

    headers = [{"sec-websocket-protocol", "other"}]
    assert handshake(connect(port), "/protocols/websocket", headers).status == 403
  end

  test "a token comes as a subprotocol, which Phoenix knows from 1.8 on", %{port: port} do
    {chosen, token} =
      if Version.match?("#{Application.spec(:phoenix, :vsn)}", ">= 1.8.0"),
        do: {["phoenix"], "a token"},
        else: {[], nil}

    offer = "phoenix, base64url.bearer.phx." <> Base.url_encode64("a token", padding: false)
    socket = connect(port)
    response = handshake(socket, "/token/websocket", [{"sec-websocket-protocol", offer}])
    assert {response.status, header(response, "sec-websocket-protocol")} == {101, chosen}
    assert info(socket).connect_info[:auth_token] == token
  end

  describe "options of a socket" do
    test "timeout ends a silent one, with a code after which clients come back", %{port: port} do
      socket = websocket(port, "/idle/websocket?" <> report_to(self()))
      assert_receive {:opened, pid}
      monitor = Process.monitor(pid)
      assert recv_frame(socket) == {:close, 1001, "idle timeout"}
      assert_receive {:terminated, ^pid, :timeout}
      assert_receive {:DOWN, ^monitor, :process, ^pid, {:shutdown, :timeout}}
    end

    test "max_frame_size refuses what is larger", %{port: port} do
      socket = websocket(port, "/small/websocket?" <> report_to(self()))
      message = String.duplicate("x", 1_000)
      send_frame(socket, :text, message)
      assert recv_frame(socket) == {:text, message}
      send_frame(socket, :text, message <> "x")
      assert {:close, 1009, _reason} = recv_frame(socket)
      assert_receive {:terminated, _pid, {:error, :too_big}}
    end

    test "compress negotiates, and compresses", %{port: port} do
      socket = connect(port)
      offer = [{"sec-websocket-extensions", "permessage-deflate; client_max_window_bits"}]
      response = handshake(socket, "/compressed/websocket?" <> report_to(self()), offer)
      assert ["permessage-deflate" <> _parameters] = header(response, "sec-websocket-extensions")

      assert_receive {:opened, pid}
      message = String.duplicate("to be compressed ", 100)
      send(pid, {:push, {:text, message}})
      # The bit of the extension, and a text.
      <<1::1, 1::1, 0::2, 1::4, length>> = read(socket, 2)
      assert length < 125
      assert inflate(read(socket, length)) == message
    end

    test "compress is off by default", %{port: port} do
      offer = [{"sec-websocket-extensions", "permessage-deflate"}]
      response = port |> connect() |> handshake("/info/websocket", offer)
      assert {response.status, header(response, "sec-websocket-extensions")} == {101, []}
    end

    test "fullsweep_after is the process's", %{port: port} do
      _socket = websocket(port, "/compressed/websocket?" <> report_to(self()))
      assert_receive {:opened, pid}
      {:garbage_collection, settings} = Process.info(pid, :garbage_collection)
      assert settings[:fullsweep_after] == 7
    end
  end

  describe "a socket ends" do
    test "with {:shutdown, :closed} when its client closes or vanishes", %{port: port} do
      for {leave, reason} <- [
            {&send_frame(&1, :close, <<1000::16>>), :remote},
            {&send_frame(&1, :close, <<1001::16>>), :remote},
            {&:gen_tcp.close/1, {:error, :closed}}
          ] do
        socket = websocket(port, "/info/websocket?" <> report_to(self()))
        assert_receive {:opened, pid}
        monitor = Process.monitor(pid)
        leave.(socket)
        assert_receive {:terminated, ^pid, ^reason}
        assert_receive {:DOWN, ^monitor, :process, ^pid, {:shutdown, :closed}}
      end
    end

    test "with 1011 when it fails, and with 1012 when it asks for a restart", %{port: port} do
      for {message, code} <- [{"raise", 1011}, {"restart", 1012}] do
        socket = websocket(port, "/info/websocket")
        send_frame(socket, :text, message)
        assert recv_frame(socket) == {:close, code, ""}
      end
    end
  end

  defp info(socket) do
    send_frame(socket, :text, "info")
    {:binary, term} = recv_frame(socket)
    :erlang.binary_to_term(term)
  end

  defp inflate(data) do
    z = :zlib.open()
    :zlib.inflateInit(z, -15)
    z |> :zlib.inflate(data <> <<0, 0, 255, 255>>) |> IO.iodata_to_binary()
  end
end
