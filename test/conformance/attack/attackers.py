"""attackers.py SEED SECONDS PLAIN_PORT TLS_PORT

Makes move after move, many at a time, until the time is over, beside leeches of each kind, and prints a line of
JSON: how often each move was made, how long the server let leeches stay, what went wrong here that is no
end of a connection, and by how many seconds the program was late at most. It is a program of its own, so that
it does not take time from those who measure.
"""

import asyncio
import collections
import json
import logging
import os
import random
import sys
import traceback

# Each adds its moves to MOVES.
import over_http1  # noqa: F401
import over_http2  # noqa: F401
import over_tcp  # noqa: F401
import over_websocket  # noqa: F401
from leeches import LEECHES
from moves import MOVES
from peer import GONE, Target

# Moves at a time.
CROWD = 64
# Leeches of each kind at a time.
LEECHES_OF_A_KIND = 2
# No move may take longer, whatever the server does.
LONGEST_SECONDS = 22


class Attack:
    def __init__(self, ports, seed, seconds):
        self.ports = ports
        self.seed = seed
        self.seconds = seconds
        self.made = collections.Counter()
        self.stays = collections.defaultdict(list)
        self.broken = []
        self.late = 0

    async def run(self):
        end = asyncio.get_running_loop().time() + self.seconds
        await asyncio.gather(
            self.watch_itself(end),
            *(self.leech(kind, number, end) for kind in LEECHES for number in range(LEECHES_OF_A_KIND)),
            *(self.attacker(number, end) for number in range(CROWD)),
        )

    async def watch_itself(self, end):
        """How late this program is at most."""
        loop = asyncio.get_running_loop()
        while (start := loop.time()) < end:
            await asyncio.sleep(0.1)
            self.late = max(self.late, loop.time() - start - 0.1)

    async def attacker(self, number, end):
        loop = asyncio.get_running_loop()
        turn = 0
        while (left := end - loop.time()) > 0:
            rng = random.Random(f"{self.seed}/{number}/{turn}")
            turn += 1
            move = rng.choice(MOVES)
            self.made[move.__name__] += 1
            target = Connections(self.ports)
            try:
                async with asyncio.timeout(min(left, LONGEST_SECONDS)):
                    await move(target, rng)
            except GONE:
                pass
            except Exception:
                self.broken.append(traceback.format_exc())
            finally:
                target.close()

    async def leech(self, kind, number, end):
        """One after the other, as long as there is time to judge it."""
        loop = asyncio.get_running_loop()
        turn = 0
        while loop.time() + LONGEST_SECONDS < end:
            rng = random.Random(f"{self.seed}/{kind.__name__}/{number}/{turn}")
            turn += 1
            target = Connections(self.ports)
            going_on = asyncio.create_task(kind(target, rng))
            start = loop.time()
            try:
                while not target.opened and not going_on.done():
                    await asyncio.sleep(0.1)
                start = loop.time()
                while any(peer.is_open() for peer in target.opened) and loop.time() < start + LONGEST_SECONDS:
                    await asyncio.sleep(0.1)
            finally:
                going_on.cancel()
                [ended] = await asyncio.gather(going_on, return_exceptions=True)
                target.close()
            if target.opened:
                self.stays[kind.__name__].append(loop.time() - start)
            if ended is not None and not isinstance(ended, (*GONE, asyncio.CancelledError)):
                self.broken.append("".join(traceback.format_exception(ended)))


class Connections(Target):
    """A target whose connections end with the move, if it has left them open."""

    def __init__(self, ports):
        super().__init__(*ports)
        self.opened = []

    async def connect(self, *arguments, **options):
        peer = await super().connect(*arguments, **options)
        self.opened.append(peer)
        return peer

    def close(self):
        for peer in self.opened:
            peer.vanish()


def main(seed, seconds, plain, tls):
    # In life they are on machines of their own.
    os.nice(2)
    # asyncio warns of those who write to a connection that has ended, and that is what they do.
    logging.disable(logging.CRITICAL)
    attack = Attack((int(plain), int(tls)), seed, float(seconds))
    asyncio.run(attack.run())
    report = {"made": attack.made, "stays": attack.stays, "broken": attack.broken, "late": attack.late}
    print(json.dumps(report))


main(*sys.argv[1:])
