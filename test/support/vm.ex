defmodule Ferrosock.Test.VM do
  @moduledoc "VMs of their own, for what would end this one, or change it."

  alias Ferrosock.Test.{Raw, TellingApp}

  @doc """
  Runs code, after a command of the shell, in a VM that has a server of `Ferrosock.Test.TellingApp` under the name
  `server`, and `options` for another one. The code imports `Ferrosock.Test.Raw`. Returns the output and the exit
  status.
  """
  def run(code, command \\ ":") do
    name = "ferrosock_vm_#{System.pid()}_#{System.unique_integer([:positive])}.exs"
    script = Path.join(System.tmp_dir!(), name)

    File.write!(script, """
    import #{inspect(Raw)}
    {:ok, _} = Application.ensure_all_started(:ferrosock)
    options = [plug: {#{inspect(TellingApp)}, self()}, ip: :loopback, port: 0, startup_log: false]
    {:ok, server} = Ferrosock.start_link(options)
    #{code}
    forever()
    """)

    elixir = [System.find_executable("elixir"), code_paths(), script]
    arguments = ["-c", command <> ~s( && exec "$@"), "sh" | List.flatten(elixir)]

    try do
      System.cmd("sh", arguments, stderr_to_stdout: true)
    after
      File.rm!(script)
    end
  end

  @doc "A command of the shell: that VM gets these flags."
  def flags(flags), do: ~s(export ELIXIR_ERL_OPTIONS="$ELIXIR_ERL_OPTIONS #{flags}")

  defp code_paths do
    built = for path <- :code.get_path(), path = to_string(path), path =~ "_build", do: path
    for path <- built ++ [to_string(:code.lib_dir(:plug)) <> "/ebin"], do: ["-pa", path]
  end
end
