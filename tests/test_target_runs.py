"""Run after run through real targets: after each, the target's tables are compared with the source.

`pipelines.TARGETS` says what the targets do with rows that have to go; docs/singer.md is held
against it here.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import targets
from support.taps import discover, settings
from support.targets import DELETED_AT, OP, TARGETS, Pipeline, Rows, check, source

from tap_vitess.sandbox.cluster import Cluster, keyspace_id
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import serve

pytestmark = pytest.mark.environments

EXAMPLES = int(os.environ.get("TAP_VITESS_EXAMPLES", "4"))
ID = Column("id", "int", nullable=False)
Start = Callable[..., AbstractContextManager[Pipeline]]


def table(of: str, /, *, key: tuple[str, ...] = ("id",), **columns: str) -> Table:
    found = (Column(column, kind) for column, kind in columns.items())
    return Table(of, (ID, *found), primary_key=key)


def fill(cluster: Cluster, of: str, /, *ids: int, **values: str | None) -> None:
    """Insert rows with these values; {} in one is the id."""
    cluster.insert("shop", of, [{"id": b"%d" % i, **raw(i, values)} for i in ids])


def raw(number: int, values: Mapping[str, str | None]) -> dict[str, bytes | None]:
    return {
        name: None if value is None else value.format(number).encode()
        for name, value in values.items()
    }


def update(cluster: Cluster, of: str, number: int, /, **values: str | None) -> None:
    cluster.update("shop", of, {"id": b"%d" % number}, raw(number, values))


def delete(cluster: Cluster, name: str, *ids: int) -> Rows:
    """Delete rows, and return them as they were."""
    before = source(cluster, name)
    cluster.delete_many("shop", name, [{"id": b"%d" % i} for i in ids])
    return {str(i): before[str(i)] for i in ids}


def move(cluster: Cluster, name: str, number: int, new: int) -> Rows:
    """Give a row another key, and return it as it was."""
    old = {str(number): source(cluster, name)[str(number)]}
    update(cluster, name, number, id=str(new), name="moved")
    return old


def other_shard(cluster: Cluster, name: str, number: int) -> int:
    """Return an id that is not used and on the other shard."""
    of = cluster.tables("shop")[name]

    def half(i: int) -> int:
        return keyspace_id(of, {"id": b"%d" % i})[0] >> 7

    return next(i for i in range(1000, 2000) if half(i) != half(number))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Run one Postgres for all tests: its start is dear."""
    with targets.postgres() as address:
        yield address


@pytest.fixture
def start(tmp_path: Path, postgres: str, request: pytest.FixtureRequest) -> Start:
    """Make a pipeline out of a sandbox of two shards with these tables."""

    @contextmanager
    def made(target: str, *tables: Table, options: Options | None = None) -> Iterator[Pipeline]:
        cluster = Cluster()
        cluster.create_keyspace("shop", ["-80", "80-"])
        for one in tables:
            cluster.create_table("shop", one)
        folder = tmp_path / request.node.name.translate(str.maketrans("[]-", "___"))
        folder.mkdir()
        with serve(cluster, options=options) as sandbox:
            yield Pipeline(sandbox, TARGETS[target], folder, postgres)

    return made


# Changes

MAPS = {"shop-person": {"__alias__": "people", "secret": None}}


def write(cluster: Cluster) -> tuple[Rows, Rows]:
    """Insert, update, delete, change keys; return what is gone of `item` and of `person`."""
    fill(cluster, "item", 100, 101, name="new {}", qty="1")
    update(cluster, "item", 1, name="changed")
    update(cluster, "item", 2, name=None, qty="-5")
    gone = delete(cluster, "item", 3)
    update(cluster, "item", 4, name="the last image")
    gone |= delete(cluster, "item", 4)
    with cluster.transaction("shop"):
        gone |= move(cluster, "item", 5, 105)
        fill(cluster, "person", 50, name="p{}", secret="s{}")
        update(cluster, "person", 1, name="changed", secret="changed")
    gone |= move(cluster, "item", 6, other_shard(cluster, "item", 6))
    delete(cluster, "item", 7)
    fill(cluster, "item", 7, name="back again", qty="7")
    fill(cluster, "item", 200, name="of one run", qty="0")
    gone |= delete(cluster, "item", 200)
    return gone, delete(cluster, "person", 2)


@pytest.mark.parametrize(
    "target", ["jsonl", "duckdb", "duckdb-hard", "postgres-hard", "postgres-batch"]
)
def test_changes(target: str, start: Start) -> None:
    """Copy, follow, and a run with nothing new; one of the streams goes through a stream map.

    `hard_delete` takes deleted rows away in target-duckdb, and leaves them in target-postgres.
    """
    item = table("item", name="varchar(20)", qty="int")
    person = table("person", name="varchar(20)", secret="varchar(20)")
    with start(target, item, person) as pipeline:
        cluster = pipeline.sandbox.cluster
        fill(cluster, "item", *range(12), name="n{}", qty="1{}")
        fill(cluster, "person", *range(4), name="n{}", secret="s{}")
        gone: tuple[Rows, Rows] = {}, {}
        for _ in range(3):
            pipeline.run(stream_maps=MAPS)
            check(pipeline, "item", deleted=gone[0])
            check(pipeline, "person", deleted=gone[1], alias="people", without="secret")
            stored = pipeline.all_rows("item"), pipeline.all_rows("people", file="people")
            assert not any("secret" in row for row in stored[1])
            if gone[0]:
                break
            gone = write(cluster)
        assert {row[OP] for row in stored[0] if row[DELETED_AT]} <= {"delete"}
        state = pipeline.state
        pipeline.run(stream_maps=MAPS)
        again = pipeline.all_rows("item"), pipeline.all_rows("people", file="people")
        assert again == stored
        assert pipeline.state == state


# Versions


def whole(catalog: dict[str, Any], *streams: str) -> dict[str, Any]:
    """Let these streams be copied afresh in every run."""
    for entry in catalog["streams"]:
        if entry["tap_stream_id"] in streams:
            entry["replication_method"] = "FULL_TABLE"
    return catalog


def lines(pipeline: Pipeline, *, deleted: bool) -> list[str]:
    """Return what stands in the rows of the table without a key."""
    rows = pipeline.all_rows("log")
    return sorted(row["line"] for row in rows if (row[DELETED_AT] is not None) == deleted)


@pytest.mark.parametrize(
    "target", ["jsonl", "duckdb", "postgres", "postgres-hard", "postgres-batch"]
)
def test_rows_that_vanish(target: str, start: Start) -> None:
    """FULL_TABLE, TRUNCATE and a resync after a purge, which tell of no delete.

    A table without a key is right where old versions go, and has all rows twice elsewhere.
    """
    truncated = table("truncated", name="varchar(20)")
    copied = table("copied", name="varchar(20)")
    log = table("log", key=(), line="varchar(20)")
    with start(target, truncated, copied, log) as pipeline:
        cluster = pipeline.sandbox.cluster
        for name in ("truncated", "copied"):
            fill(cluster, name, *range(6), name="n{}")
        fill(cluster, "log", 1, 2, line="line {}")
        catalog = whole(discover(settings(pipeline.sandbox)), "shop-copied", "shop-log")
        pipeline.run(catalog)
        check(pipeline, "copied")
        check(pipeline, "truncated")

        vanished = delete(cluster, "copied", 1, 2)
        update(cluster, "copied", 3, name="changed")
        fill(cluster, "copied", 10, name="new")
        cut = source(cluster, "truncated")
        cluster.ddl("shop", "truncate table truncated", None)
        fill(cluster, "truncated", 3, 11, name="after")
        delete(cluster, "log", 2)
        pipeline.run(catalog)
        check(pipeline, "copied", vanished=vanished)
        check(pipeline, "truncated", vanished=cut)
        kept = {"kept": ["line 1", "line 1", "line 2"]}.get(pipeline.target.vanished, ["line 1"])
        marked = {"marked": ["line 1", "line 2"]}.get(pipeline.target.vanished, [])
        assert lines(pipeline, deleted=False) == kept
        assert lines(pipeline, deleted=True) == marked
        cut |= delete(cluster, "truncated", 3)
        for shard in cluster.shards("shop"):
            cluster.purge_binlogs("shop", shard)
        fill(cluster, "truncated", 12, name="behind")
        pipeline.run(catalog, on_lost_position="resync")
        assert "have been purged" in pipeline.log("tap")
        check(pipeline, "truncated", vanished=cut)


# Cuts


def test_killed_in_mid_copy(start: Start) -> None:
    """The target killed, the tap killed in the middle of a line and between two lines.

    What attempts that nobody remembers have left is gone with the version of the last one.
    """
    options = Options(copy_rows_per_packet=50)
    with start("postgres-hard", table("item", name="varchar(400)"), options=options) as pipeline:
        cluster = pipeline.sandbox.cluster
        fill(cluster, "item", *range(1500), name="n{}" + "." * 300)

        with pipeline.open({"batch_size_rows": 100}) as pipe:
            assert pipe.pass_on(records=700) == 700
            pipe.target.kill()
        assert pipe.codes == (1, -9)
        assert pipeline.state is None
        assert "the target has closed the pipe" in pipeline.log("tap")
        left = sorted(map(int, pipeline.rows("item")))
        assert 100 <= len(left) < 700
        delete(cluster, "item", *left[:20])

        with pipeline.open({"batch_size_rows": 100}) as pipe:
            pipe.pass_on(records=700)
            pipe.tap.kill()
            pipe.pass_on_torn()
        assert pipe.codes[0] == -9
        assert pipe.codes[1] != 0
        assert pipeline.state is None
        delete(cluster, "item", *left[20:40])

        with pipeline.open() as pipe:
            pipe.pass_on(records=700)
            pipe.tap.kill()
            assert pipe.pass_on() < 800
        assert pipe.codes == (-9, 0)
        assert pipeline.state is not None
        gone = delete(cluster, "item", *left[40:60])
        update(cluster, "item", left[70], name="changed")
        stored = pipeline.rows("item")
        assert str(left[0]) in stored

        pipeline.run()
        assert "copying continues" in pipeline.log("tap")
        check(pipeline, "item", deleted={k: row for k, row in gone.items() if k in stored})


def test_batches_killed(start: Start) -> None:
    """Tap or target killed at random, a TRUNCATE and a resync among it; equal in the end.

    More by hand: TAP_VITESS_EXAMPLES=60.
    """
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    options = Options(copy_rows_per_packet=20)
    with start("postgres-batch", table("item", name="varchar(400)"), options=options) as pipeline:
        cluster = pipeline.sandbox.cluster
        fill(cluster, "item", *range(1200), name="n{}" + "." * 300)
        begun = 0.0
        for number in range(EXAMPLES):
            if number in {0, EXAMPLES - 1}:
                began = time.monotonic()
                pipeline.run(on_lost_position="resync")
                begun = time.monotonic() - began
                check(pipeline, "item", vanished=source(cluster, "item"))
            else:
                pipeline.kill(chance, begun * chance.uniform(0.3, 1.1))
            there = sorted(source(cluster, "item"))
            for key in chance.sample(there, 60):
                update(cluster, "item", int(key), name=f"changed {chance.random()}")
            fill(cluster, "item", *range(2000 + 40 * number, 2040 + 40 * number), name="new {}")
            if number % 4 == 2:
                cluster.ddl("shop", "truncate table item", None)
                fill(cluster, "item", *range(500), name="after {}")
            if number % 5 == 3:
                for shard in cluster.shards("shop"):
                    cluster.purge_binlogs("shop", shard)
        pipeline.run(on_lost_position="resync")
        check(pipeline, "item")


# Altered tables

KINDS = ["jsonl", "duckdb", "postgres"]


def alter(cluster: Cluster, change: str, to: Table) -> None:
    cluster.ddl("shop", f"alter table {to.name} {change}", to)


@pytest.mark.parametrize("target", KINDS)
def test_altered_so_that_it_fits(target: str, start: Start) -> None:
    """In mid-copy, in the changes under an old catalog, and before a run that has none.

    A dropped column stays in a database's table, NULL in rows that change and else as it was.
    """
    options = Options(copy_rows_per_packet=20, track_schema_versions=True)
    dropped = table("dropped", name="varchar(20)", old="int")
    wider = table("wider", number="int", name="varchar(5)")
    tables = table("added", pad="varchar(400)"), dropped, wider
    with start(target, *tables, options=options) as pipeline:
        cluster = pipeline.sandbox.cluster
        fill(cluster, "added", *range(400), pad="p{}" + "." * 300)
        fill(cluster, "dropped", *range(5), name="n{}", old="{}")
        fill(cluster, "wider", *range(5), number="{}", name="n{}")
        catalog = discover(settings(pipeline.sandbox))

        with pipeline.open() as pipe:
            pipe.pass_on(records=1)
            alter(cluster, "add column one int", table("added", pad="varchar(400)", one="int"))
            fill(cluster, "added", 1000, pad="new", one="1")
            pipe.pass_on()
        assert pipe.codes == (0, 0)
        assert "shop-added: the table was altered; a new SCHEMA" in pipeline.log("tap")
        for name in ("added", "dropped", "wider"):
            check(pipeline, name)

        update(cluster, "added", 1, pad="before", one="11")
        update(cluster, "dropped", 1, name="before", old="-1")
        update(cluster, "wider", 1, number="-1", name="b")
        two = table("added", pad="varchar(400)", one="int", two="varchar(9)")
        alter(cluster, "add column two varchar(9)", two)
        alter(cluster, "drop column old", table("dropped", name="varchar(20)"))
        alter(cluster, "modify x", table("wider", number="bigint", name="varchar(50)"))
        update(cluster, "added", 2, pad="behind", two="two")
        update(cluster, "dropped", 2, name="behind")
        fill(cluster, "wider", 10, number="5000000000", name="longer than five")
        pipeline.run(catalog)
        for name in ("added", "dropped", "wider"):
            check(pipeline, name)
        stored = {key: row.get("old", "absent") for key, row in pipeline.rows("dropped").items()}
        none = "absent" if target == "jsonl" else None
        assert stored == {"0": 0, "1": -1, "2": none, "3": 3, "4": 4}

        three = table("added", pad="varchar(400)", one="int", two="varchar(9)", three="int")
        alter(cluster, "add column three int", three)
        update(cluster, "added", 3, pad="last", one="1", two="2", three="3")
        update(cluster, "dropped", 3, name="last")
        update(cluster, "wider", 3, number="-5000000000")
        pipeline.run()
        for name in ("added", "dropped", "wider"):
            check(pipeline, name)


# table -> its column's type before and after, values before and after
TYPES = {
    "text": ("int", "varchar(20)", "1", "two"),
    "real": ("int", "double", "1", "2.5"),
    "digits": ("decimal(6,2)", "decimal(8,4)", "1.25", "2.1234"),
}


def other_types(cluster: Cluster) -> None:
    """Alter all of them, then change a row and insert one."""
    for name, (_, after, _, value) in TYPES.items():
        alter(cluster, "modify x", table(name, x=after))
        update(cluster, name, 2, x=value)
        fill(cluster, name, 3, x=value)


@contextmanager
def with_other_types(start: Start, target: str) -> Iterator[tuple[Pipeline, dict[str, Any]]]:
    """Copy tables, alter their types, and give the catalog of before."""
    tables = [table(name, x=before) for name, (before, *_) in TYPES.items()]
    with start(target, *tables) as pipeline:
        for name, (_, _, value, _) in TYPES.items():
            fill(pipeline.sandbox.cluster, name, 1, 2, x=value)
        catalog = discover(settings(pipeline.sandbox))
        pipeline.run(catalog)
        other_types(pipeline.sandbox.cluster)
        yield pipeline, catalog


def test_altered_to_another_type_in_files(start: Start) -> None:
    """Each record has the value of its time."""
    with with_other_types(start, "jsonl") as (pipeline, catalog):
        pipeline.run(catalog)
        for name in TYPES:
            check(pipeline, name)
        kinds = [{type(row["x"]) for row in pipeline.all_rows(name)} for name in TYPES]
        assert kinds == [{int, str}, {int, str}, {str}]  # reals are read as text here


@pytest.mark.parametrize("old", [True, False], ids=["old catalog", "no catalog"])
def test_altered_to_another_type_in_duckdb(start: Start, *, old: bool) -> None:
    """The old column gets a name with the time; in the new one, rows are NULL until they come.

    That happens once: the next run tells the new type from its beginning, with any catalog.
    """
    with with_other_types(start, "duckdb") as (pipeline, catalog):
        pipeline.run(catalog if old else None)
        fill(pipeline.sandbox.cluster, "digits", 4, x="1.5")
        pipeline.run(catalog if old else None)
        check(pipeline, "digits")
        for name in ("text", "real"):
            rows = pipeline.rows(name)
            _, _, before, after = TYPES[name]
            assert {key: row["x"] and str(row["x"]) for key, row in rows.items()} == {
                "1": None,
                "2": after,
                "3": after,
            }
            [versioned] = [column for column in rows["1"] if column.startswith("x_")]
            assert str(rows["1"][versioned]) == before
        update(pipeline.sandbox.cluster, "real", 1, x="7.5")  # 1 would be read back as 1.0
        pipeline.state = None
        pipeline.run()
        for name in TYPES:
            check(pipeline, name)


def test_altered_to_another_type_in_postgres(start: Start) -> None:
    """It alters no column: text in a BIGINT ends it, reals and digits are rounded in silence.

    Where the column has been altered by hand, all is right.
    """
    with with_other_types(start, "postgres") as (pipeline, catalog):
        state = pipeline.state

        def alter_by_hand(name: str, kind: str) -> None:
            of = f'"{pipeline.folder.name}"."{name}"'
            targets.change_postgres(pipeline.postgres, f"alter table {of} alter x type {kind}")

        _, code = pipeline.try_run()
        assert code != 0
        assert "Altering columns is not supported" in pipeline.log("target")
        assert pipeline.state == state
        alter_by_hand("text", "text")
        pipeline.run(catalog)
        check(pipeline, "text")
        rounded = [{str(row["x"]) for row in pipeline.rows(n).values()} for n in ("real", "digits")]
        assert rounded == [{"1", "3"}, {"1.25", "2.12"}]

        alter_by_hand("real", "double precision")
        alter_by_hand("digits", "numeric(8, 4)")
        cluster = pipeline.sandbox.cluster
        for number in (1, 2, 3):
            update(cluster, "real", number, x="-0.75")
            update(cluster, "digits", number, x="-1234.5678")
        pipeline.run(catalog)
        for name in TYPES:
            check(pipeline, name)
