"""Sends what comes from standard input over TLS, then close_notify and FIN, and reads to the end: half_close.py PORT.

Prints a line for each response: its status, and the length of its body. OTP's :ssl would not do: after a
shutdown of its own it may close as soon as the server's close_notify comes, whatever it has not given to its
owner.
"""

import http.client
import io
import socket
import ssl
import sys

TIMEOUT_SECONDS = 20


class Answer(io.BytesIO):
    """Reads as a socket does, from one response to the next."""

    def makefile(self, _mode):
        return self

    def close(self):
        pass


def exchange(port, request):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:

        def step(operation):
            """Does it as far as it goes. None: it needs more from the server."""
            try:
                return operation()
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLZeroReturnError:
                return b""
            finally:
                if data := outgoing.read():
                    connection.sendall(data)

        def receive():
            data = connection.recv(1 << 16)
            incoming.write(data) if data else incoming.write_eof()

        while step(lambda: tls.do_handshake() or True) is None:
            receive()
        step(lambda: tls.write(request))
        step(tls.unwrap)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while (data := step(lambda: tls.read(1 << 16))) != b"":
            if data is None:
                receive()
            else:
                answer += data
    return answer


def main(port):
    answer = Answer(exchange(port, sys.stdin.buffer.read()))
    while answer.tell() < len(answer.getbuffer()):
        response = http.client.HTTPResponse(answer)
        response.begin()
        print(response.status, len(response.read()))


main(int(sys.argv[1]))
