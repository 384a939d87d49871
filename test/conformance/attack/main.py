"""main.py

Attacks a server of its own for SECS (60) seconds with all that over_*.py have, in an order that SEED decides,
beside 50 honest clients that count every answer. Nothing of theirs may be lost, come twice or be wrong,
none may wait long, and afterwards the server has to be as it was: no connection, process or descriptor more,
and no memory kept. One line per check; exit code 1 when one failed. SEED=... repeats the moves of a run,
though not what comes between them.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from honest import Clients
from peer import Target

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]

SERVER = """source bin/env.sh && cd examples/chat && fetch_packages >&2 &&
exec mix run --no-start ../../test/conformance/attack/server.exs "$@" """
CERTIFICATE = """openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256
    -subj /CN=localhost -addext subjectAltName=DNS:localhost"""

# The engine may have to be compiled first.
START_SECONDS = 900
STOP_SECONDS = 30
CALM_SECONDS = 5
# More than any deadline of the server: what is still there then stays for ever.
SETTLE_SECONDS = 40

# What may be left. Processes and ports: those of the desk and of the code loader.
MORE_PROCESSES = 3
MORE_PORTS = 3
MORE_DESCRIPTORS = 6
MORE_RSS_MIB = 96
MORE_BEAM_MIB = 24
# Each of the two listeners may log ten lines a second about HTTP and ten about WebSockets, and seconds of the
# log are not those of the limits.
MOST_LINES_PER_SECOND = 80

# The deadlines of the server are between 3 s and 5 s; two may follow each other, bytes that a kernel still takes
# begin one anew, and a machine may be busy.
STAY_SECONDS = 20

# A turn, or a callback, keeps a scheduler for so long at most, by the clock of a machine that has more to do.
KEPT_SECONDS = 0.75

# Where one of the three programs did not run for so long, a deadline may have hit an honest client of which the
# server, or the client, was late to take notice.
LATE_SECONDS = 1
MOST_LATE_ENDS = 3

# What the answer to a small question may take beside the attack: so many times what it took before, and
# so much that a machine is not judged that is busy with other things.
TIMES_CALM = 5
P99_SECONDS = 0.25
MAX_SECONDS = 3


async def main():
    seconds = float(os.environ.get("SECS", 60))
    seed = os.environ.get("SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"SEED={seed}", flush=True)
    with Server() as server:
        target = Target(server.ports["plain"], server.ports["tls"])
        # What is made once, when it is first needed, is not what an attack leaves.
        calm = Measured(Clients(target, seed))
        await attack(server, seed, 2)
        await calm.run(CALM_SECONDS)
        before = await server.settled()

        attacked = Measured(Clients(target, seed))
        report, _ = await asyncio.gather(attack(server, seed, seconds), attacked.run(seconds))
        after = await server.settled(before)
        logged = server.look()
    clients_late = max(report.pop("late"), most(attacked.lags))
    late = max(clients_late, logged["late_seconds"])
    print(f"the machine was late by {late * 1000:.0f} ms at most")
    checks = [
        *judge_honest("before the attack", calm, late),
        *judge_honest("beside the attack", attacked, late),
        *judge_waits(calm, attacked),
        *judge_state(before, after),
        *judge_schedulers(logged, clients_late),
        *judge_log(logged, server),
        *judge_attack(**report, late=late),
    ]
    for name, why in checks:
        print(f"not ok {name}: {why} (SEED={seed})" if why else f"ok {name}")
    return int(any(why for _name, why in checks))


async def attack(server, seed, seconds):
    command = [sys.executable, HERE / "attackers.py", seed, str(seconds)]
    process = await asyncio.create_subprocess_exec(
        *command, str(server.ports["plain"]), str(server.ports["tls"]), stdout=subprocess.PIPE, limit=1 << 24
    )
    try:
        printed, _ = await process.communicate()
        if process.returncode:
            sys.exit(f"not ok the attack: it ended with {process.returncode}")
        report = json.loads(printed)
        return report
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


class Measured:
    """Honest clients for a while, and how long they and this program had to wait."""

    def __init__(self, clients):
        self.clients = clients
        self.ledger = clients.ledger

    async def run(self, seconds):
        running = asyncio.create_task(self.clients.run())
        await asyncio.sleep(seconds)
        self.clients.stopping.set()
        await running
        self.waits = self.ledger.take_seconds()
        self.lags = self.clients.take_lags()


def p99(values):
    return values[len(values) * 99 // 100] if values else 0


def most(values):
    return max(values, default=0)


def judge_honest(when, measured, late):
    ledger = measured.ledger
    for kind in Clients.KINDS:
        count, faults = ledger.fault_counts[kind], ledger.faults[kind]
        if late > LATE_SECONDS and ledger.end_counts[kind] == count <= MOST_LATE_ENDS:
            count = 0
        why = f"{count} faults: {' | '.join(faults)}" if count else "" if ledger.counts[kind] else "none"
        yield f"{when}, {ledger.counts[kind]} answers to honest clients of {kind}", why


def judge_waits(calm, attacked):
    for name, of, least in (("p99", p99, P99_SECONDS), ("most", most, MAX_SECONDS)):
        then, now = of(calm.waits), of(attacked.waits)
        bound = least + TIMES_CALM * (then + of(attacked.lags))
        told = f"{now * 1000:.0f} ms, {then * 1000:.0f} ms without attack"
        yield f"the {name} that an honest client waits: {told}", "" if now <= bound else f"over {bound:.1f} s"


def judge_state(before, after):
    allowed = {
        "processes": MORE_PROCESSES,
        "ports": MORE_PORTS,
        "descriptors": MORE_DESCRIPTORS,
        "mailboxes": 0,
        "beam MiB": MORE_BEAM_MIB,
        "RSS MiB": MORE_RSS_MIB,
    }
    for what in before:
        limit = before[what] + allowed.get(what, 0)
        why = "" if after[what] <= limit else f"more than {limit:.0f} {SETTLE_SECONDS} s later"
        yield f"{what}: {before[what]:.0f} before and {after[what]:.0f} after the attack", why


def judge_schedulers(logged, clients_late):
    kept = logged["kept_seconds"]
    bound = KEPT_SECONDS + TIMES_CALM * clients_late
    why = f"over {bound:.1f} s" if kept > bound else ""
    yield f"no scheduler is kept for more than {kept * 1000:.0f} ms", why


def judge_log(logged, server):
    yield "no error is logged", " | ".join(logged["errors"][:3])
    most = logged["most_lines_per_second"]
    why = f"more than {MOST_LINES_PER_SECOND}" if most > MOST_LINES_PER_SECOND else ""
    yield f"the log has at most {most} lines a second", why
    yield "the server stops", f"with {server.status}, see {server.log}" if server.status else ""


def judge_attack(made, stays, broken, late):
    for name, seconds in sorted(stays.items()):
        longest = max(seconds)
        why = f"one stays for {longest:.0f} s" if longest > STAY_SECONDS + TIMES_CALM * late else ""
        yield f"a client is ended that {name.replace('_', ' ')}, {len(seconds)} times", why
    moves = ", ".join(f"{count} × {name}" for name, count in sorted(made.items()))
    yield f"{sum(made.values())} moves of {len(made)} kinds", broken[0] if broken else "" if made else "none"
    print(f"moves: {moves}")


class Server:
    def __init__(self):
        self.log = ROOT / "_build/conformance/attack-server.log"
        self.folder = tempfile.TemporaryDirectory(prefix="ferrosock-attack-")

    def __enter__(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        files = [os.path.join(self.folder.name, name) for name in ("cert.pem", "key.pem")]
        made = [*CERTIFICATE.split(), "-out", files[0], "-keyout", files[1]]
        subprocess.run(made, check=True, stderr=subprocess.DEVNULL)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", SERVER, "server", *files],
                cwd=ROOT,
                env=os.environ | {"MIX_ENV": "prod"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        # Ended with this program if it does not get so far as to end it.
        try:
            for line in self.process.stdout:
                if line.startswith(b"attacked "):
                    self.ports = json.loads(line.removeprefix(b"attacked "))
                    return self
            sys.exit(f"not ok the server: it did not start, see {self.log}")
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *error):
        try:
            if error[0] is None:
                self.process.stdin.close()
                self.status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.status = f"nothing within {STOP_SECONDS} s"
        finally:
            self.kill()
            self.folder.cleanup()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def look(self):
        """What the server tells of itself."""
        with socket.create_connection(("127.0.0.1", self.ports["desk"]), 30) as desk:
            return json.loads(b"".join(iter(lambda: desk.recv(65536), b"")))

    def state(self):
        seen = self.look()
        pid = self.ports["pid"]
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return {
            **{f"engine {name}": count for name, count in seen["stats"].items()},
            "processes": seen["processes"],
            "ports": seen["ports"],
            "mailboxes": seen["mailboxes"],
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "beam MiB": seen["beam_bytes"] / (1 << 20),
            "RSS MiB": pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20),
        }

    async def settled(self, before=None):
        """Its state when it is what it was, or when it does not change any more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_SECONDS
        while True:
            await asyncio.sleep(1)
            state = self.state()
            if loop.time() > end or (
                not any(why for _name, why in judge_state(before, state))
                if before
                else state["engine connections"] == state["engine sockets"] == 0
            ):
                return state


def stop(number, _frame):
    sys.exit(128 + number)


for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, stop)
sys.exit(asyncio.run(main()))
