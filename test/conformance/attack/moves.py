"""What attackers do: one function for each kind, that ends in any way. MOVES has them all.

A move gets the target and its own random numbers, and decides everything by these. What the server does is
not judged here: it may answer, refuse or end the connection.
"""

import asyncio
import functools
import zlib

from hpack import Encoder

from peer import GONE

HOST = b"host: localhost\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
LARGEST_WINDOW = 2**31 - 1

# Longer than the server's deadlines.
LONG_SECONDS = 5

MOVES = []


def move(weight=2):
    def add(function):
        MOVES.extend([function] * weight)
        return function

    return add


async def rest(rng, longest=LONG_SECONDS):
    await asyncio.sleep(rng.random() * longest)


async def leave(peer, rng):
    """In one of the ways that there are to end a connection, or with none."""
    way = rng.choice(["reset", "close", "vanish", "half-close", "stay"])
    if way == "reset":
        peer.reset()
    elif way == "close":
        peer.close()
    elif way == "vanish":
        peer.vanish()
    elif way == "half-close":
        peer.half_close()
        await asyncio.wait_for(peer.read_on(), rng.random() * LONG_SECONDS)
    else:
        await rest(rng)


async def dribble(peer, data, rng):
    """In small pieces, slowly or not, perhaps not all of it."""
    pause = rng.choice([0, 0.001, 0.05, 0.5])
    until = asyncio.get_running_loop().time() + LONG_SECONDS
    at = 0
    while at < len(data) and asyncio.get_running_loop().time() < until:
        size = rng.choice([1, 1, 2, 7, 100])
        await peer.send(data[at : at + size])
        at += size
        await asyncio.sleep(pause)


async def pour(peer, data, rng):
    """As much of it as goes in a while, whatever comes back."""
    try:
        async with asyncio.timeout(0.5 + rng.random() * LONG_SECONDS):
            while True:
                await peer.send(data)
                # Or a send that never waits would never let others run.
                await asyncio.sleep(0)
    except TimeoutError:
        pass


async def perhaps_read(peer, rng):
    """Reads all that comes, on the side, or nothing."""
    if rng.random() < 0.5:
        return asyncio.create_task(read_quietly(peer))


async def read_quietly(peer):
    try:
        await peer.read_on()
    except GONE:
        pass


def tls(rng):
    return rng.random() < 0.4


# Connections.


@move(1)
async def flood_of_connections(target, rng):
    peers = []
    try:
        for _ in range(rng.choice([20, 100, 200])):
            peers.append(await target.connect(False))
        await rest(rng, 2)
    finally:
        for peer in peers:
            rng.choice([peer.reset, peer.vanish, peer.close])()


@move()
async def silence(target, rng):
    peer = await target.connect(tls(rng))
    await rest(rng)
    await leave(peer, rng)


@move()
async def garbage(target, rng):
    peer = await target.connect(tls(rng))
    await dribble(peer, rng.randbytes(rng.choice([1, 10, 1000, 100_000])), rng)
    await leave(peer, rng)


# TLS.


def client_hello(rng):
    """A record with a ClientHello that is nearly one."""
    body = b"\x03\x03" + rng.randbytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + b"\0\0"
    hello = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(hello).to_bytes(2, "big") + hello


@move()
async def slow_client_hello(target, rng):
    peer = await target.connect(True, raw=True)
    await dribble(peer, client_hello(rng), rng)
    await leave(peer, rng)


@move()
async def not_tls(target, rng):
    peer = await target.connect(True, raw=True)
    records = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\3\1\0\0" * 1000,
        b"\x16\3\1\xff\xff" + rng.randbytes(70_000),
        b"\x17\3\3\x40\0" + rng.randbytes(0x4000),
        b"\x15\3\3\0\2\2\x28",
        client_hello(rng)[:-3] + rng.randbytes(3),
    ]
    await peer.send(rng.choice(records))
    await leave(peer, rng)


@move()
async def tls_and_away(target, rng):
    async def one():
        peer = await target.connect(True, rng.choice([None, "h2", "http/1.1", "nonsense"]))
        peer.reset()

    for _ in range(rng.choice([1, 5, 20])):
        await asyncio.gather(*(one() for _ in range(3)), return_exceptions=True)


# HTTP/1.


def requests(rng):
    body = rng.randbytes(rng.choice([1, 1000, 70_000]))
    return [
        b"GET /hello?%d HTTP/1.1\r\n%s\r\n" % (rng.getrandbits(32), HOST),
        b"GET /page HTTP/1.1\r\n%s\r\n" % HOST,
        b"GET /file HTTP/1.1\r\n%s\r\n" % HOST,
        b"GET /chunks HTTP/1.1\r\n%s\r\n" % HOST,
        b"GET /slow HTTP/1.1\r\n%s\r\n" % HOST,
        b"GET /events?%s HTTP/1.1\r\n%s\r\n" % (b"n" * 100, HOST),
        b"HEAD /page HTTP/1.1\r\n%s\r\n" % HOST,
        b"GET /raise HTTP/1.1\r\n%s\r\n" % HOST,
        b"GET /hello HTTP/1.0\r\n\r\n",
        b"POST /raise HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (HOST, len(body), body),
        b"POST /echo HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (HOST, len(body), body),
        b"POST /ignore HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (HOST, len(body), body),
        b"POST /echo HTTP/1.1\r\n%stransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (HOST, len(body), body),
        b"GET /hello HTTP/1.1\r\n%saccept-encoding: gzip, zstd\r\n\r\n" % HOST,
        upgrade(rng),
    ]


def request(rng):
    return rng.choice(requests(rng))


@move(3)
async def a_request_and_away(target, rng):
    """A whole one, or several at once, and then any end."""
    peer = await target.connect(tls(rng))
    await peer.send(b"".join(request(rng) for _ in range(rng.choice([1, 1, 3]))))
    await rest(rng, 0.05)
    await leave(peer, rng)


@move()
async def slow_request(target, rng):
    peer = await target.connect(tls(rng))
    await dribble(peer, request(rng), rng)
    await leave(peer, rng)


@move(3)
async def mutated_requests(target, rng):
    """Bytes changed, lost, doubled or made up."""
    peer = await target.connect(tls(rng))
    data = bytearray(b"".join(request(rng) for _ in range(rng.choice([1, 3]))))
    for _ in range(rng.choice([1, 1, 3, 10])):
        at = rng.randrange(len(data))
        how = rng.choice(["change", "lose", "double", "insert", "cut"])
        if how == "change":
            data[at] = rng.randrange(256)
        elif how == "lose":
            del data[at : at + rng.choice([1, 2, 50])]
        elif how == "double":
            data[at:at] = data[at : at + 50]
        elif how == "insert":
            data[at:at] = rng.choice([b"\0", b"\r\n", b"\n", b" ", b"\xff", b": ", b"0\r\n\r\n"])
        else:
            del data[at + 1 :]
        data = data or bytearray(b"x")
    await peer.send(bytes(data))
    await leave(peer, rng)


MALFORMED = [
    b"GET /hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET /hello HTTP/1.1\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"a" * 70_000),
    b"%s / HTTP/1.1\r\nhost: a\r\n\r\n" % (b"A" * 70_000),
    b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n" % (b"a" * 200_000),
    b"GET / HTTP/1.1\r\nhost: a\r\n%s\r\n" % (b"x: y\r\n" * 2000),
    b"GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n continued\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;\0x\r\nhello\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: %s\r\n\r\n" % (b"a" * 100_000),
    b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\n",
    b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    b"\r\n" * 10_000,
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n\r\n",
]


@move(3)
async def malformed_request(target, rng):
    peer = await target.connect(tls(rng))
    await peer.send(request(rng) * rng.choice([0, 0, 1]) + rng.choice(MALFORMED))
    # Such as end nothing go on for ever.
    if rng.random() < 0.3:
        await dribble(peer, b"x" * 100, rng)
    await leave(peer, rng)


@move(3)
async def takes_nothing(target, rng):
    """Asks for more than the kernel takes, and reads none of it."""
    peer = await target.connect(tls(rng), small=True)
    asked = rng.choice([b"/page", b"/file", b"/chunks", b"/hello"])
    asked = b"GET %s HTTP/1.1\r\n%s\r\n" % (asked, HOST)
    async with asyncio.timeout(LONG_SECONDS):
        await peer.send(asked * rng.choice([10, 100, 1000]))
    await rest(rng, 2 * LONG_SECONDS)
    await leave(peer, rng)


@move()
async def takes_little(target, rng):
    peer = await target.connect(tls(rng), small=True)
    await peer.send(b"GET /page HTTP/1.1\r\n%s\r\n" % HOST * 10)
    async with asyncio.timeout(2 * LONG_SECONDS):
        while await peer.reader.read(rng.choice([1, 100])):
            await asyncio.sleep(0.1)


@move()
async def body_without_end(target, rng):
    peer = await target.connect(tls(rng))
    path = rng.choice([b"/echo", b"/ignore", b"/raise", b"/nowhere"])
    expect = rng.choice([b"", b"expect: 100-continue\r\n"])
    head = b"POST %s HTTP/1.1\r\n%s%s" % (path, HOST, expect)
    chunk = rng.choice(
        [b"1\r\nx\r\n", b"1;" + b"e" * 100 + b"\r\nx\r\n", b"4000\r\n" + b"x" * 0x4000 + b"\r\n", b"0" * 1000]
    )
    reading = await perhaps_read(peer, rng)
    try:
        if rng.random() < 0.5:
            await peer.send(head + b"transfer-encoding: chunked\r\n\r\n")
            await pour(peer, chunk * 10, rng)
        else:
            await peer.send(head + b"content-length: 1000000000\r\n\r\n")
            await pour(peer, rng.choice([b"x", b"x" * 100_000]), rng)
    finally:
        if reading:
            reading.cancel()
    await leave(peer, rng)


@move()
async def body_that_stops(target, rng):
    peer = await target.connect(tls(rng))
    path = rng.choice([b"/echo", b"/ignore"])
    await peer.send(b"POST %s HTTP/1.1\r\n%scontent-length: 100000\r\n\r\nsome" % (path, HOST))
    await rest(rng)
    await leave(peer, rng)


# WebSockets.


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


# HTTP/2.


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
