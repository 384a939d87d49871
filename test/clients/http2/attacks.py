"""What clients do who mean harm (RFC 9113, 10.5): it ends the connection, or costs little."""

import struct
import time
import uuid
from contextlib import suppress

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .answers import alive
from .peer import END, GET, Code, Failure, Peer, Setting, fields, raw

# Far more than the kernel buffers between a server and a client that does not read.
FLOOD_BYTES = 24 << 20
# Of processes that serve one connection, reset streams included.
MANY = 2000
# More than a server's `send_timeout` in these tests, on a busy machine.
GIVE_UP_SECONDS = 15


def attack(peer, frames, serves=alive):
    """The server ends the connection on the way, for a reason that fits, or serves it afterwards."""
    try:
        for frame in frames:
            if peer.goaway or peer.closed:
                break
            peer.send(frame)
        serves(peer)
    except Failure:
        if not peer.goaway and not peer.closed:
            raise
        ended(peer)


def ended(peer):
    """The connection is over, and if the server said why, it was a reason that fits."""
    peer.until_closed()
    accepted = (Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR, Code.COMPRESSION_ERROR)
    if peer.goaway is not None and peer.goaway.error_code not in accepted:
        raise Failure(f"the connection ended with {peer.transcript()}")


def endless(peer, frames):
    """The server ends the connection on the way: there is no right end that it could wait for."""

    def serves(_peer):
        peer.until_closed()

    attack(peer, frames, serves)


def flood(address, frame):
    """Sends without reading: the server has to end the connection, or to read no more itself."""
    with Peer(address, buffer=4096) as peer:
        peer.socket.settimeout(1)
        many = frame * (65_536 // len(frame))
        try:
            for _ in range(FLOOD_BYTES // len(many)):
                peer.socket.sendall(many)
        except OSError:
            return
        peer.asked += [{}] * (FLOOD_BYTES // len(frame))
        # It may read only to throw away what comes after its GOAWAY.
        peer.socket.setblocking(False)
        peer.until(lambda: peer.closed or peer.goaway, f"end after {FLOOD_BYTES} bytes", 2)


def held(address, group):
    with Peer(address) as peer:
        return int(peer.get(f"/held?group={group}").body)


def group_of_its_own():
    return uuid.uuid4().hex


def rapid_reset(address):
    group = group_of_its_own()
    with Peer(address) as peer:
        block = Encoder().encode(fields(f"/hold?ms=10000&group={group}"))
        ids = range(1, 20_000, 2)
        burst = (
            b"".join(
                HeadersFrame(id, block, flags=END).serialize()
                + RstStreamFrame(id, Code.CANCEL).serialize()
                for id in ids[start : start + 100]
            )
            for start in range(0, len(ids), 100)
        )
        for id in ids:
            peer.stream("GET", id)
        attack(peer, burst)
        processes = held(address, group)
        if processes > MANY:
            raise Failure(f"{processes} processes serve streams that were reset")


def resets_made_by_the_server(address):
    """A client that makes the server reset its streams ("MadeYouReset")."""
    group = group_of_its_own()
    with Peer(address) as peer:
        block = Encoder().encode(fields(f"/hold?ms=10000&group={group}"))
        ids = range(1, 20_000, 2)
        for id in ids:
            peer.stream("GET", id)
        frames = (
            HeadersFrame(id, block, flags=END).serialize()
            + raw(WindowUpdateFrame, 0, id, struct.pack(">I", (1 << 31) - 1))
            for id in ids
        )
        attack(peer, frames)
        processes = held(address, group)
        if processes > MANY:
            raise Failure(f"{processes} processes serve streams that were reset")


def continuation_flood(address):
    with Peer(address) as peer:
        peer.stream("GET")
        literal = b"\x00\x04name\x7f\x81\x7e" + b"v" * 16_256
        parts = (ContinuationFrame(1, literal) for _ in range(1000))
        endless(peer, [HeadersFrame(1, Encoder().encode(GET)), *parts])


def empty_continuations(address):
    with Peer(address) as peer:
        peer.stream("GET")
        burst = raw(ContinuationFrame, 0, 1) * 1000
        endless(peer, [HeadersFrame(1, Encoder().encode(GET)), *[burst] * 1000])


def refused_head(peer, stream, accepted=(431,)):
    """A status, a stream error, or an end."""
    codes = (Code.PROTOCOL_ERROR, Code.ENHANCE_YOUR_CALM, Code.REFUSED_STREAM)

    def serves(_peer):
        peer.until(lambda: stream.done, "the refusal of the header")
        if not (stream.status in accepted if stream.ended else stream.reset in codes):
            raise Failure(f"it was not refused: {peer.transcript()}")
        alive(peer)

    attack(peer, [], serves)


def hpack_bomb(address):
    with Peer(address) as peer:
        # A field of 4 KB, and 12,000 times its index: 48 MB.
        stream = peer.stream("GET")
        value = b"v" * 3900
        entry = b"\x40\x01a\x7f" + bytes([0x80 | (3900 - 127) & 0x7F, (3900 - 127) >> 7]) + value
        block = b"\x82\x86\x84\x41\x09localhost" + entry + b"\xbe" * 12_000
        peer.send(HeadersFrame(stream.id, block, flags=END))
        refused_head(peer, stream)


def header_list_too_large(address):
    with Peer(address) as peer:
        more = [(f"x-{index}", "v" * 8000) for index in range(10)]
        refused_head(peer, peer.open(fields(more=more)))


def many_small_headers(address):
    with Peer(address) as peer:
        # Each counts 32 bytes besides its own (6.5.2).
        refused_head(peer, peer.open(fields(more=[("a", "")] * 3000)))


def trailers_too_large(address):
    with Peer(address) as peer:
        stream = peer.open(fields("/echo", "POST"), end=False)
        block = peer.encoder.encode([(f"x-{index}", "v" * 8000) for index in range(10)])
        peer.send(HeadersFrame(1, block[:16_384], flags=["END_STREAM"]))
        rest = range(16_384, len(block), 16_384)
        peer.send(*[ContinuationFrame(1, block[at : at + 16_384]) for at in rest])
        peer.send(raw(ContinuationFrame, 4, 1))
        # Trailers may be left out (RFC 9110, 6.5.1).
        refused_head(peer, stream, accepted=(431, 200))


def settings_flood(address):
    flood(address, raw(SettingsFrame))


def ping_flood(address):
    flood(address, raw(PingFrame, payload=bytes(8)))


def request_flood(address):
    """Requests of a client that reads no response."""
    group = group_of_its_own()
    with Peer(address, buffer=4096) as peer:
        peer.socket.settimeout(1)
        block = Encoder().encode(fields(f"/request?group={group}", more=[("x", "y" * 100)]))
        with suppress(OSError):
            for id in range(1, 60_000, 2):
                peer.socket.sendall(HeadersFrame(id, block, flags=END).serialize())
        processes = held(address, group)
        if processes > MANY:
            raise Failure(f"{processes} processes wait for a client that does not read")


def empty_data_flood(address):
    with Peer(address) as peer:
        stream = peer.open(fields("/echo", "POST"), end=False)

        def echoes(_peer):
            peer.upload(stream, b"at last")
            if peer.response(stream).body != b"at last":
                raise Failure("the echo is another")

        attack(peer, [raw(DataFrame, 0, 1) * 1000] * 100, echoes)


def priority_flood(address):
    with Peer(address) as peer:
        burst = b"".join(PriorityFrame(id, 0, 16).serialize() for id in range(1, 20_000, 2))
        attack(peer, [burst] * 10)


def window_update_flood(address):
    with Peer(address) as peer:
        peer.open(fields("/hold?ms=1000"))
        attack(peer, [raw(WindowUpdateFrame, 0, 1, b"\0\0\0\1") * 1000] * 100)


def zero_window_for_ever(address):
    for path in ("/large?bytes=100000", "/chunks?bytes=1000000"):
        group = group_of_its_own()
        with Peer(address, settings={Setting.INITIAL_WINDOW_SIZE: 0}) as peer:
            stream = peer.open(fields(f"{path}&group={group}"))
            peer.until(lambda: stream.status, "the head")
            peer.until(lambda: peer.closed or stream.done, "the end of the stream", GIVE_UP_SECONDS)
            eventually_none(address, group)


def client_that_does_not_read(address):
    group = group_of_its_own()
    with Peer(address, settings={Setting.INITIAL_WINDOW_SIZE: (1 << 31) - 1}, buffer=4096) as peer:
        peer.send(WindowUpdateFrame(0, (1 << 30)))
        stream = peer.open(fields(f"/large?bytes=20000000&group={group}"))
        peer.until(lambda: stream.status, "the head")
        eventually_none(address, group)


def vanished_client(address):
    group = group_of_its_own()
    with Peer(address, settings={Setting.INITIAL_WINDOW_SIZE: 0}) as peer:
        for path in ("/large?bytes=100000", "/chunks?bytes=1000000"):
            stream = peer.open(fields(f"{path}&group={group}"))
        peer.until(lambda: stream.status, "the head")
    eventually_none(address, group)


def eventually_none(address, group):
    end = time.monotonic() + GIVE_UP_SECONDS
    while held(address, group) > 0:
        if time.monotonic() > end:
            raise Failure(f"its process goes on after {GIVE_UP_SECONDS} s")
        time.sleep(0.1)


SCENES = [
    ("rapid reset", rapid_reset),
    ("resets that the server is made to send", resets_made_by_the_server),
    ("a flood of CONTINUATION", continuation_flood),
    ("a flood of empty CONTINUATION", empty_continuations),
    ("a small header block that decodes to 48 MB", hpack_bomb),
    ("a header of 80 KB", header_list_too_large),
    ("a header of 3000 small fields", many_small_headers),
    ("trailers of 80 KB", trailers_too_large),
    ("a flood of SETTINGS", settings_flood),
    ("a flood of PING", ping_flood),
    ("requests of a client that reads nothing", request_flood),
    ("a flood of empty DATA", empty_data_flood),
    ("a flood of PRIORITY", priority_flood),
    ("a flood of WINDOW_UPDATE", window_update_flood),
    ("a window of 0 for ever", zero_window_for_ever),
    ("a response to a client that does not read", client_that_does_not_read),
    ("a client that vanishes", vanished_client),
]


def cases(address):
    return ((f"10.5: {name}", lambda scene=scene: scene(address)) for name, scene in SCENES)
