"""Odd names and odd columns on a real cluster: discovered, copied and streamed unchanged.

Invisible columns and invisible primary keys need MySQL 8.0.23 and 8.0.30; before them those tests
are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pymysql
import pytest

from cluster.launcher import Cluster
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

COLUMNS = (
    "a b",
    "a.b",
    "back`tick",
    'quo"te',
    "it's",
    "select",
    "ünï 表",
    "a-b",
    "$1",
    "%s",
    "-",
    "@1",
)
# No backtick: Vitess 22.0.3 does not find such a table when it is asked to stream it.
TABLES = ("sel ect", "with.dot", "it's", 'quo"te', "ünï表", "a-b", "percent%", "star*")


def _check(pipe: Pipeline, columns: dict[str, list[str]]) -> None:
    """Fail unless discovery lists the tables' columns and the target has what the source has."""
    streams = {stream["tap_stream_id"]: stream for stream in pipe.discover()["streams"]}
    for table, names in columns.items():
        properties = streams[pipe.stream(table)]["schema"]["properties"]
        assert [name for name in properties if not name.startswith("_sdc_")] == names
        pipe.check(table, ["id"])


def test_columns_of_any_name(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """Spaces, dots, quotes, backticks, reserved words, letters of all scripts."""
    table = source.create(
        "columns",
        ", ".join(["id bigint primary key", *(f"{quote(c)} varchar(9)" for c in COLUMNS)]),
    )
    pipe = pipeline()
    for run in (0, 1):
        for i in range(3):
            values = ", ".join(f"'{i}-{n}'" for n in range(len(COLUMNS)))
            names = ", ".join(map(quote, COLUMNS))
            source.execute(
                f"insert into {quote(table)} (id, {names}) values ({run * 10 + i}, {values})"
            )
        pipe.complete()
        assert pipe.count(table) == 3 * (run + 1)
    _check(pipe, {table: ["id", *COLUMNS]})


def test_tables_of_any_name(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    tables = [source.create(name, "id bigint primary key, `order` int") for name in TABLES]
    pipe = pipeline()
    for run in (0, 1):
        for table in tables:
            values = ", ".join(f"({run * 10 + i}, {i})" for i in range(3))
            source.execute(f"insert into {quote(table)} (id, `order`) values {values}")
        pipe.complete()
        for table in tables:
            assert pipe.count(table) == 3 * (run + 1)
    _check(pipe, {table: ["id", "order"] for table in tables})


def test_a_table_named_with_a_slash(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """VTGate would read such a name as a regular expression."""
    table = source.create("a/b", "id bigint primary key")
    pipe = pipeline()
    for run in (0, 1):
        source.insert(table, ["id"], [(run,)])
        pipe.complete()
        assert pipe.count(table) == run + 1


def test_generated_columns(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """Virtual and stored ones are columns like others."""
    table = source.create(
        "generated",
        "id bigint primary key, n int, virt int as (n * 2) virtual, kept varchar(9) as "
        "(concat('n', n)) stored, after_ int",
    )
    pipe = pipeline()
    for run in (0, 1):
        source.insert(table, ["id", "n", "after_"], [(run * 10 + i, i, -i) for i in range(3)])
        source.execute(f"update {quote(table)} set n = n + 5 where id = 1")
        pipe.complete()
        assert pipe.count(table) == 3 * (run + 1)
    _check(pipe, {table: ["id", "n", "virt", "kept", "after_"]})


def _create_if_known(source: Source, name: str, columns: str) -> str:
    try:
        return source.create(name, columns)
    except pymysql.MySQLError:
        pytest.skip("MySQL is older than invisible columns")


def test_invisible_columns(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """They are discovered and come along, though `select *` leaves them out."""
    table = _create_if_known(source, "hidden", "id bigint primary key, n int invisible, m int")
    pipe = pipeline()
    for run in (0, 1):
        source.insert(table, ["id", "n", "m"], [(run, 5 + run, 7)])
        pipe.complete()
    assert {row["id"]: row["n"] for row in pipe.records(table)} == {0: 5, 1: 6}


def test_a_keyspace_with_a_hyphen(
    source: Source, own_cluster: Cluster, pipeline: Callable[..., Pipeline], prefix: str
) -> None:
    own_cluster.keyspace("tap-with-hyphen", "0")
    address = replace(source.address, keyspace="tap-with-hyphen")
    with closing(Source(address, prefix)) as dashed:
        table = prefix + "in"
        dashed.execute(f"create table {table} (id bigint primary key, v varchar(9))")
        pipe = pipeline()
        pipe = Pipeline(pipe.folder, dashed)
        for run in (0, 1):
            dashed.execute(f"insert into {table} values ({run}, 'é')")
            pipe.complete()
            assert pipe.count(table) == run + 1
        _check(pipe, {table: ["id", "v"]})
        dashed.execute(f"drop table {table}")
