"""What docs/operating.md advises: each step with a state, on the sandbox."""

from __future__ import annotations

import re
from pathlib import Path

from support.shops import insert, write
from support.taps import Target, check, discover, expected, only, run, settings, with_method

from tap_vitess.config import Config
from tap_vitess.doctor import judge_cluster
from tap_vitess.run.keyspaces import sync_options
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.bookmark import NEARLY_PURGED
from tap_vitess.vtgate.retry import RetryOptions

PAGE = (Path(__file__).parent.parent / "docs" / "operating.md").read_text(encoding="utf-8")


def activated(target: Target, since: int) -> list[str]:
    return [m["stream"] for m in target.messages[since:] if m["type"] == "ACTIVATE_VERSION"]


def test_one_table_is_copied_again(sandbox: Sandbox) -> None:
    """A run with FULL_TABLE forgets its place, and the next one copies and follows it."""
    config, target = settings(sandbox), Target()
    run(config, target)
    target.tables["shop-alpha"].popitem()  # somebody has damaged the target
    write(sandbox.cluster)
    again = with_method(only(discover(config), "shop-alpha"), "shop-alpha", "FULL_TABLE")
    seen = len(target.messages)
    run(config, target, catalog=again)
    assert activated(target, seen) == ["shop-alpha"]
    assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")
    seen = len(target.messages)
    run(config, target)
    assert activated(target, seen) == ["shop-alpha"]
    check(sandbox, target)
    insert(sandbox.cluster, "alpha", 900)
    seen = len(target.messages)
    run(config, target)
    assert activated(target, seen) == []
    check(sandbox, target)


def test_a_table_changes_from_one_job_to_another(sandbox: Sandbox) -> None:
    """The new job copies it into the same target; the old one leaves it where it was."""
    config = settings(sandbox)
    catalog = discover(config)
    old, new = Target(), Target()
    run(config, old, catalog=catalog)
    new.tables, new.keys = old.tables, old.keys
    write(sandbox.cluster)
    run(config, old, catalog=only(catalog, "shop-alpha", "shop-empty"))
    run(config, new, catalog=only(catalog, "shop-beta"))
    assert activated(new, 0) == ["shop-beta"]
    check(sandbox, new)
    for shard in ("-80", "80-"):  # what the old job's state says of the table may be lost one day
        sandbox.cluster.purge_binlogs("shop", shard)
    insert(sandbox.cluster, "alpha", 900)
    insert(sandbox.cluster, "beta", 900)
    run(config, old, catalog=only(catalog, "shop-alpha", "shop-empty"))
    run(config, new, catalog=only(catalog, "shop-beta"))
    check(sandbox, new)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    """Minutes, shares and limits."""
    retry = RetryOptions()
    options = sync_options(Config.from_settings({"host": "h"}), retry)
    assert options.by_table, "both front ends write the rows of small transactions by table"
    told = dict(re.findall(r"^- (.+?): \*\*([\d.]+)\*\*", PAGE, re.MULTILINE))
    assert told == {
        "minutes without progress before a fault ends a run": f"{retry.budget / 60:g}",
        "minutes of copying before the run pauses to apply changes": (
            f"{options.refresh_seconds / 60:g}"
        ),
        "tries of a copy that cannot be resumed": f"{options.copy_restarts + 1}",
        "minutes that a stream may stand still": f"{retry.stall / 60:g}",
        "percent of the binlogs after which a run warns": f"{NEARLY_PURGED * 100:g}",
        "hours of retention below which the doctor warns": (
            f"{judge_cluster.SHORT_RETENTION_SECONDS / 3600:g}"
        ),
    }
