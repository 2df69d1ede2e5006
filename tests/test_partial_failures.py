"""A table or keyspace that fails does not stop the others; the run ends with its error."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.shops import insert
from support.taps import (
    ImpatientTap,
    Target,
    discover,
    expected,
    only,
    run,
    settings,
)

from tap_vitess.errors import (
    PositionLostError,
    RequestError,
    TableUnseenError,
)
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve


def test_a_lost_group_does_not_stop_the_others(sandbox: Sandbox) -> None:
    """The run ends with the error, and the other tables have been brought."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    everything = [f"shop-{name}" for name in ("alpha", "beta", "empty")]
    run(config, target, catalog=only(catalog, *everything))
    insert(sandbox.cluster, "alpha", 300, 301, 302, 303)
    run(config, target, catalog=only(catalog, "shop-beta"))
    assert len(target.state["bookmarks"]["vitess:shop"]["groups"]) == 2
    for shard in ("-80", "80-"):
        sandbox.cluster.purge_binlogs("shop", shard)
    insert(sandbox.cluster, "beta", 400, 401, 402)
    with pytest.raises(PositionLostError):
        run(config, target, catalog=only(catalog, *everything))
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")
    assert target.messages[-1]["type"] == "STATE"


def test_a_missing_table_does_not_stop_the_others(sandbox: Sandbox) -> None:
    """A table that is gone is named at the end; the others are copied."""
    config, target = settings(sandbox), Target()
    catalog = discover(config)
    sandbox.cluster.ddl("shop", "drop table alpha", None)
    with pytest.raises(RequestError, match="discover again"):
        run(config, target, catalog=catalog)
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")


UNSEEN = Fault(error=("UNKNOWN", "table alpha is not present in the database"))


def test_a_tablet_does_not_know_a_table_yet(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a replica becomes primary right after CREATE TABLE: MySQL has it, so it waits."""
    target = Target()
    sandbox.faults.append(replace(UNSEEN, times=3))
    run(settings(sandbox), target)
    assert not sandbox.faults
    for name in ("alpha", "beta"):
        assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name)
    assert "shop.alpha: a tablet does not know the table yet" in caplog.text


def test_a_tablet_that_does_not_learn_of_a_table(sandbox: Sandbox) -> None:
    """When the time to retry is over the table is named, and the others are copied."""
    target = Target()
    sandbox.faults.append(replace(UNSEEN, times=2))
    with pytest.raises(TableUnseenError, match=r"shop\.alpha"):
        run(settings(sandbox), target, tap_class=ImpatientTap)
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")


def test_a_failing_keyspace_does_not_stop_the_others() -> None:
    """The others shall not grow old for it."""
    cluster = Cluster()
    for keyspace in ("first", "second"):
        cluster.create_keyspace(keyspace, ["0"])
        cluster.create_table(keyspace, Table("t", (Column("id", "int"),), primary_key=("id",)))
        cluster.insert(keyspace, "t", [{"id": b"1"}])
    with serve(cluster) as sandbox:
        config, target = settings(sandbox), Target()
        catalog = discover(config)
        cluster.ddl("first", "drop table t", None)
        with pytest.raises(RequestError):
            run(config, target, catalog=catalog)
    assert len(target.records("second-t")) == 1
