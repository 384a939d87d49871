"""RFC 9113, 4.3 and 8: header blocks, and requests that are malformed or only look so."""

from hyperframe.frame import HeadersFrame

from .answers import (
    CLIENT_ERRORS,
    MALFORMED,
    Answer,
    alive,
    connection_error,
    opened,
)
from .peer import END, GET, Code, Failure, Peer, Setting, fields

COMPRESSION = connection_error(Code.COMPRESSION_ERROR)

# Header blocks that do not decode (RFC 7541).
BLOCKS = [
    ("index 0", b"\x80"),
    ("an index past both tables", b"\xff\x20"),
    ("an index that is too large a number", b"\xff" + b"\xff" * 12),
    ("an index that breaks off", b"\xff"),
    ("a literal that breaks off", b"\x00\x05abc"),
    ("a literal with an index past both tables", b"\x7f\x20\x01x"),
    ("Huffman code with EOS", b"\x00\x84\xff\xff\xff\xff\x01x"),
    ("Huffman code padded by zeros", b"\x00\x81\x18\x01x"),
    ("Huffman code padded by 8 bits", b"\x00\x82\x1f\xff\x01x"),
    ("a size of the dynamic table above the SETTINGS", b"\x3f\xff\xff\x03"),
    ("a size of the dynamic table after a field", b"\x82\x20"),
    ("an entry that the size 0 has evicted", b"\x40\x01a\x01b\x82\x86\x84", b"\x20\xbe"),
]


def block(address, blocks):
    with Peer(address) as peer:
        for part in blocks:
            stream = peer.stream("GET")
            peer.send(HeadersFrame(stream.id, part, flags=END))
        COMPRESSION.judge(peer)


def without(name):
    return [field for field in GET if field[0] != name]


def replaced(name, value):
    return [(name, value) if field[0] == name else field for field in GET]


def plus(*more):
    return [*GET, *more]


CONNECT = [(":method", "CONNECT"), (":authority", "localhost:80")]

# Each is malformed (8.1.1).
HEADS = [
    *[(f"8.3.1: a request without {name}", without(name)) for name in (":method", ":scheme", ":path")],
    ("RFC 9110, 4.2.1: neither :authority nor host", without(":authority")),
    *[(f"8.3: a repeated {name}", [*GET[:4], (name, value)]) for name, value in GET],
    ("8.3: a response's pseudo-header field", [*GET, (":status", "200")]),
    ("8.3: a pseudo-header field after the others", [*GET[:3], ("x-a", "b"), GET[3]]),
    ("RFC 8441, 4: :protocol without CONNECT", [*GET, (":protocol", "websocket")]),
    ("8.3.1: an empty :path", replaced(":path", "")),
    ("8.3.1: a :path that does not begin with a slash", replaced(":path", "index.html")),
    ("8.3.1: a :path of * that is not for OPTIONS", replaced(":path", "*")),
    ("8.3.1: a :path with a space", replaced(":path", "/a b")),
    ("RFC 9110, 4.2.1: an empty :authority", replaced(":authority", "")),
    ("8.3.1: an :authority with userinfo", replaced(":authority", "user:password@localhost")),
    ("8.3.1: an :authority with a path", replaced(":authority", "localhost/path")),
    ("8.3.1: a host that is not the :authority", plus(("host", "example.com"))),
    ("8.3.1: several hosts", [*without(":authority"), ("host", "localhost"), ("host", "other")]),
    *[
        (f"8.2.1: a value with {bad!r} at {where}", plus(("x-a", value)))
        for bad in (" ", "\t")
        for where, value in (("its beginning", f"{bad}b"), ("its end", f"b{bad}"))
    ],
    *[
        (f"8.2.2: {name}: {value}", plus((name, value)))
        for name, value in (
            ("connection", "close"),
            ("connection", "x-a"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("te", "trailers, deflate"),
        )
    ],
    ("8.1.1: content-length of a request without a body", plus(("content-length", "5"))),
    *[
        (f"RFC 9110, 8.6: content-length: {value}", plus(("content-length", value)))
        for value in ("abc", "-1", "+0", "0x0", "", "18446744073709551616")
    ],
    ("RFC 9110, 8.6: two that differ", plus(("content-length", "0"), ("content-length", "1"))),
]

# So is each of these, of which a field by itself is what no field may be.
FIELDS = [
    ("8.3: an unknown pseudo-header field", [*GET, (":foo", "bar")]),
    ("8.3.1: an empty :method", replaced(":method", "")),
    ("8.3.1: a :method with a space", replaced(":method", "GET /")),
    ("8.2.1: a name in upper case", plus(("X-Upper", "a"))),
    ("8.2.1: an empty name", plus(("", "a"))),
    *[
        (f"8.2.1: a name with {bad!r}", plus((b"x" + bad + b"y", b"a")))
        for bad in (b" ", b"\0", b"\n", b"\r", b":", b"\x7f", b"\xe9")
    ],
    *[
        (f"8.2.1: a value with {bad!r}", plus((b"x-a", b"b" + bad + b"c")))
        for bad in (b"\0", b"\n", b"\r")
    ],
]


def head(address, headers):
    with Peer(address) as peer:
        MALFORMED.judge(peer, peer.open(headers))


# Bodies of a POST to /echo that are malformed. Each: more of its head, DATA, trailers and whether
# these end the stream.
BODIES = [
    ("8.1.1: less DATA than content-length", [("content-length", "10")], [b"12345"], None, True),
    ("8.1.1: no DATA for a content-length", [("content-length", "10")], [b""], None, True),
    ("8.1.1: more DATA than content-length", [("content-length", "5")], [b"123", b"456"], None, True),
    ("8.1.1: DATA for a content-length of 0", [("content-length", "0")], [b"1"], None, True),
    (
        "8.1.1: trailers before all of the content-length",
        [("content-length", "10")],
        [b"12345"],
        [("x-sum", "1")],
        True,
    ),
    ("8.1: trailers without END_STREAM", [], [b"1"], [("x-sum", "1")], False),
    ("8.1: trailers with a pseudo-header field", [], [b"1"], [(":path", "/")], True),
    ("8.1: trailers that are a second head", [], [b"1"], list(GET), True),
    ("8.1: trailers with connection", [], [b"1"], [("connection", "close")], True),
]


def body(address, more, parts, trailers, ends):
    with Peer(address) as peer:
        stream = peer.open(fields("/echo", "POST", more), end=False)
        for index, part in enumerate(parts):
            peer.data(stream, part, end=trailers is None and index == len(parts) - 1)
        if trailers is not None:
            send_trailers(peer, stream, trailers, ends)
        MALFORMED.judge(peer, stream)


def send_trailers(peer, stream, trailers, ends=True):
    flags = END if ends else END[:1]
    peer.send(HeadersFrame(stream.id, peer.encoder.encode(trailers), flags=flags))


def connect_without_protocol(address):
    # This is no proxy: what it says is left to it, but that there is a tunnel.
    refusals = (Code.PROTOCOL_ERROR, Code.CONNECT_ERROR, Code.REFUSED_STREAM, Code.CANCEL)
    answer = Answer(reset=refusals, statuses=(*CLIENT_ERRORS, 501))
    for headers in (CONNECT, CONNECT[:1], [*CONNECT, (":scheme", "http"), (":path", "/")]):
        with Peer(address) as peer:
            answer.judge(peer, peer.open(headers, end=False))


def table_outlives_refusals(address):
    with Peer(address) as peer:
        # The field is put into the table by a request that is refused, and named by its index next.
        MALFORMED.judge(peer, peer.open([*GET, ("x-kept", "kept"), ("te", "gzip")]))
        stream = peer.response(peer.open([*fields("/request"), ("x-kept", "kept")]))
        contains(stream, "header x-kept: kept")


def table_outlives_unread_blocks(address):
    with Peer(address) as peer:
        stream = opened(peer)
        send_trailers(peer, stream, [("x-trailer", "kept")])
        peer.response(stream)
        stream = peer.response(peer.open([*fields("/request"), ("x-trailer", "kept")]))
        contains(stream, "header x-trailer: kept")


def no_dynamic_table(address):
    with Peer(address, settings={Setting.HEADER_TABLE_SIZE: 0}) as peer:
        for _ in range(3):
            alive(peer)


def smaller_dynamic_table(address):
    with Peer(address) as peer:
        alive(peer)
        peer.configure({Setting.HEADER_TABLE_SIZE: 64})
        for _ in range(3):
            alive(peer)
        peer.configure({Setting.HEADER_TABLE_SIZE: 4096})
        for _ in range(3):
            alive(peer)


def size_update(address):
    with Peer(address) as peer:
        for size in (0, 100, 4096):
            peer.encoder.header_table_size = size
            alive(peer)
            alive(peer)


def kinds_of_literals(address):
    with Peer(address) as peer:
        for huffman in (True, False):
            for sensitive in (True, False):
                stream = peer.stream("GET")
                # What is sensitive is never indexed.
                headers = [(*field, sensitive) for field in fields("/request", more=[("x-a", "b")])]
                peer.send(HeadersFrame(stream.id, peer.encoder.encode(headers, huffman), flags=END))
                contains(peer.response(stream), "header x-a: b")


def contains(stream, line):
    if line not in stream.body.decode().splitlines():
        raise Failure(f"there is no {line!r} in {bytes(stream.body)}")


SCENES = [
    ("8.5: CONNECT without :protocol, right and wrong", connect_without_protocol),
    ("4.3: a malformed request leaves the dynamic table right", table_outlives_refusals),
    ("4.3: trailers leave the dynamic table right", table_outlives_unread_blocks),
    ("4.3.1: a dynamic table of size 0 for responses", no_dynamic_table),
    ("4.3.1: a dynamic table for responses that changes its size", smaller_dynamic_table),
    ("4.3.1: a dynamic table for requests that changes its size", size_update),
    ("RFC 7541, 6.2: all kinds of literals", kinds_of_literals),
]


def cases(address):
    for name, *blocks in BLOCKS:
        yield f"4.3: {name}", lambda blocks=blocks: block(address, blocks)
    for name, headers in [*HEADS, *FIELDS]:
        yield name, lambda headers=headers: head(address, headers)
    yield from ((name, lambda rest=rest: body(address, *rest)) for name, *rest in BODIES)
    yield from ((name, lambda scene=scene: scene(address)) for name, scene in SCENES)
