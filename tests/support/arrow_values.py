"""What Arrow must hold for MySQL's answers, derived from these alone; see `kinds.py`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pymysql.converters import convert_timedelta

from support.kinds import KINDS, DocumentText, Kind
from support.vectors import floats
from tap_vitess.values.types import ValueOptions

_WKB = ValueOptions(geometry_as="wkb")


def _bits(answer: str) -> int:
    return int(answer, 16)


def _single(answer: Any) -> float:
    (found,) = struct.unpack("f", struct.pack("f", float(answer)))
    return float(found)


def _day(answer: str) -> Any:
    return _of_calendar(date.fromisoformat, answer)


def _moment(answer: str) -> Any:
    return _of_calendar(datetime.fromisoformat, answer)


def _stamp(answer: str) -> Any:
    found = _moment(answer)
    return found and found.replace(tzinfo=ZoneInfo("UTC"))


def _of_calendar(read: Callable[[str], Any], answer: str) -> Any:
    try:
        return read(answer)
    except ValueError:
        return None


def _text(answer: str) -> str:
    return bytes.fromhex(answer).decode()


_MAKERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), int),
    "bit": _bits,
    "decimal": Decimal,
    "float": _single,
    "double": float,
    "date": _day,
    "datetime": _moment,
    "timestamp": _stamp,
    "time": convert_timedelta,
    **dict.fromkeys(("binary", "varbinary", "blob"), bytes.fromhex),
    "json": DocumentText,
    "vector": floats,
}


def _wanted(kind: Kind, answer: Any) -> Any:
    if answer is None:
        return None
    base = kind.sql_type.partition("(")[0].partition(" ")[0]
    if base in {"geometry", "point"}:
        return bytes.fromhex(kind.expect(answer, _WKB))
    return _MAKERS.get(base, _text)(answer)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, DocumentText):
        return wanted.is_said_by(found)
    if isinstance(wanted, Decimal):
        return isinstance(found, Decimal) and found == wanted
    return type(found) is type(wanted) and repr(found) == repr(wanted)


def differences(
    row: Mapping[str, Any], answers: Mapping[str, Any], columns: Mapping[str, Kind] = KINDS
) -> list[str]:
    """Describe the columns of an Arrow row, as Python objects, that differ from MySQL's answers."""
    wanted = {name: _wanted(kind, answers[name]) for name, kind in columns.items()}
    return [
        f"{name}: {row.get(name)!r} is not {value!r}"
        for name, value in wanted.items()
        if name not in row or not _same(row[name], value)
    ]
