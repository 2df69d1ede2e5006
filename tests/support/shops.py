"""Clusters that tests serve, and how a test chooses one.

The fixture `sandbox` serves `three_tables()`. A file whose `pytestmark` is `served(...)`, or a test
below `@served(...)`, gets another cluster, or one that is served with other options.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve

SHARDS = ("-80", "80-")
TABLES = ("alpha", "beta", "empty")
# Servers started while pytest collects; conftest ends them, since Python waits for their threads.
UNTIL_THE_END = ExitStack()


def served(
    make: Callable[[], Cluster],
    *,
    options: Options | None = None,
    username: str | None = None,
    password: str | None = None,
) -> pytest.MarkDecorator:
    """Make the fixture `sandbox` serve this cluster, made anew for each test."""

    def start() -> AbstractContextManager[Sandbox]:
        return serve(make(), options=options, username=username, password=password)

    return pytest.mark.sandbox.with_args(start)


def shop(*tables: Table) -> Cluster:
    """Make the keyspace `shop` with two shards and these tables."""
    cluster = Cluster()
    cluster.create_keyspace("shop", SHARDS)
    for one in tables:
        cluster.create_table("shop", one)
    return cluster


def three_tables(rows: int = 12) -> Cluster:
    """Make a shop with two tables of so many rows, and an empty one."""
    cluster = shop(*map(table, TABLES))
    for name in TABLES[:2]:
        insert(cluster, name, *range(rows))
    return cluster


def table(name: str, *more: Column) -> Table:
    """Describe a table with an id and a name."""
    columns = Column("id", "bigint", nullable=False), Column("name", "varchar(20)"), *more
    return Table(name, columns, primary_key=("id",))


def insert(cluster: Cluster, name: str, *ids: int) -> None:
    """Insert rows into one of the three tables."""
    cluster.insert("shop", name, [{"id": b"%d" % i, "name": b"n%d" % i} for i in ids])


def write(cluster: Cluster) -> None:
    """Insert, update, delete, and move a row to another key, in a transaction and outside."""
    insert(cluster, "alpha", 100, 101)
    cluster.delete("shop", "alpha", {"id": b"3"})
    cluster.update("shop", "alpha", {"id": b"4"}, {"id": b"104", "name": None})
    with cluster.transaction("shop"):
        cluster.update("shop", "beta", {"id": b"5"}, {"name": b"changed"})
        cluster.delete("shop", "beta", {"id": b"6"})
        insert(cluster, "beta", 6, 200)
    insert(cluster, "empty", 1)
    for shard in SHARDS:
        cluster.other_write("shop", shard)


def everything() -> Cluster:
    """Make a keyspace with a column of every kind, and NULLs."""
    values: dict[str, tuple[str, bytes]] = {
        "number": ("int", b"-5"),
        "big": ("bigint unsigned", b"18446744073709551615"),
        "price": ("decimal(10,2)", b"0.50"),
        "ratio": ("double", b"1e20"),
        "flags": ("bit(9)", b"\x01\x01"),
        "day": ("date", b"2024-02-29"),
        "moment": ("datetime(6)", b"2024-02-29 23:59:59.123456"),
        "stamp": ("timestamp", b"2024-02-29 23:59:59"),
        "span": ("time", b"-838:59:59"),
        "year": ("year", b"2024"),
        "text": ("varchar(50)", "ä\n\"'".encode()),
        "raw": ("varbinary(9)", b"\x00\xff"),
        "choice": ("enum('a','b')", b"a"),
    }
    columns = (
        Column("id", "bigint", nullable=False),
        *(Column(name, kind) for name, (kind, _) in values.items()),
    )
    pair = (Column("a", "int"), Column("b", "int"))
    document = (Column("id", "int"), Column("document", "json"))
    cluster = shop(
        Table("types", columns, primary_key=("id",)),
        Table("pairs", pair, primary_key=("b", "a")),
        Table("documents", document, primary_key=("id",)),
    )
    full = {name: raw for name, (_, raw) in values.items()}
    cluster.insert("shop", "types", [{"id": b"%d" % i, **full} for i in range(5)])
    cluster.insert("shop", "types", [{"id": b"6", **dict.fromkeys(full)}])
    cluster.insert("shop", "pairs", [{"a": b"%d" % i, "b": b"1"} for i in range(5)])
    documents = [b'{"a": [1, 2.5, null]}', b"[1]", b'"text"', b"1.0", b"true", b"null", None]
    rows = [{"id": b"%d" % i, "document": raw} for i, raw in enumerate(documents)]
    cluster.insert("shop", "documents", rows)
    return cluster
