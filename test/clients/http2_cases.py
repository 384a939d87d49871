"""http2_cases.py HOST PORT [DEVIATIONS]

Holds a server of HTTP/2 by prior knowledge to RFC 9113, clause by clause: one line per case, exit code
1 when one failed. The server runs the app of test/support/http2_app.ex, and gives up on a client that
takes no data after a few seconds.

DEVIATIONS is a file of cases that this server is known to fail, and how: `NAME | WHAT CAME`.
"""

import sys

import checks
from http2 import attacks, exchanges, flow_control, framing, isolation, requests

# Of a machine that is busy with other things; alone it takes a tenth of this.
SECONDS = 160


def read_deviations(path):
    with open(path) as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return dict(line.split(" | ") for line in lines)


address = (sys.argv[1], int(sys.argv[2]))
parts = [framing, requests, isolation, exchanges, flow_control, attacks]
cases = [case for part in parts for case in part.cases(address)]
names = [name for name, _case in cases]
assert len(names) == len(set(names)), "two cases have one name"
deviations = read_deviations(sys.argv[3]) if len(sys.argv) > 3 else {}
sys.exit(checks.run("http2_cases", cases, SECONDS, deviations))
