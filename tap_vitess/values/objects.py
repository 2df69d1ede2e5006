"""Row bytes -> Python's own objects: one entry a MySQL type, beside `values.py`. Pure.

The value is the one that PyMySQL gives for a SELECT of the row, whether it was copied or comes
from the binlog: int, float, Decimal, str, bytes, date, datetime, timedelta. As there, a DATETIME
and a TIMESTAMP have no time zone (Vitess streams a TIMESTAMP in UTC), a zero or partial date
(0000-00-00) stays a str, a BIT is bytes, and a geometry is MySQL's bytes: the SRID, then WKB.

Other than there, JSON is parsed, and its numbers are floats unless a float cannot hold all of
their digits, which makes them a Decimal; and a VECTOR is a list of floats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from tap_vitess.protocol.columns import Column, Images
from tap_vitess.protocol.items import Fields
from tap_vitess.values.decode import RowDecoder, unfit, value_types
from tap_vitess.values.entries import Convert, UnfitError, ValueOptions, plain

Row = dict[str, Any]


def _same(convert: Convert) -> Convert:
    return convert


def _bytes(_: Convert) -> Convert:
    return bytes


def _decimal(_: Convert) -> Convert:
    def number(raw: bytes) -> Decimal:
        try:
            return Decimal(raw.decode())
        except InvalidOperation:
            raise UnfitError("not a decimal") from None

    return number


def _date(check: Convert) -> Convert:
    return _dated(check, date.fromisoformat)


def _datetime(check: Convert) -> Convert:
    return _dated(check, datetime.fromisoformat)


def _dated(check: Convert, read: Callable[[str], Any]) -> Convert:
    def moment(raw: bytes) -> Any:
        text = raw.decode()
        try:
            return read(text)
        except ValueError:
            check(raw)
            return text

    return moment


_TIME = re.compile(rb"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def _time(_: Convert) -> Convert:
    def span(raw: bytes) -> timedelta:
        match = _TIME.fullmatch(raw)
        if match is None:
            raise UnfitError("not a time")
        sign, hours, minutes, seconds, fraction = match.groups()
        found = timedelta(
            hours=int(hours),
            minutes=int(minutes),
            seconds=int(seconds),
            microseconds=int((fraction or b"").ljust(6, b"0")),
        )
        return -found if sign else found

    return span


def _document(convert: Convert) -> Convert:
    return lambda raw: plain(convert(raw))


# Of what `values.py` makes of the bytes (under _OPTIONS), what makes the object of them.
_ENTRIES: dict[str, Callable[[Convert], Convert]] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), _same),
    "bit": _bytes,
    "decimal": _decimal,
    **dict.fromkeys(("float", "double"), _same),
    "date": _date,
    **dict.fromkeys(("datetime", "timestamp"), _datetime),
    "time": _time,
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), _same),
    **dict.fromkeys(("enum", "set"), _same),
    **dict.fromkeys(("binary", "varbinary"), _bytes),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), _bytes),
    "json": _document,
    **dict.fromkeys(("geometry", "point", "linestring", "polygon"), _bytes),
    **dict.fromkeys(("multipoint", "multilinestring", "multipolygon"), _bytes),
    **dict.fromkeys(("geometrycollection", "geomcollection"), _bytes),
    "vector": _same,
}


class ObjectDecoder(RowDecoder):
    """Turns the rows of one FIELD event into dicts of Python's objects."""

    @staticmethod
    def converters(
        fields: Fields,
        options: ValueOptions,
        *,
        key: Container[str],
        charsets: Mapping[str, str] | None,
        as_text: Container[str],  # noqa: ARG004 - an object is of the type that its column has now
    ) -> dict[str, Convert]:
        """Return what makes each column's values of their bytes."""
        own = ValueOptions(
            float_as=options.float_as, invalid_text=options.invalid_text, zero_dates="string"
        )
        types = value_types(fields, own, key=key, charsets=charsets)
        return {
            field.name: _ENTRIES.get(_name(field.column_type), _same)(types[field.name].convert)
            for field in fields.fields
        }

    def decode_all(self, images: Images) -> Iterator[Row]:
        """Yield the rows of images, column by column, which is faster than one by one.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are no whole rows.
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


def _name(column_type: str) -> str:
    return column_type.lower().partition("(")[0].strip().partition(" ")[0]
