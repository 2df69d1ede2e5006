"""Row bytes and a FIELD event -> values. Pure; the hot path.

Converters are looked up once for each FIELD event and then only applied. An image that does not
carry every column (binlog_row_image=NOBLOB, partial JSON) is refused: a column that was not
sent must never become a NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError, RequestError, ValueDecodeError
from tap_vitess.vstream.charsets import charset_of
from tap_vitess.vstream.protocol import Fields
from tap_vitess.vstream.values import Convert, ValueType, value_type


def value_types(fields: Fields) -> dict[str, ValueType]:
    """Look up the columns of a FIELD event."""
    return {
        field.name: value_type(field.column_type, charset_of(field.charset), copying=fields.copying)
        for field in fields.fields
    }


class RowDecoder:
    """Turns the rows of one FIELD event into dicts of JSON values, wanted columns only."""

    def __init__(self, fields: Fields, keyspace: str, wanted: Container[str]) -> None:
        """Look up the converters.

        Raises:
            RequestError: Vitess could not tell the columns' names.
        """
        self.where = f"{keyspace}.{fields.table} on shard {fields.shard}"
        self._names = [field.name for field in fields.fields]
        # What a FIELD event calls the columns of a table that has been altered since.
        lost = [f"@{i}" for i in range(1, len(self._names) + 1)]
        if not fields.copying and self._names == lost:
            raise RequestError(
                f"{self.where}: the table was altered after the bookmark, and Vitess no longer "
                "knows the columns of the old changes; run without state to copy it again"
            )
        self._columns: list[tuple[str, Convert | None]] = [
            (
                field.name,
                _converter(field, copying=fields.copying) if field.name in wanted else None,
            )
            for field in fields.fields
        ]

    def decode(self, row: query.Row) -> dict[str, Any]:
        """Return column -> value.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the row has not as many values as there are columns.
        """
        if len(row.lengths) != len(self._columns):
            raise ProtocolError(
                f"{self.where}: a row of {len(row.lengths)} values for {len(self._columns)} columns"
            )
        values = row.values
        record: dict[str, Any] = {}
        start = 0
        name = ""
        try:
            for (name, convert), length in zip(self._columns, row.lengths, strict=True):
                if length < 0:
                    if convert is not None:
                        record[name] = None
                    continue
                end = start + length
                if convert is not None:
                    record[name] = convert(values[start:end])
                start = end
        except ValueError as error:
            # The cause would quote the value.
            raise ValueDecodeError(
                f"{self.where}, column {name}: a value does not fit the column's type "
                f"({type(error).__name__})"
            ) from None
        return record

    def check_complete(self, change: binlogdata.RowChange) -> None:
        """Refuse an image that lacks columns.

        Raises:
            RequestError: the binlog does not carry every column of the row.
        """
        if any(change.json_partial_values.cols):
            raise RequestError(
                f"{self.where}: a change carries only a part of a JSON document; set "
                "binlog_row_value_options='' on the tablets' MySQL, then run without state"
            )
        if not change.HasField("data_columns"):
            return
        bits = change.data_columns.cols
        missing = [n for i, n in enumerate(self._names) if not bits[i // 8] >> (i % 8) & 1]
        if missing:
            raise RequestError(
                f"{self.where}: a change does not carry the columns {', '.join(missing)}; set "
                "binlog_row_image=FULL on the tablets' MySQL, then run without state"
            )


def _converter(field: query.Field, *, copying: bool) -> Callable[[bytes], Any]:
    return value_type(field.column_type, charset_of(field.charset), copying=copying).convert
