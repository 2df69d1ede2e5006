"""BATCH files into the real target-postgres: tap and target killed at random under writers.

Among the kills a table is truncated, and the binlogs after the position are purged. After a last
run that ends by itself the target's tables equal the source's.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from support.targets import TARGETS, Pipeline

from cluster.compare import by_key, difference
from cluster.launcher import Cluster
from cluster.source import Source, quote
from cluster.writers import Tables, Writer
from tap_vitess.sandbox.cluster import Cluster as NoCluster
from tap_vitess.sandbox.server import Sandbox

pytestmark = pytest.mark.cluster

KILLS = int(os.environ.get("TAP_VITESS_TEST_KILLS") or 60)
ROWS = 10_000


@pytest.fixture
def batches(source: Source, tmp_path: Path, postgres_address: str) -> Pipeline:
    """Return a tap of the test's tables, and a target-postgres that is given BATCH files."""
    where = source.address
    place = Sandbox(NoCluster(), where.host, where.grpc_port, where.mysql_port)
    options = {
        "tables": [f"{where.keyspace}.{source.prefix}*"],
        "on_lost_position": "resync",
    }
    folder = tmp_path / f"batches_{source.prefix}"
    folder.mkdir()
    target = TARGETS["postgres-batch"]
    return Pipeline(place, target, folder, postgres_address, options=options, batch_rows=1000)


@pytest.mark.timeout(600 + 25 * KILLS)
def test_target_equals_source_after_kills(
    own_cluster: Cluster, source: Source, seed: int, batches: Pipeline
) -> None:
    rng = random.Random(seed)
    tables = Tables(source, ROWS, rng)
    happened = Counter[str]()
    seconds = 10.0
    events = {
        KILLS // 4: lambda: source.execute(f"truncate table {quote(tables.small)}"),
        KILLS // 2: lambda: _purge(own_cluster, source),
        3 * KILLS // 4: lambda: source.execute(f"truncate table {quote(tables.coded)}"),
    }
    whole = set(range(KILLS // 12, KILLS, 5))  # a run that nothing happens to, before these kills
    with Writer(source, tables, seed) as writer:
        while (kills := happened["killed"]) < KILLS:
            if kills in whole:
                whole.remove(kills)
                began = time.monotonic()
                batches.run()
                seconds = time.monotonic() - began
                happened["a lost position"] += "have been purged" in batches.log("tap")
            if event := events.pop(kills, None):
                event()
            codes = batches.kill(rng, rng.uniform(0.2, 1) * seconds)
            assert set(codes) <= {0, 1, -9}, batches.log("tap") + batches.log("target")
            happened["killed" if -9 in codes else "ended"] += 1
            happened["a lost position"] += "have been purged" in batches.log("tap")
            assert happened["ended"] < 3 * KILLS, happened
    batches.run()
    happened["a lost position"] += "have been purged" in batches.log("tap")
    print(f"{dict(happened)}; transactions: {dict(writer.done)}")
    for table, key in tables:
        found = by_key(_living(batches, table), key)
        assert difference(source.rows(table, key), found) == ""
    assert happened["a lost position"]
    assert not events


def _living(batches: Pipeline, table: str) -> list[dict[str, Any]]:
    """Read the rows that are not marked as deleted."""
    with (
        closing(psycopg2.connect(batches.postgres)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            f'select * from "{batches.folder.name}"."{table}" where _sdc_deleted_at is null'
        )
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _purge(cluster: Cluster, source: Source) -> None:
    """Lose what comes after the position of the last STATE."""
    for shard in ("-80", "80-"):
        cluster.purge_binlogs(cluster.primary(source.address.keyspace, shard))
