"""autobahn.py WSTEST REPORTS URL [PATTERN...]

Runs Autobahn's fuzzing client against an echo endpoint, in one process per core. Each case of
autobahn-expected.txt (or those of the patterns, such as "1.*" and 9.1.1) must end as that file says:
one that ends worse fails, and so does one that ends better, until the file says so. One line per
case; exit code 1 when one failed. REPORTS is where the suite leaves its wire logs.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

EXPECTED = Path(__file__).with_name("autobahn-expected.txt")
AGENT = "ferrosock"


def expected(patterns):
    cases = {}
    for line in EXPECTED.read_text().splitlines():
        case, behavior, close = line.split()
        if not patterns or any(matches(case, pattern) for pattern in patterns):
            cases[case] = (behavior, close)
    return cases


def matches(case, pattern):
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), case)


def run(wstest, folder, url, shards):
    """Runs the shards side by side and returns what each case ended as, with its report's path."""
    processes = [start(wstest, folder / f"shard{i}", url, cases) for i, cases in enumerate(shards)]
    try:
        for i, process in enumerate(processes):
            if status := process.wait():
                print(f"wstest ended with {status}, see {folder / f'shard{i}' / 'log'}")
    finally:
        for process in processes:
            process.kill()
            process.wait()

    results = {}
    for i in range(len(shards)):
        results.update(read(folder / f"shard{i}"))
    return results


def start(wstest, folder, url, cases):
    folder.mkdir(parents=True)
    spec = {
        "outdir": str(folder),
        "options": {"failByDrop": False},
        "servers": [{"agent": AGENT, "url": url}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            [wstest, "-m", "fuzzingclient", "-s", folder / "spec.json"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


# wstest ends with 0 whatever happens, and its index lacks the cases that a dead server cost.
def read(folder):
    index = folder / "index.json"
    cases = json.loads(index.read_text())[AGENT] if index.exists() else {}
    return {
        case: ((result["behavior"], result["behaviorClose"]), folder / result["reportfile"])
        for case, result in cases.items()
    }


def judge(case, wanted, result):
    if result is None:
        return f"not ok {case}: no report"
    got, report = result
    if got == wanted:
        return f"ok {case}"
    return f"not ok {case}: {'/'.join(got)} instead of {'/'.join(wanted)}: {why(report)} ({report})"


def why(report):
    details = json.loads(report.read_text())
    return f"{details['result'][:200]} Close: {details['resultClose'][:200]}"


def main(wstest, reports, url, *patterns):
    wanted = expected(patterns)
    if not wanted:
        sys.exit(f"not ok: no case matches {' '.join(patterns)}")

    folder = Path(reports).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    # Dealt out in turn, as the long cases stand together.
    cases = list(wanted)
    count = min(os.cpu_count() or 1, len(cases))
    results = run(Path(wstest).resolve(), folder, url, [cases[i::count] for i in range(count)])

    lines = [judge(case, outcome, results.get(case)) for case, outcome in wanted.items()]
    print("\n".join(lines))
    sys.exit(any(line.startswith("not ok") for line in lines))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(*sys.argv[1:])
