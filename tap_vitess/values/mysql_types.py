"""The table of MySQL's types, where new ones are added; finds a column's entry. Pure.

Discovery and decoding both ask here, so a catalog and a record cannot disagree. The table is keyed
by the type's text (`bigint unsigned`, `varchar(20)`), which information_schema and the FIELD event
share. The FIELD event's type number is useless, because a `_bin` collation turns a VARCHAR into
VARBINARY there (facts, 7.1). docs/values.md shows what each type is converted to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping

from tap_vitess._proto import query_pb2 as query
from tap_vitess.protocol.items import Fields
from tap_vitess.values import documents, geometry, numbers, texts, times
from tap_vitess.values.charsets import BINARY, charset_of
from tap_vitess.values.types import DEFAULTS, Declared, ValueOptions, ValueType

_ENTRIES: dict[str, Callable[[Declared], ValueType]] = {
    "tinyint": numbers.tinyint,
    **dict.fromkeys(("smallint", "mediumint", "int"), numbers.integer),
    "bigint": numbers.bigint,
    "year": numbers.year,
    "bit": numbers.bit,
    "decimal": numbers.decimal,
    "float": numbers.float_,
    "double": numbers.double,
    "vector": numbers.vector,
    "date": times.date_,
    **dict.fromkeys(("datetime", "timestamp"), times.moment),
    "time": times.time,
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), texts.text),
    "enum": texts.enum,
    "set": texts.set_,
    **dict.fromkeys(("binary", "varbinary"), texts.binary),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), texts.binary),
    "json": documents.document,
    **dict.fromkeys(("geometry", "point", "linestring", "polygon"), geometry.geometry),
    **dict.fromkeys(("multipoint", "multilinestring", "multipolygon"), geometry.geometry),
    **dict.fromkeys(("geometrycollection", "geomcollection"), geometry.geometry),
}
TYPES = tuple(_ENTRIES)
# By name: the largest precision and scale.
_MOST_DIGITS = {"decimal": (65, 30), "float": (255, 30), "double": (255, 30)}
_PRECISION = re.compile(r"\s*([0-9]{1,3})\s*(?:,\s*([0-9]{1,3})\s*)?")
_TYPE = re.compile(r"\s*([a-z0-9]+)\s*(?:\((.*)\))?(.*)", re.IGNORECASE | re.DOTALL)


def value_type(
    column_type: str,
    charset: str | None,
    *,
    options: ValueOptions = DEFAULTS,
    copying: bool = True,
    labelled: bool = True,
    key: bool = False,
) -> ValueType:
    """Look up a column by MySQL's text of its type; for the other arguments see `Declared`."""
    match = _TYPE.match(column_type)
    name, arguments, attributes = match.groups("") if match else ("", "", "")
    column = Declared(
        name.lower(), arguments, attributes.lower(), charset, options, copying, labelled, key
    )
    known = _are_digits(column.name, arguments)
    return (_ENTRIES.get(column.name, texts.unknown) if known else texts.unknown)(column)


def _are_digits(name: str, arguments: str) -> bool:
    """Return whether a type's precision and scale, if it takes any, are possible in MySQL."""
    if name not in _MOST_DIGITS or not arguments:
        return True
    precision, scale = _MOST_DIGITS[name]
    match = _PRECISION.fullmatch(arguments)
    return match is not None and int(match[1]) <= precision and int(match[2] or 0) <= scale


def is_geometry(column_type: str) -> bool:
    """Return whether a column holds geometries."""
    match = _TYPE.match(column_type)
    return match is not None and _ENTRIES.get(match[1].lower()) is geometry.geometry


def value_types(
    fields: Fields,
    options: ValueOptions = DEFAULTS,
    *,
    key: Container[str] = (),
    charsets: Mapping[str, str] | None = None,
) -> dict[str, ValueType]:
    """Look up the columns of a FIELD event.

    Args:
        charsets: the columns' charsets as discovery found them. They apply where the event has
            none: Vitess sends 0 for collations that are not in its table (big5, gbk, gb18030,
            tis620 and some rare ones), and before 20 the connection's, which is binary.
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
