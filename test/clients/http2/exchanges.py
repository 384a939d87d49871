"""RFC 9113, 5.1.2 and 8: requests that are right, alone and many at once."""

import hashlib

from hyperframe.frame import HeadersFrame, RstStreamFrame

from .answers import CLIENT_ERRORS, alive, failed
from .peer import END, GET, WINDOW, Code, Failure, Peer, Setting, fields

LARGE = 1 << 20


def pattern(size):
    """What the app answers with."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def equal(seen, expected, what):
    if seen != expected:
        raise Failure(f"{what} is {repr(seen)[:60]} instead of {repr(expected)[:60]}")


def request_lines(peer, headers):
    stream = peer.response(peer.open(headers))
    equal(stream.status, 200, "the status")
    return stream.body.decode().splitlines()


def what_the_app_sees(address):
    with Peer(address) as peer:
        head = [(":method", "GET"), (":scheme", "http"), (":path", "/request?a=%20b")]
        more = [("x-a", "1"), ("te", "trailers"), ("x-a", "2"), ("x-empty", "")]
        lines = request_lines(peer, [*head, (":authority", "example.com:81"), *more])
        equal(lines[:3], ["method GET", "authority example.com:81", "path /request"], "the request")
        # Lines of one name may be joined (RFC 9110, 5.3), in their order.
        values = [line.split(": ", 1)[1] for line in lines if line.startswith("header x-a: ")]
        equal(", ".join(values), "1, 2", "x-a")
        if "header x-empty: " not in lines:
            raise Failure(f"an empty value is lost: {lines}")
        if any(line.startswith("header :") for line in lines):
            raise Failure(f"pseudo-header fields are among the header fields: {lines}")


def host_alone(address):
    with Peer(address) as peer:
        lines = request_lines(peer, [*fields("/request")[:3], ("host", "example.com:81")])
        equal(lines[1], "authority example.com:81", "the authority")


def host_and_authority(address):
    with Peer(address) as peer:
        lines = request_lines(peer, fields("/request", more=[("host", "localhost")]))
        equal(lines[1].split(":")[0], "authority localhost", "the authority")


def cookies_are_joined(address):
    with Peer(address) as peer:
        more = [("cookie", "a=b"), ("x-a", "1"), ("cookie", "c=d"), ("cookie", "e=f")]
        lines = request_lines(peer, fields("/request", more=more))
        cookies = [line for line in lines if line.startswith("header cookie")]
        equal(cookies, ["header cookie: a=b; c=d; e=f"], "the cookies")


def long_header(address):
    with Peer(address) as peer:
        value = "v" * 30_000
        lines = request_lines(peer, fields("/request", more=[("x-long", value)]))
        if f"header x-long: {value}" not in lines:
            raise Failure("the long header did not arrive")


def other_methods(address):
    with Peer(address) as peer:
        for method in ["GET", "DELETE", "OPTIONS", "PATCH", "PROPFIND"]:
            lines = request_lines(peer, fields("/request", method))
            equal(lines[0], f"method {method}", "the method")


def options_of_the_server(address):
    with Peer(address) as peer:
        stream = peer.response(peer.open(fields("*", "OPTIONS")))
        if stream.status not in (200, 204, *CLIENT_ERRORS):
            raise Failure(f"status {stream.status}")


def head_has_no_body(address):
    with Peer(address) as peer:
        stream = peer.response(peer.open(fields("/large?bytes=100000", "HEAD")))
        equal((stream.status, stream.headers.get("content-length")), (200, "100000"), "the head")
        # A handler that leaves the body out has not said how long it is (RFC 9110, 8.6).
        for path in ("/large?bytes=0", "/empty", "/chunks?bytes=0"):
            stream = peer.response(peer.open(fields(path, "HEAD")))
            if "content-length" in stream.headers:
                raise Failure(f"a length that nobody knows: {stream.headers}")
        alive(peer)


def no_content(address):
    with Peer(address) as peer:
        stream = peer.get("/empty")
        equal((stream.status, bytes(stream.body)), (204, b""), "the response")
        if "content-length" in stream.headers:
            raise Failure("204 has a content-length (RFC 9110, 8.6)")
        alive(peer)


def not_found(address):
    with Peer(address) as peer:
        equal(peer.get("/nowhere").status, 404, "the status")
        alive(peer)


def date(address):
    with Peer(address) as peer:
        if "date" not in peer.get().headers:
            raise Failure("there is none")


def chunks(address):
    with Peer(address) as peer:
        stream = peer.get(f"/chunks?bytes={LARGE}")
        equal(bytes(stream.body), pattern(LARGE), "the body")
        stream = peer.response(peer.open(fields("/chunks?bytes=5000", "HEAD")))
        equal(stream.status, 200, "the status of HEAD")


def file(address):
    with Peer(address) as peer:
        stream = peer.get("/file")
        equal(stream.body[:10], b"defmodule ", "the file's beginning")


def informational(address):
    with Peer(address) as peer:
        stream = peer.get("/hint")
        equal(stream.hints, [(103, {"link": "</style.css>; rel=preload"})], "what came before")
        equal(bytes(stream.body), b"hinted", "the body")


def expectation(address):
    with Peer(address) as peer:
        more = [("expect", "100-continue"), ("content-length", "4")]
        stream = peer.open(fields("/echo", "POST", more), end=False)
        peer.until(lambda: stream.hints or stream.done, "100 (RFC 9110, 10.1.1)")
        equal(stream.hints, [(100, {})], "what came before the body")
        peer.upload(stream, b"body")
        equal(bytes(peer.response(stream).body), b"body", "the body")


def unread_body(address):
    with Peer(address) as peer:
        stream = peer.open(fields("/early", "POST", [("content-length", "5")]), end=False)
        equal(bytes(peer.response(stream).body), b"early", "the body")
        if stream.reset is None:
            peer.data(stream, b"later", end=True)
        alive(peer)


def bodies(address):
    for more in ([], [("content-length", "6")]):
        for parts in ([b"1", b"23", b"456"], [b"", b"123", b"", b"456", b""]):
            with Peer(address) as peer:
                stream = peer.open(fields("/echo", "POST", more), end=False)
                for index, part in enumerate(parts):
                    peer.data(stream, part, end=index == len(parts) - 1)
                equal(bytes(peer.response(stream).body), b"123456", "the echo")


def empty_body(address):
    with Peer(address) as peer:
        stream = peer.open(fields("/echo", "POST", [("content-length", "0")]))
        equal(bytes(peer.response(stream).body), b"", "the echo")
        stream = peer.open(fields("/echo", "POST"), end=False)
        peer.data(stream, b"", end=True)
        equal(bytes(peer.response(stream).body), b"", "the echo")


def trailers(address):
    with Peer(address) as peer:
        for body in (b"", b"body"):
            stream = peer.open(fields("/echo", "POST"), end=False)
            peer.upload(stream, body, end=False)
            block = peer.encoder.encode([("x-sum", "1"), ("x-more", "2")])
            peer.send(HeadersFrame(stream.id, block, flags=END))
            equal(bytes(peer.response(stream).body), body, "the echo")


def large_upload(address):
    data = pattern(LARGE)
    with Peer(address) as peer:
        for padding in (None, 0, 255):
            stream = peer.open(fields("/digest", "POST"), end=False)
            peer.upload(stream, data, padding=padding)
            digest = hashlib.sha256(data).hexdigest()
            equal(peer.response(stream).body.decode(), digest, "the digest")


def uploads_at_once(address):
    with Peer(address) as peer:
        bodies = [pattern(1000 + index)[index:] for index in range(100)]
        streams = [peer.open(fields("/echo", "POST"), end=False) for _ in bodies]
        for start in range(0, 1100, 220):
            for stream, body in zip(streams, bodies):
                peer.upload(stream, body[start : start + 220], end=False)
        # The last one first.
        for stream, body in reversed(list(zip(streams, bodies))):
            peer.upload(stream, b"")
            equal(bytes(peer.response(stream).body), body, f"the echo on {stream.id}")


def requests_at_once(address):
    with Peer(address) as peer:
        streams = [peer.open(fields(f"/large?bytes={size}")) for size in range(0, 50_000, 500)]
        for index, stream in enumerate(streams):
            equal(bytes(peer.response(stream).body), pattern(index * 500), f"the body on {stream.id}")


def slow_and_quick(address):
    with Peer(address) as peer:
        slow = peer.open(fields("/echo", "POST"), end=False)
        for _ in range(20):
            alive(peer)
        peer.upload(slow, b"slow")
        equal(bytes(peer.response(slow).body), b"slow", "the echo")


def reset_by_the_client(address):
    with Peer(address, renew=False) as peer:
        waiting = peer.open(fields("/hold?ms=200"))
        large = peer.open(fields(f"/large?bytes={LARGE}"))
        peer.until(lambda: len(large.body) == WINDOW, "a window of the body")
        for stream in (waiting, large):
            peer.send(RstStreamFrame(stream.id, Code.CANCEL))
        peer.ping()
        peer.allow(LARGE)
        # By the end of this the other would have been answered, too.
        equal(bytes(peer.get("/hold?ms=500").body), b"held", "the body")
        equal((waiting.status, len(large.body)), (None, WINDOW), "what came after RST_STREAM")


def too_many_streams(address):
    with Peer(address) as peer:
        limit = peer.settings.get(Setting.MAX_CONCURRENT_STREAMS)
        if limit is None or limit > 1000:
            raise Failure(f"SETTINGS_MAX_CONCURRENT_STREAMS is {limit}")
        streams = [peer.open(fields("/echo", "POST"), end=False) for _ in range(limit)]
        peer.ping()
        one_more = peer.open(fields("/echo", "POST"), end=False)
        peer.until(lambda: one_more.done or peer.closed, "the refusal of one stream too many")
        if peer.closed or failed(peer):
            raise Failure(f"the connection ended: {peer.transcript()}")
        codes = (Code.REFUSED_STREAM, Code.PROTOCOL_ERROR)
        if one_more.reset not in codes:
            raise Failure(f"{one_more.status} for one stream too many: {peer.transcript()}")
        # The others are not harmed, and make room when they end.
        for stream in streams:
            peer.upload(stream, b"small")
        for stream in streams:
            equal(bytes(peer.response(stream).body), b"small", f"the echo on {stream.id}")
        alive(peer)


def thousand_requests(address):
    with Peer(address) as peer:
        for _ in range(1000):
            equal(peer.response(peer.open(GET)).status, 200, "the status")


SCENES = [
    ("8.3.1: what the app sees of a request", what_the_app_sees),
    ("8.3.1: host in place of :authority", host_alone),
    ("8.3.1: host and :authority that are the same", host_and_authority),
    ("8.2.3: crumbs of a cookie are joined", cookies_are_joined),
    ("6.10: a header of 30,000 bytes", long_header),
    ("8.3.1: other methods", other_methods),
    ("8.3.1: OPTIONS *", options_of_the_server),
    ("8.1: HEAD", head_has_no_body),
    ("8.1: 204", no_content),
    ("8.1: 404", not_found),
    ("RFC 9110, 6.6.1: date", date),
    ("8.1: a response in chunks", chunks),
    ("8.1: a file", file),
    ("8.1: an informational response", informational),
    ("RFC 9110, 10.1.1: 100-continue", expectation),
    ("8.1: a response before the request has ended", unread_body),
    ("8.1: bodies of several and of empty DATA frames", bodies),
    ("8.1: empty bodies", empty_body),
    ("8.1: trailers", trailers),
    ("6.9: uploads larger than the window, padded, too", large_upload),
    ("5: 100 uploads at once", uploads_at_once),
    ("5: 100 responses at once", requests_at_once),
    ("5: quick responses do not wait for a slow one", slow_and_quick),
    ("5.4.2: RST_STREAM before and within a response", reset_by_the_client),
    ("5.1.2: one stream more than MAX_CONCURRENT_STREAMS", too_many_streams),
    ("5: a thousand requests on one connection", thousand_requests),
]


def cases(address):
    return ((name, lambda scene=scene: scene(address)) for name, scene in SCENES)
