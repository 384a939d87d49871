"""wsproto_client.py URL

Checks an echo endpoint with PyPI's wsproto: one line per check, exit code 1 when one failed. Only its
frames are used. The handshake is written by hand, which allows offers that no library makes, and a
first frame that does not wait for the answer.
"""

import base64
import os
import socket
import sys
from contextlib import ExitStack
from urllib.parse import urlsplit

from frames import Messages, to_event
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong
from wsproto.extensions import PerMessageDeflate

READ_SECONDS = 15
SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]
DEFLATE = "permessage-deflate"


class Client(Messages):
    def __init__(self, url, offer=None, early=None):
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), READ_SECONDS)
        request = [
            f"GET {address.path}?{address.query} HTTP/1.1",
            f"Host: {address.netloc}",
            "Connection: keep-alive, Upgrade",
            "Upgrade: WebSocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        if offer is not None:
            request.append(f"Sec-WebSocket-Extensions: {offer}")
        first = b"" if early is None else Connection(ConnectionType.CLIENT).send(early)
        self.socket.sendall("\r\n".join([*request, "", ""]).encode() + first)

        self.accepted, rest = self.read_answer()
        extensions = []
        if self.accepted is not None:
            extensions.append(PerMessageDeflate())
            extensions[0].finalize(self.accepted)
        self.frames = Connection(ConnectionType.CLIENT, extensions)
        self.frames.receive_data(rest)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read_answer(self):
        """The extension that the server agreed to, and the bytes after the head."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.receive()
        head, rest = answer.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        equal(status.split(" ")[1], "101")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return headers.get("sec-websocket-extensions"), rest

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise AssertionError("the server closed the connection")
        return data

    def send(self, event):
        self.socket.sendall(self.frames.send(event))

    def events(self):
        while True:
            yield from self.frames.events()
            self.frames.receive_data(self.receive())

    def echo(self, *messages):
        for message in messages:
            self.send(to_event(message))
            equal(self.message(), message)

    def close(self):
        self.send(CloseConnection(1000, "bye"))
        answer = self.event()
        equal((type(answer), answer.code), (CloseConnection, 1000))
        # Only the server ends the connection.
        equal(self.socket.recv(1), b"")


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"got {repr(seen)[:80]} instead of {repr(expected)[:80]}")


def sizes(url, offer):
    with Client(url, offer) as client:
        for size in SIZES:
            client.echo("é" * (size // 2), bytes(range(256)) * (size // 256), os.urandom(size))
        client.close()


def fragments(url, offer):
    with Client(url, offer) as client:
        for parts in [["one ", "zwei ", "", "trois"], [b"", b"1", b"\x00" * 70_000, b""]]:
            last = len(parts) - 1
            for i, part in enumerate(parts):
                client.send(to_event(part, finished=i == last))
            equal(client.message(), type(parts[0])().join(parts))
        client.close()


def ping_between_fragments(url, offer):
    with Client(url, offer) as client:
        client.send(to_event("before ", finished=False))
        client.send(Ping(b"now"))
        answer = client.event()
        equal((type(answer), bytes(answer.payload)), (Pong, b"now"))
        client.send(to_event("after"))
        equal(client.message(), "before after")
        client.close()


def early_frame(url):
    with Client(url, early=to_event("early")) as client:
        equal(client.message(), "early")
        client.echo("then")
        client.close()


def negotiation(url, offer, accepted):
    with Client(url, offer) as client:
        equal(client.accepted is not None, accepted)
        client.echo("a" * 1000, "a" * 1000)
        client.close()


def the_same_on_many(url):
    """What is compressed for one of them may serve for the others."""
    bits = [f"{DEFLATE}; server_max_window_bits={bits}" for bits in (9, 10, 15)]
    flags = [f"{DEFLATE}; {side}_no_context_takeover" for side in ("server", "client")]
    messages = ["no" * 100, "repetition " * 500, b"repetition " * 500, os.urandom(300)]
    with ExitStack() as stack:
        offers = [None, DEFLATE, DEFLATE, *bits, *flags]
        clients = [stack.enter_context(Client(url, offer)) for offer in offers]
        for _ in range(10):
            for message in [*messages, os.urandom(200).hex()]:
                for client in clients:
                    client.echo(message, message)
        for client in clients:
            client.close()


def checks(url):
    for offer in [None, DEFLATE]:
        suffix = f", {offer} offered" if offer else ""
        yield f"messages of all sizes{suffix}", sizes, (url, offer)
        yield f"fragments are joined{suffix}", fragments, (url, offer)
        yield f"a ping between fragments{suffix}", ping_between_fragments, (url, offer)
    yield "a frame sent with the handshake", early_frame, (url,)
    yield "the same messages on many connections", the_same_on_many, (url,)

    for offer in [
        DEFLATE,
        f"{DEFLATE}; server_max_window_bits=10; client_max_window_bits",
        f'{DEFLATE};client_max_window_bits="12"',
        f"x-unknown; a=b, {DEFLATE}",
        f"{DEFLATE}; x-unknown, {DEFLATE}; server_no_context_takeover",
    ]:
        yield f"accepted: {offer}", negotiation, (url, offer, True)
    for offer in [
        "x-webkit-deflate-frame",
        f"{DEFLATE}; x-unknown",
        f"{DEFLATE}; server_max_window_bits",
        f"{DEFLATE}; server_max_window_bits=15x",
        f"{DEFLATE}; server_max_window_bits=7",
        f"{DEFLATE}; client_max_window_bits=16",
        f"{DEFLATE}; client_max_window_bits=010",
        f"{DEFLATE}; server_no_context_takeover=1",
        f"{DEFLATE}; server_no_context_takeover; server_no_context_takeover",
    ]:
        yield f"declined: {offer}", negotiation, (url, offer, False)


def main(url):
    failed = False
    for name, check, arguments in checks(url):
        try:
            check(*arguments)
            print(f"ok {name}", flush=True)
        except Exception as error:
            failed = True
            print(f"not ok {name}: {type(error).__name__} {error}", flush=True)
    return failed


sys.exit(main(sys.argv[1]))
