"""Which tables and columns a request's filter selects.

Surprising: an exact rule needs a SELECT: without one its table is copied, and then breaks the
stream at its first change. A rule with a regular expression must not have one. Python's `re` runs
the expressions of Go's RE2, and like RE2 does not anchor them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tap_vitess._proto.binlogdata_pb2 import Filter, Rule
from tap_vitess.sandbox.cluster import RowChange, key_range, keyspace_id
from tap_vitess.sandbox.conditions import (
    ALL_ROWS,
    ConditionError,
    Conditions,
    NoColumnError,
)
from tap_vitess.sandbox.schema import Row, Table

_NAME = r"(?:`(?:[^`]|``)+`|[\w$]+)"
_SELECT = re.compile(
    rf"\s*select\s+(?P<columns>.+?)\s+from\s+(?P<table>{_NAME})\s*(?P<rest>.*?)\s*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)


class FilterError(Exception):
    """A filter the tablet refuses; `code` is the status it gives at the start of a stream."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Selection:
    """The columns to send of a table, the key range its rows must lie in, and a rule's WHERE."""

    columns: tuple[str, ...]
    keys: str | None = None
    where: Conditions = ALL_ROWS

    def part(self, table: Table, change: RowChange, *, both_images: bool) -> RowChange | None:
        """The images to send of a change; with `both_images` (v23) both if one passes."""
        images = change.before, change.after
        passed = [image and self.takes(table, image) and image for image in images]
        if not any(passed):
            return None
        whole = both_images and self.keys is None and not self.where.by_image
        return change if whole else RowChange(passed[0] or None, passed[1] or None)

    def takes(self, table: Table, row: Row) -> bool:
        if self.keys is None:
            return self.where.take(table, row)
        start, end = key_range(self.keys)
        found = keyspace_id(table, row)
        return start <= found and (not end or found < end)


class TableFilter:
    """The rules of a request; no filter at all is `/.*`."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [(rule, _compiled(rule.match)) for rule in rules]

    @classmethod
    def of_request(cls, filter_: Filter | None) -> "TableFilter":
        return cls([Rule(match="/.*")] if filter_ is None else filter_.rules)

    def matches(self, table: str) -> bool:
        return self._rule(table) is not None

    def tables_to_copy(self, tables: Iterable[str]) -> list[str]:
        """The matched tables in the order of a copy; an exact rule's table must exist."""
        present = list(tables)
        for rule, pattern in self._rules:
            if pattern is None and rule.match not in present:
                raise FilterError("UNKNOWN", f"table {rule.match} is not present in the database")
        return sorted((name for name in present if self.matches(name)), key=str.encode)

    def selection(self, table: Table, *, streaming: bool) -> Selection | None:
        """What to send of the table, None when no rule matches it."""
        rule = self._rule(table.name)
        if rule is None:
            return None
        everything = tuple(column.name for column in table.columns)
        if rule.match.startswith("/"):
            if rule.filter and not re.fullmatch(r"[0-9a-fA-F]*-[0-9a-fA-F]*", rule.filter):
                raise FilterError("UNKNOWN", f"unsupported filter: {rule.filter}")
            return Selection(everything, rule.filter or None)
        if not rule.filter:
            if streaming:
                raise FilterError("INVALID_ARGUMENT", "Query was empty")
            return Selection(everything)
        return _selected(rule, table, everything)

    def _rule(self, table: str) -> Rule | None:
        for rule, pattern in self._rules:
            if pattern is None:
                if rule.match == table:
                    return rule
            elif pattern.search(table):
                return rule
        return None


def _compiled(match: str) -> re.Pattern[str] | None:
    if not match.startswith("/"):
        return None
    try:
        return re.compile(match.strip("/"))
    except re.error as error:
        raise FilterError("UNKNOWN", f"error parsing regexp: {error}") from error


def _where(text: str, table: Table) -> Conditions:
    from tap_vitess.sandbox.where import conditions_of  # noqa: PLC0415 - an optional extra

    return conditions_of(text, table)


def _selected(rule: Rule, table: Table, everything: tuple[str, ...]) -> Selection:
    select = _SELECT.match(rule.filter)
    if select is None:
        raise FilterError("INVALID_ARGUMENT", f"syntax error in {rule.filter!r}")
    if _unquoted(select["table"]) != rule.match:
        raise FilterError("UNKNOWN", f"unsupported: select of another table than {rule.match}")
    try:
        where = _where(select["rest"], table) if select["rest"] else ALL_ROWS
    except NoColumnError as error:
        raise FilterError("FAILED_PRECONDITION", str(error)) from error
    except ConditionError as error:
        raise FilterError("UNKNOWN", str(error)) from error
    if select["columns"].strip() == "*":
        return Selection(everything, where=where)
    columns = [part.strip() for part in select["columns"].split(",")]
    if odd := [part for part in columns if not re.fullmatch(_NAME, part)]:
        raise FilterError("UNKNOWN", f"unsupported: {odd[0]}")
    names = tuple(_unquoted(part) for part in columns)
    for name in names:
        if name not in everything:
            raise FilterError(
                "FAILED_PRECONDITION", f"column {name} not found in table {table.name}"
            )
    return Selection(names, where=where)


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name
