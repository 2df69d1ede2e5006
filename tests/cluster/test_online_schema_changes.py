"""gh-ost and pt-online-schema-change straight at the shards' MySQL: as the ALTER, and no copy.

The tools themselves run where they are on PATH; their statements are run everywhere. Not on MySQL
8.0.15: pt-online-schema-change refuses it.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cluster.launcher import HOST, Cluster
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SHARDS = ("-80", "80-")
ROWS = 2_000
TOOL_SECONDS = 240
BEGINS = "the copy begins"
USER = "schema_changes"

TRIGGER = (
    "create trigger pt_osc_{t}_del after delete on {t} for each row "
    "delete ignore from _{t}_new where id = old.id"
)
STATEMENTS = {
    "gh-ost": [
        "create table _{t}_gho like {t}",
        "alter /* gh-ost */ table _{t}_gho add column z int",
        "insert ignore into _{t}_gho (id, n, v) select id, n, v from {t}",
        "rename /* gh-ost */ table {t} to _{t}_del, _{t}_gho to {t}",
    ],
    "pt-online-schema-change": [
        "create table _{t}_new like {t}",
        "alter table _{t}_new add column z int",
        TRIGGER,
        "insert low_priority ignore into _{t}_new (id, n, v) select id, n, v from {t}",
        "rename table {t} to _{t}_old, _{t}_new to {t}",
        "drop table _{t}_old",
    ],
}
BY_HAND = ["create table _{t}_new like {t}", "rename table {t} to _{t}_old, _{t}_new to {t}"]


@pytest.fixture
def table(source: Source) -> str:
    """Create and fill a table."""
    name = source.create("orders", "id bigint primary key, n int, v varchar(20)")
    source.insert(name, ["id", "n", "v"], [(i, i, f"v{i}") for i in range(ROWS)])
    return name


def _on_each_shard(cluster: Cluster, keyspace: str, table: str, statements: list[str]) -> None:
    for shard in SHARDS:
        said = [statement.format(t=table) for statement in statements]
        cluster.mysql(cluster.tablet(keyspace, shard), f"use vt_{keyspace}", *said)


@contextmanager
def _writing(source: Source, table: str) -> Iterator[None]:
    """Write until the block is left; one row a statement."""
    enough = threading.Event()

    def write() -> None:
        connection = source.connect()
        with connection, connection.cursor() as cursor:
            i = 0
            while not enough.wait(0.02):
                i += 1
                t = quote(table)
                cursor.execute(f"update {t} set n = n + 1, v = 'w' where id = {i % ROWS}")
                cursor.execute(f"insert into {t} (id, n, v) values ({10 * ROWS + i}, {i}, 'new')")
                cursor.execute(f"delete from {t} where id = {ROWS - i}")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(60)
    assert not thread.is_alive()


def _check(pipe: Pipeline, table: str) -> None:
    """Compare; a column that was added is absent in rows that have not changed since."""
    source, target = pipe.source.rows(table, ["id"]), pipe.rows(table, ["id"])
    assert source.keys() == target.keys()
    for key, row in source.items():
        assert {name: target[key].get(name) for name in row} == row


@pytest.mark.parametrize("tool", STATEMENTS)
def test_statements_of_the_tools(
    source: Source,
    own_cluster: Cluster,
    pipeline: Callable[..., Pipeline],
    table: str,
    tool: str,
) -> None:
    """The helpers are no streams, the exchange costs no copy, and later changes are brought."""
    pipe = pipeline()
    pipe.complete()
    t = quote(table)
    source.execute(f"update {t} set v = 'before' where id < 100")
    keyspace = source.address.keyspace
    _on_each_shard(own_cluster, keyspace, table, STATEMENTS[tool][:1])
    found = [stream["tap_stream_id"] for stream in pipe.discover()["streams"]]
    assert found == [pipe.stream(table)]
    _on_each_shard(own_cluster, keyspace, table, STATEMENTS[tool][1:])
    source.execute(
        f"update {t} set v = 'behind' where id between 50 and 150", f"delete from {t} where id < 9"
    )
    assert BEGINS not in pipe.complete().log
    _check(pipe, table)


def test_an_exchange_by_hand(
    source: Source, own_cluster: Cluster, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """Names as the tool's, and nothing of the tool: the rows are others."""
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.complete()
    _on_each_shard(own_cluster, source.address.keyspace, table, BY_HAND)
    outcome = pipe.complete()
    assert "RENAME TABLE on shard" in outcome.log
    assert pipe.count(table) == 0


def _command(tool: str, cluster: Cluster, number: int, database: str, table: str) -> list[str]:
    if tool == "gh-ost":
        (row,) = cluster.mysql(number, "select @@port as port")
        return [
            *(
                "gh-ost",
                "--execute",
                "--allow-on-master",
                "--assume-rbr",
                "--alter=add column z int",
            ),
            *(f"--host={HOST}", f"--port={row['port']}", f"--user={USER}", f"--password={USER}"),
            *(f"--database={database}", f"--table={table}", "--skip-metadata-lock-check"),
            *("--skip-port-validation", f"--serve-socket-file={cluster.folder}/gh-ost.{number}"),
        ]
    socket = cluster.folder / f"vt_{number:010}" / "mysql.sock"
    return [
        *(tool, "--execute", "--alter=add column z int", "--no-version-check"),
        *("--recursion-method=none", f"S={socket},u=vt_dba,D={database},t={table}"),
    ]


@pytest.mark.parametrize("tool", ["gh-ost", "pt-online-schema-change"])
def test_the_tools_under_writers(
    source: Source,
    own_cluster: Cluster,
    pipeline: Callable[..., Pipeline],
    table: str,
    tool: str,
) -> None:
    """One shard after the other, runs between them; target equal to SELECT, and no copy."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH")
    keyspace = source.address.keyspace
    pipe = pipeline()
    pipe.complete()
    logs = []
    with _writing(source, table):
        for shard in SHARDS:
            number = own_cluster.tablet(keyspace, shard)
            with_password = f"'{USER}'@'%' identified by '{USER}'"
            own_cluster.mysql(number, f"create user if not exists {with_password}")
            own_cluster.mysql(number, f"grant all on *.* to '{USER}'@'%'")
            done = subprocess.run(
                _command(tool, own_cluster, number, f"vt_{keyspace}", table),
                capture_output=True,
                text=True,
                timeout=TOOL_SECONDS,
                check=False,
            )
            if "cannot be executed under the current MySQL" in done.stdout:
                pytest.skip("the tool refuses this MySQL")
            assert done.returncode == 0, done.stdout + done.stderr
            logs.append(pipe.complete().log)
    logs.append(pipe.complete().log)
    assert BEGINS not in "".join(logs)
    _check(pipe, table)


def test_two_exchanges_between_two_runs(
    source: Source, own_cluster: Cluster, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """Nothing tells what the second one did to the columns: rows between them ask for a copy."""
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.complete()
    keyspace, t = source.address.keyspace, quote(table)
    _on_each_shard(own_cluster, keyspace, table, STATEMENTS["gh-ost"])
    source.execute(f"update {t} set v = 'between'")
    again = [
        s.replace("column z", "column y").replace("id, n, v", "id, n, v, z")
        for s in STATEMENTS["gh-ost"]
    ]
    _on_each_shard(own_cluster, keyspace, table, ["drop table _{t}_del", *again])
    outcome = pipe.complete()
    assert "an ALTER on shard" in outcome.log
    _check(pipe, table)


@pytest.mark.parametrize("way", ["alter", "exchange"])
def test_another_key(
    source: Source,
    own_cluster: Cluster,
    pipeline: Callable[..., Pipeline],
    table: str,
    way: str,
) -> None:
    """An exchange that brings another key is followed as the ALTER would be: with a warning."""
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    alter = "drop primary key, add primary key (id, v)"
    exchange = [s.replace("add column z int", alter) for s in STATEMENTS["gh-ost"]]
    by = {"alter": [f"alter table {{t}} {alter}"], "exchange": exchange}
    _on_each_shard(own_cluster, source.address.keyspace, table, by[way])
    source.execute(f"update {quote(table)} set n = -1 where id < 100")
    outcome = pipe.complete()
    assert BEGINS not in outcome.log
    assert "its key id holds no primary key and no NOT NULL unique key of the table" in outcome.log
    _check(pipe, table)


@pytest.fixture(autouse=True)
def _tidy(source: Source, own_cluster: Cluster) -> Iterator[None]:
    """Drop what the tools have left."""
    yield
    keyspace = source.address.keyspace
    for shard in SHARDS:
        number = own_cluster.tablet(keyspace, shard)
        names = [
            next(iter(row.values()))
            for row in own_cluster.mysql(number, f"show tables from vt_{keyspace} like '\\_%'")
        ]
        for name in names:
            if source.prefix in name:
                own_cluster.mysql(number, f"drop table if exists vt_{keyspace}.{quote(name)}")
