"""Arrow batches on a real Vitess, their consumer killed at random, in copies and in a reshard."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cluster.consumers import Process, Rows, database_at, indexed, where
from cluster.launcher import Cluster
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

KILLS = int(os.environ.get("TAP_VITESS_TEST_KILLS") or 30)
KEYSPACE = "taparrows"
REPLICA = Path(__file__).with_name("arrow_replica.py")
ROWS = 30_000

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240 + 10 * KILLS)]


@pytest.fixture
def keyspace(own_cluster: Cluster) -> str:
    """Return a keyspace whose shards the test changes."""
    own_cluster.keyspace(KEYSPACE, "-80", "80-")
    return KEYSPACE


class Replica:
    """The killed consumer's database, as `arrow_replica.py` makes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.starts = 0

    def ask(self, sql: str, *values: str) -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with closing(database_at(self._path)) as database:
            return [tuple(row) for row in database.execute(sql, values)]

    def read(self, table: str, key: Sequence[str]) -> Rows:
        """Return a table's rows; a row that is there twice fails the test."""
        rows = self.ask("select row from rows where name = ?", f"{KEYSPACE}.{table}")
        found = indexed([json.loads(str(row)) for (row,) in rows], key)
        assert len(found) == len(rows)
        return found

    def wait_started(self, process: Process) -> None:
        """Wait until the consumer has opened its database once more."""
        deadline = time.monotonic() + 60
        while self._count("starts") == self.starts:
            assert time.monotonic() < deadline
            process.check()
            time.sleep(0.02)
        self.starts += 1

    def _count(self, table: str) -> int:
        if not self.ask("select 1 from sqlite_master where name = ?", table):
            return 0
        [(count,)] = self.ask(f"select count(*) from {table}")
        return int(str(count))

    def phase(self) -> str:
        """Say how far the state is."""
        for (text,) in self.ask("select state from state"):
            bookmarks = json.loads(str(text))["bookmarks"].values()
            copied = all(b["groups"] and b["copies"] == "{}" for b in bookmarks)
            return "copied" if copied else "in copy"
        return "no state"

    def empty(self, table: str) -> None:
        """Delete what a table holds; without a state everything is copied, over the rows there."""
        with closing(database_at(self._path)) as database:
            database.execute(f"delete from {table}")
            database.commit()


def test_arrow_batches_killed(
    source: Source, own_cluster: Cluster, seed: int, tmp_path: Path
) -> None:
    """SIGKILL under writers, and a reshard: the replica is SELECT, and nothing came twice."""
    rng = random.Random(seed)
    tables = Tables(source, ROWS, rng)
    replica = Replica(tmp_path / "replica.db")
    names = [f"{KEYSPACE}.{table}:{','.join(key)}" for table, key in tables]
    process = Process(
        [REPLICA, where(source.address), tmp_path / "replica.db", *names], tmp_path, replica.read
    )
    killed: Counter[str] = Counter()
    happened: Counter[str] = Counter()

    def kill(longest: float) -> str:
        process.start()
        replica.wait_started(process)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        phase = replica.phase()
        killed[phase] += 1
        return phase

    with Writer(source, tables, seed):
        while killed.total() < KILLS // 2:
            if kill(2.0) == "copied" and killed["in copy"] < KILLS // 3:
                replica.empty("state")
                happened["states lost"] += 1
    print(f"kills: {dict(killed)}; {dict(happened)}")
    process.settle(source, tables)
    replica.starts += 1
    replica.empty("odd")

    with Writer(source, tables, seed + 1) as writer, ThreadPoolExecutor(1) as pool:
        reshard = pool.submit(own_cluster.reshard, KEYSPACE, "-80", "-40", "40-80")
        while not reshard.done() or killed.total() < KILLS:
            happened["while resharding" if not reshard.done() else "after the reshard"] += 1
            kill(3.0)
        reshard.result()
    own_cluster.wait_served(KEYSPACE)
    print(f"kills: {dict(killed)}; {dict(happened)}; transactions: {dict(writer.done)}")
    source.execute(f"update {quote(tables.big)} set amount = amount + 1 where id < 2000")
    process.settle(source, tables)
    assert replica.ask("select * from odd") == []
    shards = replica.ask("select distinct shard from rows where name like '%big'")
    assert {"-40", "40-80", "80-"} <= {shard for (shard,) in shards}
    assert killed["in copy"]
    assert happened["while resharding"]
    assert writer.done["commit"] > KILLS
