"""Splits rows into columns, many at a time. Pure; the hot path.

Reading protobuf in Python costs an object and a few calls for each row. Here a response's
copied rows, or a ROW event's changes, are parsed as other messages with the same bytes
(`_proto/columns.proto`): all lengths one after another, and all values. One call then cuts many
values (`lengths.py`), and slices of its result are the columns.

MySQL logs changes in events of 8 kB, so a larger transaction comes as many ROW events of few rows
each. Consecutive events are read as one.

Anything without VTGate's usual shape is read event by event: an interrupted series of copied rows,
changes of several kinds in one event, images that lack columns.

Merged rows no longer show where a row ends, and malformed bytes must not join two halves into one
row. So a mark is put after each row, and must be found there again.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter

from google.protobuf.message import DecodeError

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import columns_pb2 as by_column
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.lengths import Lengths, varint
from tap_vitess.protocol.wire import (
    COPIED,
    IS_ROW,
    first_copied,
    first_row,
    last_copied_end,
    sized,
)

# Values split at a time: with more, the processor's caches help less.
CHUNK_VALUES = 4000
CHUNK_ROWS = 100  # at least

# After each row: a value that no server can guess, and its length, packed.
MARK = secrets.token_bytes(8)
LARGE = 1 << 22  # bytes of a value, or of a few rows, that are copied as rarely as possible
_LENGTH_OF_MARK = bytes([2 * len(MARK)])

Column = list[bytes | None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows.

    values, nulls: see `Part`.
    """

    rows: int
    values: Mapping[int, Sequence[bytes]]
    nulls: Mapping[int, Sequence[int]]

    def column(self, index: int) -> Column:
        """Return the values of one column."""
        column: Column = list(self.values[index])
        for row in self.nulls.get(index, ()):
            column[row] = None
        return column


# Lengths and values of each row, copied from a message. The message is freed before the next copy:
# otherwise a huge value would be in memory once more.
Read = tuple[Sequence[bytes], Sequence[bytes]]


def _read(message: by_column.Images) -> Read:
    return message.lengths[:], message.values[:]  # slices: a fifth faster than an iteration


@dataclass(frozen=True, slots=True)
class Images:
    """Images of rows, one after another, with a mark after each.

    lengths: of each value, packed, -1 for NULL.
    """

    count: int
    lengths: bytes
    values: bytes

    @classmethod
    def of(cls, read: Read, rows: int) -> Images | None:
        """Make images of so many rows; None unless each has its lengths and its values once.

        A row without a single byte has no values.
        """
        lengths, values = read
        if not len(lengths) == len(values) == rows:
            return None
        return cls(rows, _LENGTH_OF_MARK.join([*lengths, b""]), MARK.join([*values, b""]))

    @classmethod
    def of_rows(cls, rows: Sequence[query.Row]) -> Images | None:
        """Make images of rows; None if a row has not a single byte."""
        written = b"".join([row.SerializeToString() for row in rows])
        return cls.of(_read(by_column.Images.FromString(written)), len(rows))

    @classmethod
    def joined(cls, parts: Sequence[Images]) -> Images:
        """Join images of the same columns."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            sum(part.count for part in parts),
            b"".join([part.lengths for part in parts]),
            b"".join([part.values for part in parts]),
        )

    def chunks(self, width: int, where: str, columns: Sequence[int]) -> Iterator[Chunk]:
        """Yield the rows, some at a time.

        Args:
            width: how many values each has.
            columns: the wanted ones, in order.

        Raises:
            ProtocolError: a row has other columns, or its lengths are not those of its values.
        """
        lengths = Lengths(self.lengths, width + 1, where)
        if not width or len(lengths) != self.count * (width + 1):
            raise ProtocolError(f"{where}: rows of other columns than the {width} of their FIELD")
        step = max(CHUNK_VALUES // width, CHUNK_ROWS)
        wanted = [*columns, width]
        end = 0
        for first in range(0, self.count, step):
            last = min(first + step, self.count)
            part = lengths.cut(self.values, end, first, last, wanted)
            end = part.end
            if part.values[width].count(MARK) != last - first:
                raise ProtocolError(f"{where}: a row's lengths are not those of its values")
            yield Chunk(last - first, part.values, part.nulls)
        if end < len(self.values):
            raise ProtocolError(f"{where}: a row has more bytes than its values")

    def has_null(self, width: int, where: str, columns: Sequence[int]) -> bool:
        """Return whether a row has NULL in one of the columns, which are in order."""
        return any(any(chunk.nulls.values()) for chunk in self.chunks(width, where, columns))

    def rows(self, width: int, where: str) -> Iterator[query.Row]:
        """Yield the rows as messages."""
        for chunk in self.chunks(width, where, range(width)):
            for values in zip(*map(chunk.column, range(width)), strict=True):
                yield packed(values)


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of one kind: inserts have no `before`, deletes no `after`, updates both."""

    count: int
    before: Images | None
    after: Images | None


class RowChanges(Collection[binlogdata.RowChange]):
    """The changes of a ROW event, one by one or by column."""

    def __init__(self, event: binlogdata.RowEvent) -> None:
        """Keep the event; iterating parses its changes."""
        self._event = event

    def __len__(self) -> int:
        return len(self._event.row_changes)

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        return iter(self._event.row_changes)

    def __contains__(self, change: object) -> bool:
        return change in self._event.row_changes

    def by_column(self) -> Changes | None:
        """Return the images; None if some are not whole, or of several kinds."""
        event = by_column.ChangedRowEvent.FromString(self._event.SerializeToString())
        return _by_column(event.row_changes)


@contextmanager
def _whole_changes() -> Iterator[None]:
    try:
        yield
    except DecodeError:
        raise ProtocolError("a ROW event has changes that cannot be read") from None


class EncodedChanges(Collection[binlogdata.RowChange]):
    """Serialized RowChanges, one by one or by column.

    Reading them raises ProtocolError if they are not RowChanges.
    """

    def __init__(self, encoded: Sequence[bytes], kind: str) -> None:
        """Keep the bytes; iterating parses them.

        Args:
            kind: which images they have; see `_kind`.
        """
        self.encoded = encoded
        self.kind = kind

    @classmethod
    def joined(cls, parts: Sequence[EncodedChanges]) -> EncodedChanges:
        """Join changes of one kind."""
        return cls([*chain.from_iterable(part.encoded for part in parts)], parts[0].kind)

    def __len__(self) -> int:
        return len(self.encoded)

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        with _whole_changes():
            return iter([binlogdata.RowChange.FromString(change) for change in self.encoded])

    def __contains__(self, change: object) -> bool:
        return any(change == own for own in self)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return sum(map(len, self.encoded))

    def by_column(self) -> Changes | None:
        """Return the images; None if some are not whole, or of several kinds."""
        return _by_column(self.encoded)


def _by_column(encoded: Sequence[bytes]) -> Changes | None:
    with _whole_changes():
        merged = by_column.Changes.FromString(b"".join(encoded))
    if merged.data_columns or merged.json_partial_values:
        return None
    rows = len(encoded)
    told = [merged.HasField("before"), merged.HasField("after")]
    reads = _read(merged.before), _read(merged.after)
    del merged
    before, after = (Images.of(read, rows) for read in reads)
    if not any(told) or [before is not None, after is not None] != told:
        return None
    return Changes(rows, before, after)


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """Consecutive rows of one table and shard, from one or several ROW events.

    timestamp, current_time: see VEvent; all rows have the same timestamp, 0 if they were copied.
    """

    table_name: str
    shard: str
    timestamp: int
    current_time: int
    is_internal_table: bool
    changes: Collection[binlogdata.RowChange]

    @classmethod
    def of(cls, event: binlogdata.VEvent) -> ChangedRows:
        """Make it of a ROW event; raises ProtocolError: the event contradicts itself."""
        row = event.row_event
        if row.shard != event.shard:
            raise _contradiction(row.table_name, event.shard)
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
    """Copied rows as changes with only an after image."""

    def __init__(self, images: Images, width: int, where: str) -> None:
        """Keep the images; iterating cuts them.

        Args:
            width: the number of columns.
        """
        self._images = images
        self._width = width
        self._where = where

    def __len__(self) -> int:
        return self._images.count

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        for row in self._images.rows(self._width, self._where):
            yield binlogdata.RowChange(after=row)

    def __contains__(self, change: object) -> bool:
        return any(change == own for own in self)

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return len(self._images.values)

    def by_column(self) -> Changes:
        """Return the images as they are."""
        return Changes(len(self), None, self._images)


def are_large(changes: Collection[binlogdata.RowChange]) -> bool:
    """Return whether changes that can be read by column have more than `LARGE` bytes."""
    return isinstance(changes, CopiedChanges | EncodedChanges) and changes.size > LARGE


StreamEvent = binlogdata.VEvent | CopiedRows | ChangedRows


def decode(response: bytes) -> Sequence[StreamEvent]:
    """Return the events of a serialized VStreamResponse; consecutive rows are joined.

    Raises:
        google.protobuf.message.DecodeError: the bytes are not a VStreamResponse.
        ProtocolError: an event contradicts itself.
    """
    return decode_all([response])


def decode_all(responses: Iterable[bytes]) -> Sequence[StreamEvent]:
    """Return the events of several responses as if they were one.

    Each is parsed on its own: a truncated one must not continue in the next. Each is freed at once,
    because it may be huge.

    Raises:
        google.protobuf.message.DecodeError: one is not a VStreamResponse.
        ProtocolError: an event contradicts itself.
    """
    found: list[StreamEvent] = []
    waiting: list[bytes] = []
    for response in responses:
        if first_row(response) == COPIED and (copied := _copied_response(response)):
            found += [*_runs(waiting), *copied]
            waiting = []
        else:
            waiting += by_column.Response.FromString(response).events
        del response
    return [*found, *_runs(waiting)]


def has_copied_rows(response: bytes) -> bool:
    """Return whether a serialized VStreamResponse may have copied rows; a value may mislead."""
    return COPIED in response


def _runs(events: Iterable[bytes]) -> Iterator[StreamEvent]:
    for is_row, run in groupby(events, _is_row):
        if is_row:
            yield from _changed_rows(run)
        else:
            yield from _others(run)


def _is_row(event: bytes) -> bool:
    return event.startswith(IS_ROW)


def _others(events: Iterable[bytes]) -> Iterator[binlogdata.VEvent]:
    """Read events that are not ROW; refuse rows in them, which would be ignored."""
    return map(_without_rows, map(binlogdata.VEvent.FromString, events))


def _without_rows(event: binlogdata.VEvent) -> binlogdata.VEvent:
    if event.type != binlogdata.ROW and event.HasField("row_event"):
        raise _contradiction(event.row_event.table_name, event.shard)
    return event


_RunKey = tuple[str, str, int, bool, str]


def _changed_rows(events: Iterable[bytes]) -> Iterator[ChangedRows]:
    """Join the rows of one table, one kind and one second."""
    for (table, shard, timestamp, internal, kind), run in groupby(map(_row_event, events), _key):
        encoded: list[bytes] = []
        now = 0
        for _, changes, current_time in run:
            encoded += changes
            now = max(now, current_time)
        yield ChangedRows(table, shard, timestamp, now, internal, EncodedChanges(encoded, kind))


def _row_event(event: bytes) -> tuple[_RunKey, Sequence[bytes], int]:
    """Read a ROW event; refuse repeated fields, which protobuf would merge."""
    read = by_column.ChangedEvent.FromString(event)
    rows, shard = read.row_event, read.shard
    if read.type != binlogdata.ROW or len(rows) != 1:
        raise _contradiction("rows of some tables", shard)
    row = rows[0]
    tables, changes = row.table_name, [*row.row_changes]
    if len(tables) != 1 or row.shard != shard:
        raise _contradiction(" and ".join(tables), shard)
    kind = _kind(changes[0]) if changes else ""
    key = tables[0], shard, read.timestamp, row.is_internal_table, kind
    return key, changes, read.current_time


_key = itemgetter(0)


def _contradiction(table: str, shard: str) -> ProtocolError:
    return ProtocolError(f"{table} on shard {shard}: VTGate sent an event that contradicts itself")


def _kind(change: bytes) -> str:
    """Return which images a serialized RowChange has; MySQL logs one kind per event."""
    if len(change) > LARGE:  # all its fields have a size
        tags = {*sized(change)}
        return f"{0x0A in tags} {0x12 in tags}"
    merged = by_column.Changes.FromString(change)
    return f"{merged.HasField('before')} {merged.HasField('after')}"


def _copied_response(response: bytes) -> list[StreamEvent] | None:
    """Read a response with one run of copied rows; None for any other.

    The end of the last row is a guess, because a value may contain the same bytes. After a wrong
    guess, the run ends within an event or contains events of other types, so it is refused.
    """
    start, end = first_copied(response), last_copied_end(response)
    if start is None or end is None:
        return None
    found = _copied_rows(response[start:end])
    if found is None:
        return None
    read = by_column.Response.FromString
    return [*_runs(read(response[:start]).events), found, *_runs(read(response[end:]).events)]


def _copied_rows(run: bytes) -> CopiedRows | None:
    """Read events as one; None if they are not copied rows of one shard."""
    try:
        merged = by_column.CopiedResponse.FromString(run).events
        table = b"".join(merged.row_event.table_name[:1]).decode()
        shard = b"".join(merged.shard[:1]).decode()
    except (DecodeError, UnicodeDecodeError):
        return None
    del run
    changes, count = merged.row_event.row_changes, len(merged.type)
    if changes.HasField("before") or changes.data_columns or changes.json_partial_values:
        return None
    read = _read(changes.after)
    if not table or not shard or not _are_alike(merged):
        return None
    del merged, changes
    images = Images.of(read, count)
    return None if images is None else CopiedRows(table, shard, images)


def _are_alike(events: by_column.CopiedEvents) -> bool:
    """Return whether events are ROW events of one table and shard, and nothing else.

    This compares them serialized, without their rows: all types, then all shards. That needs no
    object for each event.
    """
    count, event, row = len(events.type), by_column.CopiedEvents, by_column.CopiedRowEvent
    told = events.row_event
    told.ClearField("row_changes")
    names = row(table_name=told.table_name[:1]).SerializeToString() * count
    keyspace = row(keyspace=told.keyspace).SerializeToString()
    shards = row(shard=events.shard[:1]).SerializeToString() * count
    if told.SerializeToString() != names + keyspace + shards:
        return False
    events.ClearField("row_event")
    types = b"\x0a" + varint(count) + bytes([binlogdata.ROW]) * count
    keyspace = event(keyspace=events.keyspace).SerializeToString()
    shards = event(shard=events.shard[:1]).SerializeToString() * count
    return events.SerializeToString() == types + keyspace + shards
