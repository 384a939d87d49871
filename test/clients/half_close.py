"""Sends a request over TLS, then close_notify and FIN, and reads to the end: half_close.py PORT PATH VERSION.

Prints the status and the length of the body. What :ssl of OTP makes of a server's end after a shutdown of its
own depends on when it comes.
"""

import socket
import ssl
import sys

TIMEOUT_SECONDS = 20


def main(port, path, version):
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
        request = f"GET {path} HTTP/{version}\r\nhost: localhost\r\n\r\n"
        step(lambda: tls.write(request.encode()))
        step(tls.unwrap)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while (data := step(lambda: tls.read(1 << 16))) != b"":
            if data is None:
                receive()
            else:
                answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    print(head.split()[1].decode(), len(body))


main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
