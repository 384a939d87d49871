"""The servers that are measured: how each is started, found and ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
CHAT = ROOT / "examples" / "chat"
PHOENIX = BENCH / "phoenix"
TOOLCHAIN = ROOT / ".toolchain"
DEPS = TOOLCHAIN / "deps"

# One of an authority would not be taken for a server's.
CERTIFICATE = """req -x509 -nodes -days 2 -subj /CN=bench -addext subjectAltName=IP:127.0.0.1
    -addext basicConstraints=critical,CA:false"""
# By the prefix of the variables that name the files. The load trusts the first one.
KEYS = {"": "-newkey ec -pkeyopt ec_paramgen_curve:P-256", "RSA_": "-newkey rsa:2048"}

START_SECS = 60
STOP_SECS = 10


class BenchError(Exception):
    """What is wrong, for people."""


@dataclass
class Server:
    name: str
    command: list
    # What it can be asked for: the port, and the path there.
    routes: dict
    # As the environment tells the server.
    ports: tuple = ("PORT",)
    folder: Path = ROOT
    env: dict = field(default_factory=dict)


def ferrosock(_ceiling):
    return Server(
        name="ferrosock",
        command=["mix", "run", BENCH / "ferrosock.exs"],
        # The example has a longer way to a page and to a handshake than plug_cowboy's router has.
        routes={
            "echo": ("PORT", "/echo?timeout=infinity"),
            "compressed": ("PORT", "/echo?timeout=infinity&compress=true"),
            "storm": ("BENCH_PORT", "/storm"),
            "handshake": ("BENCH_PORT", "/echo"),
            "page": ("BENCH_PORT", "/health"),
            "push": ("BENCH_PORT", "/push"),
            "wss": ("TLS_PORT", "/echo"),
            "https": ("TLS_PORT", "/health"),
            "rsa": ("RSA_PORT", "/health"),
        },
        ports=("PORT", "BENCH_PORT", "TLS_PORT", "RSA_PORT", "WITNESS_PORT"),
        folder=CHAT,
        env={"MIX_ENV": "prod"},
    )


def cowboy(_ceiling):
    return Server(
        name="cowboy",
        command=["elixir", "-pa", f"{DEPS}/*/ebin", BENCH / "cowboy.exs"],
        routes={
            "echo": ("PORT", "/echo"),
            "compressed": ("PORT", "/compressed"),
            "storm": ("PORT", "/storm"),
            "handshake": ("PORT", "/echo"),
            "page": ("PORT", "/health"),
            "push": ("PORT", "/push"),
            "wss": ("TLS_PORT", "/echo"),
            "https": ("TLS_PORT", "/health"),
            "rsa": ("RSA_PORT", "/health"),
        },
        ports=("PORT", "TLS_PORT", "RSA_PORT", "WITNESS_PORT"),
    )


def tungstenite(ceiling):
    return Server("tungstenite", [ceiling, "tungstenite", "{PORT}"], {"echo": ("PORT", "/")})


def epoll(ceiling):
    return Server("epoll", [ceiling, "epoll", "{PORT}"], {"echo": ("PORT", "/")})


def phoenix(name, adapter, without=""):
    """phoenix.exs on one of its servers, all or all but one of whose parts are switched on."""
    return lambda _ceiling: Server(
        name=name,
        command=["mix", "run", BENCH / "phoenix.exs"],
        routes={
            "plain": ("PORT", "/plain/websocket?vsn=2.0.0"),
            "compressed": ("PORT", "/compressed/websocket?vsn=2.0.0"),
        },
        ports=("PORT", "WITNESS_PORT"),
        folder=PHOENIX,
        env={"MIX_ENV": "prod", "ADAPTER": adapter, "WITHOUT": without},
    )


FERROSOCK, COWBOY = "Ferrosock.PhoenixAdapter", "Phoenix.Endpoint.Cowboy2Adapter"

# By the app that they run, and their names.
SERVERS = {
    "plug": {make.__name__: make for make in (ferrosock, cowboy, tungstenite, epoll)},
    "phoenix": {
        "ferrosock": phoenix("ferrosock", FERROSOCK),
        "cowboy": phoenix("cowboy", COWBOY),
        "without-flat": phoenix("without-flat", FERROSOCK, "flat_serializer"),
        "without-cache": phoenix("without-cache", FERROSOCK, "cache"),
    },
}


class Certificate:
    """What both servers on the BEAM show, and the load trusts, until the program ends."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.env = {}
        for prefix, key in KEYS.items():
            names = [f"{prefix}CERTFILE", f"{prefix}KEYFILE"]
            certfile, keyfile = (Path(self.folder.name) / f"{name}.pem" for name in names)
            command = ["openssl", *CERTIFICATE.split(), *key.split()]
            run_tool([*command, "-out", certfile, "-keyout", keyfile], ROOT, stdout=sys.stderr)
            self.env |= zip(names, (str(certfile), str(keyfile)))
        self.certfile = self.env["CERTFILE"]


def build(wanted):
    """Builds what is about to run, apps and the names of servers; gives the paths of the programs `load`
    and `ceiling`."""
    build_toolchain()
    programs = build_programs("ferrosock_load")
    # Here and not while the servers are awaited: the engine's first build takes minutes.
    if ("plug", "ferrosock") in wanted:
        build_app()
    if any(app == "phoenix" for app, _name in wanted):
        build_app(PHOENIX)
    return programs["load"], programs["ceiling"]


def build_toolchain():
    run_tool([ROOT / "bin" / "toolchain", TOOLCHAIN], ROOT, stdout=sys.stderr)


def build_app(folder=CHAT):
    run_tool(["mix", "compile"], folder, stdout=sys.stderr, env={"MIX_ENV": "prod"})


def build_programs(*packages):
    """The programs of these packages: their paths by their names."""
    cargo = ["cargo", "build", "--release", "--locked"]
    cargo += [word for package in packages for word in ("-p", package)]
    cargo += ["--message-format", "json-render-diagnostics"]
    lines = run_tool(cargo, ROOT, stdout=subprocess.PIPE).splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        message["target"]["name"]: message["executable"]
        for message in messages
        if message.get("executable")
    }


def run_tool(command, folder, stdout, env=None):
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment(env or {}), stdout=stdout, text=True
        )
    except OSError as error:
        raise BenchError(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command[:2]))} failed")
    return done.stdout


def environment(extra):
    """Both servers on the BEAM get the same one, the toolchain's, as plug_cowboy is compiled for it,
    and the same flags (ERL_FLAGS, ELIXIR_ERL_OPTIONS)."""
    path = f"{TOOLCHAIN / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "FERROSOCK_DEPS": "toolchain", **extra}


class Running:
    """A server, from its start to its end, in a session of its own."""

    def __init__(self, server, certificate):
        self.server = server
        self.certificate = certificate
        self.name = server.name
        self.ports = dict(zip(server.ports, free_ports(len(server.ports))))
        self.pid = None
        self.process = None
        self.log = tempfile.TemporaryFile()

    def start(self):
        ports = {name: str(port) for name, port in self.ports.items()}
        command = [str(word).format(**ports) for word in self.server.command]
        try:
            self.process = subprocess.Popen(
                command,
                cwd=self.server.folder,
                env=environment({**ports, **self.certificate.env, **self.server.env}),
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchError(f"{self.name}: {command[0]}: {error.strerror}") from error

    def await_listening(self):
        """On all of its ports."""
        deadline = time.monotonic() + START_SECS
        waiting = list(self.ports.values())
        while waiting:
            if self.process.poll() is not None:
                self.fail("it ended before it listened")
            if time.monotonic() > deadline:
                self.fail(f"it did not listen within {START_SECS} s")
            time.sleep(0.05)
            while waiting and (pid := listening_process(waiting[0], self.process.pid)):
                self.pid = pid
                waiting.pop(0)

    def address(self, route):
        """Where the load finds it: the options that say so."""
        port, path = self.server.routes[route]
        options = ["--addr", f"127.0.0.1:{self.ports[port]}", "--path", path]
        if port == "TLS_PORT":
            options += ["--tls", self.certificate.certfile]
        return [*options, "--pid", str(self.pid)]

    def target(self, route):
        """What an attack goes for beside the load."""
        port, path = self.server.routes[route]
        return ["--target", f"127.0.0.1:{self.ports[port]}", "--target-path", path]

    def url(self, route):
        """The same for other loads than ours."""
        port, path = self.server.routes[route]
        scheme = "https" if port == "TLS_PORT" else "http"
        return f"{scheme}://127.0.0.1:{self.ports[port]}{path}"

    def cpu_secs(self):
        """User and system time of all threads (proc_pid_stat(5))."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def fail(self, reason):
        """With the end of what the server printed, which mostly tells why."""
        self.log.seek(0)
        printed = self.log.read().decode(errors="replace").splitlines()[-20:]
        raise BenchError("\n".join([f"{self.name}: {reason}", *printed]))

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        # The group, because a launcher need not be the VM that it launched.
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def listening_process(port, session):
    """The process of the session that listens on the port: it is the one whose CPU time counts."""
    sockets = {f"socket:[{inode}]" for inode in listening_inodes(port)}
    for entry in os.listdir("/proc") if sockets else []:
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.getsid(int(entry)) == session:
                files = os.scandir(f"/proc/{entry}/fd")
                if any(os.readlink(file.path) in sockets for file in files):
                    return int(entry)
    return None


def listening_inodes(port):
    listen = "0A"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table) as lines:
            for fields in map(str.split, list(lines)[1:]):
                if fields[3] == listen and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    yield fields[9]


class Interrupts:
    """Signals that end the program, and the servers with it."""

    def __init__(self, *signals):
        self.signals = signals
        self.holding = False
        self.pending = None
        for number in signals:
            signal.signal(number, self.handle)

    def handle(self, number, _frame):
        if self.holding:
            self.pending = number
        else:
            sys.exit(128 + number)

    @contextlib.contextmanager
    def held(self):
        """For a step that must not end halfway: a server that was started must be known."""
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.pending:
            sys.exit(128 + self.pending)

    def ignore(self):
        for number in self.signals:
            signal.signal(number, signal.SIG_IGN)
