"""A connection of a client that may do anything: raw bytes over TCP or TLS."""

import asyncio
import contextlib
import socket
import ssl
import struct

# So that what is not read waits at the server, and not here.
RECEIVE_BUFFER = 4096
STREAM_LIMIT = 2048

TCP_ESTABLISHED = 1

# End the connection, each in its own way, and never the program.
GONE = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.TimeoutError, ssl.SSLError, ValueError)


class Target:
    """Where the server is, and how to reach it."""

    def __init__(self, plain, tls):
        self.ports = {False: plain, True: tls}

    async def connect(self, tls, alpn=None, small=False, raw=False):
        """A connection; with `small` the kernel keeps little of what nobody reads, with `raw` there is no
        TLS even where the server expects it."""
        connected = socket.socket()
        try:
            connected.setblocking(False)
            if small:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connected, ("127.0.0.1", self.ports[tls]))
        except BaseException:
            connected.close()
            raise
        options = {"limit": STREAM_LIMIT if small else 1 << 16}
        if tls and not raw:
            options |= {"ssl": context(alpn), "server_hostname": "localhost"}
        # From here on the transport closes it.
        reader, writer = await asyncio.open_connection(sock=connected, **options)
        if small and "ssl" in options:
            # It would go on reading until it has a quarter of a megabyte.
            writer.transport.set_read_buffer_limits(STREAM_LIMIT)
        return Peer(reader, writer)


def context(alpn):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    # That the server is the right one is what others judge.
    made.verify_mode = ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


class Peer:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read_until(self, end):
        return await self.reader.readuntil(end)

    async def read(self, count):
        return await self.reader.readexactly(count)

    async def some(self):
        """What has come, or b"" at the end."""
        return await self.reader.read(1 << 16)

    async def read_on(self):
        while await self.some():
            pass

    def is_open(self):
        """Whether the server has neither closed nor reset it, as the kernel knows without a look at what waits
        to be read (TCP_INFO begins with the state)."""
        connected = self.writer.get_extra_info("socket")
        if not connected or connected.fileno() < 0:
            return False
        return connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED

    def half_close(self):
        if self.writer.can_write_eof():
            self.writer.write_eof()

    def reset(self):
        connected = self.writer.get_extra_info("socket")
        if connected and connected.fileno() >= 0:
            linger = struct.pack("ii", 1, 0)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.vanish()

    def vanish(self):
        """Without a goodbye of TLS, and what waits to be sent is not."""
        # With TLS, a transport that was closed twice has nothing left to abort, which Python 3.11.2 trips over.
        with contextlib.suppress(AttributeError):
            self.writer.transport.abort()

    def close(self):
        self.writer.close()
