"""Whatever happens to the cluster, the network, the tap or the target: equal in the end.

A state machine does at random what `disturbances.World` can do. The examples are the same at each
run of CI; TAP_VITESS_EXAMPLES=500 takes so many others, of a seed that is printed.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from support.taps import settings as tap_settings
from support.world import ALTERATIONS, TABLES, World

from tap_vitess.errors import HistoryLostError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.server import serve

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TAP_VITESS_EXAMPLES", "0"))
KILLS = 5 + EXAMPLES // 10
SHRINK = int(os.environ.get("TAP_VITESS_SHRINK", "0"))

numbers = st.integers(0, 50)
writes = st.lists(st.tuples(st.integers(0, 3), numbers), min_size=1, max_size=5)
alterations = st.sampled_from(sorted(ALTERATIONS))
tables = st.one_of(st.just([0, 1, 2, 3]), st.lists(st.integers(0, 3), max_size=3))
faults = st.one_of(
    st.builds(lambda n: Fault(cut_after_events=n), st.integers(1, 40)),
    st.builds(lambda n: Fault(cut_in_copy=n), st.integers(1, 15)),
    st.builds(
        lambda name, times: Fault(error=name, times=times),
        st.sampled_from(["unavailable", "reshard_followed", "mysql_restarted"]),
        st.integers(1, 3),
    ),
    st.builds(
        lambda n, name: Fault(cut_after_all_events=n, error=name),
        st.integers(1, 40),
        st.sampled_from(["mysql_restarted", "reshard_followed"]),
    ),
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("writes"), writes),
        st.tuples(st.just("alter"), st.tuples(alterations, numbers)),
        st.tuples(st.just("truncate"), numbers),
        st.tuples(st.just("rename"), numbers),
        st.tuples(st.just("reshard"), numbers),
    ),
    min_size=1,
    max_size=3,
)


class Disturbances(RuleBasedStateMachine):
    """Everything that can happen; each step one thing."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        options = Options(copy_rows_per_packet=2, tablet_wait=0.2)
        self.world = World(self._stack.enter_context(serve(Cluster(), options=options)))

    def teardown(self) -> None:
        with self._stack:
            self.world.settle()

    @initialize(image=st.sampled_from(["FULL", "NOBLOB"]))
    def log(self, image: str) -> None:
        self.world.log_images(image)

    @rule(kind=st.integers(0, 3), number=numbers)
    def write(self, kind: int, number: int) -> None:
        self.world.write(kind, number)

    @rule(writes=writes)
    def transaction(self, writes: list[tuple[int, int]]) -> None:
        self.world.transaction(writes)

    @rule(kind=alterations, number=numbers)
    def alter(self, kind: str, number: int) -> None:
        self.world.write(1, number)
        self.world.alter(kind, number)
        self.world.write(1, number)

    @rule(kind=alterations, number=numbers, resync=st.booleans(), selected=tables)
    def alter_between_runs(
        self,
        kind: str,
        number: int,
        resync: bool,  # noqa: FBT001
        selected: list[int],
    ) -> None:
        """A table that is followed changes, is altered, and is followed."""
        self.world.run()
        self.world.touch(number)
        self.world.alter(kind, number)
        self.world.write(0, number)
        self.world.run(resync=resync, selected=selected)

    @rule(number=numbers, what=st.sampled_from(["truncate", "drop", "create", "rename", "rename"]))
    def replace(self, number: int, what: str) -> None:
        match what:
            case "truncate":
                self.world.truncate(number)
            case "drop":
                self.world.drop(number)
            case "rename":
                self.world.rename(number)
            case _:
                self.world.create()

    @rule(number=numbers, gone=st.booleans())
    def reshard(self, number: int, gone: bool) -> None:  # noqa: FBT001
        self.world.reshard(number)
        if gone:
            self.world.drop_old_shards()

    @rule(what=st.sampled_from(["purge", "old shards", "NOBLOB", "FULL", "other"]))
    def operate(self, what: str) -> None:
        match what:
            case "purge":
                self.world.purge()
            case "old shards":
                self.world.drop_old_shards()
            case "other":
                self.world.other_write()
            case image:
                self.world.log_images(image)

    @rule(states=st.integers(1, 8))
    def forget(self, states: int) -> None:
        self.world.forget(states)

    @rule(fresh=st.booleans(), resync=st.booleans())
    def run_undisturbed(self, fresh: bool, resync: bool) -> None:  # noqa: FBT001
        self.world.run(fresh=fresh, resync=resync)

    @rule(
        lines=st.one_of(st.none(), st.integers(0, 60)),
        fault=st.one_of(st.none(), faults),
        selected=tables,
        full=st.one_of(st.just([]), st.lists(st.integers(0, 3), max_size=1)),
        fresh=st.booleans(),
        resync=st.booleans(),
        parallel=st.integers(1, 3),
    )
    def run(
        self,
        lines: int | None,
        fault: Fault | None,
        selected: list[int],
        full: list[int],
        fresh: bool,  # noqa: FBT001
        resync: bool,  # noqa: FBT001
        parallel: int,
    ) -> None:
        self.world.run(
            lines=lines,
            fault=fault,
            selected=selected,
            full=full,
            fresh=fresh,
            resync=resync,
            parallel=parallel,
        )

    @rule(
        lines=st.one_of(st.none(), st.integers(10, 60)),
        message=st.one_of(st.none(), st.integers(1, 40)),
        streams=st.lists(st.integers(1, 6), min_size=1, max_size=2, unique=True),
        happens=actions,
        resync=st.booleans(),
        parallel=st.integers(1, 3),
    )
    def run_while_it_happens(
        self,
        lines: int | None,
        message: int | None,
        streams: list[int],
        happens: list[tuple[str, object]],
        resync: bool,  # noqa: FBT001
        parallel: int,
    ) -> None:
        def act() -> None:
            for name, arguments in happens:
                self._act(name, arguments)

        self.world.transaction([(1, 1), (1, 2)])

        self.world.run(
            lines=lines,
            resync=resync,
            parallel=parallel,
            at_message=(message, act) if message else None,
            at_stream=() if message else [(number, act) for number in streams],
        )

    def _act(self, name: str, arguments: object) -> None:
        world = self.world
        known: dict[str, Callable[..., None]] = {
            "writes": world.transaction,
            "alter": lambda found: self.alter(*found),
            "truncate": world.truncate,
            "rename": world.rename,
            "reshard": world.reshard,
        }
        known[name](arguments)


def test_any_disturbance_is_overcome() -> None:
    """See the docstring of this file."""
    chosen = settings(
        max_examples=EXAMPLES or 35,
        stateful_step_count=20,
        derandomize=not EXAMPLES,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        # To shorten a failure takes minutes: TAP_VITESS_SHRINK=1.
        phases=[Phase.generate, *[Phase.shrink] * SHRINK],
        suppress_health_check=list(HealthCheck),
    )
    machine = Disturbances
    if EXAMPLES:
        number = random.randrange(1 << 32)
        print(f"seed {number}")
        machine = seed(number)(machine)
    run_state_machine_as_test(machine, settings=chosen)


# What the state machine cannot do at will, or found: one by one


@pytest.fixture
def world() -> Iterator[World]:
    """Serve a world of its own."""
    with serve(Cluster(), options=Options(copy_rows_per_packet=2)) as sandbox:
        yield World(sandbox)


def test_a_killed_process(world: World, tmp_path: Path) -> None:
    """SIGKILL after some lines, writes beside it and between, a reshard: the next runs go on."""
    number = int(os.environ.get("TAP_VITESS_SEED", random.randrange(1 << 32)))
    print(f"TAP_VITESS_SEED={number}")
    chance = random.Random(number)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tap_settings(world.sandbox, on_lost_position="resync")))
    kills = 0
    for name in TABLES:
        world.insert(name, *range(10, 60))
    for round_ in range(KILLS):
        state = tmp_path / "state.json"
        state.write_text(json.dumps(world.target.state))
        command = [sys.executable, "-m", "tap_vitess", "--config", str(config)]
        with subprocess.Popen(
            [*command, "--state", str(state)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as tap:
            assert tap.stdout is not None
            for line in islice(tap.stdout, chance.randrange(1, 120)):
                if not line.endswith(b"\n"):
                    break  # what a killed process wrote in part
                world.target.take(line)
                if not chance.randrange(10):
                    world.write(chance.randrange(4), chance.randrange(50))
            tap.kill()
            kills += tap.wait() == -signal.SIGKILL
        if round_ == KILLS // 2:
            world.reshard(1)
        world.forget(chance.choice([0, 0, 1, 3]))
    assert kills
    world.settle()


@pytest.mark.parametrize("events", [1, 20])
def test_a_stall(world: World, events: int) -> None:
    """A stream that stands still is opened again, in a copy and behind it."""
    assert world.run(fault=Fault(stall_after_events=events)) is None
    world.write(1, 7)
    assert world.run(fault=Fault(stall_after_events=2)) is None
    world.settle()


@pytest.mark.parametrize("copied", [False, True], ids=["first copy", "followed"])
def test_altered_after_the_stop_position_was_asked_for(world: World, *, copied: bool) -> None:
    """Older rows are read with the columns of later, and no DDL of this run says so.

    So what a first stream shows is no proof of how the table looked at its stop position.
    """
    swap = functools.partial(world.alter, "reorder", 0)
    if copied:
        world.run()
        world.alter("reorder", 0)  # so that the layout is not known from the copy
        world.update("alpha", b"1", 3)
        world.run(selected=[0], at_stream=[(1, swap)])
    else:
        write = functools.partial(world.update, "alpha", b"1", 3)
        world.run(selected=[0], at_stream=[(1, write), (2, swap)])
    world.settle()


def test_a_truncate_of_many_shards_asks_for_one_copy(world: World) -> None:
    """Its DDL comes once a shard: that is no table that is truncated all the time."""
    for number in (1, 1, 2, 4):
        world.reshard(number)
    assert world.run() is None
    for _ in range(2):
        world.truncate(0)
    assert len(world.cluster.shards("shop")) * 2 > 5
    assert world.run() is None  # which compares


def without_layouts(world: World) -> None:
    """Let the state be one of a version that did not know of layouts."""
    del world.target.state["bookmarks"]["vitess:shop"]["layouts"]


ALPHA, BETA = 0, 1


@pytest.mark.parametrize("kind", ["reorder", "int unsigned", "reorder labels", "rename column"])
def test_rows_that_would_be_misread_are_not_given_out(world: World, kind: str) -> None:
    """Not one, the table keeps its place, and the others go on."""
    world.run()
    seen = len(world.target.records("shop-alpha"))
    world.touch(ALPHA)
    world.alter(kind, ALPHA)
    world.touch(BETA)
    for _ in range(2):
        error = world.run(resync=False)
        assert isinstance(error, HistoryLostError)
        assert error.table == "alpha"
        assert len(world.target.records("shop-alpha")) == seen
        world.compare(["beta", "gamma"])
    world.settle()


@pytest.mark.parametrize(
    "kind", ["add first", "add in the middle", "bigint", "drop", "drop and add"]
)
def test_rows_that_cannot_be_read_are_not_skipped(world: World, kind: str) -> None:
    """Vitess says so itself, by an error or by names like @1; no layout is needed for that."""
    world.run()
    without_layouts(world)
    seen = len(world.target.records("shop-alpha"))
    world.touch(ALPHA)
    world.alter(kind, ALPHA)
    world.touch(BETA)
    for _ in range(2):
        assert isinstance(world.run(resync=False), HistoryLostError)
        assert len(world.target.records("shop-alpha")) == seen
        world.compare(["beta", "gamma"])
    world.settle()


@pytest.mark.parametrize("kind", ["reorder", "reorder labels"])
def test_rows_that_may_have_been_misread_are_copied_again(world: World, kind: str) -> None:
    """Where no layout is known the DDL is what tells."""
    world.run()
    without_layouts(world)
    world.touch(ALPHA)
    world.alter(kind, ALPHA)
    assert world.run(resync=False) is None  # which compares
