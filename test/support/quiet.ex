defmodule Ferrosock.Test.Quiet do
  @moduledoc "An echo without `handle_control/2`, whose state is a test that is told `{:opened, pid}`."

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
  def handle_info(_message, state), do: {:ok, state}

  @doc "A WebSocket without a timeout on a server of its own, and its process."
  def open(server_options) do
    test = self()
    plug = fn conn -> Ferrosock.upgrade(conn, __MODULE__, test, timeout: :infinity) end
    socket = plug |> Raw.serve(server_options) |> Raw.websocket()
    assert_receive {:opened, pid}
    {socket, pid}
  end
end
