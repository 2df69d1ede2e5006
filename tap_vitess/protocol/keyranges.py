"""Which part of a keyspace a shard holds, by its name. Pure.

A shard `40-80` holds the keyspace ids from 0x40 to below 0x80; an end that is left out is the end
of all ids, and zeros at the end of a number mean nothing (`80` and `8000` are one place). A name
that is no range, as `0`, is the one shard of an unsharded keyspace, which holds everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RANGE = re.compile(r"((?:[0-9a-f]{2})*)-((?:[0-9a-f]{2})*)", re.IGNORECASE)
_END = (1, b"")  # behind every id

Place = tuple[int, bytes]
Range = tuple[Place, Place]


def uncovered(shards: Iterable[str], by: Iterable[str]) -> list[str]:
    """Name the shards of which some part is in none of others, sorted."""
    covering = sorted(map(_range, by))
    return sorted(shard for shard in shards if not _covers(covering, _range(shard)))


def _range(shard: str) -> Range:
    match = _RANGE.fullmatch(shard)
    first, last = match.groups() if match else ("", "")
    return _place(first), _place(last) if last else _END


def _place(number: str) -> Place:
    return 0, bytes.fromhex(number).rstrip(b"\0")


def _covers(ranges: Iterable[Range], wanted: Range) -> bool:
    """Return whether ranges, in order of where they begin, leave out nothing of another."""
    reached, end = wanted
    for first, last in ranges:
        if first > reached:
            break
        reached = max(reached, last)
    return reached >= end
