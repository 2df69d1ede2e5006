"""Each example runs, in a process of its own against the sandbox, and does what it says."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.environments import install
from support.library import vitess
from support.shops import served
from support.targets import change_postgres, read_postgres

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.sample import sample_cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import VitessTableState

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS = 60.0
LONGEST = 60  # lines
COLUMNAR = ("duckdb==1.1.3", "pyarrow==21.0.0")
BY_ARROW = ("polars==2.1.0", "deltalake==1.6.6", "adbc-driver-postgresql==1.13.0")


def with_outbox() -> Cluster:
    """Make the sample, an outbox, and a keyspace for states."""
    cluster = sample_cluster(60)
    columns = Column("id", "bigint", nullable=False), Column("topic", "varchar(40)")
    outbox = Table("outbox", (*columns, Column("payload", "json")), primary_key=("id",))
    cluster.create_table("shop", outbox)
    cluster.create_keyspace("main", ["0"])
    return cluster


pytestmark = [pytest.mark.slow, served(with_outbox)]


class Example:
    """A running example."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self._out, self._log = folder / "out", folder / "log"
        with self._out.open("w") as out, self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=out, stderr=log, env=environment)

    def printed(self) -> str:
        """Return what it has printed until now; it must be running."""
        assert self._process.poll() is None, self._log.read_text()
        return self._out.read_text()

    def stop(self, *codes: int, signum: int = signal.SIGTERM) -> None:
        """Ask it to stop, which it does with one of the exit codes, or with 0."""
        self._process.send_signal(signum)
        assert self._process.wait(20) in (codes or (0,)), self._log.read_text()

    def failed(self) -> str:
        """Wait until it has failed by itself; return what it wrote to stderr."""
        assert self._process.wait(20) == 1
        return self._log.read_text()

    def kill(self) -> None:
        """End it however it is."""
        self._process.kill()
        self._process.wait()


Run = Callable[..., Example]


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Iterator[Run]:
    """Return what starts an example; it is gone after the test."""
    where = f"{sandbox.host}:{sandbox.grpc_port}:{sandbox.mysql_port}"
    started: list[Example] = []

    def start(name: str, *arguments: str | Path, needs: tuple[str, ...] = ()) -> Example:
        command = [sys.executable, "-W", "error", str(EXAMPLES / name), where]
        paths = [EXAMPLES.parent]
        if needs:
            paths += install(needs).parent.glob("lib/python*/site-packages")
        environment = {**os.environ, "PYTHONPATH": ":".join(map(str, paths))}
        started.append(Example([*command, *map(str, arguments)], environment, tmp_path))
        return started[-1]

    yield start
    for example in started:
        example.kill()


def wait(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def settle(start: Callable[[], Example], in_step: Callable[[], bool]) -> None:
    """Run an example that cannot be looked into while it runs, until it has come to the end."""
    for seconds in (3, 6, 12, 24):
        example = start()
        time.sleep(seconds)
        example.stop(0, -signal.SIGTERM)  # of a slow machine it may be that Python only begins
        if in_step():
            return
    raise AssertionError("it did not come")


def change(cluster: Cluster) -> None:
    """Update an order and delete another."""
    found = orders(cluster)
    first, last = min(found), max(found)
    status = b"paid" if found[first][0] == "new" else b"new"
    cluster.update("shop", "orders", {"id": b"%d" % first}, {"status": status})
    cluster.delete("shop", "orders", {"id": b"%d" % last})


def orders(cluster: Cluster) -> dict[int, tuple[str, str]]:
    """Return what the source holds: status and total by id."""
    return {
        int(row["id"] or 0): ((row["status"] or b"").decode(), (row["total"] or b"").decode())
        for row in cluster.rows("shop", "orders")
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_tested(path: Path) -> None:
    """Each is under 60 lines, says in its first line what it does, and is named in this file."""
    lines = path.read_text().splitlines()
    assert len(lines) < LONGEST
    assert lines[0].startswith('"""')
    assert f'"{path.name}"' in Path(__file__).read_text()


def test_print_changes(sandbox: Sandbox, run: Run) -> None:
    """Rows that are copied, then changes as they come."""
    example = run("print_changes.py", "shop.orders")
    wait(lambda: "is copied; from here on" in example.printed())
    assert example.printed().count("shop.orders + {") == len(orders(sandbox.cluster))
    change(sandbox.cluster)
    wait(lambda: "now {'status': " in example.printed())
    wait(lambda: "shop.orders - {" in example.printed())
    example.stop(signum=signal.SIGINT)


def test_sqlite_replica(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    """The tables are equal, also after a stop and a kill, with columns that were added."""
    path, cluster = tmp_path / "replica.db", sandbox.cluster
    names = ["shop.orders", "shop.order_items", "shop.customers", "ref.countries"]

    def in_step() -> bool:
        with closing(sqlite3.connect(path)) as database:
            made = {name for (name,) in database.execute("select name from sqlite_master")}
            if not set(names) <= made:
                return False
            found = database.execute('select id, status, total from "shop.orders"').fetchall()
            counts = [
                database.execute(f'select count(*) from "{name}"').fetchone()[0] for name in names
            ]
        wanted = [len(cluster.rows(*name.split("."))) for name in names]
        return counts == wanted and {i: (s, t) for i, s, t in found} == orders(cluster)

    for end in (Example.kill, Example.stop):
        example = run("sqlite_replica.py", path, *names)
        wait(in_step)
        change(cluster)
        wait(in_step)
        end(example)
        change(cluster)
    with closing(sqlite3.connect(path)) as database:
        settings = database.execute('select settings from "shop.customers"').fetchall()
    assert all(json.loads(text)["theme"] for (text,) in settings if text)


@pytest.mark.environments
def test_duckdb_table(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    """The table is equal when the example has stopped, and once more."""
    path, cluster = tmp_path / "replica.duckdb", sandbox.cluster
    for _ in range(2):
        settle(
            lambda: run("duckdb_table.py", path, needs=COLUMNAR),
            lambda: duckdb_rows(path) == orders(cluster),
        )
        change(cluster)


def duckdb_rows(path: Path) -> dict[int, tuple[str, str]]:
    """Read status and total of all orders."""
    if not path.exists():
        return {}
    program = (
        "import duckdb, json, sys; print(json.dumps(duckdb.connect(sys.argv[1]).execute("
        "'select id, status, total::text from orders').fetchall()))"
    )
    python = install(COLUMNAR) / "python"
    text = subprocess.run(
        [python, "-c", program, path], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(text)
    assert len(found) == len({row[0] for row in found})
    return {number: (status, total) for number, status, total in found}


def test_invalidate_cache(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    """What changes is forgotten, what does not stays; what was cached before it began is gone."""
    cache, cluster = tmp_path / "cache", sandbox.cluster

    def put(*names: object) -> None:
        (cache / "shop.orders").mkdir(parents=True, exist_ok=True)
        for name in names:
            (cache / "shop.orders" / str(name)).touch()

    put("old")
    example = run("invalidate_cache.py", cache, "shop.orders")
    wait(lambda: "watching shop.orders" in example.printed())
    put(*orders(cluster))
    before = set(orders(cluster))
    change(cluster)
    wait(lambda: example.printed().count("forgotten:") == 2)
    left = {path.name for path in (cache / "shop.orders").iterdir()}
    assert len(left) == len(before) - 2
    assert "old" not in left
    cluster.ddl("shop", "truncate table orders", cluster.tables("shop")["orders"])
    wait(lambda: not (cache / "shop.orders").exists())
    example.stop()


@pytest.mark.environments
def test_parquet_files(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    """Folded by key and sequence, the files are the table."""
    folder, cluster = tmp_path / "files", sandbox.cluster
    for _ in range(2):
        settle(
            lambda: run("parquet_files.py", folder, "shop.orders", needs=COLUMNAR),
            lambda: parquet_rows(folder / "shop.orders") == orders(cluster),
        )
        change(cluster)


def parquet_rows(folder: Path) -> dict[int, tuple[str, str]]:
    """Read the files as the example's docstring says."""
    program = """
import duckdb, json, sys
newest = '''
select id, status, total::text as total, _operation, _version
from read_parquet(?, union_by_name=true)
qualify row_number() over (partition by id order by _sequence desc) = 1
'''
rows = duckdb.connect().execute(f"from ({newest}) where _operation <> 'delete' and _version >= ?",
                                [sys.argv[1] + "/*.parquet", int(sys.argv[2])]).fetchall()
print(json.dumps(rows))
"""
    version = max((int(p.name.partition("-")[2]) for p in folder.glob("_copied-*")), default=0)
    if not version:
        return {}
    python = install(COLUMNAR) / "python"
    text = subprocess.run(
        [python, "-c", program, folder, str(version)], capture_output=True, text=True, check=True
    ).stdout
    return {row[0]: (row[1], row[2]) for row in json.loads(text)}


@pytest.mark.environments
@pytest.mark.parametrize(
    ("name", "into"),
    [
        ("arrow_tables.py", "orders.duckdb"),
        ("arrow_tables.py", "postgres"),
        ("arrow_files.py", "orders.parquet"),
        ("arrow_files.py", "delta"),
    ],
)
def test_arrow_into(
    sandbox: Sandbox, run: Run, tmp_path: Path, postgres_address: str, name: str, into: str
) -> None:
    """A copy, and an update and a delete, in each place that takes Arrow."""
    place, cluster = str(tmp_path / into), sandbox.cluster
    if into == "postgres":
        place = postgres_address
        change_postgres(place, "drop table if exists orders")
    for _ in range(2):
        settle(
            lambda: run(name, tmp_path / "state", "shop.orders", "id", place, needs=BY_ARROW),
            lambda: arrow_rows(place) == orders(cluster),
        )
        change(cluster)


def arrow_rows(place: str) -> dict[int, tuple[str, str]]:
    """Read status and total of all orders, as far as they are there."""
    found: list[tuple[int, str, str]] = []
    if place.startswith("postgres"):
        with suppress(subprocess.CalledProcessError):
            found = [(r["id"], r["status"], r["total"]) for r in read_postgres(place, "orders")]
    elif place.endswith(".duckdb"):
        with suppress(duckdb.CatalogException), closing(duckdb.connect(place)) as db:
            db.execute("set python_enable_replacements = false")  # by the function of this name
            found = db.execute("select id, status, total from orders").fetchall()
    elif Path(place).exists():
        files = [place] if place.endswith(".parquet") else delta_files(place)
        found = duckdb.execute(
            "select id, status, total from read_parquet(?) where _operation <> 'delete'", [files]
        ).fetchall()
    assert len(found) == len({number for number, *_ in found})
    return {number: (status, f"{Decimal(total):.2f}") for number, status, total in found}


def delta_files(folder: str) -> list[str]:
    """Name the files of which a Delta Lake table is now."""
    program = "import deltalake, sys; print(*deltalake.DeltaTable(sys.argv[1]).file_uris())"
    python = install(BY_ARROW) / "python"
    done = subprocess.run([python, "-c", program, folder], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


def test_outbox(sandbox: Sandbox, run: Run) -> None:
    """Messages are published once a run, and a second reader ends the first one."""
    cluster = sandbox.cluster
    VitessTableState(vitess(sandbox), "main", "outbox").create()

    def send(number: int) -> None:
        row = {"id": b"%d" % number, "topic": b"orders", "payload": b'{"order": 1}'}
        cluster.insert("shop", "outbox", [row])

    def published(text: str) -> list[int]:
        messages: list[Any] = [json.loads(line) for line in text.splitlines()]
        assert all(m["payload"] == {"order": 1} for m in messages)
        return sorted(message["id"] for message in messages)

    send(1)
    example = run("outbox.py", "main")
    wait(lambda: published(example.printed()) == [1])
    send(2)
    cluster.delete("shop", "outbox", {"id": b"1"})
    wait(lambda: published(example.printed()) == [1, 2])
    example.stop()
    send(3)
    example = run("outbox.py", "main")
    wait(lambda: published(example.printed()) == [3])
    VitessTableState(vitess(sandbox), "main", "outbox").load()
    assert "FencedError: the state in main.tap_vitess_state" in example.failed()
