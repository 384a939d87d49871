"""Counts what a message takes of the server, on the BEAM and without one. See BUDGET.md."""

import os
import platform
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from servers import (
    BENCH,
    CHAT,
    ROOT,
    BenchError,
    build_app,
    build_programs,
    build_toolchain,
    environment,
    run_tool,
)

MEASURE_SECS = 900

# One scheduler, so that no process runs beside another; nobody spins.
VM_FLAGS = "+S 1:1 +SDcpu 1:1 +SDio 1 +sbwt none +sbwtdcpu none +sbwtdio none"

MEASURED = "*::measured"

# Lines of callgrind's file: an object whose code follows, or is called; and a position with its cost.
OBJECT = re.compile(r"(c?)ob=\((\d+)\)(?: (.*))?$")
COST = re.compile(r"[-+*\d]\S* (\d+)$")


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    # Of `ferrosock_budget`; none where that does not know the case.
    arguments: tuple = ()


CASES = [
    Case("64x1x64", "echo 64×1×64", ("64", "echo", "1")),
    Case("64x16x64", "echo 64×16×64", ("64", "echo", "16")),
    Case("1x1x64", "echo 1×1×64", ("1", "echo", "1")),
    Case("get", "GET, 64 connections", ("64", "get")),
    Case("get-1", "GET, 1 connection", ("1", "get")),
    Case("handshake", "handshake, 64 at once"),
]


def measure():
    """What each case takes per message, by the name of the case and that of the count; and the
    versions of what was measured with."""
    with tempfile.TemporaryDirectory(prefix="budget-") as folder:
        bench = Counting(Path(folder))
        versions, cases = bench.on_the_beam()
        for case in filter(lambda case: case.arguments, CASES):
            cases[case.name]["instructions"] = bench.instructions(case)
        return versions | bench.versions(), cases


class Counting:
    def __init__(self, folder):
        # A release is measured as it is, without what shortens a developer's builds.
        for name in [name for name in os.environ if name.startswith("CARGO_PROFILE_RELEASE_")]:
            del os.environ[name]
        self.folder = folder
        self.counts = folder / "counts"
        build_toolchain()
        build_app()
        # With the library, of which it takes the engine: alone, it would have one of its own compiled,
        # because the two together have other features of what they depend on.
        self.program = build_programs("ferrosock_nif", "ferrosock_budget")["ferrosock_budget"]
        self.calls = self.library("calls")
        self.clock = self.library("clock", "-DBUDGET_CLOCK_ONLY")

    def library(self, name, *options):
        """budget.c, to be preloaded."""
        path = self.folder / f"{name}.so"
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-O2", "-shared", "-fPIC", *options, "-o", path, BENCH / "budget.c"]
        run_tool([*command, "-ldl", "-lpthread"], ROOT, stdout=None)
        return path

    def preloaded(self, library, whose):
        """With counts of their own."""
        self.counts.write_bytes(b"")
        return {"LD_PRELOAD": library, "BUDGET_COUNTS": self.counts, "BUDGET_OBJECT": whose}

    def on_the_beam(self):
        """See budget.exs."""
        flags = {"MIX_ENV": "prod", "ELIXIR_ERL_OPTIONS": f"+fnu {VM_FLAGS}"}
        env = flags | self.preloaded(self.calls, "/ferrosock_nif.so")
        printed = output(["mix", "run", "--no-start", BENCH / "budget.exs"], CHAT, env)
        versions, cases = {}, {}
        for line in printed.splitlines():
            match line.split("\t"):
                case ["version", name, version]:
                    versions[name] = version
                case ["count", case, name, number]:
                    cases.setdefault(case, {})[name] = round(float(number), 4)
        if missing := [case.name for case in CASES if case.name not in cases]:
            raise BenchError(f"budget.exs did not measure {', '.join(missing)}:\n{printed}")
        return versions, cases

    def instructions(self, case):
        """Of the engine, for a message."""
        profile = self.folder / "profile"
        options = [f"--callgrind-out-file={profile}", "--collect-atstart=no"]
        valgrind = ["valgrind", "--tool=callgrind", *options, f"--toggle-collect={MEASURED}"]
        command = [*valgrind, self.program, *case.arguments]
        printed = output(command, ROOT, self.preloaded(self.clock, "/ferrosock_budget"))
        messages = re.search(r"^(\d+)$", printed, re.MULTILINE)
        collected = instructions_of(self.program, profile) if messages else 0
        if collected == 0:
            raise BenchError(f"callgrind has not counted {case.name}:\n{printed}")
        return round(collected / int(messages[1]), 1)

    def versions(self):
        rustc = run_tool(["rustc", "--version"], ROOT, stdout=subprocess.PIPE)
        return {
            "rustc": rustc.split()[1],
            "machine": platform.machine(),
        }


def instructions_of(program, profile):
    """Of the program's own code. What the C library's takes depends on the processor and on what was
    allocated before."""
    names, current, total = {}, None, 0
    lines = iter(profile.read_text().splitlines())
    for line in lines:
        if named := OBJECT.match(line):
            is_callee, number, name = named.groups()
            if name:
                names[number] = name
            if not is_callee:
                current = names[number]
        elif line.startswith("calls="):
            # What follows is the callee's.
            next(lines)
        elif current == program and (cost := COST.match(line)):
            total += int(cost[1])
    return total


def output(command, folder, env):
    env = {name: str(value) for name, value in env.items()}
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=MEASURE_SECS,
            text=True,
        )
    except FileNotFoundError as error:
        raise BenchError(f"there is no {command[0]}: Debian has a package of that name") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]} did not end within {MEASURE_SECS} s") from error
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout
