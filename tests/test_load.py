"""Loads into destinations of dlt's: each has what the source has, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.loads import Warehouse
from support.shops import insert, table, write

from tap_vitess.dlt.feed import Limits
from tap_vitess.sandbox.server import Sandbox


@pytest.fixture
def duck(sandbox: Sandbox, tmp_path: Path) -> Warehouse:
    return Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)


def test_a_copy_and_changes(duck: Warehouse) -> None:
    """Deletes, changed keys, a key deleted and inserted again; each run knows what is there."""
    assert duck.load().rows == 24
    duck.check()
    write(duck.sandbox.cluster)
    assert duck.load().rows == 10
    duck.check()
    duck.load()
    assert (duck.load().packages, duck.load().rows) == (0, 0)


def test_several_packages(duck: Warehouse) -> None:
    """Each ends at a boundary, with a state that the next run can start from."""
    assert duck.load(Limits(rows=1)).packages > 2
    duck.check()
    write(duck.sandbox.cluster)
    duck.load(Limits(rows=1))
    duck.check()


def test_truncate(duck: Warehouse) -> None:
    duck.load()
    duck.sandbox.cluster.ddl("shop", "truncate table alpha", table("alpha"))
    insert(duck.sandbox.cluster, "alpha", 3, 50)
    duck.load()
    duck.check()
