"""Shards whose positions are no GTIDs are told as such, by a run and by the doctor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.findings import brief, look, the
from support.shops import insert
from support.taps import Target, discover, run, settings, with_method

from tap_vitess.errors import GtidError
from tap_vitess.sandbox.cluster import Shard
from tap_vitess.sandbox.server import Sandbox


def _without_gtids(shard: Shard) -> None:
    shard.variables["gtid_mode"] = "OFF"


def _by_file(shard: Shard) -> None:
    shard.by_file = True


WAYS = pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_gtids, "shop/80-: MySQL runs with gtid_mode=OFF"),
        (_by_file, "shop/80-: 'FilePos/vt-bin.000001:.*' is a place in a binlog file"),
    ],
)


@WAYS
def test_a_run_says_so(sandbox: Sandbox, change: Callable[[Shard], None], words: str) -> None:
    """Before a first copy, and when it happens to a keyspace that is followed."""
    target = Target()
    run(settings(sandbox), target)
    change(sandbox.cluster.shard("shop", "80-"))
    insert(sandbox.cluster, "alpha", *range(500, 520))
    with pytest.raises(GtidError, match=f"{words}.*set gtid_mode=ON"):
        run(settings(sandbox), Target())
    with pytest.raises(GtidError, match=f"{words}.*set gtid_mode=ON"):
        run(settings(sandbox), target)


@WAYS
def test_the_doctor_says_so(sandbox: Sandbox, change: Callable[[Shard], None], words: str) -> None:
    """One error, of the shard or of a stream that was tried."""
    change(sandbox.cluster.shard("shop", "80-"))
    found = look(sandbox)
    check = "stream" if "FilePos" in words else "shard"
    assert {(severity, name) for severity, name, _ in brief(found)} == {("ERROR", check)}
    assert words.split("'", maxsplit=1)[0].removeprefix("shop/80-: ") in the(found, check).what


def test_full_table_needs_none(sandbox: Sandbox) -> None:
    """What is not followed is copied from such tablets as from any other."""
    for shard in ("-80", "80-"):
        _without_gtids(sandbox.cluster.shard("shop", shard))
    catalog = with_method(discover(settings(sandbox, tables=["shop.alpha"])), "shop-alpha", FULL)
    target = Target()
    assert run(settings(sandbox), target, catalog=catalog)
    assert len(target.contents("shop-alpha")) == 12


FULL = "FULL_TABLE"
