"""Loads into destinations of dlt's, and what is in these afterwards.

Pipelines of a folder that was never seen have no memory but the destination's.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

# Read when dlt is imported.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")

import dlt

from support.shops import TABLES
from support.taps import expected
from tap_vitess.config import Config, checked
from tap_vitess.dlt.destinations import destination_of
from tap_vitess.dlt.feed import Limits
from tap_vitess.dlt.loading import PACKAGES, Loaded, load_config
from tap_vitess.dlt.source import NAME, Manner
from tap_vitess.sandbox.server import Sandbox

_NUMBERS = itertools.count()


def config_of(sandbox: Sandbox, **more: Any) -> Config:
    """Return the settings to reach a sandbox."""
    where = {"host": sandbox.host, "grpc_port": sandbox.grpc_port, "mysql_port": sandbox.mysql_port}
    return checked({**where, **more})


def pipeline_of(address: str, folder: Path) -> dlt.Pipeline:
    """Make a pipeline that has never worked before; what it knows is in the destination."""
    return dlt.pipeline(
        NAME,
        destination=destination_of(address, NAME),
        dataset_name=NAME,
        pipelines_dir=str(folder / f"working{next(_NUMBERS)}"),
    )


class Warehouse:
    """A destination, loaded by runs that remember nothing."""

    def __init__(self, sandbox: Sandbox, address: str, folder: Path, **manner: Any) -> None:
        self.sandbox = sandbox
        self.address = address
        self.folder = folder
        self.manner = Manner(**manner)

    def load(self, limits: Limits = PACKAGES, **settings: Any) -> Loaded:
        """Load up to now."""
        config = config_of(self.sandbox, **settings)
        return load_config(pipeline_of(self.address, self.folder), config, self.manner, limits)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask it; tables are found by their bare names."""
        pipeline = pipeline_of(self.address, self.folder)
        pipeline.sync_destination()
        with pipeline.sql_client() as client:
            return [tuple(row) for row in client.execute_sql(statement) or []]

    def check(self) -> None:
        """Fail unless it has what the three tables have."""
        for name in TABLES:
            found = [{"id": i, "name": n} for i, n in self.query(f"SELECT id, name FROM {name}")]
            source = expected(self.sandbox.cluster, "shop", name)
            assert sorted(found, key=lambda row: int(row["id"])) == sorted(
                source, key=lambda row: int(row["id"])
            ), name
