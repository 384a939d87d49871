defmodule Ferrosock.ClientsTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [port: 1, serve: 2, transport_options: 2]
  import Plug.Conn, only: [get_http_protocol: 1, send_resp: 3]

  alias Ferrosock.Test.{Certificates, Client, Echo}

  @moduletag :clients
  @moduletag :capture_log
  @moduletag timeout: 180_000

  defmodule Endpoint do
    @behaviour Plug

    @impl true
    def init(options), do: options

    @impl true
    def call(conn, options), do: WebSock.upgrade(conn, Echo, [], options)
  end

  for compress <- [false, true] do
    describe "an endpoint with compress: #{compress}" do
      @describetag compress: compress

      setup :start_server

      test "satisfies npm's ws", %{url: url} do
        Client.run_node("ws", "ws.mjs", [url])
      end

      test "satisfies npm's ws on streams of Node's http2", %{url: url} do
        Client.run_node("ws", "ws.mjs", [url, "http2"])
      end

      test "satisfies PyPI's websockets", %{url: url} do
        Client.run_python("websockets_client.py", [url])
      end
    end
  end

  # Chromium speaks HTTP/2 with TLS alone. A WebSocket then takes the connection of its page, if the server's
  # SETTINGS allow it.
  for {transport, scheme, protocol} <- [{:tcp, "ws", :"HTTP/1.1"}, {:tls, "wss", :"HTTP/2"}] do
    @tag :chromium
    test "a server of #{scheme} satisfies Chromium, by #{protocol} alone" do
      test = self()

      plug = fn
        %{request_path: "/echo"} = conn ->
          send(test, {:protocol, get_http_protocol(conn)})
          Ferrosock.upgrade(conn, Echo, [], compress: true)

        # Its page, and the icon that it asks for.
        conn ->
          send_resp(conn, 200, "ok")
      end

      server = serve(plug, transport_options(unquote(transport), Certificates.make()))
      url = "#{unquote(scheme)}://127.0.0.1:#{port(server)}/echo"
      Client.run_node("playwright-core", "chromium.mjs", [url])
      assert Enum.uniq(protocols()) == [unquote(protocol)]
    end
  end

  defp protocols do
    receive do
      {:protocol, protocol} -> [protocol | protocols()]
    after
      0 -> []
    end
  end

  defp start_server(%{compress: compress}) do
    server =
      start_supervised!(
        {Ferrosock,
         plug: {Endpoint, compress: compress}, port: 0, ip: :loopback, startup_log: false}
      )

    {_ip, port} = Ferrosock.info(server).address
    [url: "ws://127.0.0.1:#{port}/"]
  end
end
