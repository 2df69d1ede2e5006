"""Which shards of a keyspace are a job's own, by the setting shards. Pure.

A job has only whole shards: VTGate does not stream a part of one. So none may cross a border of the
job's ranges, neither at the start nor after a reshard. If shards of two jobs are resharded
together, neither job can follow, because VTGate requires one stream with all of these shards. A job
that has the states of both can (`run/joined.py`).
"""

from __future__ import annotations

from collections.abc import Collection

from tap_vitess.errors import BorderError, ConfigError
from tap_vitess.protocol.keyranges import KeyRanges, is_range

_JOIN = (
    "after a reshard, join the states of the jobs on both sides by `tap-vitess join-states` for "
    "one job with the ranges of both; see docs/operating.md"
)


def own_shards(keyspace: str, serving: Collection[str], ranges: KeyRanges) -> list[str]:
    """Return the serving shards that a job has, sorted.

    Raises:
        BorderError: one is only partly within the ranges.
        ConfigError: none is within the ranges, or the keyspace is not sharded.
    """
    if not ranges.names:
        return sorted(serving)
    if strange := sorted(shard for shard in serving if not is_range(shard)):
        raise ConfigError(
            f"keyspace {keyspace}: setting shards: the keyspace is not sharded, its shard is "
            f"{strange[0]}: leave it to a job without the setting, by keyspaces or tables"
        )
    for shard in sorted(serving):
        if border := ranges.border(shard):
            raise BorderError(
                f"{keyspace}: shard {shard} crosses the border {border} of the setting shards: "
                f"choose ranges that hold whole shards; {_JOIN}"
            )
    own = sorted(filter(ranges.holds, serving))
    if serving and not own:
        raise ConfigError(
            f"keyspace {keyspace}: setting shards: no shard is inside of {ranges}; there are "
            f"{', '.join(sorted(serving))}"
        )
    return own


def resharded_together(keyspace: str, others: Collection[str], ranges: KeyRanges) -> BorderError:
    """Return the error of a stream whose shards were resharded together with other jobs' shards."""
    return BorderError(
        f"{keyspace}: a reshard crosses the border of the setting shards ({ranges}): it takes "
        f"shards of this job together with shard {', '.join(sorted(others))} outside of it; {_JOIN}"
    )
