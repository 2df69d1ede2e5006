"""Removes rows of older versions of the tables whose copy the last package has finished.

Other jobs may fill the same tables, each with some shards of its own (the setting shards). So a
job's state has its ranges beside the versions, and rows go only where they name a shard within the
ranges, as they do from before a reshard in them, too. The ranges are those of the copy and not of
today: a job whose setting has grown must not touch what it has not copied. What names a shard
across a border stays, because nobody knows whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import dlt

from tap_vitess.dlt.columns import SHARD, VERSION
from tap_vitess.errors import ConfigError
from tap_vitess.protocol.keyranges import KeyRanges, is_range


def note_older(
    state: MutableMapping[str, Any], versions: Mapping[str, int], ranges: KeyRanges
) -> None:
    """Let a state know what a package makes older: by table, the version of its new copy."""
    state["older"] = dict(versions)
    state["older_shards"] = [*ranges.names]


def remove_older_rows(pipeline: dlt.Pipeline, state: Mapping[str, Any]) -> None:
    """Remove what the state tells of; it does no harm to do so again."""
    older: Mapping[str, int] = state.get("older") or {}
    if not older:
        return
    ranges = KeyRanges(tuple(state.get("older_shards") or ()))
    naming = pipeline.default_schema.naming
    names = {naming.normalize_table_identifier(name): v for name, v in older.items()}
    version, shard = map(naming.normalize_identifier, (VERSION, SHARD))
    if str(pipeline.destination.destination_type).endswith(".filesystem"):
        _remove_from_files(pipeline, names, version, shard, ranges)
        return
    with pipeline.sql_client() as client:
        of, at = map(client.escape_column_name, (version, shard))
        for name, newest in names.items():
            older_rows = f"FROM {client.make_qualified_table_name(name)} WHERE {of} < {newest}"
            if ranges.names:
                found = client.execute_sql(f"SELECT DISTINCT {at} {older_rows}") or []
                older_rows += f" AND {_among(at, (one for [one] in found), ranges)}"
            [[count]] = client.execute_sql(f"SELECT COUNT(*) {older_rows}") or [[0]]
            if count:
                client.execute_sql(f"DELETE {older_rows}")


def _among(column: str, shards: Iterable[str | None], ranges: KeyRanges) -> str:
    """Write the condition that a row is of one of some shards that lie within the ranges."""
    own = sorted(s for s in shards if s is not None and is_range(s) and ranges.holds(s))
    return f"{column} IN ({', '.join(map(repr, own))})" if own else "1 = 0"


def _remove_from_files(
    pipeline: dlt.Pipeline, names: Mapping[str, int], version: str, shard: str, ranges: KeyRanges
) -> None:
    from dlt.common.libs.deltalake import get_delta_tables  # noqa: PLC0415 - an extra of dlt's

    for name, found in get_delta_tables(pipeline, *names).items():
        older_rows = f"{version} < {names[name]}"
        if ranges.names:
            shards = found.to_pyarrow_dataset().to_table([shard])[shard].unique().to_pylist()
            older_rows += f" AND {_among(shard, shards, ranges)}"
        found.delete(older_rows)


def check_jobs(pipeline: dlt.Pipeline, *, merges: bool) -> None:
    """See that a job that has some shards alone does not share its staging tables.

    Raises:
        ConfigError: another job would load into them, too.
    """
    if not merges:
        return
    with pipeline.sql_client() as client:
        if client.staging_dataset_name == f"{client.dataset_name}_staging":
            raise ConfigError(
                "setting shards: jobs that load into one dataset at once need staging tables of "
                "their own: set dlt's destination.staging_dataset_name_layout to another name for "
                f"each, as in %s_staging_{pipeline.pipeline_name}"
            )
