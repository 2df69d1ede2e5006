"""Bookmarks whose position is lost: the tap says so and what to do, or copies again if told to."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

import pytest

from cluster.launcher import Cluster
from cluster.runs import Outcome, Pipeline
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SHARD = "-80"
SOON = 30.0  # seconds; VTGate itself takes 90 to say less
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
FOREIGN = "11111111-2222-3333-4444-555555555555"


def _change(source: Source, tables: Tables) -> None:
    """Insert, change and delete rows of every table."""
    for table, _ in tables:
        source.execute(f"delete from {quote(table)} where id < 50")
    source.execute(f"update {quote(tables.big)} set name = 'changed' where id % 10 = 0")
    source.insert(tables.small, ["id", "v"], [(10_000_000 + i, "new") for i in range(100)])


def _purge(cluster: Cluster, pipe: Pipeline) -> None:
    cluster.purge_binlogs(cluster.primary(pipe.source.address.keyspace, SHARD))


def _come_from_another_cluster(_: Cluster, pipe: Pipeline) -> None:
    pipe.rewrite_state(lambda text: UUID.sub(FOREIGN, text))


def _run_ahead(_: Cluster, pipe: Pipeline) -> None:
    pipe.rewrite_state(lambda text: re.sub(r":1-\d+", ":1-999999999", text))


def _lack_a_shard(_: Cluster, pipe: Pipeline) -> None:
    pipe.rewrite_state(_without_shard)


def _without_shard(text: str) -> str:
    state = json.loads(text)
    for bookmark in state["bookmarks"].values():
        for group in bookmark["groups"]:
            entries = json.loads(group["vgtid"])["shard_gtids"]
            left = [entry for entry in entries if entry["shard"] != SHARD]
            group["vgtid"] = json.dumps({"shard_gtids": left}, separators=(",", ":"))
    return json.dumps(state)


Lose = Callable[[Cluster, Pipeline], None]
WAYS = pytest.mark.parametrize(
    "lose",
    [_purge, _come_from_another_cluster, _run_ahead, _lack_a_shard],
    ids=["purged", "another cluster", "ahead", "a shard is missing"],
)


@WAYS
def test_lost_position_fails(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    lose: Lose,
) -> None:
    """By default the run fails at once, says what is lost and where, and changes nothing."""
    tables = Tables(source, 2000, random.Random(seed))
    pipe = pipeline()
    pipe.complete()
    _change(source, tables)
    lose(own_cluster, pipe)
    state = pipe.state()["groups"]
    outcome = pipe.run()
    print(outcome.log)
    assert outcome.tap == 1
    assert outcome.seconds < SOON
    _check_message(outcome, source)
    assert pipe.state()["groups"] == state
    assert int(pipe.meta("records")) == 0


def _check_message(outcome: Outcome, source: Source) -> None:
    message = outcome.log.partition("CRITICAL")[2].partition("\n")[0]
    for words in (source.address.keyspace, SHARD, "on_lost_position"):
        assert words in message


@WAYS
def test_resync(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    lose: Lose,
) -> None:
    """With resync the keyspace's tables are copied again under writers; vanished rows go."""
    tables = Tables(source, 4000, random.Random(seed))
    pipe = pipeline(on_lost_position="resync", checkpoint_seconds=0.2)
    pipe.complete()
    _change(source, tables)
    lose(own_cluster, pipe)
    with Writer(source, tables, seed) as writer:
        outcome = pipe.complete()
    print(f"{outcome.seconds:.1f} s; transactions: {dict(writer.done)}")
    assert outcome.seconds < SOON
    assert "lost" in outcome.log
    last = pipe.complete()
    for table, key in tables:
        pipe.check(table, key)
        assert f"{table}: the copy begins" not in last.log
