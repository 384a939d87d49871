defmodule Ferrosock.Test.TellingApp do
  @moduledoc """
  A Plug whose processes tell the test of themselves: `{:plug, pid, conn}`, `{:websocket, pid}`. On `/` it answers,
  on `/chunks` after a chunk, which it tells as `:chunk_sent`, and on `/wait` never; on `/ws` is an echo, which
  takes no more messages after the text `sleep`.
  """

  @behaviour Plug

  import Ferrosock.Test.Raw, only: [forever: 0]

  defmodule Socket do
    @behaviour WebSock

    @impl true
    def init(test) do
      send(test, {:websocket, self()})
      {:ok, test}
    end

    @impl true
    def handle_in({"sleep", _}, _test), do: forever()
    def handle_in({data, opcode: opcode}, test), do: {:push, {opcode, data}, test}

    @impl true
    def handle_info(_message, test), do: {:ok, test}
  end

  @impl true
  def init(test), do: test

  @impl true
  def call(conn, test) do
    send(test, {:plug, self(), conn})
    respond(conn.path_info, conn, test)
  end

  defp respond(["wait"], _conn, _test), do: forever()

  defp respond(["chunks"], conn, test) do
    conn = Plug.Conn.send_chunked(conn, 200)
    {:ok, _conn} = Plug.Conn.chunk(conn, "first")
    send(test, :chunk_sent)
    forever()
  end

  defp respond(["ws"], conn, test), do: Ferrosock.upgrade(conn, Socket, test)
  defp respond([], conn, _test), do: Plug.Conn.send_resp(conn, 200, "ok")
end
