"""SIGTERM and SIGINT end a run at a boundary: last line a STATE, exit code 128 + signal.

The next run goes on from there and the target equals the source.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import pytest

from cluster.runs import Kill, Outcome, Pipeline
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = pytest.mark.cluster

ROWS = 30_000
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def _check_stopped(pipe: Pipeline, outcome: Outcome, signum: int) -> None:
    codes = outcome.tap, outcome.target
    assert codes == (128 + signum, 0), outcome.log
    assert pipe.meta("last") == "STATE"
    assert f"ended by signal {signum}" in outcome.log, outcome.log
    assert "Traceback" not in outcome.log, outcome.log


def _finish(pipe: Pipeline, tables: Tables) -> None:
    pipe.complete()
    for table, key in tables:
        pipe.check(table, key)


@pytest.mark.parametrize(
    ("signum", "parallel", "unbuffered"),
    [
        (signal.SIGTERM, 1, True),
        (signal.SIGTERM, 3, False),
        (signal.SIGINT, 1, False),
        (signal.SIGINT, 3, True),
    ],
)
def test_in_copy(
    source: Source,
    pipeline: Callable[..., Pipeline],
    seed: int,
    signum: int,
    parallel: int,
    *,
    unbuffered: bool,
) -> None:
    """A signal in mid-copy, under writers: the next run copies only what is left."""
    tables = Tables(source, ROWS, random.Random(seed))
    pipe = pipeline(copy_parallelism=parallel)
    pipe.unbuffered = unbuffered
    with Writer(source, tables, seed):
        outcome = pipe.run(kill=Kill(line=4000, signum=signum))
        _check_stopped(pipe, outcome, signum)
        before = int(pipe.meta("records"))
        assert 4000 <= before < ROWS, f"{before} records: the signal was too late"
        assert pipe.state()["copies"] != "{}"
    _finish(pipe, tables)
    assert int(pipe.meta("records")) < ROWS, "all was copied again"


@pytest.mark.parametrize("signum", SIGNALS)
def test_in_stream(
    source: Source, pipeline: Callable[..., Pipeline], seed: int, signum: int
) -> None:
    """A signal while changes are followed."""
    tables = Tables(source, ROWS // 3, random.Random(seed))
    pipe = pipeline()
    pipe.complete()
    for i in range(200):
        source.execute(f"update {quote(tables.big)} set name = '{i}' where id % 200 = {i}")
    outcome = pipe.run(kill=Kill(line=500, signum=signum))
    _check_stopped(pipe, outcome, signum)
    assert 500 <= int(pipe.meta("records")) < ROWS // 3, "the signal was too late"
    assert pipe.is_copied()
    _finish(pipe, tables)


@pytest.mark.parametrize("signum", SIGNALS)
def test_at_any_time(
    source: Source, pipeline: Callable[..., Pipeline], seed: int, signum: int
) -> None:
    """A signal at some moment, be it before the first message: no run hangs or loses a row."""
    rng = random.Random(seed)
    tables = Tables(source, 3000, rng)
    pipe = pipeline(checkpoint_seconds=0)
    ends = []
    with Writer(source, tables, seed):
        for _ in range(4):
            outcome = pipe.run(kill=Kill(seconds=rng.uniform(0.5, 4.0), signum=signum))
            ends.append(outcome)
            assert outcome.seconds < 20, outcome.log
    print([outcome.tap for outcome in ends])
    # -signal: Python itself had not started yet, or is already at its end.
    bad = [end.log for end in ends if end.tap not in {0, 128 + signum, -signum} or end.target]
    assert not bad, "\n".join(bad)
    _finish(pipe, tables)
