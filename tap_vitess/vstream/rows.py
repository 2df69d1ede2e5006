"""Row bytes and a FIELD event -> values. Pure; the hot path.

Converters are looked up once for each FIELD event and then only applied. Which columns an image
does not carry is the matter of `images.py`.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import orjson

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError, ProtocolError, ValueDecodeError
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

    def __init__(
        self,
        fields: Fields,
        keyspace: str,
        wanted: Container[str],
        as_text: Container[str] = (),
    ) -> None:
        """Look up the converters; values of the columns `as_text` become text.

        Raises:
            HistoryLostError: Vitess could not tell the columns' names.
        """
        self.where = f"{keyspace}.{fields.table} on shard {fields.shard}"
        self.fields = fields.fields
        names = [field.name for field in fields.fields]
        # What a FIELD event calls the columns of a table that has been altered since.
        if not fields.copying and names == [f"@{i}" for i in range(1, len(names) + 1)]:
            raise HistoryLostError(
                f"{self.where}: the table was altered after the bookmark, and Vitess no longer "
                "knows the columns of its older changes; let on_lost_position be `resync` for a "
                "run to copy the table again"
            )
        types = value_types(fields)
        self._columns: list[tuple[str, Convert | None]] = []
        for name in names:
            convert = types[name].convert
            if name in as_text:
                convert = text_of(convert)
            self._columns.append((name, convert if name in wanted else None))

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


def text_of(convert: Convert) -> Convert:
    """Let a value that is no text become its JSON text."""

    def text(raw: bytes) -> str | None:
        value = convert(raw)
        if value is None or isinstance(value, str):
            return value
        return orjson.dumps(value).decode()

    return text
