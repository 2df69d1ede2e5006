"""GTID sets of MySQL: parse, text, contains, intersection.

A set is, for each server UUID, a list of closed intervals that are sorted, apart and not
adjacent, so two equal sets are equal values. Positions are compared by containment and never
as text: a stream may skip past a stop position, and two servers may write one set differently.

`SHOW GLOBAL GTID_EXECUTED` gives sets without VStream's prefix `MySQL56/` and with newlines
after the commas (facts, 8.2); both forms are read. Two other forms are errors that say what to do:
positions in a binlog file (FilePos), which VStream sends if there are no GTIDs, and tagged GTIDs
(MySQL 8.3 and later, `uuid:tag:1-5`). Vitess cannot read these, and once a tablet's MySQL has one,
no stream opens there (v24 with MySQL 9.7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tap_vitess.errors import GtidError, ProtocolError

Interval = tuple[int, int]

FLAVOR = "MySQL56/"
_FILE_FLAVOR = "FilePos/"
NO_GTIDS = (
    "VStream can be followed with GTIDs only: set gtid_mode=ON on the tablets' MySQL, and start "
    "vttablet without --db_flavor FilePos"
)
TAGGED = (
    "MySQL has executed transactions with tagged GTIDs (uuid:tag:1-5), which Vitess cannot read: "
    "end what sets gtid_next to AUTOMATIC:tag, say RESET BINARY LOGS AND GTIDS on every tablet of "
    "the shard, and set on_lost_position to `resync` for a run"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGITS = 19  # of the largest number of a transaction, 2^63 - 2
_INTERVAL = re.compile(rf"([0-9]{{1,{_DIGITS}}})(?:-([0-9]{{1,{_DIGITS}}}))?")
_TAG = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class GtidSet:
    """A set of transactions, by server UUID (lower case); values are sorted closed intervals."""

    intervals: Mapping[str, tuple[Interval, ...]]

    @classmethod
    def parse(cls, text: str, where: str = "a position") -> GtidSet:
        """Read `[MySQL56/]uuid:1-5:7,uuid:1`; the empty text is the empty set.

        Args:
            where: `keyspace/shard`, for errors.

        Raises:
            GtidError: the position has no GTIDs, or tagged ones.
            ProtocolError: the text is not a MySQL GTID set.
        """
        if text.startswith(_FILE_FLAVOR):
            raise GtidError(f"{where}: {_shorten(text)} is a place in a binlog file; {NO_GTIDS}")
        found: dict[str, list[Interval]] = {}
        for part in text.removeprefix(FLAVOR).split(","):
            uuid, *ranges = (piece.strip() for piece in part.split(":"))
            if not uuid and not ranges:
                continue
            if not _UUID.fullmatch(uuid) or not ranges:
                raise ProtocolError(f"{where}: not a GTID set of MySQL: {_shorten(text)}")
            if any(_TAG.fullmatch(piece) for piece in ranges):
                raise GtidError(f"{where}: {TAGGED}")
            found.setdefault(uuid.lower(), []).extend(
                _interval(piece, text, where) for piece in ranges
            )
        return cls({uuid: _normal(ranges) for uuid, ranges in found.items()})

    def contains(self, other: GtidSet) -> bool:
        """Return whether every transaction of `other` is in this set."""
        return all(
            _covers(self.intervals.get(uuid, ()), ranges)
            for uuid, ranges in other.intervals.items()
        )

    def intersection(self, other: GtidSet) -> GtidSet:
        """Return the transactions that are in both sets."""
        common = {
            uuid: _overlap(ranges, other.intervals[uuid])
            for uuid, ranges in self.intervals.items()
            if uuid in other.intervals
        }
        return GtidSet({uuid: ranges for uuid, ranges in common.items() if ranges})

    @property
    def count(self) -> int:
        """The number of transactions."""
        return sum(b - a + 1 for ranges in self.intervals.values() for a, b in ranges)

    def beyond(self, other: GtidSet) -> int:
        """Count the transactions that are in this set and not in `other`."""
        return self.count - self.intersection(other).count

    def first_beyond(self, other: GtidSet) -> str | None:
        """Return the first transaction, of any server, that is in this set and not in `other`."""
        for uuid, ranges in sorted(self.intervals.items()):
            for first, last in ranges:
                number = first
                for start, end in other.intervals.get(uuid, ()):
                    number = end + 1 if start <= number <= end else number
                if number <= last:
                    return f"{uuid}:{number}"
        return None

    def __str__(self) -> str:
        """Return the text VStream takes, with its prefix."""
        return FLAVOR + ",".join(
            ":".join((uuid, *(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)))
            for uuid, ranges in sorted(self.intervals.items())
        )


class Goal:
    """Tells whether a growing GTID set contains a goal, by its text, mostly without parsing.

    As a rule, consecutive texts differ only in their last number, and the answer depends on it.
    """

    def __init__(self, goal: GtidSet, where: str = "a position") -> None:
        """Set the goal; `where` is `keyspace/shard`, for errors."""
        self._goal = goal
        self._where = where
        self._head: str | None = None
        self._needed: int | None = None  # the last number to reach after this head, if any

    def reached(self, text: str) -> bool:
        """Return whether the set that a text names contains the goal.

        Raises:
            ProtocolError: the text is not a MySQL GTID set.
        """
        head, _, last = text.rpartition("-")
        if head != self._head or not last.isdecimal() or len(last) > _DIGITS:
            found = GtidSet.parse(text, self._where)
            self._learn(head, last, found)
            return found.contains(self._goal)
        return self._needed is not None and int(last) >= self._needed

    def _learn(self, head: str, last: str, found: GtidSet) -> None:
        """Note which last number is enough, if the text ends in a server's highest interval."""
        self._head = None
        uuid = head.removeprefix(FLAVOR).rpartition(",")[2].partition(":")[0].strip().lower()
        ranges = found.intervals.get(uuid, ())
        if not last.isdecimal() or not ranges or ranges[-1][1] != int(last):
            return
        first = ranges[-1][0]
        wanted = self._goal.intervals.get(uuid, ())
        enough = wanted[-1][1] if wanted and wanted[-1][1] >= first else 0
        grown = GtidSet({**found.intervals, uuid: (*ranges[:-1], (first, max(first, enough)))})
        self._head = head
        self._needed = enough if grown.contains(self._goal) else None


def _interval(piece: str, text: str, where: str) -> Interval:
    match = _INTERVAL.fullmatch(piece)
    if match is None:
        raise ProtocolError(f"{where}: not a GTID set of MySQL: {_shorten(text)}")
    first = int(match[1])
    last = int(match[2] or first)
    if not 1 <= first <= last:
        raise ProtocolError(f"{where}: a GTID interval runs backwards: {_shorten(text)}")
    return first, last


def _normal(ranges: Iterable[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _covers(outer: tuple[Interval, ...], inner: tuple[Interval, ...]) -> bool:
    return all(any(a <= first and last <= b for a, b in outer) for first, last in inner)


def _overlap(left: tuple[Interval, ...], right: tuple[Interval, ...]) -> tuple[Interval, ...]:
    return _normal(
        (max(a, c), min(b, d)) for a, b in left for c, d in right if max(a, c) <= min(b, d)
    )


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
