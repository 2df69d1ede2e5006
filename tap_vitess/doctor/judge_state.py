"""Judges a keyspace's bookmark against its shards and tables: facts in, findings out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from tap_vitess.doctor.findings import Finding, Place, Severity, duration
from tap_vitess.state import COPIED, KeyspaceState
from tap_vitess.survey import ShardFacts, Tablet
from tap_vitess.vstream.gtid import GtidSet

OK, INFO, WARNING, ERROR = Severity.OK, Severity.INFO, Severity.WARNING, Severity.ERROR

LEAST_MARGIN = 0.2  # of the transactions that binlogs still hold, how many must lie before S

_COPY_AGAIN = "copy these tables again"


def bookmark(
    state: KeyspaceState,
    serving: Collection[str],
    found: Collection[Tablet],
    facts: Mapping[str, ShardFacts],
) -> Iterator[Finding]:
    """Judge each position of a keyspace's state, shard by shard."""
    for group in state.groups:
        names = _some(group.tables)
        for name, gtids in sorted(group.position.shards.items()):
            place = Place(state.keyspace, name)
            if name not in serving:
                yield _shard_gone(place, names, {tablet.shard for tablet in found})
            elif name in facts:
                yield _position(place, names, gtids, facts[name])


def unfinished(state: KeyspaceState) -> Iterator[Finding]:
    """Tell which copies the next run goes on with."""
    for table, shards in sorted(state.copies.items()):
        done = sum(progress is COPIED for progress in shards.values())
        yield Finding(
            INFO,
            "copy",
            Place(state.keyspace, table=table),
            f"its copy is not finished ({done} of {len(shards)} shards are); the next run goes on",
        )


def followed(
    state: KeyspaceState, there: Collection[str], chosen: Collection[str]
) -> Iterator[Finding]:
    """Compare the state's tables with those that are there, and with those to be read."""
    names = {table for group in state.groups for table in group.tables}
    for table in sorted(names - set(there)):
        yield Finding(
            ERROR if table in chosen else WARNING,
            "state",
            Place(state.keyspace, table=table),
            "the state follows a table that is not there (any more): it was dropped, renamed, or "
            "moved away by MoveTables",
            "discover again",
        )
    if new := set(chosen) - names:
        yield Finding(
            INFO, "state", Place(state.keyspace), f"{_some(new)}: the next run copies these tables"
        )


def _shard_gone(place: Place, names: str, listed: Collection[str]) -> Finding:
    if place.shard in listed:
        return Finding(
            WARNING,
            "position",
            place,
            f"the bookmark of {names} names a shard that no longer serves: it was resharded, and "
            "the next run follows that only while the old shard is kept",
            "run before the reshard is completed; if it is completed, " + _COPY_AGAIN,
        )
    return Finding(
        ERROR,
        "position",
        place,
        f"the bookmark of {names} names a shard that is not there any more",
        _COPY_AGAIN,
    )


def _position(place: Place, names: str, gtids: GtidSet, facts: ShardFacts) -> Finding:
    """Judge a position: purged ⊆ S ⊆ executed, and how far it is from both."""
    if not facts.executed.contains(gtids):
        return Finding(
            ERROR,
            "position",
            place,
            f"the bookmark of {names} has transactions that this shard does not have: it is of "
            "another cluster, or of a primary whose last writes were lost in a failover",
            "give the state of this cluster, or " + _COPY_AGAIN,
        )
    if not gtids.contains(facts.purged):
        lost = facts.purged.count() - facts.purged.intersection(gtids).count()
        return Finding(
            ERROR,
            "position",
            place,
            f"the binlogs after the bookmark of {names} are purged: {lost:,} transactions of "
            "them are gone",
            "keep binlogs for longer than the time between two runs; " + _COPY_AGAIN,
        )
    held = facts.executed.count() - facts.purged.count()
    before = gtids.count() - facts.purged.count()
    behind = facts.executed.count() - gtids.count()
    where = (
        f"the bookmark of {names} is {behind:,} transactions behind; of the {held:,} that the "
        f"binlogs hold, {before:,} lie before it"
    )
    if behind and facts.purged.count() and before < LEAST_MARGIN * held:
        kept = facts.binlog_expire_seconds
        return Finding(
            WARNING,
            "position",
            place,
            f"{where}: it is close to being purged",
            "run soon, or keep binlogs for longer"
            + (f" than {duration(kept)} (binlog_expire_logs_seconds)" if kept else ""),
        )
    return Finding(OK, "position", place, where)


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
