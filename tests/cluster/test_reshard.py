"""Reshards and killed processes of the cluster lose nothing and double nothing in the target."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.launcher import Cluster
from cluster.runs import Kill, Outcome, Pipeline
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

KEYSPACE = "tapreshard"
SHARDS = ("-40", "40-80", "80-c0", "c0-")  # each test splits another one
ROWS = 30_000
WIDTH = 500  # the buffers between a tablet and the tap hold a small part of all


@pytest.fixture(scope="module")
def keyspace(_cluster: Cluster | None) -> str:
    """Return a keyspace whose shards the tests may change."""
    if _cluster is None:
        pytest.skip("needs a cluster of its own")
    _cluster.keyspace(KEYSPACE, *SHARDS)
    return KEYSPACE


def _finish(cluster: Cluster, pipe: Pipeline, tables: Tables) -> Outcome:
    outcome = pipe.complete()
    cluster.wait_served(KEYSPACE)
    print(f"last run: {outcome.seconds:.1f} s")
    for table, key in tables:
        pipe.check(table, key)
    return outcome


def _copied(outcome: Outcome, tables: Tables) -> list[str]:
    return [table for table, _ in tables if f"{table}: the copy begins" in outcome.log]


def test_reshard_between_runs(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """-40 becomes -20 and 20-40 between two runs, under writers; nothing is copied again."""
    tables = Tables(source, 4000, random.Random(seed))
    pipe = pipeline()
    pipe.complete()
    with Writer(source, tables, seed) as writer:
        own_cluster.reshard(KEYSPACE, "-40", "-20", "20-40")
    print(f"transactions: {dict(writer.done)}")
    outcome = _finish(own_cluster, pipe, tables)
    assert '"-20"' in pipe.meta("state").replace("\\", "")
    assert not _copied(outcome, tables)


def test_reshard_in_mid_copy(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """c0- becomes c0-e0 and e0- while a copy is made bit by bit, by runs that are cut."""
    rng = random.Random(seed)
    tables = Tables(source, 40_000, rng)
    pipe = pipeline(checkpoint_seconds=0.1, copy_parallelism=2)
    with Writer(source, tables, seed) as writer, ThreadPoolExecutor(1) as pool:
        reshard = pool.submit(own_cluster.reshard, KEYSPACE, "c0-", "c0-e0", "e0-")
        codes = []
        while not reshard.done():
            signum = rng.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])
            outcome = pipe.run(kill=Kill(line=300, signum=signum))
            codes.append(outcome.tap)
            assert outcome.tap in {128 + signal.SIGTERM, -signal.SIGKILL}, outcome.log
        reshard.result()
        assert not pipe.is_copied(), f"the copy was over before the reshard: {codes}"
    print(f"runs: {codes}; transactions: {dict(writer.done)}")
    _finish(own_cluster, pipe, tables)


def test_reshard_while_one_run_copies(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """40-80 becomes 40-60 and 60-80 while one run copies, which nobody cuts."""
    tables = Tables(source, ROWS, random.Random(seed), WIDTH)
    pipe = pipeline(checkpoint_seconds=0.2, copy_parallelism=2)
    with Writer(source, tables, seed) as writer:
        with pipe.in_mid_run(2000) as run:
            own_cluster.reshard(KEYSPACE, "40-80", "40-60", "60-80")
        outcome = run.result()
    print(f"{outcome.seconds:.1f} s; transactions: {dict(writer.done)}")
    assert (outcome.tap, outcome.target) == (0, 0), outcome.log
    _finish(own_cluster, pipe, tables)


def test_reshard_while_a_backlog_is_streamed(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """80-c0 becomes 80-a0 and a0-c0 while one run works off a long backlog; nothing is copied."""
    tables = Tables(source, ROWS, random.Random(seed), WIDTH)
    pipe = pipeline(checkpoint_seconds=0.2)
    pipe.complete()
    for i in range(200):
        source.execute(f"update {quote(tables.big)} set amount = {i} where id % 100 = {i % 100}")
    with Writer(source, tables, seed) as writer:
        with pipe.in_mid_run(500) as run:
            own_cluster.reshard(KEYSPACE, "80-c0", "80-a0", "a0-c0")
        outcome = run.result()
    print(f"{outcome.seconds:.1f} s; transactions: {dict(writer.done)}")
    assert (outcome.tap, outcome.target) == (0, 0), outcome.log
    assert not _copied(outcome, tables)
    assert not _copied(_finish(own_cluster, pipe, tables), tables)
