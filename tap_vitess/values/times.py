"""DATE, DATETIME, TIMESTAMP and TIME. Pure.

Vitess streams a TIMESTAMP in UTC; a DATETIME has no time zone, and both are written as UTC. A zero
or partial date (0000-00-00, 2024-00-10) is not in the calendar: in JSON `zero_dates` decides what
it becomes, and as a Python object it stays a str. A TIME may be negative, and longer than a day.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from tap_vitess.values.types import (
    Arrow,
    Convert,
    Declared,
    JsonColumn,
    JsonSchema,
    UnfitError,
    Values,
    ValueType,
    Whole,
    spelled,
)

_DATE = re.compile(rb"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")
_TIME = re.compile(rb"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def date_(column: Declared) -> ValueType:
    """Enter DATE."""
    convert = _calendar(column, str, _date_text)
    python = _or_text(date.fromisoformat, _date_text)
    arrow = Arrow(
        lambda pa: pa.date32(),
        _calendar(column, date.fromisoformat, _date_text),
        lambda k, found: _in_calendar(k, found, k.pa.date32(), timedelta(days=1)),
    )
    return ValueType(_schema(column, "date"), convert, python, _arrow(column, convert, arrow))


def moment(column: Declared) -> ValueType:
    """Enter DATETIME and TIMESTAMP."""
    zone = "UTC" if column.name == "timestamp" else None
    convert = _calendar(column, _iso, _moment_text)
    python = _or_text(datetime.fromisoformat, _moment_text)
    arrow = Arrow(
        lambda pa: pa.timestamp("us", zone),
        _calendar(column, datetime.fromisoformat, _moment_text),
        lambda k, found: _in_calendar(k, found, k.pa.timestamp("us"), timedelta(microseconds=1)),
    )
    arrow = _arrow(column, convert, arrow)
    return ValueType(_schema(column, "date-time"), convert, python, arrow, MOMENTS)


def time(_: Declared) -> ValueType:
    """Enter TIME."""
    arrow = Arrow(lambda pa: pa.duration("us"), _span)
    return ValueType({"type": "string"}, lambda raw: raw.decode("ascii"), _span, arrow)


def _schema(column: Declared, format_: str) -> JsonSchema:
    """Promise the format only if every value will have it."""
    is_kept = column.options.zero_dates == "string"
    return {"type": "string"} if is_kept else {"type": "string", "format": format_}


def _arrow(column: Declared, convert: Convert, arrow: Arrow) -> Arrow:
    """Use text if zero and partial dates are kept."""
    is_kept = column.options.zero_dates == "string"
    return Arrow(lambda pa: pa.string(), convert) if is_kept else arrow


_BEFORE_1970 = date(1970, 1, 1) - date.min


def _in_calendar(kernels: Any, column: Any, type_: Any, unit: timedelta) -> Any:
    """Let Arrow parse a column; refuse its year 0, which neither Python nor the calendar has."""
    found = kernels.cast(spelled(kernels, column, b"0123456789-:. "), type_)
    first = kernels.min(found).value  # None if there is no value
    if first is not None and first < -(_BEFORE_1970 // unit):
        raise ValueError("a year 0")
    return found


def _calendar(column: Declared, write: Callable[[str], Any], check: Convert) -> Convert:
    """Convert dates of the calendar; the setting decides about zero and partial ones."""
    if column.options.zero_dates == "string":
        return lambda raw: write(check(raw))
    if column.key:
        refusal = "a zero or partial date in a key column, which cannot be null; set zero_dates to"
    else:
        refusal = "a zero or partial date; set zero_dates to null or to"

    def convert(raw: bytes) -> Any:
        text = raw.decode()
        try:
            datetime.fromisoformat(text)
        except ValueError:
            check(raw)
            if column.options.zero_dates == "null" and not column.key:
                return None
            raise UnfitError(f"{refusal} string") from None
        return write(text)

    return convert


def _or_text(read: Callable[[str], Any], check: Convert) -> Convert:
    """Parse dates of the calendar; zero and partial ones stay text."""

    def convert(raw: bytes) -> Any:
        text = raw.decode()
        try:
            return read(text)
        except ValueError:
            return check(raw)

    return convert


def _date_text(raw: bytes) -> str:
    if not _DATE.fullmatch(raw):
        raise UnfitError("not a date")
    return raw.decode()


def _moment_text(raw: bytes) -> str:
    if not _DATETIME.fullmatch(raw):
        raise UnfitError("not a date and time")
    return raw.decode()


def _iso(text: str) -> str:
    return f"{text[:10]}T{text[11:]}+00:00"


def _span(raw: bytes) -> timedelta:
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


def _write_moments(values: Values) -> JsonColumn | None:
    """Accept moments of the calendar; Python parses MySQL's form."""
    shape = values[0].translate(_DIGITS)
    joined = b"\n".join(values)
    if shape not in _SHAPES or joined.translate(_DIGITS) + b"\n" != (shape + b"\n") * len(values):
        return None
    try:
        deque(map(datetime.fromisoformat, joined.decode().split("\n")), maxlen=0)
    except ValueError:
        return None
    return b'"', joined.replace(b" ", b"T").split(b"\n"), b'+00:00"'


_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_SECOND = b"0000-00-00 00:00:00"
_SHAPES = frozenset([_SECOND, *(_SECOND + b"." + b"0" * digits for digits in range(1, 7))])
MOMENTS = Whole(_write_moments, filling=None)
