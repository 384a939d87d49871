defmodule Ferrosock.Test.Logs do
  @moduledoc """
  A handler of `:logger` that sends events to tests, as `{:log, level, text, meta}`. Unlike a
  captured log it keeps the metadata, by which a test that runs beside others knows its own events:

      Logs.attach()
      # What the server logs something about.
      ended(server)
      assert [{:log, :warning, text, _meta}] = Logs.taken(server)

  There is one handler for all tests, and it stays: while handlers are removed and added at the same
  time, OTP may lose one of them.
  """

  @doc "Sends the calling test every event from now on."
  def attach do
    :pg.start(__MODULE__)

    unless self() in :pg.get_local_members(__MODULE__, :tests),
      do: :ok = :pg.join(__MODULE__, :tests, self())

    :global.trans({__MODULE__, self()}, &add_handler/0, [node()])
  end

  defp add_handler do
    unless __MODULE__ in :logger.get_handler_ids() do
      :logger.remove_handler(__MODULE__)
      :ok = :logger.add_handler(__MODULE__, __MODULE__, %{})
    end

    :ok
  end

  @doc false
  def log(%{level: level, msg: message, meta: meta}, _config) do
    # The handler runs in the process that logs.
    meta = Map.put(meta, :ancestors, Process.get(:"$ancestors", []))
    log = {:log, level, text(message), meta}
    for test <- :pg.get_local_members(__MODULE__, :tests), do: send(test, log)
  end

  defp text({:string, text}), do: binary(text)
  defp text({:report, report}), do: inspect(report)
  defp text({format, arguments}), do: format |> :io_lib.format(arguments) |> binary()

  # A handler that raises is removed.
  defp binary(text) do
    with unconverted when is_tuple(unconverted) <- :unicode.characters_to_binary(text),
         do: inspect(text)
  end

  @doc "Waits for an event that names the text; the others stay."
  def await(text, others \\ []) do
    receive do
      {:log, _level, _text, _meta} = log ->
        if of?(log, text) do
          others |> Enum.reverse() |> Enum.each(&send(self(), &1))
          log
        else
          await(text, [log | others])
        end
    after
      20_000 -> ExUnit.Assertions.flunk("nothing was logged that names #{inspect(text)}")
    end
  end

  @doc """
  The events so far, first to last, that name the text, or that the process or one below it logged: of a server
  these are all that it and its connections had to say.
  """
  def taken(pid_or_text, taken \\ []) do
    receive do
      {:log, _level, _text, _meta} = log -> taken(pid_or_text, [log | taken])
    after
      0 -> taken |> Enum.reverse() |> Enum.filter(&of?(&1, pid_or_text))
    end
  end

  defp of?({:log, _level, _text, meta}, pid) when is_pid(pid),
    do: meta[:pid] == pid or pid in meta.ancestors

  defp of?({:log, _level, logged, _meta}, text), do: logged =~ text
end
