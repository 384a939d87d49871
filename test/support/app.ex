defmodule Ferrosock.Test.App do
  @moduledoc """
  Apps that depend on Ferrosock by path, made, built and run the way their developers would: by Mix,
  in a folder elsewhere, in `:prod`.

      app = App.new!([websock: "~> 0.5"], ~s|get "/more", do: send_resp(conn, 200, "more")|)
      program = app |> App.release!() |> App.start!("bin/sample", ["start"])

  The app serves a greeting on `/` and an echo on `/ferrosock`, and prints the reason with which each
  WebSocket ends.
  """

  import ExUnit.Assertions
  import ExUnit.Callbacks, only: [on_exit: 1, on_exit: 2]

  @ferrosock Path.expand("../..", __DIR__)
  @patience 30_000

  @doc "Writes an app, with more packages and more routes than it needs for Ferrosock alone."
  def new!(packages \\ [], routes \\ "") do
    app = folder()
    File.mkdir_p!(Path.join(app, "lib"))
    File.write!(Path.join(app, "lib/sample.ex"), code(routes))
    depend!(app, packages)
    app
  end

  @doc "A copy of an app with all that is built of it, and perhaps with more routes."
  def copy!(app, routes \\ "") do
    copy = folder()
    {_output, 0} = System.cmd("cp", ["-a", app, copy])
    if routes != "", do: File.write!(Path.join(copy, "lib/sample.ex"), code(routes))
    copy
  end

  defp folder do
    name = "ferrosock-app-#{System.pid()}-#{System.unique_integer([:positive])}"
    folder = Path.join(System.tmp_dir!(), name)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end

  @doc "Has the app depend on these packages, and on Ferrosock."
  def depend!(app, packages) do
    File.write!(Path.join(app, "mix.exs"), mix_exs(packages))
    mix!(app, ["deps.get"])
  end

  def edit!(app, old, new) do
    file = Path.join(app, "lib/sample.ex")
    code = File.read!(file)
    assert code =~ old
    File.write!(file, String.replace(code, old, new))
  end

  @doc "Runs a task that has to succeed without a warning, and returns what it said."
  def mix!(app, arguments) do
    {output, status} = mix(app, arguments)
    assert status == 0, "mix #{Enum.join(arguments, " ")} ended with #{status}:\n\n#{output}"
    refute output =~ "warning:", output
    output
  end

  @doc "Compiles without warnings and builds a release, in a new folder. Returns the folder."
  def release!(app, name \\ "release") do
    mix!(app, ["compile", "--warnings-as-errors"])
    mix!(app, ["release", "--path", name])
    Path.join(app, name)
  end

  @doc "Runs a task. Returns what it said, and its exit status."
  def mix(app, arguments, env \\ []) do
    System.cmd("mix", arguments,
      cd: app,
      env: [{"MIX_ENV", "prod"} | env],
      stderr_to_stdout: true
    )
  end

  @doc "The applications of a release that contain the module: their names."
  def applications_with(module, release) do
    lib = Path.join(release, "lib")

    for beam <- Path.wildcard(Path.join(lib, "*/ebin/#{module}.beam")) do
      beam |> Path.relative_to(lib) |> String.split(["/", "-"]) |> hd()
    end
  end

  @doc "Starts a program that runs an app, in a folder, and waits for the line that says on which `port` it listens."
  def start!(folder, executable, arguments, env \\ [], listens \\ ~r/listening on (\d+)/) do
    env = [{~c"MIX_ENV", ~c"prod"}, {~c"RELEASE_DISTRIBUTION", ~c"none"} | env]

    process =
      Port.open({:spawn_executable, Path.expand(executable, folder)}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 10_000,
        cd: folder,
        args: arguments,
        env: env
      ])

    {:os_pid, pid} = Port.info(process, :os_pid)
    on_exit(process, fn -> kill("KILL", pid) end)
    program = %{process: process, pid: pid}

    [_, port] = Regex.run(listens, await_line(program, listens))
    Map.put(program, :port, String.to_integer(port))
  end

  def terminate(program), do: {_, 0} = kill("TERM", program.pid)

  @doc "A line of input."
  def enter(program, line), do: Port.command(program.process, line <> "\n")

  @doc "The next line of output that has the text in it, or matches."
  def await_line(%{process: process} = program, text, lines \\ []) do
    receive do
      {^process, {:data, {_eol, line}}} ->
        if line =~ text, do: line, else: await_line(program, text, [line | lines])

      {^process, {:exit_status, status}} ->
        flunk("ended with #{status} without #{inspect(text)}:\n\n#{joined(lines)}")
    after
      @patience -> flunk("did not say #{inspect(text)}, only:\n\n#{joined(lines)}")
    end
  end

  @doc "Waits for the end. Returns the exit status, and the lines of output that nobody has awaited."
  def await_end(%{process: process} = program, lines \\ []) do
    receive do
      {^process, {:data, {_eol, line}}} ->
        await_end(program, [line | lines])

      {^process, {:exit_status, status}} ->
        # By the end of the test its pid may be another's.
        on_exit(process, fn -> :ok end)
        {status, Enum.reverse(lines)}
    after
      @patience -> flunk("did not end, but said:\n\n#{joined(lines)}")
    end
  end

  defp joined(lines), do: lines |> Enum.reverse() |> Enum.join("\n")

  defp kill(signal, pid),
    do: System.cmd("kill", ["-" <> signal, Integer.to_string(pid)], stderr_to_stdout: true)

  defp mix_exs(packages) do
    """
    Code.require_file("lib/mix/packages.exs", #{inspect(@ferrosock)})

    defmodule Sample.MixProject do
      use Mix.Project

      def project do
        [
          app: :sample,
          version: "1.0.0",
          start_permanent: true,
          deps: [{:ferrosock, path: #{inspect(@ferrosock)}} | packages()]
        ] ++ Ferrosock.Packages.config()
      end

      def application do
        [mod: {Sample.Application, []}, extra_applications: [:logger]]
      end

      defp packages do
        for {app, requirement} <- #{inspect(packages)} do
          Ferrosock.Packages.package(app, requirement)
        end
      end
    end
    """
  end

  defp code(routes) do
    """
    defmodule Sample.Application do
      use Application

      def start(_type, _args) do
        server =
          {Ferrosock,
           plug: Sample.Router, port: 0, ip: :loopback, name: Sample.Server, startup_log: false}

        with {:ok, supervisor} <- Supervisor.start_link([server], strategy: :one_for_one) do
          {_ip, port} = Ferrosock.info(Sample.Server).address
          IO.puts("listening on \#{port}")
          {:ok, supervisor}
        end
      end
    end

    defmodule Sample.Router do
      use Plug.Router

      plug :match
      plug :dispatch

      get "/", do: send_resp(conn, 200, "Hello")
      get "/ferrosock", do: Ferrosock.upgrade(conn, Sample.Echo, "ferrosock")
      #{routes}
    end

    defmodule Sample.Echo do
      @behaviour WebSock

      @impl true
      def init(state), do: {:ok, state}

      @impl true
      def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

      @impl true
      def handle_info(_message, state), do: {:ok, state}

      @impl true
      def terminate(reason, state), do: IO.puts("\#{state} terminates: \#{inspect(reason)}")
    end
    """
  end
end
