"""What a review by strangers found could go wrong: each case with its test."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import pytest
from support.events import KEYSPACE, begin, commit, ddl, field, fields, gtid, row, rows, vgtid
from support.shops import insert, write
from support.taps import ImpatientTap, QuickTap, Target, check, discover, expected, only, run
from support.taps import settings as tap_settings
from test_engine import SomeRpcError

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.config import Config
from tap_vitess.errors import (
    CatalogError,
    ConfigError,
    CopyCutError,
    KeyChangedError,
    PositionLostError,
    ProtocolError,
    RequestError,
    RetriableError,
    TableUnseenError,
    ValueDecodeError,
    VitessError,
)
from tap_vitess.protocol.changes import SILENT_SECONDS, ChangeStream
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.ddl import replaced_tables
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Boundary, Fields, Rows
from tap_vitess.protocol.request import RequestOptions, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.run.state import COPIED, parse
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.singer.tap import TapVitess
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.entries import value_types
from tap_vitess.vtgate.grpc import METHOD, Client, connect, explain
from tap_vitess.vtgate.reader import read
from tap_vitess.vtgate.retry import RetryOptions, retrying

A = "_vt_vrp_6ace8bcef73211ea87e9f875a4d24e91_20200915120410_"
B = "_vt_vrp_6ace8bcef73211ea87e9f875a4d24e92_20200915120410_"


# A key that is altered while its table is copied


def lastpk(name: str, kind: str, charset: int) -> query.QueryResult:
    return query.QueryResult(
        fields=[query.Field(name=name, type=kind, charset=charset)], rows=[row("5")]
    )


@pytest.mark.parametrize(
    "resumed",
    [
        lastpk("other", "INT64", 63),
        lastpk("id", "VARCHAR", 63),
        lastpk("id", "INT64", 8),
        query.QueryResult(
            fields=[query.Field(name=n, type="INT64", charset=63) for n in ("id", "other")],
            rows=[row("5", "6")],
        ),
    ],
    ids=["another column", "another type", "another charset", "another column more"],
)
def test_a_lastpk_of_another_key_is_not_used(resumed: query.QueryResult) -> None:
    """MySQL would go on behind the value in the order of today's key, and skip rows."""
    copy = TableCopy(
        "t", {"-80": resumed}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True
    )
    now = query.Field(name="id", type="INT64", charset=63, column_type="bigint", flags=3)
    other = query.Field(name="other", type="INT64", charset=63, column_type="bigint")
    with pytest.raises(CopyCutError, match="its key was altered"):
        copy.feed([begin("-80"), fields("-80", "t", now, other)])


def test_a_copy_whose_key_was_altered_starts_again(sandbox: Sandbox) -> None:
    """With a new version; nothing of the table's rows is skipped."""
    config, target = tap_settings(sandbox), Target()
    run(config, target, lines=9)
    state = target.state
    begun = parse(KEYSPACE, state["bookmarks"]["vitess:shop"])
    [(table, shards)] = [(t, s) for t, s in begun.copies.items() if t != "empty"]
    wrong = {
        shard: lastpk("id", "VARCHAR", 255) if pk is not COPIED else pk
        for shard, pk in shards.items()
    }
    changed = replace(begun, copies={table: wrong})
    assert run(config, target, state={"bookmarks": {"vitess:shop": changed.render()}})
    check(sandbox, target)


def test_vtgates_words_for_an_altered_key() -> None:
    """They lead to a new copy, and what they quote does not show."""
    details = (
        'error starting stream from shard GTID keyspace:"shop" shard:"0" '
        'table_p_ks:{table_name:"t" lastpk:{fields:{name:"email" type:VARCHAR charset:255} '
        'rows:{lengths:15 lengths:3 values:"anna@secret.org\\"x"}}}: persistent error in vstream '
        "for shop/0 on tablet zone1-0000000102; giving up: target: shop.0.primary: vttablet: rpc "
        "error: code = Unknown desc = cannot build a row streamer plan for the t table as a lastpk "
        'value was provided and the number of primary key values within it ([VARCHAR("anna@secret.'
        'org") VARCHAR("foo")]) does not match the number of primary key columns'
    )
    error = explain(SomeRpcError(grpc.StatusCode.UNKNOWN, details))
    assert isinstance(error, KeyChangedError)
    assert "secret" not in str(error)
    assert "foo" not in str(error)


def test_queries_and_syntax_errors_are_not_quoted() -> None:
    """MySQL's own messages may hold values, too."""
    details = (
        'error starting stream from shard GTID keyspace:"shop" shard:"0": persistent error in '
        "vstream for shop/0; giving up: You have an error in your SQL syntax; check the manual for "
        "the right syntax to use near '@secret.org) order by email' at line 1 (errno 1064) during "
        "query: select * from t where email > 'anna@secret.org'"
    )
    error = explain(SomeRpcError(grpc.StatusCode.UNKNOWN, details))
    assert "secret" not in str(error)
    assert "errno 1064" in str(error)


# DDL that takes rows away


@pytest.mark.parametrize(
    ("statement", "replaced"),
    [
        ("truncate table t", {"t"}),
        ("TRUNCATE `t`", {"t"}),
        ("drop table if exists `u`, t", {"t", "u"}),
        ("rename table t to t_old, t_new to t", {"t"}),
        ("alter table t rename to x", {"t"}),
        ("alter table `a``b` rename x", {"a`b"}),
        ("alter table t\n drop partition p0", {"t"}),
        ("alter table t truncate partition p0", {"t"}),
        ("alter table t exchange partition p with table u", {"t", "u"}),
        ("alter table t rename column a to b", set()),
        ("alter table t rename index a to b", set()),
        ("alter table t add column truncated int", set()),
        ("alter table t drop column c", set()),
        ("create table t (a int)", set()),
        ("truncate table other", set()),
        ("/* app */ Truncate /* x */ table\nt", {"t"}),
        ("-- why\ntruncate t", {"t"}),
        ("/*!40000 drop table t */", {"t"}),
        ("DROP TABLES `db`.`t`, u", {"t", "u"}),
        ("rename tables db.t to db.x", {"t"}),
        ("alter ignore table t rename x", {"t"}),
        ("truncate table t_del", set()),
        ("rename table t to t_del, t_gho to t", {"t"}),
        ("rename table t to _vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", {"t"}),
        (f"rename table `t` to `{A}`, `{B}` to `t`", set()),
        (f"rename table db.t to db.{A}, db.{B} to db.t", set()),
        ("TRUNCATE TABLE T", {"t"}),
        (f"rename table t to _x, u to {A}, {B} to u", {"t"}),
        ("DROP TEMPORARY TABLE `t` /* generated by server */", set()),
        ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`,`u`", set()),
        ("drop temporary table t", set()),
        ("create temporary table t (id int primary key)", set()),
        ("DROP TABLE `t` /* generated by server */", {"t"}),
    ],
)
def test_ddl_that_replaces_rows(statement: str, replaced: set[str]) -> None:
    """TRUNCATE, DROP, RENAME and partitions; not Vitess' own online schema changes."""
    assert replaced_tables(statement, frozenset({"t", "u", "a`b"})).keys() == replaced


@pytest.mark.parametrize(
    ("statement", "by"),
    [
        ("truncate table t", "TRUNCATE"),
        ("drop  table if exists `u`, t", "DROP TABLE"),
        ("Rename tables t to x", "RENAME TABLES"),
        ("alter table t\n  drop  partition p0", "ALTER TABLE ... DROP PARTITION"),
        ("alter table t add x int, rename to u", "ALTER TABLE ... RENAME"),
    ],
)
def test_what_has_replaced_rows_is_named(statement: str, by: str) -> None:
    """For the log, without anything of the statement that may hold values."""
    assert set(replaced_tables(statement, frozenset({"t"})).values()) == {by}


def test_a_truncated_table_is_copied_again(sandbox: Sandbox) -> None:
    """In the same run, with a new version, so that its old rows disappear."""
    config, target = tap_settings(sandbox), Target()
    run(config, target)
    insert(sandbox.cluster, "alpha", 70)
    sandbox.cluster.ddl("shop", "truncate table alpha", None)
    insert(sandbox.cluster, "alpha", 71, 72, 73)
    assert run(config, target)
    check(sandbox, target)
    activated = [m["stream"] for m in target.messages if m["type"] == "ACTIVATE_VERSION"]
    assert activated.count("shop-alpha") == 2
    assert activated.count("shop-beta") == 1


@pytest.mark.parametrize("lines", range(1, 14))
def test_a_truncate_is_not_forgotten_when_cut(sandbox: Sandbox, lines: int) -> None:
    """The position behind the DDL and the wish for a new copy are stored as one."""
    config, target = tap_settings(sandbox), Target()
    run(config, target)
    sandbox.cluster.ddl("shop", "truncate table alpha", None)
    insert(sandbox.cluster, "alpha", 71, 72)
    run(config, target, lines=lines)
    assert run(config, target)
    check(sandbox, target)


# Groups


def test_a_new_table_beside_left_out_ones_is_followed(sandbox: Sandbox) -> None:
    """On an idle keyspace both stand at one position, and only one of them is in this run."""
    config = tap_settings(sandbox)
    catalog = discover(config)
    first = Target()
    run(config, first, catalog=only(catalog, "shop-alpha"))
    cluster = sandbox.cluster

    class Writing(Target):
        written = False

        def take(self, line: bytes) -> None:
            super().take(line)
            if self.messages[-1]["type"] == "RECORD" and not self.written:
                self.written = True
                write(cluster)

    target = Writing(tables=first.tables, states=list(first.states), keys=first.keys)
    assert run(config, target, catalog=only(catalog, "shop-beta"))
    assert target.contents("shop-beta") == expected(cluster, "shop", "beta")


def test_a_lost_group_does_not_stop_the_others(sandbox: Sandbox) -> None:
    """The run ends with the error, and the other tables have been brought."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    everything = [f"shop-{name}" for name in ("alpha", "beta", "empty")]
    run(config, target, catalog=only(catalog, *everything))
    insert(sandbox.cluster, "alpha", 300, 301, 302, 303)
    run(config, target, catalog=only(catalog, "shop-beta"))
    assert len(target.state["bookmarks"]["vitess:shop"]["groups"]) == 2
    for shard in ("-80", "80-"):
        sandbox.cluster.purge_binlogs("shop", shard)
    insert(sandbox.cluster, "beta", 400, 401, 402)
    with pytest.raises(PositionLostError):
        run(config, target, catalog=only(catalog, *everything))
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")
    assert target.messages[-1]["type"] == "STATE"


def test_a_missing_table_does_not_stop_the_others(sandbox: Sandbox) -> None:
    """A table that is gone is named at the end; the others are copied."""
    config, target = tap_settings(sandbox), Target()
    catalog = discover(config)
    sandbox.cluster.ddl("shop", "drop table alpha", None)
    with pytest.raises(RequestError, match="discover again"):
        run(config, target, catalog=catalog)
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")


UNSEEN = Fault(error=("UNKNOWN", "table alpha is not present in the database"))


def test_a_tablet_does_not_know_a_table_yet(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a replica becomes primary right after CREATE TABLE: MySQL has it, so it waits."""
    target = Target()
    sandbox.faults.append(replace(UNSEEN, times=3))
    run(tap_settings(sandbox), target)
    assert not sandbox.faults
    for name in ("alpha", "beta"):
        assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name)
    assert "shop.alpha: a tablet does not know the table yet" in caplog.text


def test_a_tablet_that_does_not_learn_of_a_table(sandbox: Sandbox) -> None:
    """When the time to retry is over the table is named, and the others are copied."""
    target = Target()
    sandbox.faults.append(replace(UNSEEN, times=2))
    with pytest.raises(TableUnseenError, match=r"shop\.alpha"):
        run(tap_settings(sandbox), target, tap_class=ImpatientTap)
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")


def test_a_failing_keyspace_does_not_stop_the_others() -> None:
    """The others shall not grow old for it."""
    cluster = Cluster()
    for keyspace in ("first", "second"):
        cluster.create_keyspace(keyspace, ["0"])
        cluster.create_table(keyspace, Table("t", (Column("id", "int"),), primary_key=("id",)))
        cluster.insert(keyspace, "t", [{"id": b"1"}])
    with serve(cluster) as sandbox:
        config, target = tap_settings(sandbox), Target()
        catalog = discover(config)
        cluster.ddl("first", "drop table t", None)
        with pytest.raises(RequestError):
            run(config, target, catalog=catalog)
    assert len(target.records("second-t")) == 1


# Faults, stops, and time


def test_the_first_question_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    """A shard without a tablet is worth waiting for, at the start of a run too."""
    answers = iter([RetriableError("no healthy tablet"), None])

    def ask(keyspace: str) -> str:
        if (error := next(answers)) is not None:
            raise error
        return keyspace

    retry = RetryOptions(budget=5, longest_wait=0.01)
    found = retrying("the position", functools.partial(ask, "shop"), retry, lambda: False)
    assert found == "shop"
    assert "the position: no healthy tablet; trying again in" in caplog.text


def changes(*events: binlogdata.VEvent) -> ChangeStream:
    def at(last: int) -> Vgtid:
        return Vgtid(
            KEYSPACE, {"0": GtidSet.parse(f"MySQL56/00000000-0000-0000-0000-000000000048:1-{last}")}
        )

    stream = ChangeStream(["t"], at(1), at(5), RequestOptions())
    stream.feed(events)
    return stream


SECOND = 1_000_000_000


def heartbeat(second: int) -> binlogdata.VEvent:
    return binlogdata.VEvent(type=binlogdata.HEARTBEAT, current_time=second * SECOND)


def test_a_transaction_without_vgtid_does_not_hold_up_a_run() -> None:
    """A shard that sent one and is silent since has nothing more; its position stays behind."""
    stream = changes(begin("0", 1), commit("0", 1), heartbeat(1))
    before = stream.position
    for second in range(2, SILENT_SECONDS):
        stream.feed([heartbeat(second)])
        assert not stream.finished
    stream.feed([heartbeat(SILENT_SECONDS + 2)])
    assert stream.finished
    assert stream.position == before
    assert stream.behind == ["0"]


def test_silence_alone_is_no_end() -> None:
    """Heartbeats prove VTGate only."""
    stream = changes()
    for second in range(10 * SILENT_SECONDS):
        stream.feed([heartbeat(second)])
    assert not stream.finished


def test_a_shard_that_goes_on_is_not_silent() -> None:
    """Any event of it counts, and a VGTID takes back what a COMMIT without one has told."""
    stream = changes(begin("0", 1), commit("0", 1), heartbeat(1))
    for second in range(2, 5 * SILENT_SECONDS):
        stream.feed([begin("0", 1), heartbeat(second)])
    assert not stream.finished
    stream.feed([vgtid("0", {"0": 2}), commit("0", 1)])
    for second in range(5 * SILENT_SECONDS, 9 * SILENT_SECONDS):
        stream.feed([heartbeat(second)])
    assert not stream.finished


def test_a_table_that_is_truncated_all_the_time_does_not_hold_a_run(sandbox: Sandbox) -> None:
    """After some copies the next run has to do it; the state says so."""
    cluster = sandbox.cluster

    class Truncating(Target):
        count = 0

        def take(self, line: bytes) -> None:
            super().take(line)
            if self.messages[-1]["type"] == "ACTIVATE_VERSION" and self.count < 30:
                self.count += 1
                cluster.ddl("shop", "truncate table alpha", None)
                insert(cluster, "alpha", 1, 2)

    target = Truncating()
    assert run(tap_settings(sandbox), target)
    assert target.count < 20
    target.count = 30
    assert run(tap_settings(sandbox), target)
    check(sandbox, target)


def test_a_key_that_vitess_chooses_otherwise_is_not_resumed() -> None:
    """Two NOT NULL unique keys: MySQL flags the first, Vitess may go by the second."""
    copy = TableCopy("t", {"-80": None}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True)
    copy.request()
    flagged = query.Field(name="u", type="VARCHAR", charset=255, column_type="varchar(5)", flags=3)
    other = query.Field(name="i", type="INT64", charset=63, column_type="bigint", flags=1)
    pk = binlogdata.TableLastPK(table_name="t", lastpk=lastpk("i", "INT64", 63))
    items = copy.feed(
        [
            begin("-80"),
            fields("-80", "t", flagged, other),
            vgtid("-80", {"-80": 1}),
            rows("-80", "t", (None, ["a", "5"])),
            vgtid("-80", {"-80": 1}, {"-80": pk}),
            commit("-80"),
        ]
    )
    assert [type(item).__name__ for item in items] == ["Rows"]
    with pytest.raises(CopyCutError, match="cannot be resumed"):
        copy.request()


@contextlib.contextmanager
def answering(answer: Callable[[], Iterator[bytes]]) -> Iterator[Client]:
    """Serve what a VStream answers, bytes as they are, and connect to it."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method != METHOD:
                return None
            return grpc.unary_stream_rpc_method_handler(lambda *_: answer())

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        config = Config.from_settings({"host": "127.0.0.1", "grpc_port": port})
        with connect(config) as client:
            yield client
    finally:
        server.stop(None).wait()


def test_a_server_that_says_nothing_at_all_is_given_up() -> None:
    """A proxy answers pings; only responses count."""
    done = threading.Event()

    def answer() -> Iterator[bytes]:
        done.wait(20)
        yield from ()

    request = stream_request(["t"], changes().position, RequestOptions())
    with answering(answer) as client:
        began = time.monotonic()
        with (
            pytest.raises(RetriableError, match="not even a heartbeat"),
            client.stream(request, silence=0.5) as responses,
        ):
            list(responses)
        assert time.monotonic() - began < 5
        done.set()


def test_an_answer_that_is_none() -> None:
    """What was before it is given out."""
    good = vtgate.VStreamResponse(events=[begin("-80"), *[commit("-80")] * 999])
    answers = [good.SerializeToString(), b"\xff"]
    request = stream_request(["t"], changes().position, RequestOptions())
    found: list[Any] = []
    with (
        answering(lambda: iter(answers)) as client,
        pytest.raises(ProtocolError, match="no VStreamResponse"),
        client.stream(request) as responses,
    ):
        found.extend(event for events in responses for event in events)
    assert len(found) == 1000


def test_a_stream_that_is_left_ends_at_once() -> None:
    """No thread of it stays, while the server goes on."""
    go_on = threading.Event()

    def answer() -> Iterator[bytes]:
        yield vtgate.VStreamResponse(events=[begin("-80")]).SerializeToString()
        go_on.wait(10)

    request = stream_request(["t"], changes().position, RequestOptions())
    with answering(answer) as client:
        with client.stream(request) as responses:
            next(responses)
        assert "vstream" not in {thread.name for thread in threading.enumerate()}
        go_on.set()


def test_a_stream_that_stands_still_gives_out_what_it_has() -> None:
    """Rows of a shard that is at its stop are no sign of life of the other, and are not lost."""
    start = Vgtid(KEYSPACE, {s: GtidSet.parse(gtid(s, 1)) for s in ("-80", "80-")})
    stop = Vgtid(KEYSPACE, {**start.shards, "-80": GtidSet.parse(gtid("-80", 9))})
    calls = iter(
        [
            [
                [fields("80-", "t", field("id", key=True))],
                [
                    begin("80-", 100),
                    rows("80-", "t", (None, ["42"]), at=100),
                    vgtid("80-", {"-80": 1, "80-": 2}),
                    commit("80-", 100),
                ],
            ],
            [[begin("-80"), vgtid("-80", {"-80": 9, "80-": 2}), commit("-80")]],
        ]
    )

    def answer() -> Iterator[bytes]:
        for events in next(calls):
            yield vtgate.VStreamResponse(events=events).SerializeToString()
            time.sleep(0.3)

    feed = ChangeStream(["t"], start, stop, RequestOptions())
    with answering(answer) as client:
        found = [
            i for items in read(client, feed, RetryOptions(stall=0.2, budget=5)) for i in items
        ]
    assert [len(item.changes) for item in found if isinstance(item, Rows)] == [1]
    assert next(calls, None) is None, "the stream was not opened again"


@contextlib.contextmanager
def cutting(port: int, words: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Pass everything on to a port; the first connection that says these words is cut."""
    cut: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=pass_on, args=(server, self.request))
                back.start()
                while data := self.request.recv(1 << 16):
                    if words in data and not cut:
                        cut.append(data)
                        break
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield served.server_address[1], cut
        finally:
            served.shutdown()
            thread.join()


def pass_on(server: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(1 << 16):
            client.sendall(data)


@pytest.mark.parametrize("question", [b"gtid_executed", b"gtid_purged"])
def test_a_connection_that_is_lost_is_made_again(
    sandbox: Sandbox, question: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """VTGate cuts some while shards are exchanged, the first of a run among them."""
    target, catalog = Target(), discover(tap_settings(sandbox))
    assert run(tap_settings(sandbox), target, catalog=catalog)
    write(sandbox.cluster)
    with cutting(sandbox.mysql_port, question) as (port, cut):
        assert run({**tap_settings(sandbox), "mysql_port": port}, target, catalog=catalog)
        assert cut, "the question did not come"
    assert "the connection was lost" in caplog.text
    check(sandbox, target)


def test_a_signal_ends_the_retries(sandbox: Sandbox) -> None:
    """No container waits for a budget of minutes."""

    class PatientTap(QuickTap):
        retry = RetryOptions(budget=60, longest_wait=0.2)

    sandbox.faults.append(Fault(error="unavailable", times=None))

    def kill() -> None:
        while len(sandbox.requests) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill, daemon=True).start()
    began = time.monotonic()
    target = Target()
    with pytest.raises(SystemExit) as ended:
        run(tap_settings(sandbox), target, tap_class=PatientTap)
    assert ended.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    assert target.messages[-1]["type"] == "STATE"


# Catalogs, columns and settings


def maker(schema: dict[str, Any], sandbox: Sandbox, key: tuple[str, ...] = ("id",)) -> RecordMaker:
    from tap_vitess.singer.streams import VitessStream

    tap = TapVitess(config=tap_settings(sandbox))
    stream = VitessStream(
        tap, KEYSPACE, "t", {"properties": schema, "type": "object"}, key, lambda _: iter(())
    )
    return RecordMaker(stream, RecordSequence(0), RecordOptions())


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (field("v", "varchar(9)"), "key column v is a varchar"),
        (field("v", "datetime"), "key column v is a datetime"),
        (field("v", "decimal(5,2)"), "key column v is a decimal"),
    ],
)
def test_an_altered_key_column_does_not_break_the_schema(
    sandbox: Sandbox, column: query.Field, words: str
) -> None:
    """A record never contradicts its SCHEMA message."""
    found = maker({"id": {"type": "integer"}, "v": {"type": "integer"}}, sandbox, key=("id", "v"))
    shown = Fields("t", "-80", (field("id", key=True), column), copying=True)
    with pytest.raises(CatalogError, match=words):
        found.prepare(shown)


def test_a_renamed_key_is_refused(sandbox: Sandbox) -> None:
    """Rows without their key cannot be matched."""
    found = maker({"id": {"type": "integer"}}, sandbox)
    shown = Fields("t", "-80", (field("pid", key=True),), copying=True)
    with pytest.raises(CatalogError, match="key column id is gone"):
        found.prepare(shown)


@pytest.mark.parametrize(
    "wanted", [{"type": ["number", "null"]}, {"type": ["string", "integer"]}, {}]
)
def test_a_wider_catalog_is_taken(sandbox: Sandbox, wanted: dict[str, Any]) -> None:
    """What a user has widened stays as it is."""
    found = maker({"id": {"type": "integer"}, "v": wanted}, sandbox)
    shown = Fields("t", "-80", (field("id", key=True), field("v")), copying=True)
    assert not found.prepare(shown)
    assert found.schema.as_text(value_types(shown)) == frozenset()


def records(found: RecordMaker, taken: Rows) -> list[dict[str, Any]]:
    found.prepare(taken.fields)
    return found.records(taken)


def copied(*values: bytes) -> binlogdata.RowChange:
    lengths = [len(value) for value in values]
    return binlogdata.RowChange(after=query.Row(lengths=lengths, values=b"".join(values)))


def test_a_doubtful_column_is_told_of_once(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A type that is not known is passed on as text, with one warning for all shards."""
    found = maker({"id": {"type": "integer"}, "v": {"type": ["string", "null"]}}, sandbox)
    columns = (field("id", key=True), field("v", "newtype"))
    for shard in ("-80", "80-", "-80"):
        rows_of_shard = Rows(Fields("t", shard, columns, copying=True), [copied(b"1", b"what")], 0)
        (record,) = records(found, rows_of_shard)
        assert record["v"] == "what"
    assert caplog.text.count("type newtype is not known") == 1
    assert "column id:" not in caplog.text


def test_the_catalog_tells_the_charset_where_vitess_does_not(sandbox: Sandbox) -> None:
    """Vitess sends collation 0 for gbk and others."""
    kind = {"type": ["string", "null"], "x-sql-datatype-properties": {"charset": "gbk"}}
    found = maker({"id": {"type": "integer"}, "v": kind}, sandbox)
    text = query.Field(name="v", column_type="varchar(9)", charset=0)
    shown = Fields("t", "-80", (field("id", key=True), text), copying=False)
    (record,) = records(found, Rows(shown, [copied(b"1", "中文".encode("gbk"))], 1))
    assert record["v"] == "中文"


def test_a_zero_date_in_a_key_ends_the_run(sandbox: Sandbox) -> None:
    """A null would be no key."""
    found = maker({"id": {"type": "string", "format": "date"}}, sandbox)
    shown = Fields("t", "-80", (field("id", "date", key=True),), copying=True)
    with pytest.raises(ValueDecodeError, match=r"column id: .*key column.*zero_dates to string"):
        records(found, Rows(shown, [copied(b"0000-00-00")], 0))


@pytest.mark.parametrize(("labelled", "value"), [(True, "b"), (False, "2")])
def test_enums_come_as_the_field_event_says(labelled: bool, value: str) -> None:  # noqa: FBT001
    """As labels since Vitess 20, as indexes before."""
    shown = fields("0", "t", field("id", key=True), field("v", "enum('a','b')"))
    shown.field_event.enum_set_string_values = labelled
    stream = changes()
    items = stream.feed(
        [
            begin("0", 1),
            shown,
            rows("0", "t", (None, ["1", value]), at=1),
            vgtid("0", {"0": 2}),
            commit("0", 1),
        ]
    )
    (found,) = [item for item in items if isinstance(item, Rows)]
    decoder = RowDecoder(found.fields, KEYSPACE, {"v"})
    assert decoder.decode(next(iter(found.changes)).after) == {"v": "b"}


def test_a_column_called_at_one_is_a_column() -> None:
    """Only when all names are lost has the table been altered."""
    named = (field("@1"), field("x"))
    RowDecoder(Fields("t", "-80", named, copying=False), KEYSPACE, {"x"})
    RowDecoder(Fields("t", "-80", (field("@1"),), copying=True), KEYSPACE, {"x"})
    with pytest.raises(RequestError, match="no longer knows the columns"):
        RowDecoder(Fields("t", "-80", (field("@1"), field("@2")), copying=False), KEYSPACE, set())


def test_a_source_column_of_our_own_name_is_refused() -> None:
    """It would be overwritten."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    columns = (Column("id", "int"), Column("_sdc_deleted_at", "datetime"))
    cluster.create_table("shop", Table("t", columns, primary_key=("id",)))
    with serve(cluster) as sandbox, pytest.raises(CatalogError, match="exclude_tables"):
        discover(tap_settings(sandbox))


def test_a_stream_map_must_keep_the_delete_marker(sandbox: Sandbox) -> None:
    """Deleted rows would come back as upserts."""
    maps = {"shop-alpha": {"id": "id", "name": "name", "__else__": None}}
    with pytest.raises(CatalogError, match="stream map shop-alpha drops _sdc_deleted_at"):
        run(tap_settings(sandbox, stream_maps=maps), Target())


def test_a_float_is_no_key() -> None:
    """MySQL rounds it in a copy, so that its changes would match nothing."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    columns = (Column("f", "float", nullable=False), Column("d", "double", nullable=False))
    cluster.create_table("shop", Table("float", columns, primary_key=("f",)))
    cluster.create_table("shop", Table("double", columns, primary_key=("d",)))
    with serve(cluster) as sandbox:
        streams = discover(tap_settings(sandbox))["streams"]
    keys = {stream["stream"]: stream["key_properties"] for stream in streams}
    assert keys == {"shop-float": [], "shop-double": ["d"]}


@pytest.mark.parametrize(
    "wrong", [{"user": "u", "password": 98765}, {"grpc_headers": "Bearer 98765"}]
)
def test_secrets_of_a_wrong_type_are_not_quoted(
    sandbox: Sandbox, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK's validation would print them."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match="is expected") as caught:
        TapVitess(config=tap_settings(sandbox, **wrong))
    assert "98765" not in str(caught.value) + caplog.text


def test_a_keyless_table_with_a_users_key_is_not_resumed() -> None:
    """What the user says of a key does not make VTGate's rows unique."""
    copy = TableCopy("t", {"-80": None}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True)
    copy.request()
    copy.feed(
        [
            begin("-80"),
            fields("-80", "t", field("id")),
            vgtid("-80", {"-80": 1}),
            rows("-80", "t", (None, ["1"])),
        ]
    )
    with pytest.raises(CopyCutError, match="cannot be resumed"):
        copy.request()


def test_boundaries_of_other_ddl_replace_nothing() -> None:
    """An added column is no reason for a copy."""
    stream = changes()
    [boundary] = stream.feed([vgtid("0", {"0": 2}), ddl("0", "alter table t add x int")])
    assert isinstance(boundary, Boundary)
    assert not boundary.replaced


def test_errors_of_ours_are_for_people() -> None:
    """Every class has a sentence on what it means."""

    def classes(of: type[VitessError]) -> Iterator[type[VitessError]]:
        yield of
        for below in of.__subclasses__():
            yield from classes(below)

    assert all(c.__doc__ for c in classes(VitessError))
