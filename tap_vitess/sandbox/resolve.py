"""From the vgtid of a request to one ShardGtid per shard, by VTGate's rules.

Surprising: a keyspace left empty or given as a regular expression is expanded only when it is
the one entry of the list, and an expansion drops table_p_ks.
"""

import re

from google.protobuf import text_format

from tap_vitess._proto.binlogdata_pb2 import ShardGtid
from tap_vitess._proto.vtgate_pb2 import VStreamRequest
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.errors import VStreamError


def resolve(cluster: Cluster, request: VStreamRequest) -> list[ShardGtid]:
    """The shards to stream and where each starts; raises the errors that VTGate would."""
    given = list(request.vgtid.shard_gtids)
    if not given:
        raise _unresolved(
            "vgtid must have at least one value with a starting position in ShardGtids"
        )
    resolved = []
    for entry in _expand_keyspace(cluster, given):
        resolved += _expand_shards(cluster, entry)
    for entry in resolved:
        _check_shard(cluster, entry)
    # Copies, because they move with the stream, and the request must not change.
    return [_copy(entry) for entry in resolved]


def describe(entry: ShardGtid) -> str:
    """The entry as Go prints it."""
    parts = [f'keyspace:"{entry.keyspace}"', f'shard:"{entry.shard}"', f'gtid:"{entry.gtid}"']
    shown = [part for part in parts if not part.endswith(':""')]
    tables = [text_format.MessageToString(table, as_one_line=True) for table in entry.table_p_ks]
    return " ".join([*shown, *(f"table_p_ks:{{{table}}}" for table in tables)])


def _copy(entry: ShardGtid) -> ShardGtid:
    copied = ShardGtid()
    copied.CopyFrom(entry)
    return copied


def _unresolved(message: str) -> VStreamError:
    return VStreamError("INVALID_ARGUMENT", f"failed to resolve vstream parameters: {message}")


def _expand_keyspace(cluster: Cluster, given: list[ShardGtid]) -> list[ShardGtid]:
    if len(given) > 1:
        return given
    entry = given[0]
    if not entry.keyspace:
        if entry.gtid != "current":
            raise _unresolved(
                "for an empty keyspace, the Gtid value must be 'current': "
                f"shard_gtids:{{{describe(entry)}}}"
            )
        names = cluster.keyspaces()
    elif entry.keyspace.startswith("/"):
        pattern = re.compile(entry.keyspace.strip("/"))
        names = [name for name in cluster.keyspaces() if pattern.search(name)]
    else:
        return given
    return [ShardGtid(keyspace=name, shard=entry.shard, gtid=entry.gtid) for name in names]


def _expand_shards(cluster: Cluster, entry: ShardGtid) -> list[ShardGtid]:
    if entry.shard:
        return [entry]
    if entry.gtid not in {"", "current"}:
        raise _unresolved(
            "if shards are unspecified, the Gtid value must be 'current' or empty; got: "
            f"shard_gtids:{{{describe(entry)}}}"
        )
    if entry.keyspace not in cluster.keyspaces():
        raise VStreamError(
            "UNKNOWN",
            f"failed to resolve vstream parameters: failed to get shards in keyspace "
            f"{entry.keyspace}: keyspace {entry.keyspace} fetch error: node doesn't exist: "
            f"/vitess/zone1/keyspaces/{entry.keyspace.strip('/')}/SrvKeyspace",
        )
    return [
        ShardGtid(keyspace=entry.keyspace, shard=shard, gtid=entry.gtid)
        for shard in cluster.shards(entry.keyspace)
    ]


def _check_shard(cluster: Cluster, entry: ShardGtid) -> None:
    keyspace = entry.keyspace
    trouble = (
        f"error starting stream from shard GTID {describe(entry)}: "
        f"failed to determine if keyspace {keyspace} has been resharded: "
    )
    if keyspace not in cluster.keyspaces():
        raise VStreamError(
            "UNKNOWN",
            f"{trouble}FindAllShardsInKeyspace({keyspace}): List: "
            f"node doesn't exist: /vitess/global/keyspaces/{keyspace}/shards",
        )
    if not cluster.has_shard(keyspace, entry.shard):
        raise VStreamError(
            "FAILED_PRECONDITION",
            f"{trouble}shard provided in VGTID, {entry.shard}, "
            f"not found in the {keyspace} keyspace",
        )
