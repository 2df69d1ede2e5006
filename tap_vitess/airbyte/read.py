"""A sync: what the runs of the keyspaces bring, as Airbyte's messages.

A STATE with the position the sync starts from comes first, and one behind all records before the
statuses of a keyspace's streams, also when an error or a signal ends the sync halfway. A stream
is COMPLETE only when all of it has been given out: a destination throws the rows of earlier
generations away then.

Airbyte has nothing like Singer's ACTIVATE_VERSION. So a full refresh that is cut is an error, and
Airbyte's next attempt begins a new generation; and when the engine copies a followed table again
(TRUNCATE, a lost position), rows that vanished meanwhile stay, which is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import orjson

from tap_vitess.airbyte.catalog import ConfiguredStream
from tap_vitess.airbyte.failures import failure_type
from tap_vitess.airbyte.messages import (
    Message,
    Output,
    Status,
    error_trace,
    estimate,
    record_frame,
    stream_status,
)
from tap_vitess.airbyte.state import state_message
from tap_vitess.config import Config
from tap_vitess.errors import CatalogError, RetriableError, TargetClosedError, VitessError
from tap_vitess.protocol.items import Rows
from tap_vitess.records.records import RecordMaker, RecordSequence
from tap_vitess.run import keyspaces as engine
from tap_vitess.run.state import KeyspaceState
from tap_vitess.run.sync import Checkpoint, CopyFinished, KeyspaceSync, TableSpec
from tap_vitess.survey.keyspace import Survey
from tap_vitess.vtgate import grpc as vstream_client
from tap_vitess.vtgate.retry import RetryOptions

logger = logging.getLogger(__name__)


class Reading:
    """A sync over all keyspaces; call `run` once."""

    def __init__(
        self,
        config: Config,
        streams: Sequence[ConfiguredStream],
        states: dict[str, KeyspaceState],
        output: Output,
        retry: RetryOptions,
        signalled: Callable[[], bool],
        stopping: Callable[[], bool],
    ) -> None:
        """Prepare.

        Args:
            config: the settings.
            streams: what to bring.
            states: where the last sync ended, by keyspace; those that are not touched too.
            output: takes the messages.
            retry: what to do about passing faults.
            signalled: whether a signal has asked for the end.
            stopping: whether to end at the next boundary, for a signal or for the time.
        """
        self._config = config
        self._streams = streams
        self._states = states
        self._output = output
        self._retry = retry
        self._signalled = signalled
        self._stopping = stopping
        self._unstated = 0  # records since the last STATE
        self.errors = 0  # that have been told

    def run(self) -> bool:
        """Bring all streams; tell whether all of them are complete. Errors have been told then.

        Raises:
            VitessError: VTGate cannot be reached.
            TargetClosedError: nobody reads stdout any more.
        """
        keyspaces = dict.fromkeys(stream.keyspace for stream in self._streams)
        complete = True
        with vstream_client.connect(self._config) as client:
            for keyspace in keyspaces:
                streams = [stream for stream in self._streams if stream.keyspace == keyspace]
                if self._stopping():
                    self._tell(streams, lambda _: False)
                    complete = False
                else:
                    complete = self._keyspace(client, keyspace, streams) and complete
        if not keyspaces:
            logger.warning("no stream is selected: there is nothing to do")
            self._write_state()
        return complete

    def _keyspace(
        self, client: vstream_client.Client, keyspace: str, streams: Sequence[ConfiguredStream]
    ) -> bool:
        """Bring a keyspace's streams; an error of one keyspace does not stop the others."""
        survey = Survey(self._config, keyspace)
        state = self._states.setdefault(keyspace, KeyspaceState(keyspace))
        run = KeyspaceSync(
            client,
            survey,
            [_spec(stream) for stream in streams],
            state,
            engine.sync_options(self._config, self._retry),
            self._stopping,
        )
        for stream in streams:
            self._output.write(stream_status(keyspace, stream.table, "STARTED"))
        copies = [s for s in streams if s.full_refresh or not state.is_copied(s.table)]
        self._estimate(survey, copies)
        errors = list(_KeyspaceReading(self, run, streams).run())
        if run.held_up is not None and not self._signalled():
            errors.append(run.held_up)
        self.errors += len(errors)
        for error in errors:
            self._output.write(_told(error, streams))

        def done(stream: ConfiguredStream) -> bool:
            return run.brought(stream.table) and not self._signalled()

        self._tell(streams, done)
        unfinished = [stream.name for stream in streams if not done(stream)]
        if unfinished and not errors:
            logger.warning("not finished: %s", ", ".join(unfinished))
        return not (errors or unfinished)

    def _tell(
        self, streams: Iterable[ConfiguredStream], done: Callable[[ConfiguredStream], bool]
    ) -> None:
        for stream in streams:
            status: Status = "COMPLETE" if done(stream) else "INCOMPLETE"
            self._output.write(stream_status(stream.keyspace, stream.table, status))

    def _estimate(self, survey: Survey, copies: Sequence[ConfiguredStream]) -> None:
        """Tell how many rows the copies may have; changes cannot be counted before."""
        if not copies:
            return
        try:
            rows = survey.row_counts(stream.table for stream in copies)
        except VitessError as error:
            logger.warning("%s: no estimate: %s", survey.keyspace, error)
            return
        for stream in copies:
            if stream.table in rows:
                self._output.write(estimate(stream.keyspace, stream.table, rows[stream.table]))

    # What a keyspace's reading writes with.

    def maker_of(
        self, run: KeyspaceSync, stream: ConfiguredStream, sequence: RecordSequence
    ) -> RecordMaker:
        """Return what makes a stream's records."""
        options = engine.record_options(
            self._config, run.keyspace, self._retry, self._signalled, run.whole_rows
        )
        return RecordMaker(
            stream, sequence, replace(options, metadata_columns=True, copied_at=True)
        )

    def write_status_running(self, stream: ConfiguredStream) -> None:
        """Tell that a stream's first record comes."""
        self._output.write(stream_status(stream.keyspace, stream.table, "RUNNING"))

    def write_records(self, lines: Iterable[bytes]) -> None:
        """Write records, many lines in one piece; those before an error have been written."""
        self._output.write_lines(self._counted(lines))

    def _counted(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for some in lines:
            self._unstated += some.count(b"\n")
            yield some

    def keep(self, state: KeyspaceState) -> None:
        """Write a STATE with where a keyspace is now."""
        self._states[state.keyspace] = state
        self._write_state()

    def _write_state(self) -> None:
        self._output.write(state_message(self._states, self._unstated))
        self._unstated = 0


class _KeyspaceReading:
    """Writes what the run of one keyspace brings."""

    def __init__(
        self, reading: Reading, run: KeyspaceSync, streams: Sequence[ConfiguredStream]
    ) -> None:
        self._reading = reading
        self._run = run
        self._sequence = RecordSequence(run.state.seq)
        self._streams = {stream.table: stream for stream in streams}
        self._makers = {
            table: reading.maker_of(run, stream, self._sequence)
            for table, stream in self._streams.items()
        }
        self._given: dict[str, int] = {  # the version of the rows the destination has
            group_table: version
            for group in run.state.groups
            for group_table, version in group.tables.items()
        }
        self._running: set[str] = set()

    def run(self) -> Sequence[VitessError]:
        """Write all; whatever ends it, the last STATE tells how far it came. Return the errors."""
        raised: VitessError | None = None
        try:
            for event in self._run.events():
                match event:
                    case Rows():
                        self._write(event)
                    case CopyFinished(table=table, version=version):
                        self._note(table, version)
                    case Checkpoint():
                        self._keep()
        except TargetClosedError:
            raise
        except VitessError as error:
            raised = error
            self._keep()
        errors = list(dict.fromkeys(self._run.left_behind.values()))
        return errors if raised is None or raised in errors else [*errors, raised]

    def _keep(self) -> None:
        self._reading.keep(replace(self._run.stored, seq=self._sequence.last))

    def _write(self, rows: Rows) -> None:
        """Write rows; a table whose rows cannot be taken is given up."""
        table = rows.fields.table
        maker = self._makers[table]
        try:
            self._check(maker, rows)
            self._note(table, self._run.versions[table])
            self._reading.write_records(self._lines(maker, rows))
        except (TargetClosedError, RetriableError):
            raise
        except VitessError as error:
            self._run.give_up(table, error)

    def _check(self, maker: RecordMaker, rows: Rows) -> None:
        """Take in the FIELD event; nothing tells a destination of columns that have changed."""
        if maker.prepare(rows.fields):
            stream = self._streams[rows.fields.table]
            error = CatalogError(
                f"stream {stream.name}: the table was altered, and its columns no longer fit the "
                "catalog: refresh the source schema"
            )
            error.table = stream.table
            raise error
        if rows.fields.table not in self._running:
            self._running.add(rows.fields.table)
            self._reading.write_status_running(self._streams[rows.fields.table])

    def _lines(self, maker: RecordMaker, rows: Rows) -> Iterable[bytes]:
        stream = self._streams[rows.fields.table]
        head, end = record_frame(stream.keyspace, stream.table)
        if found := maker.lines(rows, head, end):
            return found[1]
        return [head + orjson.dumps(record)[1:-1] + end for record in maker.records(rows)]

    def _note(self, table: str, version: int) -> None:
        """Warn when a followed table is copied again: nothing takes its vanished rows away."""
        stream = self._streams[table]
        if self._given.setdefault(table, version) != version and not stream.full_refresh:
            logger.warning(
                "%s is copied again: rows that have vanished from it without a delete stay in the "
                "destination until the stream is refreshed",
                stream.name,
            )
        self._given[table] = version


def _spec(stream: ConfiguredStream) -> TableSpec:
    return TableSpec(
        stream.table,
        full_table=stream.full_refresh,
        key=tuple(stream.primary_keys),
        once=stream.full_refresh,
    )


def _told(error: VitessError, streams: Sequence[ConfiguredStream]) -> Message:
    found = [stream for stream in streams if stream.table == error.table]
    return error_trace(
        str(error),
        failure_type(error),
        internal=type(error).__name__,
        stream=(found[0].keyspace, found[0].table) if found else None,
    )
