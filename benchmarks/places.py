"""Where the data is: the replayed sandbox in a process of its own, or a real cluster by address.

Both offer the same: keyspaces with tables of reference, rows put into them, and the ports. What
is made on a real cluster is dropped at the end. Its keyspace must exist; in a sharded one the
vindex `bench_hash` is made for the tables, which VTGate must allow
(--vschema_ddl_authorized_users).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol

import pymysql

from benchmarks import table as reference
from benchmarks.process import Server

_STATEMENT_ROWS = 500


class Place(Protocol):
    """A VTGate with data of ours."""

    host: str
    grpc_port: int
    mysql_port: int

    def keyspace(self, tables: Sequence[tuple[str, int]], shards: int = 2) -> str:
        """Make tables of so many columns and return their keyspace."""

    def insert(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """Insert rows from number `first` on, `size` in a transaction."""

    def update(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """Change all columns but the key of rows, `size` in a transaction."""


def shard_names(shards: int) -> list[str]:
    """Name so many equal key ranges."""
    bounds = [f"{256 * i // shards:02x}" for i in range(1, shards)]
    return [f"{a}-{b}" for a, b in zip(["", *bounds], [*bounds, ""], strict=True)]


class SandboxPlace:
    """The replay server; every call of `keyspace` makes one of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = count(1)
        self.host = "127.0.0.1"
        self.grpc_port = server.grpc_port
        self.mysql_port = server.mysql_port

    def keyspace(self, tables: Sequence[tuple[str, int]], shards: int = 2) -> str:
        """See Place."""
        keyspace = f"bench{next(self._numbers)}"
        self._server.tell("create", keyspace, shard_names(shards), tables)
        return keyspace

    def insert(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """See Place."""
        self._server.tell("insert", keyspace, table, columns, first, count, size)

    def update(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """See Place."""
        self._server.tell("update", keyspace, table, columns, first, count, size)


@contextmanager
def sandbox() -> Iterator[SandboxPlace]:
    """Start the replay server."""
    with Server() as server:
        yield SandboxPlace(server)


class ClusterPlace:
    """A keyspace of a real cluster; its shards are what they are."""

    def __init__(
        self,
        connection: pymysql.Connection[Any],
        keyspace: str,
        host: str,
        grpc_port: int,
        mysql_port: int,
    ) -> None:
        self._connection = connection
        self._keyspace = keyspace
        self._tables: list[str] = []
        self.host, self.grpc_port, self.mysql_port = host, grpc_port, mysql_port

    def keyspace(self, tables: Sequence[tuple[str, int]], shards: int = 2) -> str:
        """Make the tables; the number of shards is the cluster's."""
        del shards
        for name, columns in tables:
            described = ", ".join(
                f"`{column}` {kind} {'null' if nullable else 'not null'}"
                for column, kind, nullable in reference.columns(columns)
            )
            self._drop(name)
            self._execute(f"create table `{name}` ({described}, primary key (`{reference.KEY}`))")
            self._tables.append(name)
            if self._sharded:
                self._execute(
                    f"alter vschema on `{name}` add vindex bench_hash(`{reference.KEY}`) "
                    "using xxhash"
                )
        return self._keyspace

    @property
    def _sharded(self) -> bool:
        names = [str(name) for (name,) in self._execute("show vitess_shards")]
        return sum(name.split("/")[0] == self._keyspace for name in names) > 1

    def insert(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """See Place."""
        del keyspace
        names = ", ".join(f"`{name}`" for name, _, _ in reference.columns(columns))
        for numbers in reference.batches(first, count, size):
            self._execute("begin")
            for part in reference.batches(numbers[0], len(numbers), _STATEMENT_ROWS):
                values = ", ".join(f"({self._literals(reference.row(n, columns))})" for n in part)
                self._execute(f"insert into `{table}` ({names}) values {values}")
            self._execute("commit")

    def update(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """See Place; here as one statement a transaction, which MySQL computes."""
        del keyspace, columns
        for numbers in reference.batches(first, count, size):
            self._execute(
                f"update `{table}` set customer_id = customer_id + 1, quantity = quantity + 1, "
                f"name = concat('New ', name), active = 1 - active "
                f"where `{reference.KEY}` between {numbers[0]} and {numbers[-1]}"
            )

    def _literals(self, values: Sequence[reference.Value]) -> str:
        texts = (None if value is None else value.decode() for value in values)
        return ", ".join(str(self._connection.escape(text)) for text in texts)

    def _drop(self, table: str) -> None:
        self._execute(f"drop table if exists `{table}`")
        with contextlib.suppress(pymysql.MySQLError):  # unsharded, or not in the vschema
            self._execute(f"alter vschema drop table `{table}`")

    def _execute(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return tuple(cursor.fetchall())

    def clean(self) -> None:
        """Drop what was made."""
        for table in self._tables:
            self._drop(table)


@contextmanager
def cluster(host: str, grpc_port: int, mysql_port: int, keyspace: str) -> Iterator[ClusterPlace]:
    """Connect to a real cluster."""
    with pymysql.connect(
        host=host, port=mysql_port, user="root", database=keyspace, autocommit=True
    ) as connection:
        place = ClusterPlace(connection, keyspace, host, grpc_port, mysql_port)
        try:
            yield place
        finally:
            place.clean()
