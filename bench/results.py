"""From the figures of all runs to tables, and to the page that keeps them."""

import os
import platform
import re
import subprocess
from statistics import median

from servers import DEPS, ROOT, environment

TITLES = {
    "ferrosock": "Ferrosock",
    "cowboy": "plug_cowboy",
    "tungstenite": "tungstenite, no BEAM",
    "epoll": "epoll, no BEAM",
}
METRICS = ["server_cpu_us", "p50_us", "p99_us", "per_second"]
VM_FLAGS = ["ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "ELIXIR_ERL_OPTIONS"]
HEAD = ["", "CPU µs/message", "p50 µs", "p99 µs", "messages/s"]


class Results:
    def __init__(self, cases, servers):
        self.servers = servers
        # case -> server -> one report for each round
        self.reports = {case: {server: [] for server in servers} for case in cases}

    def add(self, case, server, report):
        self.reports[case][server].append(report)

    def tables(self):
        return "\n\n".join(self.table(case) for case in self.reports)

    def table(self, case):
        conns, depth, size = case.split("x")
        plural = "" if conns == "1" else "s"
        title = f"### {conns} connection{plural} × {depth} pipelined × {size} bytes"
        rows = [self.row(case, server) for server in self.servers]
        if {"ferrosock", "cowboy"} <= set(self.servers):
            rows.append(self.ratios(case))
        return f"{title}\n\n{markdown_table([HEAD, *rows])}"

    def row(self, case, server):
        reports = self.reports[case][server]
        cells = [number(median(report[metric] for report in reports)) for metric in METRICS]
        cpu = [report["server_cpu_us"] for report in reports]
        if len(cpu) > 1:
            cells[0] += f" ({number(min(cpu))}–{number(max(cpu))})"
        return [TITLES[server], *cells]

    def ratios(self, case):
        """Of each round and then their median: what slows a whole round cancels out."""
        rounds = list(zip(self.reports[case]["ferrosock"], self.reports[case]["cowboy"]))
        cells = [ratio(metric, rounds) for metric in METRICS]
        return ["**Ferrosock / plug_cowboy**", *cells]

    def page(self, rounds, secs, warm, command):
        return f"""# Results

{machine()}

{versions()}

Echo of binary messages over loopback, server and load on the same machine. Each figure is the median
of {rounds} rounds of {secs:g} s after {warm:g} s of warm-up; in parentheses the least and the most CPU time of
a round. The last line of a table is the median of the rounds' ratios: below 1 is better for times,
above 1 for messages/s. How to read this: [README.md](README.md).

To reproduce: `{command}`

{self.tables()}
"""


def ratio(metric, rounds):
    ratios = [ours[metric] / theirs[metric] for ours, theirs in rounds if theirs[metric]]
    return f"**{median(ratios):.2f}**" if ratios else "–"


def number(value):
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def markdown_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = [
        [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def machine():
    cores = len(os.sched_getaffinity(0))
    kernel = re.match(r"[\d.]*\d", platform.release()).group()
    beam = output(["elixir", "--version"])
    otp = re.search(r"Erlang/OTP (\d+) \[erts-([\d.]+)\]", beam)
    elixir = re.search(r"Elixir (\S+)", beam).group(1)
    rustc = output(["rustc", "--version"]).split()[1]
    flags = [os.environ[name].strip() for name in VM_FLAGS if os.environ.get(name)]
    vm = f"Erlang/OTP {otp.group(1)} (erts {otp.group(2)})"
    parts = [
        f"{cores} cores ({platform.machine()})",
        f"{platform.system()} {kernel}",
        " ".join([vm, *flags]),
        f"Elixir {elixir}",
        f"rustc {rustc}",
    ]
    return "Machine: " + ", ".join(parts) + "."


def versions():
    """Of what Ferrosock is compared with."""
    lock = (ROOT / "Cargo.lock").read_text()
    crate = re.search(r'name = "tokio-tungstenite"\nversion = "([^"]+)"', lock).group(1)
    apps = [f"{app} {app_version(app)}" for app in ("plug_cowboy", "cowboy", "websock_adapter")]
    return f"Peers: {', '.join(apps)}; tokio-tungstenite {crate}."


def app_version(app):
    spec = (DEPS / app / "ebin" / f"{app}.app").read_text()
    return re.search(r'\{vsn,\s*"([^"]+)"\}', spec).group(1)


def output(command):
    return subprocess.run(
        command, env=environment({}), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
