"""The tap: settings, discovery, and the run over all keyspaces.

Three methods of the SDK are overridden here: `Tap.sync_all`, which the SDK marks final, because one
reader serves all streams of a keyspace; `_handle_termination`, because the SDK's ends with exit
code 0; and `setup_mapper`, because the SDK's takes most of the start when there are many tables. A
test fails when the SDK changes one of them. Everything else of the SDK is used as it is.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, ClassVar, cast

from singer_sdk import Tap
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from singer_sdk.singerlib import Catalog, CatalogEntry, StreamMetadata

from tap_vitess.config import SETTINGS_SCHEMA, Config
from tap_vitess.errors import CatalogError, TargetClosedError, VitessError
from tap_vitess.log import logger_of, with_codes
from tap_vitess.mirror.run import Mirroring
from tap_vitess.records.operations import Record
from tap_vitess.run.again import copied_again
from tap_vitess.run.keyspaces import Run
from tap_vitess.run.progress import Watch, estimated
from tap_vitess.run.state import bookmarks_of
from tap_vitess.signals import SIGNALS, Taken
from tap_vitess.singer import plain as catalog
from tap_vitess.singer.asked import by_keyspace, warn_of_maps, warn_of_selection
from tap_vitess.singer.batch import BatchFolder, BatchOptions
from tap_vitess.singer.columns import AUTOMATIC, json_schema
from tap_vitess.singer.commandline import CommandLine
from tap_vitess.singer.output import BufferedWriter
from tap_vitess.singer.plain import changes_nothing, is_plain
from tap_vitess.singer.sink import KeyspaceWriter, StateTeller, TableReader
from tap_vitess.singer.streams import VitessStream
from tap_vitess.stdout import end_when_stuck, give_up_stdout
from tap_vitess.survey import discovery
from tap_vitess.survey.facts import Table
from tap_vitess.survey.rules import check_names
from tap_vitess.survey.streams import doubts
from tap_vitess.values.documents import plain
from tap_vitess.vtgate import grpc as vstream_client
from tap_vitess.vtgate.retry import RetryOptions

logger = logger_of(__name__)


class TapVitess(CommandLine):
    """Copies tables out of Vitess and follows their changes through VStream."""

    name = "tap-vitess"
    package_name = "tap-vitess"
    dynamic_catalog = True
    message_writer_class = BufferedWriter
    retry: ClassVar[RetryOptions] = RetryOptions()
    config_jsonschema: ClassVar[dict[str, Any]] = copy.deepcopy(SETTINGS_SCHEMA)
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
        PluginCapabilities.BATCH,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, **kwargs: Any) -> None:
        """See the SDK; the Config is made when it is first needed."""
        self._signal = Taken()
        self._syncing = False
        self._plain: frozenset[str] = frozenset()  # streams without a map of the SDK's
        self._state_given = kwargs.get("state") is not None
        if self._state_given:
            bookmarks_of(kwargs["state"])
        if isinstance(given := kwargs.get("catalog"), dict):
            kwargs["catalog"] = catalog.read(given)
        super().__init__(**kwargs)
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:  # the SDK handles two of them
                signal.signal(number, self._handle_termination)

    def load_state(self, state: dict[str, Any]) -> None:
        """Load a state and keep an empty bookmark, which the SDK drops: it is broken, not new."""
        super().load_state(state)
        for name in state.get("bookmarks", {}):
            self.state.setdefault("bookmarks", {}).setdefault(name, {})

    @functools.cached_property
    def settings(self) -> Config:
        """The settings as a frozen value."""
        return Config.from_settings(self.config)

    # Discovery

    def setup_mapper(self) -> None:
        """Register the streams whose maps the SDK must make; it copies their schemas three times.

        The other streams of a catalog, mostly all, make their own (`VitessStream`).
        """
        super(Tap, self).setup_mapper()
        entries = self.catalog
        if self.input_catalog is not None and changes_nothing(self.mapper):
            self._plain = frozenset(name for name, entry in entries.items() if is_plain(entry))
        self.mapper.register_raw_streams_from_catalog(
            Catalog(
                (name, entry)
                for name, entry in entries.items()
                # A stream that is not selected has no columns to map.
                if name not in self._plain and entry.metadata.resolve_selection()[()]
            )
        )

    def discover_streams(self) -> Sequence[VitessStream]:
        """Make the streams of the given catalog; without one, of the database."""
        if self.input_catalog is not None:
            return [self._catalogued(entry) for entry in self.input_catalog.streams]
        tables = discovery.discover(self.settings, self.retry)
        self._check_names(tables)
        values, own = self.settings.values, self.settings.metadata_columns
        schemas = ((t, json_schema(t, values, metadata_columns=own)) for t in tables)
        return [
            VitessStream(
                self,
                self.settings.stream(t.keyspace, t.name),
                t.keyspace,
                t.name,
                schema,
                t.key,
                self._read_table,
            )
            for t, schema in schemas
        ]

    def _catalogued(self, entry: CatalogEntry) -> VitessStream:
        """Make a stream from a catalog entry; its keyspace is the root metadata's schema-name."""
        stream_id = str(entry.tap_stream_id)
        root = entry.metadata.get(())
        keyspace = str(root.schema_name or "") if isinstance(root, StreamMetadata) else ""
        table = self.settings.table_of(keyspace, stream_id) if keyspace else None
        if table is None:
            raise CatalogError(
                f"stream {stream_id}: the catalog does not say its keyspace, or was made with "
                "another stream_name; discover again"
            )
        key = entry.key_properties or ()
        stream = VitessStream(self, stream_id, keyspace, table, None, key, self._read_table)
        stream.plain = stream_id in self._plain
        return stream

    def _check_names(self, tables: Sequence[Table]) -> None:
        """Refuse two tables with one stream name.

        Warn about names that targets may confuse, and about tables without a key.
        """
        names: dict[str, Table] = {}
        for table in tables:
            name = self.settings.stream(table.keyspace, table.name)
            if other := names.get(name):
                raise CatalogError(
                    f"{table.keyspace}.{table.name} and {other.keyspace}.{other.name} would both "
                    f"be the stream {name}: leave one out by the setting exclude_tables"
                )
            names[name] = table
            table.check_names(AUTOMATIC)
            if not table.key:
                logger.warning(
                    "%s.%s has no primary key and no NOT NULL unique key: its rows cannot be "
                    "matched in the target, and its copy starts over if it is interrupted",
                    table.keyspace,
                    table.name,
                )
        for what, advice in doubts(names):
            logger.warning("%s; %s", what, advice)

    def run_discovery(self) -> str:
        """Write the catalog; first try the gRPC port, too, because a run needs it.

        Raises:
            VitessError: one of the ports does not answer as it should.
        """
        with vstream_client.connect(self.settings):
            return super().run_discovery()

    # The run

    def sync_all(self) -> None:  # type: ignore[misc]
        """Read all selected streams, one keyspace after another.

        Raises:
            VitessError: the run could not be finished; the last STATE is valid.
            SystemExit: a signal ended the run; the last STATE is valid.
        """
        selected = [s for s in self.streams.values() if isinstance(s, VitessStream) and s.selected]
        for stream in selected:
            stream.check_catalog()
        named = {f"{stream.keyspace}.{stream.table}": stream.name for stream in selected}
        again = {named[name] for name in copied_again(self.settings, named)}
        self._check_filters()
        if not self._state_given:
            warn_of_selection(len(selected), len(self.streams))
        warn_of_maps(self.mapper.stream_maps_dict, selected)
        mirror = Mirroring(self.settings, self.retry, self._signal.came)
        self.load_state(dict(mirror.start(self.state, given=self._state_given)))
        parts = list(by_keyspace(self.state, selected))
        folder = self._batch_folder()
        states = StateTeller(self.state, self._writer, mirror)
        run: Run[None] = Run(self.settings, self.retry, self._signal.came)
        self._syncing = True
        if not selected:
            logger.warning("no stream is selected: there is nothing to do")
        with contextlib.ExitStack() as stack:
            stack.callback(self._writer.flush)
            for stream in selected:
                stack.enter_context(stream.get_sync_timer())
            counters = {s.name: stack.enter_context(s.get_record_counter()) for s in selected}
            watch = stack.enter_context(Watch(self.settings.progress_seconds, self._estimate_rows))
            sinks = [
                KeyspaceWriter(state, streams, again, self._writer, states, counters, watch, folder)
                for state, streams in parts
            ]
            list(run.into(sinks))
            states.tell_last()
            self._end(stopped=run.stopped, errors=[*run.errors, *mirror.finish(self.state)])

    def _batch_folder(self) -> BatchFolder | None:
        options = BatchOptions.of(self.config.get("batch_config"))
        if options is None:
            return None
        logger.info(
            "rows go into files in %s, and BATCH messages name them: the target must know BATCH, "
            "as target-postgres does; target-jsonl and target-duckdb do not",
            options.root,
        )
        folder = BatchFolder(options, self._writer)
        folder.tidy(self.settings.batch_keep_hours)
        return folder

    def _check_filters(self) -> None:
        names = [
            f"{s.keyspace}.{s.table}" for s in self.streams.values() if isinstance(s, VitessStream)
        ]
        check_names(self.settings.filters, names, "the catalog")

    def _estimate_rows(self, keyspace: str, tables: Iterable[str]) -> Mapping[str, int]:
        return estimated(self.settings, keyspace, tables)

    def _end(self, *, stopped: bool, errors: Sequence[VitessError]) -> None:
        if (signum := self._signal.signum) is not None:
            logger.warning("ended by signal %d; the next run resumes here", signum)
            raise SystemExit(128 + signum)
        if errors:
            raise errors[0]
        if stopped:
            logger.warning(
                "ended after max_run_seconds (%g); the next run resumes here",
                self.settings.max_run_seconds,
            )

    @property
    def _writer(self) -> BufferedWriter:
        return cast("BufferedWriter", self.message_writer)

    def _read_table(self, stream: VitessStream) -> Iterator[Record]:
        """Copy one table on its own."""
        run: Run[Sequence[Record]] = Run(self.settings, self.retry, self._signal.came)
        for records in run.into([TableReader(stream)]):
            for record in records:
                yield {name: plain(value) for name, value in record.items()}
        if run.errors:
            raise run.errors[0]

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """End at the next boundary; at once on a second signal, or if nothing runs yet."""
        if not self._syncing:
            raise SystemExit(128 + signum)
        self._signal.take(signum, frame)
        end_when_stuck(self._writer, signum, logger.warning)


def main(tap: type[TapVitess] = TapVitess) -> None:
    """Run the command line; our errors are one sentence and exit code 1."""
    with_codes()
    try:
        tap.cli()
    except VitessError as error:
        tap.logger.critical("%s", error)
        if isinstance(error, TargetClosedError):
            give_up_stdout()
        sys.exit(1)
