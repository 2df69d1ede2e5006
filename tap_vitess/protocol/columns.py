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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from google.protobuf.message import DecodeError

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import columns_pb2 as by_column
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.lengths import Lengths

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


def read_images(message: by_column.Images) -> Read:
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
        return cls.of(read_images(by_column.Images.FromString(written)), len(rows))

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
        event = by_column.CopiedRowEvent.FromString(self._event.SerializeToString())
        return _by_column(_read_both(event.row_changes), len(self))


@contextmanager
def _whole_changes() -> Iterator[None]:
    try:
        yield
    except DecodeError:
        raise ProtocolError("a ROW event has changes that cannot be read") from None


class EncodedChanges(Collection[binlogdata.RowChange]):
    """The changes of serialized ROW events, one by one or by column.

    Reading them raises ProtocolError if they are not RowChanges.
    """

    def __init__(self, events: Sequence[bytes], count: int, kind: str) -> None:
        """Keep the bytes; iterating parses them.

        Args:
            count: how many changes the events have.
            kind: which images they have; see `_kind`.
        """
        self._events = events
        self._count = count
        self.kind = kind

    @classmethod
    def joined(cls, parts: Sequence[EncodedChanges]) -> EncodedChanges:
        """Join changes of one kind."""
        events = [*chain.from_iterable(part._events for part in parts)]  # noqa: SLF001 - its own
        return cls(events, sum(map(len, parts)), parts[0].kind)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[binlogdata.RowChange]:
        with _whole_changes():
            read = [binlogdata.VEvent.FromString(event).row_event for event in self._events]
        return chain.from_iterable(event.row_changes for event in read)

    def __contains__(self, change: object) -> bool:
        return any(change == own for own in self)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return sum(map(len, self._events))

    def by_column(self) -> Changes | None:
        """Return the images; None if some are not whole, or of several kinds."""
        with _whole_changes():
            merged = by_column.CopiedEvents.FromString(b"".join(self._events)).row_event
            reads = _read_both(merged.row_changes)
            del merged  # and all that has been read of it, which may be huge
        return _by_column(reads, len(self))


def _read_both(merged: by_column.Changes) -> tuple[Read | None, Read | None] | None:
    """Read the images before and after; None if some are not whole."""
    if merged.data_columns or merged.json_partial_values:
        return None
    return (
        read_images(merged.before) if merged.HasField("before") else None,
        read_images(merged.after) if merged.HasField("after") else None,
    )


def _by_column(reads: tuple[Read | None, Read | None] | None, rows: int) -> Changes | None:
    """Make images of so many rows; None if not every row has all of them."""
    if reads is None or not any(reads):
        return None
    images = [read and Images.of(read, rows) for read in reads]
    if any(read and not made for read, made in zip(reads, images, strict=True)):
        return None
    return Changes(rows, *images)


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
