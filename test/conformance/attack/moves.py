"""What all moves have in common.

A move gets the target and its own random numbers, and decides everything by these. What the server does is
not judged here: it may answer, refuse or end the connection.
"""

import asyncio

from peer import GONE

HOST = b"host: localhost\r\n"

# Longer than the server's deadlines.
LONG_SECONDS = 6

# By the files that are named after what the move goes over.
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
