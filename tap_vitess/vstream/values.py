"""One entry a MySQL type: its JSON schema beside its converter. Pure.

Discovery and decoding both ask `value_type`, so a catalog and a record cannot disagree. It is
keyed by the type's text (`bigint unsigned`, `varchar(20)`), which information_schema and the
FIELD event share; the FIELD event's type number is no use, because a `_bin` collation turns a
VARCHAR into VARBINARY there (facts, 7.1).

The same value comes in different bytes: copied rows are MySQL's text protocol, streamed ones
Vitess' own decoding of the binlog. DECIMAL loses its leading zero (`.50`) or gains some
(`000000005`), FLOAT and DOUBLE come as `1E+20`, ENUM labels come in UTF-8 instead of the
column's charset, and JSON may be invalid (`{"p": .5}`). Converters take both.
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
from typing import Any

import orjson

from tap_vitess.vstream.charsets import decoder

JsonSchema = dict[str, Any]
Convert = Callable[[bytes], Any]

_TYPE = re.compile(r"\s*([a-z0-9]+)\s*(?:\((.*)\))?", re.IGNORECASE | re.DOTALL)


class Raw(enum.Enum):
    """What the bytes of a value are, for an encoder that would rather not convert them.

    NUMBER: the bytes are the JSON text of the value. TEXT: the bytes are UTF-8 and the value is
    the string they spell; bytes that are not UTF-8 must go through `convert`, which refuses or
    replaces them. CONVERT: the value is what `convert` makes of the bytes. The others are so
    where the bytes look as they should, and need `convert` where they do not. DECIMAL: the value
    is the string they spell, when that is a decimal without needless zeros. FLOAT: the value is
    the number they spell. MOMENT: the value is `2024-02-29T23:59:59+00:00`, the bytes are the
    same without T and offset. DOCUMENT: the bytes are the JSON text, but for newlines.
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
    ValueError when the bytes do not fit the type. Its errors may quote the value. raw: what may
    be done instead.
    """

    schema: JsonSchema
    convert: Convert
    raw: Raw = Raw.CONVERT

    def nullable(self) -> JsonSchema:
        """Return the schema with null added to its types."""
        types = self.schema["type"]
        names = [types] if isinstance(types, str) else list(types)
        return {**self.schema, "type": names if "null" in names else [*names, "null"]}


def value_type(column_type: str, charset: str | None, *, copying: bool = True) -> ValueType:
    """Look up a column.

    Args:
        column_type: MySQL's text, as in information_schema and in the FIELD event.
        charset: MySQL's charset name; only text, ENUM and SET look at it.
        copying: whether the values come from a copy or from the binlog.
    """
    match = _TYPE.match(column_type)
    name, arguments = (match[1].lower(), match[2] or "") if match else ("", "")
    if name in _TEXT:
        return _text(charset)
    if name in {"enum", "set"}:
        return _text(charset if copying else "utf8mb4")
    if name == "decimal":
        return _decimal(arguments)
    return _PLAIN.get(name, _UNKNOWN)


def _text(charset: str | None) -> ValueType:
    raw = Raw.TEXT if charset in {"utf8mb4", "utf8mb3", "utf8"} else Raw.CONVERT
    return ValueType({"type": "string"}, _decode(charset), raw)


def _decode(charset: str | None) -> Convert:
    decode = decoder(charset)
    if decode is not None:
        return decode

    def refuse(_: bytes) -> str:
        raise ValueError(f"no decoder for the charset {charset}")

    return refuse


# Where a catalog keeps precision and scale: the SDK's catalogs drop the keywords themselves.
DATATYPE_PROPERTIES = "x-sql-datatype-properties"


def _decimal(arguments: str) -> ValueType:
    precision, _, scale = arguments.partition(",")
    return ValueType(
        {
            "type": "string",
            "format": "x-singer.decimal",
            DATATYPE_PROPERTIES: {"precision": int(precision or 10), "scale": int(scale or 0)},
        },
        _decimal_text,
        Raw.DECIMAL,
    )


_DECIMAL = re.compile(rb"(-?)0*([0-9]*)(?:\.([0-9]+))?")


def _decimal_text(raw: bytes) -> str:
    match = _DECIMAL.fullmatch(raw)
    if match is None or raw in {b"", b"-"}:
        raise ValueError("not a decimal")
    sign, whole, fraction = match.groups()
    text = (whole or b"0") + (b"." + fraction if fraction else b"")
    return (sign + text if text.strip(b"0.") else text).decode()


def _float(raw: bytes) -> float:
    value = float(raw)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _bits(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _date(raw: bytes) -> str | None:
    """Keep a date of the calendar; zero and partial dates have no place in JSON schema."""
    text = raw.decode("ascii")
    return text if _in_calendar(text) else None


def _datetime(raw: bytes) -> str | None:
    text = raw.decode("ascii")
    return f"{text[:10]}T{text[11:]}+00:00" if _in_calendar(text) else None


def _in_calendar(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        if re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?", text):
            return False
        raise
    return True


def _ascii(raw: bytes) -> str:
    return raw.decode("ascii")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _vector(raw: bytes) -> list[float]:
    if len(raw) % 4:
        raise ValueError("not a vector")
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


# A number outside of a string that JSON does not allow: `.5`, `-.25`, `000000007`.
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?)([0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?')


def _json(raw: bytes) -> orjson.Fragment:
    """Pass the document on as it is written, so that no number changes."""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        raw = _STRING_OR_NUMBER.sub(_json_number, raw)
        orjson.loads(raw)
    return orjson.Fragment(raw.replace(b"\n", b" "))


def _json_number(match: re.Match[bytes]) -> bytes:
    sign, whole, fraction, exponent = match.groups()
    if not (whole or fraction):
        return match[0]
    return (sign or b"") + (whole.lstrip(b"0") or b"0") + (fraction or b"") + (exponent or b"")


def plain(value: Any) -> Any:
    """Return a converted value as plain Python, for those who look into it (stream maps)."""
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value))
    return value


_INTEGER = ValueType({"type": "integer"}, int, Raw.NUMBER)
_NUMBER = ValueType({"type": "number"}, _float, Raw.FLOAT)
_DATETIME = ValueType({"type": "string", "format": "date-time"}, _datetime, Raw.MOMENT)
_BYTES = ValueType({"type": "string", "contentEncoding": "base64"}, _base64)

_TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
_PLAIN: dict[str, ValueType] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), _INTEGER),
    "year": ValueType({"type": "integer"}, int),
    **dict.fromkeys(("float", "double"), _NUMBER),
    "bit": ValueType({"type": "integer"}, _bits),
    "date": ValueType({"type": "string", "format": "date"}, _date),
    **dict.fromkeys(("datetime", "timestamp"), _DATETIME),
    "time": ValueType({"type": "string"}, _ascii),
    **dict.fromkeys(("binary", "varbinary"), _BYTES),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), _BYTES),
    # MySQL's own form: the SRID in four bytes, then WKB.
    **dict.fromkeys(
        (
            "geometry",
            "point",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geometrycollection",
            "geomcollection",
        ),
        _BYTES,
    ),
    "json": ValueType(
        {"type": ["object", "array", "string", "number", "boolean", "null"]}, _json, Raw.DOCUMENT
    ),
    "vector": ValueType({"type": "array", "items": {"type": "number"}}, _vector),
}
_UNKNOWN = ValueType({"type": "string"}, bytes.decode, Raw.TEXT)
