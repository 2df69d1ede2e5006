"""Level 2: tables in; changes, finished copies and boundaries out. The engine is the tap's.

A table is copied, then its changes are followed, by the algorithm of `run/sync.py`: several tables
and shards in one stream of a keyspace, each change at least once, in order within a shard. What may
be stored is told by boundaries, and a run that starts from such a state goes on behind it.

Tables of several keyspaces come one keyspace after the other; with `follow` all at once, each
keyspace read in a thread of its own, the items given out in the caller's.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tap_vitess.config import Config
from tap_vitess.errors import ConfigError, RetriableError, StateError, VitessError
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordSequence
from tap_vitess.run import keyspaces as engine
from tap_vitess.run.interleave import interleave
from tap_vitess.run.state import Group, KeyspaceState, bookmark_key, bookmarks_of, parse
from tap_vitess.run.sync import Checkpoint, CopyFinished, KeyspaceSync, TableSpec
from tap_vitess.survey import discovery
from tap_vitess.survey.facts import Table
from tap_vitess.survey.keyspace import Survey
from tap_vitess.values.decode import ObjectDecoder, Row
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.decoding import Change, TableReader
from tap_vitess.vtgate.grpc import Client, connect
from tap_vitess.vtgate.retry import RetryOptions, retrying

logger = logging.getLogger(__name__)

DEFAULT_RETRY = RetryOptions()


@dataclass(frozen=True, slots=True)
class TableCopied:
    """All rows of a table's copy have been given out: rows of older versions may go.

    They are of a copy that was begun anew, or that nobody remembers, and may have been deleted in
    the source without a delete among the changes. Every Change carries its table's version.
    """

    keyspace: str
    table: str
    version: int

    @property
    def name(self) -> str:
        """The table's whole name, `keyspace.table`."""
        return f"{self.keyspace}.{self.table}"


@dataclass(frozen=True, slots=True, eq=False)
class Boundary:
    """A moment: `state` may be stored once all that came before it has been processed.

    keyspace: whose boundary it is; the state has all keyspaces. phase: whether a copy or the
    stream begins or ends here, else the boundary is due by time alone.
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
        """The keyspace's position; None while its tables stand at several, or at none."""
        groups = self._states[self.keyspace].merged().groups
        return groups[0].position if len(groups) == 1 else None


Item = Change[Row] | TableCopied | Boundary


def changes(
    vitess: Vitess,
    tables: Iterable[str],
    *,
    state: str | None = None,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    boundary_seconds: float = 1.0,
    poll_seconds: float = 10.0,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Generator[Item, None, None]:
    """Copy tables and follow their changes.

    Args:
        vitess: where they are.
        tables: their names, as `keyspace.table`. A table that the state does not know is copied.
        state: a boundary's, to go on from there; None for a first run. Tables that it knows and
            that are not named keep their place in it.
        follow: whether to go on for ever; else the iterator ends where the keyspaces were when it
            began.
        stop: asked about every second; True ends the iterator with a last boundary.
        boundary_seconds: how often there is a boundary, 0 for one behind each response of VTGate.
        poll_seconds: with `follow`, how often SQL is asked where the keyspace is, to see that the
            stream brings all there is.
        retry: how long passing faults are retried.

    Raises:
        VitessError: a setting or the state is wrong (at once), or the run cannot go on: there was
            a last boundary before, and it holds. A table that cannot be read does not stop the
            others, unless `follow` is set; its error is raised at the end.
    """
    bookmarks = _bookmarks(state)
    keyspaces = by_keyspace(tables)
    states = {ks: parse(ks, bookmarks.get(bookmark_key(ks))) for ks in keyspaces}
    options = _Options(vitess.config(), follow, stop, boundary_seconds, poll_seconds, retry)
    return _Run(options, keyspaces, states, bookmarks).items()


def state_text(bookmarks: Mapping[str, Any], states: Mapping[str, KeyspaceState]) -> str:
    """Write a state: a Singer state, which the doctor reads too."""
    own = {bookmark_key(keyspace): state.render() for keyspace, state in states.items()}
    return json.dumps({"bookmarks": {**bookmarks, **own}}, separators=(",", ":"))


def _bookmarks(state: str | None) -> dict[str, Any]:
    if state is None:
        return {}
    try:
        document = json.loads(state)
    except ValueError:
        raise StateError("the state given is no JSON") from None
    return bookmarks_of(document)


def by_keyspace(tables: Iterable[str]) -> dict[str, list[str]]:
    """Sort names of tables by keyspace.

    Raises:
        ConfigError: one of them is no `keyspace.table`, or there is none.
    """
    names = [tables] if isinstance(tables, str) else list(dict.fromkeys(tables))
    found: dict[str, list[str]] = {}
    for name in names:
        keyspace, dot, table = name.partition(".")
        if not (keyspace and dot and table):
            raise ConfigError(f"tables: {name} is no keyspace.table")
        found.setdefault(keyspace, []).append(table)
    if not found:
        raise ConfigError("tables: there is none to read")
    return found


@dataclass(frozen=True, slots=True)
class _Options:
    config: Config
    follow: bool
    stop: Callable[[], bool]
    boundary_seconds: float
    poll_seconds: float
    retry: RetryOptions


@dataclass(frozen=True, slots=True)
class _Reached:
    """A boundary of one keyspace, before it is given out."""

    state: KeyspaceState
    phase: bool


_Found = Sequence[Change[Row] | TableCopied | _Reached]


class _Run:
    """A call of `changes`."""

    def __init__(
        self,
        options: _Options,
        keyspaces: Mapping[str, Sequence[str]],
        states: dict[str, KeyspaceState],
        bookmarks: Mapping[str, Any],
    ) -> None:
        self._options = options
        self._keyspaces = keyspaces
        self._states = states
        self._bookmarks = bookmarks
        self._errors: list[VitessError] = []

    def items(self) -> Generator[Item, None, None]:
        """Yield the items of all keyspaces."""
        with connect(self._options.config) as client:
            sources = [functools.partial(self._source, client, ks) for ks in self._keyspaces]
            parallel = len(sources) if self._options.follow else 1
            for keyspace, items in interleave(sources, parallel):
                for item in items:
                    yield self._boundary(keyspace, item) if isinstance(item, _Reached) else item
        if self._errors:
            raise self._errors[0]

    def _boundary(self, keyspace: str, reached: _Reached) -> Boundary:
        # Replaced and not changed: boundaries that were given out look at it.
        self._states = {**self._states, keyspace: reached.state}
        return Boundary(keyspace, reached.phase, self._states, self._bookmarks)

    def _source(self, client: Client, keyspace: str) -> Iterator[tuple[str, _Found]]:
        """Read a keyspace; without `follow`, its error does not stop the others."""
        try:
            for items in _Keyspace(self._options, client, self._states[keyspace]).read(
                self._keyspaces[keyspace]
            ):
                yield keyspace, items
        except VitessError as error:
            if self._options.follow:
                raise
            logger.error("%s: %s", keyspace, error.within(keyspace))  # noqa: TRY400
            self._errors.append(error)


class _Keyspace:
    """Reads one keyspace, in one thread."""

    def __init__(self, options: _Options, client: Client, state: KeyspaceState) -> None:
        self._options = options
        self._client = client
        self._state = state
        self._keyspace = state.keyspace
        self._sequence = RecordSequence(state.seq)

    def read(self, names: Iterable[str]) -> Iterator[_Found]:
        """Yield what comes, run by run: only what follows has more than one."""
        if self._options.stop():
            return
        tables = self._describe(names)
        while True:
            run = self._run(tables)
            yield from self._read(run, tables)
            if run.stopped or not self._options.follow:
                return
            self._state = run.stored

    def _describe(self, names: Iterable[str]) -> list[Table]:
        options = self._options
        described = discovery.patiently_described(
            options.config, self._keyspace, options.retry, options.stop
        )
        found = {table.name: table for table in described}
        if missing := [name for name in names if name not in found]:
            raise ConfigError(
                f"tables: {self._keyspace} has no table {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        return [found[name] for name in names]

    def _run(self, tables: Iterable[Table]) -> KeyspaceSync:
        options = self._options
        return KeyspaceSync(
            self._client,
            Survey(options.config, self._keyspace),
            [TableSpec(table.name, key=table.key) for table in tables],
            self._state,
            replace(
                engine.sync_options(options.config, options.retry),
                checkpoint_seconds=options.boundary_seconds,
                follow=options.follow,
                poll_seconds=options.poll_seconds,
                by_table=False,
            ),
            options.stop,
        )

    def _readers(self, run: KeyspaceSync, tables: Iterable[Table]) -> dict[str, TableReader]:
        options = self._options
        made = replace(
            engine.record_options(
                options.config, self._keyspace, options.retry, options.stop, run.whole_rows
            ),
            decoder=ObjectDecoder,
        )
        return {table.name: TableReader(table, self._sequence, made) for table in tables}

    def _read(self, run: KeyspaceSync, tables: Sequence[Table]) -> Iterator[_Found]:
        readers = self._readers(run, tables)
        try:
            for event in run.events():
                match event:
                    case Rows(fields=fields):
                        yield self._changes(run, readers[fields.table], event)
                    case CopyFinished(table=table, version=version):
                        yield [TableCopied(self._keyspace, table, version)]
                    case Checkpoint(phase=phase):
                        yield [self._reached(run, phase=phase)]
        except VitessError:
            yield [self._reached(run, phase=True)]
            raise

    def _reached(self, run: KeyspaceSync, *, phase: bool) -> _Reached:
        return _Reached(replace(run.stored, seq=self._sequence.last), phase)

    def _changes(self, run: KeyspaceSync, reader: TableReader, rows: Rows) -> list[Change[Row]]:
        """Decode rows; a table whose rows cannot be taken is given up, and the others go on."""
        table = rows.fields.table
        try:
            return reader.read(rows, run.versions[table])
        except RetriableError:
            raise
        except VitessError as error:
            run.give_up(table, error)
            return []


def state_at(
    vitess: Vitess,
    tables: Iterable[str],
    positions: Mapping[str, Vgtid] | None = None,
    *,
    retry: RetryOptions = DEFAULT_RETRY,
) -> str:
    """Return a state as if tables had been copied: only what changes after it will come.

    Args:
        vitess: where they are.
        tables: as `keyspace.table`.
        positions: where to start, by keyspace; where a keyspace is now, if it is not among them.
        retry: how long to ask.

    Raises:
        VitessError: VTGate does not tell where a keyspace is.
    """
    config, given = vitess.config(), dict(positions or {})
    keyspaces = by_keyspace(tables)
    if strange := [ks for ks, position in given.items() if position.keyspace != ks]:
        raise ConfigError(f"positions: that of {strange[0]} is of another keyspace")
    version = time.time_ns() // 1_000_000
    states: dict[str, KeyspaceState] = {}
    for keyspace, names in keyspaces.items():
        position = given.get(keyspace)
        if position is None:
            what = f"the position of {keyspace}"
            position = retrying(what, Survey(config, keyspace).position, retry, lambda: False)
        states[keyspace] = KeyspaceState(
            keyspace, (Group(position, dict.fromkeys(names, version)),)
        )
    return state_text({}, states)
