"""Several loads, each of some shards, into one dataset: none removes what another has brought."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from support.loads import Warehouse, config_of, pipeline_of
from support.shops import insert, served, shop, table, write

from tap_vitess.dlt import source, vitess_source
from tap_vitess.errors import BorderError, PositionLostError, ShardsGoneError
from tap_vitess.sandbox.cluster import Cluster, keyspace_id
from tap_vitess.sandbox.schema import Table
from tap_vitess.sandbox.server import Sandbox

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _layout() -> Iterator[None]:
    """Let other tests have dlt's own name of the staging dataset."""
    yield
    dlt.config["destination.staging_dataset_name_layout"] = "%s_staging"


class Job:
    """A load of some shards, with a pipeline of its own."""

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        self.name = name
        self._warehouse = warehouse

    def load(self, *shards: str, **settings: Any) -> int:
        """Load up to now; return how many rows came."""
        self._warehouse.name = self.name
        return self._warehouse.load(shards=[*shards], **settings).rows


@pytest.fixture
def jobs(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path
) -> tuple[Warehouse, Job, Job]:
    if getattr(request, "param", "duckdb") == "delta":
        warehouse = Warehouse(sandbox, f"file://{tmp_path}/lake", tmp_path, table_format="delta")
    else:
        warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)
    return warehouse, Job(warehouse, "low"), Job(warehouse, "high")


def lose(sandbox: Sandbox, *ids: int) -> None:
    """Delete rows of which nobody will tell."""
    for number in ids:
        sandbox.cluster.delete("shop", "alpha", {"id": b"%d" % number})
    for shard in sandbox.cluster.shards("shop"):
        sandbox.cluster.purge_binlogs("shop", shard)


def test_two_loads_fill_one_table(sandbox: Sandbox, jobs: tuple[Warehouse, Job, Job]) -> None:
    """Copies, changes, a new copy of one, a reshard in it, and a new copy after that."""
    warehouse, low, high = jobs
    low.load("-80")
    high.load("80-")
    warehouse.check()
    write(sandbox.cluster)
    high.load("80-")
    low.load("-80")
    warehouse.check()
    lose(sandbox, 1, 2, 5, 7, 8)
    for job, shards in ((low, "-80"), (high, "80-")):
        with pytest.raises(PositionLostError):
            job.load(shards)
        job.load(shards, on_lost_position="resync")
    warehouse.check()
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    insert(sandbox.cluster, "alpha", *range(300, 320))
    low.load("-80")  # its rows name three shards now
    lose(sandbox, 9, 10, 301, 302, 303, 304)
    for job, shards in ((high, "80-"), (low, "-80")):
        job.load(shards, on_lost_position="resync")
    warehouse.check()


@pytest.mark.parametrize("jobs", ["duckdb", "delta"], indirect=True)
def test_a_reshard_across_a_border(sandbox: Sandbox, jobs: tuple[Warehouse, Job, Job]) -> None:
    """One job goes on with the ranges of both, by a new copy that removes what is gone."""
    warehouse, low, high = jobs
    low.load("-80")
    high.load("80-")
    sandbox.cluster.reshard("shop", ["-80", "80-"], ["-c0", "c0-"])
    write_after(sandbox)
    for job, shards in ((low, "-80"), (high, "80-")):
        with pytest.raises(BorderError, match="crosses the border 80"):
            job.load(shards)
    before = len(warehouse.rows("alpha", "id"))
    with pytest.raises(ShardsGoneError, match="knows nothing of shard"):
        low.load("-")
    assert len(warehouse.rows("alpha", "id")) == before  # a refused job has removed nothing
    low.load("-", on_lost_position="resync")
    warehouse.check()


def write_after(sandbox: Sandbox) -> None:
    insert(sandbox.cluster, "alpha", 500, 501, 502)
    for number in (1, 2, 3):
        sandbox.cluster.delete("shop", "alpha", {"id": b"%d" % number})


def test_dlts_own_way_needs_staging_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    config = config_of(sandbox)
    where = {n: getattr(config, n) for n in ("host", "grpc_port", "mysql_port")}
    warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)

    def source(shard: str) -> Any:
        return vitess_source(**where, shards=[shard])

    pipeline = pipeline_of(warehouse.address, tmp_path, "low")
    with pytest.raises(PipelineStepFailed, match="staging_dataset_name_layout"):
        pipeline.run(source("-80"))
    for name, shard in (("low", "-80"), ("high", "80-")):
        dlt.config["destination.staging_dataset_name_layout"] = f"%s_staging_{name}"
        pipeline_of(warehouse.address, tmp_path, name).run(source(shard))
    warehouse.check()


def test_rows_must_name_their_shard(sandbox: Sandbox, tmp_path: Path) -> None:
    warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)
    with pytest.raises(PipelineStepFailed, match="set metadata_columns to true") as caught:
        Job(warehouse, "low").load("-80", metadata_columns=False)
    assert isinstance(caught.value.__context__ or caught.value.__cause__, Exception)


def tables_of_shared_keys() -> Cluster:
    columns = table("alpha").columns
    tables = (
        table("alpha"),
        Table("everywhere", columns, ("id",), role="reference"),
        Table("unlisted", columns, ("id",), role="unlisted", vindex=("name",)),
        Table("by_name", columns, ("id",), vindex=("name",)),
    )
    cluster = shop(*tables)
    for name in ("alpha", "everywhere"):
        insert(cluster, name, *range(12))
    for one in tables[2:]:
        rows: list[dict[str, bytes | None]] = [
            {"id": b"%d" % i, "name": b"n%d" % n} for n in range(20) for i in range(12)
        ]
        low = [row for row in rows if keyspace_id(one, row) < b"\x80"]
        high = [row for row in rows if keyspace_id(one, row) >= b"\x80"]
        cluster.insert("shop", one.name, [*low[:12], *high[:12]])
    return cluster


@served(tables_of_shared_keys)
def test_only_keys_that_no_other_job_has_are_appended(
    jobs: tuple[Warehouse, Job, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both jobs find all tables empty, as they do where both begin at once."""
    warehouse, *both = jobs
    monkeypatch.setattr(source, "is_empty", lambda *_: True)
    for job, shard in zip(both, ("-80", "80-"), strict=True):
        job.load(shard, keys="primary")
    for name in ("alpha", "everywhere", "unlisted", "by_name"):
        assert [i for [i] in warehouse.rows(name, "id")] == [*range(12)], name
