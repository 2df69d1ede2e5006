"""The Singer front end: tables as streams, their catalog and their SCHEMA messages.

Own columns, all `automatic` (a user's column list must not drop the delete marker) and named so
that targets keep them (targets strip `_sdc_sequence` and others):

    _sdc_deleted_at          when the row was deleted, else null
    _sdc_vitess_op           copy, insert, update or delete
    _sdc_vitess_shard        the shard the row came from
    _sdc_vitess_commit_time  second of the commit; null for copied rows
    _sdc_vitess_seq          rises with every record of a keyspace, across runs too

Their records are made in `records/records.py` and written in `singer/writer.py`.

A stream without a map, like most, bypasses the SDK's mapper: with 500 tables, that took longer than
the rest of a run. Its only map is made here, if it certainly is what the SDK would make
(`is_plain`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from singer_sdk import Stream, Tap
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform, StreamMap
from singer_sdk.singerlib import Metadata, MetadataMapping

from tap_vitess.errors import CatalogError
from tap_vitess.records.operations import Record
from tap_vitess.records.schema import StreamSchema
from tap_vitess.run.rules import Wanted
from tap_vitess.singer.columns import AUTOMATIC, DELETED_AT, OWN_COLUMNS
from tap_vitess.singer.plain import selected

LOG_BASED = "LOG_BASED"
FULL_TABLE = "FULL_TABLE"


class VitessStream(Stream):
    """A table. Its records are written by the run (`singer/sink.py`), not by `sync`.

    altered: the properties that in earlier runs differed from the catalog's.
    plain: whether the SDK makes no map for it (`is_plain`).
    """

    own_columns = OWN_COLUMNS
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    STATE_MSG_FREQUENCY = sys.maxsize

    def __init__(
        self,
        tap: Tap,
        name: str,
        keyspace: str,
        table: str,
        schema: dict[str, Any] | None,
        key: Iterable[str],
        read_table: Callable[[VitessStream], Iterator[Record]],
    ) -> None:
        """Describe the stream.

        Args:
            schema: its JSON schema; None if the catalog's is to be applied.
            read_table: copies this one table, for --test and the SDK's tests.
        """
        super().__init__(tap, schema=schema, name=name)
        self.keyspace = keyspace
        self.table = table
        self.primary_keys = tuple(key)
        self.forced_replication_method = LOG_BASED
        self.altered: Mapping[str, dict[str, Any]] = {}
        self._read_table = read_table
        self._sdk_tap = tap
        self.plain = False
        self._is_discovered = schema is not None

    @property
    def schema(self) -> dict[str, Any]:
        """The discovered schema, or the catalog's, of which the SDK would make a second copy."""
        return (None if self._is_discovered else self.effective_schema) or super().schema

    @property
    def emit_activate_version_messages(self) -> bool:
        """Whether rows of older versions may be removed: not if other jobs fill the same table."""
        return super().emit_activate_version_messages and not self.config.get("shards")

    @property
    def stream_maps(self) -> list[StreamMap]:
        """The SDK's maps; for a plain or unselected stream, the one that we make."""
        return self._plain_maps if self.plain or not self.selected else super().stream_maps

    @functools.cached_property
    def _plain_maps(self) -> list[StreamMap]:
        plain = SameRecordTransform(self.name, {}, list(self.primary_keys), None)
        wanted = self.wanted if self.selected else frozenset()
        plain.raw_schema = plain.transformed_schema = selected(self.effective_schema, wanted)
        return [plain]

    @property
    def metadata(self) -> MetadataMapping:
        """The catalog's metadata; own columns are automatic, the keyspace is the schema."""
        mapping = super().metadata
        mapping.root.schema_name = self.keyspace
        for column in AUTOMATIC & self.schema["properties"].keys():
            noted = mapping["properties", column]
            if noted.inclusion != Metadata.InclusionType.AUTOMATIC:  # other columns may share it
                mapping["properties", column] = replace(
                    noted, inclusion=Metadata.InclusionType.AUTOMATIC
                )
        return mapping

    def get_records(self, context: Mapping[str, Any] | None) -> Iterator[Record]:  # noqa: ARG002
        """Copy the table; used by --test and the SDK's tests, which read one stream at a time."""
        return self._read_table(self)

    def get_batch_config(self, config: Mapping[str, Any]) -> None:
        """Keep the SDK from writing its own BATCH files: they ignore selection and maps."""

    def check_catalog(self) -> None:
        """Refuse a catalog entry that would lose data.

        Raises:
            CatalogError: an unknown replication method, no column for deletes, or a key column that
                is not selected.
        """
        if self.replication_method not in {LOG_BASED, FULL_TABLE}:
            raise CatalogError(
                f"stream {self.name}: replication method {self.replication_method} is not "
                f"supported; {LOG_BASED} and {FULL_TABLE} are"
            )
        if DELETED_AT not in self.wanted:
            raise CatalogError(
                f"stream {self.name}: the catalog lacks {DELETED_AT}, so deletes could not be "
                "marked; discover again"
            )
        for stream_map in self.stream_maps:
            kept = stream_map.transformed_schema["properties"]
            if not isinstance(stream_map, RemoveRecordTransform) and DELETED_AT not in kept:
                raise CatalogError(
                    f"stream {self.name}: the stream map {stream_map.stream_alias} drops "
                    f"{DELETED_AT}, so deleted rows would come back; keep it"
                )
        if missing := [key for key in self.primary_keys if key not in self.wanted]:
            raise CatalogError(
                f"stream {self.name}: the key column {', '.join(missing)} is not selected"
            )

    @property
    def wanted(self) -> frozenset[str]:
        """The selected columns, including our own."""
        properties, mask = self.effective_schema["properties"], self.mask
        return frozenset(c for c in properties if mask.get(("properties", c), True))

    @property
    def wanted_columns(self) -> Wanted:
        """The table's selected columns, for a rule; everything if none is deselected."""
        known = frozenset(self.effective_schema["properties"])
        if known == self.wanted:
            return Wanted()
        return Wanted(self.wanted - AUTOMATIC, known=known)

    def stream_schema(self) -> StreamSchema:
        """Return the selected properties, which follow ALTERs during the run."""
        properties = self.effective_schema["properties"]
        wanted = self.wanted
        return StreamSchema(
            self.name,
            {name: prop for name, prop in properties.items() if name in wanted},
            self.primary_keys,
            AUTOMATIC,
            properties.keys() - wanted,
            altered=self.altered,
        )

    def maps_of(self, schema: StreamSchema) -> Sequence[StreamMap]:
        """Return the stream's maps for its present properties."""
        if not schema.version:
            return self.stream_maps
        mapper, told = self._sdk_tap.mapper, self.effective_schema
        told = {**told, "properties": schema.properties}
        mapper.register_raw_stream_schema(self.name, told, self.primary_keys)
        return mapper.stream_maps[self.name]
