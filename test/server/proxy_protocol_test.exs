defmodule Ferrosock.Server.ProxyProtocolTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.{Certificates, Logs}

  @signature "\r\n\r\n\0\r\nQUIT\n"

  defp server(options \\ []) do
    test = self()

    serve(
      fn conn -> send(test, {:peer, conn.remote_ip, Plug.Conn.get_peer_data(conn).port}) end,
      [proxy_protocol: true] ++ options
    )
  end

  defp v2(command, family, rest),
    do: @signature <> <<2::4, command::4, family, byte_size(rest)::16>> <> rest

  defp ipv4(more \\ ""),
    do: v2(1, 0x11, <<203, 0, 113, 7, 10, 0, 0, 1, 4711::16, 443::16>> <> more)

  @localhost {127, 0, 0, 1}

  for {name, header, ip, port} <- [
        {"version 1 with IPv4", "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", {203, 0, 113, 7},
         4711},
        {"version 1 with IPv6", "PROXY TCP6 2001:db8::1 ::1 4711 443\r\n",
         {0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}, 4711},
        {"version 1 that does not know", "PROXY UNKNOWN\r\n", @localhost, nil},
        {"version 1 that does not know, with more", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
         @localhost, nil}
      ] do
    test name do
      assert_peer(unquote(header), unquote(Macro.escape(ip)), unquote(port))
    end
  end

  test "version 2 with IPv4", do: assert_peer(ipv4(), {203, 0, 113, 7}, 4711)

  test "version 2 with what proxies add",
    do:
      assert_peer(
        ipv4(<<0x03, 4::16, 1, 2, 3, 4, 0x04, 300::16>> <> :binary.copy(<<0>>, 300)),
        {203, 0, 113, 7},
        4711
      )

  test "version 2 with IPv6" do
    addresses = <<0x20010DB8::32, 0::64, 1::32, 0::96, 1::32, 4711::16, 443::16>>
    assert_peer(v2(1, 0x21, addresses), {0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}, 4711)
  end

  test "version 2 with a Unix socket" do
    path = String.pad_trailing("/run/client.sock", 108, <<0>>)
    assert_peer(v2(1, 0x31, path <> :binary.copy(<<0>>, 108)), {:local, "/run/client.sock"}, 0)
  end

  test "version 2 of a proxy that speaks for itself",
    do: assert_peer(v2(0, 0x00, ""), @localhost, nil)

  # The same for all requests of the connection, wherever its bytes are cut.
  defp assert_peer(header, ip, port) do
    server = server()

    for pieces <- [
          [header <> head("GET", "/")],
          [header, head("GET", "/")],
          for(<<b <- header <> head("GET", "/")>>, do: <<b>>)
        ] do
      socket = connect(server)
      Enum.each(pieces, &write(socket, &1))
      assert %{status: 200} = response(socket)
      assert_receive {:peer, ^ip, told}
      assert told == port || (port == nil and is_integer(told))
      assert %{status: 200} = request(socket, "GET", "/again")
      assert_receive {:peer, ^ip, ^told}
    end
  end

  test "comes before TLS" do
    made = Certificates.make()
    server = server(scheme: :https, cert: made.cert, key: made.key)
    socket = connect(server)
    write(socket, ipv4())
    options = [cacerts: made.authorities, server_name_indication: ~c"localhost"]
    {:ok, socket} = :ssl.connect(socket, options, 5_000)
    assert %{status: 200} = request(socket, "GET", "/")
    assert_receive {:peer, {203, 0, 113, 7}, 4711}
  end

  for {name, bytes} <- [
        {"no header", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"},
        {"a protocol that there is not", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"},
        {"an address that is none", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"},
        {"a line that does not end", "PROXY TCP4 " <> String.duplicate("1", 200)},
        {"a version that there is not", @signature <> <<3::4, 1::4, 0x11, 0::16>>},
        {"addresses that are cut off", @signature <> <<2::4, 1::4, 0x11, 4::16, 1, 2, 3, 4>>},
        {"more than a header may have", @signature <> <<2::4, 1::4, 0x11, 65_535::16>>}
      ] do
    test "#{name} costs a line and the connection" do
      Logs.attach()
      server = server()
      socket = connect(server)
      {:ok, {_address, port}} = :inet.sockname(socket)
      write(socket, unquote(bytes))
      assert read_all(socket) == ""
      ended(server)

      assert [{:log, :warning, line, _meta}] = Logs.taken(server)
      assert line =~ "refused what 127.0.0.1:#{port} sent: proxy header invalid"
      refute_received {:peer, _, _}
    end
  end

  test "a header that does not come ends the connection in time" do
    Logs.attach()
    server = server(handshake_timeout: 200)

    sockets =
      for bytes <- ["", "PROXY TCP4", binary_part(ipv4(), 0, 20)] do
        socket = connect(server)
        write(socket, bytes)
        socket
      end

    assert Enum.all?(sockets, &closed?/1)
    ended(server)
    assert [_, _, _] = logged = Logs.taken(server)
    for {:log, :warning, line, _meta} <- logged, do: assert(line =~ "sent: handshake timeout")
  end

  test "a connection that ends at once is no fault" do
    Logs.attach()
    server = server()
    :gen_tcp.close(connect(server))
    eventually(fn -> Ferrosock.info(server).accepted == 1 end)
    ended(server)
    assert Logs.taken(server) == []
  end
end
