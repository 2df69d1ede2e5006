"""The lengths of a response's values, which cut its bytes into values. Pure; the hot path.

protobuf's own list costs an object for each length. Nearly all values are shorter than 64 bytes,
with lengths of one byte each: those lengths stay bytes, and are searched by operations on bytes.
`struct` cuts the values, a third faster than a call for each value; its format, `05s12s00s`, is
built one digit position at a time, for all values at once. If there are many long values,
protobuf's list is faster.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate

from google.protobuf.message import DecodeError

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError

_CONTINUED = bytes(range(0x80, 0x100))  # bytes that do not end a varint
_ENDS = bytes(range(0x80))
_MARKED = _ENDS + b"\x80" * 0x80
# Varints of more than five bytes are longer than any message: they stay in place, as invalid.
_LONG = re.compile(rb"([\x80-\xff]{1,4}[\x00-\x7f])")
_NULL = re.compile(rb"\x01")
_SHORT = bytes([1, *range(0, 0x80, 2)])
# The digits of a short length, by its mark.
_SIZES = [0 if mark == 1 else mark // 2 for mark in range(128)]
_TENS = bytes(ord("0") + size // 10 for size in _SIZES) * 2
_ONES = bytes(ord("0") + size % 10 for size in _SIZES) * 2
# A long length costs as much as so many in protobuf's list, or two or three if many are NULL.
_WORTH = 6
_LARGE = 1 << 22  # bytes; of more, only the wanted values are cut


def count(packed: bytes) -> int:
    """Return how many lengths there are."""
    return len(packed) if packed.isascii() else len(packed.translate(None, _CONTINUED))


def listed(packed: bytes, where: str) -> list[int]:
    """Return the lengths; raises ProtocolError: one is invalid."""
    try:
        return list(query.Row.FromString(b"\x0a" + varint(len(packed)) + packed).lengths)
    except DecodeError:
        raise ProtocolError(f"{where}: an invalid length") from None


@dataclass(frozen=True, slots=True)
class Part:
    """Some whole rows.

    values: those of each wanted column, no bytes for NULL. nulls: the rows with a NULL, for each
    wanted column that has any. end: where the rows' values end.
    """

    values: Mapping[int, Sequence[bytes]]
    nulls: Mapping[int, Sequence[int]]
    end: int


class Lengths:
    """The lengths of rows of one width."""

    def __init__(self, packed: bytes, width: int, where: str) -> None:
        """Parse them; raises ProtocolError: one is below -1 or invalid."""
        self._width = width
        self._where = where
        # A byte each: twice the length, 1 for NULL, 0 for a long one.
        self._marks = packed
        self._places: list[int] = []  # of the long ones, counted from 1
        self._long: list[int] = []
        self._list: list[int] | None = None
        if not packed.isascii():
            self._take_long(packed, where)
        self._total = len(self._marks if self._list is None else self._list)
        least = min(self._long if self._list is None else self._list, default=0)
        if least < -1 or (self._list is None and self._marks.translate(None, _SHORT)):
            raise ProtocolError(f"{where}: an invalid length")

    def _take_long(self, packed: bytes, where: str) -> None:
        total = count(packed)
        if (len(packed) - total) * _WORTH > total:
            self._list = listed(packed, where)
            return
        shorts, self._long = _of_two_bytes(packed) or _of_some_bytes(packed)
        self._places = list(accumulate(len(short) + 1 for short in shorts[:-1]))
        self._marks = b"\x00".join(shorts)

    def __len__(self) -> int:
        return self._total

    def cut(self, values: bytes, start: int, first: int, last: int, columns: Sequence[int]) -> Part:
        """Cut the values of the rows from `first` to before `last`.

        Args:
            values: all values.
            start: where those of the first row begin.
            first: the number of a row.
            last: the number of the row after them.
            columns: which are wanted, in order.

        Raises:
            ProtocolError: there are fewer bytes.
        """
        if self._list is not None:
            return self._cut_by_list(self._list, values, start, slice(first, last), columns)
        width = self._width
        marks = self._marks[first * width : last * width]
        try:
            format_ = self._format(marks, first * width, columns)
            cut = format_.unpack_from(values, start)
        except struct.error:
            raise ProtocolError(f"{self._where}: a row has fewer bytes than its values") from None
        taken = len(columns)
        found = {index: cut[place::taken] for place, index in enumerate(columns)}
        nulls = self._nulls(marks, columns) if b"\x01" in marks else {}
        return Part(found, nulls, start + format_.size)

    def _format(self, marks: bytes, start: int, columns: Sequence[int]) -> struct.Struct:
        """Make the format: a size and `s` for each value, or `x` (skip) in other columns."""
        behind = start + len(marks)
        long = range(bisect(self._places, start), bisect(self._places, behind))
        digits = len(str(max([10, *(self._long[i] for i in long)])))
        step = digits + 1
        written = bytearray(b"0" * digits + b"s") * len(marks)
        written[digits - 2 :: step] = marks.translate(_TENS)
        written[digits - 1 :: step] = marks.translate(_ONES)
        for i in long:
            at = (self._places[i] - start - 1) * step
            written[at : at + digits] = b"%0*d" % (digits, self._long[i])
        if len(columns) < self._width:
            row = bytearray(b"x" * self._width)
            for index in columns:
                row[index] = ord("s")
            written[digits::step] = row * (len(marks) // self._width)
        return struct.Struct(bytes(written))

    def _nulls(self, marks: bytes, columns: Sequence[int]) -> dict[int, list[int]]:
        by_column = {index: marks[index :: self._width] for index in columns}
        return {
            index: [match.start() for match in _NULL.finditer(column)]
            for index, column in by_column.items()
            if b"\x01" in column
        }

    def _cut_by_list(
        self, lengths: list[int], values: bytes, start: int, rows: slice, columns: Sequence[int]
    ) -> Part:
        width = self._width
        sizes = lengths[rows.start * width : rows.stop * width]
        nulls: dict[int, list[int]] = {}
        for index in range(width):
            column = sizes[index::width]
            if -1 in column:
                if index in columns:
                    nulls[index] = [row for row, size in enumerate(column) if size < 0]
                sizes[index::width] = [max(size, 0) for size in column]
        end = start + sum(sizes)
        if end > len(values):
            raise ProtocolError(f"{self._where}: a row has fewer bytes than its values")
        if end - start > _LARGE and len(columns) < width:
            ends = [*accumulate(sizes, initial=start)]
            pairs = {i: zip(ends[i::width], ends[i + 1 :: width], strict=False) for i in columns}
            return Part({i: [values[a:b] for a, b in pairs[i]] for i in columns}, nulls, end)
        file = BytesIO(values)
        file.seek(start)
        cut = tuple(map(file.read, sizes))
        return Part({index: cut[index::width] for index in columns}, nulls, end)


def _of_two_bytes(packed: bytes) -> tuple[list[bytes], list[int]] | None:
    """Return what is between the long lengths, and these; None unless all have two bytes."""
    marked = packed.translate(_MARKED)
    if b"\x80\x80" in marked or marked.endswith(b"\x80"):
        return None
    first, *others = marked.split(b"\x80")
    highs = [part[0] for part in others]
    lows = packed.translate(None, _ENDS)
    long = [(low & 0x7F | high << 7) >> 1 for low, high in zip(lows, highs, strict=True)]
    if any(low & 1 for low in lows):  # below zero
        return None
    return [first, *(part[1:] for part in others)], long


def _of_some_bytes(packed: bytes) -> tuple[list[bytes], list[int]]:
    parts = _LONG.split(packed)
    return parts[::2], list(map(_zigzag, parts[1::2]))


def _zigzag(varint: bytes) -> int:
    value = 0
    for place, byte in enumerate(varint):
        value |= (byte & 0x7F) << 7 * place
    return value >> 1 if not value & 1 else -(value >> 1) - 1


def varint(value: int) -> bytes:
    """Write a number as protobuf does."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
