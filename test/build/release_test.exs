defmodule Ferrosock.Build.ReleaseTest do
  # Apps of three kinds as releases: what is in them, and that they serve and stop.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.App

  @moduletag :apps
  @moduletag timeout: 300_000

  @websock_route ~s|get "/websock", do: WebSock.upgrade(conn, Sample.Echo, "websock", [])|
  @adapter_route ~s|get "/adapter", do: WebSockAdapter.upgrade(conn, Sample.Echo, "adapter", [])|

  # A Plug app, compiled: most tests begin with a copy of it.
  setup_all do
    app = App.new!()
    App.mix!(app, ["compile"])
    [built: app]
  end

  describe "a release" do
    test "of a Plug app has our WebSock", %{built: built} do
      release = built |> App.copy!(@websock_route) |> App.release!()

      assert App.applications_with(WebSock, release) == ["ferrosock"]
      serves_and_stops(release, ["ferrosock", "websock"])
    end

    test "of an app with the websock package has the package's WebSock" do
      release = [websock: "~> 0.5"] |> App.new!() |> App.release!()

      assert App.applications_with(WebSock, release) == ["websock"]
      serves_and_stops(release, ["ferrosock"])
    end

    test "of an app with websock_adapter has the package's WebSock" do
      packages = [websock: "~> 0.5", websock_adapter: "~> 0.5"]
      release = packages |> App.new!(@adapter_route) |> App.release!()

      assert App.applications_with(WebSock, release) == ["websock"]

      serves_and_stops(release, ["ferrosock", "adapter"])
    end

    test "follows the websock package as it comes and goes, without a clean build", context do
      app = App.copy!(context.built)
      assert App.applications_with(WebSock, App.release!(app, "without")) == ["ferrosock"]

      App.depend!(app, websock: "~> 0.5")
      assert App.applications_with(WebSock, App.release!(app, "with")) == ["websock"]

      App.depend!(app, [])
      assert App.applications_with(WebSock, App.release!(app, "again without")) == ["ferrosock"]
    end
  end

  # Serves HTTP and an echo on each path, and ends by SIGTERM in order though all these are open.
  defp serves_and_stops(release, paths) do
    program = App.start!(release, "bin/sample", ["start"])
    idle = connect(program.port)
    assert %{status: 200, body: "Hello"} = request(idle, "GET", "/")

    sockets = for path <- paths, do: websocket(program.port, "/" <> path)
    Enum.each(sockets, &assert_echo/1)
    App.terminate(program)

    for socket <- sockets do
      assert {:close, 1001, ""} = recv_frame(socket)
      send_frame(socket, :close, <<1001::16>>)
      assert closed?(socket)
    end

    assert closed?(idle)

    assert {0, lines} = App.await_end(program)
    for path <- paths, do: assert("#{path} terminates: :shutdown" in lines)
  end

  defp assert_echo(socket) do
    send_frame(socket, :text, "echo")
    assert recv_frame(socket) == {:text, "echo"}
  end
end
