"""The table of faults: every line is reached by what a server really says, and says what to do."""

from __future__ import annotations

import re

import grpc
import pytest

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
    Remedy,
    RequestError,
    RetriableError,
    ShardsGoneError,
    StumbleError,
    TableGoneError,
    VitessError,
)
from tap_vitess.vtgate.faults import CASES, Case, Origin, classify

# What servers say (recorded where a recording has it), the error, what is done, and words of the
# sentence a user gets. None stands for "any code".
_VSTREAM = "persistent error in vstream for shop/-80 on tablet zone1-0000000102; giving up: "
_TABLET = "target: shop.-80.primary: vttablet: rpc error: code = Unknown desc = "
SAID: list[tuple[Origin, str | int, str, type[VitessError], Remedy, str]] = [
    ("grpc", "UNAUTHENTICATED", "username or password is missing", AuthError, Remedy.STOP, "check"),
    ("grpc", "PERMISSION_DENIED", "auth failure", AuthError, Remedy.STOP, "user and password"),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "stream (at source tablet) error @ MySQL56/x:1-5: Cannot replicate "
        "because the master purged required binary logs. (errno 1236) (sqlstate HY000)",
        PositionLostError,
        Remedy.POLICY,
        "set on_lost_position to `resync`",
    ),
    (
        "grpc",
        "UNKNOWN",
        _TABLET + "stream (at source tablet) error @ : The replication sender thread cannot start "
        "in AUTO_POSITION mode: this server has GTID_MODE = OFF instead of ON. (errno 1236)",
        GtidError,
        Remedy.STOP,
        "gtid_mode=ON",
    ),
    (
        "grpc",
        "UNKNOWN",
        _TABLET + 'could not obtain current position: invalid MySQL 5.6 GTID set ("d3157dbd-eaab-'
        '11f1-9ed2-02fc00000001:1-31:mytag:1-2"): invalid interval ("mytag"): strconv.ParseUint: '
        'parsing "mytag": invalid syntax',
        GtidError,
        Remedy.STOP,
        "tagged GTIDs",
    ),
    (
        "grpc",
        "FAILED_PRECONDITION",
        "failed to determine if keyspace ks has been resharded: shard provided in VGTID, 80-, not "
        "found in the ks keyspace",
        ShardsGoneError,
        Remedy.POLICY,
        "shards that no longer exist",
    ),
    (
        "grpc",
        "INTERNAL",
        "not all journaling participants are in the stream: journal: id:1",
        ParticipantsMissingError,
        Remedy.LOOK,
        "set on_lost_position to `resync`",
    ),
    (
        "grpc",
        "UNKNOWN",
        _TABLET + "Incorrect DATE value: '0000-00-00' (errno 1525) (sqlstate HY000)",
        KeyChangedError,
        Remedy.RESTART,
        "cannot be resumed after a key",
    ),
    (
        "grpc",
        "UNKNOWN",
        _TABLET + "Cannot convert string '\\xE3\\x81' from binary to cp1250 (errno 3854)",
        KeyChangedError,
        Remedy.RESTART,
        "not text in the column's charset",
    ),
    (
        "grpc",
        "UNKNOWN",
        _TABLET + "cannot build a row streamer plan for the t table as a lastpk value was not "
        "found for each of the columns in the table's primary key",
        KeyChangedError,
        Remedy.RESTART,
        "key was altered",
    ),
    (
        "grpc",
        "INTERNAL",
        "Received RST_STREAM with error code 2",
        RetriableError,
        Remedy.RETRY,
        "cut",
    ),
    (
        "grpc",
        "INVALID_ARGUMENT",
        "GTIDSet Mismatch: requested source position:x, current target vrep position: y",
        PositionLostError,
        Remedy.POLICY,
        "another cluster",
    ),
    (
        "grpc",
        "CANCELLED",
        "failed to find a REPLICA tablet for VStream in ks/-80 within the zone1 cell(s): context "
        "has expired",
        NoTabletError,
        Remedy.LOOK,
        "no tablet serves the shard",
    ),
    (
        "grpc",
        "UNAVAILABLE",
        "target: ks.-80.primary: no healthy tablet available for 'keyspace:\"ks\"'",
        NoTabletError,
        Remedy.LOOK,
        "no tablet serves the shard",
    ),
    (
        "grpc",
        "INTERNAL",
        "minimal binlog_row_image is not supported by Vitess VReplication",
        RequestError,
        Remedy.STOP,
        "set it to FULL on the tablets' MySQL",
    ),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "table nosuch is not present in the database",
        TableGoneError,
        Remedy.LOOK,
        "discover again",
    ),
    (
        "grpc",
        "UNKNOWN",
        "unknown table d13 in schema\nfailed to build table replication plan for table d13",
        HistoryLostError,
        Remedy.POLICY,
        "dropped or renamed after the bookmark",
    ),
    (
        "grpc",
        "UNKNOWN",
        'cannot determine table columns for d6: event has [8 15 15 3], schema has [name:"id"]',
        ColumnsUnknownError,
        Remedy.LOOK,
        "altered after the bookmark",
    ),
    (
        "grpc",
        "UNKNOWN",
        "enum or set column @4 does not have valid string values: [3]\nfailed to build table "
        "replication plan for table t1",
        HistoryLostError,
        Remedy.POLICY,
        "altered after the bookmark",
    ),
    (
        "grpc",
        "FAILED_PRECONDITION",
        "column x not found in table t",
        ColumnGoneError,
        Remedy.POLICY,
        "altered after the bookmark",
    ),
    (
        "grpc",
        "UNKNOWN",
        "node doesn't exist: /vitess/zone1/keyspaces/nope/SrvKeyspace",
        RequestError,
        Remedy.STOP,
        "does not know the keyspace",
    ),
    (
        "grpc",
        "RESOURCE_EXHAUSTED",
        "Received message larger than max (5000000 vs. 4194304)",
        RequestError,
        Remedy.STOP,
        "max_message_bytes",
    ),
    ("grpc", "UNIMPLEMENTED", "unknown method VStream", ConnectError, Remedy.STOP, "gRPC port?"),
    (
        "grpc",
        "INVALID_ARGUMENT",
        "vgtid must have at least one value",
        RequestError,
        Remedy.STOP,
        "VTGate refuses the request",
    ),
    ("grpc", "FAILED_PRECONDITION", "whatever", RequestError, Remedy.STOP, "refuses the request"),
    ("grpc", "NOT_FOUND", "keyspace not found yet", RetriableError, Remedy.RETRY, "(yet)"),
    (
        "grpc",
        "INTERNAL",
        'could not decode position: unknown GTIDSet flavor ""',
        RequestError,
        Remedy.STOP,
        "VTGate failed inside",
    ),
    (
        "grpc",
        "UNKNOWN",
        "Query execution was interrupted, maximum statement execution time exceeded (errno 3024)",
        RetriableError,
        Remedy.RETRY,
        "a tablet failed",
    ),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "grpc: trying to send message larger than max (17826005 vs. 16777216)",
        StumbleError,
        Remedy.LOOK,
        "raise it on both",
    ),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "uncaught panic: unable to decode object elements: [0 1 0 11 0 11 0]",
        StumbleError,
        Remedy.LOOK,
        "a DECIMAL below 1",
    ),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "uncaught panic: runtime error: index out of range [3] with length 3",
        StumbleError,
        Remedy.LOOK,
        "panics over what it reads",
    ),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "stream (at source tablet) error @ 92319c7e-eaa8-11f1-abdc-"
        "02fc00000001:1-56: unexpected statement type UNKNOWN in row-based replication: "
        "\"XA START X'6131',X'',1\"",
        StumbleError,
        Remedy.LOOK,
        "cannot read XA transactions",
    ),
    (
        "grpc",
        "UNKNOWN",
        _VSTREAM + _TABLET + "stream (at source tablet) error @ x:1-56: unsupported type 242",
        StumbleError,
        Remedy.LOOK,
        "cannot read what stands in",
    ),
    ("mysql", 1044, "Access denied", AuthError, Remedy.STOP, "user and password"),
    ("mysql", 1045, "Access denied for user 'a'", AuthError, Remedy.STOP, "user and password"),
    (
        "mysql",
        1045,
        "target: ks.0.primary: vttablet: rpc error: code = PermissionDenied desc = SelectStream "
        "command denied to user 'elt', in groups [eng], for table 'secret' (ACL check error) "
        "(CallerID: elt)",
        AuthError,
        Remedy.STOP,
        "keeps the user from a table",
    ),
    (
        "mysql",
        1105,
        "Keyspace 'ks' does not have exactly one shard: [0xc000a1fd70 0xc000a1fd88]",
        RequestError,
        Remedy.STOP,
        "its VSchema does not say that it is sharded",
    ),
    ("mysql", 1142, "SELECT command denied to user", AuthError, Remedy.STOP, "grant"),
    ("mysql", 2003, "Can't connect", ConnectError, Remedy.STOP, "mysql_port"),
    ("mysql", 2006, "MySQL server has gone away", ConnectionLostError, Remedy.STOP, "was lost"),
    (
        "mysql",
        2013,
        "Lost connection to MySQL server",
        ConnectionLostError,
        Remedy.STOP,
        "was lost",
    ),
    (
        "mysql",
        1049,
        "VT05003: unknown database 'nope' in vschema",
        RequestError,
        Remedy.STOP,
        "does not know the keyspace",
    ),
    (
        "mysql",
        1105,
        "target: ks.-40.primary: no healthy tablet available for 'keyspace:\"ks\"'",
        RetriableError,
        Remedy.RETRY,
        "no tablet of this type",
    ),
    ("mysql", 1317, "Query execution was interrupted", RetriableError, Remedy.RETRY, "interrupted"),
    (
        "mysql",
        1105,
        "target: ks.0.primary: primary is not serving, there may be a reparent operation in "
        "progress",
        RetriableError,
        Remedy.RETRY,
        "no tablet of this type",
    ),
    (
        "mysql",
        1105,
        "current keyspace is being resharded",
        RetriableError,
        Remedy.RETRY,
        "no tablet of this type",
    ),
    ("mysql", 1054, "column x not found", RequestError, Remedy.STOP, "a column is not there"),
    ("mysql", 1105, "table t1 not found", TableGoneError, Remedy.LOOK, "is not there"),
    ("mysql", 1146, "Table 'vt_a.t1' doesn't exist", TableGoneError, Remedy.LOOK, "not there"),
    ("mysql", 1064, "syntax error at position 3", RequestError, Remedy.STOP, "refuses the stat"),
]


def case_of(origin: Origin, code: str | int, text: str) -> Case:
    """Find the line of the table by the error it gives."""
    return next(
        case for case in CASES[origin] if case.code in (None, code) and re.search(case.words, text)
    )


@pytest.mark.parametrize(("origin", "code", "text", "kind", "remedy", "words"), SAID)
def test_what_a_user_is_told(
    origin: Origin,
    code: str | int,
    text: str,
    kind: type[VitessError],
    remedy: Remedy,
    words: str,
) -> None:
    """The kind, what is done about it, and the advice before the server's own words."""
    error = classify(origin, code, text)
    assert type(error) is kind
    assert error.remedy is remedy
    advice, _, said = str(error).partition(" (VTGate")
    assert words in advice
    assert str(code) in said


def test_every_line_of_the_table_is_reached() -> None:
    """A line that another one hides would be a promise nobody keeps."""
    reached = {id(case_of(origin, code, text)) for origin, code, text, *_ in SAID}
    every = [(origin, case) for origin, cases in CASES.items() for case in cases]
    assert [case for _, case in every if id(case) not in reached and case.words] == []
    codes = {case.code for _, case in every}
    assert {(origin, case.code) for origin, case in every if not case.words} - {
        (origin, code if code in codes else None) for origin, code, *_ in SAID
    } <= {("grpc", None), ("mysql", None)}


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode])
def test_no_grpc_status_falls_through(code: str) -> None:
    """Unknown words still are an error of ours."""
    assert isinstance(classify("grpc", code, "what nobody has seen"), VitessError)


@pytest.mark.parametrize("number", [0, 1, 1105, 1815, 9999])
def test_no_errno_falls_through(number: int) -> None:
    """Unknown words of MySQL end the run."""
    assert classify("mysql", number, "what nobody has seen").remedy is Remedy.STOP


@pytest.mark.parametrize(
    "text",
    [
        "table t1 is not present in the database",
        "unknown table t1 in schema\nfailed",
        "cannot determine table columns for t1: event has",
        "code = FailedPrecondition desc = column x not found in table t1",
    ],
)
def test_the_table_is_named(text: str) -> None:
    """So that the others can go on without it."""
    assert classify("grpc", "UNKNOWN", text).table == "t1"


@pytest.mark.parametrize(
    "text",
    [
        "Data too long for column 'token' at row 1 (errno 1406) (sqlstate 22001) (CallerID: "
        'userData1): Sql: "update t set token = :token", BindVars: {#maxLimit: "type:INT64 '
        'value:\\"10001\\""token: "type:VARCHAR value:\\"SECRET\\""}',
        "Incorrect datetime value: 'SECRET' for column 'started_at' at row 1 (errno 1292)",
        "Duplicate entry 'SECRET' for key 't.PRIMARY'",
    ],
)
def test_values_of_a_statement_are_not_told(text: str) -> None:
    """VTGate 22 says it so, with all that was bound."""
    said = str(classify("mysql", 1105, text))
    assert "SECRET" not in said
    assert text.split("'", maxsplit=1)[0][:10] in said


def test_the_words_of_vitess_21() -> None:
    """It names the shard otherwise, and panics over a DECIMAL with a stack trace that tells."""
    text = (
        "target: ks.-80.primary: vttablet: rpc error: code = Unknown desc = uncaught panic: "
        "runtime error: index out of range [3] with length 3. Stack-trace:\n"
        "/go/vitess/go/mysql/binlog/binlog_json.go:400 (0x10e91e9)\n\tbinlogJSON: panic(err)"
    )
    found = classify("grpc", "UNKNOWN", text)
    assert isinstance(found, StumbleError)
    assert found.shard == "-80"
    assert "over a JSON value" in str(found)
    assert "go:400" not in str(found)


@pytest.mark.parametrize("end", ["EOF", "Lost connection (errno 2013)", "context canceled"])
def test_a_binlog_that_is_cut_off_passes(end: str) -> None:
    """A tablet whose MySQL goes away has stumbled over nothing."""
    said = f"{_VSTREAM}{_TABLET}stream (at source tablet) error @ x:1-56: {end}"
    found = classify("grpc", "UNKNOWN", said)
    assert type(found) is RetriableError
    assert found.shard == "-80"
