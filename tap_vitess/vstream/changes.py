"""Level 2: tables in; changes, finished copies and boundaries out. The engine is the tap's.

A table is copied, then its changes are followed, by the algorithm of `run/sync.py`: one stream for
several tables and shards of a keyspace, each change at least once, in order within a shard.
Boundaries carry the state that may be stored, and a run with such a state resumes after it.

Keyspaces are read one after another. With `follow` they are read at the same time, each in its own
thread; the caller's thread gets the items.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from tap_vitess.errors import ConfigError, StateError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordOptions, RecordSequence
from tap_vitess.run import keyspaces as engine
from tap_vitess.run.parts import TableSpec
from tap_vitess.run.state import (
    NOTHING_COPIED,
    Group,
    KeyspaceState,
    bookmark_key,
    bookmarks_of,
    parse,
)
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.signals import Taken
from tap_vitess.survey import discovery
from tap_vitess.survey.facts import Table
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.keyspace import position as position_of
from tap_vitess.survey.rules import needed_columns
from tap_vitess.values.decode import Row
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.decoding import Change, OfTable, TableReader
from tap_vitess.vstream.query import Query, queries_of
from tap_vitess.vtgate.retry import RetryOptions, retrying

logger = logger_of(__name__)

DEFAULT_RETRY = RetryOptions()
ItemT = TypeVar("ItemT")
Item_co = TypeVar("Item_co", covariant=True)


@dataclass(frozen=True, slots=True)
class TableCopied(OfTable):
    """All rows of a table's copy have been delivered: delete its rows of older versions.

    Those come from before a copy that started over, or from one that the state does not know. They
    may have been deleted in the source without a delete among the changes. Every Change carries its
    table's version.
    """

    version: int


@dataclass(frozen=True, slots=True, eq=False)
class Boundary:
    """A point in the stream: store `state` once everything before it has been processed.

    keyspace: which keyspace has come to it; the state has all keyspaces. phase: whether a copy or
    the stream begins or ends here; otherwise the boundary is due by time alone.
    """

    keyspace: str
    phase: bool
    _states: Mapping[str, KeyspaceState] = field(repr=False)
    _bookmarks: Mapping[str, Any] = field(repr=False)

    @property
    def state(self) -> str:
        """The state, to be given to `changes` again."""
        return state_text(self._bookmarks, self._states)

    @property
    def position(self) -> Vgtid | None:
        """The keyspace's position; None while its tables have several positions, or none."""
        groups = self._states[self.keyspace].merged().groups
        return groups[0].position if len(groups) == 1 else None


Item = Change[Row] | TableCopied | Boundary


def changes(
    vitess: Vitess,
    tables: Iterable[str | Query],
    *,
    state: str | None = None,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    boundary_seconds: float = 1.0,
    poll_seconds: float = 10.0,
    timezone: tzinfo | None = None,
    signals: bool = False,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Generator[Item, None, None]:
    """Copy tables and follow their changes.

    Args:
        vitess: where they are.
        tables: their names, as `keyspace.table`, or a Query for some columns and rows. A table that
            the state does not know is copied.
        state: of a Boundary, to resume there; None for a first run. Tables that it knows but that
            are not named keep their place in it.
        follow: whether to follow for ever; otherwise the iterator ends where the keyspaces were
            when it began.
        stop: asked about every second; True ends the iterator with a last boundary.
        boundary_seconds: how often there is a boundary; 0 for one after each response of VTGate.
        poll_seconds: with `follow`, how often to ask by SQL where the keyspace is, to notice a
            stream that has stalled.
        timezone: the zone of TIMESTAMPs and commit times, which become aware datetimes; without it
            a TIMESTAMP is a datetime in UTC without a zone. A DATETIME never has a zone.
        signals: whether SIGTERM and SIGINT (Ctrl-C) stop it as `stop` does, while it is iterated in
            the main thread; a second one ends the process. Close an iterator that you leave early.
        retry: how long temporary faults are retried.

    Raises:
        VitessError: a setting or the state is wrong (at once), or the run cannot continue; the last
            boundary before the error is valid. A table that cannot be read does not stop the
            others, unless `follow` is set; its error is raised at the end.
    """
    taken = Taken()
    how = Reading(state, follow, taken.or_asked(stop), boundary_seconds, poll_seconds, retry)
    parts = parts_of(vitess, tables, partial(TableReader, timezone=timezone), how)
    return taken.within(flat(parts), wanted=signals)


@dataclass(frozen=True, slots=True)
class Reading:
    """How tables are read; see `changes`."""

    state: str | None = None
    follow: bool = False
    stop: Callable[[], bool] = lambda: False
    boundary_seconds: float = 1.0
    poll_seconds: float = 10.0
    retry: RetryOptions = DEFAULT_RETRY


class Reader(Protocol[Item_co]):
    """Makes items from one table's rows. opening: returns the items before the first row."""

    def opening(self) -> Iterable[Item_co]: ...
    def read(self, rows: Rows, version: int) -> Sequence[Item_co]: ...


class Observer(Protocol):
    """Is called with the run of each keyspace, in the thread that reads it."""

    def begin(self, run: KeyspaceSync, state: KeyspaceState) -> None: ...
    def end(self, run: KeyspaceSync | None, error: VitessError | None) -> None: ...


MakeReader = Callable[[Table, RecordSequence, RecordOptions], Reader[ItemT]]


def flat(parts: Generator[Sequence[ItemT], None, None]) -> Generator[ItemT, None, None]:
    """Yield the items of all parts."""
    with closing(parts):
        for part in parts:
            yield from part


def parts_of(
    vitess: Vitess,
    tables: Iterable[str | Query],
    reader: MakeReader[ItemT],
    how: Reading,
    *,
    by_table: bool = False,
    observer: Observer | None = None,
) -> Generator[Sequence[ItemT | TableCopied | Boundary], None, None]:
    """Yield a reader's items for each table's rows, as they come; for the rest see `changes`.

    With `by_table` the reader gets rows of several transactions at once, see SyncOptions.
    """
    bookmarks = _bookmarks(how.state)
    queries = queries_of(tables)
    keyspaces = by_keyspace(queries)
    states = {ks: parse(ks, bookmarks.get(bookmark_key(ks))) for ks in keyspaces}
    config = vitess.config()
    sync = replace(
        engine.sync_options(config, how.retry),
        checkpoint_seconds=how.boundary_seconds,
        follow=how.follow,
        poll_seconds=how.poll_seconds,
        by_table=by_table,
        by_column=by_table,
    )
    run: engine.Run[_Made[ItemT]] = engine.Run(config, how.retry, how.stop, sync)
    describe = functools.partial(
        discovery.patiently_described, config, retry=how.retry, stopping=how.stop
    )
    sinks = [
        _KeyspaceReader(
            states[keyspace],
            {name: queries[f"{keyspace}.{name}"] for name in names},
            describe,
            reader,
            observer,
            follow=how.follow,
        )
        for keyspace, names in keyspaces.items()
    ]
    return _parts(run, sinks, states, bookmarks)


def _parts(
    run: engine.Run[_Made[ItemT]],
    sinks: Sequence[_KeyspaceReader[ItemT]],
    states: Mapping[str, KeyspaceState],
    bookmarks: Mapping[str, Any],
) -> Generator[Sequence[ItemT | TableCopied | Boundary], None, None]:
    """Yield the items of all keyspaces, in the caller's thread."""
    for made in run.into(sinks):
        part: list[ItemT | TableCopied | Boundary] = []
        for item in made:
            if isinstance(item, _Reached):
                keyspace = item.state.keyspace
                # Replaced, not changed: delivered boundaries refer to it.
                states = {**states, keyspace: item.state}
                part.append(Boundary(keyspace, item.phase, states, bookmarks))
            else:
                part.append(item)
        yield part
    if run.errors:
        raise run.errors[0]


def state_text(bookmarks: Mapping[str, Any], states: Mapping[str, KeyspaceState]) -> str:
    """Write the state as a Singer state, which the doctor reads, too."""
    own = {bookmark_key(keyspace): state.render() for keyspace, state in states.items()}
    return json.dumps({"bookmarks": {**bookmarks, **own}}, separators=(",", ":"))


def _bookmarks(state: str | None) -> dict[str, Any]:
    if state is None:
        return {}
    try:
        document = json.loads(state)
    except (ValueError, RecursionError):
        raise StateError("the state given is not JSON") from None
    return bookmarks_of(document)


def by_keyspace(tables: Iterable[str]) -> dict[str, list[str]]:
    """Group names of tables by keyspace.

    Raises:
        ConfigError: one of them is not `keyspace.table`, or no name is given.
    """
    names = [tables] if isinstance(tables, str) else list(dict.fromkeys(tables))
    found: dict[str, list[str]] = {}
    for name in names:
        keyspace, dot, table = name.partition(".")
        if not (keyspace and dot and table):
            raise ConfigError(f"tables: {name} is not keyspace.table")
        found.setdefault(keyspace, []).append(table)
    if not found:
        raise ConfigError("tables: name at least one")
    return found


@dataclass(frozen=True, slots=True)
class _Reached:
    """A boundary of one keyspace, before it becomes a Boundary."""

    state: KeyspaceState
    phase: bool


_Made = Sequence[ItemT | TableCopied | _Reached]


class _KeyspaceReader(Generic[ItemT]):
    """Makes items from one keyspace's run, in one thread."""

    def __init__(
        self,
        state: KeyspaceState,
        queries: Mapping[str, Query],
        describe: Callable[[str], Iterable[Table]],
        reader: MakeReader[ItemT],
        observer: Observer | None,
        *,
        follow: bool,
    ) -> None:
        self.state = state
        self._queries = queries
        self._describe = describe
        self._follow = follow
        self._tables: list[Table] = []
        self._make = reader
        self._observer = observer
        self._readers: dict[str, Reader[ItemT]] = {}
        self._opening: list[ItemT] = []

    def tables(self) -> list[TableSpec]:
        found = {table.name: table for table in self._describe(self.state.keyspace)}
        if missing := [name for name in self._queries if name not in found]:
            raise ConfigError(
                f"tables: {self.state.keyspace} has no table {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        self._tables = [self._read(found[name], query) for name, query in self._queries.items()]
        return [
            TableSpec(table.name, key=table.key, wanted=self._queries[table.name].wanted)
            for table in self._tables
        ]

    def _read(self, table: Table, query: Query) -> Table:
        """Return a table with the columns that are read; a followed one may have lost some.

        Raises:
            ConfigError: a table that is not followed yet lacks a column.
        """
        if query.columns is None:
            return table
        names = [column.name for column in table.columns]
        missing = [name for name in query.columns if name not in names]
        if missing and self.state.group_of(table.name) is None:
            raise ConfigError(
                f"columns: {query.name} has no column {', '.join(missing)}; it has "
                f"{', '.join(names)}"
            )
        wanted = {*query.columns, *needed_columns(table)}
        return replace(table, columns=tuple(c for c in table.columns if c.name in wanted))

    def begin(self, sync: KeyspaceSync, sequence: RecordSequence, options: RecordOptions) -> None:
        if self._observer is not None:
            self._observer.begin(sync, self.state)
        self._readers = {t.name: self._make(t, sequence, options) for t in self._tables}
        self._opening = [item for reader in self._readers.values() for item in reader.opening()]

    def write(self, rows: Rows, version: int) -> _Made[ItemT]:
        return [*self._opened(), *self._readers[rows.fields.table].read(rows, version)]

    def finish_copy(self, table: str, version: int) -> _Made[ItemT]:
        return [*self._opened(), TableCopied(self.state.keyspace, table, version)]

    def keep(self, state: KeyspaceState, *, phase: bool) -> _Made[ItemT]:
        return [*self._opened(), _Reached(state, phase)]

    def _opened(self) -> list[ItemT]:
        opening, self._opening = self._opening, []
        return opening

    def failed(self, error: VitessError) -> None:
        """Note the error, which is raised at the end; with `follow` it is raised at once."""
        if not self._follow:
            keyspace = self.state.keyspace
            logger.error("%s: %s", keyspace, error.within(keyspace))

    def end(self, sync: KeyspaceSync | None, error: VitessError | None) -> None:
        """Tell the observer; there are no more items."""
        if self._observer is not None:
            self._observer.end(sync, error)


def state_at(
    vitess: Vitess,
    tables: Iterable[str | Query],
    positions: Mapping[str, Vgtid] | None = None,
    *,
    retry: RetryOptions = DEFAULT_RETRY,
) -> str:
    """Return a state as if tables had been copied: only later changes will come.

    Args:
        vitess: where they are.
        tables: as `keyspace.table`, or as the Query that they will be read by.
        positions: where to start, by keyspace; any other keyspace starts at its present position.
        retry: how long to ask.

    Raises:
        VitessError: VTGate does not say where a keyspace is.
    """
    config, given = vitess.config(), dict(positions or {})
    keyspaces = by_keyspace(queries_of(tables))
    if strange := [ks for ks, position in given.items() if position.keyspace != ks]:
        raise ConfigError(f"positions: that of {strange[0]} is of another keyspace")
    version = time.time_ns() // 1_000_000
    states: dict[str, KeyspaceState] = {}
    for keyspace, names in keyspaces.items():
        position = given.get(keyspace)
        if position is None:
            what = f"the position of {keyspace}"
            survey = Survey(config, keyspace, config.tablet_type, config.ranges)
            position = retrying(what, functools.partial(survey.ask, position_of), retry)
        states[keyspace] = KeyspaceState(
            keyspace,
            (Group(position, dict.fromkeys(names, version)),),
            rules=dict.fromkeys(names, NOTHING_COPIED),
        )
    return state_text({}, states)
