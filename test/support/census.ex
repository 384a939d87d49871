defmodule Ferrosock.Test.Census do
  @moduledoc """
  What there is in the whole engine and in this process of the operating system. Tests that count it run alone:
  they are not `async`.
  """

  import Ferrosock.Test.Raw, only: [eventually: 1]

  alias Ferrosock.Native

  @nothing %{listeners: 0, connections: 0, exchanges: 0, sockets: 0, tasks: 0}

  @doc "What `Ferrosock.Native.stats/0` returns then."
  def nothing, do: @nothing

  @doc "Waits until the engine, which runs, has nothing."
  def await_nothing do
    Ferrosock.Server.Reactors.ensure_started!(:default)
    eventually(fn -> Native.stats() == @nothing end)
    :ok
  end

  @doc "For `setup`: what the test leaves behind is its fault."
  def nothing_left do
    await_nothing()
    descriptors = descriptors()

    ExUnit.Callbacks.on_exit(fn ->
      await_nothing()
      eventually(fn -> descriptors() <= descriptors end)
    end)
  end

  @doc "How many descriptors are open."
  def descriptors, do: length(File.ls!("/proc/self/fd"))

  @doc "The resident memory."
  def resident_bytes do
    [_size, pages | _] = "/proc/self/statm" |> File.read!() |> String.split()
    String.to_integer(pages) * 4_096
  end
end
