"""The errors a stream of the sandbox ends with, worded as a real VTGate words them.

Surprising: what a tablet cannot read at the start of a stream keeps its code (INTERNAL for a
position, FAILED_PRECONDITION for a column); the same trouble met in the binlog arrives as
UNKNOWN, with the code in the text. A position ahead of the tablet has no error of its own: the
stream ends, after a long wait, as if there were no tablet.
"""


class VStreamError(Exception):
    """Ends a stream with a gRPC status; `code` is the status' name."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


# Vitess' spelling of the codes inside a message.
_DESCRIBED = {
    "CANCELLED": "Canceled",
    "FAILED_PRECONDITION": "FailedPrecondition",
    "INTERNAL": "Internal",
    "INVALID_ARGUMENT": "InvalidArgument",
    "NOT_FOUND": "NotFound",
    "RESOURCE_EXHAUSTED": "ResourceExhausted",
    "UNAVAILABLE": "Unavailable",
    "UNKNOWN": "Unknown",
}
# VTGate returns these at once; for others it tries three times.
_NOT_RETRIED = frozenset({"INTERNAL", "INVALID_ARGUMENT"})


def from_tablet(
    code: str, cause: str, *, shard_gtid: str, target: tuple[str, str], tablet: str
) -> VStreamError:
    """A tablet's error as VTGate passes it on."""
    keyspace, shard = target
    where = f"vstream for {keyspace}/{shard} on tablet {tablet}"
    trouble = (
        f"error in {where}:"
        if code in _NOT_RETRIED
        else (f"persistent error in {where}; giving up:")
    )
    return VStreamError(
        code,
        f"error starting stream from shard GTID {shard_gtid}: {trouble} "
        f"target: {keyspace}.{shard}.primary: vttablet: "
        f"rpc error: code = {_DESCRIBED[code]} desc = {cause}",
    )


PURGED = (
    "Cannot replicate because the master purged required binary logs. Replicate the missing "
    "transactions from elsewhere, or provision a new slave from backup. Consider increasing the "
    "master's binary log expiration period. To find the missing transactions, see the master's "
    "error log or the manual for GTID_SUBTRACT. (errno 1236) (sqlstate HY000)"
)

# By kind: a tablet's error for what it cannot read or send; {gtids} is what it has read. None is
# for what VTGate does not report: it reads the same again and again, and only heartbeats come.
POISONS: dict[str, tuple[str, str] | None] = {
    "panic": (
        "UNKNOWN",
        "uncaught panic: unable to decode object elements: [0 1 0 11 0 11 0 0 0 5 1 0] . "
        "Stack-trace: go/mysql/binlog/rbr.go:692",
    ),
    "too_large": (
        "RESOURCE_EXHAUSTED",
        "grpc: trying to send message larger than max (17825962 vs. 16777216)",
    ),
    "xa": (
        "UNKNOWN",
        "stream (at source tablet) error @ {gtids}: unexpected statement type UNKNOWN in "
        "row-based replication: \"XA START X'6131',X'',1\"",
    ),
    "xa of v24": (
        "UNKNOWN",
        "stream (at source tablet) error @ (including the GTID we failed to process) {gtids}: "
        "unexpected statement type UNKNOWN in row-based replication: \"XA START X'6131',X'',1\"",
    ),
    "silent": None,
}

_SHOP = ("shop", "-80")
_TABLET = "zone1-0000000101"
_GTID = "40a5f718-e685-11f1-8734-02fc00000001:1-20"
_POSITION = f'keyspace:"shop" shard:"-80" gtid:"MySQL56/{_GTID}"'
_FRESH = 'keyspace:"shop" shard:"-80"'


def _recorded(code: str, cause: str, shard_gtid: str) -> VStreamError:
    return from_tablet(code, cause, shard_gtid=shard_gtid, target=_SHOP, tablet=_TABLET)


# By name, what a fault can end a stream with; most names are those of recorded sessions.
RECORDED: dict[str, VStreamError] = {
    "error_bad_filter": _recorded(
        "UNKNOWN",
        f"stream (at source tablet) error @ {_GTID}: Code: INVALID_ARGUMENT\nQuery was empty\n\n"
        "failed to build table replication plan for table item",
        _POSITION,
    ),
    "error_bad_gtid": _recorded(
        "INTERNAL",
        'could not decode position: invalid MySQL 5.6 GTID set ("notagtid"): '
        "expected uuid:interval",
        'keyspace:"shop" shard:"-80" gtid:"MySQL56/notagtid"',
    ),
    "error_no_replica": VStreamError(
        "CANCELLED",
        f"error starting stream from shard GTID {_FRESH}: failed to find a RDONLY tablet for "
        "VStream in shop/-80 within the zone1 cell(s): context has expired",
    ),
    "error_purged_gtid": _recorded(
        "UNKNOWN", f"stream (at source tablet) error @ {_GTID}: {PURGED}", _POSITION
    ),
    "error_unknown_column": _recorded(
        "FAILED_PRECONDITION", "column nosuch not found in table item", _FRESH
    ),
    "error_unknown_keyspace": VStreamError(
        "UNKNOWN",
        "failed to resolve vstream parameters: failed to get shards in keyspace nosuch: "
        "keyspace nosuch fetch error: node doesn't exist: "
        "/vitess/zone1/keyspaces/nosuch/SrvKeyspace",
    ),
    "error_unknown_shard": VStreamError(
        "FAILED_PRECONDITION",
        'error starting stream from shard GTID keyspace:"shop" shard:"40-c0" gtid:"current": '
        "failed to determine if keyspace shop has been resharded: shard provided in VGTID, "
        "40-c0, not found in the shop keyspace",
    ),
    "error_unknown_table": _recorded(
        "UNKNOWN", "table nosuch is not present in the database", _FRESH
    ),
    "reshard_followed": VStreamError(
        "NOT_FOUND",
        f"error starting stream from shard GTID {_POSITION}: failed to get tablet connection to "
        "zone1-0000000106: target: shop.80-c0.primary: tablet: "
        'cell:"zone1" uid:106 is either down or nonexistent',
    ),
    "reshard_old_position_completed": VStreamError(
        "FAILED_PRECONDITION",
        f"error starting stream from shard GTID {_POSITION}: failed to determine if keyspace "
        "shop has been resharded: shard provided in VGTID, -80, not found in the shop keyspace",
    ),
    "reshard_partial": VStreamError(
        "INTERNAL",
        f"error starting stream from shard GTID {_POSITION}: "
        "not all journaling participants are in the stream",
    ),
    "unavailable": VStreamError("UNAVAILABLE", "Socket closed"),
    "unauthenticated": VStreamError("UNAUTHENTICATED", "username and password must be provided"),
    "mysql_restarted": _recorded("UNKNOWN", "EOF", _POSITION),
}
