"""Writes one keyspace's run as SCHEMA, RECORD, ACTIVATE_VERSION and STATE messages.

The first STATE comes before the SCHEMAs, which come before the first RECORD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from singer_sdk.helpers.types import TapState
from singer_sdk.metrics import Counter
from singer_sdk.singerlib import StateMessage

from tap_vitess.errors import VitessError
from tap_vitess.log import logger_of
from tap_vitess.mirror.run import Mirroring
from tap_vitess.protocol.items import Rows
from tap_vitess.records.operations import Record
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.run.parts import TableSpec
from tap_vitess.run.progress import Watch
from tap_vitess.run.state import KeyspaceState, bookmark_key
from tap_vitess.run.sync import KeyspaceSync
from tap_vitess.singer.batch import BatchFolder
from tap_vitess.singer.output import BufferedWriter
from tap_vitess.singer.streams import FULL_TABLE, VitessStream
from tap_vitess.singer.writer import RecordWriter

logger = logger_of(__name__)


class StateTeller:
    """Writes STATE messages that say something new.

    The SDK's StateWriter makes a deep copy of each STATE, which names all tables.
    """

    def __init__(self, state: TapState, writer: BufferedWriter, mirror: Mirroring) -> None:
        """Prepare with the run's whole first state, which is changed in place."""
        self._state = state
        self._writer = writer
        self._mirror = mirror
        self._told: dict[str, Any] | None = None  # the bookmarks of the last STATE

    def tell(self, state: KeyspaceState) -> None:
        """Write a STATE with a keyspace's new state."""
        bookmarks = self._state.setdefault("bookmarks", {})
        bookmarks[bookmark_key(state.keyspace)] = state.render()
        self._mirror.emit(self._state)
        if bookmarks != self._told:
            self._writer.write_message(StateMessage(self._state))
            self._told = dict(bookmarks)  # each bookmark is replaced, never changed in place
        self._writer.flush()

    def tell_last(self) -> None:
        """Write a STATE as the last message, even if nothing has changed."""
        if not self._writer.ends_with_state:
            self._writer.write_message(StateMessage(self._state))


class TableReader:
    """Yields the records of one table's copy, which the state does not show."""

    def __init__(self, stream: VitessStream) -> None:
        self.state = KeyspaceState(stream.keyspace)
        self._stream = stream

    def tables(self) -> list[TableSpec]:
        wanted = self._stream.wanted_columns
        return [TableSpec(self._stream.table, full_table=True, wanted=wanted)]

    def begin(self, _: KeyspaceSync, sequence: RecordSequence, options: RecordOptions) -> None:
        self._maker = RecordMaker(self._stream, sequence, options)

    def write(self, rows: Rows, version: int) -> Sequence[Record]:  # noqa: ARG002
        self._maker.prepare(rows.fields)
        return self._maker.records(rows)

    def finish_copy(self, table: str, version: int) -> Sequence[Record]:  # noqa: ARG002
        return ()

    def keep(self, state: KeyspaceState, *, phase: bool) -> Sequence[Record]:  # noqa: ARG002
        return ()

    def failed(self, error: VitessError) -> None:
        """Leave the error to the run's end."""

    def end(self, sync: KeyspaceSync | None, error: VitessError | None) -> None:
        """Write nothing more."""


class KeyspaceWriter:
    """Writes the messages of one keyspace's run."""

    def __init__(
        self,
        state: KeyspaceState,
        streams: Sequence[VitessStream],
        again: Iterable[str],
        writer: BufferedWriter,
        states: StateTeller,
        counters: Mapping[str, Counter],
        watch: Watch,
        folder: BatchFolder | None,
    ) -> None:
        """Prepare for the selected streams of a keyspace; `again` names those to copy again."""
        self._folder = folder
        self.state = state
        self._streams = {stream.table: stream for stream in streams}
        self._again = frozenset(again)
        self._writer = writer
        self._states = states
        self._counters = counters
        self._watch = watch
        self._started = False
        self._writers: dict[str, RecordWriter] = {}
        self._altered: dict[str, RecordWriter] = {}  # those of them that go into a STATE

    def tables(self) -> list[TableSpec]:
        return [
            TableSpec(
                stream.table,
                full_table=stream.replication_method == FULL_TABLE,
                key=tuple(stream.primary_keys),
                again=stream.name in self._again,
                wanted=stream.wanted_columns,
            )
            for stream in self._streams.values()
        ]

    def begin(self, sync: KeyspaceSync, sequence: RecordSequence, options: RecordOptions) -> None:
        self._watch.begin(sync, self.state)
        for stream in self._streams.values():
            stream.altered = self.state.altered.get(stream.table, {})
        self._sequence = sequence
        self._options = options

    def write(self, rows: Rows, version: int) -> None:
        table = rows.fields.table
        writer = self._writers[table]
        try:
            count = writer.write(rows, version)
        finally:
            if writer.maker.schema.is_altered:
                self._altered[table] = writer
        self._counters[self._streams[table].name].increment(count)

    def finish_copy(self, table: str, version: int) -> None:
        self._writers[table].write_activate_version(version)

    def keep(self, state: KeyspaceState, *, phase: bool) -> None:  # noqa: ARG002
        for writer in self._writers.values():
            writer.flush()
        self._states.tell(replace(state, altered=self._told_otherwise(state)))
        if not self._started:
            self._started = True
            self._start()

    def _told_otherwise(self, state: KeyspaceState) -> dict[str, Mapping[str, dict[str, Any]]]:
        """Return the properties in SCHEMA messages that differ from the catalog's."""
        told = {
            **state.altered,
            **{table: w.maker.schema.altered for table, w in self._altered.items()},
        }
        return {
            table: columns
            for table, columns in told.items()
            if columns and (table in self._altered or state.group_of(table))
        }

    def _start(self) -> None:
        self._writers = {
            table: RecordWriter(
                stream,
                RecordMaker(stream, self._sequence, self._options),
                self._writer,
                self._folder,
            )
            for table, stream in self._streams.items()
        }
        writers = self._writers.items()
        self._altered = {table: w for table, w in writers if w.maker.schema.is_altered}
        self._watch.count({table: w.maker.tally for table, w in writers})

    def failed(self, error: VitessError) -> None:
        keyspace = self.state.keyspace
        logger.error("%s: %s", keyspace, error.within(keyspace))

    def end(self, sync: KeyspaceSync | None, error: VitessError | None) -> None:
        if sync is None:
            logger.warning("%s: not started in this run", self.state.keyspace)
            return
        names = {table: stream.name for table, stream in self._streams.items()}
        self._watch.end(names, error)
