"""h2_websocket.py HOST PORT

Holds a server of HTTP/2 by prior knowledge to RFC 8441, with the HTTP/2 of PyPI's h2 and the frames of
its wsproto: one line per check, exit code 1 when one failed. The server runs the app of
test/support/http2_app.ex.
"""

import os
import select
import socket
import sys
import time
import uuid
from contextlib import contextmanager

import checks
from checks import equal
from frames import Messages, to_event
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes as Code
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes as Setting
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

SECONDS = 60
PATIENCE_SECONDS = 10
# More than the server's `send_timeout` in these tests, on a busy machine.
GIVE_UP_SECONDS = 20
SIZES = [0, 1, 125, 126, 65535, 65536]
LARGE = 1 << 20
MASK = b"\1\2\3\4"


class Session:
    """One connection of HTTP/2 with its streams."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.create_connection(address, PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What is wrong is to be sent, too.
        configuration = H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.http = H2Connection(configuration)
        self.settings = {}
        self.streams = {}
        self.http.initiate_connection()
        # The connection's window is not what these checks are about: a stream's is.
        self.http.increment_flow_control_window(1 << 28)
        self.flush()
        self.until(lambda: self.settings, "the server's SETTINGS")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def open(self, headers, end=False):
        stream = Stream(self, self.http.get_next_available_stream_id())
        self.streams[stream.id] = stream
        self.http.send_headers(stream.id, headers, end_stream=end)
        self.flush()
        return stream

    def get(self, path):
        stream = self.open(head("GET", path), end=True)
        self.until(lambda: stream.done, f"the response to GET {path}")
        return stream

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def until(self, condition, what, seconds=PATIENCE_SECONDS):
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left < 0 or not select.select([self.socket], [], [], left)[0]:
                raise AssertionError(f"no {what} in {seconds} s")
            self.receive(what)

    def receive(self, what):
        data = self.socket.recv(1 << 16)
        if not data:
            raise AssertionError(f"the server closed the connection instead of {what}")
        for event in self.http.receive_data(data):
            self.handle(event)
        self.flush()

    def handle(self, event):
        if isinstance(event, RemoteSettingsChanged):
            self.settings.update({id: new.new_value for id, new in event.changed_settings.items()})
        elif isinstance(event, ConnectionTerminated):
            raise AssertionError(f"GOAWAY {event.error_code!r} {event.additional_data!r}")
        elif getattr(event, "stream_id", None) in self.streams:
            self.streams[event.stream_id].handle(event)


class Stream:
    def __init__(self, session, id):
        self.session = session
        self.id = id
        self.headers = None
        self.inbox = bytearray()
        self.ended = False
        self.reset = None
        # Whether the window is renewed as data is read.
        self.reads = True

    @property
    def status(self):
        return self.headers and self.headers[":status"]

    @property
    def done(self):
        return self.ended or self.reset is not None

    def handle(self, event):
        if isinstance(event, ResponseReceived):
            self.headers = dict(event.headers)
        elif isinstance(event, DataReceived):
            self.inbox += event.data
            if self.reads:
                size = event.flow_controlled_length
                self.session.http.acknowledge_received_data(size, self.id)
        elif isinstance(event, StreamEnded):
            self.ended = True
        elif isinstance(event, StreamReset):
            self.reset = event.error_code

    def send(self, data, end=False):
        """Sends as the windows allow, and reads meanwhile."""
        http = self.session.http
        data = memoryview(data)
        while data and not self.done:
            room = min(http.local_flow_control_window(self.id), http.max_outbound_frame_size)
            if room <= 0:
                self.session.receive("a WINDOW_UPDATE")
                continue
            http.send_data(self.id, bytes(data[:room]))
            self.session.flush()
            data = data[room:]
        if end and not self.done:
            http.end_stream(self.id)
            self.session.flush()

    def cancel(self):
        self.session.http.reset_stream(self.id, Code.CANCEL)
        self.session.flush()


class Socket(Messages):
    """A WebSocket on a stream."""

    def __init__(self, session, path="/socket", more=(), deflate=False):
        extension = PerMessageDeflate()
        if deflate:
            more = [*more, ("sec-websocket-extensions", f"permessage-deflate; {extension.offer()}")]
        self.session = session
        self.stream = session.open(connect(path, more))
        session.until(lambda: self.stream.headers or self.stream.done, "the response to CONNECT")
        equal((self.stream.status, self.stream.ended), ("200", False), "the answer")
        self.headers = self.stream.headers
        for name in ("sec-websocket-accept", "connection", "upgrade", "content-length"):
            if name in self.headers:
                raise AssertionError(f"{name} is in the response to CONNECT")
        accepted = self.headers.get("sec-websocket-extensions")
        if accepted:
            extension.finalize(accepted)
        self.frames = Connection(ConnectionType.CLIENT, [extension] if accepted else [])

    def send(self, event):
        self.stream.send(self.frames.send(event))

    def events(self):
        while True:
            yield from self.frames.events()
            self.session.until(lambda: self.stream.inbox or self.stream.done, "a frame")
            if not self.stream.inbox:
                raise AssertionError(f"the stream ended instead (reset: {self.stream.reset!r})")
            data = bytes(self.stream.inbox)
            self.stream.inbox.clear()
            self.frames.receive_data(data)

    def echo(self, *messages):
        for message in messages:
            self.send(to_event(message))
        for message in messages:
            equal(self.message(), message, "the echo")

    def closed(self, code):
        """The server's close frame comes next; its reason is its own."""
        event = self.event()
        equal((type(event), event.code), (CloseConnection, code), "what came")

    def ends(self):
        """The stream ends on both sides, as TCP does after the closing handshake."""
        self.stream.send(b"", end=True)
        self.session.until(lambda: self.stream.done, "END_STREAM")
        if self.stream.reset not in (None, Code.NO_ERROR):
            raise AssertionError(f"the stream was reset with {self.stream.reset!r}")

    def close(self, code=1000, reason="bye"):
        self.send(CloseConnection(code, reason))
        self.closed(code)
        self.ends()


def head(method, path, more=()):
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        *more,
    ]


def connect(path="/socket", more=(), version="13", protocol="websocket"):
    pseudo, rest = head("CONNECT", path)[:4], [("sec-websocket-version", version), *more]
    return [*pseudo, (":protocol", protocol), ("origin", "http://localhost"), *rest]


def frame(opcode, payload, mask=MASK):
    """A short frame of the client's, made by hand."""
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked


def serves(session):
    stream = session.get("/")
    equal((stream.status, bytes(stream.inbox)), ("200", b"hello"), "the response")


def held(address, group):
    with Session(address) as session:
        return int(session.get(f"/held?group={group}").inbox)


def eventually_none(address, group):
    end = time.monotonic() + GIVE_UP_SECONDS
    while held(address, group) > 0:
        if time.monotonic() > end:
            raise AssertionError(f"its process goes on after {GIVE_UP_SECONDS} s")
        time.sleep(0.1)


@contextmanager
def grouped(address):
    """A path whose processes are gone in the end."""
    group = uuid.uuid4().hex
    yield f"/socket?group={group}"
    eventually_none(address, group)


def announced(address):
    with Session(address) as session:
        equal(session.settings.get(Setting.ENABLE_CONNECT_PROTOCOL), 1, "the setting")


def messages(address, deflate):
    path = f"/socket?compress={str(deflate).lower()}"
    with Session(address) as session:
        ws = Socket(session, path, deflate=deflate)
        equal("sec-websocket-extensions" in ws.headers, deflate, "the agreement")
        for size in SIZES:
            ws.echo("é" * (size // 2), bytes(range(256)) * (size // 256), os.urandom(size))
        ws.close()


def large(address, deflate):
    path = f"/socket?compress={str(deflate).lower()}"
    with Session(address) as session:
        ws = Socket(session, path, deflate=deflate)
        ws.echo(os.urandom(LARGE))
        ws.echo("é" * (LARGE // 2))
        ws.close()


def several_large(address):
    with Session(address) as session:
        sockets = [Socket(session) for _ in range(4)]
        payloads = [os.urandom(LARGE) for _ in sockets]
        for ws, payload in zip(sockets, payloads):
            ws.send(to_event(payload))
        for ws, payload in zip(sockets, payloads):
            equal(ws.message(), payload, "the echo")
            ws.close()


def fragments(address):
    with Session(address) as session:
        ws = Socket(session)
        for parts in [["one ", "zwei ", "", "trois"], [b"", b"1", b"\x00" * 70_000, b""]]:
            for index, part in enumerate(parts):
                ws.send(to_event(part, finished=index == len(parts) - 1))
            equal(ws.message(), type(parts[0])().join(parts), "the echo")
        ws.close()


def data_frames(address):
    with Session(address) as session:
        ws = Socket(session)
        # A frame in many DATA frames, empty ones among them; then many in one.
        for byte in ws.frames.send(to_event("byte by byte")):
            ws.stream.send(bytes([byte]))
            session.http.send_data(ws.stream.id, b"")
        equal(ws.message(), "byte by byte", "the echo")
        ws.stream.send(b"".join(ws.frames.send(to_event(f"{index}")) for index in range(100)))
        for index in range(100):
            equal(ws.message(), f"{index}", "the echo")
        ws.close()


def early_frame(address):
    with Session(address) as session:
        stream = session.open(connect())
        stream.send(frame(1, b"early"))
        session.until(lambda: len(stream.inbox) >= 7 or stream.done, "the echo")
        equal((stream.status, bytes(stream.inbox)), ("200", b"\x81\x05early"), "the answer")


def pings(address):
    with Session(address) as session:
        ws = Socket(session)
        for payload in (b"", b"hello", os.urandom(125)):
            ws.send(Ping(payload))
            answer = ws.event()
            equal((type(answer), bytes(answer.payload)), (Pong, payload), "the answer")
        ws.send(to_event("before ", finished=False))
        ws.send(Ping(b"now"))
        answer = ws.event()
        equal((type(answer), bytes(answer.payload)), (Pong, b"now"), "the answer")
        ws.send(to_event("after"))
        equal(ws.message(), "before after", "the echo")
        ws.close()


def closed_by_the_client(address):
    with grouped(address) as path, Session(address) as session:
        for code in (1000, 1001, 1012, 3000, 4999):
            Socket(session, path).close(code)
        ws = Socket(session, path)
        ws.stream.send(frame(8, b""))
        event = ws.event()
        equal(type(event), CloseConnection, "the answer to a close without code")
        ws.ends()
        serves(session)
        # While the connection is still open.
        eventually_none(address, path.split("=")[1])


def closed_by_the_app(address):
    with grouped(address) as path, Session(address) as session:
        ws = Socket(session, path)
        ws.send(to_event("close 4001 that is all"))
        event = ws.event()
        equal((event.code, event.reason), (4001, "that is all"), "the close frame")
        ws.send(event.response())
        ws.ends()
        serves(session)


def ended_without_a_close(address):
    with grouped(address) as path, Session(address) as session:
        ws = Socket(session, path)
        ws.echo("one")
        ws.ends()
        serves(session)
        eventually_none(address, path.split("=")[1])


def cancelled(address):
    with grouped(address) as path, Session(address) as session:
        sockets = [Socket(session, path) for _ in range(3)]
        # Between two messages, within one, and within a frame.
        sockets[0].echo("one")
        sockets[1].send(to_event("one", finished=False))
        sockets[2].stream.send(sockets[2].frames.send(to_event("one"))[:-1])
        for ws in sockets:
            ws.stream.cancel()
        serves(session)
        eventually_none(address, path.split("=")[1])
        Socket(session).close()


def cancelled_while_pushing(address):
    with grouped(address) as path, Session(address) as session:
        ws = Socket(session, path)
        ws.stream.reads = False
        ws.send(to_event("push 1000 10000"))
        session.until(lambda: ws.stream.inbox, "the beginning")
        ws.stream.cancel()
        serves(session)
        eventually_none(address, path.split("=")[1])


def vanished(address):
    with grouped(address) as path:
        with Session(address) as session:
            sockets = [Socket(session, path) for _ in range(10)]
            sockets[0].echo("one")


def hundred(address):
    with Session(address) as session:
        sockets = [Socket(session) for _ in range(100)]
        for turn in range(3):
            texts = [f"{turn} on {ws.stream.id}: " + "x" * index for index, ws in enumerate(sockets)]
            for ws, text in zip(sockets, texts):
                ws.send(to_event(text))
            for ws, text in reversed(list(zip(sockets, texts))):
                equal(ws.message(), text, "the echo")
        for ws in sockets:
            ws.close()


def among_requests(address):
    with Session(address) as session:
        sockets = [Socket(session) for _ in range(5)]
        for _ in range(10):
            for ws in sockets:
                ws.send(to_event("between"))
                serves(session)
            stream = session.get("/large?bytes=100000")
            equal(len(stream.inbox), 100_000, "the body")
            for ws in sockets:
                equal(ws.message(), "between", "the echo")
        for ws in sockets:
            ws.close()


def subprotocol(address):
    with Session(address) as session:
        ws = Socket(session, more=[("sec-websocket-protocol", "chat, echo")])
        equal(ws.headers.get("sec-websocket-protocol"), "echo", "the subprotocol")
        equal("sec-websocket-protocol" in Socket(session).headers, False, "one that nobody offered")


def refused(address, headers, statuses, resets=()):
    """A status, or a stream error; the connection goes on."""
    with Session(address) as session:
        stream = session.open(headers)
        session.until(lambda: stream.headers or stream.done, "the refusal")
        if stream.headers:
            equal(int(stream.status) in statuses, True, f"whether {stream.status} is right")
            session.until(lambda: stream.done, "the end of the response")
        else:
            equal(stream.reset in resets, True, f"whether {stream.reset!r} is right")
        serves(session)
        Socket(session).close()


def without(name):
    return [field for field in connect() if field[0] != name]


def get_is_no_websocket(address):
    with Session(address) as session:
        # Headers of an upgrade belong to HTTP/1.1; without them it is a request like any other.
        stream = session.get("/socket")
        equal(stream.status[0], "4", "the status")
        serves(session)


def fails(address, data, code, path="/socket"):
    with Session(address) as session:
        ws = Socket(session, path)
        ws.stream.send(data)
        ws.closed(code)
        ws.stream.send(frame(8, code.to_bytes(2, "big")))
        ws.ends()
        serves(session)


def never_reads(address):
    group = uuid.uuid4().hex
    with Session(address) as session:
        ws = Socket(session, f"/socket?group={group}")
        other = Socket(session)
        ws.stream.reads = False
        ws.send(to_event("push 2000 10000"))
        session.until(lambda: len(ws.stream.inbox) >= 65_535, "a window of messages")
        for _ in range(10):
            other.echo("the others go on")
            serves(session)
        equal(len(ws.stream.inbox), 65_535, "what came for a window of 65535")
        # The server gives up on it, and on nothing else.
        eventually_none(address, group)
        session.until(lambda: ws.stream.done, "the end of the stream", GIVE_UP_SECONDS)
        other.echo("still")
        other.close()


def slow_reader(address):
    with Session(address) as session:
        ws = Socket(session)
        ws.stream.reads = False
        ws.send(to_event("push 20 10000"))
        session.until(lambda: len(ws.stream.inbox) >= 65_535, "a window of messages")
        session.http.acknowledge_received_data(65_535, ws.stream.id)
        session.flush()
        ws.stream.reads = True
        for _ in range(20):
            equal(ws.message(), b"x" * 10_000, "a message")
        ws.close()


MALFORMED = (range(400, 500), (Code.PROTOCOL_ERROR,))
LIMITED = "/socket?max_frame_size=100000"
OVERSIZED = bytes([0x82, 0xFF]) + (100_001).to_bytes(8, "big") + MASK

CHECKS = [
    ("SETTINGS_ENABLE_CONNECT_PROTOCOL is announced", announced),
    *[
        (f"{what}{', compressed' if deflate else ''}", check, deflate)
        for deflate in (False, True)
        for what, check in (("messages of all sizes", messages), ("messages of 1 MiB", large))
    ],
    ("4 messages of 1 MiB at once", several_large),
    ("fragments are joined", fragments),
    ("frames need not be those of HTTP/2", data_frames),
    ("a frame sent before the response", early_frame),
    ("pings are answered, within a message, too", pings),
    ("a close by the client", closed_by_the_client),
    ("a close by the app", closed_by_the_app),
    ("END_STREAM without a close", ended_without_a_close),
    ("RST_STREAM by the client", cancelled),
    ("RST_STREAM by the client while the app pushes", cancelled_while_pushing),
    ("a connection that ends with its WebSockets open", vanished),
    ("100 WebSockets on one connection", hundred),
    ("WebSockets and requests on one connection", among_requests),
    ("a subprotocol", subprotocol),
    ("a version that is not 13", refused, connect(version="12"), (400, 426)),
    ("no version", refused, without("sec-websocket-version"), (400, 426)),
    ("a :protocol that nobody speaks", refused, connect(protocol="connect-udp"), (501,)),
    ("no :scheme", refused, without(":scheme"), *MALFORMED),
    ("no :path", refused, without(":path"), *MALFORMED),
    ("no :authority", refused, without(":authority"), *MALFORMED),
    ("a path without WebSockets", refused, connect("/nowhere"), (404,)),
    ("a GET of a WebSocket", get_is_no_websocket),
    ("text that is not UTF-8: 1007", fails, frame(1, b"\xff"), 1007),
    ("a frame that is too large, by its head: 1009", fails, OVERSIZED, 1009, LIMITED),
    ("a frame without a mask: 1002", fails, b"\x81\x01x", 1002),
    ("an undefined opcode: 1002", fails, frame(3, b""), 1002),
    ("a slow reader gets everything", slow_reader),
    ("a client that never reads one of its WebSockets", never_reads),
]

if __name__ == "__main__":
    address = (sys.argv[1], int(sys.argv[2]))
    table = [(name, lambda f=f, rest=rest: f(address, *rest)) for name, f, *rest in CHECKS]
    sys.exit(checks.run("h2_websocket", table, SECONDS))
