"""Moves over HTTP/2, over TCP by prior knowledge, and the WebSockets in it (RFC 8441)."""

import asyncio
import functools

from hpack import Encoder

from moves import LONG_SECONDS, dribble, leave, move, perhaps_read, pour, rest, tls
from over_websocket import frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
LARGEST_WINDOW = 2**31 - 1


def h2_frame(kind, flags=0, stream=0, payload=b"", length=None):
    length = len(payload) if length is None else length
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(window=None):
    payload = b"" if window is None else INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
    return h2_frame(SETTINGS, payload=payload)


@functools.lru_cache(maxsize=1024)
def block(path, method="GET", more=()):
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost"), *more]
    # Without the dynamic table, each block stands for itself.
    return Encoder().encode([(name, value, True) for name, value in fields], huffman=False)


def get(stream, path, more=(), method="GET", flags=END_STREAM | END_HEADERS):
    return h2_frame(HEADERS, flags, stream, block(path, method, tuple(more)))


CONNECT = [(":protocol", "websocket"), ("sec-websocket-version", "13")]


async def http2(target, rng, window=None, small=False):
    over_tls = tls(rng)
    peer = await target.connect(over_tls, "h2" if over_tls else None, small=small)
    await peer.send(PREFACE + settings(window))
    return peer


async def flood(target, rng, data, small=False, window=None):
    peer = await http2(target, rng, small=small, window=window)
    reading = await perhaps_read(peer, rng)
    try:
        await pour(peer, data, rng)
    finally:
        if reading:
            reading.cancel()
    await leave(peer, rng)


@move(3)
async def http2_takes_nothing(target, rng):
    """By a window of 0, or by windows without bounds and a socket that is not read."""
    greedy = rng.random() < 0.5
    peer = await http2(target, rng, LARGEST_WINDOW if greedy else 0, small=True)
    if greedy:
        await peer.send(h2_frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65535).to_bytes(4, "big")))
    path = rng.choice(["/page", "/file", "/chunks", "/hello"])
    async with asyncio.timeout(LONG_SECONDS):
        await peer.send(b"".join(get(1 + 2 * n, path) for n in range(rng.choice([1, 60, 300]))))
    for _ in range(rng.randrange(10)):
        await asyncio.sleep(1)
        await peer.send(rng.choice([b"", h2_frame(PING, payload=b"12345678")]))
    await leave(peer, rng)


@move(3)
async def http2_websocket_without_window(target, rng):
    peer = await http2(target, rng, window=rng.choice([0, 0, 10]), small=True)
    await peer.send(get(1, "/socket", CONNECT, "CONNECT", END_HEADERS))
    data = rng.choice([frame(9) * 1000, frame(2, bytes(10_000)), frame(1, b"push 10 10000")])
    # What the first window of a stream takes of it.
    for _ in range(rng.choice([1, 5, 20])):
        await peer.send(h2_frame(DATA, 0, 1, data))
        await rest(rng, 0.3)
    await leave(peer, rng)


@move()
async def rapid_reset(target, rng):
    peer = await http2(target, rng)
    reading = await perhaps_read(peer, rng)
    try:
        path = rng.choice(["/hello", "/slow", "/events?nnnnnnnnnnnnnnnnnnnnnnnnnnnnn"])
        for batch in range(rng.choice([1, 20, 50])):
            streams = range(1 + batch * 200, 1 + batch * 200 + 200, 2)
            cancel = b"\0\0\0\x08"
            async with asyncio.timeout(LONG_SECONDS):
                await peer.send(
                    b"".join(get(n, path) + h2_frame(RST_STREAM, 0, n, cancel) for n in streams)
                )
    finally:
        if reading:
            reading.cancel()
    await leave(peer, rng)


@move(3)
async def http2_floods(target, rng):
    data = rng.choice(
        [
            settings() * 100,
            h2_frame(PING, payload=b"12345678") * 100,
            h2_frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 100,
            h2_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100,
            h2_frame(0xBB, 0xFF, 1, b"unknown") * 100,
            h2_frame(HEADERS, 0, 1, block("/hello")) + h2_frame(CONTINUATION, 0, 1, b"\0\1x\1y") * 100,
            h2_frame(HEADERS, 0, 1, block("/hello")) + h2_frame(CONTINUATION, 0, 1) * 100,
        ]
    )
    await flood(target, rng, data, small=True)


@move()
async def http2_empty_data(target, rng):
    peer = await http2(target, rng)
    await peer.send(get(1, "/echo", method="POST", flags=END_HEADERS))
    await pour(peer, h2_frame(DATA, 0, 1) * 100, rng)


@move()
async def http2_body_that_stops(target, rng):
    peer = await http2(target, rng)
    for n in range(1, 2 * rng.choice([1, 30]), 2):
        path = rng.choice(["/echo", "/ignore"])
        await peer.send(get(n, path, method="POST", flags=END_HEADERS) + h2_frame(DATA, 0, n, b"some"))
    await rest(rng)
    await leave(peer, rng)


@move(3)
async def malformed_http2(target, rng):
    bad = [
        h2_frame(PING, payload=b"123456789"),
        h2_frame(SETTINGS, payload=b"12345"),
        h2_frame(SETTINGS, payload=b"\0\4\xff\xff\xff\xff"),
        h2_frame(WINDOW_UPDATE, payload=b"12345"),
        h2_frame(WINDOW_UPDATE, payload=b"\0\0\0\0"),
        h2_frame(WINDOW_UPDATE, payload=b"\x7f\xff\xff\xff") * 2,
        h2_frame(GOAWAY, payload=b"1234567"),
        h2_frame(RST_STREAM, 0, 1, b"12345"),
        h2_frame(RST_STREAM, 0, 99, b"\0\0\0\0"),
        h2_frame(DATA, 0, 1, b"idle"),
        h2_frame(DATA, 0, 0, b"none"),
        h2_frame(DATA, 8, 1, b"\xff"),
        h2_frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"),
        h2_frame(CONTINUATION, END_HEADERS, 1, b""),
        h2_frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x80"),
        h2_frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        h2_frame(HEADERS, END_STREAM | END_HEADERS, 2, block("/hello")),
        h2_frame(HEADERS, END_STREAM | END_HEADERS, 0, block("/hello")),
        get(1, "/hello", [("Upper", "case")]),
        get(1, "/hello", [("line", "a\nb")]),
        get(1, "/hello", [(":late", "x")]),
        get(1, "/hello", [("connection", "close")]),
        get(1, "/hello", [("x", "y" * 100_000)])[:16_000],
        get(1, "/hello", [("x", "y")] * 500),
        get(1, "/hello") + get(1, "/hello"),
        get(3, "/slow") + get(1, "/hello"),
        get(1, "/echo", [("content-length", "5")], "POST", END_HEADERS) + h2_frame(DATA, 1, 1, b"hello!"),
        get(1, "/echo", (), "POST", END_HEADERS) + get(1, "/x"),
        h2_frame(DATA, 0, 1, b"", length=2**24 - 1) + bytes(20_000),
        rng.randbytes(rng.choice([9, 100, 10_000])),
    ]
    peer = await http2(target, rng)
    before = rng.choice([b"", get(1, "/slow"), get(1, "/chunks"), get(1, "/socket", CONNECT, "CONNECT", 4)])
    await peer.send(before + rng.choice(bad))
    await leave(peer, rng)


@move()
async def http2_half_begun(target, rng):
    peer = await target.connect(False)
    await dribble(peer, (PREFACE + settings() + get(1, "/page"))[: rng.randrange(100)], rng)
    await leave(peer, rng)


@move()
async def http2_and_away(target, rng):
    peer = await http2(target, rng)
    await peer.send(b"".join(get(n, rng.choice(["/slow", "/page", "/chunks", "/raise"])) for n in range(1, 40, 2)))
    if rng.random() < 0.3:
        await peer.send(h2_frame(GOAWAY, payload=bytes(8)))
    await rest(rng, 0.3)
    await leave(peer, rng)
