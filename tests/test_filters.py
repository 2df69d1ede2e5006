"""Columns and rows that VTGate sends: what is asked for, refused, and copied again when it changes.

That the sandbox filters as a real Vitess does is shown in tests/cluster/test_filters.py.
"""

from __future__ import annotations

import base64
import json
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.library import QUICK, Replica, vitess
from support.shops import SHARDS, served, shop
from support.taps import Asked, Target, discover, only, run, settings

from tap_vitess.config import Config
from tap_vitess.doctor.examine import examine
from tap_vitess.errors import CatalogError, ConfigError, HistoryLostError
from tap_vitess.protocol.filters import conditions_of
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.rules import Rules, Wanted
from tap_vitess.run.state import UNKNOWN, bookmark_key
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column as Made
from tap_vitess.sandbox.schema import Table as MadeTable
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.discovery import describe
from tap_vitess.survey.facts import Column, Table
from tap_vitess.survey.keyspace import version
from tap_vitess.survey.rules import resumable, rule_of
from tap_vitess.vstream import (
    MemoryState,
    Query,
    TableCopied,
    TableRows,
    changes,
    consume,
    state_at,
)
from tap_vitess.vtgate.retry import RetryOptions

TABLE = "orders"
STREAM = "shop-orders"
V20, V22 = (20, 0, 8), (22, 0, 3)


def orders(rows: int = 40) -> Cluster:
    """Make a shop of orders: a third of each tenant, and a note that is long."""
    cluster = shop(
        MadeTable(
            TABLE,
            (
                Made("id", "bigint", nullable=False),
                Made("tenant", "int"),
                Made("state", "varchar(20)"),
                Made("note", "blob"),
            ),
            primary_key=("id",),
        )
    )
    cluster.insert("shop", TABLE, [order(i) for i in range(rows)])
    return cluster


def order(i: int, **more: bytes | None) -> dict[str, bytes | None]:
    """Make an order."""
    row = {"id": b"%d" % i, "tenant": b"%d" % (i % 3), "state": b"new", "note": b"x" * 5000}
    return {**row, **more}


def of_tenant(cluster: Cluster, tenant: bytes, *columns: str) -> list[dict[str, Any]]:
    """Return what the filter lets through, as the target should have it."""
    found = [
        {name: _value(name, row[name]) for name in columns or ("id", "tenant", "state")}
        for row in cluster.rows("shop", TABLE)
        if row["tenant"] == tenant
    ]
    return sorted(found, key=json.dumps)


def _value(name: str, raw: bytes | None) -> Any:
    return raw if raw is None else int(raw) if name in {"id", "tenant"} else raw.decode()


def move_some(cluster: Cluster, rng: random.Random) -> None:
    """Change, insert and delete orders, most of them so that a filter's answer changes."""
    present = [row["id"] or b"" for row in cluster.rows("shop", TABLE)]
    for number in rng.sample(present, min(12, len(present))):
        key = {"id": number}
        match rng.randrange(5):
            case 0:
                cluster.delete("shop", TABLE, key)
            case 1:
                cluster.update("shop", TABLE, key, {"id": b"%d" % rng.randrange(10**6, 10**9)})
            case _:
                tenant = rng.choice([b"0", b"1", b"2", None])
                cluster.update("shop", TABLE, key, {"tenant": tenant, "state": b"moved"})
    cluster.insert("shop", TABLE, [order(rng.randrange(1000, 10**6)) for _ in range(3)])


def filtered(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    """Return settings with a filter."""
    return settings(sandbox, filters={"shop.orders": "tenant = 1"}, **more)


def without(catalog: dict[str, Any], *columns: str) -> dict[str, Any]:
    """Deselect columns."""
    for entry in catalog["streams"]:
        for note in entry["metadata"]:
            if note["breadcrumb"] and note["breadcrumb"][-1] in columns:
                note["metadata"]["selected"] = False
    return catalog


def selects(sandbox: Sandbox) -> set[str]:
    """Return the SELECTs asked for so far, and forget them."""
    found = {rule.filter for request in sandbox.requests for rule in request.filter.rules}
    sandbox.requests.clear()
    return found


# What a filter may say

TAKEN = {
    "tenant = 7": "`tenant` = 7",
    "tenant <> 7 AND tenant >= 0": "`tenant` != 7 and `tenant` >= 0",
    "tenant > -1": "`tenant` > '-1'",
    "tenant IN (1, -2)": "`tenant` in (1, -2)",
    "tenant is not null and state is null": "`tenant` is not null and `state` is null",
    "tenant between 1 and 5": "`tenant` between 1 and 5",
    "tenant not between -5 and 5": "`tenant` not between '-5' and 5",
    "STATE = 'it''s'": "`state` = 'it''s'",
    "`state` in ('ä', 'b')": "`state` in ('ä', 'b')",
    "price >= 1.5": "`price` >= 1.5",
    "day >= '2026-01-31'": "`day` >= '2026-01-31'",
    "kind != 'a'": "`kind` != 'a'",
}
REFUSED = (
    *(
        "",
        "tenant",
        "tenant = 1 or tenant = 2",
        "not tenant = 1",
        "state like 'a'",
        "f(tenant) = 1",
    ),
    *("tenant + 1 = 2", "orders.tenant = 1", "1 = tenant", "tenant = state", "tenant = null"),
    *("tenant = 0x05", "tenant = 5e0", "tenant <=> 1", "tenant in ()", "tenant in (1"),
    *("tenant = 1 and", "tenant = 1; drop", 'state = "a"', "state = 'a\\'b'", "(tenant = 1)"),
    *("tenant not in (1)", "tenant = -12345678901234567", "tenant is 1", "tenant between 1"),
)
# By the table's columns or the version of Vitess; with what the sentence has.
UNFIT = (
    ("none = 1", V22, "which the table does not have"),
    ("tenant = '1'", V22, "without quotes"),
    ("state = 1", V22, "in single quotes"),
    ("note = 'a'", V22, "filter by integers"),
    ("note is null", V22, "may come without it"),
    ("ratio = 1.5", V22, "filter by integers"),
    ("old != 'a'", V22, "only = and IN"),
    ("old = 'a '", V22, "ends with a space"),
    ("latin = 'ä'", V22, "only ASCII"),
    ("wide = 'a'", V22, "charset utf16"),
    ("kind > 'a'", V22, "their own order"),
    ("day = '2026-1-3'", V22, "is expected"),
    ("raw = 'ä'", V22, "only ASCII"),
    ("tenant in (1, 2)", V20, "does not filter by IN (...)"),
    ("tenant is null", V20, "does not filter by IS NULL"),
    ("tenant between 1 and 2", V20, "does not filter by BETWEEN ... AND ..."),
    ("price = 1.5", V20, "15 digits"),
    ("state = 'a'", (19, 0, 10), "before Vitess 20"),
)


def table() -> Table:
    """Describe a table with a column of each kind."""
    texts = {
        "state": ("varchar(20)", "utf8mb4", "utf8mb4_0900_ai_ci"),
        "old": ("varchar(20)", "utf8mb4", "utf8mb4_general_ci"),
        "latin": ("char(5)", "latin1", "latin1_swedish_ci"),
        "wide": ("varchar(5)", "utf16", "utf16_general_ci"),
        "kind": ("enum('b','a')", "utf8mb4", "utf8mb4_general_ci"),
        "note": ("text", "utf8mb4", "utf8mb4_0900_ai_ci"),
    }
    others = {
        "id": "bigint",
        "tenant": "int",
        "price": "decimal(20,4)",
        "ratio": "double",
        "day": "date",
        "raw": "varbinary(9)",
    }
    columns = (
        *(Column(n, t, nullable=True, charset=None) for n, t in others.items()),
        *(
            Column(n, t, nullable=True, charset=charset, collation=collation)
            for n, (t, charset, collation) in texts.items()
        ),
    )
    return Table("shop", "orders", columns, ("id", "tenant"), "tenant", uniques=(("id",),))


@pytest.mark.parametrize(("where", "sql"), TAKEN.items())
def test_what_a_filter_may_say(where: str, sql: str) -> None:
    rule = rule_of(table(), None, where, V22)
    assert rule.where == sql
    assert rule.select("orders").endswith(f" where {sql} and in_keyrange(`id`, 'null', '-')")


@pytest.mark.parametrize("where", REFUSED)
def test_what_no_vitess_takes(where: str) -> None:
    with pytest.raises(ConfigError, match="conditions of one column each, joined by AND"):
        conditions_of(where)
    with pytest.raises(ConfigError, match=r"setting filters: shop\.orders"):
        Config.from_settings({"host": "h", "filters": {"shop.orders": where}})


@pytest.mark.parametrize(("where", "version", "words"), UNFIT)
def test_what_this_table_or_vitess_does_not_take(
    where: str, version: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        rule_of(table(), None, where, version)
    assert str(caught.value).startswith("shop.orders: ")
    assert words in str(caught.value)


def test_numbers_of_old_versions() -> None:
    """Vitess 20 takes no 1.5 but '1.5'."""
    columns = (Column("price", "decimal(9,2)", nullable=True, charset=None),)
    found = rule_of(Table("shop", "t", columns, ()), None, "price > 1.5", V20)
    assert found.where == "`price` > '1.5'"


def test_the_key_and_the_vindex_are_always_asked_for() -> None:
    rule = rule_of(table(), {"price", "gone"}, None, V22)
    assert rule.columns == ("id", "tenant", "price")
    assert rule.select("orders") == "select `id`, `tenant`, `price` from `orders`"


@pytest.mark.parametrize(
    ("name", "columns", "asked"),
    [
        ("t", {"id", "a", "gone"}, None),
        ("t", {"a"}, ("id", "a")),
        ("gone", {"a"}, None),
        ("/t", {"a"}, None),
    ],
)
def test_columns_that_nobody_remembers(
    name: str, columns: set[str], asked: tuple[str, ...] | None
) -> None:
    """With none to leave out, or where that cannot be said, the call is a plain one."""
    found = tuple(Column(n, "int", nullable=False, charset=None) for n in ("id", "a", "b"))
    there = [Table("shop", "t", found[: 2 + (asked is not None)], ("id",), uniques=(("id",),))]
    answers: dict[Callable[..., Any], Any] = {describe: there, version: V22}
    asking = Asked(lambda: Vgtid("shop", {}), answers)
    inquiry = Inquiry(asking, RetryOptions(), lambda: False)
    wanted = {name: Wanted(frozenset(columns), remembered=False)}
    rules = Rules("shop", wanted, inquiry, None)
    assert {table: rule.columns for table, rule in rules.by_table.items()} == (
        {name: asked} if asked else {}
    )
    assert rules.told([name]) == {}


def test_a_filtered_copy_by_a_long_text() -> None:
    """MySQL sorts such rows, and by the first 1024 bytes of a text only."""
    for kind, expected in (("varchar(36)", True), ("varchar(255)", False), ("bigint", True)):
        columns = (Column("id", kind, nullable=False, charset=None),)
        found = Table("shop", "t", columns, ("id",), uniques=(("id",),))
        assert resumable(found, rule_of(found, None, "id is not null", V22)) is expected
        assert resumable(found, rule_of(found, None, None, V22))


# The tap


@pytest.mark.slow
@pytest.mark.parametrize(
    "like",
    [
        pytest.param("v22", marks=served(orders)),
        pytest.param("v23", marks=served(orders, options=Options(both_images=True))),
    ],
)
def test_rows_move_in_and_out(sandbox: Sandbox, like: str) -> None:
    """The target has what SELECT ... WHERE has, also where Vitess sends both images (v23)."""
    seed = random.randrange(10**6)
    print(f"seed {seed}, as {like}")
    rng = random.Random(seed)
    target = Target()
    catalog = without(discover(settings(sandbox)), "note")
    for step in range(6):
        for lines in (rng.randrange(3, 30), None):
            run(filtered(sandbox), target, catalog=catalog, lines=lines)
            if step < 5:
                move_some(sandbox.cluster, rng)
    run(filtered(sandbox), target, catalog=catalog)
    assert target.contents(STREAM) == of_tenant(sandbox.cluster, b"1")
    operations = {record["_sdc_vitess_op"] for record in target.records()}
    assert {"copy", "insert", "delete"} <= operations
    assert {record["tenant"] for record in target.records()} == {1}


@served(orders)
def test_a_row_that_moves_in_is_an_insert_and_out_a_delete(sandbox: Sandbox) -> None:
    target = Target()
    run(filtered(sandbox), target)
    target.messages.clear()
    for number, tenant in ((1, b"2"), (2, b"1"), (4, b"1")):
        key = {"id": b"%d" % number}
        sandbox.cluster.update("shop", TABLE, key, {"tenant": tenant, "state": b"moved"})
    run(filtered(sandbox), target)
    found = {r["id"]: (r["_sdc_vitess_op"], r["tenant"], r["state"]) for r in target.records()}
    assert found == {
        1: ("delete", 1, "new"),
        2: ("insert", 1, "moved"),
        4: ("update", 1, "moved"),
    }


@served(orders)
def test_deselected_columns_are_not_asked_for(sandbox: Sandbox) -> None:
    """Neither by copies nor by streams; with none deselected all are, so that new ones come."""
    catalog, target = discover(settings(sandbox)), Target()
    run(settings(sandbox), target, catalog=catalog)
    assert selects(sandbox) == {"select * from `orders`"}
    target = Target()
    run(settings(sandbox), target, catalog=without(catalog, "note", "id"))
    sandbox.cluster.insert("shop", TABLE, [order(500)])
    run(settings(sandbox), target, catalog=catalog)
    assert selects(sandbox) == {"select `id`, `tenant`, `state` from `orders`"}
    assert all("note" not in record for record in target.records())


@served(orders)
def test_what_is_asked_for_has_changed(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A new copy, said so, once; the target then has the new filter's rows and no others."""
    target = Target()
    run(filtered(sandbox), target)
    config = {**settings(sandbox), "filters": {"shop.orders": "tenant = 2"}}
    for again in (True, False):
        caplog.clear()
        run(config, target)
        assert ("its filter or its list of columns has changed" in caplog.text) is again
    found = {row["tenant"] for row in target.contents(STREAM)}
    assert found == {2}
    config["filters"] = {"shop.orders": "TENANT=2"}
    caplog.clear()
    run(config, target)
    assert "copied again" not in caplog.text, "only the text is another"
    run(settings(sandbox), target)
    assert "its filter or its list of columns has changed" in caplog.text
    assert len(target.contents(STREAM)) == len(sandbox.cluster.rows("shop", TABLE))
    catalog = without(discover(settings(sandbox)), "note")
    caplog.clear()
    run(settings(sandbox), target, catalog=catalog)
    assert "its filter or its list of columns has changed" in caplog.text


@served(orders)
def test_a_state_of_old(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """It tells nothing of columns: they are taken for what they are; a filter is a new copy."""
    catalog, target = without(discover(settings(sandbox)), "note"), Target()
    run(settings(sandbox), target, catalog=catalog)
    bookmark = target.state["bookmarks"][bookmark_key("shop")]
    assert json.loads(bookmark["rules"]).keys() == {TABLE}
    old = {"bookmarks": {bookmark_key("shop"): {n: v for n, v in bookmark.items() if n != "rules"}}}
    sandbox.cluster.insert("shop", TABLE, [order(500)])
    run(settings(sandbox), target, catalog=catalog, state=old)
    assert "copied again" not in caplog.text
    assert 500 in {row["id"] for row in target.contents(STREAM)}
    run(settings(sandbox), target, catalog=catalog)
    assert "copied again" not in caplog.text
    run(filtered(sandbox), target, catalog=catalog, state=old)
    assert "copied again" in caplog.text
    assert target.contents(STREAM) == of_tenant(sandbox.cluster, b"1")
    old["bookmarks"][bookmark_key("shop")]["rules"] = json.dumps({TABLE: UNKNOWN})
    caplog.clear()
    run(settings(sandbox), target, catalog=catalog, state=old)
    assert "copied again" not in caplog.text


def drop(cluster: Cluster, column: str, *more: Made) -> None:
    """Drop a column, and perhaps add others."""
    now = cluster.tables("shop")[TABLE]
    columns = tuple(c for c in now.columns if c.name != column) + more
    changed = MadeTable(TABLE, columns, primary_key=("id",))
    cluster.ddl("shop", f"alter table {TABLE} drop column {column}", changed)


@served(orders)
def test_a_column_is_dropped(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Its absence ends the stream, which goes on with what is left, in this run and the next."""
    catalog, target = without(discover(settings(sandbox)), "note"), Target()
    run(settings(sandbox), target, catalog=catalog)
    drop(sandbox.cluster, "state")
    sandbox.cluster.insert("shop", TABLE, [{"id": b"600", "tenant": b"1", "note": b"secret"}])
    selects(sandbox)
    for number in (601, 602):
        run(settings(sandbox), target, catalog=catalog)
        row = {"id": b"%d" % number, "tenant": b"1", "note": b"secret"}
        sandbox.cluster.insert("shop", TABLE, [row])
    assert "column state is not there (any more); the others are read" in caplog.text
    assert "copied again" not in caplog.text
    assert selects(sandbox) == {"select `id`, `tenant` from `orders`"}
    assert {600, 601} <= {row["id"] for row in target.contents(STREAM)}


@served(orders)
def test_a_column_is_dropped_while_a_stream_is_open(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """With a call of the library that follows: no error, and no values of other columns."""
    seen: list[dict[str, Any]] = []
    done = False

    def flush(batch: Any) -> None:
        nonlocal done
        seen.extend(change.after for change in batch.changes if change.after)
        if len(seen) == 40:
            drop(sandbox.cluster, "state")
            sandbox.cluster.insert("shop", TABLE, [{"id": b"600", "tenant": b"1", "note": b"n"}])
        done = seen[-1]["id"] == 600

    tables = {Query("shop.orders", ("tenant", "state")): dict}
    consume(
        vitess(sandbox),
        tables,
        flush,
        MemoryState(),
        batch_rows=1000,
        stop=lambda: done,
        retry=QUICK,
    )
    assert seen[0].keys() == {"id", "tenant", "state"}
    assert seen[-1] == {"id": 600, "tenant": 1}
    assert "column state is not there (any more); the others are read" in caplog.text


@served(orders)
def test_the_columns_filter_is_dropped(sandbox: Sandbox) -> None:
    target = Target()
    run(filtered(sandbox), target)
    drop(sandbox.cluster, "tenant")
    with pytest.raises(ConfigError, match="names the column tenant, which the table does not have"):
        run(filtered(sandbox), target)


@served(orders)
def test_columns_that_are_not_asked_for_are_altered(sandbox: Sandbox) -> None:
    """Vitess reads older rows by position: what is asked for would have another column's values."""
    catalog, target = without(discover(settings(sandbox)), "tenant"), Target()
    run(settings(sandbox), target, catalog=catalog)
    sandbox.cluster.insert("shop", TABLE, [order(700)])
    now = sandbox.cluster.tables("shop")[TABLE]
    named = {column.name: column for column in now.columns}
    order_ = [named["id"], Made("other", "int"), named["state"], named["note"]]
    sandbox.cluster.ddl(
        "shop",
        f"alter table {TABLE} change tenant other int",
        MadeTable(TABLE, tuple(order_), primary_key=("id",)),
    )
    with pytest.raises(HistoryLostError, match="was altered after the bookmark"):
        run(settings(sandbox), target, catalog=catalog)
    assert 700 not in {row["id"] for row in target.contents(STREAM)}
    run(settings(sandbox, on_lost_position="resync"), target, catalog=catalog)
    assert 700 in {row["id"] for row in target.contents(STREAM)}


@served(orders)
def test_partial_images(sandbox: Sandbox) -> None:
    """Of columns not asked for the bitmap tells, too; a row that moves in lacks its blobs."""
    config = filtered(sandbox)
    catalog, target = without(discover(config), "state"), Target()
    run(config, target, catalog=catalog)
    for shard in SHARDS:
        sandbox.cluster.shard("shop", shard).variables["binlog_row_image"] = "NOBLOB"
    for number, tenant in ((1, b"2"), (2, b"1"), (4, b"1")):
        key = {"id": b"%d" % number}
        sandbox.cluster.update("shop", TABLE, key, {"tenant": tenant, "state": b"moved"})
    sandbox.cluster.update("shop", TABLE, {"id": b"7"}, {"note": None})
    sandbox.cluster.update("shop", TABLE, {"id": b"10"}, {"note": b"other"})
    run(config, target, catalog=catalog)
    rows = {int(row["id"] or b""): row for row in sandbox.cluster.rows("shop", TABLE)}
    expected = {
        i: row["note"] and base64.b64encode(row["note"]).decode()
        for i, row in rows.items()
        if row["tenant"] == b"1"
    }
    assert {row["id"]: row["note"] for row in target.contents(STREAM)} == expected


@served(orders)
def test_refused_at_the_start(sandbox: Sandbox) -> None:
    """Before anything is read: a table that is not there, and what this Vitess does not take."""
    for filters, words in (
        ({"shop.order": "tenant = 1"}, r"setting filters: shop\.order is not a table of"),
        ({"shop.orders": "note = 'x'"}, r"shop\.orders: the filter compares the column note"),
        ({"shop.orders": "nope = 1"}, r"shop\.orders: the filter names the column nope"),
    ):
        with pytest.raises(ConfigError, match=words):
            discover(settings(sandbox, filters=filters))
        catalog = discover(settings(sandbox))
        with pytest.raises(ConfigError, match=words):
            run(settings(sandbox, filters=filters), Target(), catalog=catalog)
    with pytest.raises(ConfigError, match="is not a table: write keyspace"):
        Config.from_settings({"host": "h", "filters": {"orders": "tenant = 1"}})


@served(orders)
def test_a_full_table(sandbox: Sandbox) -> None:
    """A copy without changes is filtered, too, and so is one for --test."""
    catalog = without(only(discover(settings(sandbox)), STREAM), "note")
    catalog["streams"][0]["replication_method"] = "FULL_TABLE"
    catalog["streams"][0]["metadata"][-1]["metadata"]["replication-method"] = "FULL_TABLE"
    target = Target()
    run(filtered(sandbox), target, catalog=catalog)
    assert target.contents(STREAM) == of_tenant(sandbox.cluster, b"1")
    assert all("note" not in select for select in selects(sandbox))


def test_a_table_that_is_gone(sandbox: Sandbox) -> None:
    catalog = without(discover(settings(sandbox)), "name")
    sandbox.cluster.ddl("shop", "drop table beta", None)
    with pytest.raises(CatalogError, match=r"shop\.beta is not there"):
        run(settings(sandbox), Target(), catalog=catalog)


# The library


@pytest.mark.slow
@served(orders, options=Options(both_images=True))
def test_queries_of_the_library(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Columns and rows; with others the table is copied again, with `state_at` never."""
    caplog.set_level(logging.WARNING)
    rng, replica, state = random.Random(1), Replica(), MemoryState()
    query = Query("shop.orders", ("state",), "tenant = 1")
    where = vitess(sandbox)
    for _ in range(4):
        consume(where, {query: dict}, replica.flush, state, follow=False, retry=QUICK)
        move_some(sandbox.cluster, rng)
    consume(where, {query: dict}, replica.flush, state, follow=False, retry=QUICK)
    expected = of_tenant(sandbox.cluster, b"1", "id", "state")
    assert sorted(replica.contents("shop.orders"), key=json.dumps) == expected
    assert "copied again" not in caplog.text
    other = Query("shop.orders", ("state", "tenant"), "tenant = 1")
    consume(where, {other: dict}, replica.flush, state, follow=False, retry=QUICK)
    assert "copied again" in caplog.text
    began = state_at(where, [query])
    sandbox.cluster.insert("shop", TABLE, [order(i) for i in range(2000, 2003)])
    found = list(changes(where, [query], state=began, retry=QUICK))
    assert not [item for item in found if isinstance(item, TableCopied)]


@served(orders)
def test_the_dlt_source_heeds_the_setting(sandbox: Sandbox) -> None:
    pytest.importorskip("dlt")
    from tap_vitess.dlt.feed import Feed

    config = Config.from_settings(filtered(sandbox, tables=["shop.orders"]))
    with Feed(config, None, retry=QUICK) as feed:
        items = list(feed.package())
        assert feed.error is None
    tenants = [t for item in items if isinstance(item, TableRows) for t in item.rows["tenant"]]
    assert {tenant.as_py() for tenant in tenants} == {1}
    assert len(tenants) == len(of_tenant(sandbox.cluster, b"1"))


@served(orders)
def test_queries_that_cannot_be(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match="conditions of one column each"):
        Query("shop.orders", where="tenant = 1 or 2")
    with pytest.raises(ConfigError, match="columns"):
        Query("shop.orders", ())
    with pytest.raises(ConfigError, match="is there twice"):
        list(changes(vitess(sandbox), ["shop.orders", Query("shop.orders", ("state",))]))
    with pytest.raises(ConfigError, match="has no column nope; it has id, tenant"):
        list(changes(vitess(sandbox), [Query("shop.orders", ("nope",))], retry=QUICK))


def findings(sandbox: Sandbox, **more: Any) -> list[str]:
    """Return what the doctor says of filters."""
    found = examine(Config.from_settings(settings(sandbox, **more)), None, None)
    return [
        f"{one.severity.name} {one.place}: {one.what}" for one in found if one.check == "filter"
    ]


@served(orders)
def test_the_doctor_judges_filters(sandbox: Sandbox) -> None:
    assert findings(sandbox) == []
    [fine] = findings(sandbox, filters={"shop.orders": "tenant = 1"})
    assert fine.startswith("OK shop.orders")
    [strange] = findings(sandbox, filters={"shop.order": "tenant = 1"})
    assert strange.startswith("ERROR VTGate: setting filters: shop.order is not a table")
    [unfit] = findings(sandbox, filters={"shop.orders": "note = 'a'"})
    assert unfit.startswith("ERROR shop.orders: shop.orders: the filter compares the column note")
