"""Moves that get no further than TCP or TLS."""

import asyncio

from moves import dribble, leave, move, rest, tls


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
