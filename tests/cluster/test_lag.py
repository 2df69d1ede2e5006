"""Reading from replicas that lag loses nothing, and nothing in the target goes back in time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cluster.launcher import Cluster
from cluster.runs import Kill, Pipeline
from cluster.source import Source
from cluster.writers import Tables, Writer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KEYSPACE = "taplag"
REPLICAS = {"-80": 1, "80-": 2}
LAG_SECONDS = 4
RUNS = 10


@pytest.fixture(scope="module")
def keyspace(_cluster: Cluster | None) -> str:
    """Return a keyspace with replicas: one for a shard, two for the other."""
    if _cluster is None:
        pytest.skip("needs a cluster of its own")
    _cluster.keyspace(KEYSPACE, *REPLICAS)
    for shard, count in REPLICAS.items():
        for _ in range(count):
            _cluster.replica(KEYSPACE, shard)
    return KEYSPACE


def _wait_replicated(cluster: Cluster) -> None:
    """Let replicas catch up; a replica's vttablet learns of a new table only now and then."""
    for shard in REPLICAS:
        for number in cluster.replicas(KEYSPACE, shard):
            cluster.wait_replicated(KEYSPACE, shard, number)
    cluster.run("ctl", "ReloadSchemaKeyspace", "--include-primary", KEYSPACE)


def test_one_replica_of_two_lags(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """A run may meet the replica that is up to date, the next one that which is not."""
    rng = random.Random(seed)
    tables = Tables(source, 10_000, rng)
    _wait_replicated(own_cluster)
    pipe = pipeline(tablet_type="REPLICA", checkpoint_seconds=0.1)
    late = own_cluster.listed_replica(KEYSPACE, "80-")
    own_cluster.delay_replication(late, LAG_SECONDS)
    codes = []
    with Writer(source, tables, seed) as writer:
        for _ in range(RUNS):
            kill = Kill(line=rng.randint(1, 4000)) if rng.random() < 0.5 else None
            outcome = pipe.run(rng.choice(["keep", "keep", "behind"]), kill)
            codes.append(outcome.tap)
            assert outcome.tap in {0, -9}, outcome.log
    own_cluster.delay_replication(late, 0)
    _wait_replicated(own_cluster)
    print(f"exit codes: {codes}; transactions: {dict(writer.done)}")
    pipe.complete()
    for table, key in tables:
        pipe.check(table, key)


def test_replicas_that_stand_still(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """All replicas lag: runs deliver what those have, and end; what is left comes later."""
    tables = Tables(source, 5_000, random.Random(seed))
    _wait_replicated(own_cluster)
    pipe = pipeline(tablet_type="REPLICA", checkpoint_seconds=0.1)
    late = [n for shard in REPLICAS for n in own_cluster.replicas(KEYSPACE, shard)]
    for number in late:
        own_cluster.delay_replication(number, 3600)
    try:
        with Writer(source, tables, seed) as writer:
            outcome = pipe.run()
            assert outcome.tap == 0, outcome.log
            again = pipe.run()
            assert again.tap == 0, again.log
        print(f"{outcome.seconds:.1f} s, {again.seconds:.1f} s; {dict(writer.done)}")
        assert (
            pipe.rows(tables.big, ["id", "n"]).keys() != source.rows(tables.big, ["id", "n"]).keys()
        )
    finally:
        for number in late:
            own_cluster.delay_replication(number, 0)
    _wait_replicated(own_cluster)
    pipe.complete()
    for table, key in tables:
        pipe.check(table, key)
