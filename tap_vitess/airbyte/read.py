"""A sync: writes what the keyspaces' runs deliver, as Airbyte's messages.

The first message is a STATE with the position where the sync starts. Another STATE comes after all
records and before the statuses of a keyspace's streams, even if an error or a signal ends the sync
early. A stream is COMPLETE only when all of it has been written, because a destination then drops
the rows of earlier generations.

Airbyte has nothing like Singer's ACTIVATE_VERSION. So an interrupted full refresh is an error, and
Airbyte's next attempt begins a new generation. When the engine copies a followed table again
(TRUNCATE, a lost position), rows that vanished in the meantime stay, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

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
from tap_vitess.errors import CatalogError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.protocol.items import Rows
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.run.keyspaces import Run
from tap_vitess.run.parts import TableSpec
from tap_vitess.run.rules import Wanted
from tap_vitess.run.state import KeyspaceState
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.tables import row_counts
from tap_vitess.vtgate.retry import RetryOptions

logger = logger_of(__name__)


class Reading:
    """A sync over all keyspaces; call `run` once.

    errors: how many were reported. complete: whether every stream that has ended is complete.
    """

    def __init__(
        self,
        config: Config,
        streams: Sequence[ConfiguredStream],
        states: dict[str, KeyspaceState],
        output: Output,
        retry: RetryOptions,
        signalled: Callable[[], bool],
    ) -> None:
        """Prepare to read streams; `states` are those of the last sync, by keyspace."""
        self.config = config
        self.output = output
        self.signalled = signalled
        self._states = states
        self._unstated = 0  # records since the last STATE
        self._run: Run[None] = Run(config, retry, signalled)
        self._keyspaces = [
            _KeyspaceReading(
                self,
                states.get(keyspace) or KeyspaceState(keyspace),
                [stream for stream in streams if stream.keyspace == keyspace],
            )
            for keyspace in dict.fromkeys(stream.keyspace for stream in streams)
        ]
        self.errors = 0
        self.complete = True

    def run(self) -> bool:
        """Read all streams, report their errors, and return whether all streams are complete.

        Raises:
            VitessError: VTGate cannot be reached.
            TargetClosedError: nobody reads stdout any more.
        """
        for _ in self._run.into(self._keyspaces):
            pass
        if not self._keyspaces:
            logger.warning("no stream is selected: there is nothing to do")
            self._write_state()
        return self.complete

    def write_records(self, lines: Iterable[bytes]) -> None:
        """Write records, many lines in a piece; if `lines` raises, those before it are written."""
        self.output.write_lines(self._counted(lines))

    def _counted(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for some in lines:
            self._unstated += some.count(b"\n")
            yield some

    def keep(self, state: KeyspaceState) -> None:
        """Write a STATE with a keyspace's new state."""
        self._states[state.keyspace] = state
        self._write_state()

    def _write_state(self) -> None:
        self.output.write(state_message(self._states, self._unstated))
        self._unstated = 0


class _KeyspaceReading:
    """Writes the records, statuses and states of one keyspace."""

    def __init__(
        self, reading: Reading, state: KeyspaceState, streams: Sequence[ConfiguredStream]
    ) -> None:
        self.state = state
        self._reading = reading
        self._output = reading.output
        self._streams = {stream.table: stream for stream in streams}
        self._makers: dict[str, RecordMaker] = {}
        self._given: dict[str, int] = {  # the version of the rows the destination has
            table: version for group in state.groups for table, version in group.tables.items()
        }
        self._running: set[str] = set()

    def tables(self) -> list[TableSpec]:
        return [
            TableSpec(
                stream.table,
                full_table=stream.full_refresh,
                key=tuple(stream.primary_keys),
                once=stream.full_refresh,
                wanted=Wanted(stream.columns, remembered=False),
            )
            for stream in self._streams.values()
        ]

    def begin(self, _: KeyspaceSync, sequence: RecordSequence, options: RecordOptions) -> None:
        for stream in self._streams.values():
            self._output.write(stream_status(stream.keyspace, stream.table, "STARTED"))
        self._estimate()
        options = replace(options, metadata_columns=True, copied_at=True)
        self._makers = {t: RecordMaker(s, sequence, options) for t, s in self._streams.items()}

    def _estimate(self) -> None:
        """Report an estimate of the rows to copy; changes cannot be counted in advance."""
        keyspace, state = self.state.keyspace, self.state
        copies = [
            stream.table
            for stream in self._streams.values()
            if stream.full_refresh or not state.is_copied(stream.table)
        ]
        if not copies:
            return
        try:
            config = self._reading.config
            rows = Survey(config, keyspace, config.tablet_type).ask(row_counts, copies)
        except VitessError as error:
            logger.warning("%s: no estimate: %s", keyspace, error.within(keyspace))
            return
        for table in copies:
            if table in rows:
                self._output.write(estimate(keyspace, table, rows[table]))

    def write(self, rows: Rows, version: int) -> None:
        table = rows.fields.table
        maker, stream = self._makers[table], self._streams[table]
        if maker.prepare(rows.fields):  # no message tells a destination of changed columns
            raise CatalogError(
                f"stream {stream.name}: the table was altered, and its columns no longer fit the "
                "catalog: refresh the source schema",
                table=table,
            )
        if table not in self._running:
            self._running.add(table)
            self._output.write(stream_status(stream.keyspace, table, "RUNNING"))
        self._note(table, version)
        _, lines = maker.written(rows, *record_frame(stream.keyspace, table))
        self._reading.write_records(lines)

    def finish_copy(self, table: str, version: int) -> None:
        self._note(table, version)

    def _note(self, table: str, version: int) -> None:
        """Warn when a followed table is copied again: vanished rows stay in the destination."""
        stream = self._streams[table]
        if self._given.setdefault(table, version) != version and not stream.full_refresh:
            logger.warning(
                "%s is copied again: rows that have vanished from it without a delete stay in the "
                "destination until the stream is refreshed",
                stream.name,
            )
        self._given[table] = version

    def keep(self, state: KeyspaceState, *, phase: bool) -> None:  # noqa: ARG002
        self._reading.keep(state)

    def failed(self, error: VitessError) -> None:
        """Report nothing yet: `end` does so, after the last STATE."""

    def end(self, sync: KeyspaceSync | None, error: VitessError | None) -> None:
        if sync is None:
            self._tell(lambda _: False)
            return
        errors = list(
            dict.fromkeys([*sync.parts.left_behind.values(), *([error] if error else [])])
        )
        for found in errors:
            self._output.write(self._trace(found))
        self._reading.errors += len(errors)
        signalled = self._reading.signalled()
        unfinished = self._tell(lambda table: sync.brought(table) and not signalled)
        if unfinished and not errors:
            logger.warning("not finished: %s", ", ".join(unfinished))
        if errors:
            self._reading.complete = False

    def _trace(self, error: VitessError) -> Message:
        stream = self._streams.get(error.table or "")
        return error_trace(
            error.coded(),
            failure_type(error),
            internal=type(error).__name__,
            stream=(stream.keyspace, stream.table) if stream else None,
        )

    def _tell(self, done: Callable[[str], bool]) -> list[str]:
        """Report each stream's last status; return the names of incomplete streams."""
        unfinished = []
        for stream in self._streams.values():
            status: Status = "COMPLETE" if done(stream.table) else "INCOMPLETE"
            self._output.write(stream_status(stream.keyspace, stream.table, status))
            if status == "INCOMPLETE":
                unfinished.append(stream.name)
                self._reading.complete = False
        return unfinished
