defmodule WebSockAdapterTests.StartTest do
  # What a server finds out at its start about WebSockAdapter: each test has a VM of its own, with the genuine one or
  # with another in its place.
  use ExUnit.Case, async: true

  alias Ferrosock.Test.VM

  @moduletag timeout: 120_000

  # The Plug tells by which adapter its conn was served.
  @code """
  plug = fn conn, _ ->
    IO.puts("served by \#{inspect(elem(conn.adapter, 0))}")
    conn = Plug.Conn.put_resp_header(conn, "X-Capitals", "1")
    WebSockAdapter.upgrade(conn, Ferrosock.Test.Echo, [], timeout: 60_000)
  end

  {:ok, server} = Ferrosock.start_link(Keyword.put(options, :plug, plug))
  response = server |> connect() |> handshake()
  IO.inspect({response.status, header(response, "x-capitals")})
  System.halt(0)
  """

  # In the place of the genuine one, whose code it is where it is not said to be otherwise.
  defp web_sock_adapter(upgrade) do
    """
    Code.compiler_options(ignore_module_conflict: true)

    defmodule WebSockAdapter do
      def upgrade(%{adapter: {adapter, _}} = conn, websock, state, options) do
        #{upgrade}
      end
    end
    """
  end

  test "with the genuine one, handshakes are recorded, and a header may be in capitals" do
    {output, 0} = VM.run(@code)
    assert output =~ "served by Plug.Adapters.Test.Conn\n{101, [\"1\"]}\n"
  end

  test "with one that knows our adapter, nothing is recorded" do
    code =
      web_sock_adapter("Plug.Conn.upgrade_adapter(conn, :websocket, {websock, state, options})")

    {output, 0} = VM.run(code <> @code)
    assert output =~ "served by Ferrosock.Adapter\n{101, [\"1\"]}\n"
  end

  test "with one that knows our adapter over HTTP/1 alone, handshakes are recorded" do
    code =
      web_sock_adapter("""
      if Plug.Conn.get_http_protocol(conn) == :"HTTP/2", do: raise("not over HTTP/2")
      Plug.Conn.upgrade_adapter(conn, :websocket, {websock, state, options})
      """)

    {output, 0} = VM.run(code <> @code)
    assert output =~ "served by Plug.Adapters.Test.Conn\n{101, [\"1\"]}\n"
  end

  # Before its version 0.5.7.
  test "with one that knows no adapter of Plug's tests, a warning says so at the start, once" do
    code =
      web_sock_adapter(
        ~S|raise ArgumentError, "Unknown adapter #{inspect(adapter)}, #{inspect({conn.state, websock, state, options})}"|
      )

    {output, 0} = VM.run(code <> @code)

    assert [_, _] =
             String.split(
               output,
               "does not work with Ferrosock in this version of websock_adapter"
             )

    assert output =~ "use that, or call Ferrosock.upgrade/4"
    assert output =~ "served by Ferrosock.Adapter"
    assert output =~ "{500, []}"
  end

  test "with one that hands over something else, a warning says so, and nothing is left of it" do
    code =
      web_sock_adapter("""
      _ = {adapter, websock, state, options}
      Plug.Conn.upgrade_adapter(conn, :websocket, {:other, []})
      """)

    start = """
    {:ok, _server} = Ferrosock.start_link(options)
    IO.inspect(Process.info(self(), :messages))
    System.halt(0)
    """

    {output, 0} = VM.run(code <> start)
    assert output =~ "does not work with Ferrosock in this version of websock_adapter"
    assert output =~ "{:messages, []}"
  end

  test "a Sock needs no recorder" do
    code = """
    defmodule Legacy do
      def init(argument), do: argument

      def negotiate(conn, state) do
        IO.puts("negotiated by \#{inspect(elem(conn.adapter, 0))}")
        {:refuse, conn, state}
      end
    end

    {:ok, server} = options |> Keyword.delete(:plug) |> Keyword.put(:sock, Legacy) |> Ferrosock.start_link()
    IO.inspect((server |> connect() |> handshake()).status)
    System.halt(0)
    """

    {output, 0} = VM.run(code)
    assert output =~ "negotiated by Ferrosock.Adapter\n400\n"
  end

  test "without one, nothing is recorded, and nothing is said" do
    code = """
    true = :code.del_path(:websock_adapter)
    :code.purge(WebSockAdapter)
    :code.delete(WebSockAdapter)
    false = Code.ensure_loaded?(WebSockAdapter)

    plug = fn conn, _ ->
      IO.puts("served by \#{inspect(elem(conn.adapter, 0))}")
      Ferrosock.upgrade(conn, Ferrosock.Test.Echo, [])
    end

    {:ok, server} = Ferrosock.start_link(Keyword.put(options, :plug, plug))
    101 = (server |> connect() |> handshake()).status
    System.halt(0)
    """

    {output, 0} = VM.run(code)
    assert output =~ "served by Ferrosock.Adapter\n"
    refute output =~ "WebSockAdapter"
  end

  test "where it comes later, the log says that it has to be there" do
    code = """
    path = to_string(:code.lib_dir(:websock_adapter)) <> "/ebin"
    true = :code.del_path(:websock_adapter)
    :code.purge(WebSockAdapter)
    :code.delete(WebSockAdapter)
    plug = fn conn, _ -> WebSockAdapter.upgrade(conn, Ferrosock.Test.Echo, [], []) end
    {:ok, server} = Ferrosock.start_link(Keyword.put(options, :plug, plug))
    Code.append_path(path)
    IO.inspect((server |> connect() |> handshake()).status)
    System.halt(0)
    """

    {output, 0} = VM.run(code)
    assert output =~ "500"

    assert output =~
             "Unknown adapter Ferrosock.Adapter: WebSockAdapter has to be there when the server starts"
  end
end
