defmodule Sample.Closes do
  @moduledoc false
  # Runs test/clients/phoenix_closes.py: many clients by PyPI's websockets.

  import ExUnit.Assertions

  @clients Path.expand("../../../clients", __DIR__)
  @patience 60_000

  @doc "Starts so many clients, and waits until all have joined."
  def start!(port, count) do
    url = "ws://127.0.0.1:#{port}/socket/websocket?vsn=2.0.0"
    python = Path.join(@clients, ".venv/bin/python")
    assert File.exists?(python), "#{python} is missing: run make test, which installs the clients"

    client =
      Port.open({:spawn_executable, python}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 10_000,
        args: [Path.join(@clients, "phoenix_closes.py"), url, "#{count}"]
      ])

    assert line(client) == "joined"
    client
  end

  @doc "Waits for the end of all, and tells how many got which close code."
  def codes(client), do: client |> line() |> Jason.decode!()

  defp line(client) do
    receive do
      {^client, {:data, {:eol, line}}} -> line
      {^client, {:exit_status, status}} -> flunk("the client ended with #{status}")
    after
      @patience -> flunk("the client said nothing")
    end
  end
end
