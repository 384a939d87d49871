"""run.py [SUITE...]

Runs the chat example on free ports of this machine, with and without TLS, and holds it to what others
understand by the protocols, suite by suite; has people use the Phoenix example; then attacks a server of its own, and fuzzes the engine. All suites,
unless some are named.
Each suite is a program that prints a line per check, `ok NAME` or `not ok NAME: WHY`. The last line
counts them:

    conformance: 701 passed, 0 failed in 600 s

Logs, and Autobahn's reports with what went over the wire, are under _build/conformance.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "test/clients"
PYTHON = CLIENTS / ".venv/bin/python"
WSTEST = ROOT / ".toolchain/autobahn/bin/wstest"
LOGS = ROOT / "_build/conformance"

# The engine may have to be compiled first.
START_SECONDS = 900
STOP_SECONDS = 30

# Of a suite that failed by itself: enough to know why without its log.
LAST_LINES = 12

# Autobahn stays silent for longer than servers like, and wants compression of the shortest messages.
ECHO = "/echo?timeout=infinity&compress=true&threshold=0"
# This client tests a limit, too.
LIMITED_ECHO = "/echo?compress=true&max_frame_size=8000000"

# Over HTTP/2, all but permessage-deflate, whose cases take long: of these a few of each kind, and
# messages of 128 KiB.
HTTP2_CASES = [f"{part}.*" for part in range(1, 11)]
HTTP2_CASES += [f"{part}.*.{case}" for part in (12, 13) for case in (3, 7, 12)] + ["12.1.10"]


def suites(plain, secure):
    """Each suite's command and how many seconds it may take, for servers at these addresses."""
    echo = f"ws://{plain}{ECHO}"
    limited_echo = f"ws://{plain}{LIMITED_ECHO}"
    origins = [f"http://{plain}", f"https://{secure}"]
    wrk = [sys.executable, ROOT / "test/conformance/wrk.py"]
    h2load = [sys.executable, ROOT / "test/conformance/h2load.py"]
    autobahn = [sys.executable, ROOT / "test/conformance/autobahn.py", WSTEST]
    autobahn_http2 = [sys.executable, ROOT / "test/conformance/autobahn_http2.py", WSTEST]
    return {
        "autobahn": ([*autobahn, LOGS / "autobahn", echo], 1800),
        "autobahn-http2": ([*autobahn_http2, LOGS / "autobahn-http2", echo, *HTTP2_CASES], 900),
        "deflate": ([PYTHON, CLIENTS / "deflate_matrix.py", echo], 300),
        "wsproto": ([PYTHON, CLIENTS / "wsproto_client.py", echo], 120),
        "websockets": ([PYTHON, CLIENTS / "websockets_client.py", limited_echo], 120),
        "ws": (["node", CLIENTS / "ws.mjs", echo], 120),
        "chromium": (["node", CLIENTS / "chromium.mjs", echo], 120),
        "phoenix": (["node", CLIENTS / "phoenix.mjs", "http"], 1200),
        "phoenix-https": (["node", CLIENTS / "phoenix.mjs", "https"], 300),
        "phoenix-browser": ([ROOT / "test/conformance/phoenix-browser", LOGS / "phoenix-browser"], 900),
        "wrk": ([*wrk, *origins], 120),
        "h2load": ([*h2load, *origins], 600),
        "attack": ([PYTHON, "-B", ROOT / "test/conformance/attack/main.py"], 900),
        "fuzz": ([ROOT / "bin/fuzz"], 1800),
    }


@contextmanager
def program(command, log, **environment):
    """Runs a program, whose output goes to a file, and leaves nothing of it behind."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A process group of its own, which can be ended as a whole.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


@contextmanager
def server(scheme, log):
    """The example, stopped in order at the end; yields its process and where it runs."""
    with program([ROOT / "bin/run"], log, PORT="0", IP="127.0.0.1", SCHEME=scheme) as process:
        yield process, address(process, log)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass


def address(process, log):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        started = re.search(r" at https?://(\S+:\d+)", log.read_text(errors="replace"))
        if started:
            return started[1]
        time.sleep(0.2)
    sys.exit(f"The example did not start:\n{log.read_text(errors='replace')}")


def run(name, command, seconds):
    """Returns the lines of a suite's checks, with one more where the suite itself failed."""
    log = LOGS / f"{name}.log"
    with program(command, log) as process:
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = f"no status after {seconds} s"
    lines = log.read_text(errors="replace").splitlines()
    checks = [line for line in lines if re.match(r"(not )?ok ", line)]
    if not checks or (status != 0) != any(map(is_failure, checks)):
        last = " | ".join(lines[-LAST_LINES:])
        checks.append(f"not ok the suite: it ended with {status}, after: {last} (all of it in {log})")
    return checks


def judge_server(process, log):
    errors = re.findall(r"^\S+ \[error\] (.*)", log.read_text(errors="replace"), re.MULTILINE)
    status = process.returncode
    return [
        f"not ok no error is logged: {errors[0]}, see {log}" if errors else "ok no error is logged",
        f"not ok it stops: with {status}, see {log}" if status else "ok it stops",
    ]


def summarize(name, checks, since):
    for line in filter(is_failure, checks):
        print(f"{name}: {line}")
    failed = sum(map(is_failure, checks))
    seconds = time.monotonic() - since
    print(f"{name}: {len(checks) - failed} passed, {failed} failed in {seconds:.0f} s", flush=True)
    return checks


def is_failure(line):
    return line.startswith("not ok")


def main(names):
    known = suites("", "")
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"There is no suite {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    LOGS.mkdir(parents=True, exist_ok=True)
    http_log, https_log = LOGS / "http-server.log", LOGS / "https-server.log"
    start = time.monotonic()
    checks = []
    # One after the other: the first may have to be compiled.
    with server("http", http_log) as (http, plain), server("https", https_log) as (https, secure):
        for name, (command, seconds) in suites(plain, secure).items():
            if not names or name in names:
                since = time.monotonic()
                checks += summarize(f"conformance {name}", run(name, command, seconds), since)
        since = time.monotonic()
    checks += summarize("conformance http server", judge_server(http, http_log), since)
    checks += summarize("conformance https server", judge_server(https, https_log), since)
    failed = sum(map(is_failure, checks))
    seconds = time.monotonic() - start
    print(f"conformance: {len(checks) - failed} passed, {failed} failed in {seconds:.0f} s")
    sys.exit(failed > 0)


for stop in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(stop, lambda number, _frame: sys.exit(128 + number))
main(sys.argv[1:])
