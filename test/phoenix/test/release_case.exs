defmodule Sample.ReleaseCase do
  # The app as a release: what is in it, and that it serves and stops.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.App

  @moduletag timeout: 300_000

  @app Path.expand("..", __DIR__)

  setup_all do
    path = tmp_path()
    App.mix!(@app, ["release", "--path", path, "--overwrite", "--quiet"])
    [release: path]
  end

  test "has every module once, and the WebSock of the package", %{release: release} do
    assert App.applications_with(WebSock, release) == ["websock"]

    beams = for beam <- Path.wildcard("#{release}/lib/*/ebin/*.beam"), do: Path.basename(beam)
    assert beams -- Enum.uniq(beams) == []
    assert length(beams) > 100
  end

  test "starts on the port of its environment, serves a socket, and stops by SIGTERM", context do
    program =
      App.start!(
        context.release,
        "bin/sample",
        ["start"],
        [{~c"PORT", ~c"0"}],
        ~r/Running SampleWeb.Endpoint with Ferrosock \S+ at 127.0.0.1:(\d+) \(http\)/
      )

    assert program.port |> connect() |> request("GET", "/") |> Map.fetch!(:status) == 200
    client = Sample.Closes.start!(program.port, 20)
    idle = Sample.Client.open(program.port)

    App.terminate(program)
    assert {:close, 1012, ""} = recv_frame(idle)
    send_frame(idle, :close, <<1012::16>>)
    assert closed?(idle)
    assert Sample.Closes.codes(client) == %{"1012" => 20}
    assert {0, lines} = App.await_end(program)
    assert Enum.filter(lines, &(&1 =~ ~r/\[(warning|error)\]/)) == []
  end
end
