defmodule Ferrosock.Test.Pushing do
  @moduledoc """
  An echo that pushes: what it is told by `{:push, data}`, or as many messages of 100,000 bytes as its client asks
  for by `"push COUNT"`. Its state is a test that is told `{:opened, pid}`, `:pushing` and `{:terminated, reason}`.
  """

  @behaviour WebSock

  @impl true
  def init(test) do
    send(test, {:opened, self()})
    {:ok, test}
  end

  @impl true
  def handle_in({"push " <> count, _}, test) do
    count = String.to_integer(count)
    {:push, List.duplicate({:binary, :binary.copy(<<1>>, 100_000)}, count), test}
  end

  def handle_in({data, opcode: opcode}, test), do: {:push, {opcode, data}, test}

  @impl true
  def handle_info({:push, data}, test) do
    send(test, :pushing)
    {:push, {:binary, data}, test}
  end

  @impl true
  def terminate(reason, test) do
    send(test, {:terminated, reason})
  end

  @doc "A Plug that upgrades each request to one of the calling process."
  def plug do
    test = self()
    fn conn, _ -> Ferrosock.upgrade(conn, __MODULE__, test) end
  end
end
