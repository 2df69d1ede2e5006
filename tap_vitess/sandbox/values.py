"""Converts values between SQL and the cluster's bytes.

Guarantees: `to_bytes` returns the text that MySQL's protocol would carry for the column:
decimals with all their digits, times with as many fractional digits as declared, JSON spaced as
MySQL prints it. What does not fit is refused with MySQL's error.
"""

import json
from decimal import Decimal, InvalidOperation

from tap_vitess.sandbox.schema import Column

SqlValue = int | float | Decimal | str | bytes | None


class ValueRefusedError(ValueError):
    """The column cannot hold the value; `code` is MySQL's."""

    def __init__(self, message: str, code: int = 1366) -> None:
        super().__init__(message)
        self.code = code


def from_bytes(column: Column, value: bytes | None) -> SqlValue:
    if value is None:
        return None
    parsed = column.parsed
    if parsed.is_integer:
        return int(value)
    if parsed.base == "decimal":
        return Decimal(value.decode())
    if parsed.base in {"float", "double"}:
        return float(value)
    if column.charset == 63 and parsed.base not in {
        "json",
        "date",
        "time",
        "datetime",
        "timestamp",
    }:
        return value
    return value.decode("utf-8", "surrogateescape")


def to_bytes(column: Column, value: SqlValue) -> bytes | None:
    if value is None:
        return None
    parsed = column.parsed
    try:
        if parsed.is_integer:
            return str(int(_decimal(value).to_integral_value())).encode()
        if parsed.base == "decimal":
            scale = (*parsed.numbers, 0, 0)[1]
            return str(_decimal(value).quantize(Decimal(1).scaleb(-scale))).encode()
        if parsed.base in {"float", "double"}:
            return repr(float(_decimal(value))).removesuffix(".0").encode()
    except InvalidOperation as error:
        raise ValueRefusedError(
            f"Incorrect {parsed.base} value: '{value!s}' for column '{column.name}'"
        ) from error
    return _text(column, value if isinstance(value, bytes) else str(value).encode())


def _decimal(value: SqlValue) -> Decimal:
    return Decimal(value.decode() if isinstance(value, bytes) else str(value))


def _text(column: Column, value: bytes) -> bytes:
    parsed = column.parsed
    if parsed.base == "enum" and value.decode() not in parsed.labels:
        raise ValueRefusedError(f"Data truncated for column '{column.name}'", 1265)
    if parsed.base == "json":
        return _json(value)
    if parsed.base in {"datetime", "timestamp", "time"}:
        return _with_fraction(value, (parsed.numbers or [0])[0], parsed.base)
    if parsed.base == "binary":
        return value.ljust((parsed.numbers or [1])[0], b"\0")
    return value


def _json(value: bytes) -> bytes:
    try:
        document = json.loads(value)
    except ValueError as error:
        raise ValueRefusedError(f"Invalid JSON text: {error}", 3140) from error
    return json.dumps(document, ensure_ascii=False).encode()


def _with_fraction(value: bytes, digits: int, base: str) -> bytes:
    whole, _, fraction = value.replace(b"T", b" ").partition(b".")
    if base != "time" and b" " not in whole:
        whole += b" 00:00:00"
    if not digits:
        return whole
    return whole + b"." + fraction[:digits].ljust(digits, b"0")
