"""The sandbox held beside recorded sessions of a real Vitess.

`shapes` turns responses into what must agree: per shard the responses, and in them the types of
the events, which have timestamps, the tables, the images of rows, where the position moves and
which tables a VGTID names. Runs of equal ROW events count as one, because the recorded tables
hold other numbers of rows.
"""

import gc
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any

import grpc
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from support import recordings

from tap_vitess._proto.binlogdata_pb2 import FieldEvent, Filter, Rule, ShardGtid, VEvent, VEventType
from tap_vitess._proto.vtgate_pb2 import TabletType, VStreamRequest, VStreamResponse
from tap_vitess.sandbox import Cluster, Column, Fault, Faults, Options, Sandbox, Table, Tls, serve
from tap_vitess.sandbox.cluster import keyspace_id
from tap_vitess.sandbox.events import unpack
from tap_vitess.sandbox.sample import sample_cluster
from tap_vitess.sandbox.schema import Row
from tap_vitess.sandbox.vstream import VStream

SECONDS = 10.0  # no call of these tests takes as long

Shapes = dict[str, list[tuple[str, ...]]]


# Shapes


def shapes(responses: Iterable[VStreamResponse]) -> Shapes:
    """Per shard, its responses as tuples of words."""
    found: Shapes = defaultdict(list)
    positions: dict[str, str] = {}
    for response in responses:
        shard = response.events[0].shard
        assert {event.shard for event in response.events} <= {shard, ""}, "shards are mixed"
        words = [_word(event, positions) for event in response.events]
        found[shard].append(tuple(word for word, _ in groupby(words) if word))
    return dict(found)


def _word(event: VEvent, positions: dict[str, str]) -> str:
    name = VEventType.Name(event.type)
    assert bool(event.timestamp) == bool(event.current_time)
    if event.type == VEventType.COPY_COMPLETED and not event.shard:
        return ""  # which shard is last differs; `ends_of_copy` looks at it
    if event.type == VEventType.VGTID:
        return f"{name} {_movement(event, positions)}"
    if event.timestamp:
        name += " at"
    if event.type == VEventType.FIELD:
        told = event.field_event
        return f"{name} {told.table_name} strings={told.enum_set_string_values}"
    if event.type == VEventType.ROW:
        row = event.row_event
        images = {
            "u" if change.HasField("before") and change.HasField("after")
            else "d" if change.HasField("before") else "i"
            for change in row.row_changes
        }  # fmt: skip
        return f"{name} {row.table_name} {''.join(sorted(images))} flags={row.flags}"
    return f"{name} {event.statement}".rstrip()


def _movement(event: VEvent, positions: dict[str, str]) -> str:
    """Whether the shard's own position is new, and which tables are named."""
    assert not event.timestamp
    (own,) = (entry for entry in event.vgtid.shard_gtids if entry.shard == event.shard)
    moved = "moves" if positions.get(own.shard) != own.gtid else "stays"
    positions[own.shard] = own.gtid
    return f"{moved} {' '.join(entry.table_name for entry in own.table_p_ks)}".rstrip()


def ends_of_copy(responses: Iterable[VStreamResponse]) -> list[list[str]]:
    """The responses with COPY_COMPLETED, each as the list of its events' shards or `all`."""
    return [
        ["shard" if event.shard else "all" for event in response.events]
        for response in responses
        if any(event.type == VEventType.COPY_COMPLETED for event in response.events)
    ]


def fields(responses: Iterable[VStreamResponse]) -> dict[str, FieldEvent]:
    return {
        event.field_event.table_name: event.field_event
        for response in responses
        for event in response.events
        if event.type == VEventType.FIELD
    }


# A cluster like the recorded one


def table_of(told: FieldEvent) -> Table:
    """The definition a recorded FIELD speaks of."""
    keys = tuple(item.name for item in told.fields if item.flags & 2)
    columns = tuple(
        Column(
            item.name,
            item.column_type,
            nullable=not item.flags & 1,
            collation_id=item.charset,
        )
        for item in told.fields
    )
    return Table(told.table_name.removeprefix("shop."), columns, keys)


@dataclass
class Shop:
    """The keyspace `shop` with the tables of the recordings."""

    cluster: Cluster = field(default_factory=Cluster)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.cluster.create_keyspace("shop", ["-80", "80-"])
        for told in fields(recordings.load("copy_all_tables").responses).values():
            self.cluster.create_table("shop", table_of(told))

    def row(self, table: str, shard: str, **values: bytes | None) -> Row:
        """A row that belongs to the shard; what is not given is made up."""
        definition = self.cluster.tables("shop")[table]
        key = definition.copy_key[0]
        row: Row = {column.name: None if column.nullable else b"1" for column in definition.columns}
        if "updated_at" in row:
            row["updated_at"] = b"2024-01-01 00:00:00.000"
        row |= values
        for number in self.numbers:
            row[key] = str(number).encode()
            if self.cluster.shard("shop", shard).covers(keyspace_id(definition, row)):
                break
        return row

    def fill(self, table: str, shard: str, rows: int = 1) -> list[Row]:
        made = [self.row(table, shard) for _ in range(rows)]
        self.cluster.insert("shop", table, made)
        return made

    def fill_as_recorded(self) -> None:
        """Rows in the shards where the recorded tables have some."""
        for table in ("item", "line", "person"):
            self.fill(table, "-80", 3)
        for table in ("all_types", "doc", "item", "line", "nopk", "person"):
            self.fill(table, "80-", 3)

    def write_elsewhere(self, shard: str, times: int) -> None:
        for _ in range(times):
            self.cluster.other_write("shop", shard)


@pytest.fixture
def shop() -> Shop:
    return Shop()


# A client


class Call:
    """An open VStream; `read` gives responses until enough have come."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def read(self, enough: Callable[[list[VStreamResponse]], bool]) -> list[VStreamResponse]:
        responses: list[VStreamResponse] = []
        while not enough(responses):
            responses.append(next(self._call))
        return responses

    def rest(self) -> tuple[list[VStreamResponse], grpc.StatusCode, str]:
        """Everything until the end, and the end."""
        responses: list[VStreamResponse] = []
        try:
            responses.extend(self._call)
        except grpc.RpcError as error:
            return responses, error.code(), error.details() or ""
        raise AssertionError("the call has ended without an error")


def _method(channel: grpc.Channel) -> Any:
    return channel.unary_stream(
        "/vtgateservice.Vitess/VStream",
        request_serializer=VStreamRequest.SerializeToString,
        response_deserializer=VStreamResponse.FromString,
    )


@contextmanager
def open_call(
    sandbox: Sandbox,
    request: VStreamRequest,
    *,
    seconds: float = SECONDS,
    metadata: Mapping[str, str] | None = None,
) -> Iterator[Call]:
    with grpc.insecure_channel(f"{sandbox.host}:{sandbox.grpc_port}") as channel:
        sent = tuple((metadata or {}).items())
        call = _method(channel)(request, timeout=seconds, metadata=sent)
        try:
            yield Call(call)
        finally:
            call.cancel()


@contextmanager
def serve_grpc(cluster: Cluster, **arguments: Any) -> Iterator[Sandbox]:
    with serve(cluster, mysql_port=None, **arguments) as sandbox:
        yield sandbox


def stream(
    cluster: Cluster,
    request: VStreamRequest,
    enough: Callable[[list[VStreamResponse]], bool],
    options: Options | None = None,
) -> list[VStreamResponse]:
    with serve_grpc(cluster, options=options) as sandbox, open_call(sandbox, request) as call:
        return call.read(enough)


def copied(responses: list[VStreamResponse]) -> bool:
    return ["shard", "all"] in ends_of_copy(responses)


def has(number: int) -> Callable[[list[VStreamResponse]], bool]:
    return lambda responses: len(responses) >= number


def request_of(
    *entries: ShardGtid, tables: Iterable[str] = (), rules: Iterable[Rule] = (), heartbeat: int = 0
) -> VStreamRequest:
    chosen = [Rule(match=table, filter=f"select * from {table}") for table in tables]
    request = VStreamRequest(filter=Filter(rules=[*chosen, *rules]))
    request.vgtid.shard_gtids.extend(entries)
    request.flags.heartbeat_interval = heartbeat
    return request


def everything(cluster: Cluster, keyspace: str = "shop") -> list[ShardGtid]:
    """The present position of each shard."""
    return [
        ShardGtid(keyspace=keyspace, shard=shard, gtid=f"MySQL56/{gtid}")
        for shard, gtid in cluster.gtid_executed(keyspace).items()
    ]


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


# Errors


def _masked(details: str) -> str:
    """Details without what differs from cluster to cluster."""
    details = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:\d+(-\d+)?", "GTID", details)
    details = re.sub(r"zone1-\d{10}", "TABLET", details)
    return re.sub(r"(?<=shop[./])(80-|-80)|(?<=shard:\")(80-|-80)", "SHARD", details)


def _end(shop: Shop, request: VStreamRequest, seconds: float = SECONDS) -> tuple[str, str]:
    with (
        serve_grpc(shop.cluster, options=Options(tablet_wait=0.1)) as sandbox,
        open_call(sandbox, request, seconds=seconds) as call,
    ):
        _, code, details = call.rest()
    return code.name, _masked(details)


@pytest.mark.parametrize(
    "name",
    [
        "error_bad_gtid",
        "error_unknown_column",
        "error_unknown_keyspace",
        "error_unknown_shard",
        "error_unknown_table",
    ],
)
def test_errors(shop: Shop, name: str) -> None:
    recording = recordings.load(name)
    assert _end(shop, recording.request) == (recording.end, _masked(recording.details))


def test_error_of_a_rule_without_select(shop: Shop) -> None:
    """It shows itself at the first change only."""
    recording = recordings.load("error_bad_filter")
    shop.write_elsewhere("80-", 1)
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(has(2))
        shop.fill("item", "80-")
        more, code, details = call.rest()
    assert shapes([*responses, *more]) == shapes(recording.responses)
    assert (code.name, _masked(details)) == (recording.end, _masked(recording.details))


def test_error_of_purged_binlogs(shop: Shop) -> None:
    recording = recordings.load("error_purged_gtid")
    shop.fill("item", "-80")
    start = everything(shop.cluster)
    shop.fill("item", "-80")
    shop.cluster.purge_binlogs("shop", "-80")
    request = request_of(*start, tables=["item"])
    code, details = _end(shop, request)
    # The recorded request of -80 stands in the text as it was made, with all of its position.
    assert (code, details) == (recording.end, _masked(recording.details))


def test_position_at_the_purge_is_usable(shop: Shop) -> None:
    shop.fill("item", "-80")
    start = everything(shop.cluster)
    shop.cluster.purge_binlogs("shop", "-80")
    shop.fill("item", "-80")
    assert stream(shop.cluster, request_of(*start, tables=["item"]), has(1))


def test_error_of_dropped_shards(shop: Shop) -> None:
    recording = recordings.load("reshard_old_position_completed")
    start = everything(shop.cluster)
    shop.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    shop.cluster.drop_old_shards("shop")
    code, details = _end(shop, request_of(*start, tables=["item"]))
    expected = _masked(recording.details).replace("GTID", "")
    assert (code, details.replace("GTID", "")) == (recording.end, expected)


def test_no_tablet_and_foreign_positions_look_alike(shop: Shop) -> None:
    request = request_of(ShardGtid(keyspace="shop", gtid="current"), tables=["item"])
    request.tablet_type = TabletType.RDONLY
    code, details = _end(shop, request)
    assert code == "CANCELLED"
    assert "failed to find a RDONLY tablet for VStream in shop/" in details
    ahead = "MySQL56/00000000-0000-0000-0000-000000000001:1-5"
    entry = ShardGtid(keyspace="shop", shard="-80", gtid=ahead)
    code, details = _end(shop, request_of(entry, tables=["item"]))
    assert code == "CANCELLED"
    assert "failed to find a PRIMARY tablet for VStream in shop/" in details


@pytest.mark.parametrize(
    ("entries", "code", "text"),
    [
        ([], "INVALID_ARGUMENT", "vgtid must have at least one value"),
        ([ShardGtid(gtid="MySQL56/x")], "INVALID_ARGUMENT", "must be 'current'"),
        ([ShardGtid(keyspace="shop", gtid="MySQL56/")], "INVALID_ARGUMENT", "unspecified"),
        (
            [ShardGtid(keyspace="shop", shard="-80", gtid="x:1-5")],
            "INTERNAL",
            "unknown GTIDSet flavor",
        ),
        ([ShardGtid(keyspace="no", shard="0", gtid="current")], "UNKNOWN", "node doesn't exist"),
    ],
)
def test_requests_that_are_refused(
    shop: Shop, entries: list[ShardGtid], code: str, text: str
) -> None:
    found, details = _end(shop, request_of(*entries, tables=["item"]))
    assert found == code
    assert text in details


def test_empty_keyspace_is_all_of_them(shop: Shop) -> None:
    shop.cluster.create_keyspace("ref", ["0"])
    responses = stream(shop.cluster, request_of(ShardGtid(gtid="current")), has(3))
    (told,) = (e for e in responses[-1].events if e.type == VEventType.VGTID)
    assert [(entry.keyspace, entry.shard) for entry in told.vgtid.shard_gtids] == [
        ("ref", "0"),
        ("shop", "-80"),
        ("shop", "80-"),
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


def _request(shop: Shop) -> VStreamRequest:
    shop.fill("item", "-80", 10)
    return request_of(ShardGtid(keyspace="shop", shard="-80"), tables=["item"])


def test_cut_after_events(shop: Shop) -> None:
    request = _request(shop)
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
    request = _request(shop)
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
    request = _request(shop)
    faults = Faults([Fault(cut_after_all_events=9)])
    with (
        serve_grpc(shop.cluster, faults=faults) as sandbox,
        open_call(sandbox, request) as call,
    ):
        call.read(has(2))
        assert call.rest()[1] == grpc.StatusCode.UNAVAILABLE


def test_fault_with_a_recorded_error(shop: Shop) -> None:
    request = _request(shop)
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


def test_stall(shop: Shop) -> None:
    request = _request(shop)
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


# The servers


def test_static_authentication(shop: Shop) -> None:
    request = _request(shop)
    with serve_grpc(shop.cluster, username="ann", password="secret") as sandbox:
        with open_call(sandbox, request) as call:
            assert call.rest()[1] == grpc.StatusCode.UNAUTHENTICATED
        wrong = {"username": "ann", "password": "guess"}
        with open_call(sandbox, request, metadata=wrong) as call:
            assert call.rest()[1] == grpc.StatusCode.PERMISSION_DENIED
        right = {"username": "ann", "password": "secret"}
        with open_call(sandbox, request, metadata=right) as call:
            assert call.read(copied)
        assert len(sandbox.requests) == 1


def test_tls(shop: Shop) -> None:
    certificate, private_key = _certificate()
    request = _request(shop)
    with serve_grpc(shop.cluster, tls=Tls(certificate, private_key)) as sandbox:
        credentials = grpc.ssl_channel_credentials(root_certificates=certificate)
        with grpc.secure_channel(f"localhost:{sandbox.grpc_port}", credentials) as channel:
            call = _method(channel)(request, timeout=SECONDS)
            assert Call(call).read(copied)
            call.cancel()


def _certificate() -> tuple[bytes, bytes]:
    """A certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    return certificate.public_bytes(pem), secret


def test_nothing_remains(shop: Shop) -> None:
    """Not even with a stream and a connection open."""
    before = set(threading.enumerate())
    with serve(shop.cluster) as sandbox:
        connection = pymysql.connect(host=sandbox.host, port=sandbox.mysql_port, user="root")
        with open_call(sandbox, request_of(ShardGtid(keyspace="shop", gtid="current"))) as call:
            call.read(has(2))
    connection.close()
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
    for port in (sandbox.grpc_port, sandbox.mysql_port):
        with socket.socket() as probe:
            assert probe.connect_ex((sandbox.host, port))


def test_no_socket_of_a_late_client_remains() -> None:
    """One accepted while the server ends has no transport yet, and no connection to be killed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(10):
            begun, ended = threading.Event(), threading.Event()
            with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
                stack.callback(ended.set)
                with serve(Cluster()) as sandbox:
                    pool.submit(connect_until, ended, sandbox.mysql_port, begun)
                    assert begun.wait(SECONDS)
            gc.collect()
    assert [str(warning.message) for warning in found] == []


def connect_until(ended: threading.Event, port: int, begun: threading.Event) -> None:
    while not ended.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            begun.set()


class Mysql:
    """A connection that answers with rows, and with names beside them when asked."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return list(cursor.fetchall())

    def names(self, sql: str) -> list[str]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return [column[0] for column in cursor.description]


@pytest.fixture
def mysql(shop: Shop) -> Iterator[Mysql]:
    with serve(shop.cluster) as sandbox:
        connection = pymysql.connect(
            host=sandbox.host, port=sandbox.mysql_port, user="root", database="shop"
        )
        with connection:
            yield Mysql(connection)


def test_vitess_statements(shop: Shop, mysql: Mysql) -> None:
    shop.cluster.create_keyspace("main-db", ["0"])
    assert mysql.rows("show keyspaces") == [("main-db",), ("shop",)]
    assert mysql.rows("show vitess_shards") == [("main-db/0",), ("shop/-80",), ("shop/80-",)]
    assert mysql.rows("show vitess_shards like 'shop/%'") == [("shop/-80",), ("shop/80-",)]
    assert mysql.names("show global gtid_executed from shop") == [
        "db_name",
        "gtid_executed",
        "shard",
    ]
    shop.fill("item", "-80")
    executed = {row[2]: row[1] for row in mysql.rows("SHOW GLOBAL GTID_EXECUTED FROM `shop`;")}
    assert executed == shop.cluster.gtid_executed("shop")
    assert [row[1:4] for row in mysql.rows("show vitess_tablets")] == [
        ("main-db", "0", "PRIMARY"),
        ("shop", "-80", "PRIMARY"),
        ("shop", "80-", "PRIMARY"),
    ]
    mysql.rows("use `shop:-80@primary`")
    variables = dict(
        mysql.rows("show global variables where variable_name in ('gtid_executed',\n'gtid_purged')")
    )
    assert variables["gtid_executed"] == executed["-80"]
    assert variables["gtid_purged"] == ""
    mysql.rows("use `shop:-40@primary`")
    with pytest.raises(pymysql.err.OperationalError, match="no healthy tablet available"):
        mysql.rows("show global variables")
    assert mysql.rows("select @@version") == [("8.0.40-Vitess",)]
    with pytest.raises(pymysql.err.OperationalError, match="unknown database"):
        mysql.rows("use nosuch")


def test_information_schema(mysql: Mysql) -> None:
    query = "from information_schema.columns where table_schema = %s and table_name = 'line'"
    assert mysql.rows(
        f"select column_name as c, column_type as t, is_nullable as n {query} "
        "order by ordinal_position",
        "shop",
    ) == [
        ("order_id", "bigint(20)", "NO"),
        ("line_no", "int(11)", "NO"),
        ("sku", "varchar(20)", "NO"),
        ("qty", "int(11)", "YES"),
    ]
    query = "select table_schema, table_name as t from information_schema.tables where "
    assert mysql.names(query + "table_schema = 'shop'") == ["TABLE_SCHEMA", "t"]
    assert len(mysql.rows(query + "table_schema = 'shop'")) == 6
    assert mysql.rows(query + "table_schema = 'shop' and table_name = 'doc'") == [
        ("vt_shop", "doc")
    ]
    assert mysql.rows(query + "table_schema in ('shop')") == []
    assert mysql.rows(query + "table_schema = 'nosuch'") == []
    assert len(mysql.rows(query + "table_schema = database()")) == 6
    assert mysql.rows(
        "select index_name, seq_in_index, column_name, non_unique from "
        "information_schema.statistics where table_schema = 'shop' and table_name = 'line'"
    ) == [("PRIMARY", 1, "order_id", 0), ("PRIMARY", 2, "line_no", 0)]


def test_writing_by_sql(shop: Shop, mysql: Mysql) -> None:
    mysql.rows("begin")
    mysql.rows(
        "insert into item (id, name, price, updated_at) values (%s, %s, 1.5, '2024-01-01'), "
        "(2, 'b', null, now())",
        1,
        "ä",
    )
    mysql.rows("commit")
    assert shop.cluster.rows("shop", "item")[0] == {
        "id": b"1",
        "name": "ä".encode(),
        "price": b"1.50",
        "qty": None,
        "updated_at": b"2024-01-01 00:00:00.000",
    }
    mysql.rows("update item set price = price + 1, name = concat(name, '!') where id in (1, 2)")
    assert mysql.rows("select id, name, price * 2 as p from shop.item where id < 2") == [
        (1, "ä!", 5)
    ]
    assert mysql.rows("select NAME from item where price is null and id = '2'") == [("b!",)]
    mysql.rows("delete from item where name like 'b%'")
    assert mysql.rows("select count(*) from item") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("insert into item (id, name, updated_at) values (1, 'x', now()), (1, 'x', now())", 1062),
        ("insert into item (id, nosuch) values (1, 2)", 1054),
        ("insert into item (id) values (1)", 1048),
        ("insert into item (id, name, updated_at) values ('x', 'x', now())", 1366),
        ("insert into line values (1, 2)", 1136),
        ("select * from nosuch", 1146),
        ("select nosuch from item", 1054),
        ("select * from nosuch.item", 1049),
        ("create table t (id int, key (id))", 1235),
        ("create table t (id int auto_increment, primary key (id))", 1235),
        ("create table item (id int)", 1050),
        ("create table nosuch.t (id int)", 1049),
        ("alter table t add x int", 1235),
        ("insert into item (id) values (1) on duplicate key update name = 'x'", 1235),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_sql_errors(shop: Shop, mysql: Mysql, sql: str, number: int) -> None:
    with pytest.raises(pymysql.MySQLError) as caught:
        mysql.rows(sql)
    assert caught.value.args[0] == number
    assert shop.cluster.rows("shop", "item") == []


def test_sql_creates_tables(shop: Shop, mysql: Mysql) -> None:
    """With collations and a key, and a DDL in the binlog."""
    before = shop.cluster.shard("shop", "-80").executed
    mysql.rows(
        "create table `shop`.`t` (name varchar(9) character set ascii collate ascii_bin not null, "
        "n decimal(5,2), primary key (name))"
    )
    table = shop.cluster.tables("shop")["t"]
    assert (table.primary_key, [c.nullable for c in table.columns]) == (("name",), [False, True])
    mysql.rows("insert into t (name, n) values ('a', 1), ('A', 2.5)")
    assert mysql.rows("select n from t where name = 'A'") == [(Decimal("2.50"),)]
    assert shop.cluster.shard("shop", "-80").executed > before


def test_mysql_password(shop: Shop) -> None:
    with serve(shop.cluster, username="ann", password="secret") as sandbox:
        address: dict[str, Any] = {"host": sandbox.host, "port": sandbox.mysql_port}
        pymysql.connect(user="ann", password="secret", **address).close()
        for user, password in (("ann", "guess"), ("bob", "secret"), ("ann", "")):
            with pytest.raises(pymysql.err.OperationalError) as caught:
                pymysql.connect(user=user, password=password, **address)
            assert caught.value.args[0] == 1045


def shards_at(mysql_port: int) -> set[str]:
    connection = pymysql.connect(host="127.0.0.1", port=mysql_port, user="any")
    with connection, connection.cursor() as cursor:
        cursor.execute("show vitess_shards")
        return {shard for (shard,) in cursor.fetchall()}


def test_command_line(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "tap_vitess.sandbox", "--grpc-port=0", "--mysql-port=0"]
    command += ["--rows=20", "--live-writes=50", f"--ready-file={ready}", "--break=cut_in_copy=3"]
    command += ["--reshard-after=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + SECONDS
        while not (ready.exists() and ready.read_text().endswith("\n")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        grpc_port, mysql_port = map(int, ready.read_text().split())
        sandbox = Sandbox(Cluster(), "127.0.0.1", grpc_port, mysql_port)
        with open_call(
            sandbox, request_of(ShardGtid(keyspace="shop"), tables=["customers"])
        ) as call:
            assert call.rest()[1] == grpc.StatusCode.UNAVAILABLE
        assert shards_at(mysql_port) == {"shop/-40", "shop/40-80", "shop/80-", "ref/0"}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, b"")
    assert str(mysql_port).encode() in out
    assert not ready.exists()


def test_binary_columns_come_as_bytes() -> None:
    """PyMySQL would take them for text, and fail."""
    with serve(sample_cluster(rows=5)) as sandbox:
        connection = pymysql.connect(
            host=sandbox.host, port=sandbox.mysql_port, user="any", database="shop"
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("select token from order_items where token is not null")
            assert all(isinstance(token, bytes) for (token,) in cursor.fetchall())
