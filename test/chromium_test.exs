defmodule Ferrosock.ChromiumTest do
  use ExUnit.Case, async: true

  alias Ferrosock.Test.Client

  @moduletag :capture_log

  @example Path.expand("../examples/chat", __DIR__)

  # The example looks for its pages in its application's priv directory, so it is laid out as the
  # application that it is.
  setup_all do
    dir = Path.join(System.tmp_dir!(), "ferrosock-chat-#{System.pid()}")
    ebin = Path.join(dir, "chat/ebin")
    File.mkdir_p!(ebin)
    File.ln_s!(Path.join(@example, "priv"), Path.join(dir, "chat/priv"))

    on_exit(fn -> File.rm_rf!(dir) end)

    sources = Path.wildcard(Path.join(@example, "lib/**/*.ex"))

    {:ok, modules, %{compile_warnings: [], runtime_warnings: []}} =
      Kernel.ParallelCompiler.compile_to_path(sources, ebin, return_diagnostics: true)

    true = Code.prepend_path(ebin)

    on_exit(fn ->
      Code.delete_path(ebin)
      Enum.each(modules, &unload/1)
    end)
  end

  setup do
    start_supervised!(Chat.Room)

    server =
      start_supervised!(
        {Ferrosock, plug: Chat.Router, port: 0, ip: :loopback, startup_log: false}
      )

    {_ip, port} = Ferrosock.info(server).address
    [port: port]
  end

  @tag :chromium
  @tag timeout: 120_000
  test "two people chat in a browser", %{port: port} do
    Client.run_node("playwright-core", "chat.mjs", ["http://127.0.0.1:#{port}/"])
  end

  test "the example is in good health", %{port: port} do
    assert {200, "ok"} = get(port, "/health")
  end

  test "the example's echo refuses options that make no sense", %{port: port} do
    for {query, sentence} <- [
          {"timeout=soon", "timeout must be a whole number above 0, or infinity."},
          {"max_frame_size[]=1", "max_frame_size must be a whole number above 0, or infinity."},
          {"compress=yes", "compress must be true or false."},
          {"threshold=-1", "threshold must be a whole number, 0 or above."}
        ] do
      assert {400, ^sentence} = get(port, "/echo?#{query}")
    end
  end

  test "the example's WebSockets refuse a plain request", %{port: port} do
    for path <- ["/chat", "/echo", "/echo?timeout=infinity&threshold=0"] do
      assert {status, _body} = get(port, path)
      assert status in [400, 426]
    end
  end

  defp unload(module) do
    :code.delete(module)
    :code.purge(module)
  end

  defp get(port, path) do
    {:ok, socket} = :gen_tcp.connect(~c"127.0.0.1", port, [:binary, active: false])
    :ok = :gen_tcp.send(socket, "GET #{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    response = receive_all(socket)
    [head, body] = String.split(response, "\r\n\r\n", parts: 2)
    "HTTP/1.1 " <> <<status::binary-size(3)>> <> _rest = head
    {String.to_integer(status), body}
  end

  defp receive_all(socket, received \\ "") do
    case :gen_tcp.recv(socket, 0, 20_000) do
      {:ok, data} -> receive_all(socket, received <> data)
      {:error, :closed} -> received
    end
  end
end
