defmodule Ferrosock.Server.TLSTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.{Certificates, Logs}

  defmodule Echo do
    @behaviour WebSock

    @impl true
    def init(test) do
      if test, do: send(test, {:websocket, self()})
      {:ok, test}
    end

    @impl true
    def handle_in({"push " <> size, _}, state),
      do: {:push, {:binary, :binary.copy("x", String.to_integer(size))}, state}

    def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

    @impl true
    def handle_info(_message, state), do: {:ok, state}
  end

  defmodule App do
    use Plug.Router

    plug :match
    plug :dispatch

    get("/ws", do: Ferrosock.upgrade(conn, Echo, nil, compress: true))

    get "/conn" do
      {adapter, state} = conn.adapter
      ssl = adapter.get_ssl_data(state)
      seen = {conn.scheme, conn.port, get_peer_data(conn).ssl_cert, ssl}
      send_resp(conn, 200, :erlang.term_to_binary(seen))
    end

    post "/echo" do
      {:ok, body, conn} = read_body(conn, length: 100_000_000)
      send_resp(conn, 200, body)
    end

    get("/file", do: send_file(conn, 200, __ENV__.file))

    match(_, do: send_resp(conn, 404, ""))
  end

  setup_all do
    %{made: Certificates.make()}
  end

  defp start!(made, options \\ []) do
    start_server!(
      [plug: App, scheme: :https, cert: made.cert, key: made.key, id: make_ref()] ++ options
    )
  end

  defp client(made, options \\ []),
    do: [cacerts: made.authorities, verify: :verify_peer] ++ options

  defp connect!(server, made, options \\ []) do
    {:ok, socket} = connect_tls(server, client(made, options))
    socket
  end

  defp websocket!(server, made, options \\ []) do
    socket = connect!(server, made, options)
    %{status: 101} = handshake(socket, "/ws")
    socket
  end

  defp seen(socket) do
    %{status: 200, body: body} = request(socket, "GET", "/conn")
    :erlang.binary_to_term(body)
  end

  defp peer_certificate(socket) do
    {:ok, certificate} = :ssl.peercert(socket)
    certificate
  end

  test "what a connection was is told also when its client has gone", %{made: made} do
    test = self()

    plug = fn conn, _ ->
      send(test, {:conn, conn})
      Plug.Conn.send_resp(conn, 200, "")
    end

    server = start_server!(plug: plug, scheme: :https, cert: made.cert, key: made.key)
    socket = connect!(server, made)
    assert %{status: 200} = request(socket, "GET", "/")
    assert_receive {:conn, %{adapter: {adapter, state}}}
    before = {adapter.get_ssl_data(state), adapter.get_sock_data(state)}
    :ssl.close(socket)
    ended(server)
    eventually(fn -> Ferrosock.info(server).lingering == 0 end)
    assert {adapter.get_ssl_data(state), adapter.get_sock_data(state)} == before
    assert {[_ | _], %{address: {127, 0, 0, 1}}} = before
  end

  for version <- [:"tlsv1.2", :"tlsv1.3"] do
    describe "#{version}" do
      @describetag version: version

      test "carries requests", %{made: made, version: version} do
        socket = made |> start!() |> connect!(made, versions: [version])
        assert {:https, 443, nil, ssl} = seen(socket)
        assert ssl[:protocol] == version

        {:ok, [selected_cipher_suite: suite]} =
          :ssl.connection_information(socket, [:selected_cipher_suite])

        assert ssl[:selected_cipher_suite] == suite

        for size <- [1, 20_000, 5_000_000] do
          body = :crypto.strong_rand_bytes(size)
          headers = [{"content-length", "#{size}"}]
          assert %{status: 200, body: ^body} = request(socket, "POST", "/echo", headers, body)
        end

        assert %{status: 200, body: file} = request(socket, "GET", "/file")
        assert file == File.read!(__ENV__.file)
      end

      test "carries WebSockets", %{made: made, version: version} do
        socket = made |> start!() |> websocket!(made, versions: [version])

        for size <- [1, 100, 16_000, 16_384, 16_385, 70_000, 3_000_000] do
          data = :crypto.strong_rand_bytes(size)
          send_frame(socket, :binary, data)
          assert recv_frame(socket) == {:binary, data}
        end

        # Many in one record, and one in many.
        write(socket, for(i <- 1..500, do: frame(:text, "message #{i}")))
        for i <- 1..500, do: assert(recv_frame(socket) == {:text, "message #{i}"})
        for <<byte <- frame(:text, "hello")>>, do: write(socket, <<byte>>)
        assert recv_frame(socket) == {:text, "hello"}

        send_frame(socket, :close, <<1000::16>>)
        assert recv_frame(socket) == {:close, 1000, ""}
        assert {:error, :closed} = :ssl.recv(socket, 0, 20_000)
      end
    end
  end

  test "a client that does not read holds up what is pushed, and then gets all of it", %{
    made: made
  } do
    server = start!(made)
    socket = websocket!(server, made)
    for _ <- 1..30, do: send_frame(socket, :text, "push 1000000")
    # It may be less than the mark, where the kernel has taken more since.
    eventually(fn -> Ferrosock.info(server).queued_bytes > 100_000 end)
    assert settled(fn -> Ferrosock.info(server).queued_bytes end) < 3_000_000
    data = :binary.copy("x", 1_000_000)
    for _ <- 1..30, do: assert(recv_frame(socket) == {:binary, data})
  end

  test "sessions are resumed", %{made: made} do
    server = start!(made)
    session = tmp_path()

    for version <- ["-tls1_2", "-tls1_3"] do
      request = "GET /conn HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n"

      connect =
        "printf '#{request}' | openssl s_client -ign_eof -connect 127.0.0.1:#{port(server)}"

      for {options, outcome} <- [{"-sess_out", "New"}, {"-sess_in", "Reused"}] do
        command = "#{connect} #{version} #{options} #{session} 2>&1"
        {output, 0} = System.shell(command)
        assert output =~ ~r/^#{outcome}, TLSv1/m
        assert output =~ "HTTP/1.1 200"
        # Each costs a record, and a client that comes back gets a new one.
        tickets = Regex.scan(~r/New Session Ticket arrived/, output)
        assert length(tickets) == if(version == "-tls1_3", do: 1, else: 0)
      end
    end
  end

  test "a version that is not offered is refused", %{made: made} do
    server = start!(made, tls_options: [versions: [:"tlsv1.3"]])

    log =
      capture_log(fn ->
        assert {:error, {:tls_alert, {:protocol_version, _}}} =
                 connect_tls(server, client(made, versions: [:"tlsv1.2"]))

        Ferrosock.info(server)
      end)

    assert log =~ "sent: tls handshake failed"
    connect!(server, made)
  end

  test "what is no TLS costs a line and the connection", %{made: made} do
    server = start!(made)

    log =
      capture_log(fn ->
        socket = connect(server)
        write(socket, head("GET", "/"))
        assert closed?(socket)
        Ferrosock.info(server)
      end)

    assert [_line] = Regex.scan(~r/sent: tls handshake failed/, log)
  end

  test "a message of a handshake may be spread over records that come one after the other", %{
    made: made
  } do
    server = start!(made)
    <<first::binary-size(100), second::binary>> = client_hello()
    client = connect(server)
    # Before the server has all of a message it has nothing to do but to wait.
    :ok = :gen_tcp.send(client, plain_record(first))
    eventually(fn -> Ferrosock.info(server).bytes_received == 105 end)
    :ok = :gen_tcp.send(client, plain_record(second))
    # ServerHello.
    assert {:ok, <<22, 3, 3, _length::16, 2>>} = :gen_tcp.recv(client, 6, 15_000)
  end

  test "what breaks a message of a handshake off costs a line and the connection", %{made: made} do
    server = start!(made)
    begun = plain_record(binary_part(client_hello(), 0, 100))

    # By data; by records that say nothing; by what is no rest of it.
    for broken <- [
          <<23, 3, 3, 1::16, 0>>,
          String.duplicate(<<22, 3, 3, 0::16>>, 100),
          plain_record(String.duplicate("x", 10_000))
        ] do
      log =
        capture_log(fn ->
          client = connect(server)
          :ok = :gen_tcp.send(client, [begun, broken])
          assert closed?(client)
          eventually(fn -> Ferrosock.info(server).connections == 0 end)
        end)

      assert log =~ "tls handshake failed"
    end
  end

  test "a message between requests that does not end in its record ends the connection", %{
    made: made
  } do
    server = start!(made)
    tcp = connect(server)

    options = [
      verify: :verify_none,
      versions: [:"tlsv1.3"],
      ciphers: [%{cipher: :aes_256_gcm, key_exchange: :any, mac: :aead, prf: :sha384}],
      keep_secrets: true,
      active: false,
      mode: :binary
    ]

    {:ok, socket} = :ssl.connect(tcp, options)
    {:ok, [keylog: lines]} = :ssl.connection_information(socket, [:keylog])
    secret = Enum.find_value(lines, &traffic_secret/1)

    # The client's first two records: a request, and the first bytes of a KeyUpdate (RFC8446§4.6.3).
    :ok = :gen_tcp.send(tcp, sealed(secret, 0, "GET /conn HTTP/1.1\r\nhost: a\r\n\r\n", 23))
    assert {:ok, "HTTP/1.1 200 OK" <> _} = :ssl.recv(socket, 0, 15_000)
    :ok = :gen_tcp.send(tcp, sealed(secret, 1, <<24, 0, 0>>, 22))
    assert {:error, :closed} = :ssl.recv(socket, 0, 15_000)
  end

  # What a client would send first.
  defp client_hello do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}])
    {:ok, port} = :inet.port(listener)
    options = [verify: :verify_none, active: false]
    client = Task.async(fn -> :ssl.connect(~c"127.0.0.1", port, options, 15_000) end)
    {:ok, socket} = :gen_tcp.accept(listener, 15_000)
    {:ok, <<22, 3, _, length::16>>} = :gen_tcp.recv(socket, 5, 15_000)
    {:ok, hello} = :gen_tcp.recv(socket, length, 15_000)
    :gen_tcp.close(socket)
    :gen_tcp.close(listener)
    {:error, _} = Task.await(client, 15_000)
    hello
  end

  defp plain_record(fragment), do: [<<22, 3, 1, byte_size(fragment)::16>>, fragment]

  defp traffic_secret(line) do
    case line |> to_string() |> String.split() do
      ["CLIENT_TRAFFIC_SECRET_0", _random, secret] -> Base.decode16!(secret, case: :mixed)
      _ -> nil
    end
  end

  # RFC8446§5.2, §5.3 and §7.3.
  defp sealed(secret, number, content, type) do
    iv = expanded(secret, "iv", 12)
    nonce = :crypto.exor(iv, <<number::96>>)
    inner = <<content::binary, type>>
    head = <<23, 3, 3, byte_size(inner) + 16::16>>
    key = expanded(secret, "key", 32)
    {text, tag} = :crypto.crypto_one_time_aead(:aes_256_gcm, key, nonce, inner, head, true)
    [head, text, tag]
  end

  defp expanded(secret, label, length) do
    label = "tls13 " <> label
    info = <<length::16, byte_size(label), label::binary, 0, 1>>
    binary_part(:crypto.mac(:hmac, :sha384, secret, info), 0, length)
  end

  test "a handshake that stalls ends in time", %{made: made} do
    server = start!(made, handshake_timeout: 300)

    log =
      capture_log(fn ->
        for bytes <- ["", <<22, 3, 1, 2, 0, 1>>] do
          socket = connect(server)
          write(socket, bytes)
          assert closed?(socket)
        end

        eventually(fn -> Ferrosock.info(server).connections == 0 end)
      end)

    assert log =~ "sent: handshake timeout"
  end

  test "a handshake takes nothing of the time for the request that follows it", %{made: made} do
    server = start!(made, handshake_timeout: 60_000, http_1_options: [header_timeout: 2_000])
    socket = connect(server)
    # Longer than the time for the request.
    Process.sleep(2_100)
    options = client(made, server_name_indication: ~c"localhost")
    {:ok, socket} = :ssl.connect(socket, options, 20_000)
    # So that the server looks at the clock before there is a request.
    Process.sleep(100)
    assert %{status: 200} = request(socket, "GET", "/conn")
  end

  defp folder!(_context) do
    folder = Path.join(System.tmp_dir!(), "ferrosock-tls-#{System.unique_integer([:positive])}")
    File.mkdir!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder}
  end

  describe "certificates" do
    setup :folder!

    defp files!(folder, made) do
      certfile = Path.join(folder, "cert.pem")
      keyfile = Path.join(folder, "key.pem")
      File.write!(certfile, Certificates.pem(made.cert))
      File.write!(keyfile, Certificates.pem(made.key))
      [certfile: certfile, keyfile: keyfile]
    end

    defp from_files!(files, options \\ []),
      do: start_server!([plug: App, scheme: :https, id: make_ref()] ++ files ++ options)

    test "come from files", %{made: made, folder: folder} do
      server = folder |> files!(made) |> from_files!()
      assert server |> connect!(made) |> peer_certificate() == hd(made.cert)
    end

    test "come from one file with both", %{made: made, folder: folder} do
      file = Path.join(folder, "both.pem")
      File.write!(file, [Certificates.pem(made.key), Certificates.pem(made.cert)])

      assert [certfile: file] |> from_files!() |> connect!(made) |> peer_certificate() ==
               hd(made.cert)
    end

    test "come from files that openssl made, also with a password", %{folder: folder} do
      for {algorithm, options} <- [
            {["rsa:2048"], []},
            {~w(ec -pkeyopt ec_paramgen_curve:P-256), []},
            {["rsa:2048"], [password: "secret"]}
          ] do
        files = [certfile: Path.join(folder, "c.pem"), keyfile: Path.join(folder, "k.pem")]
        encryption = if options == [], do: ["-nodes"], else: ["-passout", "pass:secret"]

        Certificates.openssl!(
          ~w(req -x509 -newkey) ++
            algorithm ++
            ~w(-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost) ++
            ~w(-keyout #{files[:keyfile]} -out #{files[:certfile]}) ++ encryption
        )

        server = from_files!(files ++ options)
        url = "https://localhost:#{port(server)}/echo"
        arguments = ~w(-sS --cacert #{files[:certfile]} -d hello #{url})
        assert System.cmd("curl", arguments, stderr_to_stdout: true) == {"hello", 0}
      end
    end

    test "are chosen by the name that a client asks for", %{made: made} do
      other = Certificates.make(["other.example", "*.wild.example"])

      server =
        start!(made,
          tls_options: [
            sni_hosts: [
              {"other.example", cert: other.cert, key: other.key},
              {~c"*.wild.example", cert: other.cert, key: other.key}
            ]
          ]
        )

      for {name, chosen} <- [
            {~c"localhost", made},
            {~c"other.example", other},
            {~c"OTHER.example", other},
            {~c"a.wild.example", other},
            {~c"a.b.wild.example", made},
            {:disable, made}
          ] do
        options = [
          mode: :binary,
          active: false,
          verify: :verify_none,
          server_name_indication: name
        ]

        {:ok, socket} = :ssl.connect({127, 0, 0, 1}, port(server), options, 5_000)
        assert {name, peer_certificate(socket)} == {name, hd(chosen.cert)}
      end
    end

    test "are loaded anew when asked", %{made: made, folder: folder} do
      server = folder |> files!(made) |> from_files!()
      before = connect!(server, made)
      other = Certificates.make()
      files!(folder, other)
      assert server |> connect!(made) |> peer_certificate() == hd(made.cert)
      assert Ferrosock.reload_certificates(server) == :ok
      assert server |> connect!(other) |> peer_certificate() == hd(other.cert)
      assert {:https, _, _, _} = seen(before)

      File.write!(Path.join(folder, "key.pem"), Certificates.pem(made.key))
      assert {:error, %ArgumentError{} = error} = Ferrosock.reload_certificates(server)
      assert Exception.message(error) =~ ~r/cert.pem" with keyfile ".*key.pem": .*keys/i
      assert server |> connect!(other) |> peer_certificate() == hd(other.cert)
    end

    test "are loaded anew when their files change", %{made: made, folder: folder} do
      files = files!(folder, made)
      server = from_files!(files, tls_options: [reload_interval: 50])
      connect!(server, made)
      other = Certificates.make()

      Logs.attach()
      File.rm!(files[:certfile])

      assert {:log, :error, text, _meta} =
               Logs.await("goes on with the certificates that it has")

      assert text =~ "cannot read certfile #{inspect(files[:certfile])}"
      # The next looks say nothing.
      refute_receive {:log, :error, "Ferrosock goes on" <> _, _meta}, 200
      files!(folder, other)
      eventually(fn -> match?({:ok, _}, connect_tls(server, client(other))) end)
    end

    test "are loaded once at the start, and anew by a listener that is started again", %{
      made: made,
      folder: folder
    } do
      [certfile: certfile, keyfile: keyfile] = files!(folder, made)
      secret = Path.join(folder, "secret.pem")
      Certificates.openssl!(~w(pkey -in #{keyfile} -aes256 -passout pass:secret -out #{secret}))
      test = self()

      password = fn ->
        send(test, :asked)
        "secret"
      end

      server = from_files!([certfile: certfile, keyfile: secret], password: password)
      assert server |> connect!(made) |> peer_certificate() == hd(made.cert)
      assert_received :asked
      refute_received :asked

      other = Certificates.make()
      files!(folder, other)
      Certificates.openssl!(~w(pkey -in #{keyfile} -aes256 -passout pass:secret -out #{secret}))
      server |> Ferrosock.Server.listener() |> Process.exit(:kill)
      assert_receive :asked
      assert server |> connect!(other) |> peer_certificate() == hd(other.cert)
      refute_received :asked
    end

    test "that are wrong are told by name", %{made: made, folder: folder} do
      [certfile: certfile, keyfile: keyfile] = files = files!(folder, made)
      empty = Path.join(folder, "empty.pem")
      File.write!(empty, "nothing")
      other = Certificates.make()

      for {options, message} <- [
            {[], ~r/needs a certificate: option :certfile or :cert/},
            {[cert: made.cert], ~r/needs the key of its certificate/},
            {[certfile: "/no/such", keyfile: keyfile],
             ~r[cannot read certfile "/no/such": no such file]},
            {[certfile: certfile, keyfile: empty], ~r/keyfile ".*empty.pem" has no private key/},
            {[certfile: empty, keyfile: keyfile], ~r/certfile ".*empty.pem" has no certificate/},
            {[certfile: certfile, key: other.key],
             ~r/certfile ".*cert.pem" with option :key: .*key/i},
            {[cert: "\x30nonsense", key: made.key], ~r/option :cert with option :key/},
            {files ++ [tls_options: [verify: :verify_peer]], ~r/needs the option :cacertfile/},
            {files ++ [tls_options: [cacerts: ["x"], verify: :verify_peer]],
             ~r/certificate 1 of option :cacertfile/},
            {files ++ [tls_options: [versions: [:tlsv1]]], ~r/:versions in :tls_options/},
            {files ++ [tls_options: [sni_hosts: [{"a", [file: 1]}]]],
             ~r/:sni_hosts in :tls_options/},
            {files ++ [scheme: :http], ~r/option :certfile needs the option scheme: :https/}
          ] do
        options = Keyword.merge([plug: App, scheme: :https, port: 0], options)
        assert_raise ArgumentError, message, fn -> Ferrosock.start_link(options) end
      end
    end

    test "and keys are in no report of a crash", %{made: made} do
      server = start!(made, password: "tell nobody")
      {_type, der} = made.key

      for {_id, pid, _type, _modules} <- Supervisor.which_children(server) do
        text =
          inspect({:sys.get_status(pid), Process.info(pid)},
            limit: :infinity,
            printable_limit: :infinity
          )

        refute text =~ "tell nobody"
        refute text =~ inspect(der, limit: 10) |> String.slice(2, 20)
      end
    end
  end

  describe "a client's certificate" do
    setup :folder!

    test "is asked for, and known to the Plug", %{made: made, folder: folder} do
      {authority, client} = Certificates.client!(folder)
      server = start!(made, tls_options: [verify: :verify_peer, cacertfile: authority])
      assert {:https, _, certificate, _} = server |> connect!(made, client) |> seen()
      [{:Certificate, der, _}] = client[:certfile] |> File.read!() |> :public_key.pem_decode()
      assert certificate == der
      assert {:https, _, nil, _} = server |> connect!(made) |> seen()
    end

    test "may be required", %{made: made, folder: folder} do
      {authority, client} = Certificates.client!(folder)
      stranger = Path.join(folder, "stranger")
      File.mkdir!(stranger)
      {_authority, other_client} = Certificates.client!(stranger)
      options = [verify: :verify_peer, fail_if_no_peer_cert: true, cacertfile: authority]
      server = start!(made, tls_options: options)
      assert {:https, _, _, _} = server |> connect!(made, client) |> seen()

      log =
        capture_log(fn ->
          for own <- [[], other_client], version <- [:"tlsv1.2", :"tlsv1.3"] do
            # A client of TLS 1.3 learns of it only after its own part of the handshake.
            with {:ok, socket} <- connect_tls(server, client(made, [versions: [version]] ++ own)) do
              assert {:error, {:tls_alert, _}} = :ssl.recv(socket, 0, 20_000)
            end
          end

          eventually(fn -> Ferrosock.info(server).connections == 1 end)
        end)

      assert [_, _, _, _] = Regex.scan(~r/sent: tls handshake failed/, log)
    end
  end
end
