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
from support.targets import postgres

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
def database() -> Iterator[str]:
    """Return the address of a Postgres of the test's own: the shared one has others' tables."""
    with postgres() as address:
        yield address


@pytest.fixture
def jobs(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path
) -> tuple[Warehouse, Job, Job]:
    kind, address = getattr(request, "param", "duckdb"), f"duckdb:///{tmp_path}/shop.duckdb"
    if kind == "postgres":
        address = request.getfixturevalue("database")
    warehouse = Warehouse(sandbox, address, tmp_path)
    if kind == "delta":
        warehouse = Warehouse(sandbox, f"file://{tmp_path}/lake", tmp_path, table_format="delta")
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


@pytest.mark.parametrize("jobs", ["duckdb", "delta", "postgres"], indirect=True)
def test_rows_of_a_load_without_their_shards_stay(
    sandbox: Sandbox, jobs: tuple[Warehouse, Job, Job], caplog: pytest.LogCaptureFixture
) -> None:
    """A table that is empty in the job's shards does not even get the column."""
    warehouse, low, high = jobs
    warehouse.load(metadata_columns=False)
    for name in ("alpha", "beta"):
        for number in range(12):
            sandbox.cluster.delete("shop", name, {"id": b"%d" % number})
    insert(sandbox.cluster, "beta", *range(5))
    low.load("-80")
    assert "alpha: 12 rows of older versions stay" in caplog.text
    assert "empty: " not in caplog.text
    caplog.clear()
    high.load("80-")
    assert "beta: 7 rows of older versions stay" in caplog.text


def test_rows_whose_shard_is_no_ones_stay(
    sandbox: Sandbox, jobs: tuple[Warehouse, Job, Job], caplog: pytest.LogCaptureFixture
) -> None:
    warehouse, low, high = jobs
    low.load("-80")
    high.load("80-")
    with warehouse.pipeline().sql_client() as client:
        for number, shard in ((1, "'0'"), (2, "'40-c0'"), (3, "NULL")):
            where = client.make_qualified_table_name("alpha")
            client.execute_sql(
                f"UPDATE {where} SET _sdc_vitess_shard = {shard} WHERE id = {number}"
            )
    lose(sandbox, 1, 2, 3, 5)
    for job, shard in ((low, "-80"), (high, "80-")):
        caplog.clear()
        job.load(shard, on_lost_position="resync")
        assert "alpha: 3 rows of older versions stay" in caplog.text
    assert [i for [i] in warehouse.rows("alpha", "id")] == [*range(5), *range(6, 12)]


def test_dlts_own_way_needs_staging_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    config = config_of(sandbox)
    where = {n: getattr(config, n) for n in ("host", "grpc_port", "mysql_port")}
    warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/shop.duckdb", tmp_path)

    def source(shard: str) -> Any:
        return vitess_source(**where, shards=[shard])

    layout = "destination.staging_dataset_name_layout"
    for shard, name in (("-80", "jobA"), ("80-", "job_a")):
        for shared in ("%s_staging", "%s_staging_job_a", "other"):
            dlt.config[layout] = shared
            with pytest.raises(PipelineStepFailed, match=layout) as caught:
                pipeline_of(warehouse.address, tmp_path, name).run(source(shard))
        dlt.config[layout] = str(caught.value).split(" to ")[-1].split()[0]
        pipeline_of(warehouse.address, tmp_path, name).run(source(shard))
    warehouse.check()


def test_names_that_dlt_writes_alike(
    jobs: tuple[Warehouse, Job, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their staging datasets differ; what is set for the destination alone must not win."""
    warehouse, *_ = jobs
    found = set()
    for name, shard in (("jobA", "-80"), ("job_a", "80-")):
        Job(warehouse, name).load(shard)
        with warehouse.pipeline().sql_client() as client:
            found.add(client.staging_dataset_name)
    assert len(found) == 2
    monkeypatch.setenv("DESTINATION__DUCKDB__STAGING_DATASET_NAME_LAYOUT", "%s_mine")
    with pytest.raises(PipelineStepFailed, match="need staging tables of their own"):
        Job(warehouse, "another").load("-80")


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
