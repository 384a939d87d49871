"""Clients that take nothing, or give next to nothing, and stay: the server has to end them by itself.

LEECHES has a function for each kind. It opens a connection and goes on for ever; who calls it looks when the
server has ended the connection.
"""

import asyncio

from moves import HOST, tls
from over_http2 import (
    CONNECT,
    DATA,
    END_HEADERS,
    LARGEST_WINDOW,
    PING,
    PREFACE,
    WINDOW_UPDATE,
    get,
    h2_frame,
    http2,
    settings,
)
from over_tcp import client_hello
from over_websocket import frame, websocket

# A byte of theirs comes before any silence counts, and what they send is late as a whole.
DRIP_SECONDS = 0.3

LEECHES = []


def leech(function):
    LEECHES.append(function)
    return function


async def repeat(peer, data, pause):
    while True:
        await peer.send(data)
        await asyncio.sleep(pause)


async def drip(peer, data):
    for byte in data:
        await peer.send(bytes([byte]))
        await asyncio.sleep(DRIP_SECONDS)
    await asyncio.Event().wait()


@leech
async def takes_no_response(target, rng):
    peer = await target.connect(tls(rng), small=True)
    await peer.send(b"GET /page HTTP/1.1\r\n%s\r\n" % HOST * 50)
    await asyncio.Event().wait()


@leech
async def takes_no_small_responses(target, rng):
    peer = await target.connect(tls(rng), small=True)
    await repeat(peer, b"GET /hello HTTP/1.1\r\n%s\r\n" % HOST * 100, 0)


@leech
async def takes_no_http2_response(target, rng):
    """Each fits into windows that have no bounds."""
    peer = await http2(target, rng, LARGEST_WINDOW, small=True)
    await peer.send(h2_frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65535).to_bytes(4, "big")))
    await peer.send(b"".join(get(1 + 2 * n, "/page") for n in range(100)))
    await repeat(peer, h2_frame(PING, payload=b"12345678"), 0.5)


@leech
async def has_no_window(target, rng):
    peer = await http2(target, rng, 0)
    await peer.send(b"".join(get(1 + 2 * n, "/page") for n in range(30)))
    await repeat(peer, h2_frame(PING, payload=b"12345678"), 0.5)


@leech
async def pings_and_takes_no_pong(target, rng):
    peer = await websocket(target, rng, small=True)
    await repeat(peer, frame(9) * 1000, 0)


@leech
async def takes_no_push(target, rng):
    peer = await websocket(target, rng, small=True)
    await peer.send(frame(1, b"push 2000 60000"))
    await repeat(peer, frame(10), 0.5)


@leech
async def takes_no_echo(target, rng):
    peer = await websocket(target, rng, small=True)
    # What is compressed might be little enough to be taken as a whole.
    await repeat(peer, frame(2, rng.randbytes(10_000)), 0)


@leech
async def pings_a_websocket_over_http2_without_window(target, rng):
    peer = await http2(target, rng, 0, small=True)
    await peer.send(get(1, "/socket", CONNECT, "CONNECT", END_HEADERS))
    # The window that it gets is more than it uses before it has to be gone.
    await repeat(peer, h2_frame(DATA, 0, 1, frame(9) * 100), 0.1)


@leech
async def drips_a_head(target, rng):
    peer = await target.connect(tls(rng))
    await drip(peer, b"GET /hello HTTP/1.1\r\n%s" % (b"x: y\r\n" * 100))


@leech
async def drips_a_client_hello(target, rng):
    peer = await target.connect(True, raw=True)
    await drip(peer, client_hello(rng))


@leech
async def drips_a_preface(target, rng):
    peer = await target.connect(False)
    await drip(peer, PREFACE + settings())


@leech
async def says_nothing(target, rng):
    await target.connect(tls(rng))
    await asyncio.Event().wait()


@leech
async def says_nothing_any_more(target, rng):
    peer = await target.connect(tls(rng))
    await peer.send(b"GET /hello HTTP/1.1\r\n%s\r\n" % HOST)
    await asyncio.Event().wait()


@leech
async def says_nothing_on_a_websocket(target, rng):
    await websocket(target, rng)
    await asyncio.Event().wait()
