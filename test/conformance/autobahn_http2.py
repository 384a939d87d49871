"""autobahn_http2.py WSTEST REPORTS URL [PATTERN...]

As autobahn.py, over HTTP/2: nghttpx stands in between, and makes of each handshake an extended CONNECT
(RFC 8441) by prior knowledge. The outcomes have to be those of HTTP/1.1.
"""

import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import autobahn

# Debian's place, which is not in everybody's PATH.
NGHTTPX = "/usr/sbin/nghttpx"
START_SECONDS = 30
# The suite stays silent for longer than nghttpx likes.
IDLE = "10m"


@contextmanager
def relay(back):
    """nghttpx in front of a server of HTTP/2; yields its port on this machine."""
    with socket.socket() as reserved:
        # nghttpx takes no port 0. Nobody else is given the port of a socket that is bound, but nghttpx may
        # listen on it.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        process = subprocess.Popen(
            [
                NGHTTPX,
                "--conf=/dev/null",
                f"--frontend=127.0.0.1,{port};no-tls",
                f"--backend={back.hostname},{back.port};;proto=h2",
                f"--frontend-read-timeout={IDLE}",
                f"--backend-read-timeout={IDLE}",
                # Nothing of it outlives a kill.
                "--single-process",
                "--workers=1",
                "--log-level=WARN",
                "--accesslog-file=/dev/null",
            ],
            stdin=subprocess.DEVNULL,
        )
        try:
            wait_for(process, port)
            yield port
        finally:
            process.kill()
            process.wait()


def wait_for(process, port):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("nghttpx did not start")


def main(wstest, reports, url, *patterns):
    server = urlsplit(url)
    with relay(server) as port:
        front = server._replace(netloc=f"127.0.0.1:{port}").geturl()
        autobahn.main(wstest, reports, front, *patterns)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
main(*sys.argv[1:])
