"""One run over all keyspaces, for every front end; each is a sink for what the run delivers.

Only this module decides:

- when a run ends, and who may end it;
- that an error of one keyspace does not stop the others, except in an endless run;
- that a table whose rows cannot be processed is given up alone;
- that the sink gets the last state, whatever ends its keyspace.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from tap_vitess._proto.query_pb2 import Row
from tap_vitess.config import Config
from tap_vitess.errors import FencedError, RetriableError, TargetClosedError, VitessError
from tap_vitess.protocol.images import RawKey
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.records import RecordOptions, RecordSequence
from tap_vitess.run.interleave import interleave
from tap_vitess.run.pace import Checkpoint, CopyFinished, SyncOptions
from tap_vitess.run.parts import TableSpec
from tap_vitess.run.state import KeyspaceState
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.lookup import Lookup
from tap_vitess.vtgate.grpc import Client, connect
from tap_vitess.vtgate.responses import BY_COLUMN, BY_LINE
from tap_vitess.vtgate.retry import RetryOptions, retrying

_RECENT_SECONDS = 10
_COMMIT_SECONDS = 0.3
_FATAL = (TargetClosedError, FencedError)  # nothing more can be written, or nothing may be

Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)


class Sink(Protocol[Made_co]):
    """A front end's part for one keyspace. Its methods are called in turn, in one thread.

    state: where the last run ended. tables: what to read. begin: called again when an endless run
    copies a table again. write: rows of a copy's version; raises what is wrong with the table's
    rows. finish_copy: all rows of a table's copy have been written. keep: a state, to be stored
    before anything that follows; for `phase` see Checkpoint. failed: the error that ended the
    keyspace, before its last state. end: all is written; `error` ended the keyspace, or held it up
    to the end. `sync` is None if the run ended before the keyspace's turn.
    """

    @property
    def state(self) -> KeyspaceState: ...
    def tables(self) -> Sequence[TableSpec]: ...
    def begin(
        self, sync: KeyspaceSync, sequence: RecordSequence, options: RecordOptions
    ) -> None: ...
    def write(self, rows: Rows, version: int) -> Made_co: ...
    def finish_copy(self, table: str, version: int) -> Made_co: ...
    def keep(self, state: KeyspaceState, *, phase: bool) -> Made_co: ...
    def failed(self, error: VitessError) -> None: ...
    def end(self, sync: KeyspaceSync | None, error: VitessError | None) -> None: ...


class Run(Generic[Made]):
    """A run over all keyspaces.

    errors: those that ended keyspaces, in order. stopped: whether the run ended before some
    keyspace was finished.
    """

    def __init__(
        self,
        config: Config,
        retry: RetryOptions,
        asked: Callable[[], bool],
        options: SyncOptions | None = None,
    ) -> None:
        """Prepare; max_run_seconds counts from now on.

        Args:
            asked: returns whether the run was asked to end, which also ends waiting for answers.
            options: how to run, if not by the settings.
        """
        self._config = config
        self._retry = retry
        self._asked = asked
        self._options = options or sync_options(config, retry)
        self._ends_at = time.monotonic() + (config.max_run_seconds or float("inf"))
        self.errors: list[VitessError] = []
        self.stopped = False

    def into(self, sinks: Sequence[Sink[Made]]) -> Iterator[Made]:
        """Read each sink's keyspace, and yield what the sinks return, in this thread.

        Raises:
            VitessError: VTGate cannot be reached, or no sink can continue.
        """
        parallel = len(sinks) if self._options.follow else 1
        units = BY_COLUMN if self._options.by_column else BY_LINE
        with connect(self._config, units) as client:
            sources = [functools.partial(self._bring, client, sink) for sink in sinks]
            yield from interleave(sources, parallel)

    def _stopping(self) -> bool:
        return self._asked() or time.monotonic() >= self._ends_at

    def _bring(self, client: Client, sink: Sink[Made]) -> Iterator[Made]:
        """Read a keyspace; only an endless run has more than one `sync`."""
        if self._stopping():
            self.stopped = True
            sink.end(None, None)
            return
        keyspace, state = sink.state.keyspace, sink.state
        sequence = RecordSequence(state.seq)
        sync, error = None, None
        try:
            tables = [self._filtered(keyspace, spec) for spec in sink.tables()]
            while sync is None or (self._options.follow and not sync.pace.stopped):
                kind, ranges = self._options.request.tablet_type, self._config.ranges
                survey = Survey(self._config, keyspace, kind, ranges)
                sync = KeyspaceSync(client, survey, tables, state, self._options, self._stopping)
                sink.begin(sync, sequence, self._record_options(sync))
                yield from self._read(sync, sequence, sink)
                state = sync.parts.stored
        except _FATAL:
            raise
        except VitessError as raised:
            sink.failed(raised)
            if sync is not None:
                yield sink.keep(_stored(sync, sequence), phase=True)
            if self._options.follow:
                raise
            error = raised
        if sync is not None:
            self.stopped = self.stopped or sync.pace.stopped
            if error is None and not self._asked() and time.monotonic() >= self._ends_at:
                error = sync.pace.held_up
            sink.end(sync, error)
        if error is not None:
            self.errors.append(error)

    def _filtered(self, keyspace: str, spec: TableSpec) -> TableSpec:
        """Apply the setting filters to a table without a filter of its own."""
        where = self._config.filters.get(f"{keyspace}.{spec.name}")
        if where is None or spec.wanted.where is not None:
            return spec
        return replace(spec, wanted=replace(spec.wanted, where=where))

    def _read(
        self, sync: KeyspaceSync, sequence: RecordSequence, sink: Sink[Made]
    ) -> Iterator[Made]:
        for event in sync.events():
            match event:
                case Rows():
                    yield from _written(sync, event, sink)
                case CopyFinished(table=table, version=version):
                    yield sink.finish_copy(table, version)
                case Checkpoint(phase=phase):
                    yield sink.keep(_stored(sync, sequence), phase=phase)
            del event

    def _record_options(self, sync: KeyspaceSync) -> RecordOptions:
        """Return how to make records; SQL fetches what partial images lack."""
        config, keyspace = self._config, sync.keyspace
        lookup, what = Lookup(config, keyspace), f"the present values of rows of {keyspace}"

        def fetch(
            fields: Fields,
            keys: Sequence[RawKey],
            columns: Collection[str],
            commit_time: int,
            may_be_gone: bool,  # noqa: FBT001 - see Fetch
        ) -> list[Row | None]:
            rules = sync.parts.request.rules if may_be_gone else {}
            where = rules[fields.table].where if fields.table in rules else None

            def ask(some: Sequence[RawKey]) -> list[Row | None]:
                args = fields.table, fields.fields, some, columns, where
                question = functools.partial(lookup.fetch, *args)
                return retrying(what, question, self._retry, self._asked, reached=True)

            return present(ask, keys, commit_time, may_be_gone=may_be_gone)

        return RecordOptions(
            values=config.values,
            metadata_columns=config.metadata_columns,
            on_partial_image=config.on_partial_image,
            fetch=fetch,
            whole_rows=sync.whole_rows,
            whole_keys=sync.whole_keys,
        )


def _written(sync: KeyspaceSync, rows: Rows, sink: Sink[Made]) -> Iterator[Made]:
    """Write rows; give up a table whose rows cannot be processed, and continue with the others."""
    table = rows.fields.table
    try:
        made = sink.write(rows, sync.parts.versions[table])
    except (*_FATAL, RetriableError):
        raise
    except VitessError as error:
        sync.give_up(table, error)
    else:
        yield made


def _stored(sync: KeyspaceSync, sequence: RecordSequence) -> KeyspaceState:
    return replace(sync.parts.stored, seq=sequence.last)


def sync_options(config: Config, retry: RetryOptions) -> SyncOptions:
    """Return how to run."""
    return SyncOptions(
        request=config.request,
        retry=retry,
        checkpoint_seconds=config.checkpoint_seconds,
        copy_parallelism=config.copy_parallelism,
        resync=config.on_lost_position == "resync",
        by_table=True,
        keys=config.keys,
    )


def present(
    ask: Callable[[Sequence[RawKey]], list[Row | None]],
    keys: Sequence[RawKey],
    commit_time: int,
    *,
    may_be_gone: bool,
) -> list[Row | None]:
    """Fetch rows; if they have just changed, not before their change can be seen.

    With semi-synchronous replication the stream may be ahead of the commit. So rows that are
    missing are asked for a second time, and the first time is late if a row may be gone.
    """
    recent = time.time() - commit_time < _RECENT_SECONDS
    if recent and may_be_gone:
        time.sleep(_COMMIT_SECONDS)
        return ask(keys)
    values = ask(keys)
    missing = [i for i, row in enumerate(values) if row is None]
    if recent and missing:
        time.sleep(_COMMIT_SECONDS)
        for i, row in zip(missing, ask([keys[i] for i in missing]), strict=True):
            values[i] = row
    return values
