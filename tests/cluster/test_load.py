"""`tap-vitess-load` killed at random under writers, half of the times in the load stage.

Among the kills a table is truncated, one gets a column, and the binlogs after the position are
purged. After a last run that ends by itself the destination's tables equal the source's.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pymysql
import pytest
from support.load_kills import Command

from cluster.compare import by_key, difference
from cluster.launcher import Cluster
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = pytest.mark.cluster

KILLS = int(os.environ.get("TAP_VITESS_TEST_KILLS") or 30)
ROWS = 40_000
DATASET = "vitess"
Read = Callable[[str], list[dict[str, Any]]]


def _of_duckdb(address: str) -> Read:
    def read(table: str) -> list[dict[str, Any]]:
        with duckdb.connect(address.removeprefix("duckdb:///"), read_only=True) as connection:
            found = connection.execute(f'select * from {DATASET}."{table}"')
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    return read


def _of_postgres(address: str) -> Read:
    def read(table: str) -> list[dict[str, Any]]:
        with psycopg2.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(f'select * from {DATASET}."{table}"')
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return read


@pytest.mark.timeout(300 + 25 * KILLS)
@pytest.mark.parametrize("destination", ["duckdb", "postgres"])
def test_destination_equals_source_after_kills(
    own_cluster: Cluster,
    source: Source,
    seed: int,
    tmp_path: Path,
    postgres_address: str,
    destination: str,
) -> None:
    rng = random.Random(seed)
    tables = Tables(source, ROWS, rng)
    duck = f"duckdb:///{tmp_path}/shop.duckdb"
    address = duck if destination == "duckdb" else postgres_address
    read = _of_duckdb(address) if destination == "duckdb" else _of_postgres(address)
    where = source.address
    settings = {
        "host": where.host,
        "grpc_port": where.grpc_port,
        "mysql_port": where.mysql_port,
        "tables": [f"{where.keyspace}.{source.prefix}*"],
        "on_lost_position": "resync",
    }
    command = Command(tmp_path, address, settings, ("--package-rows", "8000"))
    events = {
        KILLS // 4: lambda: source.execute(f"truncate table {quote(tables.small)}"),
        KILLS // 2: lambda: _add_column(source, tables),
        3 * KILLS // 4: lambda: _purge(own_cluster, source),
    }
    with Writer(source, tables, seed) as writer:
        while (kills := command.happened["load"] + command.happened["any"]) < KILLS:
            if kills in events:
                events.pop(kills)()
            command.kill(rng, "load" if command.happened["load"] < KILLS // 2 else "any", 4)
            assert command.happened["ended"] < 3 * KILLS, command.happened
    print(f"{destination}: {dict(command.happened)}; transactions: {dict(writer.done)}")
    assert command.run() == 0, command.log()
    for table, key in tables:
        found = by_key(map(_in_utc, read(table)), key)
        assert difference(source.rows(table, key), found) == ""
    assert not events


def _add_column(source: Source, tables: Tables) -> None:
    source.execute(f"alter table {quote(tables.coded)} add column extra int")
    for _ in range(100):  # until VTGate knows of it
        try:
            source.execute(f"update {quote(tables.coded)} set extra = value where id % 3 = 0")
        except pymysql.MySQLError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("VTGate does not learn of a new column")


def _purge(cluster: Cluster, source: Source) -> None:
    """Lose what comes after the position of the last package."""
    for shard in ("-80", "80-"):
        cluster.purge_binlogs(cluster.primary(source.address.keyspace, shard))


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with times without a zone, as MySQL's are, unless they are of our columns."""
    return {
        name: value.astimezone(UTC).replace(tzinfo=None)
        if isinstance(value, datetime) and value.tzinfo
        else value
        for name, value in row.items()
    }
