"""Names, addresses and numbers that dlt or a destination would refuse: one sentence of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from support.loads import Warehouse
from support.shops import served, shop, table

from tap_vitess.dlt.destinations import destination_of
from tap_vitess.dlt.failures import sentence_of
from tap_vitess.dlt.loading import pipeline_of
from tap_vitess.errors import ConfigError
from tap_vitess.load.options import parser
from tap_vitess.sandbox.server import Sandbox

SECRET = "swordfish"


@pytest.mark.parametrize(
    ("name", "dataset", "words"),
    [
        *((name, "vitess", "--name: dlt takes no such name") for name in ("job-1", "", "con")),
        ("x" * 65, "vitess", "--name: dlt takes no such name"),
        ("job_1", " ", "--dataset: the name of a schema is expected"),
    ],
)
def test_names_that_dlt_refuses(tmp_path: Path, name: str, dataset: str, words: str) -> None:
    destination = destination_of("duckdb:///x.duckdb", "vitess")
    with pytest.raises(ConfigError, match=words):
        pipeline_of(name, destination, dataset, tmp_path)
    assert pipeline_of("jobÄ1", destination, "vitess", tmp_path)


@pytest.mark.parametrize(
    "address", [f"postgresql://me:{SECRET}@h:high/x", f"postgresql://me:{SECRET}@[::1/x", "file://"]
)
def test_addresses_that_dlt_refuses(address: str) -> None:
    with pytest.raises(ConfigError, match="this is not an address of a") as caught:
        destination_of(address, "vitess")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--every=-5", "expected is a number of seconds, 0 or more"),
        ("--package-seconds=nan", "expected is a number of seconds, 0 or more"),
        ("--package-rows=0", "expected is a number of rows, 1 or more"),
    ],
)
def test_numbers_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--config=x", "--to=y", option])
    assert words in capsys.readouterr().err


@served(lambda: shop(table("loads")))
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (" ", "a template of {keyspace} and {table} is expected"),
        ("_dlt_{table}", "loads would be the table _dlt_loads, which is one of dlt's own"),
    ],
)
def test_tables_that_dlt_refuses(sandbox: Sandbox, tmp_path: Path, names: str, words: str) -> None:
    warehouse = Warehouse(sandbox, f"duckdb:///{tmp_path}/x.duckdb", tmp_path, table_names=names)
    with pytest.raises(PipelineStepFailed) as caught:
        warehouse.load()
    assert words in sentence_of(caught.value, "duckdb")
