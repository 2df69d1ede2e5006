"""States: refused in one sentence, or every row comes that the state does not claim to have."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from support.fuzzing import (
    SECRETS,
    TABLES,
    broken,
    cases,
    fill,
    fuzz,
    guarded,
    ids,
    outcome,
    ran,
)
from support.taps import Target, discover, run, settings

from tap_vitess.airbyte.state import states_of
from tap_vitess.errors import StateError
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.state import COPIED, KeyspaceState, ShardProgress, bookmarks_of, parse
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.tap import TapVitess

pytestmark = fuzz


@dataclass(frozen=True)
class Past:
    """A sandbox, the states of a run over it, and what the target had with each."""

    sandbox: Sandbox
    catalog: dict[str, Any]
    states: list[dict[str, Any]]
    targets: list[Target]

    def __repr__(self) -> str:
        """Be short: hypothesis tells it with each failure."""
        return f"Past({len(self.states)} states)"


@contextmanager
def past() -> Iterator[Past]:
    """Let a run copy the tables; then rows are written."""
    with guarded() as sandbox:
        config, whole = settings(sandbox, **SECRETS), Target()
        catalog = discover(config)
        run(config, whole)
        states, targets = [], []
        for number, message in enumerate(whole.messages):
            if message["type"] == "STATE":
                target = Target()
                for line in whole.messages[: number + 1]:
                    target.apply(copy.deepcopy(line))
                states.append(message["value"])
                targets.append(target)
        for number, name in enumerate(TABLES):
            fill(sandbox.cluster, name, range(100 + number, 108 + number))
            sandbox.cluster.delete("shop", name, {"id": b"%d" % (6 * number)})
        yield Past(sandbox, catalog, states, targets)


@pytest.fixture(scope="module")
def before() -> Iterator[Past]:
    with past() as found:
        yield found


def claims_no_more(found: KeyspaceState, truth: KeyspaceState, table: str) -> bool:
    """Tell whether a state claims no more of a table than is true."""
    group, true = found.group_of(table), truth.group_of(table)
    if group is None:
        return True
    if true is None or not _contains(true.position, group.position):
        return False
    if found.version(table) != truth.version(table):
        return False  # a target drops rows by it
    if table not in found.copies:
        return truth.is_copied(table)
    shards = truth.copies.get(table, {})
    return all(
        claimed is None or claimed == _true(truth, table, shards, shard)
        for shard, claimed in found.copies[table].items()
    )


def _true(
    truth: KeyspaceState, table: str, shards: Mapping[str, ShardProgress], shard: str
) -> ShardProgress:
    return COPIED if truth.is_copied(table) else shards.get(shard)


def went_back(state: Any, truth: KeyspaceState) -> bool:
    """Tell whether a table's version is lower than that of its rows: no target takes that."""
    try:
        groups = _of(state).groups
    except StateError:
        return False
    return any(v < truth.version(table) for group in groups for table, v in group.tables.items())


def _contains(whole: Vgtid, part: Vgtid) -> bool:
    if whole.shards.keys() != part.shards.keys():
        return False
    return all(whole.shards[shard].contains(gtids) for shard, gtids in part.shards.items())


@cases(60)
@given(st.data())
def test_a_broken_state(before: Past, data: st.DataObject) -> None:
    """An error, or every row that the state does not claim to have."""
    number = data.draw(st.integers(0, len(before.states) - 1))
    state = data.draw(broken(before.states[number]))
    assume(isinstance(state, dict))  # see tests/test_settings.py
    truth = _of(before.states[number])
    assume(not went_back(state, truth))
    target = copy.deepcopy(before.targets[number])
    config = settings(before.sandbox, **SECRETS)
    if ran(config, target, state=state, catalog=copy.deepcopy(before.catalog)) is not None:
        return
    found = _of(state)
    for table in TABLES:
        if claims_no_more(found, truth, table):
            event("all rows are wanted")
            there = {row["id"] for row in target.contents(f"shop-{table}")}
            assert there == ids(before.sandbox.cluster, table), table


def _of(state: Any) -> KeyspaceState:
    return parse("shop", bookmarks_of(state).get("vitess:shop"))


@cases(400)
@given(st.data())
def test_a_broken_state_is_read(before: Past, data: st.DataObject) -> None:
    """By the tap and by Airbyte; what is read is written as it is read again."""
    state = data.draw(broken(data.draw(st.sampled_from(before.states)), most=3))
    whole = airbyte(data.draw(st.sampled_from(before.states)))
    kept = data.draw(broken([{"type": "GLOBAL", "global": whole}]))
    config = settings(before.sandbox, **SECRETS)
    outcome(lambda: TapVitess(config=config, state=state, catalog={"streams": []}))

    def read() -> None:
        found = _of(state)
        assert parse("shop", found.render()) == found

    outcome(read)
    outcome(lambda: states_of(kept))


def airbyte(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as Airbyte keeps it."""
    names = [{"name": table, "namespace": "shop"} for table in TABLES]
    streams = [{"stream_descriptor": name, "stream_state": {"version": 1}} for name in names]
    return {"shared_state": state["bookmarks"], "stream_states": streams}
