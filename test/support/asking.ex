defmodule Ferrosock.Test.Asking do
  @moduledoc """
  A Plug that asks to be told when its client leaves, and a test's talk with its process.

      server = Asking.start()
      # A client asks for `/events`, of which it gets a first chunk, or for any other path.
      {pid, ref} = Asking.await()
      # The client leaves.
      assert_receive {:told, ^pid, ^ref}
      Asking.answer(pid)
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [start_supervised!: 1]
  import Plug.Conn

  alias Ferrosock.Test.Raw

  @first ": hello\n\n"

  @doc "What a client of `/events` gets at once."
  def first, do: @first

  @doc "A server of it, whose stop waits for no request that a test has left as it was."
  def start(options \\ []) do
    test = self()
    Raw.serve(&call(&1, test), [shutdown_timeout: 100] ++ options)
  end

  @doc "Serves the request until `answer/1`. The test is told `{:told, pid, ref}` of each notice."
  def call(conn, test) do
    conn = begin(conn)
    ref = Ferrosock.notify_disconnect(conn)
    send(test, {:asked, self(), ref})
    serve(conn, test)
  end

  defp begin(%{path_info: ["events"]} = conn) do
    {:ok, conn} = conn |> send_chunked(200) |> chunk(@first)
    conn
  end

  defp begin(conn), do: conn

  defp serve(conn, test) do
    receive do
      {:ferrosock, :disconnected, ref} ->
        send(test, {:told, self(), ref})
        serve(conn, test)

      {:run, fun} ->
        send(test, {:ran, fun.(conn)})
        serve(conn, test)

      :answer when conn.state == :unset ->
        send_resp(conn, 200, "answer")

      :answer ->
        conn
    end
  end

  @doc "Waits until a request has asked: its process, and its reference."
  def await do
    assert_receive {:asked, pid, ref}
    {pid, ref}
  end

  @doc "What `fun` returns of the conn, in its process."
  def run(pid, fun) do
    send(pid, {:run, fun})
    assert_receive {:ran, result}
    result
  end

  @doc "A process beside, which asks for the same conn and tells this one: its reference."
  def ask_beside(pid) do
    {test, conn} = {self(), run(pid, & &1)}

    ask = fn ->
      send(test, {:asked, self(), Ferrosock.notify_disconnect(conn)})
      serve(%{conn | state: :beside}, test)
    end

    # It holds the conn, and must end with the test.
    start_supervised!(Supervisor.child_spec({Task, ask}, id: make_ref(), restart: :temporary))
    await()
  end

  @doc "Has the process answer, or end its chunks."
  def answer(pid), do: send(pid, :answer)
end
