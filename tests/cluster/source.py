"""The source's side: where it is, and a test's own tables in it over the MySQL protocol."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from cluster.compare import Key, by_key

ROWS_PER_INSERT = 2000


@dataclass(frozen=True, slots=True)
class Address:
    """Where a VTGate is, and the sharded keyspace the tests may use."""

    host: str
    grpc_port: int
    mysql_port: int
    keyspace: str

    @classmethod
    def from_environment(cls) -> Address:
        """Read TAP_VITESS_TEST_*."""
        return cls(
            os.environ["TAP_VITESS_TEST_HOST"],
            int(os.environ.get("TAP_VITESS_TEST_GRPC_PORT", "15991")),
            int(os.environ.get("TAP_VITESS_TEST_MYSQL_PORT", "15306")),
            os.environ["TAP_VITESS_TEST_KEYSPACE"],
        )


def quote(name: str) -> str:
    """Quote a name for SQL."""
    return "`" + name.replace("`", "``") + "`"


class Source:
    """A test's tables in one keyspace; their names begin with the test's prefix."""

    def __init__(self, address: Address, prefix: str) -> None:
        """Connect; `prefix` keeps the tests' tables apart."""
        self.address = address
        self.prefix = prefix
        self._made: list[tuple[str, str]] = []
        self._connection = self.connect()

    def connect(self) -> pymysql.Connection[DictCursor]:
        """Open another connection."""
        return pymysql.connect(
            host=self.address.host,
            port=self.address.mysql_port,
            user="root",
            database=self.address.keyspace,
            autocommit=True,
            charset="utf8mb4",
            cursorclass=DictCursor,
            read_timeout=60,
        )

    def reconnect(self) -> None:
        """Replace a connection that VTGate's end has cut."""
        self._connection.close()
        self._connection = self.connect()

    def execute(self, *statements: str) -> None:
        """Run statements."""
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Read all rows of a query, however many."""
        with self._connection.cursor() as cursor:
            cursor.execute("set workload = 'olap'")
            cursor.execute(sql)
            rows = list(cursor.fetchall())
            cursor.execute("set workload = 'oltp'")
        return rows

    def create(self, name: str, columns: str, *, vindex: str = "id", kind: str = "table") -> str:
        """Create a table, sharded by a column (or not yet), or a view; return its whole name."""
        table = self.prefix + name
        if kind == "view":
            self.execute(f"create view {quote(table)} as {columns}")
        else:
            self.execute(f"create table {quote(table)} ({columns}) default charset utf8mb4")
        self._made.append((kind, table))
        if kind == "table" and vindex:
            self.execute(
                f"alter vschema on {quote(table)} add vindex xxhash({vindex}) using xxhash"
            )
        return table

    def forget(self, table: str) -> None:
        """Leave a table alone at the end: it is no longer here."""
        self._made.remove(("table", table))

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows."""
        names = ", ".join(map(quote, columns))
        marks = ", ".join(["%s"] * len(columns))
        sql = f"insert into {quote(table)} ({names}) values ({marks})"
        everything = list(rows)
        with self._connection.cursor() as cursor:
            for start in range(0, len(everything), ROWS_PER_INSERT):
                try:
                    cursor.executemany(sql, everything[start : start + ROWS_PER_INSERT])
                except pymysql.MySQLError as error:
                    # VTGate's own message repeats every value.
                    raise RuntimeError(f"{table}: {str(error)[:500]}") from None

    def rows(self, table: str, key: Sequence[str]) -> dict[Key, dict[str, Any]]:
        """Read a table, indexed by its key."""
        return by_key(self.query(f"select * from {quote(table)}"), key)

    def close(self) -> None:
        """Drop the tables and hang up."""
        for kind, table in reversed(self._made):
            where = f"{quote(self.address.keyspace)}.{quote(table)}"
            self.execute(f"drop {kind} if exists {where}")
            if kind == "table":
                self.execute(f"alter vschema drop table {quote(table)}")
        self._connection.close()
