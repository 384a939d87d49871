"""websockets_client.py URL

Checks an echo endpoint with PyPI's websockets: one line per check, exit code 1 when one failed. The
endpoint must take messages of up to 8,000,000 bytes, and no larger ones.
"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect

CHECK_SECONDS = 20
LIMIT = 8_000_000
SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]


def open_socket(url, compression=None):
    return connect(url, compression=compression, max_size=None, proxy=None)


def text(size):
    return "".join(chr(32 + i * 7 % 90) for i in range(size))


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"got {brief(seen)} instead of {brief(expected)}")


def brief(value):
    if isinstance(value, (str, bytes)):
        return f"{type(value).__name__} of {len(value)} ({value[:40]!r})"
    return repr(value)


async def echo(url, messages, compression=None):
    async with open_socket(url, compression) as ws:
        # Sent while the echoes are read: a server may stop reading from a client that does not.
        sending = asyncio.create_task(send_all(ws, messages))
        for message in messages:
            equal(await ws.recv(), message)
        await sending


async def send_all(ws, messages):
    for message in messages:
        await ws.send(message)


async def pieces(parts):
    for part in parts:
        yield part


async def fragments(url, parts):
    async with open_socket(url) as ws:
        await ws.send(pieces(parts))
        equal(await ws.recv(), type(parts[0])().join(parts))


async def pings(url):
    async with open_socket(url) as ws:
        for payload in [b"", b"hello", os.urandom(125)]:
            pong = await ws.ping(payload)
            latency = await pong
            if not 0 < latency < 5:
                raise AssertionError(f"a pong took {latency} s")


async def ping_between_fragments(url):
    async with open_socket(url) as ws:
        # The pong must come while the message is unfinished.
        async def parts():
            yield "before "
            await (await ws.ping(b"now"))
            yield "after"

        await ws.send(parts())
        equal(await ws.recv(), "before after")


async def close(url, code):
    ws = await open_socket(url)
    await ws.close(code, "bye")
    equal(ws.close_code, code)


async def too_big(url, message):
    # Without `async with`, which closes once more: asyncio fails at that where its peer has cut off a
    # send. What counts is how the connection ended.
    ws = await open_socket(url)
    sending = asyncio.ensure_future(ws.send(message))
    await ws.wait_closed()
    await asyncio.gather(sending, return_exceptions=True)
    equal(ws.close_code, 1009)


async def pipelined(url, compression):
    await echo(url, [f"{i} {text(i % 300)}" for i in range(2000)], compression)


async def parallel(url, compression):
    await asyncio.gather(
        *(echo(url, [f"connection {i}", os.urandom(1000 + i)], compression) for i in range(50))
    )


def checks(url):
    for compression in [None, "deflate"]:
        offer = f", {compression} offered" if compression else ""
        for size in SIZES:
            yield f"text of {size} bytes{offer}", echo(url, [text(size)], compression)
            yield f"binary of {size} bytes{offer}", echo(url, [os.urandom(size)], compression)
        yield f"2000 pipelined messages keep their order{offer}", pipelined(url, compression)
        yield f"50 connections at once{offer}", parallel(url, compression)

    yield "text in fragments", fragments(url, ["one ", "zwei ", "", "trois"])
    yield "binary in 1000 fragments", fragments(url, [os.urandom(i) for i in range(1000)])
    yield "a ping is answered with its payload", pings(url)
    yield "a ping between fragments is answered at once", ping_between_fragments(url)

    for code in [1000, 1001, 1012, 1013, 1014, 3000, 4999]:
        yield f"close {code} is echoed", close(url, code)

    yield f"a message of {LIMIT} bytes", echo(url, [bytes(LIMIT)])
    yield f"a message of {LIMIT + 1} bytes is refused with 1009", too_big(url, bytes(LIMIT + 1))
    yield (
        f"fragments of more than {LIMIT} bytes are refused with 1009",
        too_big(url, pieces([bytes(1_000_000)] * 9)),
    )


async def main(url):
    failed = False
    for name, check in checks(url):
        try:
            await asyncio.wait_for(check, CHECK_SECONDS)
            print(f"ok {name}", flush=True)
        except Exception as error:
            failed = True
            print(f"not ok {name}: {type(error).__name__} {error}", flush=True)
    return failed


sys.exit(asyncio.run(main(sys.argv[1])))
