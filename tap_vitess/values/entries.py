"""One entry a MySQL type: its JSON schema beside its converter. Pure.

Discovery and decoding both ask `value_type`, so a catalog and a record cannot disagree. It is
keyed by the type's text (`bigint unsigned`, `varchar(20)`), which information_schema and the
FIELD event share; the FIELD event's type number is no use, because a `_bin` collation turns a
VARCHAR into VARBINARY there (facts, 7.1).

The same value comes in different bytes: copied rows are MySQL's text protocol, streamed ones
Vitess' own decoding of the binlog. DECIMAL loses its leading zero (`.50`) or gains some
(`000000005`), ZEROFILL loses its zeros, FLOAT and DOUBLE come as `1E+20`, ENUM and SET labels come
in UTF-8 instead of the column's charset and before Vitess 20 as numbers, and JSON may be invalid
(`documents.py`). Converters take both and give one value; docs/values.md shows all of them.

FLOAT surprises: MySQL's SELECT, and so the copy, rounds to six significant digits, while the
binlog has the value whole. Rounding that to six digits in the same way (half to even, from the
exact value) gives what SELECT answers, so the two phases agree; `float_as` says which is wanted.
FLOAT(M,D) and DOUBLE(M,D) likewise: SELECT shows D places of a value that may be stored with more
(-0.001 as -0.0010000000000000009).
"""

from __future__ import annotations

import base64
import enum
import json
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import orjson

from tap_vitess.values import documents, geometry
from tap_vitess.values.charsets import BINARY, decoder

JsonSchema = dict[str, Any]
Convert = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueOptions:
    """How values of some types are written; field names are the settings'."""

    unsigned_bigint_as: Literal["integer", "decimal", "string"] = "integer"
    tinyint1_as: Literal["integer", "boolean"] = "integer"
    bit1_as: Literal["integer", "boolean"] = "integer"
    decimal_as: Literal["string", "number"] = "string"
    float_as: Literal["selected", "stored"] = "selected"
    zero_dates: Literal["null", "error", "string"] = "null"
    invalid_text: Literal["error", "replace"] = "error"
    binary_as: Literal["base64", "hex"] = "base64"
    json_as: Literal["object", "string"] = "object"
    set_as: Literal["string", "array"] = "string"
    geometry_as: Literal["geojson", "wkt", "wkb"] = "geojson"


DEFAULTS = ValueOptions()


class UnfitError(ValueError):
    """A value does not fit its column; unlike other ValueErrors, the message never quotes it."""


class Raw(enum.Enum):
    """What the bytes of a value are, for an encoder that would rather not convert them.

    NUMBER: the bytes are the JSON text of the value. TEXT: the bytes are UTF-8 and the value is
    the string they spell; bytes that are not UTF-8 must go through `convert`, which refuses or
    replaces them, and looks at nothing else. CONVERT: the value is what `convert` makes of the
    bytes. The others are so where the bytes look as they should, and need `convert` where they do
    not. DECIMAL: the value is the string they spell, when that is a decimal without needless
    zeros. FLOAT: the value is the number they spell. MOMENT: the value is
    `2024-02-29T23:59:59+00:00`, the bytes are the same without T and offset. DOCUMENT: the bytes
    are the JSON text, but for newlines.
    """

    NUMBER = "number"
    TEXT = "text"
    DECIMAL = "decimal"
    FLOAT = "float"
    MOMENT = "moment"
    DOCUMENT = "document"
    CONVERT = "convert"


@dataclass(frozen=True, slots=True)
class ValueType:
    """A column's JSON schema (without null) and its converter.

    convert: bytes of a value that is not NULL -> what `json` or orjson can write; raises
    ValueError when the bytes do not fit the type. Its errors may quote the value, unless they are
    UnfitErrors. raw: what may be done instead. warning: what the user should know of the column.
    """

    schema: JsonSchema
    convert: Convert
    raw: Raw = Raw.CONVERT
    warning: str | None = None

    def nullable(self) -> JsonSchema:
        """Return the schema with null added to its types."""
        types = self.schema["type"]
        names = [types] if isinstance(types, str) else list(types)
        return {**self.schema, "type": names if "null" in names else [*names, "null"]}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as its entry sees it: `decimal(10,2) unsigned` is name, arguments and the rest."""

    name: str
    arguments: str
    attributes: str
    charset: str | None
    options: ValueOptions
    copying: bool
    labelled: bool
    key: bool

    @property
    def padded(self) -> bool:
        """Whether the bytes may begin with zeros that are no part of the number."""
        return self.copying and "zerofill" in self.attributes


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
    """Look up a column.

    Args:
        column_type: MySQL's text, as in information_schema and in the FIELD event.
        charset: MySQL's charset name; only text, ENUM and SET look at it.
        options: the settings.
        copying: whether the values come from a copy or from the binlog.
        labelled: whether the binlog's ENUM and SET come as labels; before Vitess 20 they come as
            an index and a bitmap.
        key: whether the column is part of the stream's key, which cannot be null.
    """
    match = _TYPE.match(column_type)
    name, arguments, attributes = match.groups() if match else ("", "", "")
    column = _Column(
        name.lower(),
        arguments or "",
        attributes.lower(),
        charset,
        options,
        copying,
        labelled,
        key,
    )
    return _ENTRIES.get(column.name, _unknown)(column)


# Where a catalog keeps precision and scale: the SDK's catalogs drop the keywords themselves.
DATATYPE_PROPERTIES = "x-sql-datatype-properties"


# Numbers


def _integer(column: _Column) -> ValueType:
    raw = Raw.CONVERT if column.padded else Raw.NUMBER
    return ValueType({"type": "integer"}, int, raw)


def _tinyint(column: _Column) -> ValueType:
    is_bool = column.arguments == "1" and not column.attributes.strip()
    if column.options.tinyint1_as == "boolean" and is_bool:
        return ValueType({"type": "boolean"}, _truth)
    return _integer(column)


def _bigint(column: _Column) -> ValueType:
    if "unsigned" not in column.attributes or column.options.unsigned_bigint_as == "integer":
        return _integer(column)
    if column.options.unsigned_bigint_as == "decimal":
        return _decimal(column, arguments="20,0")
    return ValueType({"type": "string"}, _integer_text)


def _year(_: _Column) -> ValueType:
    return ValueType({"type": "integer"}, int)  # 0000 is no JSON


def _bit(column: _Column) -> ValueType:
    if column.options.bit1_as == "boolean" and column.arguments == "1":
        return ValueType({"type": "boolean"}, any)
    return ValueType({"type": "integer"}, lambda raw: int.from_bytes(raw, "big"))


def _decimal(column: _Column, arguments: str | None = None) -> ValueType:
    # A copy has them canonical, and so does the binlog an integer that is read as a decimal.
    canonical = not column.padded and (column.copying or arguments is not None)
    if column.options.decimal_as == "number":
        raw = Raw.NUMBER if canonical else Raw.CONVERT
        return ValueType({"type": "number"}, _decimal_number, raw)
    precision, _, scale = (arguments or column.arguments).partition(",")
    return ValueType(
        {
            "type": "string",
            "format": "x-singer.decimal",
            DATATYPE_PROPERTIES: {"precision": int(precision or 10), "scale": int(scale or 0)},
        },
        _decimal_text,
        Raw.DECIMAL,
    )


def _float(column: _Column) -> ValueType:
    return _rounded(column, lambda stored, form: float(form % _single(stored)), "%.6g")


def _double(column: _Column) -> ValueType:
    return _rounded(column, lambda stored, form: float(form % stored), None)


def _rounded(column: _Column, select: Callable[[float, str], float], form: str | None) -> ValueType:
    """Show a streamed value as SELECT does; FLOAT(M,D) and DOUBLE(M,D) have D decimal places."""
    _, _, scale = column.arguments.partition(",")
    shown = f"%.{int(scale)}f" if scale else form
    if column.copying or column.options.float_as == "stored" or shown is None:
        return ValueType({"type": "number"}, _finite, Raw.FLOAT)
    return ValueType({"type": "number"}, lambda raw: select(_finite(raw), shown))


def _single(value: float) -> float:
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    return float(single)


def _truth(raw: bytes) -> bool:
    return int(raw) != 0


def _integer_text(raw: bytes) -> str:
    return str(int(raw))


_DECIMAL = re.compile(rb"(-?)0*([0-9]*)(?:\.([0-9]+))?")


def _decimal_text(raw: bytes) -> str:
    match = _DECIMAL.fullmatch(raw)
    if match is None or raw in {b"", b"-"}:
        raise UnfitError("not a decimal")
    sign, whole, fraction = match.groups()
    text = (whole or b"0") + (b"." + fraction if fraction else b"")
    return (sign + text if text.strip(b"0.") else text).decode()


def _decimal_number(raw: bytes) -> orjson.Fragment:
    return orjson.Fragment(_decimal_text(raw))


def _finite(raw: bytes) -> float:
    value = float(raw)
    if not math.isfinite(value):
        raise UnfitError("not a finite number")
    return value


# Dates and times


def _date(column: _Column) -> ValueType:
    if column.options.zero_dates == "string":
        return ValueType({"type": "string"}, _date_text)
    return ValueType({"type": "string", "format": "date"}, _dated(column, _date_text, str))


def _datetime(column: _Column) -> ValueType:
    if column.options.zero_dates == "string":
        return ValueType({"type": "string"}, _datetime_text, Raw.MOMENT)
    return ValueType(
        {"type": "string", "format": "date-time"},
        _dated(column, _datetime_text, _iso),
        Raw.MOMENT,
    )


def _time(_: _Column) -> ValueType:
    return ValueType({"type": "string"}, _ascii)


_DATE = re.compile(rb"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")


def _date_text(raw: bytes) -> str:
    if not _DATE.fullmatch(raw):
        raise UnfitError("not a date")
    return raw.decode()


def _datetime_text(raw: bytes) -> str:
    if not _DATETIME.fullmatch(raw):
        raise UnfitError("not a date and time")
    return _iso(raw.decode())


def _iso(text: str) -> str:
    return f"{text[:10]}T{text[11:]}+00:00"


def _dated(column: _Column, check: Convert, write: Callable[[str], str]) -> Convert:
    """Take dates of the calendar; what becomes of zero and partial ones is the setting's."""
    if column.options.zero_dates == "null" and not column.key:
        refusal = None
    elif column.key:
        refusal = "a zero or partial date in a key column, which cannot be null; set zero_dates to"
    else:
        refusal = "a zero or partial date; set zero_dates to null or to"

    def convert(raw: bytes) -> str | None:
        text = raw.decode()
        try:
            datetime.fromisoformat(text)
        except ValueError:
            check(raw)
            if refusal is None:
                return None
            raise UnfitError(f"{refusal} string") from None
        return write(text)

    return convert


def _ascii(raw: bytes) -> str:
    return raw.decode("ascii")


# Text, ENUM and SET

_UTF8 = {"utf8mb4", "utf8mb3", "utf8", "ascii"}


def _text(column: _Column) -> ValueType:
    charset = column.charset
    schema: JsonSchema = {"type": "string"}
    if charset in _UTF8 or charset == BINARY:  # binary is an ENUM's or SET's only
        return ValueType(schema, _decoded("utf8mb4", column.options), Raw.TEXT)
    if charset is not None:
        # Vitess does not tell it of every collation (big5, gbk, gb18030 and others).
        schema[DATATYPE_PROPERTIES] = {"charset": charset}
    return ValueType(schema, _decoded(charset, column.options))


def _decoded(charset: str | None, options: ValueOptions) -> Convert:
    errors = "replace" if options.invalid_text == "replace" else "strict"
    decode = decoder(charset, errors=errors)
    if decode is not None:
        return decode

    def refuse(_: bytes) -> str:
        raise UnfitError(
            "Vitess does not tell the column's charset, nor does the catalog: discover again"
            if charset is None
            else f"the charset {charset} is not known"
        )

    return refuse


def _enum(column: _Column) -> ValueType:
    found = _text(column)
    if column.copying:
        return found
    if column.labelled:  # in UTF-8, whatever the column's charset
        return ValueType(found.schema, _decoded("utf8mb4", column.options), Raw.TEXT)
    labels = ["", *_labels(column.arguments)]

    def convert(raw: bytes) -> str:
        number = int(raw)
        if not 0 <= number < len(labels):
            raise UnfitError("an ENUM's index without a label")
        return labels[number]

    return ValueType(found.schema, convert)


def _set(column: _Column) -> ValueType:
    found = _enum(column)
    text = found.convert
    if not column.copying and not column.labelled:
        text = _bitmap(_labels(column.arguments))
        found = ValueType(found.schema, text)
    elif not column.copying and len(_labels(column.arguments)) == 64:
        found = ValueType(
            found.schema,
            text,
            found.raw,
            "it is a SET of 64 members, and Vitess leaves the last one out of streamed changes; "
            "only a copy has it",
        )
    if column.options.set_as == "string":
        return found
    schema = {**found.schema, "type": "array", "items": {"type": "string"}}
    return ValueType(schema, lambda raw: _members(text(raw)), warning=found.warning)


def _members(text: str) -> list[str]:
    return text.split(",") if text else []


def _bitmap(labels: list[str]) -> Convert:
    def convert(raw: bytes) -> str:
        bits = int(raw)
        if bits < 0 or bits >> len(labels):
            raise UnfitError("a SET's bit without a label")
        return ",".join(label for i, label in enumerate(labels) if bits >> i & 1)

    return convert


_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "0": "\0"}


def _labels(arguments: str) -> list[str]:
    """Read the labels of an ENUM or SET out of its type's text."""
    return [
        _ESCAPE.sub(lambda e: _ESCAPED.get(e[1], e[1]) if e[1] else "'", match[1])
        for match in _LABEL.finditer(arguments)
    ]


# Bytes, documents, shapes


def _bytes(column: _Column) -> ValueType:
    if column.options.binary_as == "hex":
        schema = {"type": "string", "contentEncoding": "base16"}
        return ValueType(schema, lambda raw: raw.hex().upper())
    schema = {"type": "string", "contentEncoding": "base64"}
    return ValueType(schema, lambda raw: base64.b64encode(raw).decode())


def _json(column: _Column) -> ValueType:
    read = documents.from_copy if column.copying else documents.from_binlog

    def document(raw: bytes) -> bytes:
        try:
            return read(raw)
        except ValueError:
            raise UnfitError(
                "not JSON: Vitess loses a part of streamed documents that hold binary values; "
                "copy the table again, or deselect the column"
            ) from None

    if column.options.json_as == "string":
        return ValueType({"type": "string"}, lambda raw: document(raw).decode())
    return ValueType(
        {"type": ["object", "array", "string", "number", "boolean", "null"]},
        # As it is written, so that no number changes.
        lambda raw: orjson.Fragment(document(raw).replace(b"\n", b" ")),
        Raw.DOCUMENT,
    )


def _geometry(column: _Column) -> ValueType:
    match column.options.geometry_as:
        case "geojson":
            return ValueType({"type": "object"}, geometry.geojson)
        case "wkt":
            return ValueType({"type": "string"}, geometry.ewkt)
        case "wkb":
            return ValueType({"type": "string"}, geometry.ewkb)


def _vector(_: _Column) -> ValueType:
    return ValueType({"type": "array", "items": {"type": "number"}}, _floats)


def _floats(raw: bytes) -> list[float]:
    if len(raw) % 4:
        raise UnfitError("not a vector")
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def _unknown(column: _Column) -> ValueType:
    return ValueType(
        {"type": "string"},
        _decoded("utf8mb4", column.options),
        Raw.TEXT,
        f"its type {column.name} is not known here and is passed on as text",
    )


_ENTRIES: dict[str, Callable[[_Column], ValueType]] = {
    "tinyint": _tinyint,
    **dict.fromkeys(("smallint", "mediumint", "int"), _integer),
    "bigint": _bigint,
    "year": _year,
    "bit": _bit,
    "decimal": _decimal,
    "float": _float,
    "double": _double,
    "date": _date,
    **dict.fromkeys(("datetime", "timestamp"), _datetime),
    "time": _time,
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), _text),
    "enum": _enum,
    "set": _set,
    **dict.fromkeys(("binary", "varbinary"), _bytes),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), _bytes),
    "json": _json,
    **dict.fromkeys(("geometry", "point", "linestring", "polygon"), _geometry),
    **dict.fromkeys(("multipoint", "multilinestring", "multipolygon"), _geometry),
    **dict.fromkeys(("geometrycollection", "geomcollection"), _geometry),
    "vector": _vector,
}


def plain(value: Any) -> Any:
    """Return a converted value as plain Python, for those who look into it (stream maps).

    A number that a float cannot hold with all its digits becomes a Decimal.
    """
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value), parse_float=_number)
    return value


def _number(text: str) -> float | Decimal:
    value = float(text)
    exact = Decimal(text)
    return value if math.isfinite(value) and Decimal(repr(value)) == exact else exact
