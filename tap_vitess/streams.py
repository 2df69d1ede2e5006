"""The Singer front end: tables as streams, their catalog and their SCHEMA messages.

Own columns, all `automatic` (a user's column list must not drop the delete marker) and named so
that targets keep them (targets strip `_sdc_sequence` and others):

    _sdc_deleted_at          when the row was deleted, else null
    _sdc_vitess_op           copy, insert, update or delete
    _sdc_vitess_shard        the shard the row came from
    _sdc_vitess_commit_time  second of the commit; null for copied rows
    _sdc_vitess_seq          rises with every record of a keyspace, across runs too

Their records are made in `records.py` and written in `writer.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from singer_sdk import Stream, Tap
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import RemoveRecordTransform, StreamMap
from singer_sdk.singerlib import (
    ActivateVersionMessage,
    Metadata,
    MetadataMapping,
    SchemaMessage,
)

from tap_vitess.discovery import Table
from tap_vitess.errors import CatalogError
from tap_vitess.output import BufferedWriter
from tap_vitess.schema import StreamSchema
from tap_vitess.vstream.values import DATATYPE_PROPERTIES, ValueOptions, value_type

LOG_BASED = "LOG_BASED"
FULL_TABLE = "FULL_TABLE"

DELETED_AT = "_sdc_deleted_at"
OP = "_sdc_vitess_op"
SHARD = "_sdc_vitess_shard"
COMMIT_TIME = "_sdc_vitess_commit_time"
SEQ = "_sdc_vitess_seq"

_DATE_TIME = {"type": ["string", "null"], "format": "date-time"}
METADATA_COLUMNS: dict[str, dict[str, Any]] = {
    OP: {"type": ["string", "null"]},
    SHARD: {"type": ["string", "null"]},
    COMMIT_TIME: _DATE_TIME,
    SEQ: {"type": ["integer", "null"]},
}
AUTOMATIC = frozenset({DELETED_AT, *METADATA_COLUMNS})
OWN_COLUMNS = {
    "deleted_at": DELETED_AT,
    "op": OP,
    "shard": SHARD,
    "commit_time": COMMIT_TIME,
    "seq": SEQ,
}

Record = dict[str, Any]


def stream_name(keyspace: str, table: str) -> str:
    """Return the name of a table's stream."""
    return f"{keyspace}-{table}"


def json_schema(table: Table, options: ValueOptions, *, metadata_columns: bool) -> dict[str, Any]:
    """Return a table's JSON schema: the key is required, all else nullable and without limits.

    One ALTER TABLE would otherwise end a target's validation.
    """
    properties: dict[str, Any] = {}
    for column in table.columns:
        key = column.name in table.key
        found = value_type(column.column_type, column.charset, options=options, key=key)
        properties[column.name] = found.schema if key else found.nullable()
    properties[DELETED_AT] = _DATE_TIME
    if metadata_columns:
        properties |= METADATA_COLUMNS
    return {"type": "object", "properties": properties, "required": list(table.key)}


class VitessStream(Stream):
    """A table. Its records are written by the run (`tap.py`), not by `sync`.

    altered: the properties that earlier runs have told otherwise than the catalog does.
    """

    own_columns = OWN_COLUMNS
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    STATE_MSG_FREQUENCY = sys.maxsize

    def __init__(
        self,
        tap: Tap,
        keyspace: str,
        table: str,
        schema: dict[str, Any],
        key: Iterable[str],
        read_table: Callable[[VitessStream], Iterator[Record]],
    ) -> None:
        """Describe the stream.

        Args:
            tap: the tap.
            keyspace: the table's keyspace.
            table: the bare table name.
            schema: its JSON schema.
            key: the key columns, in order.
            read_table: copies this one table, for --test and the SDK's tests.
        """
        super().__init__(tap, schema=schema, name=stream_name(keyspace, table))
        self.keyspace = keyspace
        self.table = table
        self.primary_keys = tuple(key)
        self.forced_replication_method = LOG_BASED
        self.altered: Mapping[str, dict[str, Any]] = {}
        self._read_table = read_table
        self._sdk_tap = tap

    @property
    def metadata(self) -> MetadataMapping:
        """The catalog's metadata; own columns are automatic, the keyspace is the schema."""
        mapping = super().metadata
        mapping.root.schema_name = self.keyspace
        for column in AUTOMATIC & self.schema["properties"].keys():
            mapping["properties", column].inclusion = Metadata.InclusionType.AUTOMATIC
        return mapping

    def get_records(self, context: Mapping[str, Any] | None) -> Iterator[Record]:  # noqa: ARG002
        """Copy the table; used by --test and the SDK's tests, which read one stream at a time."""
        return self._read_table(self)

    def check_catalog(self) -> None:
        """Refuse a catalog entry that would lose something.

        Raises:
            CatalogError: an unknown replication method, or no column for deletes.
        """
        if self.replication_method not in {LOG_BASED, FULL_TABLE}:
            raise CatalogError(
                f"stream {self.name}: replication method {self.replication_method} is not "
                f"supported; {LOG_BASED} and {FULL_TABLE} are"
            )
        if DELETED_AT not in self.wanted:
            raise CatalogError(
                f"stream {self.name}: the catalog lacks {DELETED_AT}, so deletes could not be "
                "told; discover again"
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
        """The selected columns, own ones included."""
        properties = self.effective_schema["properties"]
        return frozenset(c for c in properties if self.mask.get(("properties", c), True))

    @property
    def charsets(self) -> dict[str, str]:
        """What discovery has noted of columns' charsets, where FIELD events may not tell."""
        return {
            name: _noted(schema)["charset"]
            for name, schema in self.effective_schema["properties"].items()
            if "charset" in _noted(schema)
        }

    def stream_schema(self) -> StreamSchema:
        """Return the selected properties, to be followed through the run."""
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
        """Return the stream's maps for the properties as they are now."""
        if not schema.version:
            return self.stream_maps
        return self._make_maps({**self.effective_schema, "properties": schema.properties})

    def _make_maps(self, schema: dict[str, Any]) -> Sequence[StreamMap]:
        """Let the tap's mapper take the stream for one with another schema."""
        mapper = self._sdk_tap.mapper
        mapper.register_raw_stream_schema(self.name, schema, self.primary_keys)
        return mapper.stream_maps[self.name]


def write_schema(maps: Iterable[StreamMap], writer: BufferedWriter) -> None:
    """Write the SCHEMA message of each map."""
    for stream_map in maps:
        if not isinstance(stream_map, RemoveRecordTransform):
            writer.write_message(
                SchemaMessage(
                    stream_map.stream_alias,
                    _with_datatype_properties(stream_map.transformed_schema),
                    list(stream_map.transformed_key_properties or ()),
                )
            )


def write_activate_version(maps: Iterable[StreamMap], writer: BufferedWriter, version: int) -> None:
    """Tell the target that all rows of other versions may go."""
    for stream_map in maps:
        if not isinstance(stream_map, RemoveRecordTransform):
            writer.write_message(ActivateVersionMessage(stream_map.stream_alias, version))


def _with_datatype_properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Put precision and scale where targets look for them; catalogs cannot hold them there."""
    properties = {
        name: {**prop, **{k: v for k, v in _noted(prop).items() if k in {"precision", "scale"}}}
        for name, prop in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _noted(prop: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a property notes of its column beside its JSON type."""
    return dict(prop.get(DATATYPE_PROPERTIES, {}))
