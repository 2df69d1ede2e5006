"""Statements that change a table without row events: nothing stale is left, nothing is skipped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.launcher import Cluster
from cluster.runs import Kill, Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

COLUMNS = "id bigint primary key, a varchar(40) character set latin1, b bigint not null"


@pytest.fixture
def table(source: Source) -> str:
    """Create a table of 4,000 rows."""
    name = source.create("ddl", COLUMNS)
    source.insert(name, ["id", "a", "b"], [(i, f"a{i}", 10_000 - i) for i in range(4_000)])
    return name


@pytest.mark.parametrize(
    "statements",
    [
        ["truncate table {table}"],
        ["drop table {table}", "create table {table} (" + COLUMNS + ")"],
        ["create table {old} like {table}", "drop table {table}", "rename table {old} to {table}"],
    ],
    ids=["truncate", "drop and create", "rename"],
)
def test_rows_that_ddl_takes_away(
    source: Source, pipeline: Callable[..., Pipeline], table: str, statements: list[str]
) -> None:
    """The table is copied again in the same run, and its old rows go."""
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    pipe.check(table, ["id"])
    for statement in statements:
        source.execute(statement.format(table=quote(table), old=quote(table + "_old")))
    source.insert(table, ["id", "a", "b"], [(i, "new", i) for i in range(3_990, 4_010)])
    pipe.complete()
    pipe.check(table, ["id"])
    assert len(pipe.rows(table, ["id"])) == 20


def test_a_temporary_table_is_another_table(
    source: Source, own_cluster: Cluster, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """Sessions that log statements tell of theirs, which may have a table's name: no copy."""
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.complete()
    keyspace = source.address.keyspace
    tablet = own_cluster.tablet(keyspace, "-80")
    create = f"create temporary table {quote(table)} (id int)"
    logged = [f"use vt_{keyspace}", "set binlog_format = 'STATEMENT'", create]
    own_cluster.mysql(tablet, *logged)  # the server drops it when the session ends
    own_cluster.mysql(tablet, *logged, f"drop temporary table {quote(table)}")
    own_cluster.mysql(tablet, *logged, f"drop table {quote(table)}")
    source.insert(table, ["id", "a", "b"], [(i, "new", i) for i in range(5_000, 5_010)])
    outcome = pipe.complete()
    assert "the copy begins" not in outcome.log
    pipe.check(table, ["id"])


@pytest.mark.parametrize(
    "alter",
    [
        "drop primary key, add primary key (b), add unique key (id)",
        "modify id bigint unsigned not null",
    ],
    ids=["another key", "another type"],
)
def test_a_key_altered_in_mid_copy(
    source: Source, pipeline: Callable[..., Pipeline], table: str, alter: str
) -> None:
    """The copy starts again: a lastpk of the old key would skip rows."""
    pipe = pipeline(tables=[f"*.{table}"], checkpoint_seconds=0)
    pipe.run(kill=Kill(line=1_500))
    source.execute(f"alter table {quote(table)} {alter}")
    pipe.complete()
    pipe.check(table, ["b"] if "primary" in alter else ["id"])


def test_a_transaction_without_vgtid_does_not_hold_up_a_run(
    source: Source, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """A MyISAM write ends with a Query COMMIT, and a shard that is idle then is at its end."""
    pipe = pipeline(tables=[f"*.{table}"])
    other = source.create("myisam", "id bigint primary key")
    source.execute(f"alter table {quote(other)} engine=myisam")
    pipe.complete()
    source.insert(other, ["id"], [(i,) for i in range(20)])
    outcome = pipe.run()
    assert outcome.tap == 0, outcome.log
    assert outcome.seconds < 30
    pipe.check(table, ["id"])
