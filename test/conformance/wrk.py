"""wrk.py ORIGIN...

Has wrk ask each origin for /health and for its page, which is a file, as fast as it can, over connections
that stay and over such as end with each response. No socket may have an error, and no response a status
that is one. How fast it went is not judged. One line per case; exit code 1 when one failed.
"""

import re
import subprocess
import sys

from origins import judge

CONNECTIONS = 16
SECONDS = 1
# A machine that is busy with other things is not what is judged.
TIMEOUT = "30s"

CASES = {
    "a response": ["/health"],
    "a file": ["/"],
    "a response per connection": ["/health", "-H", "Connection: close"],
}


def load(origin, path, *options):
    """Returns what was wrong, if anything was."""
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--timeout", TIMEOUT, *options]
    result = subprocess.run([*wrk, origin + path], capture_output=True, text=True)
    output = result.stdout + result.stderr
    requests = re.search(r"^ *(\d+) requests in ", output, re.MULTILINE)
    if result.returncode or not requests or int(requests[1]) == 0:
        return f"wrk ended with {result.returncode}: {' '.join(output.split())}"
    # Told only where there are any.
    return ", ".join(re.findall(r"^ *((?:Non-2xx|Socket errors).*)", output, re.MULTILINE))


sys.exit(judge(sys.argv[1:], CASES, load))
