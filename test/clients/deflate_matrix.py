"""deflate_matrix.py URL

Offers permessage-deflate to an echo endpoint with every parameter that PyPI's websockets can offer,
and echoes messages over each: one line per offer, exit code 1 when one failed. The client's inflater
has exactly the window and the context that were agreed on, so a server that uses more fails here.
The endpoint must accept the extension, and compress messages of any size.
"""

import asyncio
import itertools
import random
import sys

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

OFFER_SECONDS = 30
RANDOM = random.Random(7)
WORDS = ["".join(RANDOM.choices("abcdefghijklmnop", k=RANDOM.randint(2, 9))) for _ in range(400)]


def text(size):
    return " ".join(RANDOM.choices(WORDS, k=size // 2))[:size]


LONG_TEXT = text(70_000)
MESSAGES = [
    "",
    "a",
    text(200),
    text(3000),
    text(3000),
    bytes(range(256)) * 4,
    RANDOM.randbytes(5000),
    LONG_TEXT,
    RANDOM.randbytes(70_000),
    text(300_000),
    text(50),
]


def offers():
    flags = [False, True]
    server_bits = [None, 8, 9, 10, 12, 15]
    client_bits = [None, True, 9, 12, 15]
    for parameters in itertools.product(flags, flags, server_bits, client_bits):
        names = [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits",
            "client_max_window_bits",
        ]
        yield {name: value for name, value in zip(names, parameters) if value}


async def check(url, offer):
    factory = ClientPerMessageDeflateFactory(**offer)
    async with connect(
        url, compression=None, extensions=[factory], max_size=None, proxy=None
    ) as ws:
        compressed = count_compressed(ws)
        if compressed is None and offer.get("server_max_window_bits") != 8:
            # 8 may be declined: zlib has no such window.
            raise AssertionError("declined")
        for _ in range(2):
            for message in MESSAGES:
                await ws.send(message)
                equal(await ws.recv(), message)
            # One message, compressed as one, in fragments.
            await ws.send([LONG_TEXT[i : i + 9001] for i in range(0, len(LONG_TEXT), 9001)])
            equal(await ws.recv(), LONG_TEXT)
        if compressed == []:
            raise AssertionError("agreed on, but no message was compressed")


def count_compressed(ws):
    """A list that gets an entry for each compressed frame; None without the extension."""
    if not ws.protocol.extensions:
        return None
    [extension] = ws.protocol.extensions
    decode = extension.decode
    compressed = []

    def counting(frame, **options):
        if frame.rsv1:
            compressed.append(frame.opcode)
        return decode(frame, **options)

    extension.decode = counting
    return compressed


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"{len(seen)} other bytes instead of the {len(expected)} sent")


def describe(offer):
    parts = [name if value is True else f"{name}={value}" for name, value in offer.items()]
    return "; ".join(parts) or "no parameters"


async def main(url):
    failed = False
    for offer in offers():
        try:
            await asyncio.wait_for(check(url, offer), OFFER_SECONDS)
            print(f"ok {describe(offer)}", flush=True)
        except Exception as error:
            failed = True
            print(f"not ok {describe(offer)}: {type(error).__name__} {error}", flush=True)
    return failed


sys.exit(asyncio.run(main(sys.argv[1])))
