"""What gRPC, VTGate and MySQL say, and what it means: the tables of faults. Pure.

`classify` finds the first case whose code and words fit; each kind of error says in `errors.py`
what is done about it (its `remedy`). Codes alone say little: errors of the binlog loop all become
UNKNOWN, a lost position may come as CANCELED after 90 s, and VTGate's MySQL port gives 1105 for
most things. So words go first, and codes are for what has no words.

Every case is covered: unknown words of VTGate count as a temporary fault, which is retried within a
budget and then ends the run with VTGate's own text; unknown words of MySQL end the run at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tap_vitess.errors import (
    AuthError,
    ColumnGoneError,
    ColumnsUnknownError,
    ConnectError,
    ConnectionLostError,
    GtidError,
    HistoryLostError,
    KeyChangedError,
    NoTabletError,
    ParticipantsMissingError,
    PositionLostError,
    RequestError,
    RetriableError,
    ShardsGoneError,
    StumbleError,
    TableGoneError,
    VitessError,
)
from tap_vitess.protocol.gtid import NO_GTIDS, TAGGED

Origin = Literal["grpc", "mysql"]
_LONGEST = 16_000


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table.

    words: a pattern looked for in the text; its group `table` names the table that is meant. code:
    a gRPC status or a MySQL errno; None fits any.
    """

    kind: type[VitessError]
    words: str
    advice: str
    code: str | int | None = None


_USER = "VTGate refuses the user or the password: check the settings user and password"
_ACL = (
    "a table ACL of the tablets (vttablet's --table-acl-config) keeps the user from a table: let "
    "it read the selected tables, and those of information_schema that docs/operating.md lists"
)
_UNSHARDED = (
    "the keyspace has several shards, and its VSchema does not say that it is sharded: apply one "
    "that does, with the tables' vindexes (vtctldclient ApplyVSchema)"
)
_COPY = "set on_lost_position to `resync` for one run to copy the affected tables again"
_GONE = (
    "the bookmark names shards that no longer exist: keep old shards until a run has passed the "
    f"reshard; {_COPY}"
)

TOO_LARGE = (
    "a row (an update counts twice, with its old and its new values) is larger than the "
    "--grpc_max_message_size of VTGate and the tablets, 16 MiB by default: raise it on both"
)

_GRPC: tuple[Case, ...] = (
    Case(AuthError, "", _USER, code="UNAUTHENTICATED"),
    Case(AuthError, "", _USER, code="PERMISSION_DENIED"),
    Case(GtidError, r"GTID_MODE = OFF", NO_GTIDS),
    Case(GtidError, r'invalid MySQL 5.6 GTID set .*invalid interval \("[A-Za-z_]', TAGGED),
    Case(
        PositionLostError,
        r"errno 1236|errno 1789|purged required binary logs",
        "the binlogs after the bookmark have been purged: keep binlogs for longer than the time "
        f"between two runs; {_COPY}",
    ),
    Case(ShardsGoneError, r"shard provided in VGTID", _GONE),
    Case(ParticipantsMissingError, r"not all journaling participants", _GONE),
    Case(
        KeyChangedError,
        r"cannot build a row streamer plan .* lastpk",
        "the table's key was altered while it was copied",
    ),
    # After a lastpk only: MySQL writes such values, but compares none with them.
    Case(
        KeyChangedError,
        r"errno 1525|errno 3854",
        "the copy cannot be resumed after a key value that MySQL cannot compare, such as a zero "
        "date or bytes that are not text in the column's charset",
    ),
    Case(RetriableError, r"RST_STREAM|stream terminated", "the connection was cut"),
    Case(
        PositionLostError,
        r"GTIDSet Mismatch",
        "the bookmark is ahead of the tablet: it comes from another cluster, or from a primary "
        f"whose last writes were lost in a failover; {_COPY}",
    ),
    Case(
        NoTabletError,
        r"failed to find a .* tablet|no healthy tablet",
        "no tablet serves the shard, or none that has the bookmark's position",
    ),
    Case(
        RequestError,
        r"minimal binlog_row_image",
        "VStream cannot read binlog_row_image=MINIMAL: set it to FULL on the tablets' MySQL",
    ),
    Case(
        TableGoneError,
        r"table (?P<table>\S+) is not present in the database",
        "a selected table is not there (any more), or not yet on this shard: discover again",
    ),
    Case(
        HistoryLostError,
        r"unknown table (?P<table>\S+) in schema",
        f"the table was dropped or renamed after the bookmark: deselect it, or {_COPY}",
    ),
    Case(
        ColumnsUnknownError,
        r"cannot determine table columns for (?P<table>[^\s:]+)",
        "the table was altered after the bookmark and its old changes can no longer be read: "
        + _COPY,
    ),
    Case(
        ColumnGoneError,
        r"column \S+ not found in table (?P<table>[^\s:]+)",
        "a column of the table's key or filter was dropped, or its type was altered after the "
        "bookmark so that older changes can no longer be read: see the setting filters, discover "
        "again, and " + _COPY,
    ),
    Case(
        HistoryLostError,
        r"(?s)does not have valid string values.* for table (?P<table>[^\s:]+)",
        "the table was altered after the bookmark and its old changes can no longer be read: "
        + _COPY,
    ),
    Case(
        RequestError,
        r"node doesn't exist",
        "VTGate does not know the keyspace: check the setting keyspaces and the catalog",
    ),
    # Words of Go, so it is VTGate or a tablet that refuses.
    Case(
        StumbleError,
        r"trying to send message larger than max|grpc: received message larger than max",
        TOO_LARGE,
    ),
    Case(
        StumbleError,
        r"(?is)^(?>.*?uncaught panic: ).*(json|unable to decode object)",
        "a tablet panics over a JSON value that its Vitess cannot read: a DECIMAL below 1, fixed "
        "in Vitess 22.0.3 and 23.0.1, or an object with an empty key; upgrade Vitess",
    ),
    Case(StumbleError, r"uncaught panic", "a tablet panics over what it reads"),
    Case(
        StumbleError,
        r"unexpected statement type \w+ in row-based replication: \W*XA ",
        "VStream cannot read XA transactions, and one was committed on the tablet's MySQL: keep "
        "such writers away from it",
    ),
    Case(
        # What ends with the connection to MySQL passes; what does not is the event's own.
        StumbleError,
        r"(?is)stream \(at source tablet\) error @ "
        r"(?!.*(EOF|errno 2|connect|context|shut|timeout))",
        "a tablet cannot read what stands in its MySQL's binlog",
    ),
    Case(
        RequestError,
        r"(?i)message larger than max",
        "raise or drop the setting max_message_bytes",
        code="RESOURCE_EXHAUSTED",
    ),
    Case(
        ConnectError,
        "",
        "the server has no VStream: is grpc_port VTGate's gRPC port?",
        code="UNIMPLEMENTED",
    ),
    Case(RequestError, "", "VTGate refuses the request", code="INVALID_ARGUMENT"),
    Case(RequestError, "", "VTGate refuses the request", code="FAILED_PRECONDITION"),
    Case(RetriableError, "", "VTGate does not find it (yet)", code="NOT_FOUND"),
    Case(RequestError, "", "VTGate failed inside", code="INTERNAL"),
    # UNAVAILABLE, UNKNOWN (errno 3024 after an hour of copying, before v22), ABORTED, CANCELED by
    # the server, DEADLINE_EXCEEDED, DATA_LOSS, OUT_OF_RANGE, ALREADY_EXISTS.
    Case(RetriableError, "", "the connection or a tablet failed"),
)

_MYSQL: tuple[Case, ...] = (
    Case(
        AuthError, r"command denied to user .* for table '(?P<table>[^']*)' \(ACL", _ACL, code=1045
    ),
    Case(AuthError, "", _USER, code=1044),
    Case(AuthError, "", _USER, code=1045),
    Case(AuthError, "", "grant the user the right to read the table", code=1142),
    Case(ConnectError, "", "check the settings host, mysql_port and tls", code=2003),
    # Of a connection that had been made: VTGate cuts some while shards are exchanged.
    Case(ConnectionLostError, "", "the connection was lost", code=2006),
    Case(ConnectionLostError, "", "the connection was lost", code=2013),
    Case(RequestError, "", "a column is not there", code=1054),
    Case(TableGoneError, "", "a table is not there (any more)", code=1146),
    Case(TableGoneError, r"table \S+ not found", "a table is not there (any more)"),
    Case(RequestError, "", "VTGate does not know the keyspace", code=1049),
    Case(RequestError, r"does not have exactly one shard", _UNSHARDED),
    Case(RetriableError, "", "the statement was interrupted", code=1317),
    Case(
        RetriableError,
        r"(?i)no healthy tablet|no valid tablet|node doesn't exist|not serving|NOT_SERVING"
        r"|reparent operation in progress|being resharded|not allowed in state"
        r"|code ?[:=] ?(unavailable|not_?found)",
        "a shard has no tablet of this type (now)",
    ),
    Case(RequestError, "", "VTGate refuses the statement"),
)


CASES: Mapping[Origin, tuple[Case, ...]] = {"grpc": _GRPC, "mysql": _MYSQL}


def classify(origin: Origin, code: str | int, text: str) -> VitessError:
    """Translate what a server said into an error of ours."""
    if len(text) > _LONGEST:  # patterns that are looked for anywhere take their time
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    said = "VTGate" if origin == "grpc" else "VTGate's MySQL port"
    for case in CASES[origin]:
        if case.code in (None, code) and (match := re.search(case.words, text)):
            shard = _SHARD.search(text)
            return case.kind(
                f"{case.advice} ({said} said {code}: {shorten(text)})",
                table=match.groupdict().get("table"),
                shard=(shard[1] or shard[2]) if shard else None,
            )
    raise AssertionError("the last case of each origin fits everything")


# VTGate quotes the request (with a lastpk: a key's values), the query, and what MySQL stumbled on.
# The first is of Vitess 22 and later.
_SHARD = re.compile(r"vstream for [^/\s]+/(\S+) on tablet|target: [^\s.]+\.(\S+)\.\w+: vttablet: ")
_VALUES = (
    (re.compile(r"(uncaught panic: [A-Za-z ]*).*"), r"\1…"),  # bytes of the row, a stack trace
    (re.compile(r" \(CallerID: .*"), ""),
    (
        re.compile(r"^error starting stream from shard GTID .*?(?=(persistent )?error in vstream)"),
        "",
    ),
    (re.compile(r" during query: .*"), ""),
    (re.compile(r'\b([A-Z0-9]+)\("(\\.|[^"\\])*("\)|$)'), r"\1(…)"),
    (re.compile(r'\bvalues:"(\\.|[^"\\])*("|$)'), "values:…"),
)


_BEFORE_VALUE = re.compile(
    r"(?:Incorrect \w+ value: |Duplicate entry |Cannot convert string |\bnear )'"
)


_ERRNO = re.compile(r"\(errno \d{1,5}\)")


def _without_value(line: str) -> str:
    """Leave out what stands in quotes, up to the last one: a value may have some, too."""
    found = _BEFORE_VALUE.search(line)
    if found is None:
        return line
    ends = line.rfind("' for", found.end()), line.rfind("'", found.end())
    end = next((end for end in ends if end >= 0), len(line))
    rest = line[end:]
    errno = _ERRNO.search(line, found.end())  # the query that follows it may have quotes, too
    if errno is not None and errno[0] not in rest:
        rest += f" {errno[0]}"
    return f"{line[: found.end()]}…{rest}"


def shorten(text: str, limit: int = 600) -> str:
    """Make one short line of what a server said, without values of rows."""
    line = _without_value(" ".join(text.split()))
    for pattern, instead in _VALUES:
        line = pattern.sub(instead, line)
    return line if len(line) <= limit else line[:limit] + "…"
