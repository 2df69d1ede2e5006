"""The sandbox's errors held beside recorded ones of a real Vitess, and its servers."""

import gc
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support import recordings
from support.sessions import (
    SECONDS,
    Call,
    Shop,
    _method,
    copied,
    everything,
    has,
    open_call,
    request_for_items,
    request_of,
    serve_grpc,
    shapes,
    stream,
)

from tap_vitess._proto.binlogdata_pb2 import ShardGtid, VEventType
from tap_vitess._proto.vtgate_pb2 import TabletType, VStreamRequest
from tap_vitess.sandbox import Cluster, Options, Sandbox, Tls, serve
from tap_vitess.sandbox.sample import sample_cluster

# Errors


def _masked(details: str) -> str:
    """Details without what differs from cluster to cluster."""
    details = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:\d+(-\d+)?", "GTID", details)
    details = re.sub(r"zone1-\d{10}", "TABLET", details)
    return re.sub(r"(?<=shop[./])(80-|-80)|(?<=shard:\")(80-|-80)", "SHARD", details)


def _end(shop: Shop, request: VStreamRequest, seconds: float = SECONDS) -> tuple[str, str]:
    with (
        serve_grpc(shop.cluster, options=Options(tablet_wait=0.1)) as sandbox,
        open_call(sandbox, request, seconds=seconds) as call,
    ):
        _, code, details = call.rest()
    return code.name, _masked(details)


@pytest.mark.parametrize(
    "name",
    [
        "error_bad_gtid",
        "error_unknown_column",
        "error_unknown_keyspace",
        "error_unknown_shard",
        "error_unknown_table",
    ],
)
def test_errors(shop: Shop, name: str) -> None:
    recording = recordings.load(name)
    assert _end(shop, recording.request) == (recording.end, _masked(recording.details))


def test_error_of_a_rule_without_select(shop: Shop) -> None:
    """It shows itself at the first change only."""
    recording = recordings.load("error_bad_filter")
    shop.write_elsewhere("80-", 1)
    with (
        serve_grpc(shop.cluster) as sandbox,
        open_call(sandbox, recording.request) as call,
    ):
        responses = call.read(has(2))
        shop.fill("item", "80-")
        more, code, details = call.rest()
    assert shapes([*responses, *more]) == shapes(recording.responses)
    assert (code.name, _masked(details)) == (recording.end, _masked(recording.details))


def test_error_of_purged_binlogs(shop: Shop) -> None:
    recording = recordings.load("error_purged_gtid")
    shop.fill("item", "-80")
    start = everything(shop.cluster)
    shop.fill("item", "-80")
    shop.cluster.purge_binlogs("shop", "-80")
    request = request_of(*start, tables=["item"])
    code, details = _end(shop, request)
    # The recorded request of -80 stands in the text as it was made, with all of its position.
    assert (code, details) == (recording.end, _masked(recording.details))


def test_position_at_the_purge_is_usable(shop: Shop) -> None:
    shop.fill("item", "-80")
    start = everything(shop.cluster)
    shop.cluster.purge_binlogs("shop", "-80")
    shop.fill("item", "-80")
    assert stream(shop.cluster, request_of(*start, tables=["item"]), has(1))


def test_error_of_dropped_shards(shop: Shop) -> None:
    recording = recordings.load("reshard_old_position_completed")
    start = everything(shop.cluster)
    shop.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    shop.cluster.drop_old_shards("shop")
    code, details = _end(shop, request_of(*start, tables=["item"]))
    expected = _masked(recording.details).replace("GTID", "")
    assert (code, details.replace("GTID", "")) == (recording.end, expected)


def test_no_tablet_and_foreign_positions_look_alike(shop: Shop) -> None:
    request = request_of(ShardGtid(keyspace="shop", gtid="current"), tables=["item"])
    request.tablet_type = TabletType.RDONLY
    code, details = _end(shop, request)
    assert code == "CANCELLED"
    assert "failed to find a RDONLY tablet for VStream in shop/" in details
    ahead = "MySQL56/00000000-0000-0000-0000-000000000001:1-5"
    entry = ShardGtid(keyspace="shop", shard="-80", gtid=ahead)
    code, details = _end(shop, request_of(entry, tables=["item"]))
    assert code == "CANCELLED"
    assert "failed to find a PRIMARY tablet for VStream in shop/" in details


@pytest.mark.parametrize(
    ("entries", "code", "text"),
    [
        ([], "INVALID_ARGUMENT", "vgtid must have at least one value"),
        ([ShardGtid(gtid="MySQL56/x")], "INVALID_ARGUMENT", "must be 'current'"),
        ([ShardGtid(keyspace="shop", gtid="MySQL56/")], "INVALID_ARGUMENT", "unspecified"),
        (
            [ShardGtid(keyspace="shop", shard="-80", gtid="x:1-5")],
            "INTERNAL",
            "unknown GTIDSet flavor",
        ),
        ([ShardGtid(keyspace="no", shard="0", gtid="current")], "UNKNOWN", "node doesn't exist"),
    ],
)
def test_requests_that_are_refused(
    shop: Shop, entries: list[ShardGtid], code: str, text: str
) -> None:
    found, details = _end(shop, request_of(*entries, tables=["item"]))
    assert found == code
    assert text in details


def test_empty_keyspace_is_all_of_them(shop: Shop) -> None:
    shop.cluster.create_keyspace("ref", ["0"])
    responses = stream(shop.cluster, request_of(ShardGtid(gtid="current")), has(3))
    (told,) = (e for e in responses[-1].events if e.type == VEventType.VGTID)
    assert [(entry.keyspace, entry.shard) for entry in told.vgtid.shard_gtids] == [
        ("ref", "0"),
        ("shop", "-80"),
        ("shop", "80-"),
    ]


# The servers


def test_static_authentication(shop: Shop) -> None:
    request = request_for_items(shop)
    with serve_grpc(shop.cluster, username="ann", password="secret") as sandbox:
        with open_call(sandbox, request) as call:
            assert call.rest()[1] == grpc.StatusCode.UNAUTHENTICATED
        wrong = {"username": "ann", "password": "guess"}
        with open_call(sandbox, request, metadata=wrong) as call:
            assert call.rest()[1] == grpc.StatusCode.PERMISSION_DENIED
        right = {"username": "ann", "password": "secret"}
        with open_call(sandbox, request, metadata=right) as call:
            assert call.read(copied)
        assert len(sandbox.requests) == 1


def test_tls(shop: Shop) -> None:
    certificate, private_key = _certificate()
    request = request_for_items(shop)
    with serve_grpc(shop.cluster, tls=Tls(certificate, private_key)) as sandbox:
        credentials = grpc.ssl_channel_credentials(root_certificates=certificate)
        with grpc.secure_channel(f"localhost:{sandbox.grpc_port}", credentials) as channel:
            call = _method(channel)(request, timeout=SECONDS)
            assert Call(call).read(copied)
            call.cancel()


def _certificate() -> tuple[bytes, bytes]:
    """A certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    return certificate.public_bytes(pem), secret


def test_nothing_remains(shop: Shop) -> None:
    """Not even with a stream and a connection open."""
    before = set(threading.enumerate())
    with serve(shop.cluster) as sandbox:
        connection = pymysql.connect(host=sandbox.host, port=sandbox.mysql_port, user="root")
        with open_call(sandbox, request_of(ShardGtid(keyspace="shop", gtid="current"))) as call:
            call.read(has(2))
    connection.close()
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
    for port in (sandbox.grpc_port, sandbox.mysql_port):
        with socket.socket() as probe:
            assert probe.connect_ex((sandbox.host, port))


@pytest.mark.slow
def test_no_socket_of_a_late_client_remains() -> None:
    """One accepted while the server ends has no transport yet, and no connection to be killed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(10):
            begun, ended = threading.Event(), threading.Event()
            with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
                stack.callback(ended.set)
                with serve(Cluster()) as sandbox:
                    pool.submit(connect_until, ended, sandbox.mysql_port, begun)
                    assert begun.wait(SECONDS)
            gc.collect()
    assert [str(warning.message) for warning in found] == []


def connect_until(ended: threading.Event, port: int, begun: threading.Event) -> None:
    while not ended.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            begun.set()


class Mysql:
    """A connection that answers with rows, and with names beside them when asked."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return list(cursor.fetchall())

    def names(self, sql: str) -> list[str]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return [column[0] for column in cursor.description]


@pytest.fixture
def mysql(shop: Shop) -> Iterator[Mysql]:
    with serve(shop.cluster) as sandbox:
        connection = pymysql.connect(
            host=sandbox.host, port=sandbox.mysql_port, user="root", database="shop"
        )
        with connection:
            yield Mysql(connection)


def test_vitess_statements(shop: Shop, mysql: Mysql) -> None:
    shop.cluster.create_keyspace("main-db", ["0"])
    assert mysql.rows("show keyspaces") == [("main-db",), ("shop",)]
    assert mysql.rows("show vitess_shards") == [("main-db/0",), ("shop/-80",), ("shop/80-",)]
    assert mysql.rows("show vitess_shards like 'shop/%'") == [("shop/-80",), ("shop/80-",)]
    assert mysql.names("show global gtid_executed from shop") == [
        "db_name",
        "gtid_executed",
        "shard",
    ]
    shop.fill("item", "-80")
    executed = {row[2]: row[1] for row in mysql.rows("SHOW GLOBAL GTID_EXECUTED FROM `shop`;")}
    assert executed == shop.cluster.gtid_executed("shop")
    assert [row[1:4] for row in mysql.rows("show vitess_tablets")] == [
        ("main-db", "0", "PRIMARY"),
        ("shop", "-80", "PRIMARY"),
        ("shop", "80-", "PRIMARY"),
    ]
    mysql.rows("use `shop:-80@primary`")
    variables = dict(
        mysql.rows("show global variables where variable_name in ('gtid_executed',\n'gtid_purged')")
    )
    assert variables["gtid_executed"] == executed["-80"]
    assert variables["gtid_purged"] == ""
    mysql.rows("use `shop:-40@primary`")
    with pytest.raises(pymysql.err.OperationalError, match="no healthy tablet available"):
        mysql.rows("show global variables")
    assert mysql.rows("select @@version") == [("8.0.40-Vitess",)]
    with pytest.raises(pymysql.err.OperationalError, match="unknown database"):
        mysql.rows("use nosuch")


def test_information_schema(mysql: Mysql) -> None:
    query = "from information_schema.columns where table_schema = %s and table_name = 'line'"
    assert mysql.rows(
        f"select column_name as c, column_type as t, is_nullable as n {query} "
        "order by ordinal_position",
        "shop",
    ) == [
        ("order_id", "bigint(20)", "NO"),
        ("line_no", "int(11)", "NO"),
        ("sku", "varchar(20)", "NO"),
        ("qty", "int(11)", "YES"),
    ]
    query = "select table_schema, table_name as t from information_schema.tables where "
    assert mysql.names(query + "table_schema = 'shop'") == ["TABLE_SCHEMA", "t"]
    assert len(mysql.rows(query + "table_schema = 'shop'")) == 6
    assert mysql.rows(query + "table_schema = 'shop' and table_name = 'doc'") == [
        ("vt_shop", "doc")
    ]
    assert mysql.rows(query + "table_schema in ('shop')") == []
    assert mysql.rows(query + "table_schema = 'nosuch'") == []
    assert len(mysql.rows(query + "table_schema = database()")) == 6
    assert mysql.rows(
        "select index_name, seq_in_index, column_name, non_unique from "
        "information_schema.statistics where table_schema = 'shop' and table_name = 'line'"
    ) == [("PRIMARY", 1, "order_id", 0), ("PRIMARY", 2, "line_no", 0)]


def test_writing_by_sql(shop: Shop, mysql: Mysql) -> None:
    mysql.rows("begin")
    mysql.rows(
        "insert into item (id, name, price, updated_at) values (%s, %s, 1.5, '2024-01-01'), "
        "(2, 'b', null, now())",
        1,
        "ä",
    )
    mysql.rows("commit")
    assert shop.cluster.rows("shop", "item")[0] == {
        "id": b"1",
        "name": "ä".encode(),
        "price": b"1.50",
        "qty": None,
        "updated_at": b"2024-01-01 00:00:00.000",
    }
    mysql.rows("update item set price = price + 1, name = concat(name, '!') where id in (1, 2)")
    assert mysql.rows("select id, name, price * 2 as p from shop.item where id < 2") == [
        (1, "ä!", 5)
    ]
    assert mysql.rows("select NAME from item where price is null and id = '2'") == [("b!",)]
    mysql.rows("delete from item where name like 'b%'")
    assert mysql.rows("select count(*) from item") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("insert into item (id, name, updated_at) values (1, 'x', now()), (1, 'x', now())", 1062),
        ("insert into item (id, nosuch) values (1, 2)", 1054),
        ("insert into item (id) values (1)", 1048),
        ("insert into item (id, name, updated_at) values ('x', 'x', now())", 1366),
        ("insert into line values (1, 2)", 1136),
        ("select * from nosuch", 1146),
        ("select nosuch from item", 1054),
        ("select * from nosuch.item", 1049),
        ("create table t (id int, key (id))", 1235),
        ("create table t (id int auto_increment, primary key (id))", 1235),
        ("create table item (id int)", 1050),
        ("create table nosuch.t (id int)", 1049),
        ("alter table t add x int", 1235),
        ("insert into item (id) values (1) on duplicate key update name = 'x'", 1235),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_sql_errors(shop: Shop, mysql: Mysql, sql: str, number: int) -> None:
    with pytest.raises(pymysql.MySQLError) as caught:
        mysql.rows(sql)
    assert caught.value.args[0] == number
    assert shop.cluster.rows("shop", "item") == []


def test_sql_creates_tables(shop: Shop, mysql: Mysql) -> None:
    """With collations and a key, and a DDL in the binlog."""
    before = shop.cluster.shard("shop", "-80").executed
    mysql.rows(
        "create table `shop`.`t` (name varchar(9) character set ascii collate ascii_bin not null, "
        "n decimal(5,2), primary key (name))"
    )
    table = shop.cluster.tables("shop")["t"]
    assert (table.primary_key, [c.nullable for c in table.columns]) == (("name",), [False, True])
    mysql.rows("insert into t (name, n) values ('a', 1), ('A', 2.5)")
    assert mysql.rows("select n from t where name = 'A'") == [(Decimal("2.50"),)]
    assert shop.cluster.shard("shop", "-80").executed > before


def test_mysql_password(shop: Shop) -> None:
    with serve(shop.cluster, username="ann", password="secret") as sandbox:
        address: dict[str, Any] = {"host": sandbox.host, "port": sandbox.mysql_port}
        pymysql.connect(user="ann", password="secret", **address).close()
        for user, password in (("ann", "guess"), ("bob", "secret"), ("ann", "")):
            with pytest.raises(pymysql.err.OperationalError) as caught:
                pymysql.connect(user=user, password=password, **address)
            assert caught.value.args[0] == 1045


def shards_at(mysql_port: int) -> set[str]:
    connection = pymysql.connect(host="127.0.0.1", port=mysql_port, user="any")
    with connection, connection.cursor() as cursor:
        cursor.execute("show vitess_shards")
        return {shard for (shard,) in cursor.fetchall()}


@pytest.mark.slow
def test_command_line(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "tap_vitess.sandbox", "--grpc-port=0", "--mysql-port=0"]
    command += ["--rows=20", "--live-writes=50", f"--ready-file={ready}", "--break=cut_in_copy=3"]
    command += ["--reshard-after=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + SECONDS
        while not (ready.exists() and ready.read_text().endswith("\n")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        grpc_port, mysql_port = map(int, ready.read_text().split())
        sandbox = Sandbox(Cluster(), "127.0.0.1", grpc_port, mysql_port)
        with open_call(
            sandbox, request_of(ShardGtid(keyspace="shop"), tables=["customers"])
        ) as call:
            assert call.rest()[1] == grpc.StatusCode.UNAVAILABLE
        assert shards_at(mysql_port) == {"shop/-40", "shop/40-80", "shop/80-", "ref/0"}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, b"")
    assert str(mysql_port).encode() in out
    assert not ready.exists()


def test_binary_columns_come_as_bytes() -> None:
    """PyMySQL would take them for text, and fail."""
    with serve(sample_cluster(rows=5)) as sandbox:
        connection = pymysql.connect(
            host=sandbox.host, port=sandbox.mysql_port, user="any", database="shop"
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("select token from order_items where token is not null")
            assert all(isinstance(token, bytes) for (token,) in cursor.fetchall())
