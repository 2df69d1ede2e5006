"""Removes rows of older versions of the tables whose copy the last package has finished.

Other jobs may fill the same tables, each with some shards of its own (the setting shards). So a
job's state has its ranges beside the versions, and rows go only where they name a shard within the
ranges, as they do from before a reshard in them, too. The ranges are those of the copy and not of
today: a job whose setting has grown must not touch what it has not copied. What names a shard
across a border, or no shard, stays, because nobody knows whose it is; a warning counts such rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import dlt

from tap_vitess.dlt.columns import SHARD, VERSION
from tap_vitess.errors import ConfigError
from tap_vitess.log import logger_of
from tap_vitess.protocol.keyranges import KeyRanges, is_range
from tap_vitess.values.kernels import pyarrow

logger = logger_of(__name__)


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
            table = client.make_qualified_table_name(name)
            older_rows = f"FROM {table} WHERE {of} < {newest}"
            if ranges.names:
                no_rows = f"{older_rows} AND 1 = 0"
                with client.execute_query(f"SELECT * {no_rows}") as nothing:
                    columns = {str(column[0]).lower() for column in nothing.description}
                counting = f"SELECT NULL, COUNT(*) {older_rows}"
                if shard.lower() in columns:
                    counting = f"SELECT {at}, COUNT(*) {older_rows} GROUP BY {at}"
                own = _own(name, client.execute_sql(counting) or [], ranges, newest)
                older_rows += f" AND {_among(at, own)}"
            [[count]] = client.execute_sql(f"SELECT COUNT(*) {older_rows}") or [[0]]
            if count:
                client.execute_sql(f"DELETE {older_rows}")


def _own(table: str, found: Any, ranges: KeyRanges, newest: int) -> list[str]:
    """Name the shards that lie within the ranges; warn of older rows that no job removes.

    found: pairs of a shard that older rows name, or None, and how many of them do.
    """
    counts: dict[str | None, int] = {shard: int(count) for shard, count in found}
    own = sorted(s for s in counts if s is not None and is_range(s) and ranges.holds(s))
    strays = sum(n for s, n in counts.items() if s is None or (s not in own and ranges.meets(s)))
    if strays:
        logger.warning(
            "%s: %d rows of older versions stay, because their %s does not say which job's they "
            "are: once all jobs have copied the table again, delete the rows whose %s is lower "
            "than that of each job's new copy (here %d)",
            *(table, strays, SHARD, VERSION, newest),
        )
    return own


def _among(column: str, shards: list[str]) -> str:
    return f"{column} IN ({', '.join(map(repr, shards))})" if shards else "1 = 0"


def _remove_from_files(
    pipeline: dlt.Pipeline, names: Mapping[str, int], version: str, shard: str, ranges: KeyRanges
) -> None:
    from dlt.common.libs.deltalake import get_delta_tables  # noqa: PLC0415 - an extra of dlt's

    for name, found in get_delta_tables(pipeline, *names).items():
        older_rows = f"{version} < {names[name]}"
        if ranges.names:
            rows = found.to_pyarrow_dataset()
            field, scalar = pyarrow().compute.field, pyarrow().compute.scalar
            known = field(shard) if shard in rows.schema.names else scalar(None)
            older = rows.to_table({shard: known}, filter=field(version) < names[name])
            counts = older.group_by(shard).aggregate([([], "count_all")]).to_pydict()
            found_shards = zip(counts[shard], counts["count_all"], strict=True)
            older_rows += f" AND {_among(shard, _own(name, found_shards, ranges, names[name]))}"
        found.delete(older_rows)


def staging_layout(pipeline: dlt.Pipeline) -> str:
    """Return dlt's staging_dataset_name_layout for a job that has some shards alone."""
    name = re.sub(r"\W", "_", pipeline.pipeline_name, flags=re.ASCII)
    return f"%s_staging_{name}_{_mark(pipeline)}"


def _mark(pipeline: dlt.Pipeline) -> str:
    """Return what tells names apart that dlt would write alike, as jobA and job_a."""
    return hashlib.sha256(pipeline.pipeline_name.encode()).hexdigest()[:8]


def check_jobs(pipeline: dlt.Pipeline, *, merges: bool) -> None:
    """See that a job that has some shards alone does not share its staging tables.

    Raises:
        ConfigError: another job would load into them, too.
    """
    if not merges:
        return
    with pipeline.sql_client() as client:
        if _mark(pipeline) not in client.staging_dataset_name.lower():
            raise ConfigError(
                "setting shards: jobs that load into one dataset at once need staging tables of "
                "their own: set dlt's destination.staging_dataset_name_layout of the pipeline "
                f"{pipeline.pipeline_name} to {staging_layout(pipeline)}"
            )
