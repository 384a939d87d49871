"""phoenix_closes.py URL COUNT

Opens COUNT WebSockets of a Phoenix endpoint, joins a channel on each, says "joined", and waits until all have
ended. Then prints how many ended with which close code, as JSON; 1006 stands for an end without a close frame.
"""

import asyncio
import collections
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def joined(url, topic):
    # No proxy, no pings of its own: whatever ends a connection is the server's doing.
    ws = await connect(url, proxy=None, ping_interval=None)
    await ws.send(json.dumps(["1", "1", topic, "phx_join", {}]))
    reply = json.loads(await ws.recv())
    assert reply[3:] == ["phx_reply", {"status": "ok", "response": {"room": topic[5:]}}], reply
    return ws


async def end(ws):
    try:
        while True:
            await ws.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


async def main(url, count):
    sockets = await asyncio.gather(*(joined(url, f"room:{i}") for i in range(count)))
    print("joined", flush=True)
    codes = collections.Counter(await asyncio.gather(*(end(ws) for ws in sockets)))
    print(json.dumps(codes), flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
