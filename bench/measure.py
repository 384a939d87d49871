"""One run of the load on a server, and what the server's VM notices of it."""

import contextlib
import json
import re
import socket
import subprocess

from cases import H2LOAD

# What the load may take besides its measured seconds: to open its connections, to rest, to give up.
LOAD_SECS = 300
WITNESS_SECS = 10

# What h2load prints while it runs, and at its end.
BEGUN = "Main benchmark duration is started"
OVER = "Main benchmark duration is over"
REQUESTS = re.compile(r"requests: (\d+) total, .* (\d+) succeeded,")

def measure(program, servers, case, secs):
    """One report for each of the servers, on which the load runs at the same time."""
    with contextlib.ExitStack() as stack:
        kind = H2Load if case.load[0] == H2LOAD else Load
        runs = [stack.enter_context(kind(program, server, case, secs)) for server in servers]
        return [run.report() for run in runs]


class Run:
    """Whose load it is, and what that tells, is for each kind to say."""

    def __init__(self, program, server, case, secs):
        self.server = server
        self.case = case
        self.witness = witness(server, case) if "WITNESS_PORT" in server.ports else None
        self.secs = max(secs, case.least_secs)
        self.load = subprocess.Popen(
            self.command(program), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def report(self):
        return self.figures() | self.witnessed()

    def witnessed(self):
        """See witness.exs."""
        if self.witness is None:
            return {}
        self.witness.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: self.witness.recv(4096), b""))
        if not answer:
            self.server.fail(f"{self.case.name}: its witness did not answer")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.load.kill()
        self.load.communicate()
        if self.witness:
            self.witness.close()


class Load(Run):
    """Ours."""

    def command(self, program):
        options = [*map(str, self.case.load), "--json", *self.server.address(self.case.route)]
        if self.case.target:
            options += self.server.target(self.case.target)
        if self.case.warm is not None:
            options += ["--warm", str(self.case.warm), "--secs", str(self.secs)]
        return [program, *options]

    def figures(self):
        try:
            printed, complaint = self.load.communicate(timeout=LOAD_SECS + self.secs)
        except subprocess.TimeoutExpired:
            self.server.fail(f"{self.case.name}: the load did not end")
        if self.load.returncode != 0:
            self.server.fail(f"{self.case.name}: {complaint.strip()}")
        return json.loads(printed)


class H2Load(Run):
    """nghttp2's, for HTTP/2. It does not know what it costs the server."""

    def command(self, _program):
        warm, secs = (f"{round(each * 1000)}ms" for each in (self.case.warm, self.secs))
        # Without the list it would take HTTP/1.1 from a server that has no HTTP/2.
        options = ["--npn-list=h2", f"--warm-up-time={warm}", f"--duration={secs}"]
        return [*map(str, self.case.load), *options, self.server.url(self.case.route)]

    def figures(self):
        cpu_secs = {}
        requests = None
        for line in self.load.stdout:
            for moment in (BEGUN, OVER):
                if line.startswith(moment):
                    cpu_secs[moment] = self.server.cpu_secs()
            requests = REQUESTS.match(line) or requests
        total, succeeded = map(int, requests.groups()) if requests else (0, 0)
        if succeeded == 0 or succeeded < total:
            self.server.fail(f"{self.case.name}: {succeeded} of {total} requests succeeded")
        return {
            "server_cpu_us": (cpu_secs[OVER] - cpu_secs[BEGUN]) * 1e6 / succeeded,
            "per_second": succeeded / self.secs,
            "server_rss_kib": self.server.rss_kib(),
        }


def witness(server, case):
    address = ("127.0.0.1", server.ports["WITNESS_PORT"])
    connection = socket.create_connection(address, timeout=WITNESS_SECS)
    connection.sendall(f"{case.watch}\n".encode())
    return connection
