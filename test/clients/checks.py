"""Runs checks: a line for each, `ok NAME` or `not ok NAME: WHY`, and a last line that counts them."""

import time


def run(title, checks, seconds, deviations=None):
    """Runs pairs of a name and a function, and returns the exit status.

    After `seconds` the rest fails. `deviations` has the names of checks that are known to fail, each
    with what `WHY` says then: to fail otherwise, or not to fail any more, is a failure.
    """
    start = time.monotonic()
    deviations = deviations or {}
    unknown = set(deviations) - {name for name, _check in checks}
    lines = [f"not ok {name}: it deviates, and there is no such check" for name in sorted(unknown)]
    print(*lines, sep="\n", end="\n" if lines else "")
    for name, check in checks:
        late = time.monotonic() - start > seconds
        why = "there was no time left for it" if late else verdict(check)
        lines.append(report(name, why, deviations.get(name)))
        print(lines[-1], flush=True)
    failed = sum(line.startswith("not ok") for line in lines)
    taken = time.monotonic() - start
    print(f"{title}: {len(lines) - failed} passed, {failed} failed in {taken:.0f} s")
    return int(failed > 0)


def verdict(check):
    try:
        check()
    except Exception as error:
        return f"{type(error).__name__} {error}"


def report(name, why, deviation):
    if deviation is None:
        return f"ok {name}" if why is None else f"not ok {name}: {why}"
    if why is None:
        return f"not ok {name}: it is known to fail with {deviation}, and does not"
    if deviation in why:
        return f"ok {name}, but for a known deviation: {deviation}"
    return f"not ok {name}: {why}, not {deviation} as is known"


def equal(seen, expected, what="it"):
    if seen != expected:
        raise AssertionError(f"{what} is {repr(seen)[:80]} instead of {repr(expected)[:80]}")
