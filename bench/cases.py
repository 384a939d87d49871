"""What is measured, and what Ferrosock must reach in it."""

import re
from dataclasses import dataclass, replace

BEAM = ("ferrosock", "cowboy")
ALL = (*BEAM, "tungstenite", "epoll")
# Ferrosock with one of its parts switched off, for what that brings.
WITHOUT = ("without-flat", "without-cache")


@dataclass(frozen=True)
class Metric:
    head: str
    # In the reports, and what it is multiplied by.
    key: str
    factor: float = 1


METRICS = {
    "cpu": Metric("CPU µs/{unit}", "server_cpu_us"),
    "p50": Metric("p50 µs", "p50_us"),
    "p99": Metric("p99 µs", "p99_us"),
    "max": Metric("max µs", "max_us"),
    "rate": Metric("{units}/s", "per_second"),
    "rss": Metric("RSS MiB", "server_rss_kib", 1 / 1024),
    "late p99": Metric("late p99 µs", "late_p99_us"),
    "late max": Metric("late max µs", "late_max_us"),
    "turn": Metric("longest turn, CPU ms", "turn_max_us", 1 / 1000),
    "idle cpu": Metric("CPU % of a core", "idle_cpu_percent"),
    "weight": Metric("kB per {unit}", "rss_kib_per_conn", 1.024),
}


@dataclass(frozen=True)
class Target:
    metric: str
    limit: float
    at_least: bool = False
    # Of Ferrosock's figure to plug_cowboy's; if not, of Ferrosock's alone.
    ratio: bool = True
    # Of all rounds, and not the median.
    worst: bool = False

    def reached(self, value, tolerance=0):
        if self.at_least:
            return value >= self.limit * (1 - tolerance)
        return value <= self.limit * (1 + tolerance)

    def __str__(self):
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    # The mode and the options of our load, or those of h2load behind its name.
    load: tuple
    # What the servers run: what app.exs and the servers without a BEAM have, or phoenix.exs.
    app: str = "plug"
    route: str = "echo"
    unit: str = "message"
    servers: tuple = ALL
    columns: tuple = ("cpu", "p50", "p99", "max", "rate", "rss")
    targets: tuple = ()
    # Seconds. What has none takes the time that its load says.
    warm: float | None = 0.5
    # Where less would not be many times what one message waits for its echo.
    least_secs: float = 0
    # What is watched besides long schedules: "ticker" is a process that wants to run every millisecond,
    # "attack" adds the longest turn of a reactor to it.
    watch: str = ""
    # The route that is attacked beside the load.
    target: str = ""
    # On servers started for it, all at once: memory that an earlier load has left would be used
    # again, and servers that do nothing do not disturb each other.
    fresh: bool = False
    every_round: bool = True

    def head(self, metric):
        units = f"{self.unit[:-1]}ies" if self.unit.endswith("y") else f"{self.unit}s"
        return METRICS[metric].head.format(unit=self.unit, units=units)


def echo(name, *targets, warm=0.5, least_secs=0):
    """CONNECTIONSxPIPELINEDxBYTES, with wss- before it over TLS"""
    with_tls = name.startswith("wss-")
    conns, depth, size = (int(part) for part in name.removeprefix("wss-").split("x"))
    title = f"{count(conns, 'connection')} × {depth} pipelined × {in_bytes(size)}"
    return Case(
        name=name,
        title=f"{title}, over TLS" if with_tls else title,
        load=("echo", "--conns", conns, "--depth", depth, "--size", size),
        route="wss" if with_tls else "echo",
        servers=BEAM if with_tls else ALL,
        targets=targets,
        warm=warm,
        least_secs=least_secs,
    )


def http2(name, how, route):
    return Case(
        name=name,
        title=f"GET over HTTP/2 {how}, 16 connections × 16 streams",
        load=(H2LOAD, "-c", 16, "-m", 16),
        route=route,
        unit="response",
        servers=BEAM,
        columns=("cpu", "rate", "rss"),
    )


def attack(name, title, weapon, target, conns=1):
    """Beside an echo every 20 ms, which waits no longer than it would with plug_cowboy."""
    return Case(
        name=f"attack-{name}",
        title=f"An echo every 20 ms, beside {title}",
        load=("attack", weapon, "--conns", conns, "--patience", 60),
        route="handshake",
        servers=BEAM,
        columns=("p50", "p99", "max", "late p99", "late max", "turn"),
        targets=(
            Target("p99", ATTACKED),
            Target("late p99", ATTACKED),
            Target("turn", 5, ratio=False, worst=True),
        ),
        # Of a hundred messages a single one would be beyond the p99.
        least_secs=4,
        watch="attack",
        target=target,
    )


def broadcast(name, said, *targets, members=1000, deflate=False, servers=BEAM, least_secs=0):
    """What is said in a channel of Phoenix, to all its members."""
    what, *options = said
    to = f"{count(members, 'member')} of a channel{COMPRESSED if deflate else ''}"
    return Case(
        name=name,
        title=f"Phoenix: a broadcast of {what} to {to}",
        load=("broadcast", "--conns", members, *options, *deflating(deflate)),
        app="phoenix",
        route="compressed" if deflate else "plain",
        unit="delivery",
        servers=servers,
        targets=targets,
        least_secs=least_secs,
    )


def joined(name, *targets, deflate=False):
    """What members of a channel weigh that have got a broadcast."""
    conns = ("--conns", 1000, *TEXT[1:], "--rest", JOINED_REST, "--secs", 1)
    return Case(
        name=name,
        title=f"Phoenix: 1,000 members of a channel that idle{COMPRESSED if deflate else ''}",
        load=("idle", "--join", *conns, *deflating(deflate)),
        app="phoenix",
        route="compressed" if deflate else "plain",
        unit="socket",
        servers=BEAM,
        columns=("weight",),
        targets=targets,
        warm=None,
        fresh=True,
        every_round=False,
    )


def deflating(deflate):
    return ("--deflate",) if deflate else ()


def count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_bytes(size):
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024 or size % 1024 or unit == "MiB":
            return f"{size} {unit}"
        size //= 1024


def is_echo(name):
    return re.fullmatch(r"(wss-)?\d{1,5}x\d{1,5}x\d{1,9}", name) is not None


def cpu(limit):
    return Target("cpu", limit)


# Seconds until idle connections weigh what they will. Ferrosock's `hibernate_after` is 15 s, but its
# resident memory was seen to fall until 42 s after the last message.
REST = 45

# The same for members of a Phoenix channel, whose second process hibernates after 15 s, too.
JOINED_REST = 20

# What is said in a channel, and the options of the load for it.
TEXT = ("200 bytes of text", "--size", 200)
LIST = ("a list of 50 objects, 2 kB,", "--objects", 50)
COMPRESSED = ", with permessage-deflate"

H2LOAD = "h2load"

# What an echo beside an attack may take of plug_cowboy's time.
ATTACKED = 1.3

CASES = [
    echo("64x1x64", cpu(0.65), Target("rate", 1.45, at_least=True)),
    echo("64x16x64", cpu(0.10), Target("rate", 9, at_least=True)),
    echo("256x1x512", cpu(0.58)),
    echo("64x1x4096", cpu(0.45)),
    echo("16x1x65536", cpu(0.22)),
    echo("8x1x1048576", cpu(0.22)),
    echo("1x1x64", Target("p50", 0.85), cpu(1.0)),
    Case(
        name="json",
        title="64 connections × 1 KiB of JSON, with permessage-deflate both ways",
        load=("echo", "--conns", 64, "--size", 1024, "--deflate"),
        route="compressed",
        servers=BEAM,
        targets=(cpu(0.5),),
    ),
    Case(
        name="storm",
        title="Push storm: one process sends 100 bytes to 1,000 handlers, and each pushes them",
        load=("push", "--conns", 1000, "--size", 100),
        route="storm",
        unit="delivery",
        servers=BEAM,
        targets=(cpu(0.55),),
    ),
    Case(
        name="handshake",
        title="Handshakes through a Plug router: connect, upgrade, close, one at a time",
        load=("connect",),
        route="handshake",
        unit="handshake",
        servers=BEAM,
        targets=(cpu(0.55),),
    ),
    Case(
        name="get",
        title="GET through a Plug router, keep-alive, 64 connections",
        load=("get", "--conns", 64),
        route="page",
        unit="response",
        servers=BEAM,
        targets=(cpu(0.55),),
    ),
    Case(
        name="lateness",
        title="An unrelated process that wants to run every ms, beside 64 × 16 × 64 bytes",
        load=("echo", "--conns", 64, "--depth", 16, "--size", 64),
        servers=BEAM,
        columns=("late p99", "late max", "rate"),
        targets=(Target("late p99", 1.0),),
        watch="ticker",
    ),
    Case(
        name="fairness",
        title="A quiet connection, a message of 64 bytes a ms, beside one that floods",
        load=("fair",),
        servers=BEAM,
        columns=("p50", "p99", "max", "rate"),
    ),
    Case(
        name="idle",
        title="15,000 idle WebSockets, after one message; the CPU time with a ping each every 30 s",
        load=("idle", "--conns", 15000, "--rest", REST, "--secs", 30, "--ping-every", 30),
        unit="socket",
        servers=BEAM,
        columns=("weight", "idle cpu"),
        targets=(Target("weight", 4.5, ratio=False), Target("idle cpu", 0.25)),
        warm=None,
        fresh=True,
    ),
    Case(
        name="idle-deflate",
        title="10,000 idle WebSockets with permessage-deflate, after one message of 300 bytes",
        load=("idle", "--conns", 10000, "--rest", REST, "--secs", 1, "--size", 300, "--deflate"),
        route="compressed",
        unit="socket",
        servers=BEAM,
        columns=("weight",),
        warm=None,
        fresh=True,
        every_round=False,
    ),
    echo("wss-64x1x64", cpu(0.35)),
    echo("wss-64x16x64"),
    echo("wss-16x1x65536"),
    Case(
        name="wss-handshake",
        title="Handshakes over TLS: connect, TLS without resumption, upgrade, close, one at a time",
        load=("connect",),
        route="wss",
        unit="handshake",
        servers=BEAM,
    ),
    Case(
        name="https",
        title="GET over TLS through a Plug router, keep-alive, 64 connections",
        load=("get", "--conns", 64),
        route="https",
        unit="response",
        servers=BEAM,
    ),
    Case(
        name="wss-idle",
        title="5,000 idle WebSockets over TLS; the CPU time with a ping each every 30 s",
        load=("idle", "--conns", 5000, "--rest", REST, "--secs", 30, "--ping-every", 30),
        route="wss",
        unit="socket",
        servers=BEAM,
        columns=("weight", "idle cpu"),
        targets=(Target("weight", 12, ratio=False),),
        warm=None,
        fresh=True,
        every_round=False,
    ),
    http2("h2c", "without TLS", "page"),
    http2("h2", "with TLS", "https"),
    attack("ping", "one that pings without end and reads nothing", "ping", "handshake"),
    attack("ping-read", "one that pings without end and reads the pongs", "ping-read", "handshake"),
    attack("rsa", "TLS handshakes, 60 at once, with RSA-2048", "hello", "rsa", 60),
    attack("p256", "TLS handshakes, 60 at once, with P-256", "hello", "https", 60),
    attack("push", "messages of 300 MB to three fast readers", "push", "push", 3),
    attack("window", "4 WebSockets over HTTP/2 that ping and give no window", "window", "handshake", 4),
    broadcast("phoenix-broadcast", TEXT, cpu(0.75), servers=(*BEAM, "without-flat")),
    broadcast("phoenix-list", LIST, cpu(0.3), servers=(*BEAM, "without-flat")),
    broadcast(
        "phoenix-broadcast-deflate", TEXT, cpu(0.35), deflate=True, servers=(*BEAM, "without-cache")
    ),
    broadcast(
        "phoenix-list-deflate", LIST, cpu(0.35), deflate=True, servers=(*BEAM, "without-cache")
    ),
    joined("phoenix-joined", Target("weight", 0.35)),
    joined("phoenix-joined-deflate", Target("weight", 0.1), deflate=True),
]


# Of every case of a plot.
SWEEP_ROUNDS = 2
SWEEP_SECS = 1.0


@dataclass(frozen=True)
class Sweep:
    """Cases that differ in one number, for a plot."""

    name: str
    title: str
    axis: str
    # The number, and its case.
    points: tuple

    @property
    def unit(self):
        return self.points[0][1].unit

    @property
    def cases(self):
        return [case for _x, case in self.points]


def members(said, **how):
    """A channel with more and more of them."""
    return (
        *((n, broadcast(f"{n}-members", said, members=n, **how)) for n in (10, 100, 1000)),
        (5000, broadcast("5000-members", said, members=5000, least_secs=3, **how)),
    )


SWEEPS = [
    Sweep(
        name="connections",
        title="16 pipelined messages of 64 bytes",
        axis="connections",
        points=(
            *((conns, echo(f"{conns}x16x64")) for conns in (1, 64, 1000)),
            (10000, echo("10000x16x64", warm=4, least_secs=10)),
        ),
    ),
    Sweep(
        name="sizes",
        title="One message at a time on each of 8 connections",
        axis="bytes of a message",
        points=(
            *((size, echo(f"8x1x{size}")) for size in (4**power for power in range(2, 11))),
            *((size, echo(f"8x1x{size}", least_secs=3)) for size in (4**11, 4**12)),
        ),
    ),
    Sweep(
        name="phoenix-members",
        title="Phoenix: a broadcast of 200 bytes of text",
        axis="members of the channel",
        points=members(TEXT),
    ),
    Sweep(
        name="phoenix-members-deflate",
        title="Phoenix: a compressed broadcast of a list of 50 objects, 2 kB",
        axis="members of the channel",
        points=members(LIST, deflate=True),
    ),
]

GROUPS = {
    "all": [*CASES, *SWEEPS],
    "targets": [case for case in CASES if case.targets],
    "attack": [case for case in CASES if case.name.startswith("attack-")],
    "phoenix": [one for one in [*CASES, *SWEEPS] if one.name.startswith("phoenix-")],
    **{one.name: [one] for one in [*CASES, *SWEEPS]},
}


def select(text):
    """The cases and the sweeps of a list of names. Raises KeyError for an unknown one."""
    chosen = []
    for name in text.split(","):
        chosen += [echo(name)] if name not in GROUPS and is_echo(name) else GROUPS[name]
    chosen = list(dict.fromkeys(chosen))
    return (
        [one for one in chosen if isinstance(one, Case)],
        [one for one in chosen if isinstance(one, Sweep)],
    )


def only(case, servers):
    """The case on those of its servers that are wanted."""
    return replace(case, servers=tuple(name for name in servers if name in case.servers))
