"""The reports of all runs: their medians, their ratios, and whether these are what they must be."""

import json
from dataclasses import dataclass
from statistics import median

from cases import CASES, METRICS, Case, Target


class Results:
    def __init__(self, reports=None):
        # case -> server -> one report for each round
        self.reports = reports or {}

    def add(self, case, server, report):
        self.reports.setdefault(case.name, {}).setdefault(server, []).append(report)

    def servers(self, case):
        return list(self.reports.get(case.name, {}))

    def values(self, case, server, metric):
        """One for each round; none where the server does not tell it."""
        metric = METRICS[metric]
        reports = self.reports.get(case.name, {}).get(server, [])
        values = [report.get(metric.key) for report in reports]
        return [value * metric.factor for value in values if value is not None]

    def median(self, case, server, metric):
        values = self.values(case, server, metric)
        return median(values) if values else None

    def ratio(self, case, metric):
        """Ferrosock's to plug_cowboy's in each round, and then the median: what slows a whole round
        cancels out. None where there is nothing to compare."""
        ours, theirs = (self.values(case, name, metric) for name in ("ferrosock", "cowboy"))
        ratios = [our / their for our, their in zip(ours, theirs) if their]
        return median(ratios) if ratios else None


@dataclass(frozen=True)
class Verdict:
    case: Case
    target: Target
    # None where it was not measured.
    value: float | None

    def reached(self, tolerance=0):
        return self.value is not None and self.target.reached(self.value, tolerance)


def verdicts(results):
    """On all targets."""
    return [
        Verdict(case, target, value(results, case, target))
        for case in CASES
        for target in case.targets
    ]


def value(results, case, target):
    if target.ratio:
        return results.ratio(case, target.metric)
    if target.worst:
        return max(results.values(case, "ferrosock", target.metric), default=None)
    return results.median(case, "ferrosock", target.metric)


def save(path, command, results, sweeps):
    document = {
        "command": command,
        "cases": results.reports,
        "sweeps": {name: sweep.reports for name, sweep in sweeps.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(path):
    """The results of the cases."""
    return Results(json.loads(path.read_text())["cases"])
