"""Which part of a keyspace a shard holds, by its name, and which shards a job has. Pure.

A shard `40-80` holds the keyspace ids from 0x40 to below 0x80. A missing end is open, and trailing
zeros mean nothing (`80` and `8000` are the same place). A name that is not a range, such as `0`, is
the only shard of an unsharded keyspace, which holds everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tap_vitess.errors import ConfigError

_RANGE = re.compile(r"((?:[0-9a-f]{2})*)-((?:[0-9a-f]{2})*)", re.IGNORECASE)
_END = (1, b"")  # after every id

Place = tuple[int, bytes]
Range = tuple[Place, Place]


@dataclass(frozen=True, slots=True)
class KeyRanges:
    """The key ranges that a job reads, named like shards; without any, the whole keyspace."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str]) -> KeyRanges:
        """Check ranges that a user has written.

        Raises:
            ConfigError: one is not a range or is empty, or two overlap.
        """
        for name in names:
            if _RANGE.fullmatch(name) is None:
                raise ConfigError(
                    f"{name!r:.200} is not a key range: write two ends of hexadecimal digits, an "
                    "even number of them, as in 40-80, -40 or c0-"
                )
            first, last = _range(name)
            if first >= last:
                raise ConfigError(f"the key range {name:.200} is empty: its end is not after it")
        for one, other in pairwise(sorted(names, key=_range)):
            if _range(other)[0] < _range(one)[1]:
                raise ConfigError(f"the key ranges {one:.200} and {other:.200} overlap")
        return cls(tuple(names))

    def __str__(self) -> str:
        return ", ".join(self.names)

    def holds(self, shard: str) -> bool:
        """Return whether all of a shard is in the ranges."""
        return not self.names or _covers(sorted(map(_range, self.names)), _range(shard))

    def meets(self, shard: str) -> bool:
        """Return whether a part of a shard is in the ranges."""
        first, last = _range(shard)
        ranges = [_range(name) for name in self.names]
        return not ranges or any(begin < last and first < end for begin, end in ranges)

    def border(self, shard: str) -> str | None:
        """Return an end of the ranges that lies within a shard, or None.

        A place where two ranges meet is not an end.
        """
        ends = [
            pair for name in self.names for pair in zip(name.split("-"), _range(name), strict=True)
        ]
        places = [place for _, place in ends]
        first, last = _range(shard)
        within = (end for end, place in ends if first < place < last and places.count(place) == 1)
        return next(within, None)


WHOLE = KeyRanges()


def is_range(shard: str) -> bool:
    """Return whether a shard's name is a range, as in a sharded keyspace."""
    return _RANGE.fullmatch(shard) is not None


def uncovered(shards: Iterable[str], by: Iterable[str]) -> list[str]:
    """Return the shards that others do not cover completely, sorted."""
    covering = sorted(map(_range, by))
    return sorted(shard for shard in shards if not _covers(covering, _range(shard)))


def _range(shard: str) -> Range:
    match = _RANGE.fullmatch(shard)
    first, last = match.groups() if match else ("", "")
    return _place(first), _place(last) if last else _END


def _place(number: str) -> Place:
    return 0, bytes.fromhex(number).rstrip(b"\0")


def _covers(ranges: Iterable[Range], wanted: Range) -> bool:
    """Return whether ranges, sorted by their beginnings, cover another completely."""
    reached, end = wanted
    for first, last in ranges:
        if first > reached:
            break
        reached = max(reached, last)
    return reached >= end
