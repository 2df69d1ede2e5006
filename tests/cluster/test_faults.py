"""Processes of the cluster die under a run: it goes on when they are back, and no row is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.launcher import Cluster
from cluster.runs import Kill, Pipeline
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = pytest.mark.cluster

ROWS = 30_000
DEATH_SECONDS = 60.0


def _run_through_death(
    cluster: Cluster, pipe: Pipeline, process: str, line: int, restart: Callable[[], None]
) -> None:
    """Kill a process at a line of the tap's output, start it again, wait for the run's end.

    VTGate hides the death of a vttablet; its own death the tap must survive itself.
    """
    pid = cluster.pid(process)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(pipe.run, kill=Kill(line=line, pid=pid))
        deadline = time.monotonic() + DEATH_SECONDS
        while cluster.is_alive(pid) and not run.done() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not cluster.is_alive(pid), f"the run ended before {process} could be killed"
        restart()
        outcome = run.result()
    print(f"run through the death of {process}: {outcome.seconds:.1f} s")
    assert (outcome.tap, outcome.target) == (0, 0), outcome.log


def _check(pipe: Pipeline, tables: Tables) -> None:
    pipe.complete()
    for table, key in tables:
        pipe.check(table, key)


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_vttablet_dies(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    phase: str,
) -> None:
    """A shard's primary vttablet is killed and started again."""
    tables = Tables(source, ROWS, random.Random(seed))
    pipe = pipeline(checkpoint_seconds=0.2)
    keyspace, shard = source.address.keyspace, "80-"
    number = own_cluster.tablet(keyspace, shard)
    if phase == "stream":
        pipe.complete()
        _change_much(source, tables)
    with Writer(source, tables, seed):
        _run_through_death(
            own_cluster,
            pipe,
            f"vttablet_{number}",
            3000 if phase == "copy" else 300,
            lambda: own_cluster.start_tablet(number, keyspace, shard),
        )
    _check(pipe, tables)


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_vtgate_dies(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    phase: str,
) -> None:
    """VTGate is killed and started again."""
    tables = Tables(source, ROWS, random.Random(seed))
    pipe = pipeline(checkpoint_seconds=0.2)
    if phase == "stream":
        pipe.complete()
        _change_much(source, tables)
    line = 3000 if phase == "copy" else 300
    _run_through_death(own_cluster, pipe, "vtgate", line, own_cluster.start_gate)
    source.reconnect()
    _check(pipe, tables)


def _change_much(source: Source, tables: Tables) -> None:
    """Make many small transactions, so that a stream of them lasts."""
    for i in range(300):
        source.execute(f"update {quote(tables.big)} set name = '{i}' where id % 300 = {i}")
