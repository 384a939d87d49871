defmodule Ferrosock.Test.Client do
  @moduledoc false
  # Runs the scripts of test/clients: clients of other makes, that judge a running server.

  import ExUnit.Assertions

  @folder Path.expand("../clients", __DIR__)

  def run_node(package, script, arguments) do
    assert_installed("node_modules/#{package}")
    node = System.find_executable("node") || flunk("There is no node in the PATH.")
    run(node, script, arguments)
  end

  def run_python(script, arguments) do
    assert_installed(".venv/bin/python")
    run(Path.join(@folder, ".venv/bin/python"), script, arguments)
  end

  defp assert_installed(path) do
    assert File.exists?(Path.join(@folder, path)),
           "test/clients/#{path} is missing: run make test, which installs the clients"
  end

  defp run(program, script, arguments) do
    {output, status} =
      System.cmd(program, [Path.join(@folder, script) | arguments], stderr_to_stdout: true)

    assert status == 0, "#{script} failed with #{status} and said:\n\n#{output}"
  end
end
