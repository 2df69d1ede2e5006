"""Loads packages one after another; the engine keeps running in between, and a kill costs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
from dlt.common.destination import AnyDestination
from dlt.pipeline.exceptions import InvalidPipelineName

from tap_vitess.config import Config
from tap_vitess.dlt.destinations import name_of
from tap_vitess.dlt.feed import Columns, Feed, Limits
from tap_vitess.dlt.first import has_new_keys
from tap_vitess.dlt.older import remove_older_rows, staging_layout
from tap_vitess.dlt.source import NAME, Manner, package_of, source_of
from tap_vitess.dlt.turns import in_turn, load
from tap_vitess.errors import ConfigError
from tap_vitess.log import logger_of

logger = logger_of(__name__)

_NAME_LENGTH = 64
_RETRIES = 5  # of a job, as dlt's default
PACKAGES = Limits(rows=2_000_000, seconds=60)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load has brought: rows, and in how many packages."""

    rows: int
    packages: int


def pipeline_of(name: str, destination: AnyDestination, dataset: str, folder: Path) -> dlt.Pipeline:
    """Make a pipeline that works in a folder.

    Raises:
        ConfigError: dlt takes no such name for it, or for the dataset.
    """
    if not dataset.strip():
        raise ConfigError("--dataset: the name of a schema is expected, and it is empty")
    refused = ConfigError(
        "--name: dlt takes no such name for a pipeline: use letters, digits and underscores, "
        f"at most {_NAME_LENGTH}, with no digit first, and no name of a device, such as con"
    )
    if not name.isidentifier() or len(name) > _NAME_LENGTH:  # a schema may be called so, too
        raise refused
    try:
        return dlt.pipeline(
            name, destination=destination, dataset_name=dataset, pipelines_dir=str(folder)
        )
    except InvalidPipelineName:
        raise refused from None


def load_config(
    pipeline: dlt.Pipeline,
    config: Config,
    manner: Manner,
    limits: Limits = PACKAGES,
    stop: Callable[[], bool] = lambda: False,
    columns: Columns | None = None,
) -> Loaded:
    """Bring a destination to where Vitess is now."""
    # Files that are read once, on this machine, are not worth packing.
    kept = name_of(pipeline) == "filesystem"
    dlt.config["data_writer.compression"] = "snappy" if kept else "none"
    if config.shards:  # jobs that load at once must not share tables between load and merge
        dlt.config["destination.staging_dataset_name_layout"] = staging_layout(pipeline)
    pipeline.run()  # what an earlier run has left, and the state of the destination
    state = _state_of(pipeline)
    remove_older_rows(pipeline, state)
    packages = 0
    appended = set[str]()

    def items() -> Iterator[Any]:
        yield from package_of(feed, manner, dlt.current.source_state(), appended)

    with Feed(config, state.get("state"), columns or {}, limits, stop) as feed:
        while feed.has_more():
            appended.clear()
            pipeline.extract(source_of(items))
            pipeline.normalize()
            dlt.config["load.raise_on_max_retries"] = 1 if appended else _RETRIES
            with in_turn(pipeline, _shared(feed, manner)):
                load(pipeline)
            remove_older_rows(pipeline, _state_of(pipeline))
            packages += 1
            logger.info("package %d is loaded, %s rows so far", packages, f"{feed.rows:,}")
        if feed.error is not None:
            raise feed.error
        return Loaded(feed.rows, packages)


def _shared(feed: Feed, manner: Manner) -> list[str]:
    """Name tables of the last package that are merged, and whose keys other jobs bring as well."""
    if manner.write != "merge" or not feed.config.shards:
        return []
    tables = {name: feed.tables[name] for name in feed.brought}
    return [n for n, t in tables.items() if t.key and not has_new_keys(t, alone=False)]


def _state_of(pipeline: dlt.Pipeline) -> dict[str, Any]:
    return dict(pipeline.state.get("sources", {}).get(NAME, {}))
