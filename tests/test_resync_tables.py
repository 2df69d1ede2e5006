"""The setting resync_tables: what it names is copied again, and nothing else changes."""

from __future__ import annotations

import logging

import pytest
from support.shops import insert, write
from support.taps import ImpatientTap, Target, check, discover, expected, run, settings, with_method

from tap_vitess.errors import ConfigError, PositionLostError
from tap_vitess.sandbox.server import Sandbox

ALPHA = {"resync_tables": ["shop.al*"]}


def copied(target: Target, since: int) -> set[str]:
    """Name the streams with copied rows and those whose copy has been finished."""
    return {
        message["stream"]
        for message in target.messages[since:]
        if message["type"] == "ACTIVATE_VERSION"
        or (message["type"] == "RECORD" and message["record"]["_sdc_vitess_op"] == "copy")
    }


def damaged(sandbox: Sandbox) -> Target:
    """Bring all, and let a row of alpha get lost and another too many come in."""
    target = Target()
    run(settings(sandbox), target)
    rows = target.tables["shop-alpha"]
    _, (version, record) = rows.popitem()
    rows[(987,)] = version, {**record, "id": 987}
    write(sandbox.cluster)
    return target


def test_only_what_is_named_is_copied_again(sandbox: Sandbox) -> None:
    """The others bring their changes from their place; the next run copies nothing."""
    target = damaged(sandbox)
    seen = len(target.messages)
    run(settings(sandbox, **ALPHA), target)
    check(sandbox, target)
    assert copied(target, seen) == {"shop-alpha"}
    deleted = [r["id"] for r in target.records("shop-alpha") if r["_sdc_deleted_at"] is not None]
    assert 3 in deleted, "changes since the last run come too, for targets that know no versions"
    seen = len(target.messages)
    insert(sandbox.cluster, "alpha", 900)
    run(settings(sandbox), target)
    check(sandbox, target)
    assert copied(target, seen) == set()


@pytest.mark.slow
def test_a_run_that_is_cut_anywhere(sandbox: Sandbox) -> None:
    """The next run finishes the copy without the setting, from the first STATE on."""
    model = damaged(sandbox)
    whole = Target(states=list(model.states))
    run(settings(sandbox, **ALPHA), whole)
    for lines in range(1, len(whole.messages), 2):
        target = Target(
            {name: dict(rows) for name, rows in model.tables.items()},
            list(model.states),
            keys=dict(model.keys),
        )
        run(settings(sandbox, **ALPHA), target, lines=lines)  # the last ones may come to the end
        run(settings(sandbox), target)
        check(sandbox, target)


def test_while_it_is_set_each_run_copies_again(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    target = damaged(sandbox)
    for _ in range(2):
        seen = len(target.messages)
        caplog.clear()
        run(settings(sandbox, **ALPHA), target)
        check(sandbox, target)
        assert copied(target, seen) == {"shop-alpha"}
        [line] = [r.message for r in caplog.records if "resync_tables" in r.message]
        assert line.startswith("shop.alpha: copied again from the start")
        assert [r.levelno for r in caplog.records if r.message == line] == [logging.WARNING]


def test_a_pattern_that_fits_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match=r"resync_tables: shop\.gamma matches no selected table"):
        run(settings(sandbox, resync_tables=["shop.alpha", "shop.gamma"]), Target())


@pytest.mark.slow
def test_a_table_whose_position_is_lost(sandbox: Sandbox) -> None:
    """It is copied again; those that are not named are as lost as before."""
    config, target = settings(sandbox), damaged(sandbox)
    for shard in ("-80", "80-"):
        sandbox.cluster.purge_binlogs("shop", shard)
    for _ in range(2):
        with pytest.raises(PositionLostError):
            run({**config, **ALPHA}, target, tap_class=ImpatientTap)
        assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")
    assert target.contents("shop-beta") != expected(sandbox.cluster, "shop", "beta")


def test_a_first_run_and_full_table(sandbox: Sandbox) -> None:
    """What is copied anyway is copied once."""
    target = Target()
    catalog = with_method(discover(settings(sandbox)), "shop-alpha", "FULL_TABLE")
    run(settings(sandbox, resync_tables=["shop.*"]), target, catalog=catalog)
    check(sandbox, target)
    kinds = [m["stream"] for m in target.messages if m["type"] == "ACTIVATE_VERSION"]
    assert sorted(kinds) == ["shop-alpha", "shop-beta", "shop-empty"]
