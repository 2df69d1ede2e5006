"""Row bytes and a FIELD event -> values. Pure; the hot path.

Converters are looked up once for each FIELD event and then only applied. Which columns an image
does not carry is the matter of `images.py`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import orjson

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError, ValueDecodeError
from tap_vitess.protocol.images import unpacked
from tap_vitess.protocol.items import Fields
from tap_vitess.values.charsets import BINARY, charset_of
from tap_vitess.values.entries import (
    DEFAULTS,
    Convert,
    UnfitError,
    ValueOptions,
    ValueType,
    value_type,
)


def value_types(
    fields: Fields,
    options: ValueOptions = DEFAULTS,
    *,
    key: Container[str] = (),
    charsets: Mapping[str, str] | None = None,
) -> dict[str, ValueType]:
    """Look up the columns of a FIELD event.

    Args:
        fields: the event.
        options: the settings.
        key: the stream's key columns.
        charsets: what discovery knows of the columns' charsets. It counts where the event does not
            tell: Vitess sends 0 for collations it has no table of (big5, gbk, gb18030, tis620 and
            some rare ones), and before 20 the connection's, which is binary.
    """
    return {
        field.name: value_type(
            field.column_type,
            _charset(field, charsets or {}),
            options=options,
            copying=fields.copying,
            labelled=fields.labelled,
            key=field.name in key,
        )
        for field in fields.fields
    }


def _charset(field: query.Field, discovered: Mapping[str, str]) -> str | None:
    told = charset_of(field.charset)
    return discovered.get(field.name, told) if told in {None, BINARY} else told


class RowDecoder:
    """Turns the rows of one FIELD event into dicts of JSON values, wanted columns only."""

    def __init__(
        self,
        fields: Fields,
        keyspace: str,
        wanted: Container[str],
        options: ValueOptions = DEFAULTS,
        *,
        key: Container[str] = (),
        charsets: Mapping[str, str] | None = None,
        as_text: Container[str] = (),
    ) -> None:
        """Look up the converters, see `value_types`; values of columns `as_text` become text.

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
        found = self.converters(fields, options, key=key, charsets=charsets, as_text=as_text)
        self.columns: list[tuple[str, Convert | None]] = [
            (name, found[name] if name in wanted else None) for name in names
        ]

    @staticmethod
    def converters(
        fields: Fields,
        options: ValueOptions,
        *,
        key: Container[str],
        charsets: Mapping[str, str] | None,
        as_text: Container[str],
    ) -> dict[str, Convert]:
        """Return what makes each column's values of their bytes."""
        types = value_types(fields, options, key=key, charsets=charsets)
        return {
            name: text_of(found.convert) if name in as_text else found.convert
            for name, found in types.items()
        }

    def decode(self, row: query.Row) -> dict[str, Any]:
        """Return column -> value.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the row has not as many values as there are columns, or other bytes.
        """
        record: dict[str, Any] = {}
        name = ""
        values = unpacked(row, len(self.columns), self.where)
        try:
            for (name, convert), value in zip(self.columns, values, strict=True):
                if convert is not None:
                    record[name] = None if value is None else convert(value)
        except ValueError as error:
            # The cause would quote the value.
            raise unfit(f"{self.where}, column {name}", error) from None
        return record


def text_of(convert: Convert) -> Convert:
    """Let a value that is no text become its JSON text."""

    def text(raw: bytes) -> str | None:
        value = convert(raw)
        if value is None or isinstance(value, str):
            return value
        return orjson.dumps(value).decode()

    return text


def unfit(where: str, error: ValueError) -> ValueDecodeError:
    """Explain what a converter raised, without the value."""
    if isinstance(error, UnfitError):
        return ValueDecodeError(f"{where}: {error}")
    if isinstance(error, UnicodeDecodeError):
        return ValueDecodeError(
            f"{where}: a value has bytes that are no text of the column's charset; if an ALTER "
            "has changed that, set on_lost_position to `resync` for a run to copy the table again, "
            "else set invalid_text to `replace` to get U+FFFD in their place"
        )
    return ValueDecodeError(
        f"{where}: a value does not fit the column's type ({type(error).__name__})"
    )
