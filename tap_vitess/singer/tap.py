"""The tap: settings, discovery, and the run over all keyspaces.

One reader serves all streams of a keyspace, so `Tap.sync_all`, which the SDK marks final, is
overridden here, and `_handle_termination`, because the SDK's ends with exit code 0, and
`setup_mapper`, because the SDK's takes most of the start where there are many tables. A test fails
when the SDK's own bodies change. Everything else of the SDK is used as it is.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, ClassVar

from simplejson import JSONDecodeError
from singer_sdk import Tap
from singer_sdk.helpers.capabilities import (
    CapabilitiesEnum,
    PluginCapabilities,
    TapCapabilities,
)
from singer_sdk.metrics import Counter
from singer_sdk.singerlib import Catalog, CatalogEntry, StateMessage, StreamMetadata

from tap_vitess.config import SETTINGS, SETTINGS_SCHEMA, Config
from tap_vitess.errors import (
    CatalogError,
    ConfigError,
    FencedError,
    RetriableError,
    TargetClosedError,
    VitessError,
)
from tap_vitess.mirror.run import Mirroring
from tap_vitess.protocol.items import Rows
from tap_vitess.records.records import Record, RecordMaker, RecordOptions, RecordSequence
from tap_vitess.run import keyspaces as engine
from tap_vitess.run.state import KeyspaceState, bookmark_key, bookmarks_of, parse
from tap_vitess.run.sync import Checkpoint, CopyFinished, KeyspaceSync, SyncOptions, TableSpec
from tap_vitess.singer import plain as catalog
from tap_vitess.singer.columns import AUTOMATIC, json_schema, stream_name
from tap_vitess.singer.output import BufferedWriter
from tap_vitess.singer.plain import changes_nothing, is_plain
from tap_vitess.singer.progress import Watch
from tap_vitess.singer.streams import FULL_TABLE, VitessStream
from tap_vitess.singer.writer import RecordWriter
from tap_vitess.stdout import end_when_stuck
from tap_vitess.survey import discovery
from tap_vitess.survey.facts import Table
from tap_vitess.survey.keyspace import Survey
from tap_vitess.values.documents import plain
from tap_vitess.vtgate import grpc as vstream_client
from tap_vitess.vtgate.retry import RetryOptions

logger = logging.getLogger(__name__)


class TapVitess(Tap):
    """Copies tables out of Vitess and follows their changes through VStream."""

    name = "tap-vitess"
    package_name = "tap-vitess"
    dynamic_catalog = True
    message_writer_class = BufferedWriter
    retry: ClassVar[RetryOptions] = RetryOptions()
    config_jsonschema: ClassVar[dict[str, Any]] = copy.deepcopy(SETTINGS_SCHEMA)
    # No batch: the SDK's own ignores selection and stream maps.
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.TEST,
        TapCapabilities.LOG_BASED,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, **kwargs: Any) -> None:
        """See the SDK; the Config is made of the settings when it is first needed."""
        self._settings: Config | None = None
        self._signal: int | None = None
        self._syncing = False
        self._plain: frozenset[str] = frozenset()  # streams without a map of the SDK's
        self._told: dict[str, Any] | None = None  # the bookmarks of the last STATE
        self._state_given = kwargs.get("state") is not None
        _check_secrets(kwargs.get("config"))
        if kwargs.get("state") is not None:
            bookmarks_of(kwargs["state"])
        if isinstance(given := kwargs.get("catalog"), dict):
            kwargs["catalog"] = catalog.read(given) or given
        super().__init__(**kwargs)

    @property
    def settings(self) -> Config:
        """The settings as a frozen value."""
        if self._settings is None:
            self._settings = Config.from_settings(self.config)
        return self._settings

    # Discovery

    def setup_mapper(self) -> None:
        """Register the streams whose maps the SDK must make; it copies their schemas thrice.

        The others of a catalog given, mostly all, are told as they are (`VitessStream`).
        """
        super(Tap, self).setup_mapper()
        entries = self.catalog
        if self.input_catalog is not None and changes_nothing(self.mapper):
            self._plain = frozenset(name for name, entry in entries.items() if is_plain(entry))
        self.mapper.register_raw_streams_from_catalog(
            Catalog((name, entry) for name, entry in entries.items() if name not in self._plain)
        )

    def discover_streams(self) -> Sequence[VitessStream]:
        """Make the streams of the catalog given; without one, of the database."""
        if self.input_catalog is not None:
            return [self._catalogued(entry) for entry in self.input_catalog.streams]
        tables = discovery.discover(self.settings, self.retry)
        self._check_names(tables)
        return [self._stream(t.keyspace, t.name, self._schema(t), t.key) for t in tables]

    def _schema(self, table: Table) -> dict[str, Any]:
        return json_schema(
            table, self.settings.values, metadata_columns=self.settings.metadata_columns
        )

    def _catalogued(self, entry: CatalogEntry) -> VitessStream:
        """Make a stream of a catalog entry; its keyspace is the root metadata's schema-name."""
        stream_id = str(entry.tap_stream_id)
        root = entry.metadata.get(())
        keyspace = str(root.schema_name or "") if isinstance(root, StreamMetadata) else ""
        if not keyspace or not stream_id.startswith(keyspace + "-"):
            raise CatalogError(
                f"stream {stream_id}: the catalog does not say its keyspace; discover again"
            )
        table = stream_id.removeprefix(keyspace + "-")
        stream = self._stream(keyspace, table, None, entry.key_properties or ())
        stream.plain = stream_id in self._plain
        return stream

    def _stream(
        self, keyspace: str, table: str, schema: dict[str, Any] | None, key: Sequence[str]
    ) -> VitessStream:
        return VitessStream(self, keyspace, table, schema, key, self._read_table)

    def _check_names(self, tables: Sequence[Table]) -> None:
        """Refuse two tables of one stream name; tell which tables have no key."""
        names: dict[str, Table] = {}
        for table in tables:
            name = stream_name(table.keyspace, table.name)
            if other := names.get(name):
                raise CatalogError(
                    f"{table.keyspace}.{table.name} and {other.keyspace}.{other.name} would both "
                    f"be the stream {name}: leave one out by the setting exclude_tables"
                )
            names[name] = table
            if taken := AUTOMATIC & {column.name for column in table.columns}:
                raise CatalogError(
                    f"{table.keyspace}.{table.name} has a column {', '.join(sorted(taken))}, which "
                    "is the name of a column of the tap's own: leave the table out by the setting "
                    "exclude_tables"
                )
            if not table.key:
                logger.warning(
                    "%s.%s has no primary key and no NOT NULL unique key: its rows cannot be "
                    "matched in the target, and a cut copy of it starts again",
                    table.keyspace,
                    table.name,
                )

    # The run

    def sync_all(self) -> None:  # type: ignore[misc]
        """Bring all selected streams, one keyspace after another.

        Raises:
            VitessError: the run could not be finished; the last STATE holds.
            SystemExit: the run was ended by a signal; the last STATE holds.
        """
        selected = [s for s in self.streams.values() if isinstance(s, VitessStream) and s.selected]
        for stream in selected:
            stream.check_catalog()
        self._check_asked(selected)
        self._check_selection(selected)
        self._mirror = Mirroring(self.settings, self.retry, lambda: self._signal is not None)
        self.load_state(dict(self._mirror.start(self.state, given=self._state_given)))
        bookmarks = self.state.get("bookmarks", {})
        keyspaces = dict.fromkeys(stream.keyspace for stream in selected)
        states = {ks: parse(ks, bookmarks.get(bookmark_key(ks))) for ks in keyspaces}
        deadline = time.monotonic() + (self.settings.max_run_seconds or float("inf"))

        def stopping() -> bool:
            return self._signal is not None or time.monotonic() >= deadline

        self._syncing = True
        if not selected:
            logger.warning("no stream is selected: there is nothing to do")
        with contextlib.ExitStack() as stack:
            stack.callback(self._writer.flush)
            for stream in selected:
                stack.enter_context(stream.get_sync_timer())
            counters = {s.name: stack.enter_context(s.get_record_counter()) for s in selected}
            client = stack.enter_context(vstream_client.connect(self.settings))
            self._watch = stack.enter_context(
                Watch(self.settings.progress_seconds, self._estimate_rows)
            )
            errors: list[VitessError] = []
            stopped = False
            for keyspace, state in states.items():
                if stopped := stopped or stopping():
                    logger.warning("%s: not begun in this run", keyspace)
                    continue
                streams = [stream for stream in selected if stream.keyspace == keyspace]
                run = self._run(client, streams, state, stopping)
                self._watch.begin(run, state)
                failed = self._write_keyspace(run, streams, counters)
                self._watch.end({stream.table: stream.name for stream in streams}, failed)
                errors += failed
                stopped = run.stopped
            self._write_last_state()
            errors += self._mirror.finish(self.state)
            self._end(stopped=stopped, errors=errors)

    def _is_asked(self, stream: VitessStream) -> bool:
        """Tell whether the settings ask for a new copy of a table."""
        name = f"{stream.keyspace}.{stream.table}"
        return self.settings.matches(name, self.settings.resync_tables)

    def _check_asked(self, selected: Sequence[VitessStream]) -> None:
        """Refuse patterns of resync_tables that fit nothing; say what the setting does."""
        names = {f"{stream.keyspace}.{stream.table}" for stream in selected}
        for pattern in self.settings.resync_tables:
            found = sorted(name for name in names if self.settings.matches(name, (pattern,)))
            if not found:
                raise ConfigError(
                    f"setting resync_tables: {pattern} matches no selected table; patterns are "
                    "keyspace.table"
                )
            logger.warning(
                "%s: copied again from the start, as the setting resync_tables asks; remove it "
                "after this run, or each run does so",
                ", ".join(found),
            )

    def _check_selection(self, selected: Sequence[VitessStream]) -> None:
        """Say what becomes of the streams left out: Meltano's full refresh gives no state."""
        if not self._state_given and 0 < len(selected) < len(self.streams):
            logger.warning(
                "no state is given, and %d of %d streams are selected: the state of this run knows "
                "no others, which are copied again when they are selected; to copy some tables "
                "again and keep the others' place, give the state and set resync_tables",
                len(selected),
                len(self.streams),
            )

    def _run(
        self,
        client: vstream_client.Client,
        streams: Sequence[VitessStream],
        state: KeyspaceState,
        stopping: Callable[[], bool],
    ) -> KeyspaceSync:
        return KeyspaceSync(
            client,
            Survey(self.settings, state.keyspace),
            [_spec(stream, self._is_asked(stream)) for stream in streams],
            state,
            self._options(),
            stopping,
        )

    def _write_keyspace(
        self, run: KeyspaceSync, streams: Sequence[VitessStream], counters: dict[str, Counter]
    ) -> list[VitessError]:
        """Write what a run brings; whatever ends it, the last STATE tells how far it came.

        An error is given back, so that the other keyspaces do not grow old for it.
        """
        sequence = RecordSequence(run.state.seq)
        by_table = {stream.table: stream for stream in streams}
        for stream in streams:
            stream.altered = run.state.altered.get(stream.table, {})
        writers: dict[str, RecordWriter] = {}
        altered: dict[str, RecordWriter] = {}  # those of `writers` that a STATE tells of
        try:
            for event in run.events():
                match event:
                    case Rows(fields=fields):
                        count = _write_rows(run, writers[fields.table], event)
                        counters[by_table[fields.table].name].increment(count)
                        if writers[fields.table].is_altered:
                            altered[fields.table] = writers[fields.table]
                    case CopyFinished(table=table, version=version):
                        writers[table].write_activate_version(version)
                    case Checkpoint():
                        self._write_state(run.stored, sequence, altered)
                        if not writers:
                            options = self._record_options(run.keyspace, run.whole_rows)
                            writers = self._start(streams, sequence, options)
                            altered = {t: w for t, w in writers.items() if w.is_altered}
                            self._watch.count({t: w.tally for t, w in writers.items()})
        except (TargetClosedError, FencedError):
            raise
        except VitessError as error:
            logger.error("%s: %s", run.keyspace, error.within(run.keyspace))  # noqa: TRY400
            self._write_state(run.stored, sequence, altered)
            return [error]
        return [run.held_up] if run.held_up and self._signal is None else []

    def _start(
        self,
        streams: Sequence[VitessStream],
        sequence: RecordSequence,
        options: RecordOptions,
    ) -> dict[str, RecordWriter]:
        """Write the SCHEMAs, behind the first STATE and before the first RECORD."""
        return {
            stream.table: RecordWriter(stream, RecordMaker(stream, sequence, options), self._writer)
            for stream in streams
        }

    def _record_options(
        self, keyspace: str, whole_rows: Callable[[str], bool] = lambda _: True
    ) -> RecordOptions:
        return engine.record_options(
            self.settings, keyspace, self.retry, lambda: self._signal is not None, whole_rows
        )

    def _estimate_rows(self, keyspace: str, tables: Iterable[str]) -> Mapping[str, int]:
        return Survey(self.settings, keyspace).row_counts(tables)

    def _write_state(
        self, state: KeyspaceState, sequence: RecordSequence, writers: Mapping[str, RecordWriter]
    ) -> None:
        """Write a STATE if it says anything new; `writers` are those of altered tables.

        The SDK's StateWriter does that with a copy in depth of each STATE, which names all tables.
        """
        altered = {**state.altered, **{table: w.altered for table, w in writers.items()}}
        altered = {
            table: columns
            for table, columns in altered.items()
            if columns and (table in writers or state.group_of(table))
        }
        value = replace(state, seq=sequence.last, altered=altered).render()
        bookmarks = self.state.setdefault("bookmarks", {})
        bookmarks[bookmark_key(state.keyspace)] = value
        self._mirror.emit(self.state)
        if bookmarks != self._told:
            self._writer.write_message(StateMessage(self.state))
            self._told = dict(bookmarks)  # each bookmark is replaced, never changed in place
        self._writer.flush()

    def _write_last_state(self) -> None:
        """Let a STATE be the last message, also when nothing has changed."""
        if not self._writer.ends_with_state:
            self._writer.write_message(StateMessage(self.state))

    def _end(self, *, stopped: bool, errors: Sequence[VitessError]) -> None:
        if self._signal is not None:
            logger.warning("ended by signal %d; the next run goes on from here", self._signal)
            raise SystemExit(128 + self._signal)
        if errors:
            raise errors[0]
        if stopped:
            logger.warning(
                "ended after max_run_seconds (%g); the next run goes on from here",
                self.settings.max_run_seconds,
            )

    @property
    def _writer(self) -> BufferedWriter:
        writer = self.message_writer
        if not isinstance(writer, BufferedWriter):
            raise TypeError("the tap needs its own message writer")
        return writer

    def _options(self) -> SyncOptions:
        return engine.sync_options(self.settings, self.retry)

    def _read_table(self, stream: VitessStream) -> Iterator[Record]:
        """Copy one table by itself."""
        maker = RecordMaker(stream, RecordSequence(0), self._record_options(stream.keyspace))
        with vstream_client.connect(self.settings) as client:
            run = KeyspaceSync(
                client,
                Survey(self.settings, stream.keyspace),
                [TableSpec(stream.table, full_table=True)],
                KeyspaceState(stream.keyspace),
                self._options(),
            )
            for event in run.events():
                if isinstance(event, Rows):
                    maker.prepare(event.fields)
                    for record in maker.records(event):
                        yield {name: plain(value) for name, value in record.items()}

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End at the next boundary; at once on a second signal, or when nothing runs yet."""
        if not self._syncing or self._signal is not None:
            raise SystemExit(128 + signum)
        self._signal = signum
        end_when_stuck(self._writer, signum, logger.warning)


def _check_secrets(config: object) -> None:
    """Refuse secrets of a wrong type before the SDK does, which would quote them."""
    for name, schema in SETTINGS.items():
        value = config.get(name) if isinstance(config, dict) else None
        if schema.get("secret") and value is not None:
            values = [value] if schema["type"] == "string" else _values_of(value)
            if not all(isinstance(text, str) for text in values):
                raise ConfigError(f"setting {name}: {schema['type']} of text is expected")


def _values_of(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else [None]


def _write_rows(run: KeyspaceSync, writer: RecordWriter, rows: Rows) -> int:
    """Write rows and count the records; a table whose rows cannot be taken is given up."""
    table = rows.fields.table
    try:
        return writer.write(rows, run.versions[table])
    except (TargetClosedError, RetriableError):
        raise
    except VitessError as error:
        run.give_up(table, error)
        return 0


def _spec(stream: VitessStream, again: bool) -> TableSpec:  # noqa: FBT001
    return TableSpec(
        stream.table,
        full_table=stream.replication_method == FULL_TABLE,
        key=tuple(stream.primary_keys),
        again=again,
    )


def main(tap: type[TapVitess] = TapVitess) -> None:
    """Run the command line; errors of ours are one sentence and exit code 1."""
    try:
        tap.cli()
    except (FileNotFoundError, JSONDecodeError) as error:
        tap.logger.critical("a file given by --config, --catalog or --state: %s", error)
        sys.exit(1)
    except VitessError as error:
        tap.logger.critical("%s", error)
        if isinstance(error, TargetClosedError):
            # What Python holds back for stdout must not raise once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
