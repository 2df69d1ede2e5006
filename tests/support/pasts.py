"""States of a run over a sandbox, and how much of each table a state claims to have."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.fuzzing import SECRETS, TABLES, fill, guarded
from support.taps import Target, discover, run, settings
from tap_vitess.errors import StateError
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.state import COPIED, KeyspaceState, ShardProgress, bookmarks_of, parse
from tap_vitess.sandbox.server import Sandbox


@dataclass(frozen=True)
class Past:
    """A sandbox, the states of a run over it, and what the target had with each."""

    sandbox: Sandbox
    catalog: dict[str, Any]
    states: list[dict[str, Any]]
    targets: list[Target]

    def __repr__(self) -> str:
        """Be short: hypothesis prints it with each failure."""
        return f"Past({len(self.states)} states)"


@contextmanager
def past() -> Iterator[Past]:
    """Run the tap to copy the tables, then write rows."""
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


def claims_no_more(found: KeyspaceState, truth: KeyspaceState, table: str) -> bool:
    """Return whether a state claims no more of a table than is true."""
    group, true = found.group_of(table), truth.group_of(table)
    if group is None:
        return True
    if true is None or not _contains(true.position, group.position):
        return False
    if found.version(table) != truth.version(table):
        return False  # a target drops rows by their version
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
    """Return whether a table's version is lower than its rows', which no target accepts."""
    try:
        groups = state_of(state).groups
    except StateError:
        return False
    return any(v < truth.version(table) for group in groups for table, v in group.tables.items())


def _contains(whole: Vgtid, part: Vgtid) -> bool:
    if whole.shards.keys() != part.shards.keys():
        return False
    return all(whole.shards[shard].contains(gtids) for shard, gtids in part.shards.items())


def state_of(state: Any) -> KeyspaceState:
    """Read the state of the keyspace."""
    return parse("shop", bookmarks_of(state).get("vitess:shop"))
