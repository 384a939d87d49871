defmodule Ferrosock.Test.Echo do
  @moduledoc "A WebSock that sends back what it gets."

  @behaviour WebSock

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

  @impl true
  def handle_info(_message, state), do: {:ok, state}
end
