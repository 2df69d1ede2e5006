"""How far a run is, from numbers to words. Pure.

A share is only told where it means something: the estimate is InnoDB's (often tens of percent
wrong, and up to a day old), so a copy that has outgrown it has no share, and neither has one
that goes on where an earlier run left it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["asking", "streaming", "copying"]
_CHANGES = ("insert", "update", "delete")
_OPERATIONS = ("copy", *_CHANGES)
_SHARDS_NAMED = 4


@dataclass(slots=True)
class Tally:
    """What has been made of one table's rows: records by operation, and when (monotonic).

    All operations are there from the start, so that another thread can add them up.
    """

    records: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_OPERATIONS, 0)))
    first: float | None = None
    last: float = 0.0

    def add(self, operations: Mapping[str, int] | Iterable[str], now: float) -> None:
        """Count the records of one batch."""
        if isinstance(operations, Mapping):
            self.records.update(operations)
        else:
            for operation in operations:
                self.records[operation] += 1
        self.first = now if self.first is None else self.first
        self.last = now

    @property
    def seconds(self) -> float:
        """From the first batch to the last."""
        return 0.0 if self.first is None else self.last - self.first


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a keyspace's run.

    rows: records of all tables so far. per_second: of late. copied: of the table that is copied
    now, in this run; estimate: of its rows, None when nothing useful is known. behind: by shard,
    transactions before the stop position. resharded: shards that the stop position does not name:
    the stream is still before their reshard.
    """

    keyspace: str
    phase: Phase
    rows: int
    per_second: float
    table: str | None = None
    copied: int = 0
    estimate: int | None = None
    behind: Mapping[str, int] = field(default_factory=dict)
    resharded: Collection[str] = ()

    @property
    def share(self) -> float | None:
        """The part of the copy that is done, from 0 to 1."""
        if not self.estimate or self.copied > self.estimate:
            return None
        return self.copied / self.estimate


def headline(progress: Progress) -> str:
    """Say what is being done."""
    where = progress.keyspace + (f".{progress.table}" if progress.table else "")
    return f"{where}: {progress.phase}"


def details(progress: Progress) -> str:
    """Say how far and how fast."""
    if progress.phase == "copying" and progress.table is not None:
        parts = [_copied(progress)]
    else:
        parts = [f"{progress.rows:,} rows so far"]
    parts.append(f"{progress.per_second:,.0f} rows/s")
    if progress.phase == "streaming":
        parts.append(_behind(progress.behind, progress.resharded))
    return ", ".join(parts)


def _copied(progress: Progress) -> str:
    share = progress.share
    if share is None:
        return f"{progress.copied:,} rows"
    return f"{progress.copied:,} of about {progress.estimate:,} rows ({100 * share:.0f} %)"


def _behind(behind: Mapping[str, int], resharded: Collection[str]) -> str:
    """Name the shards that are farthest behind."""
    before = f"before the reshard of {', '.join(sorted(resharded))}" if resharded else ""
    if not behind:
        return before or "at the stop position"
    farthest = sorted(behind.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{shard} {count:,}" for shard, count in farthest[:_SHARDS_NAMED])
    rest = len(farthest) - _SHARDS_NAMED
    more = f" and {rest} more shards" if rest > 0 else ""
    return f"transactions to the stop position: {named}{more}" + (before and f", {before}")


def ending(*, full_table: bool, copied: bool, stopped: bool, error: str | None) -> str:
    """Say where a table's run has ended, and why there."""
    if error is not None:
        return f"left behind: {error}"
    if full_table:
        return "copied" if copied else "not copied to the end; it starts again in the next run"
    if not copied:
        return "its copy goes on in the next run"
    return "stopped before the stop position" if stopped else "at the stop position"


def summary(stream: str, tally: Tally, end: str) -> str:
    """Sum a stream up in one line."""
    parts = [f"{tally.records['copy']:,} rows copied"] if tally.records["copy"] else []
    parts += [
        f"{count:,} {kind}{'s' if count != 1 else ''}"
        for kind in _CHANGES
        if (count := tally.records[kind])
    ]
    what = ", ".join(parts) or "no rows"
    took = f" in {tally.seconds:.1f} s" if parts else ""
    return f"{stream}: {what}{took}; {end}"
