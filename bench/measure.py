"""One run of the load on a server, and what the server's VM notices of it."""

import contextlib
import json
import socket
import subprocess

# What the load may take besides its measured seconds: to open its connections, to rest, to give up.
LOAD_SECS = 300
WITNESS_SECS = 10


def measure(program, servers, case, secs):
    """One report for each of the servers, on which the load runs at the same time."""
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(Run(program, server, case, secs)) for server in servers]
        return [run.report() for run in runs]


class Run:
    def __init__(self, program, server, case, secs):
        self.server = server
        self.case = case
        self.witness = witness(server, case) if "WITNESS_PORT" in server.ports else None
        options = [*map(str, case.load), "--json", *server.address(case.route)]
        if case.warm is not None:
            secs = max(secs, case.least_secs)
            options += ["--warm", str(case.warm), "--secs", str(secs)]
        self.limit = LOAD_SECS + secs
        self.load = subprocess.Popen(
            [program, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def report(self):
        try:
            printed, complaint = self.load.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            self.server.fail(f"{self.case.name}: the load did not end")
        if self.load.returncode != 0:
            self.server.fail(f"{self.case.name}: {complaint.strip()}")
        return json.loads(printed) | self.witnessed()

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


def witness(server, case):
    address = ("127.0.0.1", server.ports["WITNESS_PORT"])
    connection = socket.create_connection(address, timeout=WITNESS_SECS)
    connection.sendall(b"ticker\n" if case.ticker else b"\n")
    return connection
