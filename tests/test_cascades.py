"""Foreign keys that change rows below the binlog: discovery, each run and the doctor say so.

That such rows never come is shown by `tests/cluster/test_cascades.py`, on a real Vitess.
"""

from __future__ import annotations

import logging

import pytest
from support.taps import Target, discover, run, settings, with_method

from tap_vitess.config import Config
from tap_vitess.doctor.examine import examine
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, ForeignKey, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.survey.cascades import Cascade, told

COLUMNS = (Column("id", "bigint", nullable=False), Column("parent", "bigint"))
WORDS = "which MySQL does not log"
LINES = "its rows change with those of orders (ON DELETE CASCADE, ON UPDATE SET NULL)"


def shop(mode: str = "unmanaged", **variables: str) -> Cluster:
    """Make a keyspace with orders, their lines, and notes that no rule changes."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"], foreign_keys=mode)
    for shard in ("-80", "80-"):
        cluster.shard("shop", shard).variables.update(variables)
    keys = (ForeignKey("orders", on_delete="CASCADE", on_update="SET NULL"), ForeignKey("orders"))
    cluster.create_table("shop", Table("orders", COLUMNS, ("id",)))
    cluster.create_table("shop", Table("lines", COLUMNS, ("id",), foreign_keys=keys))
    cluster.create_table("shop", Table("notes", COLUMNS, ("id",), foreign_keys=keys[1:]))
    return cluster


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r.message for r in caplog.records if WORDS in r.message]
    assert all(r.levelno == logging.WARNING for r in caplog.records if WORDS in r.message)
    caplog.clear()
    return found


def found_by_the_doctor(sandbox: Sandbox) -> list[str]:
    findings = examine(Config.from_settings(settings(sandbox)))
    return [f"{f.place.table}: {f.what}" for f in findings if f.check == "cascade"]


def test_a_cascade_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """At discovery, once in each run, and by the doctor; with tables, rules and a way out."""
    with serve(shop()) as sandbox:
        catalog = discover(settings(sandbox))
        [line] = warned(caplog)
        assert line.startswith(f"shop.lines: {LINES}")
        assert "FULL_TABLE" in line
        assert "foreign_key_mode to managed" in line
        for _ in range(2):
            run(settings(sandbox), target := Target(), catalog=catalog)
            assert warned(caplog) == [line]
        run(settings(sandbox), target, catalog=catalog)
        assert warned(caplog) == [line], "also where there is nothing to do"
        [finding] = found_by_the_doctor(sandbox)
        assert finding.startswith(f"lines: {LINES}")


def test_a_child_that_is_copied_afresh_or_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """FULL_TABLE is right in each run; of what is not read nothing is said."""
    with serve(shop()) as sandbox:
        catalog = with_method(discover(settings(sandbox)), "shop-lines", "FULL_TABLE")
        caplog.clear()
        run(settings(sandbox), Target(), catalog=catalog)
        assert warned(caplog) == []
        discover(settings(sandbox, exclude_tables=["shop.lines"]))
        assert warned(caplog) == []


@pytest.mark.parametrize(
    "cluster",
    [shop("managed"), shop(innodb_native_foreign_keys="OFF")],
    ids=["VTGate changes the rows", "MySQL changes them above the binlog"],
)
def test_cascades_that_are_logged(caplog: pytest.LogCaptureFixture, cluster: Cluster) -> None:
    with serve(cluster) as sandbox:
        run(settings(sandbox), Target())
        assert warned(caplog) == []
        assert found_by_the_doctor(sandbox) == []


def test_a_mysql_that_was_told_to_leave_them_to_innodb(caplog: pytest.LogCaptureFixture) -> None:
    """On one of the shards is enough."""
    cluster = shop(innodb_native_foreign_keys="OFF")
    cluster.shard("shop", "80-").variables["innodb_native_foreign_keys"] = "ON"
    with serve(cluster) as sandbox:
        discover(settings(sandbox))
        assert len(warned(caplog)) == 1


def test_several_parents_are_one_sentence() -> None:
    found = [
        Cascade.of("lines", "orders", delete="CASCADE", update="NO ACTION"),
        Cascade.of("lines", "items", delete="RESTRICT", update="CASCADE"),
    ]
    assert told(found, ["lines", "orders"])["lines"].startswith(
        "its rows change with those of orders (ON DELETE CASCADE), items (ON UPDATE CASCADE), which"
    )
    assert told(found, ["orders"]) == {}
