"""One row's bytes to Python values, by its FIELD event. Pure; the hot path.

Converters are looked up once for each FIELD event and then only applied. `protocol/images.py` knows
which columns an image does not carry.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError, ValueDecodeError
from tap_vitess.protocol.columns import Column, Images
from tap_vitess.protocol.images import unpacked
from tap_vitess.protocol.items import Fields
from tap_vitess.values.mysql_types import value_types
from tap_vitess.values.types import DEFAULTS, Convert, UnfitError, ValueOptions, ValueType

Row = dict[str, Any]


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
            HistoryLostError: Vitess did not know the columns' names.
        """
        self.where = f"{keyspace}.{fields.table} on shard {fields.shard}"
        self.fields = fields.fields
        names = [field.name for field in fields.fields]
        # A FIELD event's names for the columns of a table that has been altered since.
        if not fields.copying and names == [f"@{i}" for i in range(1, len(names) + 1)]:
            raise HistoryLostError(
                f"{self.where}: the table was altered after the bookmark, and Vitess no longer "
                "knows the columns of its older changes; set on_lost_position to `resync` for a "
                "run to copy the table again"
            )
        self.types = value_types(fields, options, key=key, charsets=charsets)
        self.types |= {name: self.types[name].as_text() for name in names if name in as_text}
        self.columns: list[tuple[str, Convert | None]] = [
            (name, self._form(self.types[name]) if name in wanted else None) for name in names
        ]

    def _form(self, type_: ValueType) -> Convert:
        return type_.convert

    def decode(self, row: query.Row) -> Row:
        """Return column -> value.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the row has another number of values than columns, or other bytes.
        """
        record: Row = {}
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

    def are_same(self, one: Images, other: Images, columns: Sequence[int]) -> bool:
        """Return whether both images of each row have the same bytes in some columns, in order.

        Raises:
            ProtocolError: the images are not whole rows.
        """
        width = len(self.columns)
        return all(
            own == others
            for own, others in zip(
                one.chunks(width, self.where, columns),
                other.chunks(width, self.where, columns),
                strict=True,
            )
        )


class ObjectDecoder(RowDecoder):
    """Turns the rows of one FIELD event into dicts of Python's objects.

    Only the settings of text and floats apply. An object has the type that its column has now; it
    is never text instead.
    """

    def _form(self, type_: ValueType) -> Convert:
        return type_.python

    def decode_all(self, images: Images) -> Iterator[Row]:
        """Yield the rows of images, column by column, which is faster than one by one.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are not whole rows.
        """
        wanted = {
            index: (name, convert)
            for index, (name, convert) in enumerate(self.columns)
            if convert is not None
        }
        names = [name for name, _ in wanted.values()]
        for chunk in images.chunks(len(self.columns), self.where, [*wanted]):
            columns = [self._objects(*wanted[index], chunk.column(index)) for index in wanted]
            for row in zip(*columns, strict=True):
                yield dict(zip(names, row, strict=True))

    def _objects(self, name: str, convert: Convert, values: Column) -> list[Any]:
        try:
            return [None if value is None else convert(value) for value in values]
        except ValueError as error:
            # The cause would quote the value.
            raise unfit(f"{self.where}, column {name}", error) from None


def unfit(where: str, error: ValueError | TypeError) -> ValueDecodeError:
    """Explain a converter's error without the value."""
    if isinstance(error, UnfitError):
        return ValueDecodeError(f"{where}: {error}")
    if isinstance(error, UnicodeDecodeError):
        return ValueDecodeError(
            f"{where}: a value has bytes that are not text in the column's charset; if an ALTER "
            "has changed that, set on_lost_position to `resync` for a run to copy the table again, "
            "else set invalid_text to `replace` to get U+FFFD in their place"
        )
    if isinstance(error, TypeError):  # orjson's
        return ValueDecodeError(
            f"{where}: a value cannot be written as JSON, such as an integer of more than 64 bits"
        )
    return ValueDecodeError(
        f"{where}: a value does not fit the column's type ({type(error).__name__})"
    )
