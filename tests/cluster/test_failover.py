"""Primaries that change under a run, planned or not: no row is lost, none is left behind.

Each shard of the keyspace has a second tablet. Replication is asynchronous, so a primary that dies
may take its last transactions along; where a test asks for equality it lets them arrive first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from cluster.launcher import Cluster
from cluster.runs import Outcome, Pipeline
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KEYSPACE = "tapfailover"
SHARDS = ("-80", "80-")
ROWS = 20_000
WRITE_SECONDS = 3.0
WIDTH = 500  # the buffers between a tablet and the tap hold a small part of all


@pytest.fixture(scope="module")
def keyspace(_cluster: Cluster | None) -> str:
    """Return a keyspace of which each shard has two tablets."""
    if _cluster is None:
        pytest.skip("needs a cluster of its own")
    _cluster.keyspace(KEYSPACE, *SHARDS)
    for shard in SHARDS:
        _cluster.replica(KEYSPACE, shard)
    return KEYSPACE


def _change_much(source: Source, tables: Tables) -> None:
    """Make a backlog of many megabytes: wide rows, each changed a few times."""
    for i in range(3 * 100):
        source.execute(f"update {quote(tables.big)} set amount = {i} where id % 100 = {i % 100}")


def _begin(pipe: Pipeline, source: Source, tables: Tables, phase: str) -> int:
    """Bring the pipeline to where the run of that phase begins; return a line in its midst."""
    if phase == "copy":
        return 3000
    pipe.complete()
    _change_much(source, tables)
    return 1000


def _finish(run: Future[Outcome], pipe: Pipeline, tables: Tables) -> None:
    outcome = run.result()
    print(f"the run: {outcome.seconds:.1f} s, exit code {outcome.tap}")
    assert (outcome.tap, outcome.target) == (0, 0), outcome.log
    pipe.complete()
    for table, key in tables:
        pipe.check(table, key)


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_planned_reparent(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    phase: str,
) -> None:
    """Both shards change their primary while one run copies, or streams a backlog."""
    tables = Tables(source, ROWS, random.Random(seed), WIDTH)
    pipe = pipeline(checkpoint_seconds=0.2)
    line = _begin(pipe, source, tables, phase)
    with Writer(source, tables, seed) as writer:
        with pipe.in_mid_run(line) as run:
            for shard in SHARDS:
                new = own_cluster.listed_replica(KEYSPACE, shard)
                own_cluster.reparent(KEYSPACE, shard, new)
                assert own_cluster.primary(KEYSPACE, shard) == new
        run.result()
    print(f"transactions: {dict(writer.done)}")
    _finish(run, pipe, tables)


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_mysql_dies(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    phase: str,
) -> None:
    """A primary's MySQL is killed and started again."""
    tables = Tables(source, ROWS, random.Random(seed), WIDTH)
    pipe = pipeline(checkpoint_seconds=0.2)
    line = _begin(pipe, source, tables, phase)
    shard = SHARDS[0]
    number = own_cluster.primary(KEYSPACE, shard)
    with Writer(source, tables, seed) as writer:
        with pipe.in_mid_run(line) as run:
            own_cluster.kill_mysql(number)
            own_cluster.start_mysql(number, KEYSPACE, shard, writable=True)
        run.result()
    print(f"transactions: {dict(writer.done)}")
    _finish(run, pipe, tables)


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_emergency_reparent(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    phase: str,
) -> None:
    """A primary dies with its MySQL, its replica has all it had and takes over."""
    tables = Tables(source, ROWS, random.Random(seed), WIDTH)
    pipe = pipeline(checkpoint_seconds=0.2)
    line = _begin(pipe, source, tables, phase)
    shard = SHARDS[1]
    old, new = own_cluster.primary(KEYSPACE, shard), own_cluster.listed_replica(KEYSPACE, shard)
    try:
        with pipe.in_mid_run(line) as run:
            own_cluster.wait_replicated(KEYSPACE, shard, new)
            own_cluster.kill_tablet(old, mysql=True)
            own_cluster.emergency(KEYSPACE, shard, new)
            own_cluster.wait_served(KEYSPACE)
            source.reconnect()
            with Writer(source, tables, seed) as writer:
                time.sleep(WRITE_SECONDS)
        print(f"transactions: {dict(writer.done)}")
        assert writer.done["commit"], "the new primary takes no writes"
        _finish(run, pipe, tables)
    finally:
        own_cluster.start_mysql(old, KEYSPACE, shard, writable=False)
        own_cluster.wait_replicated(KEYSPACE, shard, old)
