"""Sessions in binlog_format STATEMENT or MIXED, straight to a shard's MySQL: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.conftest import SHARDED
from cluster.launcher import Cluster, Version
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

COLUMNS = "id bigint primary key, v varchar(20)"
NAMES = ("orders", "lines", "audit", "other")
DATABASE = f"vt_{SHARDED}"
CREATES_AND_FILLS_AT_ONCE = (8, 0, 21)
TELLS_WHAT_VIEWS_READ = (8, 0, 16)  # 8.0.15 does not, 9.7.4 does
WHY = "is copied again in this run: a statement whose rows MySQL does not log"


@pytest.fixture
def tables(source: Source) -> dict[str, str]:
    """Create four tables of 40 rows."""
    tables = {name: source.create(name, COLUMNS) for name in NAMES}
    for table in tables.values():
        source.insert(table, ["id", "v"], [(i, f"v{i}") for i in range(40)])
    return tables


@pytest.fixture
def straight(own_cluster: Cluster, tables: dict[str, str]) -> Callable[..., None]:
    """Return what runs statements in the MySQL of one shard, with the tables' names put in."""
    number = own_cluster.primary(SHARDED, "-80")
    names = {name: quote(table) for name, table in tables.items()}

    def run(*statements: str, database: str = DATABASE) -> None:
        with_names = [statement.format(**names) for statement in statements]
        own_cluster.mysql(number, f"use {database}", *with_names)

    return run


def _copied(pipe: Pipeline, tables: dict[str, str], log: str) -> set[str]:
    """Tell which tables a run has copied again, by what it logs, and that it says why."""
    keyspace = pipe.source.address.keyspace
    copied = {name for name, t in tables.items() if f"{keyspace}.{t}: the copy begins" in log}
    assert copied == {name for name, t in tables.items() if f"{keyspace}.{t} {WHY}" in log}
    return copied


CASES: tuple[tuple[list[str], set[str]], ...] = (
    (["insert into {orders} values (1001, 'new')"], {"orders"}),
    (["/* a */ update {orders} set v = 'new' where id < 20"], {"orders"}),
    (["DELETE\tFROM {orders} WHERE id < 10"], {"orders"}),
    (["replace into {orders} select id, 'newer' from {lines}"], {"orders", "lines"}),
    (
        ["update {orders} o join {lines} l on l.id = o.id set o.v = 'joined', l.v = 'joined'"],
        {"orders", "lines"},
    ),
    (
        [
            "begin",
            "insert into {orders} values (1002, 'new')",
            "savepoint one",
            "delete from {lines} where id < 9",
            "commit",
        ],
        {"orders", "lines"},
    ),
    (["insert into {other} values (1001, 'new')"], set()),
    # What changes no row comes without a position.
    (["update {orders} set v = 'new' where id = -1"], {"orders"}),
)


def test_statements(
    source: Source,
    pipeline: Callable[..., Pipeline],
    tables: dict[str, str],
    straight: Callable[..., None],
) -> None:
    """The tables that they name are copied again in the same run, and no others."""
    wanted = {name: table for name, table in tables.items() if name != "other"}
    pipe = pipeline(tables=[f"*.{table}" for table in wanted.values()])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    for number, (statements, again) in enumerate(CASES):
        straight("set session binlog_format = 'STATEMENT'", *statements)
        source.execute(f"update {quote(tables['audit'])} set v = 'row {number}' where id < 5")
        outcome = pipe.run()
        assert outcome.tap == 0, outcome.log
        assert _copied(pipe, wanted, outcome.log) == again, statements
        for table in wanted.values():
            pipe.check(table, ["id"])


@pytest.mark.parametrize(
    ("made", "statement", "again"),
    [
        (
            "create trigger t_{name} after insert on {other} for each row "
            "insert into {orders} values (new.id, new.v)",
            "insert into {other} values (1001, 'new')",
            {"orders"},
        ),
        # What a view reads MySQL may not tell its user, so it may be any table.
        (
            "create view v_{name} as select id, v from {orders}",
            "update v_{name} set v = 'new' where id < 20",
            {"orders", "lines", "audit"},
        ),
        (
            "alter table {lines} add foreign key (id) references {orders} (id) on delete cascade",
            "delete from {orders} where id < 20",
            {"orders", "lines"},
        ),
    ],
    ids=["trigger", "view", "cascade"],
)
def test_what_else_statements_change(
    pipeline: Callable[..., Pipeline],
    tables: dict[str, str],
    straight: Callable[..., None],
    made: str,
    statement: str,
    again: set[str],
    mysql_version: Version,
) -> None:
    """Tables that a statement changes without naming them are copied again, too."""
    if made.startswith("create view") and mysql_version >= TELLS_WHAT_VIEWS_READ:
        again = {"orders"}
    wanted = {name: table for name, table in tables.items() if name != "other"}
    made, statement = (s.replace("{name}", tables["other"]) for s in (made, statement))
    straight(made)
    pipe = pipeline(tables=[f"*.{table}" for table in wanted.values()])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    try:
        straight("set session binlog_format = 'STATEMENT'", statement)
        outcome = pipe.run()
        assert outcome.tap == 0, outcome.log
        assert _copied(pipe, wanted, outcome.log) == again
        for table in wanted.values():
            pipe.check(table, ["id"])
    finally:
        if made.startswith("create view"):
            straight(f"drop view v_{tables['other']}")
        if made.startswith("alter"):
            straight("drop table {lines}", "create table {lines} (" + COLUMNS + ")")


def test_a_table_without_transactions(
    own_cluster: Cluster,
    pipeline: Callable[..., Pipeline],
    tables: dict[str, str],
    straight: Callable[..., None],
) -> None:
    """Its statement comes with a COMMIT that has no VGTID, and nothing may follow."""
    for shard in ("-80", "80-"):
        number = own_cluster.primary(SHARDED, shard)
        own_cluster.mysql(
            number, f"alter table {DATABASE}.{quote(tables['orders'])} engine = myisam"
        )
    pipe = pipeline(tables=[f"*.{tables['orders']}"])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    straight("set session binlog_format = 'STATEMENT'", "insert into {orders} values (1001, 'new')")
    outcome = pipe.run()
    assert outcome.tap == 0, outcome.log
    pipe.check(tables["orders"], ["id"])


def test_mixed_format(
    pipeline: Callable[..., Pipeline], tables: dict[str, str], straight: Callable[..., None]
) -> None:
    """Of one transaction some changes come as rows, and some as statements."""
    pipe = pipeline(tables=[f"*.{tables[name]}" for name in ("orders", "lines")])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    straight(
        "set session binlog_format = 'MIXED'",
        "begin",
        "insert into {orders} values (1001, 'new')",
        "insert into {lines} values (1002, left(uuid(), 8))",
        "commit",
    )
    outcome = pipe.run()
    assert outcome.tap == 0, outcome.log
    copied = _copied(pipe, {name: tables[name] for name in ("orders", "lines")}, outcome.log)
    assert copied == {"orders"}
    for name in ("orders", "lines"):
        pipe.check(tables[name], ["id"])


def test_a_statement_in_a_comment(
    source: Source,
    pipeline: Callable[..., Pipeline],
    tables: dict[str, str],
    straight: Callable[..., None],
) -> None:
    """Vitess sends an OTHER for it within the transaction; rows before and after are all there."""
    names = ("orders", "lines")
    pipe = pipeline(tables=[f"*.{tables[name]}" for name in names])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    straight(
        "set session binlog_format = 'MIXED'",
        "begin",
        "insert into {orders} values (1001, left(uuid(), 8))",
        "/*!50000 insert into {other} values (1001, 'new') */",
        "insert into {lines} values (1002, left(uuid(), 8))",
        "commit",
    )
    source.execute(f"update {quote(tables['orders'])} set v = 'row' where id < 5")
    outcome = pipe.run()
    assert outcome.tap == 0, outcome.log
    assert "fault" not in outcome.log
    for name in names:
        pipe.check(tables[name], ["id"])


def test_create_table_select(
    pipeline: Callable[..., Pipeline],
    tables: dict[str, str],
    straight: Callable[..., None],
    mysql_version: Version,
) -> None:
    """Its DDL stands within the transaction of its rows."""
    if mysql_version < CREATES_AND_FILLS_AT_ONCE:
        pytest.skip("MySQL refuses it where there are GTIDs")
    names = ("orders", "other")
    pipe = pipeline(tables=[f"*.{tables[name]}" for name in names])
    pipe.use_catalog(pipe.discover())
    pipe.complete()
    straight(
        "drop table {other}",
        "create table {other} (primary key (id)) as select * from {orders} where id < 1000",
        "insert into {orders} values (1001, 'new')",
    )
    outcome = pipe.run()
    assert outcome.tap == 0, outcome.log
    for name in names:
        pipe.check(tables[name], ["id"])
