"""The Singer front end: tables as streams, rows as RECORD lines.

Own columns, all `automatic` (a user's column list must not drop the delete marker) and named so
that targets keep them (targets strip `_sdc_sequence` and others):

    _sdc_deleted_at          when the row was deleted, else null
    _sdc_vitess_op           copy, insert, update or delete
    _sdc_vitess_shard        the shard the row came from
    _sdc_vitess_commit_time  second of the commit; null for copied rows
    _sdc_vitess_seq          rises with every record of a keyspace, across runs too

A delete carries the whole image of the deleted row: a target that upserts would blank what is
left out. An update of the key is a delete of the old row and an insert of the new one.
Records are encoded here, without the SDK; only streams with maps or flattening go through it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from singer_sdk import Stream, Tap
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform
from singer_sdk.singerlib import (
    ActivateVersionMessage,
    Metadata,
    MetadataMapping,
    RecordMessage,
    SchemaMessage,
)

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.discovery import Table
from tap_vitess.errors import CatalogError
from tap_vitess.lines import Lines
from tap_vitess.output import BufferedWriter
from tap_vitess.vstream.charsets import charset_of
from tap_vitess.vstream.protocol import Fields, Rows
from tap_vitess.vstream.rows import RowDecoder, value_types
from tap_vitess.vstream.values import DATATYPE_PROPERTIES, plain, value_type

logger = logging.getLogger(__name__)

LOG_BASED = "LOG_BASED"
FULL_TABLE = "FULL_TABLE"

DELETED_AT = "_sdc_deleted_at"
OP = "_sdc_vitess_op"
SHARD = "_sdc_vitess_shard"
COMMIT_TIME = "_sdc_vitess_commit_time"
SEQ = "_sdc_vitess_seq"

_DATE_TIME = {"type": ["string", "null"], "format": "date-time"}
_METADATA_COLUMNS: dict[str, dict[str, Any]] = {
    OP: {"type": ["string", "null"]},
    SHARD: {"type": ["string", "null"]},
    COMMIT_TIME: _DATE_TIME,
    SEQ: {"type": ["integer", "null"]},
}
_OWN = {OP: "op", SHARD: "shard", COMMIT_TIME: "commit_time", SEQ: "seq"}
AUTOMATIC = frozenset({DELETED_AT, *_METADATA_COLUMNS})

Record = dict[str, Any]


def stream_name(keyspace: str, table: str) -> str:
    """Return the name of a table's stream."""
    return f"{keyspace}-{table}"


def json_schema(table: Table, *, metadata_columns: bool) -> dict[str, Any]:
    """Return a table's JSON schema: the key is required, all else nullable and without limits.

    One ALTER TABLE would otherwise end a target's validation.
    """
    properties: dict[str, Any] = {}
    for column in table.columns:
        found = value_type(column.column_type, column.charset)
        properties[column.name] = found.schema if column.name in table.key else found.nullable()
    properties[DELETED_AT] = _DATE_TIME
    if metadata_columns:
        properties |= _METADATA_COLUMNS
    return {"type": "object", "properties": properties, "required": list(table.key)}


def _with_datatype_properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Put precision and scale where targets look for them; catalogs cannot hold them there."""
    properties = {
        name: {**prop, **prop.get(DATATYPE_PROPERTIES, {})}
        for name, prop in schema["properties"].items()
    }
    return {**schema, "properties": properties}


class Sequence:
    """Gives out `_sdc_vitess_seq`: microseconds since 1970, and always more than the last."""

    def __init__(self, last: int) -> None:
        self.last = last

    def take(self, count: int = 1) -> int:
        """Return the next number; the `count - 1` behind it are given out, too."""
        self.last += count
        return self.last - count + 1

    def catch_up(self) -> None:
        """Go up to the clock, unless the clock is behind."""
        self.last = max(self.last, time.time_ns() // 1000)


class VitessStream(Stream):
    """A table. Its records are written by the run (`tap.py`), not by `sync`."""

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
        self._read_table = read_table

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

    def write_schema(self, writer: BufferedWriter) -> None:
        """Write the SCHEMA messages of the stream and of its maps."""
        for stream_map in self.stream_maps:
            if not isinstance(stream_map, RemoveRecordTransform):
                writer.write_message(
                    SchemaMessage(
                        stream_map.stream_alias,
                        _with_datatype_properties(stream_map.transformed_schema),
                        list(stream_map.transformed_key_properties or ()),
                    )
                )

    def write_activate_version(self, writer: BufferedWriter, version: int) -> None:
        """Tell the target that all rows of other versions may go."""
        for stream_map in self.stream_maps:
            if not isinstance(stream_map, RemoveRecordTransform):
                writer.write_message(ActivateVersionMessage(stream_map.stream_alias, version))


class RecordMaker:
    """Makes records of a stream's rows; each shard's decoders are those of its last FIELD event."""

    def __init__(self, stream: VitessStream, sequence: Sequence, *, metadata_columns: bool) -> None:
        """Prepare for a stream whose numbers come from `sequence`."""
        self._stream = stream
        self._sequence = sequence
        self._wanted = stream.wanted
        self._key = frozenset(stream.primary_keys)
        self._own = self._wanted & _METADATA_COLUMNS.keys() if metadata_columns else frozenset()
        self._decoders: dict[str, tuple[Fields, RowDecoder, RowDecoder]] = {}
        self._lines: dict[str, tuple[Fields, Lines]] = {}
        self._unknown: set[str] = set()

    def records(self, rows: Rows) -> list[Record]:
        """Decode rows.

        Raises:
            VitessError: a value or an image that cannot be taken as it is.
        """
        _, decoder, key_decoder = self._decoders_of(rows.fields)
        self._sequence.catch_up()
        shard = rows.fields.shard
        if rows.fields.copying:
            return [
                self._finish(decoder.decode(change.after), "copy", shard, None)
                for change in rows.changes
            ]
        commit_time = datetime.fromtimestamp(rows.commit_time, UTC).isoformat()
        records: list[Record] = []
        for change in rows.changes:
            decoder.check_complete(change)
            for op, image in self._split(change, key_decoder):
                record = decoder.decode(image)
                records.append(self._finish(record, op, shard, commit_time))
        return records

    def lines(self, rows: Rows, head: bytes, end: bytes) -> tuple[int, Iterator[bytes]] | None:
        """Return how many records there are, and their lines; None for what `records` must do."""
        self._decoders_of(rows.fields)
        self._sequence.catch_up()
        _, lines = self._lines[rows.fields.shard]
        found = lines.of(rows, self._sequence.last + 1, head, end)
        if found is not None:
            self._sequence.take(found[0])
        return found

    def _split(
        self, change: binlogdata.RowChange, key_decoder: RowDecoder
    ) -> tuple[tuple[str, Any], ...]:
        """Name the operation; an update of the key is a delete and an insert."""
        if not change.HasField("after"):
            return (("delete", change.before),)
        if not change.HasField("before"):
            return (("insert", change.after),)
        if self._key and key_decoder.decode(change.before) != key_decoder.decode(change.after):
            return (("delete", change.before), ("insert", change.after))
        return (("update", change.after),)

    def _finish(self, record: Record, op: str, shard: str, commit_time: str | None) -> Record:
        record[DELETED_AT] = commit_time if op == "delete" else None
        seq = self._sequence.take()
        own = self._own
        if own:
            if OP in own:
                record[OP] = op
            if SHARD in own:
                record[SHARD] = shard
            if COMMIT_TIME in own:
                record[COMMIT_TIME] = commit_time
            if SEQ in own:
                record[SEQ] = seq
        return record

    def _decoders_of(self, fields: Fields) -> tuple[Fields, RowDecoder, RowDecoder]:
        found = self._decoders.get(fields.shard)
        if found is None or found[0] is not fields:
            self._check_columns(fields)
            self._warn_of_new_columns(fields)
            keyspace = self._stream.keyspace
            found = self._decoders[fields.shard] = (
                fields,
                RowDecoder(fields, keyspace, self._wanted),
                RowDecoder(fields, keyspace, self._key),
            )
            own = {name: column for column, name in _OWN.items() if column in self._own}
            own["deleted_at"] = DELETED_AT
            self._lines[fields.shard] = (
                fields,
                Lines(fields, keyspace, value_types(fields), self._wanted, self._key, own),
            )
        return found

    def _check_columns(self, fields: Fields) -> None:
        """Refuse rows that no longer fit the catalog.

        Raises:
            CatalogError: a key column is gone, or a column has another type.
        """
        where = f"stream {self._stream.name} on shard {fields.shard}"
        if missing := sorted(self._key - {field.name for field in fields.fields}):
            raise CatalogError(
                f"{where}: the key column {', '.join(missing)} is gone; discover again"
            )
        properties = self._stream.effective_schema["properties"]
        for field in fields.fields:
            if field.name in self._wanted and field.column_type:
                found = value_type(field.column_type, charset_of(field.charset)).schema
                if not _fits(found, properties[field.name]):
                    raise CatalogError(
                        f"{where}: column {field.name} is a {field.column_type} now, which does "
                        "not fit the catalog; discover again"
                    )

    def _warn_of_new_columns(self, fields: Fields) -> None:
        known = self._stream.effective_schema["properties"]
        names = {f.name for f in fields.fields if f.name not in known and f.name[:1] != "@"}
        if new := sorted(names - self._unknown):
            self._unknown |= names
            logger.warning(
                "%s: column %s is not in the catalog and left out; discover again to get it",
                self._stream.name,
                ", ".join(new),
            )


def _fits(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Tell whether values of one JSON schema are values of another, too."""
    types = wanted.get("type", found["type"])
    allowed = {types} if isinstance(types, str) else set(types)
    given = {found["type"]} if isinstance(found["type"], str) else set(found["type"]) - {"null"}
    if "number" in allowed:
        allowed.add("integer")
    return given <= allowed and wanted.get("format") in {None, found.get("format")}


class RecordWriter:
    """Writes a stream's rows as RECORD messages."""

    def __init__(self, stream: VitessStream, maker: RecordMaker, writer: BufferedWriter) -> None:
        """Choose the way: encoded here, or through the stream's maps."""
        self._maker = maker
        self._writer = writer
        self._maps = stream.stream_maps
        first = self._maps[0]
        self._direct = (
            len(self._maps) == 1
            and type(first) is SameRecordTransform
            and not first.flattening_enabled
        )
        self._write = self._write_direct if self._direct else self._write_mapped
        self._prefix = b'{"type":"RECORD","stream":%s,"record":' % orjson.dumps(first.stream_alias)

    def write(self, rows: Rows, version: int) -> int:
        """Write rows; return how many records came of them."""
        if self._direct:
            end = self._end(version)
            found = self._maker.lines(rows, self._prefix + b"{", b"}" + end)
            if found is not None:
                count, lines = found
                for some in lines:
                    self._writer.write_line(some)
                return count
        records = self._maker.records(rows)
        self._write(records, version)
        return len(records)

    def _write_direct(self, records: list[Record], version: int) -> None:
        prefix, dumps = self._prefix, orjson.dumps
        suffix = self._end(version)
        for record in records:
            self._writer.write_line(prefix + dumps(record) + suffix)

    def _end(self, version: int) -> bytes:
        now = datetime.now(UTC).isoformat().encode()
        return b',"version":%d,"time_extracted":"%s"}\n' % (version, now)

    def _write_mapped(self, records: list[Record], version: int) -> None:
        for record in records:
            values = {name: plain(value) for name, value in record.items()}
            for stream_map in self._maps:
                mapped = stream_map.transform(values)
                if mapped is not None:
                    self._writer.write_message(
                        RecordMessage(
                            stream=stream_map.stream_alias,
                            record=mapped,
                            version=version,
                            time_extracted=datetime.now(UTC),
                        )
                    )
