"""What the sandbox makes for the tricks, and what reads it, in any of their processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc

from benchmarks import table as reference
from benchmarks.places import Place, shard_names
from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.protocol.changes import ChangeStream, by_table
from tap_vitess.protocol.columns import Chunk, EncodedChanges, Images
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.decode import ChangedRows, CopiedRows, StreamEvent, decode, decode_all
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.images import packed, unpacked
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.operations import ImageOptions
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.records.schema import StreamSchema
from tap_vitess.survey.facts import Column, Table
from tap_vitess.values.encode import RowEncoder
from tap_vitess.values.mysql_types import value_type
from tap_vitess.vstream.arrow_reader import ArrowReader, TableRows
from tap_vitess.vtgate import grpc as calls

TABLE = "t"
SHARDS = shard_names(2)
WIDTH = len(reference.COLUMNS)
ALL = range(WIDTH)
Join = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Made:
    """What the sandbox has made: a keyspace of each workload, and how many rows there are.

    copied: a table to copy. changed: 500 rows a transaction. single: a row a transaction.
    """

    port: int
    rows: int
    copied: str
    changed: str
    single: str

    @classmethod
    def at(cls, place: Place, rows: int) -> Made:
        """Make them; two thirds of the changes are inserts, the others updates."""
        ten, names = len(reference.COLUMNS), []
        for inserts, size in ((rows, 5000), (rows * 2 // 3, 500), (rows // 12, 1)):
            names.append(keyspace := place.keyspace([(TABLE, ten)]))
            place.insert(keyspace, TABLE, ten, 1, inserts, size)
            if inserts < rows:
                place.update(keyspace, TABLE, ten, 1, inserts // 2, size)
        return cls(place.grpc_port, rows, *names)

    def feed(self, keyspace: str) -> ChangeStream | TableCopy:
        """Begin to read one of them."""
        options = RequestOptions()
        if keyspace == self.copied:
            shards = dict.fromkeys(SHARDS)
            return TableCopy(TABLE, shards, None, options, keyspace=keyspace, resumable=True)
        never = GtidSet.parse("00000000-0000-0000-0000-000000000000:1")
        begin, stop = (
            Vgtid(keyspace, dict.fromkeys(SHARDS, gtids)) for gtids in (GtidSet({}), never)
        )
        return ChangeStream([TABLE], begin, stop, options)

    def responses(self, keyspace: str) -> Iterator[bytes]:
        """Receive one of them in the plain way, up to the first heartbeat."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            start: grpc.UnaryStreamMultiCallable[bytes, bytes]
            start = channel.unary_stream(calls.METHOD)
            call = start(self.feed(keyspace).request().SerializeToString())
            for response in call:
                if _is_heartbeat(response):
                    break
                yield response
            call.cancel()


def _is_heartbeat(response: bytes) -> bool:
    if len(response) > 200:
        return False
    events = vtgate.VStreamResponse.FromString(response).events
    return events[0].type == binlogdata.HEARTBEAT


class Stream:
    """What records are made for: without numbers, which depend on the clock."""

    name = keyspace = TABLE
    primary_keys = (reference.KEY,)

    @property
    def own_columns(self) -> dict[str, str]:
        """Name the one that there always is."""
        return {"deleted_at": "_sdc_deleted_at"}

    def stream_schema(self) -> StreamSchema:
        """Describe the table of reference."""
        types = {n: value_type(kind, "utf8mb4").nullable() for n, kind, _ in reference.COLUMNS}
        own = {"_sdc_deleted_at": {"type": ["string", "null"]}}
        return StreamSchema(TABLE, types | own, self.primary_keys, own, ())


def to_lines() -> Callable[[Rows], bytes]:
    """Return what writes rows as lines."""
    maker = RecordMaker(Stream(), RecordSequence(0), RecordOptions())

    def written(rows: Rows) -> bytes:
        maker.prepare(rows.fields)
        return b"".join(maker.written(rows, b"{", b"}\n")[1])

    return written


def to_arrow() -> Callable[[Rows], Any]:
    """Return what makes record batches of rows."""
    columns = tuple(Column(name, kind, null, "utf8mb4") for name, kind, null in reference.COLUMNS)
    table = Table(TABLE, TABLE, columns, Stream.primary_keys)
    reader = ArrowReader(table, RecordSequence(0), ImageOptions(), own=())

    def converted(rows: Rows) -> Any:
        *_, found = reader.read(rows, 1)
        assert isinstance(found, TableRows)  # noqa: S101
        return found.rows

    return converted


def consumed(
    feed: ChangeStream | TableCopy,
    groups: Iterable[Sequence[StreamEvent]],
    read: Callable[[Rows], Any],
    join: Join = by_table,
) -> Iterator[Any]:
    """Yield what is read of all responses."""
    for events in groups:
        for item in join(feed.feed(events)):
            if isinstance(item, Rows):
                yield read(item)


# What the tricks are done to


def events(responses: Sequence[bytes]) -> Iterator[binlogdata.VEvent]:
    """Read responses as they are defined."""
    for response in responses:
        yield from vtgate.VStreamResponse.FromString(response).events


def each(responses: Sequence[bytes]) -> list[Any]:
    """Read the values of each row, one by one."""
    changes = (change for event in events(responses) for change in event.row_event.row_changes)
    return [unpacked(change.after, WIDTH, "") for change in changes]


def after(found: Iterable[Any]) -> list[Images]:
    """Return the rows that events hold, by column."""
    copied = [event.images for event in found if isinstance(event, CopiedRows)]
    changed: Any = (event.changes for event in found if isinstance(event, ChangedRows))
    return copied + [changes.by_column().after for changes in changed]


def cut(images: Iterable[Images]) -> list[Chunk]:
    """Cut all values."""
    return [chunk for some in images for chunk in some.chunks(WIDTH, "", ALL)]


def rows_of(found: Iterable[Any]) -> list[tuple[Any, ...]]:
    """List the rows of chunks; rows are rows already."""
    every = [zip(*map(c.column, ALL), strict=True) if isinstance(c, Chunk) else [c] for c in found]
    return [tuple(row[:WIDTH]) for rows in every for row in rows]


def images_of(rows: Iterable[Sequence[bytes | None]]) -> Images:
    """Write rows, and read them by column; one without a byte would not be."""
    found = Images.of_rows([*map(packed, rows)])
    assert found is not None  # noqa: S101
    return found


def parts(values: Sequence[Any], size: int = 400) -> list[Any]:
    """Return so many values at a time."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def written(images: Images, types: Any, wanted: Iterable[str] | None = None) -> Callable[[], bytes]:
    """Return what writes lines."""
    encoder = RowEncoder("", types, types if wanted is None else wanted)
    return lambda: b"".join(encoder.encode(images, b"{", [b"}\n"]))


class Data:
    """What the sandbox has made."""

    def __init__(self, made: Made, most: int) -> None:
        """Receive the first responses, with about so many rows."""
        self.made = made
        every = [[*made.responses(name)] for name in (made.copied, made.changed, made.single)]
        share = most / made.rows
        self.copied, self.changed, self.single = (
            some[: math.ceil(len(some) * share)] for some in every
        )
        told = next(e.field_event for e in events(self.copied) if e.type == binlogdata.FIELD)
        self.fields = Fields("t", told.shard, tuple(told.fields), copying=True)
        self.types = {name: value_type(kind, "utf8mb4") for name, kind, _ in reference.COLUMNS}
        self.images = Images.joined(after(decode_all(self.copied)))
        self.rows = rows_of(cut([self.images]))
        self.count = len(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return a column's values."""
        return [row[[*self.types].index(name)] for row in self.rows]

    def lines(self, join: Join = by_table) -> list[bytes]:
        """Write the changes that come alone, of 128 responses at once."""
        groups = map(decode_all, parts(self.single, 128))
        return [*consumed(self.made.feed(self.made.single), groups, to_lines(), join)]

    def some(self, size: int) -> tuple[int, list[Rows]]:
        """Return inserted rows, so many at a time; and how many rows there are."""
        feed = self.made.feed(self.made.changed)
        first = next(consumed(feed, map(decode, self.changed), lambda rows: rows))
        every = [some for some in parts([*first.changes], size) if len(some) == size]
        found = [replace(first, changes=_encoded(some, first.changes.kind)) for some in every]
        return size * len(found), found


def _encoded(changes: Sequence[binlogdata.RowChange], kind: str) -> EncodedChanges:
    row = binlogdata.RowEvent(table_name=TABLE, row_changes=changes)
    event = binlogdata.VEvent(type=binlogdata.ROW, row_event=row).SerializeToString()
    return EncodedChanges([event], len(changes), kind)
