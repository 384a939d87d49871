"""Moves over a WebSocket."""

import asyncio
import zlib

from moves import HOST, dribble, leave, move, perhaps_read, pour, tls


def upgrade(rng):
    offer = b"sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n"
    return (
        b"GET /socket HTTP/1.1\r\n%sconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n" % (HOST, rng.choice([b"", offer]))
    )


def frame(opcode, payload=b"", fin=0x80, rsv=0, masked=0x80, length=None):
    """Masked with zeros, which change nothing. `length` is what the frame says of itself."""
    length = len(payload) if length is None else length
    if length < 126:
        size = bytes([masked | length])
    elif length < 65536:
        size = bytes([masked | 126]) + length.to_bytes(2, "big")
    else:
        size = bytes([masked | 127]) + length.to_bytes(8, "big")
    return bytes([fin | rsv | opcode]) + size + (b"\0" * 4 if masked else b"") + payload


def deflated(data):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = frame(2, deflated(bytes(50_000_000)), rsv=0x40)


async def websocket(target, rng, small=False):
    peer = await target.connect(tls(rng), small=small)
    await peer.send(upgrade(rng))
    await peer.read_until(b"\r\n\r\n")
    return peer


@move(3)
async def floods_a_websocket(target, rng):
    """And reads all of it, or nothing."""
    peer = await websocket(target, rng, small=True)
    flood = rng.choice(
        [
            frame(9) * 1000,
            frame(9, b"p" * 125) * 100,
            frame(10) * 1000,
            frame(2) * 1000,
            frame(1, b"x") * 1000,
            frame(2, bytes(100_000)),
            frame(2, bytes(900_000)),
            frame(2, b"", fin=0) + frame(0, b"", fin=0) * 1000,
            frame(2, b"", fin=0) + frame(0, b"x", fin=0) * 1000 + frame(0) + frame(9),
            frame(1, b"push 20 100"),
        ]
    )
    reading = await perhaps_read(peer, rng)
    try:
        await pour(peer, flood, rng)
    finally:
        if reading:
            reading.cancel()
    await leave(peer, rng)


@move()
async def asks_for_pushes_and_takes_none(target, rng):
    peer = await websocket(target, rng, small=True)
    count, size = rng.choice([(1, 10_000_000), (100, 60_000), (10_000, 1), (20, 1_000_000)])
    await peer.send(frame(1, b"push %d %d" % (count, size)) * rng.choice([1, 5]))
    # It lives, by its own account.
    for _ in range(rng.randrange(20)):
        await peer.send(rng.choice([frame(9), frame(10)]))
        await asyncio.sleep(0.5)
    await leave(peer, rng)


@move(3)
async def malformed_frames(target, rng):
    peer = await websocket(target, rng)
    bad = [
        frame(2, b"x", rsv=0x10),
        frame(2, b"x", rsv=0x40),
        frame(9, b"x", rsv=0x40),
        frame(3, b"x"),
        frame(11),
        frame(2, b"x", masked=0),
        frame(9, b"x" * 126),
        frame(9, b"x", fin=0),
        frame(0, b"x"),
        frame(1, b"x", fin=0) + frame(1, b"x"),
        frame(1, b"\xff\xfe"),
        frame(1, b"\xed\xa0\x80", fin=0),
        frame(8, b"\3"),
        frame(8, b"\3\xed"),
        frame(8, b"\3\xe8\xff"),
        frame(8, b"\0\0"),
        frame(2, b"", length=2**63 - 1),
        frame(2, b"", length=1_000_001),
        frame(2, b"x" * 600_000, fin=0) + frame(0, b"x" * 600_000),
        frame(2, rng.randbytes(100), rsv=0x40),
        BOMB,
        BOMB * 5,
        rng.randbytes(rng.choice([2, 14, 1000])),
        frame(8) + frame(1, b"after the close"),
    ]
    await peer.send(frame(1, b"good") * rng.choice([0, 1, 10]) + rng.choice(bad))
    await leave(peer, rng)


@move()
async def slow_frames(target, rng):
    peer = await websocket(target, rng)
    await dribble(peer, (frame(1, b"slow", fin=0) + frame(9) + frame(0, b"er")) * 20, rng)
    await leave(peer, rng)


@move()
async def ends_a_websocket(target, rng):
    """Perhaps in the middle of a message, with a close frame or not, and any answer unread."""
    peer = await websocket(target, rng)
    await peer.send(
        rng.choice([b"", frame(1, b"x", fin=0), frame(2, bytes(500_000)), frame(2, b"", length=1000)])
        + rng.choice([b"", frame(8), frame(8, b"\3\xe8"), frame(8, b"\x0f\xa0why")])
    )
    await leave(peer, rng)
