"""Rows of the engine in packages; each ends at a boundary, with the state for its rows.

A package is full by rows or by seconds, and ends at the next boundary. An error that ends the
engine also ends the last package: its rows count up to the last boundary, and `error` is raised
when they are loaded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import TracebackType
from typing import Any, Self

from tap_vitess.config import Config
from tap_vitess.dlt.columns import ENGINE_COLUMNS
from tap_vitess.dlt.progress import LoadProgress
from tap_vitess.errors import ConfigError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.run.again import copied_again
from tap_vitess.run.state import bookmark_key, bookmarks_of, parse
from tap_vitess.survey import discovery
from tap_vitess.survey.facts import Table
from tap_vitess.survey.rules import check_names
from tap_vitess.vstream import (
    Boundary,
    Query,
    RetryOptions,
    TableCopied,
    TableRows,
    TableSchema,
    Vitess,
)
from tap_vitess.vstream.arrow_reader import ArrowReader
from tap_vitess.vstream.changes import Reading, flat, parts_of

logger = logger_of(__name__)

Item = TableSchema | TableRows | TableCopied
Columns = Mapping[str, tuple[str, ...]]  # the names of some columns by keyspace.table
WHOLE = float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a package is full: by rows, or seconds after its first row."""

    rows: float = WHOLE
    seconds: float = WHOLE


@dataclass
class Feed:
    """A run of the engine over the tables that the settings let in.

    columns: of tables of which not all are read, beside those of the key and the vindex.
    state: what may be stored once all packages given out are loaded. copied: the version of each
    table whose copy the last package finishes. brought: the tables of which the last package has
    rows. rows: of all packages so far. error: what has ended the engine.
    """

    config: Config
    state: str | None
    columns: Columns = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    stop: Callable[[], bool] = lambda: False
    retry: RetryOptions = field(default_factory=RetryOptions)
    tables: Mapping[str, Table] = field(init=False)
    copied: dict[str, int] = field(init=False, default_factory=dict)
    brought: set[str] = field(init=False, default_factory=set)
    rows: int = field(init=False, default=0)
    error: VitessError | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Look which tables there are, and prepare to read them.

        Raises:
            VitessError: a setting or the state is wrong, or VTGate does not answer.
        """
        found = discovery.discover(self.config, self.retry)
        self.tables = {f"{table.keyspace}.{table.name}": table for table in found}
        check_names(self.columns, self.tables, "those to read", "columns")
        self._ends_at = time.monotonic() + (self.config.max_run_seconds or WHOLE)
        self._progress = LoadProgress(self.config, self.tables)
        self._known: dict[str, TableSchema] = {}
        self._next: Item | None = None
        self._reached = _asked_again(self.config, self.state, self.tables)
        self._items = flat(
            parts_of(
                vitess_of(self.config),
                [
                    Query(name, self.columns.get(name), self.config.filters.get(name))
                    for name in self.tables
                ],
                partial(ArrowReader, own=ENGINE_COLUMNS),
                Reading(self._reached, stop=self.is_stopped, boundary_seconds=0, retry=self.retry),
                by_table=True,
                observer=self._progress,
            )
        )

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        self._items.close()
        self._progress.__exit__(kind, error, traceback)

    def is_stopped(self) -> bool:
        """Return whether the run is to end at its next boundary."""
        return self.stop() or time.monotonic() >= self._ends_at

    def known(self) -> set[str]:
        """Name the tables that the state of the last package tells of."""
        bookmarks = bookmarks_of(json.loads(self.state)) if self.state else {}
        states = [
            parse(keyspace, bookmarks.get(bookmark_key(keyspace)))
            for keyspace in {table.keyspace for table in self.tables.values()}
        ]
        return {
            f"{s.keyspace}.{name}" for s in states for group in s.groups for name in group.tables
        }

    def has_more(self) -> bool:
        """Read on until there is something to load; False at the end, when nothing has changed."""
        if self._next is None:
            self._next = next((item for item in self._read() if item is not None), None)
        return self._next is not None or self._reached != self.state

    def package(self) -> Iterator[Item]:
        """Yield the items of the next package; what is told of it is its own after the last."""
        self.copied, self.brought = {}, set()
        first, count, since = self._next, 0, time.monotonic()
        self._next = None
        if first is not None:
            yield from self._given(first)
            count += _rows_of(first)
        full = False
        for item in self._read():
            if item is not None:
                yield from self._given(item)
                count += _rows_of(item)
            full = count >= self.limits.rows or time.monotonic() - since >= self.limits.seconds
            if item is None and full:
                break
        self.state = self._reached

    def _given(self, item: Item) -> Iterator[Item]:
        """Yield an item, a table's schema once more where it comes first in a package."""
        if isinstance(item, TableCopied):
            self.copied[item.name] = item.version
        elif isinstance(item, TableRows):
            self.brought.add(item.name)
            self.rows += item.rows.num_rows
            self._progress.add(item)
        yield item

    def _read(self) -> Iterator[Item | None]:
        """Yield what is to be loaded, and None at boundaries; the engine's error ends it."""
        try:
            for item in self._items:
                if isinstance(item, Boundary):
                    self._reached = item.state
                    yield None
                elif isinstance(item, TableSchema):
                    self._known[item.name] = item
                else:
                    yield item
        except VitessError as error:
            self.error = error

    def schema_of(self, name: str) -> Any:
        """Return the schema of a table's batches from here on, a pyarrow.Schema."""
        return self._known[name].schema


def columns_of(given: Mapping[str, Sequence[str]]) -> Columns:
    """Return names of columns as a feed takes them.

    Raises:
        ConfigError: a table has none, or one text.
    """
    for name, columns in given.items():
        if isinstance(columns, str) or not columns:
            raise ConfigError(f"columns: {name}: a list of names is expected")
    return {name: tuple(columns) for name, columns in given.items()}


def _rows_of(item: Item) -> int:
    return int(item.rows.num_rows) if isinstance(item, TableRows) else 0


def vitess_of(config: Config) -> Vitess:
    """Return settings as the library takes them."""
    own = {f.name for f in fields(Config)}
    values = {
        f.name: getattr(config if f.name in own else config.values, f.name) for f in fields(Vitess)
    }
    return Vitess(**{**values, "tls": config.tls or False})


def _asked_again(config: Config, state: str | None, tables: Collection[str]) -> str | None:
    """Return the state without the copies that resync_tables asks for again.

    Raises:
        ConfigError: a pattern fits nothing.
    """
    again = copied_again(config, tables)
    if state is None:
        return None
    bookmarks = bookmarks_of(json.loads(state))
    for name in again:
        keyspace, _, table = name.partition(".")
        known = parse(keyspace, bookmarks.get(bookmark_key(keyspace)))
        bookmarks[bookmark_key(keyspace)] = known.recopied(table).render()
    return json.dumps({"bookmarks": bookmarks}, separators=(",", ":")) if again else state
