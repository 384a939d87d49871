"""Judges origins by a program that asks them for pages. One line per case."""


def judge(origins, cases, load):
    """`load` of an origin, a path and options returns what was wrong, if anything was. Whether a case failed."""
    failed = False
    for origin in origins:
        for name, (path, *options) in cases.items():
            fault = load(origin, path, *options)
            failed = failed or bool(fault)
            name = f"{name}, {origin.partition(':')[0]}"
            print(f"not ok {name}: {fault}" if fault else f"ok {name}", flush=True)
    return failed
