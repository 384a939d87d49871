"""What may come back for a case: a connection error, a stream error, a status, or nothing at all."""

from dataclasses import dataclass

from h2.errors import ErrorCodes as Code
from hyperframe.frame import RstStreamFrame

from .peer import WINDOW, Failure, Peer, Stream, code_name, fields


@dataclass(frozen=True)
class Answer:
    """What RFC 9113 accepts, of which one has to come."""

    # Codes of a GOAWAY, after which the connection ends.
    goaway: tuple = ()
    # Codes of a RST_STREAM, after which the connection goes on, as after a status.
    reset: tuple = ()
    statuses: tuple = ()
    # Whether the connection may go on as if nothing had come.
    ignored: bool = False
    # Whether the connection may end without a GOAWAY.
    silent: bool = False

    def judge(self, peer, stream=None):
        probe = peer.open() if self.ignored else None

        def over():
            refused = stream is not None and stream.done and not failed(peer)
            ignored = probe is not None and probe.done and not failed(peer)
            return peer.closed or refused or ignored

        peer.until(over, f"answer; {self} was expected")
        if peer.closed:
            self.judge_end(peer)
        else:
            if stream is not None and stream.done:
                self.judge_stream(peer, stream)
            alive(peer)

    def judge_end(self, peer):
        if peer.goaway is None:
            if not self.silent:
                raise Failure(f"the connection ended without a GOAWAY: {peer.transcript()}")
        elif peer.goaway.error_code not in self.goaway:
            raise Failure(f"{self} was expected, this came: {peer.transcript()}")

    def judge_stream(self, peer, stream):
        if stream.ended:
            accepted = self.ignored or stream.status in self.statuses
        else:
            accepted = stream.reset in self.reset
        if not accepted:
            raise Failure(f"{self} was expected, this came: {peer.transcript()}")

    def __str__(self):
        parts = [f"GOAWAY {code_name(code)}" for code in self.goaway]
        parts += [f"RST_STREAM {code_name(code)}" for code in self.reset]
        if self.statuses:
            parts.append(f"{self.statuses[0]}-{self.statuses[-1]}")
        if self.silent:
            parts.append("an end")
        if self.ignored:
            parts.append("nothing")
        return " or ".join(parts)


def failed(peer):
    return peer.goaway is not None and peer.goaway.error_code != Code.NO_ERROR


def alive(peer):
    """The connection serves another request."""
    stream = peer.get()
    if (stream.status, stream.body) != (200, b"hello"):
        raise Failure(f"{stream.status} {bytes(stream.body[:80])} for a request that is right")


def connection_error(*codes):
    return Answer(goaway=codes)


def either_error(*codes):
    """A stream error that may as well be one of the connection (5.4.1)."""
    return Answer(goaway=codes, reset=codes)


def ignored_or(*codes):
    return Answer(goaway=codes, reset=codes, ignored=True)


CLIENT_ERRORS = tuple(range(400, 500))
IGNORED = Answer(ignored=True)
# A malformed request is a stream error, or gets a status (8.1.1). Requests of others may share its
# connection, so that goes on.
MALFORMED = Answer(reset=(Code.PROTOCOL_ERROR,), statuses=CLIENT_ERRORS)


# The states of stream 1 (5.1), each brought about on a new connection.


def idle(peer):
    return peer.stream()


def opened(peer):
    return peer.open(fields("/echo", "POST"), end=False)


def half_closed(peer):
    return peer.open(fields("/hold?ms=2000"))


def closed(peer):
    peer.get()
    # Watched anew: what was answered says nothing of what is sent now.
    stream = peer.streams[1] = Stream(1, "GET", WINDOW, WINDOW)
    return stream


def reset(peer):
    stream = opened(peer)
    peer.send(RstStreamFrame(stream.id, Code.CANCEL))
    stream.reset = None
    return stream


def row(address, state, frames, answer):
    """Sends frames when stream 1 is in a state."""
    with Peer(address) as peer:
        stream = state(peer)
        if callable(frames):
            frames = frames(peer.max_frame_size())
        # There may be SETTINGS among them, acknowledged before they are found wrong.
        peer.asked += [{}] * len(frames)
        peer.send(*frames)
        answer.judge(peer, stream)

