"""Whether a run can still resume from a bookmark, judged by the shards and their MySQL. Pure.

Between two runs, binlogs may be purged, shards deleted, clusters replaced. VTGate reports most of
that as CANCELED after 90 s, so the tap asks by SQL: on each shard, the bookmark must contain the
purged transactions, and the executed ones must contain the bookmark. Old shards of a reshard cannot
be asked (VTGate answers as if they did not exist), but VTGate follows from them while it can; so
shards that do not answer are left to VTGate. Of several replicas only one is asked, and another may
have what this one lacks; so only a primary's answer is final.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tap_vitess.errors import PositionLostError, ShardsGoneError
from tap_vitess.protocol.keyranges import WHOLE, KeyRanges, uncovered
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.facts import ShardFacts

NEARLY_PURGED = 0.8
_DAY = 86_400
_COPY = "set on_lost_position to `resync` for a run to copy its tables again"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a bookmark. lost: why no run can resume from it; warnings: what may happen."""

    lost: tuple[str, ...]
    warnings: tuple[str, ...]

    def error(self, keyspace: str) -> PositionLostError | None:
        """Return the error for a lost bookmark, with what to do."""
        if not self.lost:
            return None
        return PositionLostError(f"{keyspace}: {'; '.join(self.lost)}; {_COPY}")


def lacking(position: Vgtid, serving: Collection[str], ranges: KeyRanges = WHOLE) -> str | None:
    """Say why a bookmark does not fit the serving shards, and what to do; None if it fits.

    Args:
        serving: the shards that serve in `ranges`.
        ranges: the part of the keyspace that is read.
    """
    for shard in sorted(position.shards):
        if border := ranges.border(shard):
            return (
                f"shard {shard} of the bookmark crosses the border {border} of the setting shards: "
                "run once more with ranges that hold it, which follows its reshard, and change "
                "them after that"
            )
    if not (missing := uncovered(serving, position.shards)):
        return None
    job = (
        ", or the setting shards was changed: then join the states of all jobs that had these "
        "shards by `tap-vitess join-states`"
    )
    return (
        f"the bookmark knows nothing of shard {', '.join(missing)}, which serves, only of "
        f"{', '.join(sorted(position.shards))}: the state was cut short, or is another keyspace's"
        f"{job}"
    )


def check_shards(position: Vgtid, serving: Collection[str], ranges: KeyRanges) -> None:
    """Check that a bookmark has every serving shard, and none that crosses a border.

    Raises:
        ShardsGoneError: it does not.
    """
    if why := lacking(position, serving, ranges):
        raise ShardsGoneError(f"{position.keyspace}: {why}; {_COPY}")


def judge(
    position: Vgtid, facts: Mapping[str, ShardFacts], tablet_type: str, copied: float = 0.0
) -> Verdict:
    """Compare a bookmark with the shards that have answered.

    Args:
        copied: when a copy of its tables began, in seconds since 1970; the bookmark is not older.
    """
    lost: list[str] = []
    warnings: list[str] = []
    for shard, found in facts.items():
        saved = position.shards.get(shard)
        if saved is None:
            continue
        why = None
        if unknown := saved.intervals.keys() - found.executed.intervals.keys():
            why = (
                f"shard {shard} does not know the server {', '.join(sorted(unknown))} of the "
                "bookmark, which comes from another cluster or from a primary that was lost"
            )
        elif not saved.contains(found.purged):
            why = (
                f"the binlogs of shard {shard} have been purged: {found.purged.beyond(saved)} "
                "transactions after the bookmark are gone; keep binlogs for longer than the time "
                "between two runs"
            )
        elif not found.executed.contains(saved) and tablet_type == "PRIMARY":
            why = (
                f"shard {shard} lacks {saved.beyond(found.executed)} transactions of the bookmark, "
                "whose writes were lost in a failover or which comes from another cluster"
            )
        elif _nearly_purged(lag := found.executed.beyond(saved), found, copied):
            retained = found.executed.beyond(found.purged)
            warnings.append(
                f"shard {shard}: {lag} of the {retained} transactions that MySQL still "
                "keeps in its binlogs come after the bookmark; it is close to being purged, run "
                "more often or keep binlogs longer"
            )
        if why is not None:
            (lost if tablet_type == "PRIMARY" else warnings).append(why)
    return Verdict(tuple(lost), tuple(warnings))


def _nearly_purged(lag: int, found: ShardFacts, copied: float) -> bool:
    """Return whether a bookmark that may be old lags by most of the transactions that MySQL keeps.

    Right after a purge MySQL keeps little, and nearly all of it comes after any bookmark.
    """
    kept = min(found.binlog_expire_seconds or _DAY, _DAY)
    if not found.purged.count or found.clock - copied < NEARLY_PURGED * kept:
        return False
    return lag > NEARLY_PURGED * found.executed.beyond(found.purged)


# Before this version, VStream silently drops updates that are logged with PARTIAL_JSON.
READS_PARTIAL_JSON = (22, 0, 0)


# Before this version, VTGate looks for a tablet that serves an old shard, for 90 s.
FOLLOWS_OLD_SHARDS = (20, 0, 0)
