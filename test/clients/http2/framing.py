"""RFC 9113, 3 to 6: the preface, frames, and the states of a stream."""

import socket
import struct
from contextlib import suppress

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .answers import (
    IGNORED,
    Answer,
    alive,
    closed,
    connection_error,
    either_error,
    half_closed,
    idle,
    ignored_or,
    opened,
    reset,
    row,
)
from .peer import (
    GET,
    PATIENCE_SECONDS,
    PREFACE,
    WINDOW,
    Code,
    Failure,
    Peer,
    Setting,
    fields,
    raw,
)

ACK = 1
END_STREAM = 1
END_HEADERS = 4
PADDED = 8
PRIORITY = 32
UNKNOWN = 0xBB

# What GETs, and what POSTs to /echo; the same bytes for every stream.
BLOCK = Encoder().encode(GET)
ECHO = Encoder().encode(fields("/echo", "POST"))

PROTOCOL = connection_error(Code.PROTOCOL_ERROR)
FRAME_SIZE = connection_error(Code.FRAME_SIZE_ERROR)
# 5.1 says PROTOCOL_ERROR for whatever comes on an idle stream, 6.1 says STREAM_CLOSED for DATA.
IDLE_DATA = Answer(goaway=(Code.PROTOCOL_ERROR, Code.STREAM_CLOSED), reset=(Code.STREAM_CLOSED,))


def number(value, size=4):
    return value.to_bytes(size, "big")


def setting(identifier, value):
    return raw(SettingsFrame, payload=struct.pack(">HI", identifier, value))


def headers(stream, block=BLOCK, flags=END_HEADERS | END_STREAM):
    return raw(HeadersFrame, flags, stream, block)


# Each: its name with its clause, the state of stream 1, what is sent, what has to come. What is sent
# may depend on the server's SETTINGS_MAX_FRAME_SIZE.
FRAMES = [
    ("4.1: a frame of an unknown type", idle, [raw(UNKNOWN, 0xFF, 0, b"what")], IGNORED),
    ("4.1: the same on a stream", opened, [raw(UNKNOWN, 0xFF, 1, b"what")], IGNORED),
    ("4.1: the same on an idle stream", idle, [raw(UNKNOWN, 0, 1)], ignored_or(Code.PROTOCOL_ERROR)),
    ("4.1: undefined flags", idle, [raw(PingFrame, 0xFE, 0, bytes(8))], IGNORED),
    ("4.1: the reserved bit", idle, [raw(PingFrame, 0, 1 << 31, bytes(8))], IGNORED),
    ("RFC 9218: PRIORITY_UPDATE", idle, [raw(0x10, 0, 0, number(1) + b"u=1")], IGNORED),
    # A stream error suffices where nothing but the stream is concerned.
    (
        "4.2: DATA that is too large",
        opened,
        lambda size: [raw(DataFrame, 0, 1, bytes(size + 1))],
        either_error(Code.FRAME_SIZE_ERROR),
    ),
    (
        "4.2: HEADERS that are too large",
        idle,
        lambda size: [headers(1, bytes(size + 1))],
        FRAME_SIZE,
    ),
    (
        "4.2: CONTINUATION that is too large",
        idle,
        lambda size: [headers(1, BLOCK, 0), raw(ContinuationFrame, 0, 1, bytes(size + 1))],
        FRAME_SIZE,
    ),
    (
        "4.2: an unknown type that is too large",
        idle,
        lambda size: [raw(UNKNOWN, 0, 0, bytes(size + 1))],
        FRAME_SIZE,
    ),
    (
        "4.2: only the head of a frame of 16 MiB",
        opened,
        [raw(DataFrame, 0, 1, length=(1 << 24) - 1)],
        either_error(Code.FRAME_SIZE_ERROR),
    ),
    # 5.1 and 6.1: DATA
    ("6.1: DATA on stream 0", idle, [raw(DataFrame, 0, 0, b"x")], PROTOCOL),
    ("5.1: DATA on an idle stream", idle, [raw(DataFrame, 0, 1, b"x")], IDLE_DATA),
    (
        "5.1: DATA on a half-closed stream",
        half_closed,
        [raw(DataFrame, 0, 1, b"x")],
        either_error(Code.STREAM_CLOSED),
    ),
    (
        "5.1: DATA on a closed stream",
        closed,
        [raw(DataFrame, END_STREAM, 1, b"x")],
        either_error(Code.STREAM_CLOSED),
    ),
    # What was under way when the stream was reset is no error (5.1); this server cannot know.
    (
        "5.1: DATA after the client's own RST_STREAM",
        reset,
        [raw(DataFrame, END_STREAM, 1, b"x")],
        ignored_or(Code.STREAM_CLOSED),
    ),
    ("6.1: padding of more than DATA has", opened, [raw(DataFrame, PADDED, 1, b"\5abcd")], PROTOCOL),
    ("6.1: padding of as much as DATA has", opened, [raw(DataFrame, PADDED, 1, b"\4abc")], PROTOCOL),
    (
        "6.1: padded DATA without the length of it",
        opened,
        [raw(DataFrame, PADDED, 1)],
        connection_error(Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR),
    ),
    # 6.2: HEADERS
    ("6.2: HEADERS on stream 0", idle, [headers(0)], PROTOCOL),
    ("5.1.1: HEADERS on a stream of even number", idle, [headers(2)], PROTOCOL),
    (
        "5.1.1: HEADERS on a stream of lower number than before",
        idle,
        [headers(5), headers(3)],
        connection_error(Code.PROTOCOL_ERROR, Code.STREAM_CLOSED),
    ),
    (
        "5.1: HEADERS on a half-closed stream",
        half_closed,
        [headers(1)],
        either_error(Code.STREAM_CLOSED),
    ),
    (
        "5.1: HEADERS on a closed stream",
        closed,
        [headers(1)],
        Answer(goaway=(Code.STREAM_CLOSED, Code.PROTOCOL_ERROR), reset=(Code.STREAM_CLOSED,)),
    ),
    (
        "6.2: padding of more than HEADERS have",
        idle,
        [headers(1, b"\xff" + BLOCK, END_HEADERS | PADDED)],
        PROTOCOL,
    ),
    (
        "6.2: HEADERS too short for their priority",
        idle,
        [headers(1, b"\0\0", END_HEADERS | PRIORITY)],
        connection_error(Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR),
    ),
    # RFC 7540 (5.3.1) made a stream depending on itself an error; RFC 9113 ignores priorities.
    (
        "5.3.2: HEADERS that depend on themselves",
        idle,
        [headers(1, number(1) + b"\x10" + BLOCK, END_HEADERS | END_STREAM | PRIORITY)],
        Answer((Code.PROTOCOL_ERROR,), (Code.PROTOCOL_ERROR,), statuses=(200,)),
    ),
    # 6.3: PRIORITY
    ("6.3: PRIORITY on an idle stream", idle, [PriorityFrame(1, 0, 16)], IGNORED),
    ("6.3: PRIORITY on a closed stream", closed, [PriorityFrame(1, 0, 16)], IGNORED),
    ("6.3: PRIORITY on stream 0", idle, [raw(PriorityFrame, 0, 0, bytes(5))], PROTOCOL),
    (
        "6.3: PRIORITY of 4 bytes",
        opened,
        [raw(PriorityFrame, 0, 1, bytes(4))],
        either_error(Code.FRAME_SIZE_ERROR),
    ),
    (
        "6.3: PRIORITY that depends on itself",
        opened,
        [PriorityFrame(1, 1, 16)],
        ignored_or(Code.PROTOCOL_ERROR),
    ),
    # 6.4: RST_STREAM
    ("6.4: RST_STREAM on stream 0", idle, [raw(RstStreamFrame, 0, 0, number(8))], PROTOCOL),
    ("6.4: RST_STREAM on an idle stream", idle, [RstStreamFrame(1, Code.CANCEL)], PROTOCOL),
    ("6.4: RST_STREAM of 3 bytes", opened, [raw(RstStreamFrame, 0, 1, bytes(3))], FRAME_SIZE),
    ("6.4: RST_STREAM of 5 bytes", opened, [raw(RstStreamFrame, 0, 1, bytes(5))], FRAME_SIZE),
    ("5.1: RST_STREAM on a closed stream", closed, [RstStreamFrame(1, Code.CANCEL)], IGNORED),
    ("7: RST_STREAM with an unknown code", opened, [RstStreamFrame(1, 0xBAD)], IGNORED),
    # 6.5: SETTINGS
    ("6.5: SETTINGS on a stream", idle, [raw(SettingsFrame, 0, 1)], PROTOCOL),
    ("6.5: SETTINGS of 5 bytes", idle, [raw(SettingsFrame, payload=bytes(5))], FRAME_SIZE),
    ("6.5: SETTINGS ACK of 6 bytes", idle, [raw(SettingsFrame, ACK, 0, bytes(6))], FRAME_SIZE),
    ("6.5.2: ENABLE_PUSH 2", idle, [setting(Setting.ENABLE_PUSH, 2)], PROTOCOL),
    (
        "6.5.2: INITIAL_WINDOW_SIZE 2^31",
        idle,
        [setting(Setting.INITIAL_WINDOW_SIZE, 1 << 31)],
        connection_error(Code.FLOW_CONTROL_ERROR),
    ),
    ("6.5.2: MAX_FRAME_SIZE 16383", idle, [setting(Setting.MAX_FRAME_SIZE, 16_383)], PROTOCOL),
    ("6.5.2: MAX_FRAME_SIZE 2^24", idle, [setting(Setting.MAX_FRAME_SIZE, 1 << 24)], PROTOCOL),
    (
        "6.9.2: INITIAL_WINDOW_SIZE that takes a window over its maximum",
        opened,
        [WindowUpdateFrame(1, 1 << 30), setting(Setting.INITIAL_WINDOW_SIZE, (1 << 31) - 1)],
        connection_error(Code.FLOW_CONTROL_ERROR),
    ),
    # 6.6: PUSH_PROMISE
    (
        "6.6: PUSH_PROMISE from a client",
        opened,
        [raw(PushPromiseFrame, END_HEADERS, 1, number(2) + BLOCK)],
        PROTOCOL,
    ),
    # 6.7: PING
    ("6.7: PING of 7 bytes", idle, [raw(PingFrame, payload=bytes(7))], FRAME_SIZE),
    ("6.7: PING of 9 bytes", idle, [raw(PingFrame, payload=bytes(9))], FRAME_SIZE),
    ("6.7: PING on a stream", opened, [raw(PingFrame, 0, 1, bytes(8))], PROTOCOL),
    # 6.8: GOAWAY
    ("6.8: GOAWAY on a stream", opened, [raw(GoAwayFrame, 0, 1, bytes(8))], PROTOCOL),
    ("6.8: GOAWAY of 7 bytes", idle, [raw(GoAwayFrame, 0, 0, bytes(7))], FRAME_SIZE),
    # 6.9: WINDOW_UPDATE
    ("6.9: WINDOW_UPDATE of 0 bytes", opened, [raw(WindowUpdateFrame, 0, 1)], FRAME_SIZE),
    ("6.9: WINDOW_UPDATE of 5 bytes", idle, [raw(WindowUpdateFrame, 0, 0, bytes(5))], FRAME_SIZE),
    (
        "6.9: WINDOW_UPDATE by 0 on a stream",
        opened,
        [raw(WindowUpdateFrame, 0, 1, number(0))],
        either_error(Code.PROTOCOL_ERROR),
    ),
    (
        "6.9: WINDOW_UPDATE by 0 on the connection",
        idle,
        [raw(WindowUpdateFrame, 0, 0, number(0))],
        PROTOCOL,
    ),
    ("5.1: WINDOW_UPDATE on an idle stream", idle, [WindowUpdateFrame(1, 1)], PROTOCOL),
    ("6.9: WINDOW_UPDATE on a half-closed stream", half_closed, [WindowUpdateFrame(1, 1)], IGNORED),
    ("6.9: WINDOW_UPDATE on a closed stream", closed, [WindowUpdateFrame(1, 1)], IGNORED),
    (
        "6.9.1: WINDOW_UPDATE that takes a stream's window over its maximum",
        opened,
        [WindowUpdateFrame(1, (1 << 31) - 1)],
        either_error(Code.FLOW_CONTROL_ERROR),
    ),
    (
        "6.9.1: WINDOW_UPDATE that takes the connection's window over its maximum",
        idle,
        [WindowUpdateFrame(0, (1 << 31) - 1)],
        connection_error(Code.FLOW_CONTROL_ERROR),
    ),
    # 6.10: CONTINUATION
    (
        "6.10: CONTINUATION on stream 0",
        idle,
        [headers(1, BLOCK, 0), raw(ContinuationFrame, END_HEADERS, 0)],
        PROTOCOL,
    ),
    ("6.10: CONTINUATION of nothing", idle, [ContinuationFrame(1, BLOCK)], PROTOCOL),
    (
        "6.10: CONTINUATION of HEADERS that have ended",
        opened,
        [raw(ContinuationFrame, END_HEADERS, 1, BLOCK)],
        PROTOCOL,
    ),
    (
        "6.10: CONTINUATION on another stream",
        idle,
        [headers(1, BLOCK, 0), raw(ContinuationFrame, END_HEADERS, 3)],
        PROTOCOL,
    ),
    *[
        (f"6.10: {what} within a header block", state, [headers(stream, BLOCK, 0), frame], PROTOCOL)
        for what, state, stream, frame in [
            ("DATA", opened, 3, raw(DataFrame, 0, 1, b"x")),
            ("DATA of the same stream", idle, 1, raw(DataFrame, 0, 1, b"x")),
            ("HEADERS", idle, 1, headers(3)),
            ("PING", idle, 1, raw(PingFrame, 0, 0, bytes(8))),
            ("SETTINGS", idle, 1, raw(SettingsFrame)),
            ("WINDOW_UPDATE", idle, 1, WindowUpdateFrame(0, 1)),
            ("RST_STREAM", opened, 3, RstStreamFrame(1, Code.CANCEL)),
            # Extension frames are no exception (5.5).
            ("an unknown type", idle, 1, raw(UNKNOWN)),
        ]
    ],
]


def settings_come_first(address):
    # That they do, and are acknowledged, is checked on every connection.
    with Peer(address) as peer:
        alive(peer)


def byte_by_byte(address):
    with Peer(address, handshake=False) as peer:
        peer.asked.append({})
        stream = peer.stream("GET")
        for byte in PREFACE + raw(SettingsFrame) + headers(1):
            # Not by the peer, which may have to answer within a frame.
            peer.socket.send(bytes([byte]))
        peer.response(stream)
        alive(peer)


def all_at_once(address):
    with Peer(address, handshake=False) as peer:
        peer.asked.append({})
        stream = peer.stream("GET")
        peer.send(PREFACE + raw(SettingsFrame) + headers(1) + raw(PingFrame, payload=b"together"))
        peer.response(stream)
        peer.until(lambda: b"together" in peer.pongs, "the acknowledgement of the PING")


def preface_that_breaks_off(address):
    with Peer(address, handshake=False) as peer:
        peer.send(PREFACE[:-2] + b"\r\r" + raw(SettingsFrame))
        peer.socket.settimeout(PATIENCE_SECONDS)
        # It may as well be a bad request of HTTP/1.1, and be answered as that.
        with suppress(ConnectionError):
            while peer.socket.recv(1000):
                pass


def preface_without_settings(address):
    with Peer(address, handshake=False) as peer:
        peer.send(PREFACE + raw(PingFrame, payload=bytes(8)))
        peer.until(lambda: peer.closed or peer.pongs, "the end of the connection")
        if peer.pongs:
            raise Failure(f"what came before SETTINGS was answered: {peer.transcript()}")
        Answer(goaway=(Code.PROTOCOL_ERROR,), silent=True).judge(peer)


def every_settings_acknowledged(address):
    with Peer(address) as peer:
        peer.configure({})
        peer.configure({0xABC: 7})
        peer.configure({Setting.MAX_CONCURRENT_STREAMS: 0, Setting.ENABLE_PUSH: 0})
        # Several before the first answer; the order of one frame's is kept.
        size = Setting.INITIAL_WINDOW_SIZE
        peer.asked += [{}, {}, {size: 100}]
        twice = struct.pack(">HIHI", size, 5, size, 100)
        peer.send(raw(SettingsFrame), raw(SettingsFrame), raw(SettingsFrame, payload=twice))
        peer.until(lambda: peer.acks == len(peer.asked), "every acknowledgement")
        # Of these windows every DATA frame is held to.
        alive(peer)


def ping_is_echoed(address):
    with Peer(address) as peer:
        for payload in [bytes(8), b"\xff" * 8, b"12345678"]:
            peer.ping(payload)
            if peer.pongs[-1] != payload:
                raise Failure(f"{peer.pongs[-1]} for {payload}")
        peer.send(raw(PingFrame, ACK, 0, b"not this"))
        peer.ping(b"but this")
        if peer.pongs[-1] != b"but this":
            raise Failure("an acknowledgement was acknowledged")


def frame_of_largest_size(address):
    with Peer(address) as peer:
        size = min(peer.max_frame_size(), WINDOW)
        stream = opened(peer)
        peer.data(stream, b"x" * size, end=True)
        if len(peer.response(stream).body) != size:
            raise Failure("not all of it came back")


def padded_headers(address):
    with Peer(address) as peer:
        stream = peer.stream("GET")
        block = b"\7" + number(0) + b"\x10" + BLOCK + bytes(7)
        peer.send(headers(1, block, END_HEADERS | END_STREAM | PADDED | PRIORITY))
        peer.response(stream)


def continued_headers(address):
    with Peer(address) as peer:
        stream = peer.stream("GET")
        peer.send(headers(1, b"", END_STREAM))
        # No more of them: that they are many may be held against a client.
        peer.send(raw(ContinuationFrame, 0, 1, BLOCK[:5]))
        peer.send(raw(ContinuationFrame, 0, 1, BLOCK[5:]))
        peer.send(raw(ContinuationFrame, END_HEADERS, 1))
        peer.response(stream)
        alive(peer)


def unfinished_headers(address):
    with Peer(address) as peer:
        peer.send(headers(1, BLOCK[:3], 0))
        peer.socket.shutdown(socket.SHUT_WR)
        peer.until_closed()


def goaway_from_the_client(address):
    with Peer(address) as peer:
        stream = opened(peer)
        peer.send(GoAwayFrame(0, 0, Code.NO_ERROR))
        # What was under way is finished.
        peer.upload(stream, b"goodbye")
        if peer.response(stream).body != b"goodbye":
            raise Failure("the open stream was not finished")


def stream_ids_end(address):
    with Peer(address) as peer:
        last = (1 << 31) - 1
        peer.response(peer.open(id=last))
        peer.send(headers(1))
        connection_error(Code.PROTOCOL_ERROR, Code.STREAM_CLOSED).judge(peer)


def skipped_ids(address):
    with Peer(address) as peer:
        for id in [1, 7, 1001]:
            peer.response(peer.open(id=id))
        peer.send(RstStreamFrame(5, Code.CANCEL))
        # 3 and 5 were closed when 7 was opened (5.1.1).
        alive(peer)


SCENES = [
    ("3.4: SETTINGS come first and are acknowledged", settings_come_first),
    ("3.4: a preface that comes byte by byte", byte_by_byte),
    ("3.4: a request in the same segment as the preface", all_at_once),
    ("3.4: a preface that is wrong", preface_that_breaks_off),
    ("3.4: a preface without SETTINGS", preface_without_settings),
    ("6.5.3: all SETTINGS are acknowledged, unknown ones ignored", every_settings_acknowledged),
    ("6.7: PING is echoed, its acknowledgement is not", ping_is_echoed),
    ("4.2: DATA of the largest size", frame_of_largest_size),
    ("6.2: HEADERS with padding and priority", padded_headers),
    ("6.10: HEADERS in four parts, two of them empty", continued_headers),
    ("6.10: HEADERS that are never finished", unfinished_headers),
    ("6.8: GOAWAY from the client", goaway_from_the_client),
    ("5.1.1: the last of the stream identifiers", stream_ids_end),
    ("5.1.1: skipped stream identifiers", skipped_ids),
]


def cases(address):
    yield from ((name, lambda scene=scene: scene(address)) for name, scene in SCENES)
    yield from ((name, lambda rest=rest: row(address, *rest)) for name, *rest in FRAMES)
