"""The sandbox's copies held beside recorded ones of a real Vitess; its model, and its faults."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import recordings
from support.sessions import (
    Shop,
    copied,
    ends_of_copy,
    everything,
    fields,
    has,
    open_call,
    request_for_items,
    request_of,
    serve_grpc,
    shapes,
    stream,
)

from tap_vitess._proto.binlogdata_pb2 import ShardGtid, VEvent, VEventType
from tap_vitess._proto.vtgate_pb2 import VStreamRequest, VStreamResponse
from tap_vitess.sandbox import Cluster, Column, Fault, Faults, Options, Table
from tap_vitess.sandbox.events import unpack
from tap_vitess.sandbox.schema import Row
from tap_vitess.sandbox.vstream import VStream

# The copy


def test_copy_of_all_tables(shop: Shop) -> None:
    recording = recordings.load("copy_all_tables")
    shop.fill_as_recorded()
    responses = stream(shop.cluster, recording.request, copied)
    assert shapes(responses) == shapes(recording.responses)
    assert ends_of_copy(responses) == ends_of_copy(recording.responses)


def test_copy_in_several_packets(shop: Shop) -> None:
    shop.fill("item", "-80", 5)
    request = request_of(ShardGtid(keyspace="shop", shard="-80"), tables=["item"])
    responses = stream(shop.cluster, request, copied, Options(copy_rows_per_packet=2))
    batch = ("ROW shop.item i flags=0", "VGTID stays item", "COMMIT")
    assert shapes(responses)["-80"] == [
        ("BEGIN", "FIELD shop.item strings=True"),
        ("VGTID moves",),
        batch,
        ("BEGIN",),
        batch,
        ("BEGIN",),
        batch,
        ("BEGIN", "VGTID stays", "COMMIT"),
        ("COPY_COMPLETED",),
    ]
    lastpks = [
        unpack(entry.lastpk.rows[0])[0]
        for response in responses
        for event in response.events
        for shard in event.vgtid.shard_gtids
        for entry in shard.table_p_ks
    ]
    keys = [row["id"] for row in shop.cluster.rows("shop", "item")]
    assert lastpks == [keys[1], keys[3], keys[4]]


def test_fields_are_those_of_a_real_tablet(shop: Shop) -> None:
    """Each FIELD of a copy, but for flags that come from defaults, which are not modelled."""
    recording = recordings.load("copy_all_tables")
    expected, found = (
        fields(responses)
        for responses in (recording.responses, stream(shop.cluster, recording.request, copied))
    )
    for told in expected.values():
        told.shard = ""
    for table, told in found.items():
        told.shard = ""
        for column in (*told.fields, *expected[table].fields):
            if column.name == "updated_at":
                column.flags &= ~(1024 | 4096 | 8192)
            if column.name == "born":
                column.flags |= 128
    assert found == expected


def test_lastpk_is_that_of_a_real_tablet(shop: Shop) -> None:
    recording = recordings.load("copy_all_tables")
    shop.fill_as_recorded()

    def lastpks(responses: Iterable[VStreamResponse]) -> dict[str, list[Any]]:
        return {
            entry.table_name: list(entry.lastpk.fields)
            for response in responses
            for event in response.events
            for shard in event.vgtid.shard_gtids
            for entry in shard.table_p_ks
        }

    responses = stream(shop.cluster, recording.request, copied)
    assert lastpks(responses) == lastpks(recording.responses)


def test_shards_not_begun_stand_in_the_vgtid_as_requested(shop: Shop) -> None:
    recording = recordings.load("copy_all_tables")
    responses = stream(shop.cluster, recording.request, has(2))
    (first,) = (event for event in responses[1].events if event.type == VEventType.VGTID)
    (told,) = (event for event in recording.responses[1].events if event.type == VEventType.VGTID)
    assert sorted(bool(entry.gtid) for entry in told.vgtid.shard_gtids) == [False, True]
    assert sorted(bool(entry.gtid) for entry in first.vgtid.shard_gtids) == [False, True]


def test_copy_with_writes(shop: Shop) -> None:
    recording = recordings.load("copy_with_writes")
    rows = [*shop.fill("item", "-80", 3), *shop.fill("item", "80-", 3)]
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(copied)
        updates = [({"id": row["id"]}, {"name": b"during"}) for row in rows]
        shop.cluster.update_many("shop", "item", updates)
        shop.cluster.insert("shop", "item", [shop.row("item", "80-")])
        responses += call.read(has(3))
    assert shapes(responses) == shapes(recording.responses)


def test_resumed_copy(shop: Shop) -> None:
    recording = recordings.load("copy_resume_in_table")
    for shard in ("-80", "80-"):
        shop.fill("item", shard, 3)
        shop.fill("line", shard, 3)
    request = VStreamRequest()
    request.CopyFrom(recording.request)
    begun = next(entry for entry in request.vgtid.shard_gtids if entry.shard == "80-")
    begun.gtid = f"MySQL56/{shop.cluster.gtid_executed('shop')['80-']}"
    begun.table_p_ks[0].lastpk.rows[0].values = b"9999"
    responses = stream(shop.cluster, request, copied)
    assert shapes(responses) == shapes(recording.responses)
    assert ends_of_copy(responses) == ends_of_copy(recording.responses)


def test_resume_goes_on_behind_the_lastpk(shop: Shop) -> None:
    shop.fill("item", "80-", 6)
    keys = [row["id"] for row in shop.cluster.rows("shop", "item")]
    start = ShardGtid(keyspace="shop", shard="80-")
    with serve_grpc(shop.cluster, options=Options(copy_rows_per_packet=2)) as sandbox:
        with open_call(sandbox, request_of(start, tables=["item"])) as call:
            responses = call.read(has(3))
        (entry,) = responses[-1].events[-2].vgtid.shard_gtids
        assert entry.table_p_ks
        with open_call(sandbox, request_of(entry, tables=["item"])) as call:
            resumed = call.read(copied)
        fresh = ShardGtid(keyspace="shop", shard="80-", table_p_ks=entry.table_p_ks)
        with open_call(sandbox, request_of(fresh, tables=["item"])) as call:
            refreshed = call.read(copied)
    assert _inserted(responses) + _inserted(resumed) == keys
    assert _inserted(refreshed) == keys[2:]


def test_position_between_tables_copies_nothing(shop: Shop) -> None:
    """The trap: a VGTID without TablePKs says that the copy is over, although line was not."""
    recording = recordings.load("copy_resume_between_tables")
    assert recording.responses == []
    shop.fill_as_recorded()
    request = request_of(*everything(shop.cluster), tables=["item", "line"])
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, request, seconds=0.3) as call,
    ):
        responses, code, _ = call.rest()
    assert (responses, code.name) == ([], recording.end)


def test_interrupted_copies(shop: Shop) -> None:
    for name in ("copy_interrupted_in_table", "copy_interrupted_between_tables"):
        recording = recordings.load(name)
        found = Shop()
        for shard in ("-80", "80-"):
            found.fill("item", shard, 3)
            found.fill("line", shard, 3)
        responses = stream(found.cluster, recording.request, copied)
        for shard, expected in shapes(recording.responses).items():
            assert shapes(responses)[shard][: len(expected)] == expected
    assert shop.cluster.rows("shop", "item") == []


def test_catchup_drops_tables_not_begun(shop: Shop) -> None:
    """Between two tables: the first one's changes, and of the second's only the position."""
    (item,) = shop.fill("item", "-80")
    shop.fill("line", "-80")
    entry = ShardGtid(keyspace="shop", shard="-80")
    call = VStream(shop.cluster, request_of(entry, tables=["item", "line"]))
    responses = (VStreamResponse(events=events) for events in call.responses())
    first = list(islice(responses, 4))
    shop.cluster.update("shop", "item", {"id": item["id"] or b""}, {"name": b"new"})
    shop.fill("line", "-80")
    rest = list(islice(responses, 6))
    call.stop()
    assert shapes([*first, *rest])["-80"][4:] == [
        (
            "BEGIN at",
            "FIELD at shop.item strings=False",
            "ROW at shop.item u flags=1",
            "VGTID moves",
            "COMMIT at",
        ),
        ("BEGIN at", "VGTID moves", "COMMIT at"),
        ("BEGIN", "FIELD shop.line strings=True"),
        ("ROW shop.line i flags=0", "VGTID stays line", "COMMIT"),
        ("BEGIN", "VGTID stays", "COMMIT"),
        ("COPY_COMPLETED",),
    ]
    assert len(_inserted(rest)) == 2


def test_stale_entries_stay(shop: Shop) -> None:
    shop.fill("item", "-80")
    entry = ShardGtid(keyspace="shop", shard="-80")
    with serve_grpc(shop.cluster) as sandbox:
        with open_call(sandbox, request_of(entry, tables=["item"])) as call:
            (told,) = call.read(has(3))[-1].events[-2].vgtid.shard_gtids
        with open_call(sandbox, request_of(told, tables=["line"])) as call:
            responses = call.read(copied)
    assert shapes(responses)["-80"][-2] == ("BEGIN", "VGTID moves item", "COMMIT")


def _inserted(responses: Iterable[VStreamResponse]) -> list[bytes | None]:
    return [
        unpack(change.after)[0]
        for response in responses
        for event in response.events
        for change in event.row_event.row_changes
        if not event.timestamp
    ]


# What follows the events has the table


def _apply(contents: dict[str, Row], event: VEvent, names: list[str]) -> None:
    for change in event.row_event.row_changes:
        if change.HasField("before"):
            before = dict(zip(names, unpack(change.before), strict=True))
            contents.pop(str(before["id"]), None)
        if change.HasField("after"):
            after = dict(zip(names, unpack(change.after), strict=True))
            contents[str(after["id"])] = after


@settings(max_examples=40)
@given(
    before=st.integers(0, 9),
    writes=st.lists(st.tuples(st.sampled_from("iuudmr"), st.integers(1, 30)), max_size=25),
    batch=st.integers(1, 4),
)
def test_whoever_applies_the_events_has_the_table(
    before: int, writes: list[tuple[str, int]], batch: int
) -> None:
    """Copy and binlog together, whatever is written in between and when shards split."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    names = ["id", "v"]
    columns = Column("id", "bigint", nullable=False), Column("v", "varchar(20)")
    for name in ("a", "b"):
        cluster.create_table("shop", Table(name, columns, ("id",)))
        rows = [{"id": b"%d" % number, "v": b"old"} for number in range(before)]
        cluster.insert("shop", name, rows)
    request = request_of(ShardGtid(keyspace="shop"), tables=["a", "b"])
    call = VStream(cluster, request, Options(copy_rows_per_packet=batch))
    contents: dict[str, dict[str, Row]] = {"shop.a": {}, "shop.b": {}}
    todo = iter(writes)
    completed = False
    target: dict[str, str] = {}
    for events in call.responses():
        for event in events:
            if event.type == VEventType.ROW:
                _apply(contents[event.row_event.table_name], event, names)
            completed |= event.type == VEventType.COPY_COMPLETED and not event.shard
        told = [event for event in events if event.type == VEventType.VGTID]
        write = next(todo, None)
        if write is not None:
            _write(cluster, *write, split=completed)
        elif completed and not target:
            for shard in cluster.shards("shop"):
                cluster.other_write("shop", shard)
            target = cluster.gtid_executed("shop")
        elif told and _position(told[-1]) == target:
            break
    call.stop()
    for name in ("a", "b"):
        present = {str(row["id"]): row for row in cluster.rows("shop", name)}
        assert contents[f"shop.{name}"] == present


def _write(cluster: Cluster, kind: str, number: int, *, split: bool) -> None:
    key = {"id": b"%d" % number}
    table = "a" if number % 2 else "b"
    exists = any(row["id"] == key["id"] for row in cluster.rows("shop", table))
    if kind == "i" and not exists:
        cluster.insert("shop", table, [{**key, "v": b"new"}])
    elif kind == "u":
        cluster.update("shop", table, key, {"v": b"changed %d" % cluster.version})
    elif kind == "d":
        cluster.delete("shop", table, key)
    elif kind == "m" and exists:
        cluster.update("shop", table, key, {"id": b"%d" % (1000 + cluster.version)})
    elif kind == "r" and split and cluster.shards("shop") == ["-80", "80-"]:
        cluster.reshard("shop", ["80-"], ["80-c0", "c0-"])
    for shard in cluster.shards("shop"):
        cluster.other_write("shop", shard)


def _position(event: VEvent) -> dict[str, str]:
    return {entry.shard: entry.gtid.removeprefix("MySQL56/") for entry in event.vgtid.shard_gtids}


# The model


def test_failed_statement_leaves_nothing(shop: Shop) -> None:
    (row,) = shop.fill("item", "-80")
    other = shop.row("item", "-80")
    position = shop.cluster.gtid_executed("shop")
    with pytest.raises(ValueError, match="Duplicate entry"):
        shop.cluster.insert("shop", "item", [other, row])
    with pytest.raises(ValueError, match="cannot be null"):
        shop.cluster.insert("shop", "item", [{"id": b"77"}])
    assert shop.cluster.rows("shop", "item") == [row]
    assert shop.cluster.gtid_executed("shop") == position


def test_failed_transaction_leaves_nothing(shop: Shop) -> None:
    (row,) = shop.fill("item", "-80")
    position = shop.cluster.gtid_executed("shop")

    def delete_and_fail() -> None:
        with shop.cluster.transaction("shop"):
            shop.cluster.delete("shop", "item", {"id": row["id"] or b""})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        delete_and_fail()
    assert shop.cluster.rows("shop", "item") == [row]
    assert shop.cluster.gtid_executed("shop") == position


def test_order_of_keys(shop: Shop) -> None:
    """Numbers by value, text without case and accents."""
    shop.cluster.insert(
        "shop", "person", [{"email": mail.encode()} for mail in ("b", "Ä2", "a1", "A3", "a10")]
    )
    mails = [(row["email"] or b"").decode() for row in shop.cluster.rows("shop", "person")]
    assert mails == ["a1", "a10", "Ä2", "A3", "b"]


def test_uuids_are_the_same_each_time() -> None:
    assert Shop().cluster.shard("shop", "-80").uuid == Shop().cluster.shard("shop", "-80").uuid


@pytest.mark.parametrize("shards", [["-80"], ["-80", "a0-"], ["-80", "40-"], []])
def test_shards_must_cover_all_keys(shards: list[str]) -> None:
    with pytest.raises(ValueError, match="shards"):
        Cluster().create_keyspace("bad", shards)


# Faults


def test_cut_after_events(shop: Shop) -> None:
    request = request_for_items(shop)
    with serve_grpc(shop.cluster) as sandbox:
        sandbox.faults.append(Fault(cut_after_events=5))
        with open_call(sandbox, request) as call:
            responses, code, _ = call.rest()
        assert code == grpc.StatusCode.UNAVAILABLE
        assert sum(len(response.events) for response in responses) == 5
        with open_call(sandbox, request) as call:
            assert call.read(copied)
        assert not sandbox.faults
        assert sandbox.requests == [request, request]


def test_cut_in_copy(shop: Shop) -> None:
    faults = Faults([Fault(cut_in_copy=4, times=None)])
    request = request_for_items(shop)
    with serve_grpc(shop.cluster, faults=faults) as sandbox:
        for _ in range(2):
            with open_call(sandbox, request) as call:
                responses, code, _ = call.rest()
            assert code == grpc.StatusCode.UNAVAILABLE
            assert len(_inserted(responses)) == 4
        faults.clear()
        with open_call(sandbox, request) as call:
            assert call.read(copied)


def test_cut_after_events_of_all_streams(shop: Shop) -> None:
    request = request_for_items(shop)
    faults = Faults([Fault(cut_after_all_events=9)])
    with (
        serve_grpc(shop.cluster, faults=faults) as sandbox,
        open_call(sandbox, request) as call,
    ):
        call.read(has(2))
        assert call.rest()[1] == grpc.StatusCode.UNAVAILABLE


def test_fault_with_a_recorded_error(shop: Shop) -> None:
    request = request_for_items(shop)
    with serve_grpc(shop.cluster) as sandbox:
        sandbox.faults.append(Fault(error="error_purged_gtid"))
        sandbox.faults.append(Fault(error=("ABORTED", "because"), cut_after_events=1))
        with open_call(sandbox, request) as call:
            responses, code, details = call.rest()
        assert (responses, code) == ([], grpc.StatusCode.UNKNOWN)
        assert "(errno 1236)" in details
        with open_call(sandbox, request) as call:
            responses, code, details = call.rest()
        assert (len(responses), code, details) == (1, grpc.StatusCode.ABORTED, "because")


@pytest.mark.slow
def test_stall(shop: Shop) -> None:
    request = request_for_items(shop)
    request.flags.heartbeat_interval = 1
    faults = Faults([Fault(stall_after_events=3)])
    with (
        serve_grpc(shop.cluster, faults=faults) as sandbox,
        open_call(sandbox, request, seconds=1.6) as call,
    ):
        responses, code, _ = call.rest()
    types = [event.type for response in responses for event in response.events]
    assert types[3:] == [VEventType.HEARTBEAT]
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
