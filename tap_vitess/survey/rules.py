"""What is requested of VStream for a table: its columns and its filter. Pure.

The columns of the key and of the vindex are always requested, because they identify the row.

A filter is refused if a tablet would evaluate it differently from MySQL, which selects the rows of
a copy, or could not evaluate it at all. Seen on v20, v22 and v24:

- TEXT, BLOB and JSON are not in every change, and a value that is not sent counts as NULL.
- FLOAT, BIT, SET and TIME are compared as something else.
- To a tablet 'a' and 'a ' are two values. To MySQL they are two by the collations utf8mb4_0900_*,
  and one by the others. For the others only = and IN are accepted, with the tablet's meaning. A
    CHAR has no spaces at its end.
- Text that is not ASCII is compared with a latin1 column byte by byte, and is never found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from tap_vitess.errors import ConfigError
from tap_vitess.protocol.filters import (
    ALL_OPERATORS,
    MOST_DIGITS,
    Condition,
    conditions_of,
    operators,
)
from tap_vitess.protocol.request import Rule
from tap_vitess.survey.charsets import TELLS_CHARSETS
from tap_vitess.survey.facts import Column, Table, Version
from tap_vitess.survey.identity import lacking

_LONG = re.compile(r"(text|blob|json)$", re.IGNORECASE)
_MOMENT = re.compile(r"'\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?'")
_UNICODE = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_SINGLE_BYTES = frozenset({"ascii", "latin1"})
_SORTED_WHOLE = 64  # characters of a key that MySQL's sort distinguishes, whatever the collation


def rule_of(
    table: Table, columns: Collection[str] | None, where: str | None, version: Version | None
) -> Rule:
    """Return what to request.

    Args:
        columns: names; those that the table lacks are left out. None for all.
        where: the filter; None for all rows.
        version: VTGate's.

    Raises:
        ConfigError: the filter cannot be requested; the message names the table.
    """
    name = f"{table.keyspace}.{table.name}"
    if table.name.startswith("/"):
        raise ConfigError(f"{name}: VStream takes neither columns nor filters of such a name")
    conditions = None
    try:
        if where is not None:
            found = conditions_of(where)
            conditions = " and ".join(_told(table, condition, version) for condition in found)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}", table=table.name) from None
    return Rule(None if columns is None else _columns(table, columns), conditions, _hashed(table))


def _columns(table: Table, wanted: Collection[str]) -> tuple[str, ...]:
    names = [column.name for column in table.columns]
    needed = {*wanted, *needed_columns(table)}
    return tuple(name for name in names if name in needed)


def needed_columns(table: Table) -> set[str]:
    """Return the columns that are always requested: of our key, MySQL's key, and the vindex."""
    names = [column.name for column in table.columns]
    vindex = lacking((), table.vindex or "", names)
    return {*table.key, *vindex, *(table.uniques[0] if table.uniques else ())}


def _hashed(table: Table) -> str:
    """Choose the column for the key range that filters each image on its own; all have it."""
    return (*table.key, table.columns[0].name)[0]


def resumable(table: Table, rule: Rule) -> bool:
    """Return whether a filtered copy can be resumed by the key.

    MySQL may read such rows by another index and sort them, by the first 1024 bytes of a text.
    """
    key = table.uniques[0] if table.uniques else table.key
    types = [column.column_type for column in table.columns if column.name in key]
    return rule.where is None or not any(map(_is_long, types))


def _is_long(column_type: str) -> bool:
    match = re.match(r"(?:var)?(?:char|binary)\((\d+)\)", column_type, re.IGNORECASE)
    return match is not None and int(match[1]) > _SORTED_WHOLE


def _told(table: Table, condition: Condition, version: Version | None) -> str:
    """Return a condition as SQL.

    Raises:
        ConfigError: a tablet would refuse it, or evaluate it differently.
    """
    named = [c for c in table.columns if c.name.lower() == condition.column.lower()]
    if not named:
        raise ConfigError(
            f"the filter names the column {condition.column}, which the table does not have"
        )
    old = version is not None and version < ALL_OPERATORS
    if old and not condition.is_old:
        raise ConfigError(
            f"Vitess {'.'.join(map(str, version or ()))} does not filter by {condition.name}; "
            f"what it takes is {operators(old=True)}"
        )
    [column] = named
    if why := _why_not(column, condition, version):
        raise ConfigError(
            f"the filter compares the column {column.name} ({column.column_type}), and {why}"
        )
    return condition.sql(column.name, old=old)


def _why_not(column: Column, condition: Condition, version: Version | None) -> str:
    """Say why a tablet does not compare a column as MySQL does; empty if it does."""
    kind, values = column.column_type, condition.values
    if not values:
        return "a change may come without it" if _LONG.search(kind) else ""
    judge = next((judge for pattern, judge in _KINDS if pattern.match(kind)), None)
    if judge is None:
        return (
            "tablets do not compare this type as MySQL does: filter by integers, DECIMAL, YEAR, "
            "DATE, DATETIME, TIMESTAMP, CHAR, VARCHAR, ENUM, BINARY or VARBINARY"
        )
    if judge is not _why_no_number and not all(value.startswith("'") for value in values):
        return "text in single quotes is expected"
    return next(judge(column, condition, version), "")


def _why_no_number(column: Column, condition: Condition, version: Version | None) -> Iterator[str]:
    if any(value.startswith("'") for value in condition.values):
        yield "a number is expected, without quotes"
    old = version is not None and version < ALL_OPERATORS
    precision = re.match(r"decimal\((\d+)", column.column_type, re.IGNORECASE)
    long = precision is not None and int(precision[1]) > MOST_DIGITS
    if long and condition.has_doubles(old=old):
        yield f"such a number is compared as a DOUBLE, which has {MOST_DIGITS} digits"


def _why_no_moment(_: Column, condition: Condition, __: Version | None) -> Iterator[str]:
    if not all(map(_MOMENT.fullmatch, condition.values)):
        yield "'2026-01-31' or '2026-01-31 23:59:59' is expected"


def _why_no_bytes(_: Column, condition: Condition, __: Version | None) -> Iterator[str]:
    if not all(map(str.isascii, condition.values)):
        yield "only ASCII is compared with bytes"


def _why_no_text(column: Column, condition: Condition, version: Version | None) -> Iterator[str]:
    kind, charset = column.column_type.lower(), column.charset
    if version is not None and version < TELLS_CHARSETS:
        yield "tablets know no collations before Vitess 20"
    if charset not in _UNICODE | _SINGLE_BYTES:
        yield f"tablets do not compare text of the charset {charset}"
    if charset in _SINGLE_BYTES and not all(map(str.isascii, condition.values)):
        yield f"only ASCII is found in a column of the charset {charset}"
    if any(value.endswith(" '") for value in condition.values):
        yield "text that ends with a space is compared otherwise than by MySQL"
    exact = "_0900_" in (column.collation or "") or not kind.startswith("var")
    if condition.operator not in {"=", "IN"} and not exact:
        yield (
            f"by its collation {column.collation} spaces at the end count for a tablet and not for "
            "MySQL: only = and IN are supported"
        )
    if kind.startswith("enum") and condition.operator not in {"=", "!=", "IN"}:
        yield "its labels have their own order: only =, != and IN are supported"


_KINDS = (
    (re.compile(r"(tiny|small|medium|big)?int\b|decimal\b|year\b", re.IGNORECASE), _why_no_number),
    (re.compile(r"(date|datetime|timestamp)\b", re.IGNORECASE), _why_no_moment),
    (re.compile(r"(var)?binary\b", re.IGNORECASE), _why_no_bytes),
    (re.compile(r"(var)?char\b|enum\b", re.IGNORECASE), _why_no_text),
)


def check_names(
    wanted: Collection[str], tables: Collection[str], where: str, what: str = "setting filters"
) -> None:
    """Refuse filters of unknown tables: rows that were to be kept back would be read.

    Args:
        wanted: the filters' tables, as `keyspace.table`.
        tables: the known ones.
        where: what has these tables, for the error.
        what: what names the wanted ones, for the error.

    Raises:
        ConfigError: there are such filters.
    """
    if missing := sorted({*wanted} - {*tables}):
        raise ConfigError(
            f"{what}: {', '.join(missing)} is not a table of {where}; names are "
            "keyspace.table, without wildcards"
        )
