"""Loads into dlt's destinations, and their contents afterwards.

A pipeline with a new folder knows only what the destination stores.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# dlt reads these when it is imported.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")

import dlt

from support.shops import TABLES
from support.taps import expected
from tap_vitess.config import Config
from tap_vitess.dlt.destinations import destination_of
from tap_vitess.dlt.feed import Columns, Limits
from tap_vitess.dlt.loading import PACKAGES, Loaded, load_config
from tap_vitess.dlt.source import NAME, Manner
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.settings import checked

_NUMBERS = itertools.count()


def config_of(sandbox: Sandbox, **more: Any) -> Config:
    """Return the settings to reach a sandbox."""
    where = {"host": sandbox.host, "grpc_port": sandbox.grpc_port, "mysql_port": sandbox.mysql_port}
    return checked({**where, **more})


def pipeline_of(address: str, folder: Path, name: str = NAME) -> dlt.Pipeline:
    """Make a pipeline that has never run before; it knows only what the destination stores."""
    return dlt.pipeline(
        name,
        destination=destination_of(address, NAME),
        dataset_name=NAME,
        pipelines_dir=str(folder / f"working{next(_NUMBERS)}"),
    )


class Warehouse:
    """A destination, loaded by runs without local state. name: of the pipeline."""

    name = NAME

    def __init__(self, sandbox: Sandbox, address: str, folder: Path, **manner: Any) -> None:
        self.sandbox = sandbox
        self.address = address
        self.folder = folder
        self.manner = Manner(**manner)

    def load(
        self,
        limits: Limits = PACKAGES,
        stop: Callable[[], bool] = lambda: False,
        columns: Columns | None = None,
        **settings: Any,
    ) -> Loaded:
        """Load up to the present, or until told to stop."""
        config = config_of(self.sandbox, **settings)
        pipeline = pipeline_of(self.address, self.folder, self.name)
        return load_config(pipeline, config, self.manner, limits, stop, columns)

    def pipeline(self) -> dlt.Pipeline:
        """Make a pipeline that has read the destination's state."""
        pipeline = pipeline_of(self.address, self.folder, self.name)
        pipeline.sync_destination()
        return pipeline

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Read columns of a table, in the order of the first one."""
        if self.manner.table_format == "delta":
            from dlt.common.libs.deltalake import get_delta_tables

            found = get_delta_tables(self.pipeline(), table)[table].to_pyarrow_table()
            return sorted(zip(*(found[name].to_pylist() for name in columns), strict=True))
        with self.pipeline().sql_client() as client:
            names = ", ".join(columns)
            where = client.make_qualified_table_name(table)
            rows = client.execute_sql(f"SELECT {names} FROM {where} ORDER BY {columns[0]}") or []
            return [tuple(map(_plain, row)) for row in rows]

    def columns(self, table: str) -> set[str]:
        """Return the columns of a table in dlt's schema."""
        return set(self.pipeline().default_schema.get_table_columns(table))

    def check(self) -> None:
        """Fail unless it has the rows of the three tables."""
        for name in TABLES:
            source = expected(self.sandbox.cluster, "shop", name)
            rows = sorted((row["id"], row["name"]) for row in source)
            assert self.rows(name, "id", "name") == rows, name


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
