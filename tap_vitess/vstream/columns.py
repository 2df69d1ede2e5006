"""Rows taken apart by column, many at a time. Pure; the hot path.

An object and a few calls a row are what reading protobuf costs in Python. Here a response's
copied rows, or a ROW event's changes, are read again as other messages of the same bytes
(`_proto/columns.proto`): all lengths in one list, all values behind each other. One pass of
`BytesIO.read` over the lengths then cuts all values, and slices of that list are the columns.

The same goes for changes: MySQL logs them in events of 8 kB, so a transaction of some size comes
as many ROW events of few rows each, and those that follow each other are read as one.

What does not look like VTGate's own shape is left to the events themselves: a run of copied rows
that is interrupted, changes of several kinds in one event, images that lack columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, groupby

from google.protobuf.message import DecodeError

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import columns_pb2 as by_column
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import ProtocolError

CHUNK_ROWS = 1000  # taken apart at a time: what the objects of more would cost is memory

# A VEvent of a copied row: its type, ROW, and at once its row_event. All others have a timestamp.
_COPIED = b"\x08\x0c\x2a"
_CHANGED = b"\x08\x0c\x10"

Column = list[bytes | None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows. columns: the values of each; nulls: the columns that hold a NULL."""

    rows: int
    columns: list[Column]
    nulls: frozenset[int]


@dataclass(frozen=True, slots=True)
class Images:
    """Images of rows, one behind the other. lengths: of each value, -1 for NULL."""

    lengths: Sequence[int]
    values: bytes

    @classmethod
    def of(cls, message: by_column.Images) -> Images:
        """Take what was read."""
        return cls(message.lengths, b"".join(message.values))

    def column(self, index: int, width: int, where: str) -> Column:
        """Return the values of one column of rows of `width` columns, without cutting the others.

        Raises:
            ProtocolError: the lengths are no whole rows, or not those of the values.
        """
        sizes = list(self.lengths)
        _clear_nulls(sizes, where)
        if len(sizes) % width or sum(sizes) != len(self.values):
            raise ProtocolError(f"{where}: the values are no rows of {width} columns")
        ends = list(accumulate(sizes, initial=0))
        starts, ends = ends[index::width], ends[index + 1 :: width]
        told = self.lengths[index::width]
        return [
            None if size < 0 else self.values[start:end]
            for size, start, end in zip(told, starts, ends, strict=False)
        ]

    def chunks(self, width: int, where: str) -> Iterator[Chunk]:
        """Yield the rows, `width` values each.

        Raises:
            ProtocolError: the lengths are no whole rows, or not those of the values.
        """
        read = BytesIO(self.values)
        total = len(self.lengths)
        if not width or total % width:
            raise ProtocolError(f"{where}: {total} values are no rows of {width} columns")
        for start in range(0, total, CHUNK_ROWS * width):
            sizes = list(self.lengths[start : start + CHUNK_ROWS * width])
            yield _chunk(sizes, read, width, where)
        if read.read(1):
            raise ProtocolError(f"{where}: a row has more bytes than its values")

    def rows(self, width: int, where: str) -> Iterator[query.Row]:
        """Yield the rows as messages."""
        for chunk in self.chunks(width, where):
            for values in zip(*chunk.columns, strict=True):
                yield query.Row(
                    lengths=[-1 if value is None else len(value) for value in values],
                    values=b"".join(value for value in values if value is not None),
                )


def _chunk(sizes: list[int], values: BytesIO, width: int, where: str) -> Chunk:
    nulls = _clear_nulls(sizes, where)
    start = values.tell()
    cut: Column = list(map(values.read, sizes))
    if values.tell() - start != sum(sizes):
        raise ProtocolError(f"{where}: a row has fewer bytes than its values")
    for index in nulls:
        cut[index] = None
    return Chunk(
        len(sizes) // width,
        [cut[i::width] for i in range(width)],
        frozenset(index % width for index in nulls),
    )


def _clear_nulls(sizes: list[int], where: str) -> list[int]:
    """Let each NULL have no bytes; return which values they are."""
    least = min(sizes, default=0)
    if least < -1:
        raise ProtocolError(f"{where}: a value of less than no bytes")
    nulls: list[int] = []
    index = -1
    for _ in range(sizes.count(-1) if least < 0 else 0):
        index = sizes.index(-1, index + 1)
        sizes[index] = 0
        nulls.append(index)
    return nulls


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of one kind: inserts have no `before`, deletes no `after`, updates both."""

    count: int
    before: Images | None
    after: Images | None


class RowChanges(Collection[binlogdata.RowChange]):
    """The changes of a ROW event, one by one or by column."""

    def __init__(self, event: binlogdata.RowEvent) -> None:
        """Read them when they are asked for."""
        self._event = event

    def __len__(self) -> int:
        return len(self._event.row_changes)

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        return iter(self._event.row_changes)

    def __contains__(self, change: object) -> bool:
        return change in self._event.row_changes

    def by_column(self, width: int) -> Changes | None:
        """Return whole images of `width` columns; None when there are others, or several kinds."""
        event = by_column.ChangedRowEvent.FromString(self._event.SerializeToString())
        return EncodedChanges(event.row_changes).by_column(width)


@contextmanager
def _whole_changes() -> Iterator[None]:
    try:
        yield
    except DecodeError:
        raise ProtocolError("a ROW event has changes that cannot be read") from None


class EncodedChanges(Collection[binlogdata.RowChange]):
    """Serialized RowChanges, one by one or by column.

    Raises ProtocolError when they are read and are none.
    """

    def __init__(self, encoded: Sequence[bytes]) -> None:
        """Read them when they are asked for."""
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._encoded)

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        with _whole_changes():
            return iter([binlogdata.RowChange.FromString(change) for change in self._encoded])

    def __contains__(self, change: object) -> bool:
        return any(change == own for own in self)

    def by_column(self, width: int) -> Changes | None:
        """Return whole images of `width` columns; None when there are others, or several kinds."""
        with _whole_changes():
            merged = by_column.Changes.FromString(b"".join(self._encoded))
        if merged.data_columns or merged.json_partial_values:
            return None
        before = Images.of(merged.before) if merged.HasField("before") else None
        after = Images.of(merged.after) if merged.HasField("after") else None
        count = len(self._encoded)
        if any(images and len(images.lengths) != count * width for images in (before, after)):
            return None
        return Changes(count, before, after)


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """Changes of one table and shard that follow each other, from one or several ROW events.

    timestamp, current_time: see VEvent; the first is the same for all.
    """

    table_name: str
    shard: str
    timestamp: int
    current_time: int
    is_internal_table: bool
    changes: Collection[binlogdata.RowChange]

    @classmethod
    def of(cls, event: binlogdata.VEvent) -> ChangedRows:
        """Take a ROW event."""
        row = event.row_event
        return cls(
            row.table_name,
            event.shard,
            event.timestamp,
            event.current_time,
            row.is_internal_table,
            RowChanges(row),
        )


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """A run of copied rows of one table and shard in a response."""

    table_name: str
    shard: str
    images: Images


class CopiedChanges(Collection[binlogdata.RowChange]):
    """Copied rows as changes: each has an after image alone."""

    def __init__(self, images: Images, width: int, where: str) -> None:
        """Cut them when they are asked for.

        Args:
            images: the rows.
            width: how many columns they have.
            where: keyspace, table and shard, for errors.

        Raises:
            ProtocolError: there are no whole rows.
        """
        if not width or len(images.lengths) % width:
            raise ProtocolError(
                f"{where}: {len(images.lengths)} values are no rows of {width} columns"
            )
        self._images = images
        self._width = width
        self._where = where

    def __len__(self) -> int:
        return len(self._images.lengths) // self._width

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        for row in self._images.rows(self._width, self._where):
            yield binlogdata.RowChange(after=row)

    def __contains__(self, change: object) -> bool:
        return any(change == own for own in self)

    def by_column(self, width: int) -> Changes | None:
        """Return the images as they are."""
        return Changes(len(self), None, self._images) if width == self._width else None


StreamEvent = binlogdata.VEvent | CopiedRows | ChangedRows


def decode(response: bytes) -> Sequence[StreamEvent]:
    """Return the events of a serialized VStreamResponse, rows that follow each other as one.

    A table's FIELD event stands between its rows and another table's, so a run of copied rows has
    one table.

    Raises:
        google.protobuf.message.DecodeError: the bytes are no VStreamResponse.
    """
    if _COPIED in response and (found := _copied_response(response)):
        return found
    if response.count(_CHANGED) > 1:
        return list(_runs(by_column.Response.FromString(response).events))
    return vtgate.VStreamResponse.FromString(response).events


def _runs(events: Iterable[bytes]) -> Iterator[StreamEvent]:
    for changed, run in groupby(events, _is_change):
        if changed:
            yield from _changed_rows(map(by_column.ChangedEvent.FromString, run))
        else:
            yield from map(binlogdata.VEvent.FromString, run)


def _is_change(event: bytes) -> bool:
    return event.startswith(_CHANGED)


def _changed_rows(events: Iterable[by_column.ChangedEvent]) -> Iterator[ChangedRows]:
    """Join the changes of one table, one kind and one second."""
    for (table, shard, timestamp, internal, _), run in groupby(events, _run_key):
        encoded: list[bytes] = []
        now = 0
        for event in run:
            encoded += event.row_event.row_changes
            now = max(now, event.current_time)
        yield ChangedRows(table, shard, timestamp, now, internal, EncodedChanges(encoded))


def _run_key(event: by_column.ChangedEvent) -> tuple[str, str, int, bool, str]:
    row = event.row_event
    kind = _kind(row.row_changes[0]) if row.row_changes else ""
    return row.table_name, event.shard, event.timestamp, row.is_internal_table, kind


def _kind(change: bytes) -> str:
    """Name the images that a serialized RowChange has: MySQL logs one kind an event."""
    merged = by_column.Changes.FromString(change)
    return f"{merged.HasField('before')} {merged.HasField('after')}"


def _copied_response(response: bytes) -> list[StreamEvent] | None:
    """Read a response that has one run of copied rows; None when it has not."""
    events = by_column.Response.FromString(response).events
    count = len(events)
    first = next((i for i in range(count) if events[i].startswith(_COPIED)), count)
    last = next((i for i in reversed(range(count)) if events[i].startswith(_COPIED)), first - 1)
    before, behind = events[:first], events[last + 1 :]
    run = response[_size(before) : len(response) - _size(behind)]
    found = _copied_rows(run, last + 1 - first)
    if found is None:
        return None
    read = binlogdata.VEvent.FromString
    return [*map(read, before), found, *map(read, behind)]


def _size(events: Iterable[bytes]) -> int:
    """Return how many bytes of a response events are: each behind its field and length."""
    return sum(1 + (max(len(event), 1).bit_length() + 6) // 7 + len(event) for event in events)


def _copied_rows(run: bytes, count: int) -> CopiedRows | None:
    """Read so many events as one; None when they are not copied rows of one shard."""
    try:
        merged = by_column.CopiedResponse.FromString(run).events
    except DecodeError:
        return None
    shards = set(merged.shard)
    if list(merged.type) != [binlogdata.ROW] * count or merged.timestamp or not count:
        return None
    if len(shards) != 1 or len(merged.shard) != count:
        return None
    changes = merged.row_event.row_changes
    if changes.HasField("before") or changes.data_columns or changes.json_partial_values:
        return None
    return CopiedRows(merged.row_event.table_name, shards.pop(), Images.of(changes.after))
