"""RFC 9113, 5.2 and 6.9: windows. That no DATA exceeds them is checked on every connection."""

from .answers import Answer, alive
from .exchanges import pattern
from .peer import WINDOW, Code, Failure, Peer, Setting, fields

BYTES = 200_000
LARGE = fields(f"/large?bytes={BYTES}")
SIZE = Setting.INITIAL_WINDOW_SIZE
# So much more than any buffer between here and the app.
UNREAD = 64 << 20


def arrives(peer, stream, size):
    """So many bytes come, all that the window allows, and no more."""
    peer.until(lambda: len(stream.body) >= size, f"{size} bytes of the body")
    for _ in range(2):
        peer.ping()
    if len(stream.body) != size:
        raise Failure(f"{len(stream.body)} bytes came for a window of {size}")


def finishes(peer, stream):
    if bytes(peer.response(stream).body) != pattern(BYTES):
        raise Failure("not what the app has sent")


def both_windows(address):
    with Peer(address, renew=False) as peer:
        stream = peer.open(LARGE)
        arrives(peer, stream, WINDOW)
        peer.allow(1000, stream)
        arrives(peer, stream, WINDOW)
        peer.allow(400)
        arrives(peer, stream, WINDOW + 400)
        peer.allow(BYTES)
        arrives(peer, stream, WINDOW + 1000)
        peer.allow(BYTES, stream)
        finishes(peer, stream)


def chunked(address):
    with Peer(address, renew=False) as peer:
        stream = peer.open(fields(f"/chunks?bytes={BYTES}"))
        arrives(peer, stream, WINDOW)
        peer.allow(BYTES)
        peer.allow(BYTES, stream)
        finishes(peer, stream)


def sent_file(address):
    with Peer(address, settings={SIZE: 1000}, renew=False) as peer:
        stream = peer.open(fields("/file"))
        arrives(peer, stream, 1000)
        peer.allow(1 << 20, stream)
        peer.response(stream)


def zero_window(address):
    with Peer(address, settings={SIZE: 0}, renew=False) as peer:
        stream = peer.open(LARGE)
        peer.until(lambda: stream.status, "the head, which no window concerns")
        arrives(peer, stream, 0)
        # What has no body needs no window.
        if peer.get("/empty").status != 204:
            raise Failure("204 waits")
        peer.allow(10, stream)
        arrives(peer, stream, 10)
        peer.allow(BYTES)
        peer.allow(BYTES, stream)
        finishes(peer, stream)


def opened_by_settings(address):
    with Peer(address, settings={SIZE: 0}, renew=False) as peer:
        stream = peer.open(LARGE)
        arrives(peer, stream, 0)
        peer.configure({SIZE: 500})
        arrives(peer, stream, 500)
        peer.allow(BYTES)
        peer.configure({SIZE: BYTES})
        finishes(peer, stream)


def lowered_by_settings(address):
    with Peer(address, settings={SIZE: 20_000}, renew=False) as peer:
        stream = peer.open(LARGE)
        arrives(peer, stream, 20_000)
        # The window is now -15,000.
        peer.configure({SIZE: 5_000})
        peer.allow(15_000, stream)
        arrives(peer, stream, 20_000)
        peer.allow(1, stream)
        arrives(peer, stream, 20_001)
        peer.allow(BYTES)
        peer.allow(BYTES, stream)
        finishes(peer, stream)


def byte_by_byte(address):
    with Peer(address, settings={SIZE: 0}) as peer:
        peer.renew = False
        stream = peer.open(fields("/large?bytes=100"))
        for size in range(100):
            arrives(peer, stream, size)
            peer.allow(1, stream)
        peer.response(stream)


def responses_are_interleaved(address):
    with Peer(address, renew=False) as peer:
        peer.allow(1 << 20)
        first, second, third = [peer.open(LARGE) for _ in range(3)]
        for stream in (first, second, third):
            arrives(peer, stream, WINDOW)
        # Each goes on by itself, in any order.
        for stream in (second, third, first):
            peer.allow(BYTES, stream)
            finishes(peer, stream)


def stalled_stream_harms_no_other(address):
    with Peer(address, settings={SIZE: 1000}, renew=False) as peer:
        peer.allow(20 * BYTES)
        stalled = [peer.open(LARGE) for _ in range(20)]
        for stream in stalled:
            arrives(peer, stream, 1000)
        for _ in range(10):
            alive(peer)
        for stream in stalled:
            peer.allow(BYTES, stream)
            finishes(peer, stream)


def upload_past_the_window(address):
    with Peer(address) as peer:
        stream = peer.open(fields("/hold?ms=3000", "POST"), end=False)
        part = bytes(16_384)
        while peer.window > -65_536 and stream.window > -65_536 and not (peer.closed or stream.done):
            peer.data(stream, part)
        flow = Code.FLOW_CONTROL_ERROR
        Answer(goaway=(flow,), reset=(flow,)).judge(peer, stream)


def unread_upload(address):
    with Peer(address) as peer:
        stream = peer.open(fields("/hold?ms=2000", "POST"), end=False)
        sent = 0
        while sent < UNREAD and not stream.done:
            try:
                peer.until(lambda: min(peer.window, stream.window) > 0, "a window", seconds=0.5)
            except Failure:
                break
            size = min(peer.window, stream.window, 16_384)
            peer.data(stream, bytes(size))
            sent += size
        if sent >= UNREAD:
            raise Failure(f"{sent} bytes were taken which the app does not read")
        alive(peer)


SCENES = [
    ("6.9: a response waits for both windows", both_windows),
    ("6.9: a response in chunks waits", chunked),
    ("6.9: a file waits", sent_file),
    ("6.9.2: a window of 0 that is opened", zero_window),
    ("6.9.2: a window of 0 that SETTINGS open", opened_by_settings),
    ("6.9.2: SETTINGS lower a window below what is under way", lowered_by_settings),
    ("6.9.1: a window that is opened byte by byte", byte_by_byte),
    ("5.2: responses are interleaved", responses_are_interleaved),
    ("5.2.2: streams without a window do not stop the others", stalled_stream_harms_no_other),
    ("6.9.1: an upload past the window", upload_past_the_window),
    ("5.2.2: an upload that the app does not read", unread_upload),
]


def cases(address):
    return ((name, lambda scene=scene: scene(address)) for name, scene in SCENES)
