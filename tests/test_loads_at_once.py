"""Several loads into one dataset of Postgres at once: none fails, and no row is there twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from dlt.common.destination.exceptions import SchemaUpdateError
from support.fuzzing import FACTOR
from support.loads import Warehouse, pipeline_of
from support.processes import Processes
from support.shops import SHARDS, served, shop, table
from support.taps import settings
from support.targets import postgres

from tap_vitess.dlt.turns import in_turn, is_race
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox

pytestmark = pytest.mark.slow

SECONDS = 90
EVERY = ("--every", "0.5")
FOUR = ("-40", "40-80", "80-c0", "c0-")


@pytest.fixture
def database() -> Iterator[str]:
    """Return the address of a Postgres of the test's own."""
    with postgres() as address:
        yield address


def reference(name: str) -> Table:
    return Table(name, table(name).columns, ("id",), role="reference")


def two_shards() -> Cluster:
    cluster = shop(table("alpha"), reference("countries"))
    for name in ("alpha", "countries"):
        insert(cluster, name, range(12))
    return cluster


def four_shards() -> Cluster:
    cluster = Cluster()
    cluster.create_keyspace("shop", FOUR)
    for one in (table("alpha"), table("beta"), reference("countries")):
        cluster.create_table("shop", one)
        insert(cluster, one.name, range(200))
    return cluster


def insert(cluster: Cluster, name: str, ids: Sequence[int]) -> None:
    cluster.insert("shop", name, [{"id": b"%d" % i, "name": b"n%d" % i} for i in ids])


def change(cluster: Cluster, first: int) -> None:
    """Insert, update and delete in each table, on all shards."""
    for name in ("alpha", "beta", "countries"):
        insert(cluster, name, range(first, first + 40))
        for i in range(first - 100, first - 60, 4):
            cluster.update("shop", name, {"id": b"%d" % i}, {"name": b"changed%d" % first})
            cluster.delete("shop", name, {"id": b"%d" % (i + 1)})


def add_column(cluster: Cluster, name: str) -> None:
    before = cluster.tables("shop")["alpha"]
    after = replace(before, columns=(*before.columns, Column(name, "bigint")))
    cluster.ddl("shop", f"ALTER TABLE alpha ADD COLUMN {name} bigint", after)


def source(cluster: Cluster, name: str) -> list[tuple[int, str]]:
    """Return a table's rows; those of a reference table are on each shard."""
    rows = cluster.rows("shop", name)
    return sorted({(int(row["id"] or b""), (row["name"] or b"").decode()) for row in rows})


def ask(address: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement; return its rows, and none where there is no such table yet."""
    with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        try:
            cursor.execute(statement)
        except psycopg2.errors.UndefinedTable:
            return []
        return list(cursor.fetchall()) if cursor.description else []


def loaded(address: str, name: str) -> list[tuple[int, str]]:
    return ask(address, f"SELECT id, name FROM vitess.{name} ORDER BY id, name")


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def job(sandbox: Sandbox, folder: Path, address: str, shards: str, *more: str) -> list[str]:
    """Return the command line of a load of some shards."""
    config = folder / f"{shards}.json"
    config.write_text(json.dumps(settings(sandbox, shards=[shards])))
    name = f"job{shards.replace('-', '_')}"
    start = [sys.executable, "-m", "tap_vitess.load", "--config", str(config)]
    return [*start, "--to", address, "--name", name, *more]


def begin(processes: Processes, commands: list[list[str]]) -> list[subprocess.Popen[str]]:
    return [processes.begin(command) for command in commands]


def ended(running: list[subprocess.Popen[str]]) -> None:
    """End loads that keep running."""
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


@pytest.mark.skipif(FACTOR == 1, reason="costs half a minute: set TAP_VITESS_FUZZ to 2")
@served(four_shards)
def test_four_loads_at_once(sandbox: Sandbox, tmp_path: Path, database: str) -> None:
    """A first load, changes in two rounds, a new column, and processes that resume."""
    cluster = sandbox.cluster

    def is_whole() -> bool:
        assert [process.poll() for process in running] == [None] * 4
        return all(
            loaded(database, name) == source(cluster, name)
            for name in ("alpha", "beta", "countries")
        )

    with Processes() as processes:
        running = begin(processes, [job(sandbox, tmp_path, database, one, *EVERY) for one in FOUR])
        until(is_whole)
        for first in (200, 240):
            add_column(cluster, f"new{first}")
            change(cluster, first)
            until(is_whole)
        ended(running)
        change(cluster, 280)
        again = begin(processes, [job(sandbox, tmp_path, database, one) for one in FOUR])
        assert [process.wait(SECONDS) for process in again] == [0] * 4
    for name in ("alpha", "beta", "countries"):
        assert loaded(database, name) == source(cluster, name), name


@served(two_shards)
def test_loads_that_merge_one_key(sandbox: Sandbox, tmp_path: Path, database: str) -> None:
    """Both merge a new row of a reference table; a trigger holds them before they insert it."""
    create = (
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END'; "
        "CREATE TRIGGER hold BEFORE INSERT ON vitess.countries EXECUTE FUNCTION hold()"
    )
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with closing(psycopg2.connect(database)) as connection, Processes() as processes:
        both = begin(processes, [job(sandbox, tmp_path, database, one, *EVERY) for one in SHARDS])
        until(lambda: ask(database, "SELECT count(*) FROM vitess._dlt_loads") == [(2,)])
        ask(database, create)
        connection.cursor().execute("SELECT pg_advisory_xact_lock(7)")
        insert(sandbox.cluster, "countries", [100])
        until(lambda: ask(database, waiting) != [(0,)])
        time.sleep(3)  # without its turn, the other one would come to its insert as well
        assert ask(database, waiting) == [(1,)]
        connection.rollback()
        until(lambda: ask(database, waiting) == [(0,)])
        ended(both)
    assert loaded(database, "countries") == source(sandbox.cluster, "countries")


def test_a_turn_outlives_the_servers_timeouts(tmp_path: Path, database: str) -> None:
    """Else the lock would be another load's while this one loads; who waits can be ended."""
    _, role = ask(database, "SELECT 1, current_user")[0]
    ask(database, f"ALTER ROLE \"{role}\" SET idle_in_transaction_session_timeout = '300ms'")
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    try:
        pipeline = pipeline_of(database, tmp_path)
        with in_turn(pipeline, ["countries"]):
            time.sleep(1)
            assert ask(database, held) == [(1,)]
            with pytest.raises(TimeoutError), ended_after(1), in_turn(pipeline, ["countries"]):
                pytest.fail("two have it")
        assert ask(database, held) == [(0,)]
    finally:
        ask(database, f'ALTER ROLE "{role}" RESET idle_in_transaction_session_timeout')


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this thread, as a signal's handler does."""

    def end(*_: object) -> None:
        raise TimeoutError

    known = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, known)


@contextmanager
def meanwhile(address: str, statement: str) -> Iterator[None]:
    """Run a statement, and commit it when something in the block waits for it."""
    blocked = "SELECT 1 FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    with closing(psycopg2.connect(address)) as connection:
        connection.cursor().execute(statement)

        def commit() -> None:
            until(lambda: ask(address, blocked) != [])
            connection.commit()

        other = threading.Thread(target=commit)
        other.start()
        yield
        other.join()


@served(two_shards)
@pytest.mark.parametrize("created", ["dataset", "table", "column"])
def test_what_another_load_creates_meanwhile(
    sandbox: Sandbox,
    tmp_path: Path,
    database: str,
    caplog: pytest.LogCaptureFixture,
    created: str,
) -> None:
    """It is not committed when the load looks, and is when the load creates the same."""
    warehouse = Warehouse(sandbox, database, tmp_path)
    match created:
        case "dataset":
            statement = "CREATE SCHEMA vitess"
        case "table":
            ask(database, "CREATE SCHEMA vitess")
            statement = "CREATE TABLE vitess.alpha (id bigint NOT NULL)"
        case _:
            warehouse.load()
            add_column(sandbox.cluster, "more")
            insert(sandbox.cluster, "alpha", [50])
            statement = "ALTER TABLE vitess.alpha ADD COLUMN more bigint"
    with caplog.at_level("INFO"), meanwhile(database, statement):
        warehouse.load()
    assert "loading again in 0.5 s" in caplog.text
    for name in ("alpha", "countries"):
        assert loaded(database, name) == source(sandbox.cluster, name)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("Object 'VITESS.ALPHA' already exists.", True),
        ("404 Already Exists: Dataset p:vitess", True),
        ("Duplicate column name 'x'", True),
        ("relation does not exist", False),
        ("permission denied for database shop", False),
        ("No space left on device", False),
    ],
)
def test_races_in_other_destinations(cause: str, *, expected: bool) -> None:
    """They are known by their words, and only where something is created."""
    fault = ValueError(cause)
    with pytest.raises(SchemaUpdateError) as caught:
        raise SchemaUpdateError.from_cause("vitess", ["alpha"], fault) from fault
    assert is_race(caught.value) is expected
    assert not is_race(fault)
