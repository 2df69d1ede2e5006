"""Tables that are altered under a run, between two runs, or shard by shard, with writers.

A run may fail, with a message that names the table; it never ends well with another row than the
source's. VTGate reads old binlogs with the table's present columns: what was written before an
ALTER and is read after it may come under wrong names, or with other values.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cluster.compare import Key, difference
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

COLUMNS = """
id bigint primary key, a varchar(20), b varchar(20),
c varchar(20) character set latin1, n int, wide varchar(600)
"""
NAMES = ["id", "a", "b", "c", "n", "wide"]
ROWS = 12_000
SHARDS = ("-80", "80-")
MIGRATED_SECONDS = 120.0
LATER = "later"  # the tag of what is changed behind an ALTER

ALTERS = {
    "add at the end": "alter table {t} add z int",
    "add first": "alter table {t} add z int first",
    "add in the middle": "alter table {t} add z varchar(20) after a",
    "add with a default": "alter table {t} add z int not null default 7",
    "drop the last": "alter table {t} drop wide",
    "drop in the middle": "alter table {t} drop b",
    "drop and add": "alter table {t} drop a, add z int",
    "rename": "alter table {t} rename column a to aa",
    "exchange names": "alter table {t} rename column a to b, rename column b to a",
    "reorder": "alter table {t} modify b varchar(20) after id",
    "another charset": "alter table {t} modify c varchar(20) character set utf8mb4",
    "widen": "alter table {t} modify n bigint",
    "number to text": "alter table {t} modify n varchar(20)",
    "another index": "create index by_a on {t} (a)",
}
DEFAULT = " default "
ALTERED = pytest.mark.parametrize("alter", ALTERS.values(), ids=ALTERS.keys())


@pytest.fixture
def table(source: Source) -> str:
    """Create and fill a table."""
    name = source.create("altered", COLUMNS)
    rows = [(i, f"a{i}", f"b{i}", f"é{i}", i, "w" * 500) for i in range(ROWS)]
    source.insert(name, NAMES, rows)
    return name


def _number(tag: str) -> int:
    return int.from_bytes(tag.encode()[:2], "big")


def _change(source: Source, table: str, tag: str) -> None:
    """Change and insert a few rows, by columns that every ALTER leaves."""
    t = quote(table)
    number = _number(tag)
    source.execute(
        f"update {t} set n = {number} where id % 50 = 1",
        f"delete from {t} where id % 50 = 2 and id < {number // 20}",
        f"insert into {t} (id, n) values ({ROWS + number}, 1)",
    )


@contextmanager
def _writing(source: Source, table: str) -> Iterator[None]:
    """Write until the block is left."""
    enough = threading.Event()

    def write() -> None:
        connection = source.connect()
        with connection, connection.cursor() as cursor:
            i = 0
            while not enough.wait(0.01):
                i += 1
                t = quote(table)
                # One row each: statements over several shards could wait for each other.
                cursor.execute(f"update {t} set n = n + 1 where id = {i}")
                cursor.execute(f"insert into {t} (id, n) values ({10 * ROWS + i}, {i})")
                cursor.execute(f"delete from {t} where id = {ROWS - i}")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(30)
    assert not thread.is_alive()


def _is_changed(number: int) -> bool:
    """Tell whether `_change` has changed or inserted a row, by its id."""
    return number % 50 == 1 if number < ROWS else number == ROWS + _number(LATER)


def _differs(pipe: Pipeline, table: str, *, default: bool = False) -> str:
    """Compare by the source's columns, as text; what a record has never had is null.

    default: the column z was added with a default, which MySQL logs no change of rows for. So
    rows that have not changed since may lack it; those that have must not.
    """
    source = pipe.source.rows(table, ["id"])
    names = list(next(iter(source.values())))
    target = pipe.rows(table, ["id"])
    if default:
        for key, row in target.items():
            if key in source and "z" not in row and not _is_changed(int(row["id"])):
                row["z"] = source[key]["z"]
    return difference(_texts(source, names), _texts(target, names))


def _texts(rows: dict[Key, dict[str, Any]], names: list[str]) -> dict[Key, dict[str, Any]]:
    return {
        key: {name: None if row.get(name) is None else str(row[name]) for name in names}
        for key, row in rows.items()
    }


def _run_or_be_told(pipe: Pipeline, table: str, policy: str, *, default: bool = False) -> None:
    outcome = pipe.run()
    if outcome.tap == 0 or policy == "resync":
        assert outcome.tap == 0, outcome.log
        pipe.complete()
        assert not (differs := _differs(pipe, table, default=default)), differs
    else:
        message = outcome.log.partition("CRITICAL")[2]
        print(f"exit code {outcome.tap}: {message}")
        assert outcome.tap == 1
        assert table in message


@ALTERED
@pytest.mark.parametrize("policy", ["fail", "resync"])
def test_altered_between_runs(
    source: Source, pipeline: Callable[..., Pipeline], table: str, alter: str, policy: str
) -> None:
    """Changes from before the ALTER arrive right, or end in a message; resync gets over that."""
    pipe = pipeline(tables=[f"*.{table}"], on_lost_position=policy)
    pipe.complete()
    source.execute(
        f"update {quote(table)} set a = concat('x', id), b = concat('y', id),"
        f" c = concat('ü', id), n = -id where id % 100 = 7"
    )
    source.execute(alter.format(t=quote(table)))
    _change(source, table, LATER)
    _run_or_be_told(pipe, table, policy, default=DEFAULT in alter)


@pytest.mark.parametrize(
    "alter",
    ["alter table {t} modify e enum('z', 'a', 'b')", "alter table {t} add z int first"],
    ids=["relabel", "add first"],
)
@pytest.mark.parametrize("policy", ["fail", "resync"])
def test_enum_altered_between_runs(
    source: Source, pipeline: Callable[..., Pipeline], alter: str, policy: str
) -> None:
    """VTGate decodes labels by the present table, and finds none when it has lost the columns."""
    table = source.create("labels", "id bigint primary key, n int, e enum('a', 'b')")
    source.insert(table, ["id", "e"], [(i, "a") for i in range(100)])
    pipe = pipeline(tables=[f"*.{table}"], on_lost_position=policy)
    pipe.complete()
    source.execute(
        f"update {quote(table)} set e = 'b' where id % 3 = 0", alter.format(t=quote(table))
    )
    _change(source, table, LATER)
    _run_or_be_told(pipe, table, policy)


@ALTERED
@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_altered_in_mid_run(
    source: Source, pipeline: Callable[..., Pipeline], table: str, alter: str, phase: str
) -> None:
    """An ALTER comes while a run copies the table, or streams, under writers."""
    pipe = pipeline(tables=[f"*.{table}"], checkpoint_seconds=0.2, on_lost_position="resync")
    if phase == "stream":
        pipe.complete()
        for i in range(20):
            source.execute(f"update {quote(table)} set n = n + 1 where id % 20 = {i}")
    with _writing(source, table):
        with pipe.in_mid_run(200) as run:
            source.execute(alter.format(t=quote(table)))
            _change(source, table, LATER)
        outcome = run.result()
        assert outcome.tap == 0, outcome.log
    pipe.complete()
    assert not (differs := _differs(pipe, table, default=DEFAULT in alter)), differs


def test_altered_shard_by_shard(
    source: Source, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """A rollout reaches one shard long before the other."""
    pipe = pipeline(tables=[f"*.{table}"], checkpoint_seconds=0.2)
    pipe.complete()
    for shard in SHARDS:
        connection = source.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(f"use `{source.address.keyspace}:{shard}@primary`")
            cursor.execute(f"alter table {quote(table)} add z int first, drop b")
        source.execute(f"update {quote(table)} set n = n + 1 where id % 10 = 1")
        outcome = pipe.run()
        assert outcome.tap == 0, outcome.log
    pipe.complete()
    assert not (differs := _differs(pipe, table)), differs


def test_online_ddl(source: Source, pipeline: Callable[..., Pipeline], table: str) -> None:
    """Vitess' own online schema change ends in a run; nothing is copied again."""
    pipe = pipeline(tables=[f"*.{table}"], checkpoint_seconds=0.2)
    pipe.complete()
    for i in range(20):
        source.execute(f"update {quote(table)} set n = n + 1 where id % 20 = {i}")
    with _writing(source, table):
        with pipe.in_mid_run(200) as run:
            _migrate(source, f"alter table {quote(table)} add z int")
            _change(source, table, LATER)
        outcome = run.result()
    assert outcome.tap == 0, outcome.log
    last = pipe.complete()
    assert not (differs := _differs(pipe, table)), differs
    assert "the copy begins" not in outcome.log + last.log


def _migrate(source: Source, statement: str) -> None:
    """Run an online schema change to its end on every shard."""
    connection = source.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("set @@ddl_strategy = 'vitess'")
        cursor.execute(statement)
        (answer,) = cursor.fetchall()
        deadline = time.monotonic() + MIGRATED_SECONDS
        status: set[str] = set()
        while status != {"complete"} and time.monotonic() < deadline:
            time.sleep(1)
            cursor.execute(f"show vitess_migrations like '{answer['uuid']}'")
            status = {str(row["migration_status"]) for row in cursor.fetchall()}
            assert "failed" not in status
    assert status == {"complete"}, status
