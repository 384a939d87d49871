defmodule Ferrosock.Packages do
  @moduledoc false
  # Where the packages that Ferrosock needs come from: Hex, or, on a Debian machine that cannot reach
  # it, the applications that `bin/toolchain` put under `.toolchain`. For mix.exs files alone: they
  # require this file, and no build contains it.
  #
  # FERROSOCK_DEPS=hex or FERROSOCK_DEPS=toolchain decides; else Hex serves wherever it is installed.
  # With neither Hex nor a toolchain, Mix itself offers to install Hex.

  @toolchain Path.expand("../../.toolchain/deps", __DIR__)

  @doc "The dependencies of Ferrosock itself. A project that depends on Ferrosock gets them through it."
  def deps do
    packages(plug: "~> 1.16", telemetry: "~> 1.0") ++
      [
        # An app that has this package keeps its WebSock; every other app gets ours. Two of them would
        # not fit in one release. As an optional dependency it is compiled before us where it is there
        # at all. Mix compiles dependencies in :prod: our own tests and documentation do without it.
        package(:websock, "~> 0.5", optional: true, only: :prod),
        # The frames of the tests' own HTTP/2 client.
        package(:cowlib, "~> 2.12", only: :test)
      ] ++
      if source() == :hex do
        [
          # As with websock. Debian has no such package.
          {:sock, "~> 0.2.0", optional: true, only: :prod},
          {:ex_doc, "~> 0.34", only: :dev, runtime: false}
        ]
      else
        []
      end
  end

  @doc "One dependency. For projects that are to be built from either source, like Ferrosock."
  def package(app, requirement, options \\ []) do
    case source() do
      :hex ->
        {app, requirement, options}

      # `true` is the shell's: there is nothing to compile, and Mix links the ready ebin.
      :toolchain ->
        {app, [path: Path.join(@toolchain, Atom.to_string(app)), compile: "true"] ++ options}
    end
  end

  @doc """
  The dependencies of a project by name and requirement; from the toolchain with all that these depend
  on themselves, which nothing but Hex would tell Mix.
  """
  def packages(requirements) do
    needed =
      case source() do
        :hex -> []
        :toolchain -> requirements |> Keyword.keys() |> needed([]) |> Enum.map(&{&1, ">= 0.0.0"})
      end

    for {app, requirement} <- Keyword.merge(needed, requirements), do: package(app, requirement)
  end

  # All of the toolchain's applications that these cannot do without, these among them.
  defp needed([], found), do: found

  defp needed([app | apps], found) do
    ebin = Path.join([@toolchain, Atom.to_string(app), "ebin"])

    if app in found or not File.dir?(ebin) do
      needed(apps, found)
    else
      {:ok, [{:application, ^app, keys}]} = :file.consult(Path.join(ebin, "#{app}.app"))
      optional = Keyword.get(keys, :optional_applications, [])
      needed((keys[:applications] -- optional) ++ apps, [app | found])
    end
  end

  @doc "What a project's own configuration needs so that one checkout can be built from either source."
  def config do
    case source() do
      :hex ->
        []

      :toolchain ->
        # A _build that served the other source leaves an .app file that names missing applications.
        # The ready applications are stripped, which the consolidation of protocols cannot read.
        [
          build_path: "_build/toolchain",
          lockfile: "_build/toolchain/mix.lock",
          consolidate_protocols: false
        ]
    end
  end

  defp source do
    case System.get_env("FERROSOCK_DEPS") do
      "hex" ->
        :hex

      "toolchain" ->
        :toolchain

      unset when unset in [nil, ""] ->
        if hex?() or not File.dir?(@toolchain), do: :hex, else: :toolchain

      other ->
        Mix.raise("FERROSOCK_DEPS is hex or toolchain, not #{inspect(other)}")
    end
  end

  # Any SCM that takes a bare requirement does what Hex does.
  defp hex? do
    Code.ensure_loaded?(Hex) or Enum.any?(Mix.SCM.available(), & &1.accepts_options(:plug, []))
  end
end
