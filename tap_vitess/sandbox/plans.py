"""How a tablet reads a table's row events: with the table's definition of the moment.

A row event has its columns' types by position, but no names. Without `--track_schema_versions` a
tablet takes names, signs and labels from the definition that the table has when the stream first
meets the event's table id; it does not check for a DDL in between. Seen on v22:

    types differ by position           FIELD says @1, @2, ... without column types
    fewer columns now, or no table     the stream ends with an error
    else                               the first columns of today, as many as there were: right
                                       when columns were added at the end, silently wrong after a
                                       rename or a reorder; INT as INT UNSIGNED and ENUM numbers
                                       with other labels are other values
"""

from dataclasses import dataclass, replace

from tap_vitess.sandbox.cluster import RowChange
from tap_vitess.sandbox.events import Cut
from tap_vitess.sandbox.filters import Selection, TableFilter
from tap_vitess.sandbox.schema import Column, ParsedType, Row, Table

_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
# Types that the binlog does not distinguish; the definition does.
_LIKE = {"enum": "char", "set": "char", "binary": "char", "varbinary": "varchar"}


class PlanError(Exception):
    """The tablet does not know the columns of a row event."""


@dataclass(frozen=True)
class Plan:
    """A table as the stream shows it, and how its rows are read."""

    written: Table
    table: Table
    selection: Selection

    @property
    def columns(self) -> tuple[str, ...]:
        return self.selection.columns

    def cut(self, row_image: str) -> Cut:
        """What MySQL leaves out of images."""
        pairs = [*zip(self.written.columns, self.table.columns, strict=True)]
        key = self.written.primary_key
        if row_image == "MINIMAL" and key:
            beside = frozenset(shown.name for column, shown in pairs if column.name not in key)
            return Cut(beside, frozenset(shown.name for _, shown in pairs))
        if row_image == "NOBLOB":
            blobs = frozenset(shown.name for column, shown in pairs if column.parsed.is_blob)
            return Cut(blobs.difference(key), blobs)
        return Cut()

    def read(self, change: RowChange) -> RowChange:
        if self.table is self.written:
            return change
        before, after = (image and self._read(image) for image in (change.before, change.after))
        return RowChange(before, after)

    def _read(self, row: Row) -> Row:
        pairs = zip(self.written.columns, self.table.columns, strict=True)
        return {shown.name: _reread(row[column.name], column, shown) for column, shown in pairs}


def plan_of(written: Table, known: Table | None, filter_: TableFilter) -> Plan:
    """Plans the row events of `written` with the definition `known`."""
    table = _shown(written, known)
    selection = filter_.selection(table, streaming=True)
    if selection is None:
        raise AssertionError("the filter matches the table")
    return Plan(written, table, selection)


def _shown(written: Table, known: Table | None) -> Table:
    if known is None:
        raise PlanError(f"unknown table {written.name} in schema")
    if known == written:
        return written
    count = len(written.columns)
    if len(known.columns) < count:
        had = " ".join(column.parsed.base for column in written.columns)
        has = " ".join(f'name:"{column.name}"' for column in known.columns)
        raise PlanError(
            f"cannot determine table columns for {written.name}: "
            f"event has [{had}], schema has [{has}]"
        )
    first = known.columns[:count]
    if all(map(_alike, written.columns, first)):
        return _with_columns(known, first)
    nameless = tuple(
        Column(f"@{i}", column.column_type, collation_id=column.collation_id, told=False)
        for i, column in enumerate(written.columns, 1)
    )
    return Table(written.name, nameless)


def _with_columns(table: Table, columns: tuple[Column, ...]) -> Table:
    names = {column.name for column in columns}
    keys = tuple(key for key in table.unique_keys if names.issuperset(key))
    primary = table.primary_key if names.issuperset(table.primary_key) else ()
    return replace(table, columns=columns, primary_key=primary, unique_keys=keys)


def _alike(written: Column, known: Column) -> bool:
    return _binlog_type(written.parsed) == _binlog_type(known.parsed)


def _binlog_type(parsed: ParsedType) -> str:
    if parsed.is_blob:
        return "blob"
    return _LIKE.get(parsed.base, parsed.base)


def _reread(value: bytes | None, written: Column, shown: Column) -> bytes | None:
    """The bytes of a value, read as another type that looks the same in the binlog."""
    if value is None or written.column_type == shown.column_type:
        return value
    was, now = written.parsed, shown.parsed
    if was.base in _BITS and was.unsigned != now.unsigned:
        return b"%d" % _turned(int(value), _BITS[was.base], unsigned=now.unsigned)
    if was.base == now.base == "enum":
        number = was.labels.index(value.decode())
        return now.labels[number].encode() if number < len(now.labels) else b""
    return value


def _turned(number: int, bits: int, *, unsigned: bool) -> int:
    number %= 1 << bits
    return number if unsigned or number < 1 << (bits - 1) else number - (1 << bits)
