"""Lengths of values as protobuf packs them, zigzag varints in a row. Pure; the hot path.

An object a length is what protobuf's own list costs. Nearly all values are shorter than 64 bytes,
and their lengths one byte each: those are taken as bytes, and looked through by what works on
bytes at once. Where long values are many, protobuf's list is the faster one.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from google.protobuf.message import DecodeError

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError

_CONTINUED = bytes(range(0x80, 0x100))  # what does not end a varint
# Those of more than five bytes are longer than any message, and stay what is no length.
_LONG = re.compile(rb"([\x80-\xff]{1,4}[\x00-\x7f])")
_NULL = re.compile(rb"\x01")
_SHORT = bytes([1, *range(0, 0x80, 2)])
_HALVES = bytes([0, 0, *(value // 2 for value in range(2, 256))])
# A long length costs here what so many cost as protobuf's, or two or three where NULLs are many.
_WORTH = 6


def count(packed: bytes) -> int:
    """Return how many lengths there are."""
    return len(packed) if packed.isascii() else len(packed.translate(None, _CONTINUED))


@dataclass(frozen=True, slots=True)
class Part:
    """Lengths of some whole rows.

    sizes: how many bytes each value has, none for NULL. nulls: the rows that hold a NULL, for each
    column that has some.
    """

    sizes: Sequence[int]
    nulls: Mapping[int, Sequence[int]]


class Lengths:
    """The lengths of rows of one width."""

    def __init__(self, packed: bytes, width: int, where: str) -> None:
        """Take them.

        Raises:
            ProtocolError: they are no whole rows, or below -1.
        """
        self._width = width
        # A byte each: twice the length, 1 for NULL, 0 where it is among the long ones.
        self._marks = packed
        self._places: list[int] = []  # of the long ones, counted from 1
        self._long: list[int] = []
        self._list: list[int] | None = None
        if not packed.isascii():
            self._take_long(packed, where)
        self._total = len(self._marks if self._list is None else self._list)
        if not width or self._total % width:
            raise ProtocolError(f"{where}: {self._total} values are no rows of {width} columns")
        least = min(self._long if self._list is None else self._list, default=0)
        if least < -1 or (self._list is None and self._marks.translate(None, _SHORT)):
            raise ProtocolError(f"{where}: a length that is none")

    def _take_long(self, packed: bytes, where: str) -> None:
        total = count(packed)
        if (len(packed) - total) * _WORTH > total:
            row = b"\x0a" + _varint(len(packed)) + packed
            try:
                self._list = list(query.Row.FromString(row).lengths)
            except DecodeError:
                raise ProtocolError(f"{where}: a length that is none") from None
            return
        parts = _LONG.split(packed)
        shorts, longs = parts[::2], parts[1::2]
        self._places = list(accumulate(len(short) + 1 for short in shorts[:-1]))
        self._long = list(map(_zigzag, longs))
        self._marks = b"\x00".join(shorts)

    def __len__(self) -> int:
        return self._total

    def rows(self, first: int, last: int) -> Part:
        """Return the lengths of the rows from `first` to before `last`."""
        start, stop = first * self._width, last * self._width
        if self._list is not None:
            return self._of_list(self._list[start:stop])
        marks = self._marks[start:stop]
        sizes: Sequence[int] = marks.translate(_HALVES)
        first_long, behind = bisect(self._places, start), bisect(self._places, stop)
        if first_long < behind:
            sizes = list(sizes)
            for i in range(first_long, behind):
                sizes[self._places[i] - start - 1] = self._long[i]
        return Part(sizes, self._nulls(marks) if b"\x01" in marks else {})

    def _nulls(self, marks: bytes) -> dict[int, list[int]]:
        columns = {index: marks[index :: self._width] for index in range(self._width)}
        return {
            index: [match.start() for match in _NULL.finditer(column)]
            for index, column in columns.items()
            if b"\x01" in column
        }

    def _of_list(self, sizes: list[int]) -> Part:
        nulls: dict[int, list[int]] = {}
        for index in range(self._width):
            column = sizes[index :: self._width]
            if -1 in column:
                nulls[index] = [row for row, size in enumerate(column) if size < 0]
                sizes[index :: self._width] = [max(size, 0) for size in column]
        return Part(sizes, nulls)


@lru_cache(maxsize=4096)
def _zigzag(varint: bytes) -> int:
    value = 0
    for place, byte in enumerate(varint):
        value |= (byte & 0x7F) << 7 * place
    return value >> 1 if not value & 1 else -(value >> 1) - 1


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
