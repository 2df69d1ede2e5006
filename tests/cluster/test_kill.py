"""SIGKILL at random moments, under writers, with targets that lose STATEs, costs nothing.

However often the tap or the target is killed: after a last run that ends by itself, the target's
tables equal the source's.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from cluster.runs import Kill, Outcome, Pipeline
from cluster.source import Source
from cluster.writers import Tables, Writer

pytestmark = pytest.mark.cluster

PARALLEL = (1, 3)
# TAP_VITESS_TEST_KILLS is for all of the parameters together.
KILLS = math.ceil(int(os.environ.get("TAP_VITESS_TEST_KILLS") or 30) / len(PARALLEL))
ROWS = 40_000
MOST_RUNS = 8 * KILLS


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest.mark.parametrize("parallel", PARALLEL)
def test_target_equals_source_after_kills(
    source: Source, pipeline: Callable[..., Pipeline], seed: int, parallel: int
) -> None:
    """The target equals the source after kills of the tap and of the target under writers."""
    rng = random.Random(seed)
    tables = Tables(source, ROWS, rng)
    pipe = pipeline(checkpoint_seconds=0.2, copy_parallelism=parallel)
    with Writer(source, tables, seed) as writer:
        happened = _run_and_kill(pipe, rng)
    print(f"kills: {dict(happened)}; transactions: {dict(writer.done)}")
    pipe.complete()
    for table, key in tables:
        pipe.check(table, key)


def _run_and_kill(pipe: Pipeline, rng: random.Random) -> Counter[str]:
    """Kill half of the times while tables are copied, then while changes are followed."""
    happened: Counter[str] = Counter()
    while happened["kills"] < KILLS:
        phase = "stream" if pipe.is_copied() else "copy"
        kill, states = _kill(phase, rng), rng.choice(["keep", "keep", "behind", "none"])
        if happened["runs"] == 0:
            # Many rows of an attempt of which no STATE tells.
            kill, states = Kill(line=ROWS // 2), "none"
        elif phase == "copy" and happened["killed in copy"] >= KILLS // 2:
            kill, states = Kill(), "keep"
        outcome = pipe.run(states, kill)
        _check_codes(outcome)
        killed = outcome.tap != 0
        happened["runs"] += 1
        happened["kills"] += killed
        happened[f"killed in {phase}" if killed else "ended by itself"] += 1
        happened["target killed"] += outcome.target == -9
        happened[f"STATE {states}"] += 1
        assert happened["runs"] < MOST_RUNS, f"too few runs could be killed: {happened}"
    return happened


def _kill(phase: str, rng: random.Random) -> Kill:
    """Choose a moment: a time, or a line, which is often one of the first."""
    if rng.random() < 0.2:
        return Kill(seconds=rng.uniform(1.0, 3.0))
    lines = ROWS // 4 if phase == "copy" else 200
    line = rng.choice([rng.randint(1, lines), int(math.exp(rng.uniform(0, math.log(lines))))])
    victim = rng.choice(["tap", "tap", "both", "target"])
    return Kill(line=line, tap=victim != "target", die=victim != "tap")


def _check_codes(outcome: Outcome) -> None:
    """The tap ends by itself, by the kill, or with 1 because its reader is gone."""
    assert outcome.target in {0, -9}
    assert outcome.tap in ({0, -9, 1} if outcome.target else {0, -9}), outcome.log
