"""The results as tables, and the page that keeps them."""

import os
import platform
import re
import subprocess

from cases import BEAM, SWEEP_ROUNDS, SWEEP_SECS, count
from results import verdicts
from servers import DEPS, ROOT, environment

TITLES = {
    "ferrosock": "Ferrosock",
    "cowboy": "plug_cowboy",
    "tungstenite": "tungstenite, no BEAM",
    "epoll": "epoll, no BEAM",
    "without-flat": "Ferrosock, no flat serializer",
    "without-cache": "Ferrosock, no cache of what it compressed",
}
VM_FLAGS = ["ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "ELIXIR_ERL_OPTIONS"]


def page(options, command, cases, results, sweeps):
    """`sweeps` has the results of each sweep."""
    parts = [
        "# Results",
        machine(),
        versions(),
        f"""\
Servers and load share the machine. Each figure is the median of
{count(options.rounds, "round")} of {options.secs:g} s, and in the plots of
{count(SWEEP_ROUNDS, "round")} of {SWEEP_SECS:g} s or more; in parentheses the least and the most of
a round. The last line of a table is the median of the rounds' ratios: below 1 is better for times,
above 1 for what is done per second. How to read this: [README.md](README.md).""",
        f"To reproduce: `{command}`",
        targets(results),
        tables(cases, results),
        schedulers(cases, results),
        *(growth(sweep, measured) for sweep, measured in sweeps.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def targets(results):
    measured = [verdict for verdict in verdicts(results) if verdict.value is not None]
    if not measured:
        return ""
    rows = [["case", "figure", "must be", "is", ""]]
    for verdict in measured:
        target = verdict.target
        kind = " / plug_cowboy's" if target.ratio else ""
        what = verdict.case.head(target.metric) + kind
        reached = "" if verdict.reached() else "**missed**"
        rows.append([verdict.case.name, what, str(target), number(verdict.value), reached])
    return f"## What it must reach\n\n{markdown_table(rows)}"


def tables(cases, results):
    return "\n\n".join(["## Cases", *(table(case, results) for case in cases)]) if cases else ""


def table(case, results):
    rows = [["", *(case.head(metric) for metric in case.columns)]]
    rows += [row(case, server, results) for server in case.servers]
    if set(BEAM) <= set(case.servers):
        ratios = [results.ratio(case, metric) for metric in case.columns]
        rows.append(["**Ferrosock / plug_cowboy**", *(f"**{number(ratio)}**" for ratio in ratios)])
    return f"### {case.title}\n\n`{case.name}`\n\n{markdown_table(rows)}"


def row(case, server, results):
    cells = [number(results.median(case, server, metric)) for metric in case.columns]
    spread = results.values(case, server, case.columns[0])
    if len(spread) > 1:
        cells[0] += f" ({number(min(spread))}–{number(max(spread))})"
    return [TITLES[server], *cells]


def schedulers(cases, results):
    """The longest that one was kept, and how often it was too long."""
    if not cases:
        return ""
    rows = [["longest ms (how often over 1 ms)", *(TITLES[server] for server in BEAM)]]
    for case in cases:
        cells = [schedules(results.reports[case.name].get(server, [])) for server in BEAM]
        rows.append([case.name, *cells])
    return f"## Schedulers kept without a pause, in all rounds\n\n{markdown_table(rows)}"


def schedules(reports):
    if not reports:
        return "–"
    often = sum(report["long_schedules"] for report in reports)
    longest = max(report["long_max_ms"] for report in reports)
    return f"{longest} ({often})" if often else "none"


def growth(sweep, measured):
    servers = measured.servers(sweep.points[0][1])
    rows = [[sweep.axis, *(f"{TITLES[server]}, CPU µs" for server in servers), "ratio"]]
    for size, case in sweep.points:
        cells = [number(measured.median(case, server, "cpu")) for server in servers]
        rows.append([f"{size:,}", *cells, number(measured.ratio(case, "cpu"))])
    image = f"![{sweep.title}]({sweep.name}.svg)"
    return f"## {sweep.title}\n\n{image}\n\n{markdown_table(rows)}"


def number(value):
    if value is None:
        return "–"
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
    names = ("plug_cowboy", "cowboy", "websock_adapter", "phoenix", "jason")
    apps = [f"{app} {app_version(app)}" for app in names]
    return f"Peers: {', '.join(apps)}; tokio-tungstenite {crate}."


def app_version(app):
    spec = (DEPS / app / "ebin" / f"{app}.app").read_text()
    return re.search(r'\{vsn,\s*"([^"]+)"\}', spec).group(1)


def output(command):
    return subprocess.run(
        command, env=environment({}), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
