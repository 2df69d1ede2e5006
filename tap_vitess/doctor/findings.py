"""A finding: how bad, where, what, and what to do. Pure.

`check` is a stable word for machines; `what` and `advice` are for people and may change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import partialmethod

from tap_vitess.errors import shown


class Severity(IntEnum):
    """How bad a finding is; ERROR means that a run fails or gives wrong data."""

    OK = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


OK, INFO, WARNING, ERROR = Severity


@dataclass(frozen=True, slots=True)
class Place:
    """What a finding is about; without any field it is VTGate or the settings."""

    keyspace: str | None = None
    shard: str | None = None
    table: str | None = None

    def __str__(self) -> str:
        if self.keyspace is None:
            return "VTGate"
        if self.shard is not None:
            return shown(f"{self.keyspace}/{self.shard}")
        return shown(self.keyspace if self.table is None else f"{self.keyspace}.{self.table}")

    def finding(self, severity: Severity, check: str, what: str, advice: str = "") -> Finding:
        return Finding(severity, check, self, shown(what), shown(advice))

    ok = partialmethod(finding, Severity.OK)
    info = partialmethod(finding, Severity.INFO)
    warning = partialmethod(finding, Severity.WARNING)
    error = partialmethod(finding, Severity.ERROR)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    severity: Severity
    check: str
    place: Place
    what: str
    advice: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 when there are errors, 3 when there are warnings only, else 0.

    Python itself ends a crash with 1 and argparse a wrong command line with 2, so neither of them
    can be taken for a warning.
    """
    worst = max((finding.severity for finding in findings), default=Severity.OK)
    return {Severity.ERROR: 1, Severity.WARNING: 3}.get(worst, 0)


def duration(seconds: float) -> str:
    """Format seconds in the largest unit that fits."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length:
            number = f"{seconds / length:.1f}".removesuffix(".0")
            return f"{number} {unit if number != '1' else unit[:-1]}"
    return f"{seconds:g} seconds"
