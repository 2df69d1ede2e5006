"""Text, ENUM, SET and bytes. Pure.

Text comes in its column's charset, in both phases. ENUM and SET labels do so only in a copy: from
the binlog they come in UTF-8, and before Vitess 20 as an index and a bitmap.
"""

from __future__ import annotations

import base64
import re
from binascii import b2a_base64
from dataclasses import replace
from typing import Any

from tap_vitess.values import large
from tap_vitess.values.charsets import BINARY, decoder
from tap_vitess.values.types import (
    DATATYPE_PROPERTIES,
    Arrow,
    Convert,
    Declared,
    JsonColumn,
    JsonSchema,
    UnfitError,
    ValueOptions,
    Values,
    ValueType,
    Whole,
)

_UTF8 = {"utf8mb4", "utf8mb3", "utf8", "ascii"}
_UNESCAPED = bytes(byte for byte in range(0x20, 0x100) if byte not in b'"\\')
_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*+)(?:'|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "0": "\0"}


def text(column: Declared) -> ValueType:
    """Enter CHAR, VARCHAR and the kinds of TEXT."""
    charset = column.charset
    if charset in _UTF8 or charset == BINARY:  # only an ENUM or SET can be binary
        return _text({"type": "string"}, "utf8mb4", column.options)
    schema: JsonSchema = {"type": "string"}
    if charset is not None:
        # Vitess does not send it for every collation (big5, gbk, gb18030 and others).
        schema[DATATYPE_PROPERTIES] = {"charset": charset}
    return _text(schema, charset, column.options)


def unknown(column: Declared) -> ValueType:
    """Enter a type that is newer than this package."""
    return replace(
        _text({"type": "string"}, "utf8mb4", column.options),
        warning=f"its type {column.name} is not known here and is passed on as text",
    )


def enum(column: Declared) -> ValueType:
    """Enter ENUM."""
    found = text(column)
    if column.labelled and not column.copying:
        found = _text(found.schema, "utf8mb4", column.options)
    if column.copying or column.labelled:
        return replace(found, arrow=_labelled(found))
    labels = ["", *_labels(column.arguments)]

    def label(raw: bytes) -> str:
        number = int(raw)
        if not 0 <= number < len(labels):
            raise UnfitError("an ENUM's index without a label")
        return labels[number]

    return ValueType(found.schema, label, label, Arrow(_dictionary, label))


def set_(column: Declared) -> ValueType:
    """Enter SET."""
    found = enum(column)
    members = _labels(column.arguments)
    if not column.copying and not column.labelled:
        convert = _bitmap(members)
        found = replace(found, convert=convert, python=convert)
    elif not column.copying and len(members) == 64:
        found = replace(
            found,
            warning="it is a SET of 64 members, and Vitess leaves the last one out of streamed "
            "changes; only a copy has it",
        )
    if column.options.set_as == "string":
        parse = _utf8 if found.whole else None
        return replace(found, arrow=Arrow(_string, found.convert, parse))
    as_text = found.python

    def chosen(raw: bytes) -> list[str]:
        joined = as_text(raw)
        return joined.split(",") if joined else []

    schema = {**found.schema, "type": "array", "items": {"type": "string"}}
    arrow = Arrow(lambda pa: pa.list_(pa.string()), chosen)
    return replace(found, schema=schema, convert=chosen, arrow=arrow, whole=None)


def binary(column: Declared) -> ValueType:
    """Enter BINARY, VARBINARY and the kinds of BLOB."""
    arrow = Arrow(lambda pa: pa.binary(), bytes, lambda _, found: found)
    if column.options.binary_as == "hex":
        schema = {"type": "string", "contentEncoding": "base16"}
        return ValueType(schema, lambda raw: raw.hex().upper(), bytes, arrow, HEXADECIMAL)
    schema = {"type": "string", "contentEncoding": "base64"}
    return ValueType(schema, lambda raw: base64.b64encode(raw).decode(), bytes, arrow, BASE64)


def _text(schema: JsonSchema, charset: str | None, options: ValueOptions) -> ValueType:
    convert = _decoder(charset, options)
    if charset != "utf8mb4":
        return ValueType(schema, convert, convert, Arrow(_string, convert))
    whole = REPLACED_TEXTS if options.invalid_text == "replace" else TEXTS
    return ValueType(schema, convert, convert, Arrow(_string, convert, _utf8), whole)


def _string(pa: Any) -> Any:
    return pa.string()


def _utf8(kernels: Any, column: Any) -> Any:
    return kernels.cast(column, kernels.pa.string())


def _labelled(found: ValueType) -> Arrow:
    parse = (lambda k, column: k.dictionary_encode(_utf8(k, column))) if found.whole else None
    return Arrow(_dictionary, found.convert, parse)


def _dictionary(pa: Any) -> Any:
    return pa.dictionary(pa.int32(), pa.string())


def _decoder(charset: str | None, options: ValueOptions) -> Convert:
    errors = "replace" if options.invalid_text == "replace" else "strict"
    decode = decoder(charset, errors=errors)
    if decode is not None:
        return decode

    def refuse(_: bytes) -> str:
        raise UnfitError(
            "neither Vitess nor the catalog names the column's charset: discover again"
            if charset is None
            else f"the charset {charset} is not known"
        )

    return refuse


def _bitmap(labels: list[str]) -> Convert:
    def convert(raw: bytes) -> str:
        bits = int(raw)
        if bits < 0 or bits >> len(labels):
            raise UnfitError("a SET's bit without a label")
        return ",".join(label for i, label in enumerate(labels) if bits >> i & 1)

    return convert


def _labels(arguments: str) -> list[str]:
    """Read the labels of an ENUM or SET from its type's text."""
    return [
        _ESCAPE.sub(lambda e: _ESCAPED.get(e[1], e[1]) if e[1] else "'", match[1])
        for match in _LABEL.finditer(arguments)
    ]


def _write_texts(values: Values) -> JsonColumn | None:
    """Accept UTF-8 without what JSON escapes: quote, backslash and control characters."""
    # The blank keeps broken bytes of neighbours from forming a character.
    joined = b" ".join(values)
    if joined.translate(None, _UNESCAPED):
        return None
    if not joined.isascii():
        try:
            joined.decode()
        except UnicodeDecodeError:
            return None
    return b'"', values, b'"'


def _write_base64(values: Values) -> JsonColumn:
    return b'"', [b2a_base64(value, newline=False) for value in values], b'"'


def _write_hexadecimal(values: Values) -> JsonColumn:
    return b'"', [value.hex().upper().encode() for value in values], b'"'


TEXTS = Whole(_write_texts, b"", lambda value: large.texts(value, "strict"))
REPLACED_TEXTS = replace(TEXTS, pieces=lambda value: large.texts(value, "replace"))
BASE64 = Whole(_write_base64, b"", large.base64)
HEXADECIMAL = Whole(_write_hexadecimal, b"", large.hexadecimal)
