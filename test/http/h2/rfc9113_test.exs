defmodule Ferrosock.HTTP.H2.RFC9113Test do
  # Judged by clients of other makes.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [start_server!: 1, port: 1]

  alias Ferrosock.Test.{Certificates, Client, HTTP2App, Logs}

  @moduletag timeout: 180_000

  # What the clients wait for in vain is over soon.
  @options [
    plug: HTTP2App,
    http_2_options: [max_concurrent_streams: 128, max_header_length: 65_536, send_timeout: 2_000],
    websocket_options: [send_timeout: 2_000]
  ]

  @deviations Path.expand("../../clients/http2/deviations.txt", __DIR__)

  test "every case of RFC 9113 comes out as it asks for, and none is logged as an error" do
    Logs.attach()
    server = start_server!(@options)
    Client.run_python("http2_cases.py", ["127.0.0.1", "#{port(server)}", @deviations])
    assert errors(server) == []
  end

  test "WebSockets over HTTP/2 satisfy PyPI's h2 and wsproto, and none is logged as an error" do
    Logs.attach()
    server = start_server!(@options)
    Client.run_python("h2_websocket.py", ["127.0.0.1", "#{port(server)}"])
    assert errors(server) == []
  end

  defp errors(server),
    do: for({:log, :error, text, _meta} <- Logs.taken(server), do: text)

  describe "curl" do
    unless System.find_executable("curl"), do: @describetag(skip: "there is no curl in the PATH")

    test "speaks HTTP/2 over TLS, where ALPN chooses it, and HTTP/1.1 where it does not" do
      made = Certificates.make()
      server = start_server!([scheme: :https, cert: made.cert, key: made.key] ++ @options)
      url = "https://127.0.0.1:#{port(server)}/"

      assert curl(["--http2", "--insecure", url]) == "hello 2"
      assert curl(["--http1.1", "--insecure", url]) == "hello 1.1"
      assert curl(["--no-alpn", "--insecure", url]) == "hello 1.1"
    end

    test "speaks HTTP/2 over TCP by prior knowledge, and not by an upgrade" do
      url = "http://127.0.0.1:#{port(start_server!(@options))}/"

      assert curl(["--http2-prior-knowledge", url]) == "hello 2"
      # It offers `upgrade: h2c`, which RFC 9113 (3.1) has done away with.
      assert curl(["--http2", url]) == "hello 1.1"
      assert curl(["--http1.1", url]) == "hello 1.1"
    end
  end

  # The body, and the version that it came by.
  defp curl(arguments) do
    arguments = ["-sS", "--max-time", "20", "-w", " %{http_version}" | arguments]
    {output, 0} = System.cmd("curl", arguments, stderr_to_stdout: true)
    output
  end
end
