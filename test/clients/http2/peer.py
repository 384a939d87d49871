"""A client that sends what it is told to, right or wrong, and holds every answer to RFC 9113.

Frames are hyperframe's and header blocks are hpack's. What is to be wrong is made by `raw`.
"""

import select
import socket
import struct
import time

from h2.errors import ErrorCodes as Code
from h2.settings import SettingCodes as Setting
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Of a busy machine. A server that is right needs milliseconds.
PATIENCE_SECONDS = 8
# What holds until SETTINGS say otherwise (6.5.2).
WINDOW = 65_535
MAX_FRAME_SIZE = 16_384
CONNECTION_SPECIFIC = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
END = ("END_HEADERS", "END_STREAM")
GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost"))


class Failure(Exception):
    pass


def raw(kind, flags=0, stream=0, payload=b"", length=None):
    """The bytes of a frame of a type, which may be a class of hyperframe's or a number."""
    length = len(payload) if length is None else length
    number = kind if isinstance(kind, int) else kind.type
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", number, flags, stream) + payload


def fields(path="/", method="GET", more=()):
    """A request's head."""
    values = {":method": method, ":path": path}
    return [*((name, values.get(name, value)) for name, value in GET), *more]


class Stream:
    def __init__(self, id, method, room, window):
        self.id = id
        self.method = method
        # What the server may send, and what we may.
        self.room = room
        self.window = window
        self.hints = []
        self.status = None
        self.headers = {}
        self.body = bytearray()
        self.ended = False
        self.reset = None

    @property
    def done(self):
        return self.ended or self.reset is not None


class Peer:
    """A connection after the preface and the first SETTINGS of both sides.

    Unless `renew` is False, windows are renewed as DATA arrives.
    """

    def __init__(self, address, settings=None, renew=True, buffer=None, handshake=True):
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.renew = renew
        # How much is written at once.
        self.piece = lambda: 1 << 16
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.log = []
        self.closed = False
        self.goaway = None
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.block = None
        self.streams = {}
        self.next_id = 1
        self.room = WINDOW
        self.window = WINDOW
        # Of a new stream.
        self.initial_room = WINDOW
        self.initial_window = WINDOW
        self.asked = []
        self.acks = 0
        self.settings = None
        self.pongs = []
        if handshake:
            self.send(PREFACE)
            self.configure(settings or {})
            self.until(lambda: self.settings is not None, "the server's SETTINGS")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # Sending

    def send(self, *frames):
        """Sends what fits and reads what comes, until all is sent or the server has gone."""
        for frame in frames:
            self.outbox += frame if isinstance(frame, bytes) else frame.serialize()
        self.flush(time.monotonic() + PATIENCE_SECONDS)

    def flush(self, end):
        while self.outbox and not self.closed:
            if not self.turn(end):
                raise Failure(f"the server reads no more: {self.transcript()}")

    def turn(self, end):
        """Waits until something can be read or written, and does it; False when there was nothing."""
        left = max(0, end - time.monotonic())
        wants = [self.socket] if self.outbox else []
        readable, writable, _ = select.select([self.socket], wants, [], left)
        if readable:
            self.receive()
        if writable and not self.closed:
            self.write()
        return bool(readable or writable)

    def write(self):
        try:
            del self.outbox[: self.socket.send(self.outbox[: self.piece()])]
        except BlockingIOError:
            pass
        except OSError:
            # What it has sent before may still be there to read.
            self.outbox.clear()

    def configure(self, settings):
        """Sends SETTINGS and waits until they are acknowledged."""
        self.asked.append(settings)
        expected = self.acks + 1
        self.send(SettingsFrame(settings=settings))
        self.until(lambda: self.acks >= expected, "the acknowledgement of SETTINGS")

    def open(self, headers=GET, end=True, id=None):
        """Sends a request's head, whatever is in it, and returns its stream."""
        stream = self.stream(dict(headers).get(":method"), id)
        block = self.encoder.encode(headers)
        size = self.max_frame_size()
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        frames = [HeadersFrame(stream.id, parts[0], flags=["END_STREAM"] if end else [])]
        frames += [ContinuationFrame(stream.id, part) for part in parts[1:]]
        frames[-1].flags.add("END_HEADERS")
        self.send(*frames)
        return stream

    def stream(self, method=None, id=None):
        """A stream that is to be opened by frames of the caller's own."""
        stream = Stream(id or self.next_id, method, self.initial_room, self.initial_window)
        self.next_id = stream.id + 2
        self.streams[stream.id] = stream
        return stream

    def upload(self, stream, data, end=True, padding=None):
        """Sends DATA as the server's windows allow."""
        overhead = 0 if padding is None else padding + 1
        data = memoryview(data)
        while data:
            self.until(
                lambda: stream.done or min(self.window, stream.window) > overhead, "a WINDOW_UPDATE"
            )
            if stream.done:
                return
            room = min(self.window, stream.window, self.max_frame_size()) - overhead
            self.data(stream, bytes(data[:room]), padding=padding)
            data = data[room:]
        if end:
            self.send(DataFrame(stream.id, flags=["END_STREAM"]))

    def data(self, stream, data, end=False, padding=None):
        """Sends one DATA frame, whatever the windows are."""
        frame = DataFrame(stream.id, data, flags=["END_STREAM"] if end else [])
        if padding is not None:
            frame.flags.add("PADDED")
            frame.pad_length = padding
        size = len(data) + (0 if padding is None else padding + 1)
        self.window -= size
        stream.window -= size
        self.send(frame)

    def allow(self, size, stream=None):
        """Renews the window of a stream, or of the connection."""
        target = stream or self
        target.room += size
        self.send(WindowUpdateFrame(stream.id if stream else 0, size))

    def max_frame_size(self):
        return (self.settings or {}).get(Setting.MAX_FRAME_SIZE, MAX_FRAME_SIZE)

    # Reading

    def until(self, condition, what, seconds=PATIENCE_SECONDS):
        end = time.monotonic() + seconds
        while not condition():
            if self.closed:
                raise Failure(f"the connection ended instead of {what}: {self.transcript()}")
            if time.monotonic() > end or not self.turn(end):
                raise Failure(f"no {what} in {seconds} s: {self.transcript()}")

    def until_closed(self, seconds=PATIENCE_SECONDS):
        self.until(lambda: self.closed, "the end of the connection", seconds)

    def response(self, stream, seconds=PATIENCE_SECONDS):
        self.until(lambda: stream.done, f"the response on stream {stream.id}", seconds)
        if not stream.ended:
            raise Failure(f"stream {stream.id} was reset: {self.transcript()}")
        return stream

    def get(self, path="/"):
        return self.response(self.open(fields(path)))

    def ping(self, payload=b"are you?"):
        """Waits until the server has handled all that was sent before."""
        expected = len(self.pongs) + 1
        self.send(PingFrame(opaque_data=payload))
        self.until(lambda: len(self.pongs) >= expected, "the acknowledgement of a PING")

    def receive(self):
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        self.inbox += data
        while len(self.inbox) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(bytes(self.inbox[:9])))
            # No case raises it.
            if length > MAX_FRAME_SIZE:
                raise Failure(f"the server sent a frame of {length} bytes")
            if len(self.inbox) < 9 + length:
                return
            frame.parse_body(memoryview(bytes(self.inbox[9 : 9 + length])))
            del self.inbox[: 9 + length]
            self.handle(frame)

    def handle(self, frame):
        self.log.append(brief(frame))
        if self.settings is None and not isinstance(frame, SettingsFrame):
            raise Failure(f"the server's first frame is {brief(frame)} (3.4)")
        if self.block is not None and not isinstance(frame, ContinuationFrame):
            raise Failure(f"{brief(frame)} within a header block (6.10)")
        handler = getattr(self, f"on_{type(frame).__name__}", None)
        if handler is None:
            raise Failure(f"a server does not send {brief(frame)}")
        handler(frame)

    def on_SettingsFrame(self, frame):
        if "ACK" in frame.flags:
            self.acks += 1
            if self.acks > len(self.asked):
                raise Failure("SETTINGS are acknowledged that were not sent (6.5.3)")
            self.apply(self.asked[self.acks - 1])
            return
        self.settings = {**(self.settings or {}), **frame.settings}
        self.encoder.header_table_size = min(frame.settings.get(Setting.HEADER_TABLE_SIZE, 4096), 4096)
        change = self.settings.get(Setting.INITIAL_WINDOW_SIZE, WINDOW) - self.initial_window
        self.initial_window += change
        for stream in self.streams.values():
            stream.window += change
        self.outbox += SettingsFrame(flags=["ACK"]).serialize()

    def apply(self, asked):
        """Holds the server to what it has acknowledged."""
        if Setting.HEADER_TABLE_SIZE in asked:
            self.decoder.max_allowed_table_size = asked[Setting.HEADER_TABLE_SIZE]
        change = asked.get(Setting.INITIAL_WINDOW_SIZE, self.initial_room) - self.initial_room
        self.initial_room += change
        for stream in self.streams.values():
            stream.room += change

    def on_PingFrame(self, frame):
        if "ACK" in frame.flags:
            self.pongs.append(bytes(frame.opaque_data))
        else:
            self.outbox += PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize()

    def on_WindowUpdateFrame(self, frame):
        target = self if frame.stream_id == 0 else self.known(frame)
        target.window += frame.window_increment
        if target.window >= 1 << 31:
            raise Failure(f"{brief(frame)} makes a window of {target.window} (6.9.1)")

    def on_GoAwayFrame(self, frame):
        self.goaway = frame

    def on_RstStreamFrame(self, frame):
        stream = self.known(frame)
        stream.reset = frame.error_code
        # After the response it only asks for no more of the request (8.1).
        if stream.ended and frame.error_code != Code.NO_ERROR:
            raise Failure(f"{brief(frame)} after the whole response (8.1)")

    def on_HeadersFrame(self, frame):
        self.block = (self.known(frame), "END_STREAM" in frame.flags, bytearray(frame.data))
        self.end_block(frame)

    def on_ContinuationFrame(self, frame):
        self.block[2].extend(frame.data)
        self.end_block(frame)

    def end_block(self, frame):
        if "END_HEADERS" not in frame.flags:
            return
        stream, end, block = self.block
        self.block = None
        headers = self.decoder.decode(bytes(block))
        check_open(stream, frame)
        check_head(headers)
        self.log[-1] += f" {headers[0][1]}"
        status = int(headers[0][1])
        if status < 200:
            stream.hints.append((status, dict(headers[1:])))
            return
        if stream.status is not None:
            raise Failure(f"a second head on stream {stream.id}: {headers}")
        stream.status = status
        stream.headers = dict(headers[1:])
        if end:
            self.end(stream)

    def on_DataFrame(self, frame):
        stream = self.known(frame)
        check_open(stream, frame)
        if stream.status is None:
            raise Failure(f"DATA before the head on stream {stream.id}")
        size = frame.flow_controlled_length
        self.room -= size
        stream.room -= size
        # An empty frame may be sent whatever the windows are (6.9.1).
        if size > 0 and (self.room < 0 or stream.room < 0):
            raise Failure(f"DATA of {size} is more than the window has: {self.transcript()}")
        stream.body += frame.data
        if self.renew:
            self.renew_room(self, 0, WINDOW)
            if "END_STREAM" not in frame.flags:
                self.renew_room(stream, stream.id, self.initial_room)
        if "END_STREAM" in frame.flags:
            self.end(stream)

    def renew_room(self, target, id, full):
        # Not for each frame: that would be a flood.
        if target.room < full / 2:
            self.outbox += WindowUpdateFrame(id, full - target.room).serialize()
            target.room = full

    def end(self, stream):
        stream.ended = True
        length = stream.headers.get("content-length")
        bodyless = stream.method == "HEAD" or stream.status in (204, 304)
        if bodyless and stream.body:
            raise Failure(f"a body after HEAD or {stream.status}")
        if not bodyless and length is not None and int(length) != len(stream.body):
            raise Failure(f"content-length {length} for {len(stream.body)} bytes (8.1.1)")

    def known(self, frame):
        if frame.stream_id not in self.streams:
            raise Failure(f"{brief(frame)} on a stream that nobody opened")
        return self.streams[frame.stream_id]

    def transcript(self):
        return ", ".join(self.log[-6:]) or "nothing"


def check_open(stream, frame):
    if stream.ended:
        raise Failure(f"{brief(frame)} after END_STREAM (5.1)")


def check_head(headers):
    names = [name for name, _ in headers]
    if names[0] != ":status" or any(name.startswith(":") for name in names[1:]):
        raise Failure(f"not a response's pseudo-header fields: {headers} (8.3.2)")
    if headers[0][1] == "101":
        raise Failure("101 is not in HTTP/2 (8.6)")
    for name in names:
        if name != name.lower():
            raise Failure(f"a name in upper case: {name} (8.2.1)")
        if name in CONNECTION_SPECIFIC:
            raise Failure(f"a connection-specific field: {name} (8.2.2)")


def brief(frame):
    """Such as `RST_STREAM 1 PROTOCOL_ERROR`."""
    name = type(frame).__name__.removesuffix("Frame")
    parts = [name, str(frame.stream_id), *sorted(frame.flags)]
    if isinstance(frame, (GoAwayFrame, RstStreamFrame)):
        parts.append(code_name(frame.error_code))
    if isinstance(frame, GoAwayFrame):
        parts.append(repr(bytes(frame.additional_data)))
    if isinstance(frame, (DataFrame, WindowUpdateFrame)):
        parts.append(str(getattr(frame, "window_increment", frame.body_len)))
    return " ".join(parts)


def code_name(code):
    return Code(code).name if code in set(Code) else str(code)
