"""Statements in the binlog in the place of rows: the tables they may have changed are copied again.

What arrives of them is recorded by `tests/cluster/test_statements.py`, on a real Vitess.
"""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import begin, commit, gtid, vgtid
from support.shops import served, shop
from support.taps import Target, expected, run
from support.taps import settings as tap_settings

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Boundary, ChangeItem
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.statements import changed_tables, mentioned
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, ForeignKey, Table
from tap_vitess.sandbox.server import Sandbox

COLUMNS = (Column("id", "bigint", nullable=False), Column("v", "varchar(20)"))
OF_ORDERS = (ForeignKey("orders", on_delete="CASCADE"),)
TABLES = (
    Table("orders", COLUMNS, ("id",)),
    Table("lines", COLUMNS, ("id",), foreign_keys=OF_ORDERS),
    Table("audit", COLUMNS, ("id",), triggers=("insert into orders (id) values (new.id)",)),
    Table("odd `name", COLUMNS, ("id",)),
)
SHARD = "-"
RULE = "binlog_format STATEMENT or MIXED"


# What a text names


@pytest.mark.parametrize(
    "statement",
    [
        "insert into orders values (1)",
        "INSERT INTO ORDERS VALUES (1)",
        "/* audit */ insert /* x */ into`orders`(id) values (1)",
        "update\norders\nset v='it''s' where id=1",
        "update other o join vt_shop.orders on orders.id=o.id set o.v=1",
        "replace into vt_shop . `orders` values (1)",
        "delete from `x`, orders using `x` join orders",
        # A quote in a string pairs with none: what stands between two of them is looked at.
        "insert into other select '`' from orders where `v`='`'",
        """insert into other select '"' from orders where "v"='"'""",
        "insert into other values (1, 'of all orders')",
        "insert into other values (1) /*!40000 union select * from orders */",
    ],
)
def test_a_table_that_a_statement_names(statement: str) -> None:
    assert mentioned(statement, {"orders", "order", "lines"}) == {"orders"}


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("my-table", "update `my-table` set v=1"),
        ("my-table", 'update "My-Table" set v=1'),
        ("odd `name", "update `odd ``name` set v=1"),
        ('odd "name', 'update "odd ""name" set v=1'),
        ("größe", "update GRÖSSE set v=1"),
        ("a€b", "update a€b set v=1"),
    ],
)
def test_names_that_need_quotes(name: str, statement: str) -> None:
    assert mentioned(statement, {name}) == {name}
    assert mentioned("update t set v=1", {name}) == frozenset()


NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=0xD7FF), min_size=1).filter(
    lambda name: not name.endswith(" ")
)


@given(NAMES, st.text(), st.text(), st.sampled_from(["`{}`", '"{}"']))
def test_any_quoted_name_is_found(name: str, before: str, after: str, quoted: str) -> None:
    """Whatever stands around it, an odd number of quotes too."""
    text = quoted.format(name.replace(quoted[0], 2 * quoted[0]))
    assert mentioned(f"{before} {text} {after}", {name}) == {name}


def test_what_else_a_statement_changes() -> None:
    """Triggers call routines, cascades go on; where a text is hidden it may be any table."""
    effects = [
        ("source", "call log_it(new.id)"),
        ("source", "set @x = 1"),
        ("log_it", "insert into log values (x)"),
        ("log", "`log_lines`"),
        ("log_lines", "`log`"),
        ("hidden", ""),
    ]
    tables = frozenset({"log", "log_lines", "quiet"})
    assert changed_tables(["insert into source values (1)"], effects, tables) == {
        "log",
        "log_lines",
    }
    assert changed_tables(["insert into other values (1)"], effects, tables) == frozenset()
    assert changed_tables(["update hidden set v=1"], effects, tables) == tables


# What a stream makes of them


def at(number: int) -> Vgtid:
    return Vgtid("shop", {SHARD: GtidSet.parse(gtid(SHARD, number))})


def said(kind: binlogdata.VEventType, dml: str) -> binlogdata.VEvent:
    return binlogdata.VEvent(type=kind, keyspace="shop", shard=SHARD, timestamp=1, dml=dml)


def statements(items: list[ChangeItem]) -> list[frozenset[str]]:
    return [item.statements for item in items if isinstance(item, Boundary)]


def test_statements_come_with_the_boundary_behind_them() -> None:
    stream = ChangeStream(["t"], at(1), at(3), RequestOptions())
    kinds = binlogdata.INSERT, binlogdata.UPDATE, binlogdata.DELETE, binlogdata.REPLACE
    events = [said(kind, f"s{number}") for number, kind in enumerate(kinds)]
    assert stream.feed([begin(SHARD, 1), *events]) == []
    items = stream.feed([vgtid(SHARD, {SHARD: 2}), commit(SHARD, 1)])
    assert statements(items) == [{"s0", "s1", "s2", "s3"}]
    items = stream.feed([begin(SHARD, 1), vgtid(SHARD, {SHARD: 3}), commit(SHARD, 1)])
    assert statements(items) == [frozenset()]


def test_a_statement_without_a_vgtid_is_told_before_it() -> None:
    """A MyISAM table's transaction ends so; if nothing follows, this is all there is of it."""
    stream = ChangeStream(["t"], at(1), at(3), RequestOptions())
    items = stream.feed([begin(SHARD, 1), said(binlogdata.INSERT, "s"), commit(SHARD, 1)])
    assert statements(items) == [{"s"}]
    assert stream.position == at(1)


def test_a_call_that_starts_again_forgets_statements() -> None:
    stream = ChangeStream(["t"], at(1), at(2), RequestOptions())
    stream.feed([begin(SHARD, 1), said(binlogdata.INSERT, "s")])
    stream.request()
    items = stream.feed([begin(SHARD, 1), vgtid(SHARD, {SHARD: 2}), commit(SHARD, 1)])
    assert statements(items) == [frozenset()]


# What a run makes of them


def old() -> Cluster:
    cluster = shop(*TABLES)
    for table in TABLES:
        cluster.insert("shop", table.name, [{"id": b"%d" % n, "v": b"old"} for n in range(8)])
    return cluster


pytestmark = served(old)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("update audit set v='new'", {"audit", "orders", "lines"}),  # by a trigger, and its cascade
        ("delete from lines", {"lines"}),
        ("insert into `odd ``name` values (1)", {"odd `name"}),
        ("replace into other values (1)", set()),
    ],
)
def test_tables_that_a_statement_changes_are_copied_again(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, text: str, again: set[str]
) -> None:
    """In the same run, with a warning that says why; the others are not."""
    config, target = tap_settings(sandbox), Target()
    assert run(config, target)
    with sandbox.cluster.transaction("shop", text=text):
        for table in again or {"orders"}:
            sandbox.cluster.update("shop", table, {"id": b"1"}, {"v": b"new"})
            sandbox.cluster.delete("shop", table, {"id": b"2"})
    for number in range(20):  # small transactions come many at a time, and are given out as one
        sandbox.cluster.update("shop", "orders", {"id": b"3"}, {"v": b"%d" % number})
    seen = len(target.messages)
    with caplog.at_level(logging.WARNING):
        assert run(config, target)
    copied = {
        message["stream"].removeprefix("shop-")
        for message in target.messages[seen:]
        if message["type"] == "RECORD" and message["record"]["_sdc_vitess_op"] == "copy"
    }
    assert copied == again
    for table in again:
        assert target.contents(f"shop-{table}") == expected(sandbox.cluster, "shop", table)
    told = [r.message for r in caplog.records if RULE in r.message]
    assert len(told) == len(again)
    assert all(
        any(f"shop.{table} is copied again in this run: a statement" in line for line in told)
        for table in again
    )
    assert not any("new" in line for line in told), "a value is in the log"
    streams = len(sandbox.requests)
    assert run(config, target)
    assert len(sandbox.requests) == streams, "it is copied once"
