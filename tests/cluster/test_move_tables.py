"""A table that MoveTables takes to another keyspace: each step is told, and nothing is silent."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cluster.conftest import UNSHARDED
from cluster.launcher import Cluster
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

COLUMNS = "id bigint primary key, v varchar(40)"
SWITCH_SECONDS = 60.0
ARRIVAL_SECONDS = 30.0
ROUTED = f"routes it to the keyspace {UNSHARDED}"


def _switch(cluster: Cluster, workflow: list[str]) -> None:
    """Switch the traffic, which is refused while rows are still being copied."""
    deadline = time.monotonic() + SWITCH_SECONDS
    while True:
        try:
            cluster.move_tables(*workflow, "switchtraffic")
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def _complete_until_equal(pipe: Pipeline, table: str) -> str:
    """Run until a change that goes through the reverse workflow has come; return the last log."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        log = pipe.complete().log
        try:
            pipe.check(table, ["id"])
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            return log


def _write(source: Source, tables: list[str], v: str) -> None:
    for table in tables:
        source.execute(
            f"update {quote(table)} set v = '{v}' where id % 3 = 0",
            f"delete from {quote(table)} where id % 3 = 1 and id < 10",
            f"insert into {quote(table)} (id, v) values ({time.time_ns() % 10**12}, '{v}')",
        )


def test_move_tables(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """Before, between and after the switch and the end of a MoveTables."""
    kept, moved = source.create("kept", COLUMNS), source.create("moved", COLUMNS)
    for table in (kept, moved):
        source.insert(table, ["id", "v"], [(i, "first") for i in range(300)])
    pipe = pipeline()
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    workflow = ["--workflow", f"move{moved}", "--target-keyspace", UNSHARDED]
    which = ["--source-keyspace", source.address.keyspace, "--tables", moved]
    own_cluster.move_tables(*workflow, "create", *which, "--tablet-types", "primary")

    _write(source, [kept, moved], "while it is copied")
    assert ROUTED not in pipe.complete().log
    for table in (kept, moved):
        pipe.check(table, ["id"])

    _switch(own_cluster, workflow)
    _write(source, [kept, moved], "after the switch")
    log = _complete_until_equal(pipe, moved)
    pipe.check(kept, ["id"])
    (warning,) = [line for line in log.splitlines() if ROUTED in line]
    assert moved in warning
    assert kept not in log.replace(warning, "").partition(ROUTED)[2]

    own_cluster.move_tables(*workflow, "complete")
    source.forget(moved)
    _write(source, [kept], "after its end")
    for _ in range(2):
        outcome = pipe.run()
        print(outcome.log)
        assert outcome.tap == 1
        assert outcome.seconds < ARRIVAL_SECONDS
        message = outcome.log.partition("CRITICAL")[2]
        assert moved in message
        pipe.check(kept, ["id"])
        _write(source, [kept], "later still")
    source.execute(f"drop table {quote(UNSHARDED)}.{quote(moved)}")
