"""h2load.py ORIGIN...

Has h2load ask each origin for /health and for its page, which is a file, over HTTP/2 with many streams at a
time: with TLS by ALPN, without by prior knowledge. Each request has to succeed. How fast it went is not
judged. One line per case; exit code 1 when one failed.
"""

import re
import subprocess
import sys

from origins import judge

REQUESTS = 10_000
CONNECTIONS = 8

CASES = {
    "responses in many streams": ["/health", "-m", "100"],
    "files in many streams": ["/", "-m", "100"],
    "responses in one stream after the other": ["/health", "-m", "1"],
}


def load(origin, path, *options):
    """Returns what was wrong, if anything was."""
    h2load = ["h2load", "-t1", f"-c{CONNECTIONS}", f"-n{REQUESTS}", "--npn-list=h2", *options]
    try:
        result = subprocess.run([*h2load, origin + path], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "it did not end within 60 s"
    output = result.stdout + result.stderr
    succeeded = re.search(r", (\d+) succeeded, 0 failed, 0 errored, 0 timeout$", output, re.MULTILINE)
    statuses = re.search(r"^status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx$", output, re.MULTILINE)
    protocol = re.search(r"^Application protocol: h2c?$", output, re.MULTILINE)
    counts = [int(count[1]) for count in (succeeded, statuses) if count]
    if result.returncode or not protocol or counts != [REQUESTS, REQUESTS]:
        told = re.findall(r"^((?:Application|requests|status|finished).*)", output, re.MULTILINE)
        return f"h2load ended with {result.returncode}: {'; '.join(told)}"
    return ""


sys.exit(judge(sys.argv[1:], CASES, load))
