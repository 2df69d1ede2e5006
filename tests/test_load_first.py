"""First copies are appended, not merged: only where nothing is there, and each key comes once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.loads import Warehouse
from support.shops import write

from tap_vitess.dlt.feed import Limits
from tap_vitess.dlt.first import FirstCopy
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import TableRows


@pytest.fixture
def duck(sandbox: Sandbox, tmp_path: Path) -> Warehouse:
    return Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)


def dispositions(warehouse: Warehouse) -> dict[str, Any]:
    """Return how the tables were written last."""
    tables = warehouse.pipeline().default_schema.data_tables()
    return {str(table["name"]): table["write_disposition"] for table in tables}


def execute(warehouse: Warehouse, sql: str) -> None:
    with warehouse.pipeline().sql_client() as client:
        client.execute_sql(sql)


def test_a_first_copy_is_appended_and_what_follows_merged(duck: Warehouse) -> None:
    duck.load()
    assert dispositions(duck) == {"alpha": "append", "beta": "append", "empty": "merge"}
    duck.check()
    write(duck.sandbox.cluster)
    duck.load()
    assert dispositions(duck)["alpha"] == "merge"
    duck.check()


def test_what_a_killed_run_has_left_is_merged_with(duck: Warehouse) -> None:
    """Rows are there, and no state that counts; one of them has been deleted since."""
    duck.load()
    execute(duck, "DELETE FROM _dlt_loads")
    execute(duck, "DELETE FROM beta")
    duck.sandbox.cluster.delete("shop", "alpha", {"id": b"1"})
    assert duck.load().rows == 23
    assert dispositions(duck) == {"alpha": "merge", "beta": "append", "empty": "merge"}
    duck.check()


def test_a_history_is_appended_in_any_case(sandbox: Sandbox, tmp_path: Path) -> None:
    address = f"duckdb:///{tmp_path}/shop.duckdb"
    history = Warehouse(sandbox, address, tmp_path, write="append")
    history.load(Limits(rows=10))
    assert len(history.rows("alpha", "id")) == 12


def item(ids: list[int], *, version: int = 1, copied: bool = True) -> TableRows:
    """Return rows of the engine."""
    kind = pa.timestamp("s", "UTC")
    time = None if copied else datetime(2026, 1, 2, tzinfo=UTC)
    columns = [pa.array(ids), pa.array([time] * len(ids), kind)]
    rows = pa.RecordBatch.from_arrays(columns, names=["id", "_commit_time"])
    return TableRows("shop", "alpha", version, rows)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([item([1, 2]), item([3])], True),
        ([item([1, 2]), item([2])], False),  # read again after a lost connection
        ([item([1, 2]), item([3], copied=False)], False),
        ([item([1, 2]), item([3], version=2)], False),  # the copy has started over
    ],
)
def test_which_rows_can_be_appended(items: list[TableRows], *, expected: bool) -> None:
    first = FirstCopy(("id",))
    so_far = [first.add(item, item.rows) for item in items]
    assert (all(so_far) and first.is_each_key_once()) is expected
