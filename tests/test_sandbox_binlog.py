"""The sandbox's binlog and reshards held beside recorded sessions of a real Vitess."""

from collections.abc import Callable, Iterable
from itertools import groupby

import grpc
import pytest
from support import recordings
from support.sessions import (
    Shop,
    copied,
    everything,
    fields,
    has,
    open_call,
    request_of,
    serve_grpc,
    shapes,
    stream,
)

from tap_vitess._proto.binlogdata_pb2 import FieldEvent, Rule, ShardGtid, VEvent, VEventType
from tap_vitess._proto.vtgate_pb2 import VStreamResponse
from tap_vitess.sandbox import Cluster, Column, Options, Table
from tap_vitess.sandbox.events import unpack
from tap_vitess.sandbox.schema import Row

# The binlog


def test_binlog_dml(shop: Shop) -> None:
    recording = recordings.load("binlog_dml")
    cluster = shop.cluster
    rows = shop.fill("item", "80-", 5)
    (doc,) = shop.fill("doc", "80-")
    with serve_grpc(cluster) as sandbox, open_call(sandbox, recording.request) as call:
        responses = call.read(has(2))
        cluster.update_many("shop", "item", [({"id": row["id"]}, {"qty": b"9"}) for row in rows])
        cluster.update("shop", "item", {"id": rows[0]["id"] or b""}, {"qty": b"99"})
        cluster.update("shop", "doc", {"id": doc["id"] or b""}, {"txt": b"u"})
        with cluster.transaction("shop"):
            for shard in ("80-", "-80", "80-"):
                cluster.insert("shop", "item", [shop.row("item", shard)])
            lines = [shop.row("line", shard) for shard in ("80-", "-80", "80-")]
            cluster.insert("shop", "line", lines)
        responses += call.read(has(5))
    assert shapes(responses) == shapes(recording.responses)


def test_binlog_deletes_and_key_updates(shop: Shop) -> None:
    recording = recordings.load("binlog_dml_2")
    cluster = shop.cluster
    (item,), (line,) = shop.fill("item", "80-"), shop.fill("line", "80-")
    (person,) = shop.fill("person", "-80")
    with serve_grpc(cluster) as sandbox, open_call(sandbox, recording.request) as call:
        responses = call.read(has(2))
        shop.fill("item", "-80")
        cluster.delete("shop", "item", {"id": item["id"] or b""})
        cluster.update("shop", "line", {"order_id": line["order_id"] or b""}, {"line_no": b"77"})
        cluster.update("shop", "person", {"email": person["email"] or b""}, {"name": b"Ann C"})
        keyless = shop.fill("nopk", "80-", 2)
        cluster.delete("shop", "nopk", {"k": keyless[0]["k"] or b""})
        responses += call.read(has(6))
    assert shapes(responses) == shapes(recording.responses)


def test_binlog_of_other_tables(shop: Shop) -> None:
    recording = recordings.load("binlog_unrelated_writes")
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(has(2))
        shop.fill("item", "80-")
        shop.fill("line", "-80")
        shop.write_elsewhere("80-", 1)
        responses += call.read(has(3))
    assert shapes(responses) == shapes(recording.responses)


def test_big_transaction(shop: Shop) -> None:
    recording = recordings.load("binlog_big_transaction")
    rows = [shop.row("item", "-80", name=b"x" * 20) for _ in range(3000)]
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(has(2))
        shop.cluster.insert("shop", "item", rows)
        responses += call.read(has(1))
    assert shapes(responses) == shapes(recording.responses)
    changes = [event.row_event.row_changes for event in responses[-1].events]
    assert sum(map(len, changes)) == len(rows)


def test_transaction_over_several_responses(shop: Shop) -> None:
    """Nothing of another shard comes between the parts."""
    start = everything(shop.cluster)
    with shop.cluster.transaction("shop"):
        shop.fill("item", "-80", 1000)
        shop.fill("item", "80-", 1000)

    def committed(responses: list[VStreamResponse]) -> bool:
        types = [event.type for response in responses for event in response.events]
        return types.count(VEventType.COMMIT) == 2

    request = request_of(*start, tables=["item"])
    responses = stream(shop.cluster, request, committed, Options(packet_bytes=20_000))
    shards = [response.events[0].shard for response in responses]
    assert [shard for shard, _ in groupby(shards)] == ["-80", "80-"]
    for shard in ("-80", "80-"):
        parts = [response for response in responses if response.events[0].shard == shard]
        assert len(parts) > 2
        assert max(response.ByteSize() for response in parts) < 25_000


def test_ddl(shop: Shop) -> None:
    recording = recordings.load("binlog_ddl")
    cluster = shop.cluster
    key = Column("id", "bigint(20)", nullable=False)
    small, big, text = Column("a", "int(11)"), Column("a", "bigint(20) unsigned"), "varchar(10)"
    moment = Column("c", "datetime(3)")
    definitions = [
        (key, small, Column("b", text)),
        (key, small, moment, Column("b", text)),
        (key, big, moment, Column("b", text)),
        (key, big, moment, Column("bb", text)),
        (key, big, Column("bb", text)),
        None,  # truncate
        (key, big, Column("bb", text)),
        None,  # drop
    ]
    statements = [statement for statement in recording.sql if "insert" not in statement]
    statements[-1] = "DROP TABLE `evolved` /* generated by server */"
    # The recorded stream met each DDL at once; this one may lag behind.
    options = Options(track_schema_versions=True)
    with (
        serve_grpc(cluster, options=options) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(has(2))
        for statement, columns in zip(statements, definitions, strict=True):
            name = "evolved" if "evolved" in statement else "evolve"
            table = Table(name, columns, ("id",)) if columns else None
            cluster.ddl("shop", statement, table)
            if "DROP" not in statement:
                shop.fill(name, "-80")
            if "add column" in statement:
                shop.write_elsewhere("-80", 1)
        responses += call.read(_counts(-80, len(shapes(recording.responses)["-80"]) - 1))
    told, found = shapes(recording.responses)["-80"], shapes(responses)["-80"]
    assert found[: len(told)] == told
    assert "evolved" not in cluster.tables("shop")
    fields_told = _all_fields(recording.responses)
    assert _all_fields(responses)[: len(fields_told)] == fields_told


def test_ddl_of_another_table_is_other(shop: Shop) -> None:
    start = everything(shop.cluster)
    shop.cluster.ddl("shop", "create table x (id int)", None)
    responses = stream(shop.cluster, request_of(*start, tables=["item"]), has(2))
    assert shapes(responses)["-80"][0] == ("VGTID moves", "OTHER at")


def test_ddl_changes_rows(shop: Shop) -> None:
    (row,) = shop.fill("line", "-80")
    table = shop.cluster.tables("shop")["line"]
    columns = (*table.columns[:-1], Column("new", "int"))
    shop.cluster.ddl("shop", "alter table line ...", Table("line", columns, table.primary_key))
    expected = {name: value for name, value in row.items() if name != "qty"} | {"new": None}
    assert shop.cluster.rows("shop", "line") == [expected]


_ID, _A, _N = Column("id", "bigint", nullable=False), Column("a", "varchar(10)"), Column("n", "int")
_B, _E = Column("b", "varchar(10)"), Column("e", "enum('x','y')")
_PLAIN = ["id", "a", "b", "n", "e"]
_VALUES = [b"1", b"a1", b"b1", b"-5", b"x"]


@pytest.mark.parametrize(
    ("columns", "names", "values"),
    [
        ((_ID, _A, _B, _N, _E, Column("z", "int")), _PLAIN, _VALUES),
        ((_ID, Column("a", "varchar(40)"), _B, _N, _E), _PLAIN, _VALUES),
        ((Column("z", "int"), _ID, _A, _B, _N, _E), None, _VALUES),
        ((_ID, Column("z", "varchar(10)"), _A, _B, _N, _E), None, _VALUES),
        ((_ID, _B, _N, _E, Column("c", "int")), None, _VALUES),
        ((_ID, _A, _B, Column("n", "bigint"), _E), None, _VALUES),
        ((_ID, _A, _B, Column("n", "varchar(9)"), _E), None, _VALUES),
        ((_ID, Column("aa", "varchar(10)"), _B, _N, _E), ["id", "aa", "b", "n", "e"], _VALUES),
        ((_ID, _B, _A, _N, _E), ["id", "b", "a", "n", "e"], _VALUES),
        (
            (_ID, _A, _B, Column("n", "int unsigned"), _E),
            _PLAIN,
            [b"1", b"a1", b"b1", b"4294967291", b"x"],
        ),
        (
            (_ID, _A, _B, _N, Column("e", "enum('z','y')")),
            _PLAIN,
            [b"1", b"a1", b"b1", b"-5", b"z"],
        ),
        ((_ID, _A, _B, _N), "cannot determine table columns for d: event has", []),
        (None, "unknown table d in schema", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_old_rows_are_read_with_todays_definition(
    columns: tuple[Column, ...] | None, names: list[str] | str | None, values: list[bytes]
) -> None:
    """As a real tablet without schema tracking did (v22), case by case."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    cluster.create_table("shop", Table("d", (_ID, _A, _B, _N, _E), ("id",)))
    start = everything(cluster)
    cluster.insert("shop", "d", [dict(zip(_PLAIN, _VALUES, strict=True))])
    cluster.ddl("shop", "alter table d ...", Table("d", columns, ("id",)) if columns else None)
    if columns is None:
        cluster.ddl("shop", "drop table d", None)
    else:
        cluster.insert("shop", "d", [{"id": b"2"}])
    request = request_of(*start, tables=["d"])
    if isinstance(names, str):
        with pytest.raises(grpc.RpcError, match=names):
            stream(cluster, request, has(2))
        return
    events = [event for response in stream(cluster, request, has(4)) for event in response.events]
    old, new = (e.field_event.fields for e in events if e.type == VEventType.FIELD)
    assert [field.name for field in old] == (names or [f"@{i}" for i in range(1, 6)])
    assert all(field.column_type for field in old) is bool(names)
    assert columns is not None
    assert [field.name for field in new] == [column.name for column in columns]
    row = next(e.row_event.row_changes[0].after for e in events if e.type == VEventType.ROW)
    assert unpack(row) == values


def test_current_when_idle(shop: Shop) -> None:
    recording = recordings.load("current_idle_heartbeat")
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(has(3))
    told = recording.responses[:3]
    assert shapes(responses) == shapes(told)
    heartbeat = responses[2].events[0]
    assert heartbeat.ListFields()[0][1] == VEventType.HEARTBEAT
    assert [name.name for name, _ in heartbeat.ListFields()] == [
        name.name for name, _ in told[2].events[0].ListFields()
    ]
    first = responses[0].events[0].vgtid.shard_gtids
    assert sorted(entry.gtid == "current" for entry in first) == [False, True]


def test_column_lists_and_regexps(shop: Shop) -> None:
    shop.fill("item", "-80")
    rules = [Rule(match="item", filter="select `qty`, name from `item`"), Rule(match="/^per")]
    entry = ShardGtid(keyspace="shop", shard="-80")
    responses = stream(shop.cluster, request_of(entry, rules=rules), copied)
    told = fields(responses)
    assert sorted(told) == ["shop.item", "shop.person"]
    assert [column.name for column in told["shop.item"].fields] == ["qty", "name"]


def test_update_that_moves_a_row(shop: Shop) -> None:
    (row,) = shop.fill("item", "-80")
    start = everything(shop.cluster)
    moved = shop.row("item", "80-")
    shop.cluster.update("shop", "item", {"id": row["id"] or b""}, {"id": moved["id"]})
    responses = stream(shop.cluster, request_of(*start, tables=["item"]), has(2))
    assert "ROW at shop.item d flags=1" in shapes(responses)["-80"][0]
    assert "ROW at shop.item i flags=1" in shapes(responses)["80-"][0]


def _counts(shard: int, number: int) -> Callable[[list[VStreamResponse]], bool]:
    name = f"{shard}"
    return lambda got: sum(item.events[0].shard == name for item in got) >= number


def _all_fields(responses: Iterable[VStreamResponse]) -> list[FieldEvent]:
    return [
        event.field_event
        for response in responses
        for event in response.events
        if event.type == VEventType.FIELD
    ]


# Resharding


def test_reshard_from_an_old_position(shop: Shop) -> None:
    recording = recordings.load("reshard_old_position")
    cluster = shop.cluster
    start = everything(cluster)
    for _ in range(2):
        with cluster.transaction("shop"):
            rows = [shop.row("item", shard) for shard in ("-80", "80-")]
            cluster.insert("shop", "item", rows)
    shop.write_elsewhere("-80", 4)
    cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    with cluster.transaction("shop"):
        rows = [shop.row("item", shard) for shard in ("-40", "40-80", "80-")]
        cluster.insert("shop", "item", rows)
    responses = stream(
        cluster, request_of(*start, tables=["item", "line"]), has(len(recording.responses))
    )
    assert shapes(responses) == shapes(recording.responses)
    last = next(e for e in responses[-1].events if e.type == VEventType.VGTID)
    assert [entry.shard for entry in last.vgtid.shard_gtids] == ["80-", "-40", "40-80"]


def test_reshard_of_an_open_stream(shop: Shop) -> None:
    recording = recordings.load("reshard_followed")
    cluster = shop.cluster
    cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    cluster.drop_old_shards("shop")
    with serve_grpc(cluster) as sandbox, open_call(sandbox, recording.request) as call:
        responses = call.read(has(3))
        with cluster.transaction("shop"):
            for shard in ("-40", "40-80", "80-"):
                shop.fill("item", shard)
        shop.write_elsewhere("80-", 4)
        cluster.reshard("shop", ["80-"], ["80-c0", "c0-"])
        (late,) = shop.fill("item", "c0-")
        responses += call.read(
            lambda got: any(_has_row(event, late) for item in got for event in item.events)
        )
    found = shapes(responses)
    told = shapes(recording.responses)
    assert {shard: found[shard] for shard in told} == told
    assert found["c0-"][-1][1:3] == (
        "FIELD at shop.item strings=False",
        "ROW at shop.item i flags=1",
    )


def test_reshard_that_stops_the_stream(shop: Shop) -> None:
    recording = recordings.load("reshard_stopped")
    cluster = shop.cluster
    cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    cluster.drop_old_shards("shop")
    with serve_grpc(cluster) as sandbox, open_call(sandbox, recording.request) as call:
        responses = call.read(has(3))
        with cluster.transaction("shop"):
            for shard in ("-40", "40-80", "80-"):
                shop.fill("item", shard)
        shop.write_elsewhere("80-", 4)
        cluster.reshard("shop", ["80-"], ["80-c0", "c0-"])
        responses += call.read(has(len(recording.responses) - 3))
    assert shapes(responses) == shapes(recording.responses)
    journal = next(e.journal for r in responses for e in r.events if e.HasField("journal"))
    assert [entry.shard for entry in journal.participants] == ["80-"]
    assert sorted(entry.shard for entry in journal.shard_gtids) == ["80-c0", "c0-"]


def test_reshard_keeps_every_row(shop: Shop) -> None:
    shop.fill("item", "-80", 20)
    shop.fill("item", "80-", 20)
    before = shop.cluster.rows("shop", "item")
    shop.cluster.reshard("shop", ["-80", "80-"], ["-"])
    assert shop.cluster.rows("shop", "item") == before
    assert shop.cluster.shards("shop") == ["-"]


def test_reshard_waits_for_every_old_shard(shop: Shop) -> None:
    """The new shard comes once, and only when both old ones have come to the journal."""
    start = everything(shop.cluster)
    shop.write_elsewhere("80-", 20)
    shop.cluster.reshard("shop", ["-80", "80-"], ["-"])
    shop.fill("item", "-")
    responses = stream(
        shop.cluster,
        request_of(*start, tables=["item"]),
        lambda got: any(event.type == VEventType.ROW for item in got for event in item.events),
    )
    lists = [
        [entry.shard for entry in event.vgtid.shard_gtids]
        for response in responses
        for event in response.events
        if event.type == VEventType.VGTID
    ]
    assert [shards for shards, _ in groupby(lists)] == [["-80", "80-"], ["-"]]


def test_reshard_with_one_participant_missing(shop: Shop) -> None:
    start = everything(shop.cluster)
    shop.cluster.reshard("shop", ["-80", "80-"], ["-"])
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, request_of(start[0], tables=["item"])) as call,
    ):
        _, code, details = call.rest()
    assert code == grpc.StatusCode.INTERNAL
    assert "not all journaling participants are in the stream" in details


def _has_row(event: VEvent, row: Row) -> bool:
    return any(
        change.after.values.startswith(row["id"] or b"") for change in event.row_event.row_changes
    )
