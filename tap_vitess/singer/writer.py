"""Rows to Singer's RECORD lines or BATCH files, and a new SCHEMA before the first that needs one.

Records are encoded without the SDK, many at once if possible (`records/lines.py`), else one by one
here; only streams with maps or flattening go through the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform, StreamMap
from singer_sdk.singerlib import ActivateVersionMessage, RecordMessage, SchemaMessage
from singer_sdk.singerlib.json import serialize_json

from tap_vitess.errors import ConfigError
from tap_vitess.log import logger_of
from tap_vitess.protocol.items import Rows
from tap_vitess.records.operations import Record
from tap_vitess.records.records import RecordMaker
from tap_vitess.singer.batch import VERSION_COLUMN, Batch, BatchFolder
from tap_vitess.singer.output import BufferedWriter
from tap_vitess.singer.streams import VitessStream
from tap_vitess.values.documents import plain
from tap_vitess.values.types import DATATYPE_PROPERTIES

logger = logger_of(__name__)

_TEXT = {"string", "null"}


class RecordWriter:
    """Writes a stream's rows as RECORD messages, and its SCHEMA messages; `maker` makes them."""

    def __init__(
        self,
        stream: VitessStream,
        maker: RecordMaker,
        writer: BufferedWriter,
        folder: BatchFolder | None = None,
    ) -> None:
        """Write the SCHEMA and choose the way: encoded here, or through the stream's maps.

        Rows that are encoded here go into a folder, if there is one.
        """
        self._stream = stream
        self.maker = maker
        self._writer = writer
        self._folder = folder
        self._batch: Batch | None = None
        self._choose_way()

    def write(self, rows: Rows, version: int) -> int:
        """Write rows; return the number of their records."""
        if self.maker.prepare(rows.fields):
            logger.info("%s: the table was altered; a new SCHEMA", self._stream.name)
            self._choose_way()
        if not self._direct:
            return self._write_mapped(self.maker.records(rows), version)
        if self._batch:
            count, lines = self.maker.written(rows, b"{", _end_of_row(version))
            self._batch.add(lines)
            return count
        count, lines = self.maker.written(rows, *self._frame(version))
        for some in lines:
            self._writer.write_line(some)
        return count

    def flush(self) -> None:
        """Hand the rows of an unfinished batch to the target."""
        if self._batch:
            self._batch.flush()

    def write_activate_version(self, version: int) -> None:
        """Tell the target to remove all rows of other versions."""
        self.flush()
        for stream_map in self._kept_maps() if self._stream.emit_activate_version_messages else ():
            self._writer.write_message(ActivateVersionMessage(stream_map.stream_alias, version))

    def _kept_maps(self) -> list[StreamMap]:
        return [m for m in self._maps if not isinstance(m, RemoveRecordTransform)]

    def _choose_way(self) -> None:
        self.flush()
        self._maps = self._stream.maps_of(self.maker.schema)
        first = self._maps[0]
        self._direct = (
            len(self._maps) == 1
            and type(first) is SameRecordTransform
            and not first.flattening_enabled
        )
        if self._direct and self._folder:
            self._check_version_column(first)
            self._batch = self._batch or Batch(self._folder, first.stream_alias)
        for stream_map in self._kept_maps():
            schema = _with_datatype_properties(stream_map.transformed_schema)
            if self._batch:
                versioned = {**schema["properties"], VERSION_COLUMN: {"type": ["null", "integer"]}}
                schema = {**schema, "properties": versioned}
            key = list(stream_map.transformed_key_properties or ())
            self._writer.write_message(SchemaMessage(stream_map.stream_alias, schema, key))
        self._stream_name = orjson.dumps(first.stream_alias)

    def _check_version_column(self, stream_map: StreamMap) -> None:
        """Refuse a column that has the name of the version column of BATCH files.

        Raises:
            ConfigError: there is one.
        """
        if VERSION_COLUMN in stream_map.transformed_schema["properties"]:
            raise ConfigError(
                f"stream {stream_map.stream_alias}: the column {VERSION_COLUMN} has the name of "
                "one that BATCH files add; deselect the column, leave the table out by "
                "exclude_tables, or remove the setting batch_config"
            )

    def _frame(self, version: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after a record's members."""
        now = datetime.now(UTC).isoformat().encode()
        return (
            b'{"type":"RECORD","stream":%b,"record":{' % self._stream_name,
            b'},"version":%d,"time_extracted":"%b"}\n' % (version, now),
        )

    def _write_mapped(self, records: list[Record], version: int) -> int:
        for record in records:
            values = {name: plain(value) for name, value in record.items()}
            for stream_map in self._maps:
                if (line := self._mapped(stream_map, values, version)) is not None:
                    self._writer.write_line(line)
        return len(records)

    def _mapped(self, stream_map: StreamMap, values: Record, version: int) -> bytes | None:
        """Return a map's line for a row; None if it filters the row out.

        Raises:
            ConfigError: the map fails on the row.
        """
        alias = stream_map.stream_alias
        try:
            mapped = stream_map.transform(values)
            if mapped is None:
                return None
            if stream_map.flattening_enabled:
                mapped = _as_told(mapped, stream_map.transformed_schema["properties"])
            now = datetime.now(UTC)
            message = RecordMessage(alias, mapped, version=version, time_extracted=now)
            return self._writer.format_message(message)
        except Exception as error:  # noqa: BLE001 - an expression of the user's raises anything
            # The cause would quote the row.
            raise ConfigError(
                f"setting stream_maps: a row of {self._stream.name} cannot be mapped to {alias} "
                f"({type(error).__name__}): make the expression handle NULL and "
                "the column types",
                table=self._stream.table,
            ) from None


def _as_told(record: Record, properties: Mapping[str, Any]) -> Record:
    """Write as text what flattening declares as text: documents may be numbers and booleans."""
    texts = {name for name, prop in properties.items() if {*prop.get("type", ())} <= _TEXT}
    return {
        name: serialize_json(value)
        if name in texts and value is not None and not isinstance(value, str)
        else value
        for name, value in record.items()
    }


def _end_of_row(version: int) -> bytes:
    """Return the bytes after a row's members in a file."""
    return b',"%b":%d}\n' % (VERSION_COLUMN.encode(), version)


def _with_datatype_properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Put precision and scale where targets look for them; catalogs cannot have them there."""
    properties = {
        name: _with_digits(prop) if DATATYPE_PROPERTIES in prop else prop
        for name, prop in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _with_digits(prop: Mapping[str, Any]) -> dict[str, Any]:
    noted = dict(prop[DATATYPE_PROPERTIES])
    return {**prop, **{k: v for k, v in noted.items() if k in {"precision", "scale"}}}
