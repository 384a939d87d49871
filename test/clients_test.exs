defmodule Ferrosock.ClientsTest do
  use ExUnit.Case, async: true

  alias Ferrosock.Test.{Client, Echo}

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

      test "satisfies PyPI's websockets", %{url: url} do
        Client.run_python("websockets_client.py", [url])
      end
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
