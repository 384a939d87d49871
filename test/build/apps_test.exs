defmodule Ferrosock.Build.AppsTest do
  # Not async: the builds would take the processors from tests that measure time.
  use ExUnit.Case

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.App

  @moduletag :apps
  @moduletag timeout: 300_000

  @websock_route ~s|get "/websock", do: WebSock.upgrade(conn, Sample.Echo, "websock", [])|
  @adapter_route ~s|get "/adapter", do: WebSockAdapter.upgrade(conn, Sample.Echo, "adapter", [])|

  describe "a release" do
    test "of a Plug app has our WebSock" do
      release = [] |> App.new!(@websock_route) |> App.release!()

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

      # That package takes the servers that it names itself and no others.
      serves_and_stops(release, ["ferrosock"], fn program ->
        assert handshake(connect(program.port), "/adapter").status == 500
        App.await_line(program, "** (ArgumentError) Unknown adapter Ferrosock.Adapter")
      end)
    end

    test "follows the websock package as it comes and goes, without a clean build" do
      app = App.new!()
      assert App.applications_with(WebSock, App.release!(app, "without")) == ["ferrosock"]

      App.depend!(app, websock: "~> 0.5")
      assert App.applications_with(WebSock, App.release!(app, "with")) == ["websock"]

      App.depend!(app, [])
      assert App.applications_with(WebSock, App.release!(app, "again without")) == ["ferrosock"]
    end
  end

  describe "compilation" do
    test "does nothing the second time" do
      app = App.new!()
      assert App.mix!(app, ["compile"]) =~ "Generated ferrosock app"
      assert App.mix!(app, ["compile"]) == ""
    end

    test "warns of WebSock.upgrade/4 when the package that comes has none" do
      app = App.new!([], @websock_route)
      App.mix!(app, ["compile"])
      App.depend!(app, websock: "~> 0.5")

      {output, 1} = App.mix(app, ["compile", "--warnings-as-errors"])
      assert output =~ "WebSock.upgrade/4 is undefined"
    end

    @tag :tmp_dir
    test "happens again when the package of one of our behaviours comes or goes", context do
      for {package, hook} <- [
            websock: Ferrosock.WebSockPackage,
            sock: Ferrosock.SockPackage
          ] do
        ebin = Path.join([context.tmp_dir, "#{package}", "ebin"])
        File.mkdir_p!(ebin)
        refute hook.__mix_recompile__?()
        true = Code.append_path(ebin)
        assert hook.__mix_recompile__?()
        true = Code.delete_path(ebin)
        refute hook.__mix_recompile__?()
      end
    end

    test "without cargo says so in one sentence" do
      app = App.new!()

      {output, 1} = App.mix(app, ["compile"], [{"PATH", path_without("cargo", app)}])

      assert output =~
               "** (Mix) Ferrosock's engine is Rust, and there is no cargo on PATH: see https://rustup.rs\n"

      refute output =~ "stacktrace"
      refute output =~ "Compiling"
    end
  end

  test "recompile() in IEx changes a running app" do
    app = App.new!()
    App.mix!(app, ["compile"])

    # What `iex -S mix` does, wherever `mix` is.
    start = ["--dot-iex", "", "-e", "Mix.start()", "-e", "Mix.CLI.main()"]
    program = App.start!(app, System.find_executable("iex"), start)
    assert get(program) == "Hello"
    socket = websocket(program.port, "/ferrosock")

    App.enter(program, "recompile()")
    App.await_line(program, ":noop")

    App.edit!(app, "Hello", "Hello again")
    App.enter(program, "recompile()")
    App.await_line(program, ":ok")

    assert get(program) == "Hello again"
    assert_echo(socket)

    App.terminate(program)
    assert {0, _lines} = App.await_end(program)
  end

  # Serves HTTP and an echo on each path, and ends by SIGTERM in order though all these are open.
  defp serves_and_stops(release, paths, fun \\ fn _program -> :ok end) do
    program = App.start!(release, "bin/sample", ["start"])
    idle = connect(program.port)
    assert %{status: 200, body: "Hello"} = request(idle, "GET", "/")

    sockets = for path <- paths, do: websocket(program.port, "/" <> path)
    Enum.each(sockets, &assert_echo/1)
    fun.(program)

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

  defp get(program), do: request(connect(program.port), "GET", "/").body

  # In the place of a folder that has the program comes one that has all the others.
  defp path_without(program, scratch) do
    "PATH"
    |> System.get_env()
    |> String.split(":")
    |> Enum.with_index()
    |> Enum.map_join(":", fn {folder, index} ->
      if File.exists?(Path.join(folder, program)),
        do: linked_without(folder, program, Path.join(scratch, "path-#{index}")),
        else: folder
    end)
  end

  defp linked_without(folder, program, links) do
    File.mkdir!(links)

    for name <- File.ls!(folder), name != program do
      File.ln_s!(Path.join(folder, name), Path.join(links, name))
    end

    links
  end
end
