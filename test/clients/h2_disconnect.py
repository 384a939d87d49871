"""h2_disconnect.py PORT

Asks for `/events` on two streams of one connection, resets the first when both have begun, and prints what comes
on the second after that.
"""

import socket
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived

TIMEOUT_SECONDS = 60
STREAMS = [1, 3]


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.http = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.authority = f"127.0.0.1:{port}"

    def ask(self, stream):
        head = [(":method", "GET"), (":scheme", "http"), (":authority", self.authority), (":path", "/events")]
        self.http.send_headers(stream, head, end_stream=True)

    def data(self):
        """What comes, as pairs of a stream and its data."""
        while True:
            self.socket.sendall(self.http.data_to_send())
            for event in self.http.receive_data(self.socket.recv(1 << 16)):
                if isinstance(event, DataReceived):
                    yield event.stream_id, event.data


def main(port):
    client = Client(port)
    for stream in STREAMS:
        client.ask(stream)
    data = client.data()
    begun = set()
    while begun != set(STREAMS):
        begun.add(next(data)[0])
    client.http.reset_stream(STREAMS[0], ErrorCodes.CANCEL)
    for _stream, more in data:
        print(more.decode(), flush=True)


main(int(sys.argv[1]))
