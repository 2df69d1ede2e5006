"""Writers that change tables while the tap runs: multi-shard transactions, keys that change."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Self

import pymysql
from pymysql.cursors import DictCursor

from cluster.source import Source, quote

BIG = """
id bigint, n bigint, name varchar(1000), amount decimal(12,2), at datetime, primary key (id, n)
"""
CODED = "code varchar(60) primary key, id bigint, value int, key (id)"
SMALL = "id bigint primary key, v varchar(200)"
KEYS = {"big": ("id", "n"), "coded": ("code",), "small": ("id",)}


class Tables:
    """Three tables of one test: a big one of two key columns, one keyed by a text, a small one."""

    def __init__(self, source: Source, rows: int, rng: random.Random, width: int = 0) -> None:
        """Create and fill them; `rows` is the big one's, of `width` bytes or more each."""
        self.big = source.create("big", BIG)
        self.coded = source.create("coded", CODED)
        self.small = source.create("small", SMALL)
        self.ids = rows
        source.insert(
            self.big,
            ["id", "n", "name", "amount", "at"],
            (
                (
                    i,
                    i,
                    f"name {i}".ljust(width, "."),
                    f"{rng.randint(0, 10**9) / 100:.2f}",
                    _time(i),
                )
                for i in range(rows)
            ),
        )
        source.insert(
            self.coded,
            ["code", "id", "value"],
            ((f"first {i}", i, rng.randint(0, 1000)) for i in range(rows // 20)),
        )
        source.insert(self.small, ["id", "v"], ((i, "ä€😀" * (i % 30)) for i in range(rows // 40)))

    def __iter__(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each table's whole name and its key."""
        return iter(
            [(self.big, KEYS["big"]), (self.coded, KEYS["coded"]), (self.small, KEYS["small"])]
        )


class Writer(threading.Thread):
    """Writes until the `with` block is left; a failed transaction is given up and counted."""

    def __init__(self, source: Source, tables: Tables, seed: int, pause: float = 0.01) -> None:
        """Prepare; `pause` is the mean time between two transactions, in seconds."""
        super().__init__(daemon=True, name="writer")
        self._source = source
        self._tables = tables
        self._rng = random.Random(seed)
        self._pause = pause
        self._enough = threading.Event()
        self._codes = 0
        self._connection: pymysql.Connection[DictCursor] | None = None
        self.done: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Start to write."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the last transaction."""
        self._enough.set()
        self.join(60)
        assert not self.is_alive(), "the writer hangs"

    def run(self) -> None:
        """Write one transaction after another."""
        while not self._enough.wait(self._rng.uniform(0, 2 * self._pause)):
            try:
                self._transaction()
            except (pymysql.MySQLError, OSError):
                self.done["given up"] += 1
                self._hang_up()
        self._hang_up()

    def _transaction(self) -> None:
        if self._connection is None:
            self._connection = self._source.connect()
        with self._connection.cursor() as cursor:
            cursor.execute("begin")
            for _ in range(self._rng.randint(1, 5)):
                change = self._rng.choice(
                    [self._insert, self._update, self._delete, self._change_key]
                )
                cursor.execute(change())
            end = "commit" if self._rng.random() < 0.9 else "rollback"
            cursor.execute(end)
            self.done[end] += 1

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            connection.close()

    def _id(self) -> int:
        return self._rng.randrange(self._tables.ids)

    def _insert(self) -> str:
        i, n = self._id(), self._rng.randrange(10**12)
        self._codes += 1
        return self._rng.choice(
            [
                f"insert into {quote(self._tables.big)} (id, n, name, amount, at) values"
                f" ({i}, {n}, 'new', '1.5', '{_time(n)}'), ({i + 1}, {n}, null, '0', null)",
                f"insert into {quote(self._tables.coded)} (code, id, value)"
                f" values ('new {self._codes} {n}', {i}, {n % 1000})",
                f"insert ignore into {quote(self._tables.small)} (id, v) values ({i}, 'new {n}')",
            ]
        )

    def _update(self) -> str:
        ids, n = self._ids(), self._rng.randrange(1000)
        return self._rng.choice(
            [
                f"update {quote(self._tables.big)} set name = '{n}', amount = {n}"
                f" where id in {ids}",
                f"update {quote(self._tables.coded)} set value = value + {n} where id in {ids}",
                f"update {quote(self._tables.small)} set v = 'changed {n}' where id in {ids}",
            ]
        )

    def _delete(self) -> str:
        table = self._rng.choice([self._tables.big, self._tables.coded, self._tables.small])
        first = self._id()
        ids = [f"in {self._ids()}", f"between {first} and {first + 20}"]
        return f"delete from {quote(table)} where id {self._rng.choice(ids)}"

    def _change_key(self) -> str:
        n = self._rng.randrange(10**6)
        self._codes += 1
        return self._rng.choice(
            [
                f"update {quote(self._tables.big)} set n = n + {n} where id in {self._ids()}",
                f"update {quote(self._tables.coded)} set code = concat('moved {self._codes} ', id)"
                f" where id = {self._id() // 20}",
            ]
        )

    def _ids(self) -> str:
        """Return ids of several shards for SQL; small ones more often, as all tables have them."""
        top = self._rng.choice([self._tables.ids // 40, self._tables.ids])
        return "(" + ", ".join(str(self._rng.randrange(top)) for _ in range(3)) + ")"


def _time(number: int) -> str:
    return f"2024-02-{number % 28 + 1:02} {number % 24:02}:{number % 60:02}:00"
