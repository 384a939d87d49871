"""Clients that do all right and count what they get: nothing lost, nothing twice, no wrong bytes."""

import asyncio
import collections
import itertools
import random
import time
import traceback

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError as H2Error
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import ProtocolError as WebSocketError

from peer import GONE

# An answer that has not come by then counts as lost.
PATIENCE_SECONDS = 20
PAGE = b"0123456789abcdef" * 4 * 4096
CHUNKS = b"".join(bytes([n]) * 4096 for n in range(1, 65))
# Of each kind; the rest is only counted.
KEPT_FAULTS = 5


class Ledger:
    """What all honest clients have seen."""

    def __init__(self):
        self.counts = collections.Counter()
        self.faults = collections.defaultdict(list)
        self.fault_counts = collections.Counter()
        # Of connections that ended although more was to come.
        self.end_counts = collections.Counter()
        self.seconds = []

    def answer(self, kind, seconds=None):
        """`seconds`: of one that has nothing to wait for but the server."""
        self.counts[kind] += 1
        if seconds is not None:
            self.seconds.append(seconds)

    def fault(self, kind, what, is_end):
        self.fault_counts[kind] += 1
        self.end_counts[kind] += is_end
        if self.fault_counts[kind] <= KEPT_FAULTS:
            self.faults[kind].append(what)

    def take_seconds(self):
        taken, self.seconds = sorted(self.seconds), []
        return taken


class Wrong(Exception):
    """What a client got instead of what it had to get."""


class Ended(Wrong):
    """The server ended the connection, or said nothing for too long."""


def check(seen, expected, what):
    if seen == expected:
        return
    told = f"{what} is {repr(seen)[:60]} instead of {repr(expected)[:60]}"
    if isinstance(seen, (bytes, str)) and isinstance(expected, (bytes, str)):
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(seen, expected)))
        told += f", of length {len(seen)} instead of {len(expected)}, the same up to {same}"
    raise Wrong(told)


def told(error):
    """What went wrong, with the lines that led to it where it is none of what a server can do."""
    if isinstance(error, Wrong):
        return str(error)
    if isinstance(error, (*GONE, H2Error, WebSocketError)):
        return f"{type(error).__name__} {error}"
    return "".join(traceback.format_exception(error)).replace("\n", " / ")


class Clients:
    KINDS = {"http1": 14, "http2": 10, "websocket": 16, "events": 6, "half_closing": 4}

    def __init__(self, target, seed):
        self.target = target
        self.seed = seed
        self.ledger = Ledger()
        self.stopping = asyncio.Event()
        self.lags = []

    async def run(self):
        """Until `stopping` is set."""
        jobs = [
            self.client(kind, number, getattr(self, kind))
            for kind, count in self.KINDS.items()
            for number in range(count)
        ]
        await asyncio.gather(self.watch_itself(), *jobs)

    async def watch_itself(self):
        """How late this program is, which is not the server's fault."""
        while not self.stopping.is_set():
            start = time.monotonic()
            await asyncio.sleep(0.02)
            self.lags.append(time.monotonic() - start - 0.02)

    def take_lags(self):
        taken, self.lags = sorted(self.lags), []
        return taken

    async def client(self, kind, number, talk):
        """Of one kind, every second one over TLS where it can be (asyncio has no half-closed TLS). Whatever
        happens, it comes again."""
        tls = number % 2 == 1 and kind != "half_closing"
        rng = random.Random(f"{self.seed}/{kind}/{number}")
        await asyncio.sleep(rng.random())
        while not self.stopping.is_set():
            peer = None
            start = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    alpn = "h2" if kind == "http2" else None
                    peer = await self.target.connect(tls, alpn)
                await talk(peer, rng)
            except Exception as error:
                how = "tls" if tls else "tcp"
                after = f"{how}, {time.monotonic() - start:.1f} s after it began"
                self.ledger.fault(kind, f"{told(error)} ({after})", isinstance(error, (Ended, *GONE)))
                # One that cannot come in must not count as thousands.
                await asyncio.sleep(0.2)
            finally:
                if peer:
                    peer.vanish()

    async def think(self, rng, longest=0.15):
        await asyncio.sleep(rng.random() * longest)

    # HTTP/1.1: kept alive, some of it pipelined.

    async def http1(self, peer, rng):
        while not self.stopping.is_set():
            asked = [http1_request(rng) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
            start = time.monotonic()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await peer.send(b"".join(data for _name, data, _method, _body in asked))
                for name, _data, method, expected in asked:
                    headers = await http1_answer(peer, name, method, expected)
                    quick = len(asked) == 1 and name in ("hello", "echo")
                    self.ledger.answer("http1", time.monotonic() - start if quick else None)
                    if headers.get("connection") == "close":
                        check(await peer.some(), b"", "what follows connection: close")
                        return
            await self.think(rng)

    async def half_closing(self, peer, rng):
        """Sends all it has to send, says so, and listens (RFC 9112 §9.6)."""
        asked = [http1_request(rng) for _ in range(rng.choice([1, 2]))]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await peer.send(b"".join(data for _name, data, _method, _body in asked))
            peer.half_close()
            for name, _data, method, expected in asked:
                await http1_answer(peer, name, method, expected)
                self.ledger.answer("half_closing")
            check(await peer.some(), b"", "what follows the last answer")
        await self.think(rng, 0.5)

    async def events(self, peer, rng):
        count = rng.randint(10, 40)
        events = b"".join(b"data: %d\n\n" % n for n in range(1, count + 1))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await peer.send(b"GET /events?%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % (b"n" * count))
            await http1_answer(peer, "events", "GET", events)
        self.ledger.answer("events")

    # HTTP/2: several streams at a time.

    async def http2(self, peer, rng):
        http = H2Connection(H2Configuration(header_encoding="utf-8"))
        http.initiate_connection()
        http.increment_flow_control_window(1 << 24)
        while not self.stopping.is_set():
            streams = {}
            for _ in range(rng.choice([1, 1, 2, 5])):
                stream = http.get_next_available_stream_id()
                name, method, path, body, expected = question(rng)
                headers = [(":method", method), (":scheme", "http"), (":path", path)]
                http.send_headers(stream, [*headers, (":authority", "localhost")], end_stream=not body)
                streams[stream] = Stream(name, body, expected)
            start = time.monotonic()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.http2_answers(peer, http, streams)
            [first, *more] = streams.values()
            if not more and first.name in ("hello", "echo"):
                self.ledger.answer("http2", time.monotonic() - start)
            else:
                self.ledger.counts["http2"] += len(streams)
            await self.think(rng)
        http.close_connection()
        await peer.send(http.data_to_send())

    async def http2_answers(self, peer, http, streams):
        while True:
            for stream, asked in streams.items():
                while asked.to_send:
                    room = min(http.local_flow_control_window(stream), http.max_outbound_frame_size)
                    if room == 0:
                        break
                    part, asked.to_send = asked.to_send[:room], asked.to_send[room:]
                    http.send_data(stream, part, end_stream=not asked.to_send)
            await peer.send(http.data_to_send())
            if all(asked.ended for asked in streams.values()):
                break
            data = await peer.some()
            if not data:
                raise Ended("the connection ended with streams open")
            for event in http.receive_data(data):
                asked = streams.get(getattr(event, "stream_id", None))
                if isinstance(event, ResponseReceived):
                    check(asked.status, None, "an earlier status")
                    asked.status = dict(event.headers)[":status"]
                elif isinstance(event, DataReceived):
                    asked.got += event.data
                    if event.flow_controlled_length:
                        http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    asked.ended = True
                elif isinstance(event, StreamReset) and asked and not asked.ended:
                    raise Wrong(f"{asked.name} was reset with {event.error_code}")
        for asked in streams.values():
            check(asked.status, "200", f"the status of {asked.name}")
            check(asked.got, asked.expected, f"the body of {asked.name}")

    # WebSockets.

    async def websocket(self, peer, rng):
        socket = WSConnection(ConnectionType.CLIENT)
        extensions = [PerMessageDeflate()] if rng.random() < 0.5 else []
        session = WebSocket(peer, socket)
        async with asyncio.timeout(PATIENCE_SECONDS):
            request = Request(host="localhost", target="/socket", extensions=extensions)
            await peer.send(socket.send(request))
            check(type(await session.event()), AcceptConnection, "the answer to the handshake")
        for _ in range(rng.randint(5, 200)):
            if self.stopping.is_set():
                break
            sent = [message(rng) for _ in range(rng.choice([1, 1, 1, 3, 8]))]
            start = time.monotonic()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await peer.send(b"".join(data for one in sent for data in frames(socket, one, rng)))
                for one in sent:
                    check(await session.message(), one, "the echo")
                    self.ledger.answer("websocket", time.monotonic() - start if len(sent) == 1 else None)
                if rng.random() < 0.2:
                    payload = rng.randbytes(rng.randint(0, 125))
                    await peer.send(socket.send(Ping(payload)))
                    pong = await session.event()
                    check(type(pong), Pong, "the answer to a ping")
                    check(bytes(pong.payload), payload, "the pong")
            await self.think(rng)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await peer.send(socket.send(CloseConnection(code=4000)))
            closed = await session.event()
            check(type(closed), CloseConnection, "the answer to the close frame")
            check(closed.code, 4000, "its code")
            check(await peer.some(), b"", "what follows the close frame")


class Stream:
    def __init__(self, name, body, expected):
        self.name = name
        self.to_send = body
        self.expected = expected
        self.status = None
        self.got = b""
        self.ended = False


class WebSocket:
    """The events of a WebSocket, one after the other."""

    def __init__(self, peer, socket):
        self.peer = peer
        self.socket = socket
        self.events = collections.deque()

    async def event(self):
        while not self.events:
            data = await self.peer.some()
            if not data and self.socket.state is ConnectionState.CONNECTING:
                raise Ended("the connection ended before the answer to the handshake")
            self.socket.receive_data(data or None)
            self.events.extend(self.socket.events())
        return self.events.popleft()

    async def message(self):
        parts = []
        while True:
            event = await self.event()
            if not isinstance(event, (TextMessage, BytesMessage)):
                raise Wrong(f"{event!r} came instead of a message")
            parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                return type(parts[0])().join(parts)


def message(rng):
    size = rng.choice([0, 1, 125, 126, 1000, 1000, rng.randint(0, 30_000)])
    if rng.random() < 0.5:
        return "".join(rng.choice("aé€😀") for _ in range(size // 4))
    return rng.randbytes(size)


def frames(socket, one, rng):
    kind = TextMessage if isinstance(one, str) else BytesMessage
    if rng.random() < 0.2 and len(one) > 3:
        middle = rng.randrange(1, len(one))
        yield socket.send(kind(one[:middle], message_finished=False))
        one = one[middle:]
    yield socket.send(kind(one))


def question(rng):
    """A name, a method, a path, the body that is sent, and the one that must come."""
    mark = b"%d" % rng.getrandbits(64)
    query = mark.decode()
    sent = rng.randbytes(rng.choice([1, 100, 5_000, 30_000]))
    return rng.choice(
        [
            ("hello", "GET", f"/hello?{query}", b"", b"hello " + mark),
            ("hello", "GET", f"/hello?{query}", b"", b"hello " + mark),
            ("echo", "POST", "/echo", sent, sent),
            ("echo", "POST", "/echo", sent, sent),
            ("ignore", "POST", f"/ignore?{query}", sent, b"ignored " + mark),
            ("head", "HEAD", f"/hello?{query}", b"", b""),
            ("slow", "GET", f"/slow?{query}", b"", b"slow " + mark),
            ("page", "GET", "/page", b"", PAGE),
            ("file", "GET", "/file", b"", PAGE),
            ("chunks", "GET", "/chunks", b"", CHUNKS),
        ]
    )


def http1_request(rng):
    name, method, path, body, expected = question(rng)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n".encode()
    if not body:
        data = head + b"\r\n"
    elif rng.random() < 0.5:
        data = head + b"content-length: %d\r\n\r\n%s" % (len(body), body)
    else:
        middle = rng.randrange(len(body))
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:middle], body[middle:]) if part)
        data = head + b"transfer-encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
    return name, data, method, expected


async def http1_answer(peer, name, method, expected):
    """Reads one, and returns its headers."""
    try:
        status, headers, body = await http1_response(peer, method)
    except (OSError, EOFError) as error:
        raise Ended(f"no whole answer to {name} ({type(error).__name__})") from error
    check(status, 200, f"the status of {name}")
    check(body, expected, f"the body of {name}")
    return headers


async def http1_response(peer, method):
    head = (await peer.read_until(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    version, status = status_line.split(" ")[:2]
    check(version, "HTTP/1.1", "the version")
    if method == "HEAD":
        body = b""
    elif headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int(await peer.read_until(b"\r\n"), 16):
            parts.append(await peer.read(size))
            check(await peer.read(2), b"\r\n", "the end of a chunk")
        check(await peer.read(2), b"\r\n", "the end of the chunks")
        body = b"".join(parts)
    else:
        body = await peer.read(int(headers["content-length"]))
    return int(status), headers, body
