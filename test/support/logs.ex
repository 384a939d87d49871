defmodule Ferrosock.Test.Logs do
  @moduledoc """
  A handler of `:logger` that sends events to the test, as `{:log, level, text, meta}`. Unlike a
  captured log it keeps the metadata, by which a test that runs beside others knows its own events.
  """

  def attach do
    id = :"logs_of_#{System.unique_integer([:positive])}"
    :ok = :logger.add_handler(id, __MODULE__, %{config: self()})
    ExUnit.Callbacks.on_exit(fn -> :logger.remove_handler(id) end)
  end

  @doc false
  def log(%{level: level, msg: message, meta: meta}, %{config: test}),
    do: send(test, {:log, level, text(message), meta})

  defp text({:string, text}), do: IO.chardata_to_string(text)
  defp text({:report, report}), do: inspect(report)
  defp text({format, arguments}), do: format |> :io_lib.format(arguments) |> to_string()

  @doc "The events so far that the process logged, or that name the text, first to last."
  def taken(pid_or_text, taken \\ []) do
    receive do
      {:log, _level, _text, _meta} = log -> taken(pid_or_text, [log | taken])
    after
      0 -> taken |> Enum.reverse() |> Enum.filter(&of?(&1, pid_or_text))
    end
  end

  defp of?({:log, _level, _text, meta}, pid) when is_pid(pid), do: meta[:pid] == pid
  defp of?({:log, _level, logged, _meta}, text), do: logged =~ text
end
