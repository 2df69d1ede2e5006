"""Shows how far a run is: a line in the log now and then, or a bar on a terminal.

A separate thread looks at the run and asks the source how many rows its tables have. So the code
that writes rows only counts them by the batch, and progress is also shown for a run that waits. The
bar is tqdm's, if that is installed (the extra `progress`) and stderr is a terminal; log lines then
appear above it. Nothing is ever written to stdout.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Never, Self

from tap_vitess.config import Config
from tap_vitess.errors import VitessError, shown
from tap_vitess.log import logger_of
from tap_vitess.records.records import CHANGES, Tally
from tap_vitess.run.pace import Phase
from tap_vitess.run.state import KeyspaceState
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.tables import row_counts

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logger_of(__name__)

_BAR_SECONDS = 0.5
_JOIN_SECONDS = 2.0

# Returns roughly how many rows a keyspace's tables have.
Estimate = Callable[[str, Iterable[str]], Mapping[str, int]]


def estimated(config: Config, keyspace: str, tables: Iterable[str]) -> Mapping[str, int]:
    """Ask roughly how many rows tables have.

    Raises:
        VitessError: VTGate does not answer.
    """
    return Survey(config, keyspace, config.tablet_type, config.ranges).ask(
        row_counts, frozenset(tables)
    )


class Watch:
    """Watches one run after another, within a `with` statement."""

    def __init__(self, seconds: float, estimate: Estimate) -> None:
        """Prepare; seconds: between two progress lines, 0 for none."""
        self._seconds = seconds
        self._estimate = estimate
        self._run: KeyspaceSync | None = None
        self._resumed: frozenset[str] = frozenset()
        self._tallies: Mapping[str, Tally] = {}
        self._rows: Mapping[str, int] | None = None
        self._last = (time.monotonic(), 0)
        self._bar: tqdm[Never] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start watching."""
        if self._seconds:
            if sys.stderr.isatty() and importlib.util.find_spec("tqdm"):
                self._open_bar()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; wait at most `_JOIN_SECONDS` for a pending answer."""
        self._over.set()
        if self._seconds:
            self._thread.join(_JOIN_SECONDS)
        self._stack.close()

    def begin(self, run: KeyspaceSync, state: KeyspaceState) -> None:
        """Watch this run from now on; state: the one that it began with."""
        self._run = None
        self._tallies = {}
        self._rows = None
        self._resumed = frozenset(table for table, done in state.copies.items() if done)
        self._last = (time.monotonic(), 0)
        self._run = run

    def count(self, tallies: Mapping[str, Tally]) -> None:
        """Watch these tallies, by table."""
        self._tallies = tallies

    def end(self, streams: Mapping[str, str], error: VitessError | None) -> None:
        """Log a summary of the run, a line for each stream; `streams` are their names by table."""
        run, self._run = self._run, None
        if run is None:
            return
        failed = error is not None and error not in run.parts.left_behind.values()
        for table, stream in streams.items():
            left = run.parts.left_behind.get(table)
            end = ending(
                full_table=run.parts.specs[table].full_table,
                copied=run.parts.is_copied(table),
                stopped=run.pace.stopped,
                error=str(left) if left else "the run ended with an error" if failed else None,
            )
            logger.info("%s", summary(stream, self._tallies.get(table, Tally()), end))

    # The thread

    def _look(self) -> None:
        while not self._over.wait(_BAR_SECONDS if self._bar is not None else self._seconds):
            if (progress := self._progress()) is None:
                continue
            if self._bar is None:
                logger.info("%s, %s", headline(progress), details(progress))
            else:
                self._draw(self._bar, progress)

    def _progress(self) -> Progress | None:
        run = self._run
        if run is None:
            return None
        doing, tallies = run.pace.activity, self._tallies
        rows = sum(tally.records.total() for tally in tallies.values())
        tally = tallies.get(doing.table or "")
        return Progress(
            run.keyspace,
            doing.phase,
            rows,
            self._per_second(rows),
            doing.table,
            copied=tally.records["copy"] if tally else 0,
            estimate=self._rows_of(run, doing.table) if doing.table else None,
            behind=doing.behind,
            resharded=doing.resharded,
        )

    def _per_second(self, rows: int) -> float:
        now = time.monotonic()
        before, self._last = self._last, (now, rows)
        return (rows - before[1]) / max(now - before[0], 0.001)

    def _rows_of(self, run: KeyspaceSync, table: str) -> int | None:
        if table in self._resumed:
            return None
        if self._rows is None:
            try:
                self._rows = self._estimate(run.keyspace, tuple(self._tallies))
            except VitessError as error:
                logger.debug("%s: no estimate of rows: %s", run.keyspace, error)
                self._rows = {}
        return self._rows.get(table)

    # The bar

    def _open_bar(self) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - an extra
        from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

        self._bar = self._stack.enter_context(
            tqdm(file=sys.stderr, leave=False, bar_format="{desc}")
        )
        self._stack.enter_context(logging_redirect_tqdm())

    def _draw(self, bar: tqdm[Never], progress: Progress) -> None:
        share = progress.share
        words = shown(f"{headline(progress)}, {details(progress)}")
        bar.bar_format = "{desc}" if share is None else "{desc} |{bar:20}|"
        bar.total, bar.n = 1000, int(1000 * (share or 0))
        bar.set_description_str(words)


_SHARDS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a keyspace's run.

    rows: records of all tables so far. per_second: recently. copied: records of the table that is
    copied now, in this run; estimate: of its rows, None if nothing useful is known. behind: by
    shard, transactions up to the stop position. resharded: shards that the stop position does not
    name: the stream has not yet passed their reshard.
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
    """Name the shards that are farthest from the stop position."""
    before = f"before the reshard of {', '.join(sorted(resharded))}" if resharded else ""
    if not behind:
        return before or "up to date"
    farthest = sorted(behind.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{shard} {count:,}" for shard, count in farthest[:_SHARDS_NAMED])
    rest = len(farthest) - _SHARDS_NAMED
    more = f" and {rest} more shards" if rest > 0 else ""
    return f"transactions to the stop position: {named}{more}" + (before and f", {before}")


def ending(*, full_table: bool, copied: bool, stopped: bool, error: str | None) -> str:
    """Say how a table's run has ended, and why."""
    if error is not None:
        return f"not finished: {error}"
    if full_table:
        return "copied" if copied else "not copied to the end; it starts again in the next run"
    if not copied:
        return "its copy resumes in the next run"
    return "stopped before the stop position" if stopped else "up to date"


def summary(stream: str, tally: Tally, end: str) -> str:
    """Summarize a stream in one line."""
    parts = [f"{tally.records['copy']:,} rows copied"] if tally.records["copy"] else []
    parts += [
        f"{count:,} {kind}{'s' if count != 1 else ''}"
        for kind in CHANGES
        if (count := tally.records[kind])
    ]
    what = ", ".join(parts) or "no rows"
    took = f" in {tally.seconds:.1f} s" if parts else ""
    return f"{stream}: {what}{took}; {end}"
