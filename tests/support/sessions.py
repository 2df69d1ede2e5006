"""The sandbox compared with recorded sessions of a real Vitess.

`shapes` turns responses into what must agree: the responses of each shard, and in them the types of
the events, which of them have timestamps, the tables, the images of rows, where the position moves
and which tables a VGTID names. Runs of equal ROW events count as one, because the recorded tables
have other numbers of rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any

import grpc

from support import recordings
from tap_vitess._proto.binlogdata_pb2 import FieldEvent, Filter, Rule, ShardGtid, VEvent, VEventType
from tap_vitess._proto.vtgate_pb2 import VStreamRequest, VStreamResponse
from tap_vitess.sandbox import Cluster, Column, Options, Sandbox, Table, serve
from tap_vitess.sandbox.cluster import keyspace_id
from tap_vitess.sandbox.schema import Row

SECONDS = 10.0  # no call of these tests takes so long

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
        return ""  # which shard is last differs; `ends_of_copy` checks it
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
    """The definition of a recorded FIELD's table."""
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
        """A row that belongs to the shard; missing values are made up."""
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


# A client


class Call:
    """An open VStream; `read` returns responses once enough have come."""

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


def request_for_items(shop: Shop) -> VStreamRequest:
    """Fill a table in a shard, and ask for a copy of it."""
    shop.fill("item", "-80", 10)
    return request_of(ShardGtid(keyspace="shop", shard="-80"), tables=["item"])


def everything(cluster: Cluster, keyspace: str = "shop") -> list[ShardGtid]:
    """The present position of each shard."""
    return [
        ShardGtid(keyspace=keyspace, shard=shard, gtid=f"MySQL56/{gtid}")
        for shard, gtid in cluster.gtid_executed(keyspace).items()
    ]
