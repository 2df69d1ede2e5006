"""Level 1 of the library: a VStream's events as frozen objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.library import QUICK, vitess
from support.shops import SHARDS, insert, table, three_tables

from tap_vitess._proto.binlogdata_pb2 import (
    Journal,
    KeyspaceShard,
    ShardGtid,
    VEvent,
    VEventType,
    VGtid,
)
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column as SandboxColumn
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.vstream import (
    AuthError,
    BeginEvent,
    Column,
    CommitEvent,
    ConfigError,
    ConnectError,
    CopyCompletedEvent,
    CopyCutError,
    DdlEvent,
    Event,
    FieldEvent,
    HeartbeatEvent,
    JournalEvent,
    OtherEvent,
    ReopenedEvent,
    RowEvent,
    Tls,
    UnknownEvent,
    Vgtid,
    VgtidEvent,
    VitessError,
    events,
)
from tap_vitess.vstream.events import EventFeed

NAMES = ["shop.alpha", "shop.beta"]


def now(sandbox: Sandbox) -> Vgtid:
    """Return where the sandbox is."""
    return Vgtid.from_proto(
        "shop",
        [
            ShardGtid(keyspace="shop", shard=shard, gtid=text)
            for shard, text in sandbox.cluster.gtid_executed("shop").items()
        ],
    )


def until(found: Iterator[Event], kind: type[Event], count: int = 1) -> list[Event]:
    """Read up to the nth event of a kind."""
    seen: list[Event] = []
    for event in found:
        seen.append(event)
        count -= isinstance(event, kind)
        if not count:
            return seen
    raise AssertionError("the stream has ended")


def test_a_transaction(sandbox: Sandbox) -> None:
    """Its events in order, with Python's values; nothing of it can be changed."""
    start = now(sandbox)
    began = datetime.now(UTC) - timedelta(seconds=1)
    sandbox.cluster.update("shop", "alpha", {"id": b"3"}, {"name": b"new"})
    found = until(events(vitess(sandbox), NAMES, position=start), CommitEvent)
    kinds = [type(event) for event in found]
    assert kinds == [BeginEvent, FieldEvent, RowEvent, VgtidEvent, CommitEvent]
    _, fields, row, vgtid, _ = found
    assert isinstance(fields, FieldEvent)
    assert fields.columns[0] == Column("id", "bigint", "binary", is_key=True)
    assert isinstance(row, RowEvent)
    assert (row.table, row.keyspace) == ("alpha", "shop")
    assert (row.before, row.after) == ({"id": 3, "name": "n3"}, {"id": 3, "name": "new"})
    assert row.at is not None
    assert began <= row.at <= datetime.now(UTC)
    assert isinstance(vgtid, VgtidEvent)
    assert vgtid.vgtid == now(sandbox)
    assert vgtid.usable
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.table = "x"  # type: ignore[misc]


def test_a_copy(sandbox: Sandbox) -> None:
    """Then what is copied, and at its end an event without a shard."""
    found: list[Event] = []
    for event in events(vitess(sandbox), NAMES, copy=True):
        found.append(event)
        if isinstance(event, CopyCompletedEvent) and not event.shard:
            break
    rows = [event for event in found if isinstance(event, RowEvent)]
    assert sorted((r.table, r.after["id"]) for r in rows if r.after) == [
        (name, i) for name in ("alpha", "beta") for i in range(12)
    ]
    assert {r.at for r in rows} == {None}
    assert {r.before for r in rows} == {None}
    assert {e.shard for e in found if isinstance(e, CopyCompletedEvent)} == {*SHARDS, ""}
    assert not any(e.usable for e in found if isinstance(e, VgtidEvent))


def test_from_now_on(sandbox: Sandbox) -> None:
    """Without a position: what was before does not come, and heartbeats do."""
    stream = events(vitess(sandbox), NAMES)
    until(stream, HeartbeatEvent)
    insert(sandbox.cluster, "alpha", 70)
    [row] = [event for event in until(stream, CommitEvent) if isinstance(event, RowEvent)]
    assert row.after == {"id": 70, "name": "n70"}
    insert(sandbox.cluster, "alpha", *range(100, 120))
    *_, last = [event for event in until(stream, CommitEvent, 2) if isinstance(event, VgtidEvent)]
    assert last.usable
    assert last.vgtid.shards.keys() == set(SHARDS)


def test_ddl_and_other(sandbox: Sandbox) -> None:
    """A statement of these tables is told, of others only that the position moves."""
    start = now(sandbox)
    altered = table("alpha", SandboxColumn("more", "int"))
    sandbox.cluster.ddl("shop", "alter table alpha add column more int", altered)
    sandbox.cluster.ddl("shop", "truncate table empty", table("empty"))
    found = until(events(vitess(sandbox), NAMES, position=start), OtherEvent)
    assert {e.statement for e in found if isinstance(e, DdlEvent)} == {
        "alter table alpha add column more int"
    }


def test_a_fault_goes_on_at_the_last_boundary(sandbox: Sandbox) -> None:
    """It is told, and each row comes; what came behind the boundary comes twice."""
    start = now(sandbox)
    for i in range(20):
        insert(sandbox.cluster, "alpha", 100 + i)
    sandbox.faults.append(Fault(cut_after_events=23))
    found: list[Event] = []
    for event in events(vitess(sandbox), NAMES, position=start, retry=QUICK):
        found.append(event)
        rows = [e.after["id"] for e in found if isinstance(e, RowEvent) and e.after]
        if set(rows) == {100 + i for i in range(20)}:
            break
    [again] = [event for event in found if isinstance(event, ReopenedEvent)]
    before = found[: found.index(again)]
    last = [e for e in before if isinstance(e, VgtidEvent)]
    assert again.vgtid in [e.vgtid for e in last]
    commits = sum(isinstance(e, CommitEvent) for e in before)
    assert again.vgtid == last[commits - 1].vgtid


def test_a_copy_that_is_cut(sandbox: Sandbox) -> None:
    """It is an error: no position in it can be gone on from."""
    sandbox.faults.append(Fault(cut_in_copy=5))
    with pytest.raises(CopyCutError, match="cut in a copy"):
        for _ in events(vitess(sandbox), NAMES, copy=True, retry=QUICK):
            pass


def test_a_call_that_is_refused_at_first_is_tried_again(sandbox: Sandbox) -> None:
    """Also that of a copy, which had given nothing."""
    sandbox.faults.append(Fault(error="unavailable"))
    assert until(events(vitess(sandbox), NAMES, copy=True, retry=QUICK), RowEvent)


def test_a_reshard(sandbox: Sandbox) -> None:
    """VTGate goes on with the new shards; positions name them."""
    start = now(sandbox)
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    insert(sandbox.cluster, "alpha", *range(100, 130))
    names: set[str] = set()
    for event in events(vitess(sandbox), NAMES, position=start):
        if isinstance(event, VgtidEvent):
            names = set(event.vgtid.shards)
        if names == {"-40", "40-80", "80-"}:
            break


def test_the_iterator_can_be_told_to_stop(sandbox: Sandbox) -> None:
    """Also while nothing happens."""
    asked = iter([False, True])
    list(events(vitess(sandbox), NAMES, stop=lambda: next(asked)))


@pytest.mark.parametrize(
    ("tables", "more", "message"),
    [
        (["shop.alpha", "ref.alpha"], {}, "events are of one keyspace, not of shop, ref"),
        ([], {}, "name at least one"),
        (NAMES, {"copy": True, "position": Vgtid("shop", {})}, "begins without a position"),
        (NAMES, {"position": Vgtid("ref", {})}, "one of ref, not of shop"),
    ],
)
def test_what_cannot_be_asked_for(
    sandbox: Sandbox, tables: list[str], more: dict[str, Any], message: str
) -> None:
    """It is told before anything is opened."""
    with pytest.raises(ConfigError, match=message):
        events(vitess(sandbox), tables, **more)


def test_errors_are_the_librarys() -> None:
    """A table that is not there, a wrong password: the same errors as on all levels."""
    with serve(three_tables(), username="u", password="p") as sandbox:
        with pytest.raises(AuthError):
            next(events(vitess(sandbox, user="u", password="no"), NAMES))
        right = vitess(sandbox, user="u", password="p")
        assert until(events(right, NAMES, copy=True), RowEvent)
        with pytest.raises(VitessError):
            until(events(right, ["shop.none"], copy=True, retry=QUICK), RowEvent)


def test_tls_and_users(tmp_path: Path) -> None:
    """One argument each; without the authority's file nothing is sent."""
    ours = Authority(tmp_path / "ours")
    tls = ours.server("127.0.0.1")
    with serve(three_tables(), username="u", password="p", tls=tls) as sandbox:
        more = {"user": "u", "password": "p", "connect_timeout_seconds": 3}
        right = vitess(sandbox, tls=Tls(ca_file=ours.ca_file), **more)
        assert until(events(right, NAMES, copy=True), RowEvent)
        with pytest.raises(ConnectError, match="from another authority"):
            next(events(vitess(sandbox, tls=True, **more), NAMES))


def test_kinds_that_only_some_servers_send() -> None:
    """A journal is read, and what is not known is named."""
    feed = EventFeed("shop", ["alpha"], None, RequestOptions(), copy=False)
    uuid = "3e1e2083-9b67-52e3-be67-a5259638df3f"
    journal = Journal(
        participants=[KeyspaceShard(keyspace="shop", shard="-80")],
        shard_gtids=[ShardGtid(keyspace="shop", shard="-40", gtid=f"{uuid}:1-5")],
    )
    journals, unknown, new = feed.feed(
        [
            VEvent(type=VEventType.JOURNAL, shard="-80", journal=journal),
            VEvent(type=VEventType.VERSION, shard="-80"),
            VEvent(type=99, shard="-80"),  # type: ignore[arg-type]
        ]
    )
    assert isinstance(journals, JournalEvent)
    assert journals.participants == ("-80",)
    assert str(journals.targets.shards["-40"]).endswith("1-5")
    assert (unknown, new) == (
        UnknownEvent("shop", "-80", None, "VERSION"),
        UnknownEvent("shop", "-80", None, "99"),
    )


def test_an_other_within_a_transaction() -> None:
    """Its VGTID contains rows that are still to come: no call starts there."""
    uuid = "3e1e2083-9b67-52e3-be67-a5259638df3f"
    vgtid = [ShardGtid(keyspace="shop", shard="-80", gtid=f"MySQL56/{uuid}:1-5")]
    start = Vgtid.from_proto("shop", [ShardGtid(keyspace="shop", shard="-80", gtid=f"{uuid}:1-4")])
    feed = EventFeed("shop", ["alpha"], start, RequestOptions(), copy=False)
    told = VEvent(type=VEventType.VGTID, shard="-80", vgtid=VGtid(shard_gtids=vgtid))
    kinds = VEventType.BEGIN, VEventType.OTHER, VEventType.COMMIT
    begin, other, commit = (VEvent(type=kind, shard="-80") for kind in kinds)
    feed.feed([begin, told, other])
    assert feed.place(None) == start
    feed.feed([told, commit])
    assert feed.place("-80") == Vgtid.from_proto("shop", vgtid).shards["-80"]
