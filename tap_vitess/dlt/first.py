"""Whether the rows of a table's first copy can be appended: each key is new.

A merge writes rows twice and sorts them, which takes most of the time of a copy into Postgres. It
is not needed if there is nothing to merge with: the state does not know the table, the table in the
destination is empty, and the package has only copied rows of it, each key once. If a killed run has
left rows, the next one merges.

Jobs with some shards each may all find the table empty, and each its own keys once. So their keys
must differ as well: each has to hold the primary vindex, which says on which shard a row is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from tap_vitess.survey.facts import Table
from tap_vitess.survey.identity import doubt
from tap_vitess.values.kernels import pyarrow
from tap_vitess.vstream import TableRows


@dataclass
class FirstCopy:
    """What a package has of a table that is empty in the destination."""

    key: Sequence[str]
    _keys: list[Any] = field(default_factory=list)
    _versions: set[int] = field(default_factory=set)

    def add(self, item: TableRows, rows: Any) -> bool:
        """Take rows, and as the destination has them; return whether all so far are copied ones."""
        self._versions.add(item.version)
        self._keys.append(rows.select(self.key))
        copied = item.rows.column("_commit_time").null_count == len(item.rows)
        return copied and len(self._versions) == 1

    def is_each_key_once(self) -> bool:
        """Look at the keys of all rows."""
        keys = pyarrow().Table.from_batches(self._keys)
        return len(keys.group_by(list(self.key)).aggregate([])) == len(keys)


def has_new_keys(table: Table, *, alone: bool) -> bool:
    """Return whether no other job can bring a key of this one's; a job may be alone."""
    return bool(table.key) and (alone or bool(table.vindex and not doubt(table.key, table.vindex)))


def is_empty(pipeline: dlt.Pipeline, table: str) -> bool:
    """Return whether a table of the destination has no rows, or is not there."""
    with pipeline.sql_client() as client:
        one_row = f"FROM {client.make_qualified_table_name(table)} LIMIT 1"
        try:
            return not client.execute_sql(f"SELECT 1 {one_row}")
        except DatabaseUndefinedRelation:
            return True
