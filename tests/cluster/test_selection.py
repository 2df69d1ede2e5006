"""What is selected is what comes: tables, columns, methods; what is left out loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.compare import Key
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

COLUMNS = "id bigint primary key, a varchar(20), b varchar(20)"


@pytest.fixture
def tables(source: Source) -> list[str]:
    """Create three tables of 300 rows."""
    names = [source.create(name, COLUMNS) for name in ("one", "two", "three")]
    for name in names:
        source.insert(name, ["id", "a", "b"], [(i, f"a{i}", f"b{i}") for i in range(300)])
    return names


def _change(source: Source, tables: list[str], step: int) -> None:
    """Insert, update and delete in each table, with a multi-shard statement each."""
    for table in tables:
        name = quote(table)
        source.insert(table, ["id", "a", "b"], [(1000 * step + i, "new", None) for i in range(20)])
        source.execute(
            f"update {name} set a = 'step {step}' where id % 7 = {step}",
            f"delete from {name} where id % 11 = {step}",
        )


def _catalog(pipe: Pipeline, *leave_out: str, method: str | None = None) -> dict[str, Any]:
    catalog = pipe.discover()
    for stream in catalog["streams"]:
        root = next(m["metadata"] for m in stream["metadata"] if m["breadcrumb"] == [])
        root["selected"] = stream["tap_stream_id"] not in map(pipe.stream, leave_out)
        if method:
            stream["replication_method"] = method
            root["forced-replication-method"] = method
    return catalog


def _check(pipe: Pipeline, tables: list[str]) -> None:
    for table in tables:
        pipe.check(table, ["id"])


def test_table_left_out_for_a_run_loses_nothing(
    source: Source, pipeline: Callable[..., Pipeline], tables: list[str]
) -> None:
    """Changes made while a table was deselected come when it is selected again."""
    pipe = pipeline()
    pipe.use_catalog(_catalog(pipe))
    pipe.complete()
    _check(pipe, tables)
    pipe.use_catalog(_catalog(pipe, tables[1]))
    for step in (1, 2):
        _change(source, tables, step)
        pipe.complete()
        _check(pipe, [tables[0], tables[2]])
    assert pipe.rows(tables[1], ["id"]) != source.rows(tables[1], ["id"])
    assert len(pipe.state()["groups"]) == 2
    pipe.use_catalog(_catalog(pipe))
    _change(source, tables, 3)
    pipe.complete()
    _check(pipe, tables)
    assert "copy" not in _ops(pipe, tables[1]), "it was copied again"
    assert len(pipe.state()["groups"]) == 1


def _ops(pipe: Pipeline, table: str) -> set[str]:
    """Return the operations by which rows that are new since the copy came."""
    rows = pipe.records(table)
    return {str(row["_sdc_vitess_op"]) for row in rows if int(row["id"]) >= 1000}


def test_table_added_later(
    source: Source, pipeline: Callable[..., Pipeline], tables: list[str]
) -> None:
    """A table added to the selection is copied, and the others go on as they were."""
    pipe = pipeline()
    pipe.use_catalog(_catalog(pipe, tables[2]))
    pipe.complete()
    _change(source, tables, 1)
    pipe.use_catalog(_catalog(pipe))
    pipe.complete()
    _check(pipe, tables)
    _change(source, tables, 2)
    pipe.complete()
    _check(pipe, tables)
    assert len(pipe.state()["groups"]) == 1


def test_tables_that_are_copied_again(
    source: Source, pipeline: Callable[..., Pipeline], tables: list[str]
) -> None:
    """What resync_tables names for a run; the others bring their changes from their place."""
    pipe = pipeline()
    pipe.complete()
    _change(source, tables, 1)
    pipe.write_config(resync_tables=[f"*.{tables[1]}"])
    outcome = pipe.complete()
    copied = [
        t for t in tables if f"{pipe.source.address.keyspace}.{t}: the copy begins" in outcome.log
    ]
    assert copied == [tables[1]]
    _check(pipe, tables)
    _change(source, tables, 2)
    pipe.write_config()
    assert "the copy begins" not in pipe.complete().log
    _check(pipe, tables)


def test_full_table(source: Source, pipeline: Callable[..., Pipeline], tables: list[str]) -> None:
    """FULL_TABLE copies afresh in each run; rows deleted meanwhile are gone by the version."""
    pipe = pipeline()
    pipe.use_catalog(_catalog(pipe, method="FULL_TABLE"))
    for step in (1, 2):
        outcome = pipe.complete()
        assert outcome.seconds < 60
        _check(pipe, tables)
        assert int(pipe.meta("records")) == sum(map(pipe.count, tables))
        _change(source, tables, step)
    pipe.complete()
    _check(pipe, tables)


def test_table_without_key(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """Every row of a table without a key comes, equal ones too, in each FULL_TABLE run."""
    table = source.create("no_key", "id bigint, v varchar(20)")
    source.insert(table, ["id", "v"], [(i % 50, "same") for i in range(500)])
    pipe = pipeline()
    pipe.use_catalog(_catalog(pipe, method="FULL_TABLE"))
    for left in (500, 500, 490):
        if left < 500:
            source.execute(f"delete from {quote(table)} where id = 10")
        pipe.complete()
        assert pipe.count(table) == left


def test_columns(source: Source, pipeline: Callable[..., Pipeline], tables: list[str]) -> None:
    """A deselected column stays out of SCHEMA and RECORDs, in the copy and in the stream."""
    pipe = pipeline()
    catalog = _catalog(pipe, *tables[1:])
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == ["properties", "b"]:
                entry["metadata"]["selected"] = False
    pipe.use_catalog(catalog)
    pipe.complete()
    _change(source, tables, 1)
    pipe.complete()
    expected = source.rows(tables[0], ["id"])
    actual = pipe.rows(tables[0], ["id"])
    assert actual == _without(expected, "b")
    assert '"b"' not in pipe.alone("--catalog", str(pipe.folder / "catalog.json")).out


def _without(rows: dict[Key, dict[str, Any]], column: str) -> dict[Key, dict[str, Any]]:
    return {
        key: {name: value for name, value in row.items() if name != column}
        for key, row in rows.items()
    }


def test_patterns(source: Source, pipeline: Callable[..., Pipeline], tables: list[str]) -> None:
    """`tables` and `exclude_tables` choose by keyspace.table with wildcards."""
    pipe = pipeline(exclude_tables=[f"*.{source.prefix}th*"])
    pipe.complete()
    _check(pipe, tables[:2])
    assert pipe.count(tables[2]) == 0
    done = pipe.alone("--discover", exclude_tables=[], tables=[f"*.{source.prefix}t[hw]*"])
    assert done.code == 0, done.log
    assert [pipe.stream(t) in done.out for t in tables] == [False, True, True]
