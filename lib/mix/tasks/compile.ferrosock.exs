defmodule Mix.Tasks.Compile.Ferrosock do
  @moduledoc false
  # Builds the engine with cargo and puts it into the application's priv/native. Required by mix.exs,
  # because it must exist before the project is compiled; that is also why it is not an .ex file,
  # which Mix would compile a second time.
  #
  # Cargo keeps one target directory for all of Mix's environments, and each environment has its
  # copy of the library. Cargo is not even started while no source is newer than the last build.
  #
  # Where Ferrosock is a dependency, Mix compiles it as in production. Who works on Ferrosock itself gets
  # the profile that compiles a change in seconds.

  use Mix.Task.Compiler

  @root Path.expand("../../..", __DIR__)
  @library "ferrosock_nif"

  @impl true
  def run(args) do
    if "--force" in args or stale?() do
      build()
    else
      {:noop, []}
    end
  end

  @impl true
  def manifests, do: [manifest()]

  @impl true
  def clean do
    File.rm(manifest())
    File.rm_rf!(Path.dirname(installed()))
    :ok
  end

  defp stale? do
    not File.exists?(installed()) or Mix.Utils.stale?(sources(), [manifest()])
  end

  # Directories are listed too: a file that is gone changes nothing else.
  defp sources do
    [Path.join(@root, "Cargo.toml"), Path.join(@root, "Cargo.lock")] ++
      Path.wildcard(Path.join(@root, "native/**"))
  end

  defp build do
    cargo =
      System.find_executable("cargo") ||
        Mix.raise(
          "Ferrosock's engine is Rust, and there is no cargo on PATH: see https://rustup.rs"
        )

    # One second early: times of files are in whole seconds, and a source that is saved while cargo
    # runs must count as newer.
    started = System.os_time(:second) - 1
    profile = profile()
    Mix.shell().info("Compiling Ferrosock's engine (cargo build --profile #{profile})")

    # Cargo reports on stderr, which goes to the terminal as it is.
    args =
      ~w(build --locked --profile #{profile} --package #{@library} --target-dir) ++ [target_dir()]

    case System.cmd(cargo, args, cd: @root) do
      {_, 0} ->
        install()
        File.mkdir_p!(Path.dirname(manifest()))
        File.touch!(manifest(), started)
        {:ok, []}

      {_, status} ->
        message = "cargo build failed with status #{status}; its errors are above"
        Mix.shell().error(message)
        {:error, [diagnostic(message)]}
    end
  end

  defp profile, do: if(Mix.env() == :prod, do: "release", else: "quick")

  # Under another name first: a running VM has the old file mapped, and must keep it.
  defp install do
    target = installed()
    copy = target <> ".new"
    File.mkdir_p!(Path.dirname(target))
    File.cp!(built(), copy)
    File.rename!(copy, target)
  end

  defp built do
    # The BEAM asks for .so on macOS too.
    extension = if match?({:unix, :darwin}, :os.type()), do: ".dylib", else: ".so"
    Path.join([target_dir(), profile(), "lib" <> @library <> extension])
  end

  defp installed, do: Path.join([Mix.Project.app_path(), "priv/native", @library <> ".so"])

  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.ferrosock")

  defp target_dir do
    Path.expand(System.get_env("CARGO_TARGET_DIR", "target"), @root)
  end

  defp diagnostic(message) do
    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "ferrosock",
      file: Path.join(@root, "Cargo.toml"),
      message: message,
      position: 0,
      severity: :error
    }
  end
end
