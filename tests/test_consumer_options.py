"""A flush function a table, times in a zone, VStream's flags: on the sandbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.library import NAMES, QUICK, KilledError, Replica, Store, vitess
from support.shops import SHARDS, served, write
from support.taps import expected

from tap_vitess.errors import ConfigError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.settings import checked
from tap_vitess.vstream import Change, MemoryState, Query, changes, consume, state_at


def test_a_flush_function_for_each_table(sandbox: Sandbox) -> None:
    """Each is given its own items, in order; the state is saved when all have returned."""
    replicas, store = {name: Replica() for name in NAMES}, Store()
    flushes = {name: replica.flush for name, replica in replicas.items()}
    where = vitess(sandbox)
    consume(where, NAMES, flushes, store, follow=False, retry=QUICK)
    write(sandbox.cluster)

    def kill(word: str) -> None:
        raise KilledError(word)

    replicas["shop.beta"].fail = kill
    with pytest.raises(KilledError):
        consume(where, NAMES, flushes, store, follow=False, retry=QUICK)
    replicas["shop.beta"].fail = lambda _: None
    consume(where, NAMES, flushes, store, follow=False, retry=QUICK)
    for name, replica in replicas.items():
        assert {item.name for item in replica.seen} == {name}
        assert replica.contents(name) == expected(sandbox.cluster, "shop", name[5:])
    with pytest.raises(ConfigError, match="flush: a function for each table"):
        consume(where, NAMES, {"shop.alpha": print}, store, retry=QUICK)
    twice: dict[str | Query, Any] = {"shop.alpha": dict, Query("shop.alpha"): dict}
    with pytest.raises(ConfigError, match="there twice"):
        consume(where, twice, print, store, retry=QUICK)


def moments() -> Cluster:
    """Make a table of moments."""
    kinds = {"id": "bigint", "stamp": "timestamp(3)", "wall": "datetime", "none": "timestamp"}
    cluster = Cluster()
    cluster.create_keyspace("shop", SHARDS)
    columns = tuple(Column(name, kind, nullable=name != "id") for name, kind in kinds.items())
    cluster.create_table("shop", Table("moments", columns, primary_key=("id",)))
    row = {"stamp": b"2026-07-01 22:30:00.500", "wall": b"2026-07-01 22:30:00", "none": None}
    cluster.insert("shop", "moments", [{"id": b"%d" % i, **row} for i in range(3)])
    return cluster


@served(moments)
def test_times_in_a_zone(sandbox: Sandbox) -> None:
    """A TIMESTAMP is a moment and gets the zone; a DATETIME has none."""
    zone = ZoneInfo("Europe/Berlin")
    found = [
        item
        for item in changes(vitess(sandbox), ["shop.moments"], timezone=zone, retry=QUICK)
        if isinstance(item, Change)
    ]
    stamp = datetime(2026, 7, 2, 0, 30, 0, 500_000, tzinfo=zone)
    wall = datetime(2026, 7, 1, 22, 30)  # noqa: DTZ001 - it has no zone
    assert [change.after for change in found] == [
        {"id": change.key["id"], "stamp": stamp, "wall": wall, "none": None} for change in found
    ]
    assert all(str(c.after["stamp"]).endswith("00:30:00.500000+02:00") for c in found if c.after)
    seen: list[Change[Any]] = []
    state = MemoryState(state_at(vitess(sandbox), ["shop.moments"]))
    sandbox.cluster.update("shop", "moments", {"id": b"1"}, {"none": b"2026-01-01 00:00:00"})
    consume(
        vitess(sandbox),
        {"shop.moments": dict},
        lambda batch: seen.extend(batch.changes),
        state,
        timezone=zone,
        follow=False,
        retry=QUICK,
    )
    [change] = seen
    assert change.after is not None
    assert change.after["none"] == datetime(2026, 1, 1, 1, 0, tzinfo=zone)
    assert change.before is not None
    assert change.before["stamp"] == stamp
    assert change.commit_time is not None
    assert change.commit_time.tzinfo is zone
    with pytest.raises(ConfigError, match="timezone: rows as Arrow"):
        consume(vitess(sandbox), {"shop.moments": dict}, print, state, timezone=zone, rows="arrow")


def test_flags_of_vstream(sandbox: Sandbox) -> None:
    """They are in every request; those that would break a promise are refused, with why."""
    where = vitess(sandbox, minimize_skew=True, cell_preference="onlyspecified")
    list(changes(where, NAMES, retry=QUICK))
    flags = {(r.flags.minimize_skew, r.flags.cell_preference) for r in sandbox.requests}
    assert flags == {(True, "onlyspecified")}
    sandbox.requests.clear()
    list(changes(vitess(sandbox), NAMES, retry=QUICK))
    flags = {(r.flags.minimize_skew, r.flags.cell_preference) for r in sandbox.requests}
    assert flags == {(False, "")}
    for name in ("stop_on_reshard", "tablet_order", "tables_to_copy", "heartbeat_interval"):
        with pytest.raises(ConfigError, match=f"{name}: .*that flag of VStream is not set"):
            checked({"host": "h", name: "1"})
    with pytest.raises(ConfigError, match="cell_preference"):
        vitess(sandbox, cell_preference="best")
