"""Judges a keyspace's bookmark against its shards and tables: facts in, findings out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from tap_vitess.config import Config
from tap_vitess.doctor.findings import ERROR, WARNING, Finding, Place
from tap_vitess.run.state import COPIED, Group, KeyspaceState
from tap_vitess.survey.bookmark import judge, lacking
from tap_vitess.survey.facts import ShardFacts, Tablet

_COPY_AGAIN = "set on_lost_position to `resync` for a run to copy these tables again"


def bookmark(
    state: KeyspaceState,
    serving: Collection[str],
    found: Collection[Tablet],
    facts: Mapping[str, ShardFacts],
    config: Config,
) -> Iterator[Finding]:
    """Judge each position of a keyspace's state, shard by shard."""
    for group in state.groups:
        names = _some(group.tables)
        if why := lacking(group.position, serving, config.ranges):
            yield _lost(Place(state.keyspace), f"{names}: {why}", config)
        for name in sorted(group.position.shards):
            place = Place(state.keyspace, name)
            if not config.ranges.meets(name):
                yield place.info(
                    "position",
                    f"the bookmark of {names} knows this shard, which is outside of the setting "
                    "shards: the next run forgets it",
                )
            elif name not in serving:
                yield _shard_gone(place, names, {tablet.shard for tablet in found}, config)
            elif name in facts:
                yield from _position(place, names, group, facts[name], config)


def unfinished(state: KeyspaceState) -> Iterator[Finding]:
    """Report which copies the next run resumes."""
    for table, shards in sorted(state.copies.items()):
        done = sum(progress is COPIED for progress in shards.values())
        yield Place(state.keyspace, table=table).info(
            "copy",
            f"its copy is not finished ({done} of {len(shards)} shards are); the next run resumes "
            "it",
        )


def followed(
    state: KeyspaceState, there: Collection[str], chosen: Collection[str]
) -> Iterator[Finding]:
    """Compare the state's tables with those that exist, and with those to read."""
    names = {table for group in state.groups for table in group.tables}
    for table in sorted(names - set(there)):
        yield Place(state.keyspace, table=table).finding(
            ERROR if table in chosen else WARNING,
            "state",
            "the state follows a table that is not there (any more): it was dropped, renamed, or "
            "moved away by MoveTables",
            "discover again",
        )
    if new := set(chosen) - names:
        yield Place(state.keyspace).info("state", f"{_some(new)}: the next run copies these tables")


def _shard_gone(place: Place, names: str, listed: Collection[str], config: Config) -> Finding:
    if place.shard in listed:
        return place.warning(
            "position",
            f"the bookmark of {names} names a shard that no longer serves: it was resharded, and "
            "the next run follows that only while the old shard is kept",
            "run before the reshard is completed; if it is completed, " + _COPY_AGAIN,
        )
    return _lost(place, f"the bookmark of {names} names a shard that no longer exists", config)


def _lost(place: Place, what: str, config: Config) -> Finding:
    if config.on_lost_position == "resync":
        again = "nothing: the next run copies these tables again (on_lost_position)"
        return place.warning("position", what, again)
    return place.error("position", what, _COPY_AGAIN)


def _position(
    place: Place, names: str, group: Group, facts: ShardFacts, config: Config
) -> Iterator[Finding]:
    """Judge a position on one shard as a run would, and report its distance from both ends."""
    saved, copied = group.position, max(group.tables.values(), default=0) / 1000
    verdict = judge(saved, {facts.shard: facts}, config.tablet_type, copied)
    for why in verdict.lost:
        yield _lost(place, f"the bookmark of {names} is lost: {why}", config)
    for warning in verdict.warnings:
        yield place.warning("position", f"the bookmark of {names}: {warning}")
    if not verdict.lost and not verdict.warnings:
        gtids = saved.shards[facts.shard]
        yield place.ok(
            "position",
            f"the bookmark of {names} lags by {facts.executed.beyond(gtids):,} transactions; "
            f"binlogs hold {gtids.beyond(facts.purged):,} before it",
        )


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
