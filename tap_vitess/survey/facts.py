"""What SQL reports, as values: tables, tablets, shards, locks. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tap_vitess.errors import CatalogError
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.survey.identity import Key
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.types import JsonSchema, ValueOptions

Version = tuple[int, int, int]  # VTGate's


@dataclass(frozen=True, slots=True)
class Column:
    """A column as in information_schema.

    charset, collation: None if the column is not text. srid: the one that all geometries of the
    column have; None if each has its own.
    """

    name: str
    column_type: str
    nullable: bool
    charset: str | None
    srid: int | None = None
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A base table.

    key: the primary key in index order, else a NOT NULL unique key; in a sharded keyspace, if the
    setting keys says so, followed by the columns of the primary vindex.
    vindex: these columns as VTGate lists them; None if the VSchema lacks the table.
    uniques: the keys that MySQL keeps unique within a shard.
    """

    keyspace: str
    name: str
    columns: tuple[Column, ...]
    key: Key
    vindex: str | None = ""
    uniques: tuple[Key, ...] = ()

    def nullable(self, key: Key) -> list[str]:
        """Return the columns of a key that may be NULL, as a vindex's may."""
        return [c.name for c in self.columns if c.nullable and c.name in key]

    def properties(self, options: ValueOptions) -> Iterator[tuple[str, JsonSchema]]:
        """Yield each column's JSON schema; all but the key's columns are nullable.

        A column of the key that may be NULL, as a vindex's may, is nullable as well.
        """
        for column in self.columns:
            key = column.name in self.key
            found = value_type(column.column_type, column.charset, options=options, key=key)
            yield column.name, found.schema if key and not column.nullable else found.nullable()

    def check_names(self, own: Collection[str]) -> None:
        """Refuse a table with a column that has the name of an added column.

        Raises:
            CatalogError: it has one.
        """
        if taken := sorted({column.name for column in self.columns}.intersection(own)):
            raise CatalogError(
                f"{self.keyspace}.{self.name} has a column {', '.join(taken)}, which is the name "
                "of one that is added to each record: leave the table out by the setting "
                "exclude_tables"
            )


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What one tablet's MySQL says about itself; `row_value_options` is '' or PARTIAL_JSON."""

    shard: str
    executed: GtidSet
    purged: GtidSet
    row_image: str
    row_value_options: str
    binlog_format: str
    binlog_expire_seconds: int
    mysql_version: str
    clock: float

    @property
    def whole_rows(self) -> bool:
        """Whether every row event carries every column."""
        return self.row_image == "FULL" and not self.row_value_options


@dataclass(frozen=True, slots=True)
class Tablet:
    """A line of `show vitess_tablets`."""

    cell: str
    keyspace: str
    shard: str
    tablet_type: str
    state: str
    alias: str
    hostname: str

    def __str__(self) -> str:
        return f"{self.alias} ({self.tablet_type}, {self.state})"


def none_of_type(tablets: Sequence[Tablet], tablet_type: str) -> str | None:
    """Say that a keyspace has no tablet of a type; None if it has one, or if none is seen."""
    if not tablets or any(tablet.tablet_type == tablet_type for tablet in tablets):
        return None
    return (
        f"no tablet is a {tablet_type}; VTGate sees {', '.join(map(str, tablets))}: change the "
        "setting tablet_type to read from one of these"
    )


@dataclass(frozen=True, slots=True)
class LockWait:
    """A copy's LOCK TABLES that is waiting, and the transactions that are open on its shard.

    since: when the oldest of them began, by MySQL's clock. thread: its thread in MySQL.
    """

    shard: str
    table: str
    seconds: int
    transactions: int
    since: str
    thread: int

    def __str__(self) -> str:
        waits = (
            f"shard {self.shard} waits for a lock since {self.seconds} s: LOCK TABLES {self.table} "
            "READ, which a copy begins with"
        )
        if not self.transactions:
            return waits
        return (
            f"{waits}; a transaction is open there since {self.since} (MySQL's thread "
            f"{self.thread}), {self.transactions} in all"
        )


@dataclass(frozen=True, slots=True)
class BinlogReader:
    """A connection over which a tablet reads its MySQL's binlog, or a table for a copy.

    seconds: for how long; statement: the copy's, empty for the binlog.
    """

    shard: str
    connection: int
    seconds: int
    statement: str


@dataclass(frozen=True, slots=True)
class Throttling:
    """A shard's throttler: whether it is on, and the apps it was told to throttle, with a ratio."""

    shard: str
    enabled: bool
    apps: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Text:
    """A column of text, ENUM or SET, with its charset and collation."""

    table: str
    column: str
    column_type: str
    charset: str
    collation: str
