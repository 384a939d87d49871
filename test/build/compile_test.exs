defmodule Ferrosock.Build.CompileTest do
  # What `mix compile` does in apps that depend on Ferrosock, and when it does it again.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.App

  @moduletag :apps
  @moduletag timeout: 300_000

  # A Plug app, compiled: most tests begin with a copy of it.
  setup_all do
    app = App.new!()
    output = App.mix!(app, ["compile"])
    [built: app, output: output]
  end

  describe "compilation" do
    test "does nothing the second time", %{built: app, output: output} do
      assert output =~ "Generated ferrosock app"
      assert App.mix!(app, ["compile"]) == ""
    end

    test "warns of WebSock.upgrade/4 when the package that comes has none", %{built: built} do
      app =
        App.copy!(
          built,
          ~s|get "/websock", do: WebSock.upgrade(conn, Sample.Echo, "websock", [])|
        )

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

  test "recompile() in IEx changes a running app", %{built: built} do
    app = App.copy!(built)

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
