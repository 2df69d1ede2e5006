"""Four jobs over four shards of one keyspace, through reshards within and across their borders."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cluster.compare import by_key, difference
from cluster.launcher import Cluster
from cluster.runs import TAP, Outcome, Pipeline
from cluster.source import Source
from cluster.writers import Tables, Writer
from tap_vitess.errors import BorderError
from tap_vitess.vstream import Vitess, changes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]

KEYSPACE = "tapjobs"
SHARDS = ("-40", "40-80", "80-c0", "c0-")
SENTENCE = "tap-vitess join-states"


@pytest.fixture(scope="module")
def keyspace(_cluster: Cluster | None) -> str:
    """Return a keyspace whose shards the test changes."""
    if _cluster is None:
        pytest.skip("needs a cluster of its own")
    _cluster.keyspace(KEYSPACE, *SHARDS)
    return KEYSPACE


def shards_of(pipe: Pipeline) -> set[str]:
    """Name the shards of a job's state."""
    groups = pipe.state()["groups"]
    return {e["shard"] for g in groups for e in json.loads(g["vgtid"])["shard_gtids"]}


def check(source: Source, jobs: Sequence[Pipeline], tables: Tables) -> None:
    """Compare the source with what all jobs have written; no two have the same row."""
    for table, key in tables:
        records = [record for pipe in jobs for record in pipe.records(table)]
        rows = by_key(records, key)
        assert len(rows) == len(records), f"{table}: a row in the tables of two jobs"
        differs = difference(source.rows(table, key), rows)
        assert not differs, f"{table}: {differs}"


def until(done: Future[None], jobs: Mapping[str, Pipeline]) -> Iterator[tuple[str, Outcome]]:
    """Run all jobs again and again, at once, until something else is done."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        while not done.done():
            yield from zip(jobs, pool.map(Pipeline.run, jobs.values()), strict=True)
    done.result()


def take_over(pipe: Pipeline, others: Sequence[Pipeline], state: str) -> None:
    """Let a job have the rows of the targets of others, and the state that is given."""
    first, *rest = (str(other.folder / "target.sqlite") for other in others)
    with (
        closing(sqlite3.connect(first)) as old,
        closing(sqlite3.connect(pipe.folder / "target.sqlite")) as new,
    ):
        old.backup(new)
        for path in rest:
            new.execute("attach ? as other", (path,))
            new.execute("insert into rows select * from other.rows")
            new.commit()
            new.execute("detach other")
        new.execute("update meta set value = ? where name = 'state'", (state,))
        new.commit()


def follow(source: Source, table: str, shard: str) -> None:
    """Follow a table's shard until an error; SQL is not asked where the keyspace is."""
    address = source.address
    vitess = Vitess(address.host, address.grpc_port, address.mysql_port, shards=[shard])
    for _ in changes(vitess, [f"{KEYSPACE}.{table}"], follow=True, poll_seconds=300):
        pass


def test_four_jobs_through_reshards(
    own_cluster: Cluster, source: Source, tmp_path: Path, seed: int
) -> None:
    """One within a border is followed; one across ends both jobs, whose states go on as one."""
    tables = Tables(source, 6000, random.Random(seed))
    jobs = {s: Pipeline(tmp_path / f"job{s}", source, shards=[s]) for s in SHARDS}
    with Writer(source, tables, seed) as writer, ThreadPoolExecutor(1) as pool:
        inside = pool.submit(own_cluster.reshard, KEYSPACE, "40-80", "40-60", "60-80")
        ends = list(until(inside, jobs))
        assert {(o.tap, o.target) for _, o in ends} == {(0, 0)}, [o.log for _, o in ends if o.tap]
    print(f"runs: {len(ends)}; transactions: {dict(writer.done)}")
    own_cluster.wait_served(KEYSPACE)
    for pipe in jobs.values():
        pipe.complete()
    check(source, [*jobs.values()], tables)
    assert shards_of(jobs["40-80"]) == {"40-60", "60-80"}

    with Writer(source, tables, seed + 1) as writer, ThreadPoolExecutor(2) as pool:
        followed = pool.submit(follow, source, tables.big, "c0-")
        across = pool.submit(own_cluster.reshard, KEYSPACE, "80-c0,c0-", "80-")
        ends = list(until(across, jobs))
        failed = [(shard, o.log) for shard, o in ends if o.tap]
        assert all(shard in SHARDS[2:] and SENTENCE in log for shard, log in failed), failed
        with pytest.raises(BorderError, match="together with shard 80-c0 outside of it") as caught:
            followed.result(120)
        print(caught.value.coded())
    print(f"runs: {len(ends)}; transactions: {dict(writer.done)}")
    own_cluster.wait_served(KEYSPACE)
    for shard in SHARDS[2:]:
        outcome = jobs[shard].run()
        last = outcome.log.strip().splitlines()[-1]
        print(last)
        assert outcome.tap == 1
        assert "crosses the border" in last
        assert SENTENCE in last
        assert shards_of(jobs[shard]) == {shard}
    for shard in SHARDS[:2]:
        jobs[shard].complete()

    crossed = [jobs[shard] for shard in SHARDS[2:]]
    states = [tmp_path / f"{number}.json" for number, _ in enumerate(crossed)]
    for path, pipe in zip(states, crossed, strict=True):
        path.write_text(pipe.meta("state"))
    command = [str(TAP), "join-states", *map(str, states)]
    state = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    both = Pipeline(tmp_path / "both", source, shards=["80-"])
    take_over(both, crossed, state)
    outcome = both.complete()
    assert "the copy begins" not in outcome.log
    assert shards_of(both) == {"80-"}
    check(source, [*(jobs[shard] for shard in SHARDS[:2]), both], tables)
