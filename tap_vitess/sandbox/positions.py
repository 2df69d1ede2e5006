"""GTID positions of the sandbox: each shard has one server uuid, so a position is a number.

Surprising: VStream wants `MySQL56/` before a set and `show global gtid_executed` gives none;
an empty set after the prefix is the beginning of the binlog, an empty string is a fresh copy.
"""

import re

from tap_vitess.sandbox.cluster import Shard

PREFIX = "MySQL56/"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_SET = re.compile(rf"\s*({_UUID})((?::\d+(?:-\d+)?)+)\s*")


class PositionError(Exception):
    """The tablet cannot read the position."""


class ForeignPositionError(Exception):
    """The position holds transactions the shard does not have."""


def format_position(shard: Shard, number: int) -> str:
    if shard.by_file:
        return f"FilePos/vt-bin.000001:{number}"
    return PREFIX + shard.gtid_set(number)


def parse_position(shard: Shard, gtid: str) -> int:
    """The number of the last transaction of the shard that the position contains."""
    flavor, slash, text = gtid.partition("/")
    if not slash or flavor != "MySQL56":
        shown = flavor if slash else ""
        raise PositionError(
            f'could not decode position: parse error: unknown GTIDSet flavor "{shown}"'
        )
    number = 0
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _SET.fullmatch(part)
        if match is None:
            raise PositionError(
                f'could not decode position: invalid MySQL 5.6 GTID set ("{part}"): '
                "expected uuid:interval"
            )
        intervals = [
            (int(start), int(end or start))
            for start, end in re.findall(r":(\d+)(?:-(\d+))?", match[2])
        ]
        if match[1].lower() != shard.uuid or max(end for _, end in intervals) > shard.executed:
            raise ForeignPositionError(gtid)
        number = _contiguous(intervals)
    return number


def _contiguous(intervals: list[tuple[int, int]]) -> int:
    """The end of the first part without a gap, so that no missing transaction is skipped."""
    number = 0
    for start, end in sorted(intervals):
        if start > number + 1:
            break
        number = max(number, end)
    return number
