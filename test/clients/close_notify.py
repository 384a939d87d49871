"""close_notify.py PORT PATH

Asks for the path over TLS. When a line comes on standard input, it says by close_notify that it leaves, and waits for
the server's before it closes the connection (RFC 8446, 6.1).
"""

import socket
import ssl
import sys

TIMEOUT_SECONDS = 60


def main(port, path):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        tls = context.wrap_socket(connection, server_hostname="localhost")
        tls.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        sys.stdin.readline()
        try:
            tls.unwrap()
        except ssl.SSLError:
            # What the server has sent before its own.
            pass


main(int(sys.argv[1]), sys.argv[2])
