"""Moves over HTTP/1."""

import asyncio

from moves import HOST, LONG_SECONDS, dribble, leave, move, perhaps_read, pour, rest, tls
from over_websocket import upgrade


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
