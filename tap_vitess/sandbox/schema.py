"""Tables and columns of the simulated cluster, and what MySQL would say about them.

Guarantees: `field_facts` gives the type, length, charset and flags that a tablet puts into a
FIELD event for the column; `sort_key` orders and compares values as MySQL's index would, for
the collations that occur here.

Surprising: a `_bin` collation turns CHAR, VARCHAR, TEXT and ENUM into BINARY, VARBINARY, BLOB
and BINARY; only the charset still shows that it is text. A table without PRIMARY KEY flags the
columns of its first unique NOT NULL key as primary, but copies in the order of the *cheapest* one.
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

Row = dict[str, bytes | None]
SortValue = tuple[int, int | Decimal | str | bytes]
SortKey = tuple[SortValue, ...]

BINARY_CHARSET = 63
UTF8MB4_0900_AI_CI = 255
# Collations that compare bytes: latin1_bin, utf8mb4_bin, ascii_bin, utf8mb3_bin, utf8mb4_0900_bin.
_BIN_COLLATIONS = frozenset({46, 47, 65, 83, 309})

NOT_NULL, PRI_KEY, UNIQUE_KEY, MULTIPLE_KEY, BLOB, UNSIGNED = 1, 2, 4, 8, 16, 32
ZEROFILL, BINARY, ENUM, SET = 64, 128, 256, 2048
NO_DEFAULT_VALUE, PART_KEY, NUM = 4096, 16384, 32768

_MAX_LENGTH = 4294967295
# base type: (Vitess type when signed, display length signed, display length unsigned)
_INTEGERS = {
    "tinyint": ("INT8", 4, 3),
    "smallint": ("INT16", 6, 5),
    "mediumint": ("INT24", 9, 8),
    "int": ("INT32", 11, 10),
    "bigint": ("INT64", 20, 20),
}
_TEXT_LENGTHS = {
    "tinytext": 255 * 4,
    "text": 65535 * 4,
    "mediumtext": 16777215 * 4,
    "longtext": _MAX_LENGTH,
}
_BLOB_LENGTHS = {
    "tinyblob": 255,
    "blob": 65535,
    "mediumblob": 16777215,
    "longblob": _MAX_LENGTH,
}
_TIME_LENGTHS = {"date": 10, "time": 10, "datetime": 19, "timestamp": 19}
_GEOMETRIES = frozenset(
    {
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geomcollection",
        "geometrycollection",
    }
)
_FIXED_LENGTHS = {
    "float": ("FLOAT32", 12),
    "double": ("FLOAT64", 22),
    "year": ("YEAR", 4),
    "json": ("JSON", _MAX_LENGTH),
    **{base: ("TEXT", length) for base, length in _TEXT_LENGTHS.items()},
    **{base: ("BLOB", length) for base, length in _BLOB_LENGTHS.items()},
    **dict.fromkeys(_GEOMETRIES, ("GEOMETRY", _MAX_LENGTH)),
}
_ALIASES = {"integer": "int", "numeric": "decimal", "dec": "decimal", "real": "double"}
_TEXT_BASES = frozenset({"char", "varchar", "enum", "set", *_TEXT_LENGTHS})
_SIMULATED = frozenset(
    {*_INTEGERS, *_FIXED_LENGTHS, *_TIME_LENGTHS, *_TEXT_BASES, "decimal"}
    | {"binary", "varbinary", "bit"}
)
_BIN_NAMES = {"CHAR": "BINARY", "VARCHAR": "VARBINARY", "TEXT": "BLOB", "ENUM": "BINARY"}


@dataclass(frozen=True)
class ParsedType:
    """A column_type such as `decimal(10,2) unsigned`, taken apart."""

    base: str
    arguments: str
    unsigned: bool
    zerofill: bool

    @property
    def numbers(self) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", self.arguments)]

    @property
    def labels(self) -> list[str]:
        quoted: list[str] = re.findall(r"'((?:[^']|'')*)'", self.arguments)
        return [label.replace("''", "'") for label in quoted]

    @property
    def is_text(self) -> bool:
        return self.base in _TEXT_BASES

    @property
    def is_blob(self) -> bool:
        return self.base.endswith(("text", "blob"))

    @property
    def is_integer(self) -> bool:
        return self.base in _INTEGERS or self.base == "year"


@lru_cache(maxsize=4096)
def parse_column_type(column_type: str) -> ParsedType:
    match = re.match(r"\s*(\w+)\s*(?:\((.*)\))?\s*([^()]*)$", column_type, re.DOTALL)
    if match is None:
        raise ValueError(f"not a MySQL column type: {column_type!r}")
    base, arguments, attributes = match.group(1).lower(), match.group(2) or "", match.group(3)
    base = _ALIASES.get(base, base)
    if base in {"bool", "boolean"}:
        base, arguments = "tinyint", "1"
    words = attributes.lower().split()
    if base not in _SIMULATED:
        raise ValueError(f"column type {base!r} is not simulated")
    return ParsedType(base, arguments, "unsigned" in words, "zerofill" in words)


@dataclass(frozen=True)
class Column:
    """A column; the default collation is binary for all but text.

    told: whether FIELD has its column_type, which is missing if a tablet knows only positions.
    srid: of a column of geometries that is declared with one.
    """

    name: str
    column_type: str
    nullable: bool = True
    collation_id: int | None = None
    told: bool = True
    srid: int | None = None

    @property
    def parsed(self) -> ParsedType:
        return parse_column_type(self.column_type)

    @property
    def charset(self) -> int:
        if self.collation_id is not None:
            return self.collation_id
        return UTF8MB4_0900_AI_CI if self.parsed.is_text else BINARY_CHARSET

    @property
    def compares_bytes(self) -> bool:
        return self.charset == BINARY_CHARSET or self.charset in _BIN_COLLATIONS


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key and its actions; the sandbox does not enforce it."""

    parent: str
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True)
class Table:
    """A table's definition. Without any key, a copy is ordered by all columns.

    vindex: the columns that decide a row's shard; empty means the first column of the key. role:
    the table's entry in the VSchema of a sharded keyspace. A pinned table has its rows on one
    shard, a reference table on each. An unlisted table has no entry: its rows are where a vindex
    would put them, as if they had been written directly to MySQL. triggers: the statements of its
    triggers, which do nothing here.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    vindex: tuple[str, ...] = ()
    role: Literal["sharded", "pinned", "reference", "unlisted"] = "sharded"
    foreign_keys: tuple[ForeignKey, ...] = ()
    triggers: tuple[str, ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        names = {column.name for column in self.columns}
        if len(names) != len(self.columns):
            raise ValueError(f"table {self.name} names a column twice")
        for key in (self.primary_key, *self.unique_keys, self.vindex):
            if unknown := set(key) - names:
                raise ValueError(f"a key of table {self.name} names unknown columns: {unknown}")

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def is_nullable(self, name: str) -> bool:
        return name not in self.primary_key and self.column(name).nullable

    @property
    def unique_not_null(self) -> list[tuple[str, ...]]:
        """The unique keys that can stand in for a primary key."""
        return [key for key in self.unique_keys if not any(self.is_nullable(name) for name in key)]

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that identify a row; empty if duplicates are allowed."""
        if self.primary_key:
            return self.primary_key
        return min(self.unique_not_null, key=self._cost, default=())

    @property
    def copy_key(self) -> tuple[str, ...]:
        """The columns a copy is ordered by and lastpk names."""
        return self.identity or tuple(column.name for column in self.columns)

    @property
    def vindex_columns(self) -> tuple[str, ...]:
        """The columns of the primary vindex."""
        return self.vindex or self.copy_key[:1]

    def sort_key(self, row: Row) -> SortKey:
        return tuple(sort_key(self.column(name), row[name]) for name in self.copy_key)

    def compared(self, row: Row) -> SortKey:
        """What `key > lastpk` compares: text, even for ENUM and SET, which sort by numbers."""
        return tuple(compared(self.column(name), row[name]) for name in self.copy_key)

    def _cost(self, key: tuple[str, ...]) -> tuple[int, int]:
        texts = sum(not self.column(name).parsed.is_integer for name in key)
        return texts, len(key)


def sort_key(column: Column, value: bytes | None) -> SortValue:
    """Orders as MySQL does: NULL first, numbers by value, text without case and accents."""
    if value is None:
        return 0, 0
    parsed = column.parsed
    if parsed.is_integer:
        return 1, int(value)
    if parsed.base in {"decimal", "float", "double"}:
        return 1, Decimal(value.decode())
    if parsed.base in {"enum", "set"}:
        numbers = {label: number for number, label in enumerate(parsed.labels)}
        members = [numbers[label] for label in value.decode().split(",") if label in numbers]
        if parsed.base == "enum":
            return 1, sum(number + 1 for number in members)
        return 1, sum(1 << number for number in members)
    return 1, _fold(value) if parsed.is_text and not column.compares_bytes else value


def compared(column: Column, value: bytes | None) -> SortValue:
    if value is None or column.parsed.base not in {"enum", "set"}:
        return sort_key(column, value)
    return 1, value if column.compares_bytes else _fold(value)


@dataclass(frozen=True)
class FieldFacts:
    """What FIELD says about a column besides its names."""

    type: str
    column_length: int
    charset: int
    decimals: int
    flags: int


@lru_cache(maxsize=4096)
def field_facts(table: Table, name: str) -> FieldFacts:
    column = table.column(name)
    parsed = column.parsed
    type_name, length = _type_and_length(parsed)
    flags = _type_flags(parsed) | _key_flags(table, name)
    if column.charset in _BIN_COLLATIONS and parsed.is_text:
        type_name = _BIN_NAMES.get(type_name, type_name)
        flags |= BINARY
    return FieldFacts(type_name, length, column.charset, _decimals(parsed), flags)


def _fold(value: bytes) -> str:
    decomposed = unicodedata.normalize("NFKD", value.decode("utf-8", "surrogateescape"))
    return "".join(char for char in decomposed.casefold() if not unicodedata.combining(char))


def _type_and_length(parsed: ParsedType) -> tuple[str, int]:
    base = parsed.base
    if base in _INTEGERS:
        name, signed, unsigned = _INTEGERS[base]
        length = (parsed.numbers or [unsigned if parsed.unsigned else signed])[0]
        return ("U" + name if parsed.unsigned else name), length
    if base in _FIXED_LENGTHS:
        return _FIXED_LENGTHS[base]
    return base.upper(), _declared_length(parsed)


def _declared_length(parsed: ParsedType) -> int:
    if parsed.base in _TIME_LENGTHS:
        fraction = _decimals(parsed)
        return _TIME_LENGTHS[parsed.base] + (fraction + 1 if fraction else 0)
    if parsed.base == "decimal":
        precision, scale = (*parsed.numbers, 0)[:2] if parsed.numbers else (10, 0)
        return precision + (scale > 0) + (not parsed.unsigned)
    if parsed.base == "enum":
        return 4 * max((len(label) for label in parsed.labels), default=0)
    if parsed.base == "set":
        return 4 * (sum(map(len, parsed.labels)) + max(len(parsed.labels) - 1, 0))
    length = (parsed.numbers or [1])[0]
    return 4 * length if parsed.is_text else length


def _decimals(parsed: ParsedType) -> int:
    if parsed.base in {"float", "double"}:
        return 31
    if parsed.base == "decimal":
        return (*parsed.numbers, 0, 0)[1]
    if parsed.base in {"time", "datetime", "timestamp"}:
        return (parsed.numbers or [0])[0]
    return 0


def _type_flags(parsed: ParsedType) -> int:
    base = parsed.base
    flags = 0
    if base in _INTEGERS or base in {"decimal", "float", "double"}:
        flags |= NUM | (UNSIGNED if parsed.unsigned else 0) | (ZEROFILL if parsed.zerofill else 0)
    if base == "year":
        flags |= NUM | UNSIGNED | ZEROFILL
    if base == "bit":
        flags |= UNSIGNED
    if base in _TIME_LENGTHS or base in {"binary", "varbinary"}:
        flags |= BINARY
    if base in _BLOB_LENGTHS or base == "json" or base in _GEOMETRIES:
        flags |= BLOB | BINARY
    if base in _TEXT_LENGTHS:
        flags |= BLOB
    return flags | {"enum": ENUM, "set": SET}.get(base, 0)


def _key_flags(table: Table, name: str) -> int:
    """The key flags, and those of NOT NULL columns, none of which has a default here."""
    flags = 0 if table.is_nullable(name) else NOT_NULL | NO_DEFAULT_VALUE
    primary = table.primary_key or next(iter(table.unique_not_null), ())
    if name in primary:
        flags |= PRI_KEY | PART_KEY
    for key in table.unique_keys:
        if key == primary or name not in key:
            continue
        flags |= PART_KEY
        if key[0] == name:
            flags |= UNIQUE_KEY if len(key) == 1 else MULTIPLE_KEY
    return flags
