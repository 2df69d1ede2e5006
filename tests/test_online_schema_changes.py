"""gh-ost and pt-online-schema-change: their tables are no streams, their exchange is an ALTER."""

from __future__ import annotations

import pytest

from tap_vitess.config import Config
from tap_vitess.protocol.ddl import (
    altered_tables,
    migration_tables,
    replaced_tables,
    triggered_tables,
)
from tap_vitess.survey.discovery import choose
from tap_vitess.survey.facts import Table


@pytest.mark.parametrize(
    ("statement", "triggered", "replaced"),
    [
        ("rename /* gh-ost */ table `d`.`t` to `d`.`_t_del`, `d`.`_t_gho` to `d`.`t`", "", ""),
        ("rename /* gh-ost */ table t to _t_20261127101112_del, _t_gho to t", "", ""),
        ("rename table t to _t_rev_del, _t_del to t", "", ""),
        ("RENAME TABLE `d`.`t` TO `d`.`_t_old`, `d`.`_t_new` TO `d`.`t`", "t", ""),
        ("RENAME TABLE `d`.`t` TO `d`.`__t_old`, `d`.`__t_new` TO `d`.`t`", "t", ""),
        ("RENAME TABLE `d`.`t` TO `d`.`_t_old`, `d`.`_t_new` TO `d`.`t`", "u", "t"),
        ("rename table t to t_old, t_new to t", "t", "t"),
        ("rename table t to _t_old, _u_new to t", "t", "t"),
        ("rename table t to _t_del, _t_new to t", "t", "t"),
        ("rename table t to _t_gho, _t_del to t", "", "t"),
        ("rename table t to _u_del, _t_gho to t", "", "t"),
        ("rename table t to _t_del", "", "t"),
        ("alter /* gh-ost */ table t rename _t_del", "", "t"),
        ("rename table t to _t_del, _t_gho to t, u to x", "", "u"),
    ],
)
def test_the_exchange_at_the_end_of_a_schema_change(
    statement: str, triggered: str, replaced: str
) -> None:
    """Both tools', as they say it (seen with gh-ost of 2026 and pt-online-schema-change 3.2.1).

    Anybody may call tables _new and _old: without the tool's triggers it is an exchange by hand.
    """
    tables = frozenset({"t", "u"})
    assert set(replaced_tables(statement, tables, set(triggered))) == set(replaced)
    assert "t" in altered_tables(statement, tables)


def test_triggers_of_pt_online_schema_change() -> None:
    """As they come, of any table: VTGate's parser knows no triggers."""
    tables = frozenset({"t", "u"})
    made = (
        "CREATE DEFINER=`a`@`%` TRIGGER `pt_osc_d_t_del` AFTER DELETE ON `d`.`t` FOR EACH ROW "
        "DELETE IGNORE FROM `d`.`_t_new` WHERE `d`.`_t_new`.`u` <=> OLD.`u`"
    )
    assert triggered_tables(made, tables) == {"t"}
    assert not triggered_tables(made.replace("pt_osc_d_t_del", "mine"), tables)
    assert not triggered_tables("DROP TRIGGER IF EXISTS `d`.`pt_osc_d_t_del`", tables)


def test_tables_of_schema_changes_are_told_by_their_table() -> None:
    """By the tools' patterns, with names cut to 64 characters, and only beside their table."""
    long = "a" * 62
    helpers = {
        *("_t_gho", "_t_ghc", "_t_del", "_t_20261127101112_del", "_t_rev_del", "_t_new", "_t_old"),
        *("__t_new", f"_{long[:59]}_gho"),
    }
    others = {"t", long, "t_old", "_u_gho", "_u_new", "_t", "_t_other", f"_{long[:40]}_gho"}
    assert migration_tables(helpers | others) == helpers


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (None, ["t"]),
        (["*.*"], ["t"]),
        (["shop.t", "shop._t_old"], ["_t_old", "t"]),
        (["shop._t_*"], ["_t_gho", "_t_old"]),
    ],
)
def test_tables_of_schema_changes_are_left_out(
    tables: list[str] | None, expected: list[str]
) -> None:
    """Unless a pattern names them from their underscore on."""
    found = [Table("shop", name, (), ()) for name in ("_t_gho", "_t_old", "t")]
    given = {"host": "h"} if tables is None else {"host": "h", "tables": tables}
    config = Config.from_settings(given)
    assert [table.name for table in choose(found, ["shop"], config)] == expected
