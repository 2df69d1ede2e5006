"""A filter's rows and the columns that are selected are what comes, by a real Vitess.

What `survey/rules.py` lets through is compared with SELECT here, type by type: a copy is filtered
by MySQL and the tablet, changes by the tablet alone.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import grpc
import pymysql
import pytest
from support.load_kills import Command
from support.proxies import answering

from cluster.launcher import Version
from cluster.runs import Kill, Pipeline
from cluster.source import Address, Source, quote
from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import ConfigError
from tap_vitess.protocol.request import RequestOptions, copy_request, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.discovery import patiently_described
from tap_vitess.survey.keyspace import Survey, position
from tap_vitess.survey.rules import rule_of
from tap_vitess.vstream import Query, Vitess, changes, state_at
from tap_vitess.vtgate.retry import RetryOptions

pytestmark = pytest.mark.cluster

KILLS = int(os.environ.get("TAP_VITESS_TEST_KILLS") or 20)
ROWS = 8_000
# Of each type: values, and filters; only the newer versions take the second ones.
TYPES: dict[str, tuple[list[Any], list[str], list[str]]] = {
    "int": (
        [None, 0, 1, -1, 5, 100],
        ["= 5", "!= 5", "> 0", "> -1", ">= 1.5", "is not null"],
        ["in (1, -1)", "is null", "between -1 and 5", "not between 0 and 5"],
    ),
    "bigint unsigned": ([0, 1, 2**63, 2**64 - 1], ["= 18446744073709551615", "< 9"], []),
    "decimal(12,4)": (
        [None, "0", "1.5", "-1.5", "-2.25", "1"],
        ["= 1.5", "> -1.5", "!= 1"],
        ["in (1, -1.5)", "between -2 and 1.4"],
    ),
    "year": ([2000, 2024], ["= 2024", "> 2000"], []),
    "date": (
        [None, "2024-01-01", "2024-06-30", "1999-12-31"],
        ["= '2024-01-01'", "> '2024-01-01'"],
        ["between '2024-01-01' and '2024-12-31'"],
    ),
    "datetime(6)": (
        ["2024-01-01 00:00:00", "2024-01-01 12:00:00.5", "1999-12-31 23:59:59"],
        ["= '2024-01-01 12:00:00.5'", ">= '2024-01-01'", "< '2024-01-01 12:00:00'"],
        [],
    ),
    "timestamp null": (
        ["2024-01-01 00:00:00", "2024-01-01 12:00:00", None],
        ["= '2024-01-01 12:00:00'", "> '2024-01-01'"],
        [],
    ),
    "varchar(20)": (
        [None, "a", "A", "á", "b", "", "a ", "ß", "ss", "é"],
        ["= 'a'", "!= 'a'", "> 'a'", "= ''", "= 'ss'", "= 'é'"],
        ["in ('a', 'z')", "between 'a' and 'f'"],
    ),
    "varchar(20) collate utf8mb4_general_ci": (["a", "A", "á", "b", ""], ["= 'a'"], ["in ('á')"]),
    "varchar(20) collate utf8mb4_bin": (["a", "A", "á", "b", ""], ["= 'a'", "= 'á'"], []),
    "varchar(20) charset latin1": (["a", "A", "á", "b", ""], ["= 'a'"], []),
    "char(10) collate utf8mb4_unicode_ci": (["a", "A", "b", "a "], ["= 'a'", "> 'a'"], []),
    "varbinary(20)": (["a", "A", "b", ""], ["= 'a'", "!= 'a'", "> 'A'"], []),
    "enum('x','a','Y')": ([None, "x", "a", "Y"], ["= 'x'", "!= 'x'", "= 'y'"], ["in ('x')"]),
}


def _vitess(address: Address) -> Vitess:
    return Vitess(address.host, address.grpc_port, address.mysql_port)


def test_tablets_filter_as_mysql_does(source: Source, vitess_version: Version) -> None:
    """Whatever is not refused: in the copy, and for changes from both sides of the filter."""
    vitess, new = _vitess(source.address), vitess_version >= (22, 0, 0)
    for number, (kind, (values, filters, newer)) in enumerate(TYPES.items()):
        table = source.create(f"types{number}", f"id int primary key, c {kind}, n int")
        source.insert(table, ["id", "c", "n"], [(i, value, 0) for i, value in enumerate(values)])
        name = f"{source.address.keyspace}.{table}"
        for where in filters + newer * new:
            query = Query(name, ("n",), f"c {where}")
            found = source.query(f"select id from {quote(table)} where c {where}")
            expected = {row["id"] for row in found}
            copied = [c.key["id"] for c in _changes(vitess, query, None)]
            began = state_at(vitess, [query])
            source.execute(f"update {quote(table)} set n = n + 1")
            changed = [c.key["id"] for c in _changes(vitess, query, began)]
            assert set(copied) == expected, f"copied: {kind}: {where}"
            assert set(changed) == expected, f"changed: {kind}: {where}"
        for where in newer * (not new):
            with pytest.raises(ConfigError, match="does not filter by"):
                _changes(vitess, Query(name, None, f"c {where}"), None)


def _changes(vitess: Vitess, query: Query, state: str | None) -> list[Any]:
    found = changes(vitess, [query], state=state, retry=RetryOptions(budget=20))
    return [item for item in found if hasattr(item, "operation")]


def test_images_of_rows_that_cross(source: Source) -> None:
    """Out of the filter is a delete of the row as it was, into it an insert, in every version."""
    table = source.create("crossed", "id int primary key, tenant int, v varchar(9)")
    rows = [(i, i % 2, "old") for i in range(6)]
    source.insert(table, ["id", "tenant", "v"], rows)
    vitess = _vitess(source.address)
    query = Query(f"{source.address.keyspace}.{table}", ("v",), "tenant = 1")
    began = state_at(vitess, [query])
    name = quote(table)
    source.execute(
        f"update {name} set tenant = 0, v = 'out' where id = 1",
        f"update {name} set tenant = 1, v = 'in' where id = 2",
        f"update {name} set v = 'new' where id = 3",
        f"delete from {name} where id = 5",
        f"delete from {name} where id = 4",
        f"insert into {name} (id, tenant, v) values (7, 1, 'made'), (8, 0, 'made')",
    )
    found = {c.key["id"]: (c.operation, c.before, c.after) for c in _changes(vitess, query, began)}
    assert found == {
        1: ("delete", {"id": 1, "v": "old"}, None),
        2: ("insert", None, {"id": 2, "v": "in"}),
        3: ("update", {"id": 3, "v": "old"}, {"id": 3, "v": "new"}),
        5: ("delete", {"id": 5, "v": "old"}, None),
        7: ("insert", None, {"id": 7, "v": "made"}),
    }


@contextmanager
def _moving(source: Source, table: str, seed: int) -> Iterator[Counter[str]]:
    """Move rows in and out of a tenant, change their keys, insert and delete, until it is left."""
    rng, enough, done = random.Random(seed), threading.Event(), Counter[str]()
    name = quote(table)

    def write() -> None:
        connection = source.connect()
        while not enough.wait(rng.uniform(0, 0.02)):
            i, tenant = rng.randrange(ROWS * 2), rng.choice(["0", "1", "2", "null"])
            statement = rng.choice(
                [
                    f"update {name} set tenant = {tenant} where id between {i} and {i + 9}",
                    f"update {name} set v = 'w{i}' where id between {i} and {i + 9}",
                    f"delete from {name} where id = {i}",
                    f"insert into {name} (id, n, tenant, v) values ({i}, {i}, {tenant}, 'new')",
                    f"update {name} set n = {rng.randrange(10**9)} where id = {i}",
                ]
            )
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                done[statement.split()[0]] += 1
            except pymysql.MySQLError:
                done["given up"] += 1
        connection.close()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield done
    enough.set()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.timeout(90 + 12 * KILLS)
def test_killed_while_rows_move(
    source: Source, pipeline: Callable[..., Pipeline], seed: int
) -> None:
    """The target equals SELECT ... WHERE after kills in the copy and in the stream."""
    columns = "id bigint, n bigint, tenant int, v varchar(60), note blob, primary key (id, n)"
    table = source.create("moved", columns)
    rows = ((i, i, i % 3, f"v{i}".ljust(40, "."), "n" * 100) for i in range(ROWS))
    source.insert(table, ["id", "n", "tenant", "v", "note"], rows)
    name = f"{source.address.keyspace}.{table}"
    pipe = pipeline(checkpoint_seconds=0.2, filters={name: "tenant = 1"})
    catalog = pipe.discover()
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] == ["properties", "note"]:
            entry["metadata"]["selected"] = False
    pipe.use_catalog(catalog)
    rng = random.Random(seed)
    happened = Counter[str]()
    with _moving(source, table, seed) as done:
        while happened["kills"] < KILLS:
            phase = "stream" if pipe.is_copied() else "copy"
            states = rng.choice(["keep", "keep", "behind"])
            many = phase == "copy" and happened["copy"] < KILLS // 2
            line = rng.randint(1, ROWS // 6) if many else rng.randint(1, 40)
            kill = Kill(line=line) if many or phase == "stream" else Kill()
            outcome = pipe.run(states, kill)
            assert outcome.tap in {0, -9}, outcome.log
            happened["kills"] += outcome.tap != 0
            happened[phase] += outcome.tap != 0
            happened["runs"] += 1
            assert happened["runs"] < 6 * KILLS, f"too few runs could be killed: {happened}"
    print(f"{dict(happened)}; statements: {dict(done)}")
    pipe.complete()
    chosen = f"select id, n, tenant, v from {quote(table)} where tenant = 1"
    expected = {(row["id"], row["n"]): row for row in source.query(chosen)}
    assert pipe.rows(table, ["id", "n"]) == expected
    assert expected


def test_a_deselected_blob_does_not_cross_the_wire(source: Source) -> None:
    """Bytes of the responses, counted: of a copy and of updates of 200 rows of 20,000 bytes."""
    table = source.create("heavy", "id bigint primary key, v int, note longblob")
    source.insert(table, ["id", "v", "note"], [(i, i, "x" * 20_000) for i in range(200)])
    config = _vitess(source.address).config()
    keyspace = source.address.keyspace
    described = patiently_described(config, keyspace, RetryOptions(budget=20))
    found = next(one for one in described if one.name == table)
    began = Survey(config, keyspace, "PRIMARY").ask(position)
    source.execute(f"update {quote(table)} set v = v + 1")
    sizes: dict[str, tuple[int, int]] = {}
    for name, columns in (("all", None), ("some", {"v"})):
        options = RequestOptions(rules={table: rule_of(found, columns, None, None)})
        copy = copy_request(keyspace, table, dict.fromkeys(began.shards), options)
        sizes[name] = (
            _bytes(source.address, copy, lambda events: _are_copied(events, began)),
            _bytes(source.address, stream_request([table], began, options), _are_changed),
        )
    print(sizes)
    assert min(sizes["all"]) > 200 * 20_000
    assert max(sizes["some"]) < 60_000


def test_a_blob_that_a_load_leaves_out_does_not_cross_the_wire(
    source: Source, tmp_path: Path
) -> None:
    """Bytes that VTGate sends to `tap-vitess-load --columns`, of a copy and of updates."""
    table = source.create("loaded", "id bigint primary key, v int, note longblob")
    source.insert(table, ["id", "v", "note"], [(i, i, "x" * 20_000) for i in range(200)])
    name = f"{source.address.keyspace}.{table}"
    with counting(source.address) as (port, sent):
        settings = {
            "host": source.address.host,
            "grpc_port": port,
            "mysql_port": source.address.mysql_port,
            "tables": [name],
        }
        sizes: dict[str, list[int]] = {}
        for columns in ((), ("--columns", f"{name}=v")):
            folder = tmp_path / ("some" if columns else "all")
            folder.mkdir()
            command = Command(folder, f"duckdb:///{folder}/shop.duckdb", settings, columns)
            for step in range(2):
                before = sent[0]
                assert command.run() == 0, command.log()
                sizes.setdefault(folder.name, []).append(sent[0] - before)
                if step == 0:
                    source.execute(f"update {quote(table)} set v = v + 1")
    print(sizes)
    assert min(sizes["all"]) > 200 * 20_000
    assert max(sizes["some"]) < 60_000
    with duckdb.connect(str(folder / "shop.duckdb"), read_only=True) as connection:
        found = connection.execute(f'select id, v from vitess."{table}" order by id').fetchall()
        described = connection.execute(f'describe vitess."{table}"').fetchall()
    assert found == [
        (r["id"], r["v"]) for r in source.query(f"select id, v from {quote(table)} order by id")
    ]
    assert "note" not in {column[0] for column in described}


@contextmanager
def counting(address: Address) -> Iterator[tuple[int, list[int]]]:
    """Stand before VTGate's gRPC port; yield a port, and how many bytes have been sent to it."""
    sent = [0]

    def forward(begin: socket.socket, end: socket.socket, *, counted: bool) -> None:
        with suppress(OSError):
            while data := begin.recv(1 << 16):
                sent[0] += len(data) * counted
                end.sendall(data)
        for one in (begin, end):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def pass_on(near: socket.socket) -> None:
        with socket.create_connection((address.host, address.grpc_port)) as far:
            back = threading.Thread(target=forward, args=(far, near), kwargs={"counted": True})
            back.start()
            forward(near, far, counted=False)
            back.join()

    with answering(pass_on) as port:
        yield port, sent


def _bytes(
    address: Address,
    request: vtgate.VStreamRequest,
    is_end: Callable[[Sequence[binlogdata.VEvent]], bool],
) -> int:
    """Count what VTGate sends, up to the end of what is asked for."""
    events: list[binlogdata.VEvent] = []
    size = 0
    with grpc.insecure_channel(
        f"{address.host}:{address.grpc_port}", [("grpc.max_receive_message_length", -1)]
    ) as channel:
        stream: grpc.UnaryStreamMultiCallable[bytes, bytes]
        stream = channel.unary_stream("/vtgateservice.Vitess/VStream")
        for response in stream(request.SerializeToString()):
            size += len(response)
            events += vtgate.VStreamResponse.FromString(response).events
            if is_end(events):
                return size
    raise AssertionError("the stream ended early")


def _are_copied(events: Sequence[binlogdata.VEvent], began: Vgtid) -> bool:
    done = {event.shard for event in events if event.type == binlogdata.COPY_COMPLETED}
    return done >= began.shards.keys()


def _are_changed(events: Sequence[binlogdata.VEvent]) -> bool:
    rows = (len(event.row_event.row_changes) for event in events if event.type == binlogdata.ROW)
    return sum(rows) >= 200


def test_a_dropped_column_does_not_end_the_stream(
    source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """Dropped between two runs and while one goes on: what is left is read, in the same run."""
    table = source.create("dropped", "id bigint primary key, a int, b int, secret varchar(20)")
    source.insert(table, ["id", "a", "b", "secret"], [(i, i, i, "secret") for i in range(900)])
    pipe = pipeline(max_run_seconds=25)
    catalog = pipe.discover()
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] == ["properties", "secret"]:
            entry["metadata"]["selected"] = False
    pipe.use_catalog(catalog)
    with pipe.in_mid_run(100):
        source.execute(f"alter table {quote(table)} drop column b")
        time.sleep(1)
        source.execute(f"update {quote(table)} set a = a + 1000 where id < 100")
    outcome = pipe.complete()
    assert "not there (any more); the others are read" in outcome.log
    rows = pipe.rows(table, ["id"])
    expected = source.query(f"select id, a from {quote(table)}")
    assert {key: row["a"] for key, row in rows.items()} == {(r["id"],): r["a"] for r in expected}
    assert all("secret" not in row for row in rows.values())
