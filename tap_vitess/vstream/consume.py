"""Level 3: batches of changes to a function, and the position stored after it.

The state is saved only when `flush` has returned for everything that it covers. So after a kill at
any moment, everything flushed since the last save comes again, and nothing is missing: at least
once. This level uses only `changes`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import partial
from typing import Any, Literal

from tap_vitess.errors import ConfigError, MappingError
from tap_vitess.log import logger_of
from tap_vitess.signals import taken_over
from tap_vitess.values.decode import Row
from tap_vitess.vstream.arrow import ArrowItem, arrow_changes
from tap_vitess.vstream.arrow_batches import ArrowBatch, ArrowCollector
from tap_vitess.vstream.arrow_reader import OWN_COLUMNS, TableRows
from tap_vitess.vstream.batches import Batch, Collector
from tap_vitess.vstream.changes import DEFAULT_RETRY, Boundary, Item, changes
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.decoding import Change
from tap_vitess.vstream.mapping import Converter, Mapper, as_it_is, mapper_of
from tap_vitess.vstream.query import Query, queries_of
from tap_vitess.vstream.stores import StateStore, VitessTableState
from tap_vitess.vtgate.retry import RetryOptions

logger = logger_of(__name__)


Flush = Callable[[Batch], object] | Callable[[ArrowBatch], object]


@dataclass(frozen=True, slots=True)
class Consumed:
    """How a call of `consume` ended.

    reason: "finished" (it reached where the keyspaces were at its start), "stopped" by `stop`, or
    "signal". signum: which signal. rows: changes flushed. batches: calls of `flush`.
    """

    reason: Literal["finished", "stopped", "signal"]
    signum: int | None
    rows: int
    batches: int


def consume(
    vitess: Vitess,
    tables: Mapping[str, Any] | Mapping[Query, Any] | Mapping[str | Query, Any],
    flush: Flush | Mapping[str, Flush],
    state: StateStore,
    *,
    rows: Literal["python", "arrow"] = "python",
    own_columns: Collection[str] = OWN_COLUMNS,
    follow: bool = True,
    batch_rows: int = 1000,
    batch_bytes: int = 64 << 20,
    batch_seconds: float = 1.0,
    converter: Converter | None = None,
    stop: Callable[[], bool] | threading.Event | None = None,
    signals: bool = True,
    idle_seconds: float = 10.0,
    poll_seconds: float = 10.0,
    timezone: tzinfo | None = None,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Consumed:
    """Pass the rows of tables to a function, batch by batch, until stopped.

    Args:
        vitess: where they are.
        tables: what the rows of each `keyspace.table` become: dict, a dataclass, any function of a
            row, or any class if there is a converter. This is a Change's `after`; its `before` is a
            dict. With rows as Arrow it must be dict. To read only some columns or rows, use a Query
            in place of the name.
        flush: applies a batch. When it returns, what it applied must be stored durably, or be
            stored in one transaction with the state, by your own store. If it raises an error, the
            call ends, and the next call repeats the batch. You can also pass a mapping of table
            names to functions: each function gets a batch with only its table's items, and the
            state is saved when all have returned.
        state: where the position is kept. A first run copies.
        rows: "arrow" for ArrowBatch, with columns; otherwise Batch.
        own_columns: of rows as Arrow, see `arrow_changes`.
        follow: whether to follow for ever; otherwise it ends where the keyspaces were when it
            began.
        batch_rows: how many rows make a batch full; it ends at the boundary after them.
        batch_bytes: the size above which rows as Arrow are delivered in parts.
        batch_seconds: how old the first row of a batch may become. An idle VTGate sends only once a
            second, so a batch may be a second older.
        converter: makes an object of a row and a class of `tables`, such as msgspec.convert.
        stop: an event, or a function that is called about every second. It ends the call after
            everything is flushed and saved.
        signals: whether SIGTERM and SIGINT do the same; in the main thread only.
        idle_seconds: how often the state is saved while no rows come, so that a consumer notices
            when a newer one has taken over its state.
        poll_seconds, timezone, retry: see `changes`. Rows as Arrow have TIMESTAMPs in UTC.

    Raises:
        FencedError: a newer consumer of this name has taken the state over.
        MappingError: a row does not fit its class.
        VitessError: see `changes`. What was not flushed and saved comes again.
    """
    if batch_rows < 1 or batch_bytes < 1:
        raise ConfigError("batch_rows and batch_bytes: at least 1")
    if rows == "arrow" and any(target is not dict for target in tables.values()):
        raise ConfigError("tables: rows as Arrow become nothing else; name each with dict")
    if rows == "arrow" and timezone is not None:
        raise ConfigError("timezone: rows as Arrow have their TIMESTAMPs in UTC")
    queries = queries_of(tables)
    if len(queries) < len(tables):
        raise ConfigError("tables: one is there twice, by its name and by a Query")
    mappers = {n: mapper_of(t, converter) for n, t in zip(queries, tables.values(), strict=True)}
    _check_apart(state, queries)
    if isinstance(flush, Mapping):
        flush = _by_table(flush, queries)
    asked = stop.is_set if isinstance(stop, threading.Event) else stop or (lambda: False)
    with taken_over(wanted=signals) as signal, closing(state):
        collector = Collector(batch_rows, batch_seconds)
        if rows == "arrow":
            collector = ArrowCollector(batch_rows, batch_seconds, batch_bytes)
        work = _Work(mappers, flush, state, collector, idle_seconds)
        source: Callable[..., Generator[Item | ArrowItem, None, None]]
        source = partial(changes, timezone=timezone)
        if rows == "arrow":
            source = partial(arrow_changes, own_columns=own_columns)
        found = source(
            vitess,
            queries.values(),
            state=state.load(),
            follow=follow,
            stop=signal.or_asked(asked),
            boundary_seconds=0,
            poll_seconds=poll_seconds,
            retry=retry,
        )
        with closing(found):
            for item in found:
                work.take(item)
        if signal.signum is not None:
            logger.warning("ended by signal %d; the next run resumes here", signal.signum)
            return Consumed("signal", signal.signum, work.rows, work.batches)
        return Consumed("stopped" if asked() else "finished", None, work.rows, work.batches)


def _by_table(flushes: Mapping[str, Flush], tables: Collection[str]) -> Flush:
    """Return a function that passes each table's items to the table's function.

    Raises:
        ConfigError: a table has no function, or a function no table.
    """
    if wrong := sorted(flushes.keys() ^ {*tables}):
        raise ConfigError(
            f"flush: a function for each table is expected, by name; {', '.join(wrong)} is there "
            "only once"
        )

    def flush(batch: Any) -> None:
        items: dict[str, list[Any]] = {}
        for item in batch.items:
            items.setdefault(item.name, []).append(item)
        for name, own in items.items():
            flushes[name](replace(batch, items=tuple(own)))

    return flush


def _check_apart(state: StateStore, tables: Collection[str]) -> None:
    if isinstance(state, VitessTableState):
        name = f"{state.place.keyspace}.{state.place.table}"
        if name in tables:
            raise ConfigError(f"tables: {name} holds the state, and each write to it is a change")


class _Work:
    """Collects, flushes and saves."""

    def __init__(
        self,
        mappers: Mapping[str, Mapper],
        flush: Callable[[Any], object],
        state: StateStore,
        collector: Collector,
        idle_seconds: float,
    ) -> None:
        self._mappers = mappers
        self._flush = flush
        self._state = state
        self._collector = collector
        self._idle_seconds = idle_seconds
        self._saved_at = time.monotonic()
        self._unsaved = False  # parts were flushed since the last save
        self.rows = 0
        self.batches = 0

    def take(self, item: Item | ArrowItem) -> None:
        """Process the next item of `changes` or `arrow_changes`."""
        now = time.monotonic()
        if isinstance(item, Boundary):
            self._reach(item, now)
        elif isinstance(item, TableRows) and isinstance(self._collector, ArrowCollector):
            for piece in self._collector.pieces(item):
                self._collect(piece, now)
        else:
            self._collect(self._mapped(item) if isinstance(item, Change) else item, now)

    def _collect(self, item: object, now: float) -> None:
        self._collector.add(item, now)
        if self._collector.is_too_large:
            self._give(None)
            self._unsaved = True

    def _reach(self, boundary: Boundary, now: float) -> None:
        idle = self._collector.is_empty and now - self._saved_at >= self._idle_seconds
        if boundary.phase or idle or self._unsaved or self._collector.is_due(now):
            state = boundary.state
            if not self._collector.is_empty:
                self._give(state)
            self._state.save(state)
            self._unsaved = False
            self._saved_at = time.monotonic()

    def _give(self, state: str | None) -> None:
        rows = self._collector.rows
        self._flush(self._collector.take(state))
        self.rows += rows
        self.batches += 1

    def _mapped(self, change: Change[Row]) -> Change[Any]:
        mapper = self._mappers[change.name]
        if change.after is None or mapper is as_it_is:
            return change
        try:
            found = mapper(change.after)
        except MappingError as error:
            raise self._misfit(change, str(error)) from None
        if found is None:
            raise self._misfit(
                change, "its function returned None for a row, which would mean a delete"
            )
        return replace(change, after=found)

    @staticmethod
    def _misfit(change: Change[Row], why: str) -> MappingError:
        message = f"{change.name}, shard {change.shard}: {why}"
        return MappingError(message, table=change.table)
