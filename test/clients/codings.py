"""Asks a server for one resource in each content coding, and compares what Python makes of it.

    codings.py URL
"""

import sys
import urllib.request
import zlib

# What zlib is told of the format.
FORMATS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def get(accept_encoding):
    request = urllib.request.Request(sys.argv[1], headers={"accept-encoding": accept_encoding})

    with urllib.request.urlopen(request, timeout=20) as response:
        return response.headers, response.read()


def decode(body, window_bits):
    decoder = zlib.decompressobj(window_bits)
    decoded = decoder.decompress(body)
    assert decoder.eof, "the body is cut"
    assert not decoder.unused_data, "something follows the body"
    return decoded


headers, plain = get("identity")
assert headers["content-encoding"] is None
assert headers["vary"] == "accept-encoding"

for asked, window_bits in FORMATS.items():
    headers, body = get(asked)
    assert headers["content-encoding"] == asked.removeprefix("x-"), headers
    assert headers["vary"] == "accept-encoding", headers
    assert int(headers["content-length"]) == len(body) < len(plain), headers
    assert decode(body, window_bits) == plain
