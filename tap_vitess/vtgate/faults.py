"""What gRPC, VTGate and MySQL say, and what it means: the one table of faults. Pure.

`classify` finds the first case whose code and words fit; each kind of error says in `errors.py`
what is done about it (its `remedy`). Codes alone say little: errors of the binlog loop all become
UNKNOWN, a lost position may come as CANCELED after 90 s, and VTGate's MySQL port gives 1105 for
most things. So words go first, and codes are for what has no words.

No case falls through: unknown words of VTGate count as a passing fault, which is retried within
a budget and then ends the run with VTGate's own text; unknown words of MySQL end the run at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tap_vitess.errors import (
    AuthError,
    ColumnsUnknownError,
    ConnectError,
    ConnectionLostError,
    GtidError,
    HistoryLostError,
    KeyChangedError,
    NoTabletError,
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


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table.

    code: a gRPC status or a MySQL errno; None fits any. words: a pattern looked for in the text;
    its group `table` names the table that is meant.
    """

    origin: Origin
    code: str | int | None
    words: str
    kind: type[VitessError]
    advice: str


_USER = "VTGate refuses the user or the password: check the settings user and password"
_COPY = "set on_lost_position to `resync` for a run to copy what is concerned again"

TOO_LARGE = (
    "a row (an update counts twice, with its old and its new values) is larger than the "
    "--grpc_max_message_size of VTGate and the tablets, 16 MiB by default: raise it on both"
)

CASES: tuple[Case, ...] = (
    Case("grpc", "UNAUTHENTICATED", "", AuthError, _USER),
    Case("grpc", "PERMISSION_DENIED", "", AuthError, _USER),
    Case("grpc", None, r"GTID_MODE = OFF", GtidError, NO_GTIDS),
    Case(
        "grpc",
        None,
        r'invalid MySQL 5.6 GTID set .*invalid interval \("[A-Za-z_]',
        GtidError,
        TAGGED,
    ),
    Case(
        "grpc",
        None,
        r"errno 1236|errno 1789|purged required binary logs",
        PositionLostError,
        "the binlogs after the bookmark have been purged: keep binlogs for longer than the time "
        f"between two runs; {_COPY}",
    ),
    Case(
        "grpc",
        None,
        r"shard provided in VGTID|not all journaling participants",
        ShardsGoneError,
        "the bookmark names shards that no longer exist: keep old shards until a run has passed "
        f"the reshard; {_COPY}",
    ),
    Case(
        "grpc",
        None,
        r"cannot build a row streamer plan .* lastpk",
        KeyChangedError,
        "the table's key was altered while it was copied",
    ),
    # Behind a lastpk only: MySQL writes such values, but compares none with them.
    Case(
        "grpc",
        None,
        r"errno 1525|errno 3854",
        KeyChangedError,
        "the copy cannot be resumed behind a key that MySQL compares nothing with, such as a zero "
        "date or bytes that are no text in the column's charset",
    ),
    Case(
        "grpc",
        None,
        r"RST_STREAM|stream terminated",
        RetriableError,
        "the connection was cut",
    ),
    Case(
        "grpc",
        None,
        r"GTIDSet Mismatch",
        PositionLostError,
        "the bookmark is ahead of the tablet: it comes from another cluster, or from a primary "
        f"whose last writes were lost in a failover; {_COPY}",
    ),
    Case(
        "grpc",
        None,
        r"failed to find a .* tablet|no healthy tablet",
        NoTabletError,
        "no tablet serves the shard, or none that has the bookmark's position",
    ),
    Case(
        "grpc",
        None,
        r"minimal binlog_row_image",
        RequestError,
        "VStream cannot read binlog_row_image=MINIMAL: set it to FULL on the tablets' MySQL",
    ),
    Case(
        "grpc",
        None,
        r"table (?P<table>\S+) is not present in the database",
        TableGoneError,
        "a selected table is not there (any more), or not yet on this shard: discover again",
    ),
    Case(
        "grpc",
        None,
        r"unknown table (?P<table>\S+) in schema",
        HistoryLostError,
        f"the table was dropped or renamed after the bookmark: deselect it, or {_COPY}",
    ),
    Case(
        "grpc",
        None,
        r"cannot determine table columns for (?P<table>[^\s:]+)",
        ColumnsUnknownError,
        "the table was altered after the bookmark and its old changes can no longer be read: "
        + _COPY,
    ),
    Case(
        "grpc",
        None,
        r"(?s)(does not have valid string values.* for table"
        r"|column \S+ not found in table) (?P<table>[^\s:]+)",
        HistoryLostError,
        "the table was altered after the bookmark and its old changes can no longer be read: "
        + _COPY,
    ),
    Case(
        "grpc",
        None,
        r"node doesn't exist",
        RequestError,
        "VTGate does not know the keyspace: check the setting keyspaces and the catalog",
    ),
    # Words of Go, so it is VTGate or a tablet that refuses.
    Case(
        "grpc",
        None,
        r"trying to send message larger than max|grpc: received message larger than max",
        StumbleError,
        TOO_LARGE,
    ),
    Case(
        "grpc",
        None,
        r"(?is)uncaught panic: .*(json|unable to decode object)",
        StumbleError,
        "a tablet panics over a JSON value that its Vitess cannot read: a DECIMAL below 1, which "
        "Vitess 22.0.3 and 23.0.1 mended, or an object with an empty key; upgrade Vitess",
    ),
    Case("grpc", None, r"uncaught panic", StumbleError, "a tablet panics over what it reads"),
    Case(
        "grpc",
        None,
        r"unexpected statement type \w+ in row-based replication: \W*XA ",
        StumbleError,
        "VStream cannot read XA transactions, and one was committed on the tablet's MySQL: keep "
        "such writers away from it",
    ),
    Case(
        "grpc",
        None,
        # What ends with the connection to MySQL passes; what does not is the event's own.
        r"(?is)stream \(at source tablet\) error @ "
        r"(?!.*(EOF|errno 2|connect|context|shut|timeout))",
        StumbleError,
        "a tablet cannot read what stands in its MySQL's binlog",
    ),
    Case(
        "grpc",
        "RESOURCE_EXHAUSTED",
        r"(?i)message larger than max",
        RequestError,
        "raise or drop the setting max_message_bytes",
    ),
    Case(
        "grpc",
        "UNIMPLEMENTED",
        "",
        ConnectError,
        "the server has no VStream: is grpc_port VTGate's gRPC port?",
    ),
    Case("grpc", "INVALID_ARGUMENT", "", RequestError, "VTGate refuses the request"),
    Case("grpc", "FAILED_PRECONDITION", "", RequestError, "VTGate refuses the request"),
    Case("grpc", "NOT_FOUND", "", RetriableError, "VTGate does not find it (yet)"),
    Case("grpc", "INTERNAL", "", RequestError, "VTGate failed inside"),
    # UNAVAILABLE, UNKNOWN (errno 3024 after an hour of copying, before v22), ABORTED, CANCELED by
    # the server, DEADLINE_EXCEEDED, DATA_LOSS, OUT_OF_RANGE, ALREADY_EXISTS.
    Case("grpc", None, "", RetriableError, "the connection or a tablet failed"),
    Case("mysql", 1044, "", AuthError, _USER),
    Case("mysql", 1045, "", AuthError, _USER),
    Case("mysql", 1142, "", AuthError, "grant the user the right to read the table"),
    Case("mysql", 2003, "", ConnectError, "check the settings host, mysql_port and tls"),
    # Of a connection that had been made: VTGate cuts some while shards are exchanged.
    Case("mysql", 2006, "", ConnectionLostError, "the connection was lost"),
    Case("mysql", 2013, "", ConnectionLostError, "the connection was lost"),
    Case("mysql", 1054, "", RequestError, "a column is not there"),
    Case("mysql", 1146, "", TableGoneError, "a table is not there (any more)"),
    Case("mysql", None, r"table \S+ not found", TableGoneError, "a table is not there (any more)"),
    Case("mysql", 1049, "", RequestError, "VTGate does not know the keyspace"),
    Case("mysql", 1317, "", RetriableError, "the statement was interrupted"),
    Case(
        "mysql",
        None,
        r"(?i)no healthy tablet|no valid tablet|node doesn't exist|not serving|NOT_SERVING"
        r"|reparent operation in progress|being resharded|not allowed in state"
        r"|code ?[:=] ?(unavailable|not_?found)",
        RetriableError,
        "a shard has no tablet of this type (now)",
    ),
    Case("mysql", None, "", RequestError, "VTGate refuses the statement"),
)


def classify(origin: Origin, code: str | int, text: str) -> VitessError:
    """Translate what a server said into an error of ours."""
    said = "VTGate" if origin == "grpc" else "VTGate's MySQL port"
    for case in CASES:
        if case.origin == origin and case.code in (None, code):
            match = re.search(case.words, text)
            if match is not None:
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
    (re.compile(r"(Incorrect \w+ value: |Duplicate entry )'.*' for"), r"\1'…' for"),
    (re.compile(r"(Incorrect \w+ value: |Cannot convert string )'.*'(?! for)"), r"\1'…'"),
    (
        re.compile(r"^error starting stream from shard GTID .*?(?=(persistent )?error in vstream)"),
        "",
    ),
    (re.compile(r" during query: .*"), ""),
    (re.compile(r"near '.*'"), "near '…'"),
    (re.compile(r'\b([A-Z0-9]+)\("(\\.|[^"\\])*("\)|$)'), r"\1(…)"),
    (re.compile(r'\bvalues:"(\\.|[^"\\])*("|$)'), "values:…"),
)


def shorten(text: str, limit: int = 600) -> str:
    """Make one short line of what a server said, without values of rows."""
    line = " ".join(text.split())
    for pattern, instead in _VALUES:
        line = pattern.sub(instead, line)
    return line if len(line) <= limit else line[:limit] + "…"
