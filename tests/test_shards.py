"""Several jobs, each with some of a keyspace's shards: together they have all, through reshards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from support.shops import TABLES, write
from support.taps import ImpatientTap, Target, expected, run, settings

from tap_vitess.sandbox.server import Sandbox


def job(table_of: Target) -> Target:
    """Make a target of another job that fills the same tables, with a state of its own."""
    return Target(tables=table_of.tables)


def run_job(sandbox: Sandbox, ranges: Sequence[str], target: Target, **more: Any) -> None:
    """Run a job of some ranges; a fault is not waited for."""
    run(settings(sandbox, shards=[*ranges], **more), target, tap_class=ImpatientTap)


def check_all(sandbox: Sandbox, target: Target) -> None:
    """Compare what all jobs have written with the source."""
    for name in TABLES:
        assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name), name


def positions(target: Target) -> set[str]:
    """Name the shards of a job's state."""
    [group] = target.state["bookmarks"]["vitess:shop"]["groups"]
    return {entry["shard"] for entry in json.loads(group["vgtid"])["shard_gtids"]}


def test_two_jobs_have_all(sandbox: Sandbox) -> None:
    """Each knows its own shards alone; none removes rows of the other."""
    first = Target()
    second = job(first)
    for change in (lambda _: None, write):
        change(sandbox.cluster)
        run_job(sandbox, ["-80"], first)
        run_job(sandbox, ["80-"], second)
        check_all(sandbox, first)
    assert (positions(first), positions(second)) == ({"-80"}, {"80-"})
    kinds = {message["type"] for target in (first, second) for message in target.messages}
    assert "ACTIVATE_VERSION" not in kinds
    asked = {e.shard for r in sandbox.requests for e in r.vgtid.shard_gtids}
    assert asked == {"-80", "80-"}
    assert all(len(r.vgtid.shard_gtids) == 1 for r in sandbox.requests)
