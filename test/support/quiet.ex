defmodule Ferrosock.Test.Quiet do
  @moduledoc """
  An echo without the callbacks that need not be, whose state is a test that is told `{:opened, pid}`. It stops by
  the message `:stop`.
  """

  @behaviour WebSock

  import ExUnit.Assertions

  alias Ferrosock.Test.Raw

  @impl true
  def init(test) do
    send(test, {:opened, self()})
    {:ok, test}
  end

  @impl true
  def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

  @impl true
  def handle_info(:stop, state), do: {:stop, :normal, state}
  def handle_info(_message, state), do: {:ok, state}

  @doc "A WebSocket without a timeout on a server of its own, and its process, which is monitored."
  def open(server_options \\ []) do
    test = self()
    plug = fn conn -> Ferrosock.upgrade(conn, __MODULE__, test, timeout: :infinity) end
    socket = plug |> Raw.serve(server_options) |> Raw.websocket()
    assert_receive {:opened, pid}
    Process.monitor(pid)
    {socket, pid}
  end
end
