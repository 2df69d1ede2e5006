"""Integers, BIT, DECIMAL, FLOAT, DOUBLE and VECTOR. Pure.

In the binlog, DECIMAL loses its leading zero (`.50`) or gains some (`000000005`), ZEROFILL loses
its zeros, and FLOAT and DOUBLE come as `1E+20`.

FLOAT surprises: MySQL's SELECT, and so the copy, rounds to six significant digits, while the
binlog has the full value. Rounding that to six digits in the same way (half to even, from the exact
value) gives SELECT's result, so the two phases agree; `float_as` says which is wanted. FLOAT(M,D)
and DOUBLE(M,D) are similar: SELECT shows D places of a value that may be stored with more (-0.001
as -0.0010000000000000009).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from tap_vitess.values.types import (
    DATATYPE_PROPERTIES,
    Arrow,
    Convert,
    Declared,
    JsonColumn,
    UnfitError,
    Values,
    ValueType,
    Whole,
    spelled,
)

# As in JSON, without leading zeros; a zero has no sign.
_JSON_DECIMALS = re.compile(
    rb"N(?:,N)*".replace(b"N", rb"(?:(?:0|-?[1-9][0-9]*)(?:\.[0-9]+)?|-0\.0*[1-9][0-9]*)")
)
_OF_INTEGERS, _OF_DECIMALS = b"0123456789-,", b"0123456789-,."
_DECIMAL = re.compile(rb"(-?)0*+([0-9]*+)(?:\.([0-9]+))?")


def integer(column: Declared) -> ValueType:
    """Enter TINYINT to INT, and BIGINT if it is written as an integer."""
    whole = None if _is_padded(column) else INTEGERS
    return ValueType({"type": "integer"}, int, int, _integers(column), whole)


def tinyint(column: Declared) -> ValueType:
    """Enter TINYINT; `tinyint(1)` may be a boolean."""
    is_bool = column.arguments == "1" and not column.attributes.strip()
    if column.options.tinyint1_as == "boolean" and is_bool:
        return ValueType({"type": "boolean"}, _true, _true, _integers(column))
    return integer(column)


def _true(raw: bytes) -> bool:
    return int(raw) != 0


def bigint(column: Declared) -> ValueType:
    """Enter BIGINT; not every target can hold an unsigned one."""
    if "unsigned" not in column.attributes or column.options.unsigned_bigint_as == "integer":
        return integer(column)
    if column.options.unsigned_bigint_as == "decimal":
        # An integer looks the same in the binlog and in a copy.
        found = _decimal(column, "20,0", canonical=True)
        return replace(found, python=int, arrow=_integers(column))
    return ValueType({"type": "string"}, lambda raw: str(int(raw)), int, _integers(column))


def year(_: Declared) -> ValueType:
    """Enter YEAR; 0000 is not JSON."""
    return ValueType({"type": "integer"}, int, int, Arrow(lambda pa: pa.int16(), int, _digits))


def bit(column: Declared) -> ValueType:
    """Enter BIT."""
    arrow = Arrow(lambda pa: pa.uint64(), _bits)
    if column.options.bit1_as == "boolean" and column.arguments == "1":
        return ValueType({"type": "boolean"}, any, bytes, arrow)
    return ValueType({"type": "integer"}, _bits, bytes, arrow)


def decimal(column: Declared) -> ValueType:
    """Enter DECIMAL."""
    return _decimal(column, column.arguments, canonical=column.copying)


def float_(column: Declared) -> ValueType:
    """Enter FLOAT: six digits, or as many decimal places as it is declared with."""
    return _floating(column, digits="%.6g", single=True)


def double(column: Declared) -> ValueType:
    """Enter DOUBLE: all digits, or as many decimal places as it is declared with."""
    return _floating(column, digits=None, single=False)


def vector(_: Declared) -> ValueType:
    """Enter VECTOR."""
    arrow = Arrow(lambda pa: pa.list_(pa.float32()), _floats, _lists_of_floats)
    return ValueType({"type": "array", "items": {"type": "number"}}, _floats, _floats, arrow)


def _is_padded(column: Declared) -> bool:
    """Return whether the bytes may begin with zeros that are not part of the number."""
    return column.copying and "zerofill" in column.attributes


def _decimal(column: Declared, arguments: str, *, canonical: bool) -> ValueType:
    precision, _, scale = arguments.partition(",")
    digits = {"precision": int(precision or 10), "scale": int(scale or 0)}
    arrow = Arrow(
        lambda pa: (pa.decimal128 if digits["precision"] <= 38 else pa.decimal256)(
            *digits.values()
        ),
        lambda raw: Decimal(_decimal_text(raw)),
        _decimals,
    )
    if column.options.decimal_as == "number":
        whole = NUMBERS if canonical and not _is_padded(column) else None
        return ValueType(
            {"type": "number"},
            lambda raw: orjson.Fragment(_decimal_text(raw)),
            lambda raw: float(_decimal_text(raw)),
            arrow,
            whole,
        )
    schema = {"type": "string", "format": "x-singer.decimal", DATATYPE_PROPERTIES: digits}
    return ValueType(schema, _decimal_text, _exact, arrow, DECIMALS)


_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "bigint": 64}


def _integers(column: Declared) -> Arrow:
    sign = "u" if "unsigned" in column.attributes else ""
    name = f"{sign}int{_BITS[column.name]}"
    return Arrow(lambda pa: getattr(pa, name)(), int, _digits)


def _digits(kernels: Any, column: Any) -> Any:
    return spelled(kernels, column, b"0123456789-")


def _decimals(kernels: Any, column: Any) -> Any:
    text = spelled(kernels, column, b"0123456789-.")
    if kernels.any(kernels.ends_with(text, ".")).as_py():
        raise ValueError("a point without digits")
    return text


def _single_precision(convert: Convert) -> Arrow:
    def in_range(raw: bytes) -> float:
        try:
            return _single(convert(raw))
        except OverflowError:
            raise UnfitError("not a FLOAT") from None

    return Arrow(lambda pa: pa.float32(), in_range, lambda k, c: _floating_numbers(k, c, "f4"))


def _double_precision(convert: Convert) -> Arrow:
    return Arrow(lambda pa: pa.float64(), convert, lambda k, c: _floating_numbers(k, c, "f8"))


def _floating_numbers(kernels: Any, column: Any, kind: str) -> Any:
    # Through a double, like `convert`.
    doubles = kernels.cast(spelled(kernels, column, b"0123456789-.eE+"), "f8")
    found = kernels.cast(doubles, kind)
    if kernels.all(kernels.is_finite(found)).as_py() is False:
        raise ValueError("not a finite number")
    return found


def _bits(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _floating(column: Declared, *, digits: str | None, single: bool) -> ValueType:
    _, _, scale = column.arguments.partition(",")
    shown = f"%.{int(scale)}f" if scale else digits
    arrow = _single_precision(_finite) if single else _double_precision(_finite)
    if column.copying or column.options.float_as == "stored" or shown is None:
        return ValueType({"type": "number"}, _finite, _finite, arrow, FLOATS)

    def selected(raw: bytes) -> float:
        value = _finite(raw)
        return float(shown % (_single(value) if single else value))

    arrow = _single_precision(selected) if single else _double_precision(selected)
    return ValueType({"type": "number"}, selected, selected, replace(arrow, parse=None))


def _single(value: float) -> float:
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    return float(single)


def _finite(raw: bytes) -> float:
    value = float(raw)
    if not math.isfinite(value):
        raise UnfitError("not a finite number")
    return value


def _floats(raw: bytes) -> list[float]:
    if len(raw) % 4:
        raise UnfitError("not a vector")
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def _lists_of_floats(kernels: Any, column: Any) -> Any:
    """Read vectors where they are: an array of bytes is one of floats, but for its offsets."""
    pa = kernels.pa
    three, two = (pa.scalar(number, pa.int32()) for number in (3, 2))
    _, offsets, raw = column.buffers()
    at = pa.Array.from_buffers(pa.int32(), len(column) + 1, [None, offsets], offset=column.offset)
    if kernels.max(kernels.bit_wise_and(at, three)).as_py():
        raise UnfitError("not a vector")
    raw = raw or pa.py_buffer(b"")  # without a value there is no buffer
    floats = pa.Array.from_buffers(pa.float32(), len(raw) // 4, [None, raw])
    mask = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(kernels.shift_right(at, two), floats, mask=mask)


def _decimal_text(raw: bytes) -> str:
    match = _DECIMAL.fullmatch(raw)
    if match is None or raw in {b"", b"-"}:
        raise UnfitError("not a decimal")
    sign, whole, fraction = match.groups()
    text = (whole or b"0") + (b"." + fraction if fraction else b"")
    return (sign + text if text.strip(b"0.") else text).decode()


def _exact(raw: bytes) -> Decimal:
    try:
        return Decimal(raw.decode())
    except InvalidOperation:
        raise UnfitError("not a decimal") from None


def _are_numbers(values: Values, letters: bytes) -> bool:
    """Return whether all values are JSON numbers of these characters; -0 is not one.

    Nor are integers of more than 64 bits, which the parser turns into floats: MySQL has none.
    """
    joined = b",".join(values)
    if joined.translate(None, letters):
        return False
    if b"-0" in joined:
        alone = joined.count(b",") == len(values) - 1
        return alone and _JSON_DECIMALS.fullmatch(joined) is not None
    # Only numbers without exponents can be made of these characters, so the parser accepts the same
    # as the pattern, and is faster.
    try:
        numbers = orjson.loads(b"[%b]" % joined)
    except orjson.JSONDecodeError:
        return False
    if letters is _OF_INTEGERS and isinstance(sum(numbers), float):  # as with any float in it
        return False
    return len(numbers) == len(values)


def _written(letters: bytes, quote: bytes = b"") -> Whole:
    return Whole(lambda values: (quote, values, quote) if _are_numbers(values, letters) else None)


def _write_floats(values: Values) -> JsonColumn | None:
    try:
        numbers = list(map(float, values))
    except ValueError:
        return None
    if not all(map(math.isfinite, numbers)):
        return None
    return b"", orjson.dumps(numbers)[1:-1].split(b","), b""


INTEGERS, NUMBERS = _written(_OF_INTEGERS), _written(_OF_DECIMALS)
DECIMALS, FLOATS = _written(_OF_DECIMALS, b'"'), Whole(_write_floats)
