"""RFC 9113, 8.1.1 and 5.4.2: what is wrong with one stream is nothing to the others.

A connection may be that of a proxy, with the requests of many. So on each, besides the stream that is
wrong, there are requests before, during and after it, and a WebSocket (RFC 8441).
"""

import random

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PriorityFrame,
    WindowUpdateFrame,
)

from .answers import CLIENT_ERRORS
from .peer import END, GET, Code, Failure, Peer, fields, raw
from .requests import BODIES, FIELDS, HEADS

CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/socket"),
    (":authority", "localhost"),
    ("sec-websocket-version", "13"),
]
KEPT = ("x-kept", "kept")
END_STREAM = 1
END_HEADERS = 4
PADDED = 8
PRIORITY = 32


# How a header block is put into frames.


def whole(stream, block, flags):
    return [raw(HeadersFrame, flags | END_HEADERS, stream.id, block)]


def continued(stream, block, flags):
    middle = len(block) // 2
    return [
        raw(HeadersFrame, flags, stream.id, block[:middle]),
        raw(ContinuationFrame, 0, stream.id),
        raw(ContinuationFrame, END_HEADERS, stream.id, block[middle:]),
    ]


def padded(stream, block, flags):
    payload = b"\3" + bytes(4) + b"\x10" + block + bytes(3)
    return [raw(HeadersFrame, flags | END_HEADERS | PADDED | PRIORITY, stream.id, payload)]


def depending_on_itself(stream, block, flags):
    payload = stream.id.to_bytes(4, "big") + b"\x10" + block
    return [raw(HeadersFrame, flags | END_HEADERS | PRIORITY, stream.id, payload)]


class Others:
    """Streams that have nothing to do with the one that is wrong."""

    def __init__(self, peer):
        self.peer = peer
        self.count = 0
        self.socket = peer.open(CONNECT, end=False)
        peer.until(lambda: self.socket.status == 200, "the WebSocket")
        self.upload = peer.open(fields("/echo", "POST"), end=False)
        peer.data(self.upload, b"before ")
        self.held = peer.open(fields("/hold?ms=20", more=[KEPT]))
        self.echo()

    def echo(self):
        self.count += 1
        text = f"message {self.count}".encode()
        self.peer.data(self.socket, bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        expected = bytes([0x81, len(text)]) + text
        self.peer.until(
            lambda: self.socket.done or self.socket.body.endswith(expected), "the echo of the WebSocket"
        )
        if self.socket.done:
            raise Failure(f"the WebSocket has ended: {self.peer.transcript()}")

    def go_on(self):
        peer = self.peer
        self.echo()
        # What the wrong one has put into the table may be named by its index now.
        request = peer.response(peer.open([*fields("/request"), KEPT]))
        if "header x-kept: kept" not in request.body.decode().splitlines():
            raise Failure(f"the table is not what it was: {bytes(request.body)}")
        peer.data(self.upload, b"after", end=True)
        body = bytes(peer.response(self.upload).body)
        if body != b"before after":
            raise Failure(f"{body} came back from the upload")
        if bytes(peer.response(self.held).body) != b"held":
            raise Failure("the request before has got another response")
        if peer.get().status != 200:
            raise Failure("the request after it was not served")
        self.echo()
        if peer.goaway is not None:
            raise Failure(f"the connection is to end: {peer.transcript()}")


def refused(peer, stream, codes=(Code.PROTOCOL_ERROR,)):
    peer.until(lambda: stream.done, f"the end of stream {stream.id}")
    if not (stream.reset in codes or stream.status in CLIENT_ERRORS):
        raise Failure(f"neither a reset nor a status for it: {peer.transcript()}")


def head(address, headers, frames):
    with Peer(address) as peer:
        others = Others(peer)
        stream = peer.stream("GET")
        block = peer.encoder.encode([*headers, KEPT])
        peer.send(*frames(stream, block, END_STREAM))
        refused(peer, stream)
        others.go_on()


def head_of_an_upload(address, headers):
    """The rest of it comes although it is refused: its bytes still count for the connection's window."""
    with Peer(address) as peer:
        others = Others(peer)
        block = peer.encoder.encode(headers)
        for _ in range(20):
            stream = peer.stream("POST")
            peer.send(*whole(stream, block, 0))
            trailers = peer.encoder.encode([("x-sum", "1"), KEPT])
            peer.until(lambda: peer.window >= 40_000, "a WINDOW_UPDATE of the connection")
            for _ in range(4):
                peer.data(stream, bytes(10_000))
            peer.send(*whole(stream, trailers, END_STREAM))
            refused(peer, stream)
            # By now the fields are in the table.
            block = peer.encoder.encode(headers)
        others.go_on()


def trailers(address, more, parts, fields_, ends, frames):
    with Peer(address) as peer:
        others = Others(peer)
        stream = peer.open(fields("/echo", "POST", more), end=False)
        for part in parts:
            peer.data(stream, part)
        block = peer.encoder.encode([*fields_, KEPT])
        peer.send(*frames(stream, block, END_STREAM if ends else 0))
        refused(peer, stream)
        others.go_on()


def body(address, more, parts):
    with Peer(address) as peer:
        others = Others(peer)
        stream = peer.open(fields("/echo", "POST", more), end=False)
        for index, part in enumerate(parts):
            peer.data(stream, part, end=index == len(parts) - 1)
        refused(peer, stream)
        others.go_on()


def frames_after_the_end(address, frames):
    with Peer(address) as peer:
        others = Others(peer)
        stream = peer.open(fields("/hold?ms=5000"))
        peer.send(*frames(peer, stream))
        refused(peer, stream, (Code.STREAM_CLOSED,))
        others.go_on()


def late_data(_peer, stream):
    return [raw(DataFrame, 0, stream.id, b"late"), raw(DataFrame, END_STREAM, stream.id, bytes(9000))]


def late_head(peer, stream):
    return whole(stream, peer.encoder.encode([*GET, KEPT]), END_STREAM)


def late_trailers(peer, stream):
    return whole(stream, peer.encoder.encode([KEPT]), END_STREAM)


def frames_of_a_stream(address, frames, codes):
    """Wrong for their stream, one that sends and one that does not."""
    with Peer(address) as peer:
        others = Others(peer)
        for end in (False, True):
            stream = peer.open(fields("/hold?ms=5000", "POST"), end=end)
            peer.send(*frames(stream))
            refused(peer, stream, codes)
        others.go_on()


def trailers_after_a_reset(address):
    """Of many streams that the server has reset by itself, more than it may care to remember."""
    with Peer(address) as peer:
        others = Others(peer)
        for _ in range(150):
            stream = peer.open(fields("/echo", "POST", [("content-length", "1")]), end=False)
            peer.data(stream, b"22")
            refused(peer, stream)
            peer.send(*whole(stream, peer.encoder.encode([("x-sum", "1"), KEPT]), END_STREAM))
        others.go_on()


def priority_of_its_own(address):
    with Peer(address) as peer:
        others = Others(peer)
        for _ in range(3):
            stream = peer.stream("GET")
            block = peer.encoder.encode([*fields("/request"), ("x-own", "priority"), KEPT])
            peer.send(*depending_on_itself(stream, block, END_STREAM))
            # RFC 9113 has done away with what is wrong with it (5.3.2).
            if "header x-own: priority" not in peer.response(stream).body.decode():
                raise Failure("it was not served as it was")
        others.go_on()


def long_heads_afterwards(address):
    """What is sent on to h2 has no table, and is larger by that."""
    with Peer(address) as peer:
        others = Others(peer)
        refused(peer, peer.open([*GET, ("X", "")]))
        long = [(f"x-long-{n}", "v" * 1000) for n in range(40)]
        for _ in range(3):
            lines = peer.response(peer.open([*fields("/request"), *long])).body.decode().splitlines()
            if [f"header {name}: {value}" for name, value in long] != [
                line for line in lines if line.startswith("header x-long")
            ]:
                raise Failure("not all of the long head has arrived")
        too_long = [(f"x-long-{n}", "v" * 1000) for n in range(80)]
        stream = peer.response(peer.open([*GET, *too_long]))
        if stream.status != 431:
            raise Failure(f"status {stream.status} for a head that is too long")
        others.go_on()


def priorities(address):
    with Peer(address) as peer:
        others = Others(peer)
        for id in (others.upload.id, others.socket.id, 1001):
            peer.send(PriorityFrame(id, id, 16))
        others.go_on()


def malformed_websocket(address):
    with Peer(address) as peer:
        others = Others(peer)
        for wrong in [("Sec-WebSocket-Key", "a"), ("x-a", "b\0"), ("upgrade", "websocket")]:
            refused(peer, peer.open([*CONNECT, wrong], end=False))
        others.go_on()


def shuffled(address, seed):
    """Streams of all kinds, whose frames are sent in whatever order, in pieces of whatever size."""
    dice = random.Random(seed)
    wrong = [headers for _name, headers in [*HEADS, *FIELDS]]
    with Peer(address) as peer:
        peer.piece = lambda: dice.choice([1, 5, 100, 1 << 16])
        others = Others(peer)
        acts = [lambda: good(peer, dice) for _ in range(20)]
        acts += [lambda: bad(peer, dice, wrong) for _ in range(20)]
        dice.shuffle(acts)
        running, checks = [], []
        while acts or running:
            if acts and (len(running) < 8 or not running):
                running.append(acts.pop()())
                continue
            act = dice.choice(running)
            check = next(act)
            if check is not None:
                running.remove(act)
                checks.append(check)
            if dice.random() < 0.1:
                others.echo()
        for check in checks:
            check()
        others.go_on()


def good(peer, dice):
    """Yields between its frames, and at last what is to hold in the end."""
    parts = [bytes([dice.randrange(256)]) * dice.randrange(300) for _ in range(dice.randrange(4))]
    name = f"x-{dice.randrange(30)}"
    stream = peer.stream("POST")
    send_head(peer, stream, fields("/echo", "POST", [(name, name), KEPT]), 0, dice)
    for part in parts:
        yield
        peer.data(stream, part)
    yield
    if dice.random() < 0.5:
        peer.send(DataFrame(stream.id, flags=["END_STREAM"]))
    else:
        send_head(peer, stream, [("x-sum", "1"), KEPT], END_STREAM, dice)

    def check():
        if bytes(peer.response(stream).body) != b"".join(parts):
            raise Failure(f"another body came back on stream {stream.id}")

    yield check


def bad(peer, dice, wrong):
    stream = peer.stream("POST")
    in_trailers = dice.random() < 0.2
    name = f"x-{dice.randrange(30)}"
    if in_trailers:
        send_head(peer, stream, fields("/echo", "POST"), 0, dice)
        yield
        peer.data(stream, b"data")
        yield
        send_head(peer, stream, [(name, name), (":path", "/")], END_STREAM, dice)
    else:
        headers = [*dice.choice(wrong), (name, name)]
        ends = any(name == "content-length" for name, _ in headers) or dice.random() < 0.5
        send_head(peer, stream, headers, END_STREAM if ends else 0, dice)
        if not ends:
            yield
            peer.data(stream, b"data", end=True)
    yield lambda: refused(peer, stream)


def send_head(peer, stream, headers, flags, dice):
    frames = dice.choice([whole, continued, padded])
    peer.send(*frames(stream, peer.encoder.encode(headers), flags))


def flood(address):
    """It ends, and before that it has cost little."""
    with Peer(address) as peer:
        block = peer.encoder.encode([*GET, ("X", "")])
        ids = range(1, 20_000, 2)
        for id in ids:
            peer.stream("GET", id)
        for start in range(0, len(ids), 100):
            peer.send(*(HeadersFrame(id, block, flags=END) for id in ids[start : start + 100]))
        peer.until_closed()
        if peer.goaway is None or peer.goaway.error_code != Code.ENHANCE_YOUR_CALM:
            raise Failure(f"it was not told to be calm: {peer.transcript()}")


# Each: its name with its clause, what is sent on a stream, the codes that fit.
FRAMES = [
    (
        "6.9: WINDOW_UPDATE by 0",
        lambda stream: [raw(WindowUpdateFrame, 0, stream.id, bytes(4))] * 2,
        (Code.PROTOCOL_ERROR,),
    ),
    (
        "6.9.1: WINDOW_UPDATE past the maximum",
        lambda stream: [WindowUpdateFrame(stream.id, (1 << 31) - 1)],
        (Code.FLOW_CONTROL_ERROR,),
    ),
    *[
        (
            f"6.3: PRIORITY of {size} bytes",
            lambda stream, size=size: [raw(PriorityFrame, 0, stream.id, bytes(size))],
            (Code.FRAME_SIZE_ERROR,),
        )
        for size in (0, 4, 6, 100)
    ],
]

SCENES = [
    ("6.3: PRIORITY that depends on itself", priorities),
    ("trailers of streams that were reset", trailers_after_a_reset),
    ("HEADERS that depend on themselves", priority_of_its_own),
    ("long heads after a malformed one", long_heads_afterwards),
    ("a handshake of a WebSocket that is malformed", malformed_websocket),
]


def cases(address):
    for name, headers in [*HEADS, *FIELDS]:
        for frames in (whole, continued, padded):
            title = f"{name}, among others, {frames.__name__}"
            yield title, lambda headers=headers, frames=frames: head(address, headers, frames)
    for name, headers in FIELDS:
        yield (
            f"{name}, and a body, among others",
            lambda headers=headers: head_of_an_upload(address, headers),
        )
    for name, more, parts, wrong, ends in BODIES:
        if wrong is None:
            yield f"{name}, among others", lambda more=more, parts=parts: body(address, more, parts)
            continue
        for frames in (whole, continued, padded):
            rest = (more, parts, wrong, ends, frames)
            yield (
                f"{name}, among others, {frames.__name__}",
                lambda rest=rest: trailers(address, *rest),
            )
    for frames in (late_data, late_head, late_trailers):
        yield (
            f"5.1: {frames.__name__} on a half-closed stream, among others",
            lambda frames=frames: frames_after_the_end(address, frames),
        )
    for name, frames, codes in FRAMES:
        rest = (frames, codes)
        yield f"{name}, among others", lambda rest=rest: frames_of_a_stream(address, *rest)
    for name, scene in SCENES:
        yield f"{name}, among others", lambda scene=scene: scene(address)
    for seed in range(20):
        yield f"8.1.1: streams right and wrong, shuffled by {seed}", lambda seed=seed: shuffled(address, seed)
    yield "10.5: a flood of malformed requests", lambda: flood(address)
