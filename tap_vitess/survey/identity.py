"""What identifies a row in its keyspace. Pure.

MySQL keeps a key unique within a shard, but nothing keeps it unique across shards: an
AUTO_INCREMENT counts from 1 on each. If two rows have the same key and the same values in the
columns of the table's primary vindex, they belong to one shard, because those columns decide where
a row is; so they are one row. This stays true after a reshard; with the shard's name it would not.

A table that is pinned to one shard, or is on every shard (a reference table), has no vindex and
needs none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tap_vitess.config import Keys

Key = tuple[str, ...]

ANOTHER_KEY = (
    "rows that share it become one row in the target: discover again and copy the table into an "
    "empty target table"
)
GENERATED: Key = ("my_row_id",)  # MySQL's generated invisible key


def identity(
    key: Key, vindex: str | None, columns: Collection[str], inexact: Collection[str], keys: Keys
) -> Key:
    """Return the key of a table in a sharded keyspace; empty if nothing can be one.

    Args:
        key: MySQL's.
        vindex: the columns of the primary vindex, as VTGate lists them; None if the VSchema lacks
            the table.
        columns: all of the table's.
        inexact: those of them that cannot identify a row.
        keys: the setting. No setting makes my_row_id a key, which each shard counts on its own.
    """
    if keys == "with_vindex" or key == GENERATED:
        added = lacking(key, vindex or "", columns)
        if key and set(added) <= set(columns) - set(inexact):
            key = (*key, *added)
    return () if key == GENERATED else key


def lacking(key: Sequence[str], vindex: str, columns: Collection[str] = ()) -> Key:
    """Return the columns of a vindex that a key lacks, spelled as in `columns`.

    The VSchema ignores case, and separates columns by commas, which a name may contain as well.
    """
    spelled = {name.lower(): name for name in (*columns, *key)}
    named = [vindex] if vindex.lower() in spelled else vindex.split(", ")
    held = {name.lower() for name in key}
    return tuple(spelled.get(n.lower(), n) for n in named if n and n.lower() not in held)


def doubt(key: Sequence[str], vindex: str | None) -> str | None:
    """Say why rows of several shards may have the same key; None if they cannot."""
    if not key:
        return None
    if vindex is None:
        return f"the VSchema lacks it, so its key {_listed(key)} may be on several shards"
    if missing := lacking(key, vindex):
        return (
            f"its key {_listed(key)} is unique within a shard only, as it lacks the primary "
            f"vindex's column {_listed(missing)}"
        )
    return None


def repeats(key: Sequence[str], uniques: Iterable[Key]) -> str | None:
    """Say why rows of one shard may have the same key; None if MySQL keeps it unique.

    The catalog's key may have been dropped by an ALTER since.
    """
    held = {name.lower() for name in key}
    if not held or any({name.lower() for name in unique} <= held for unique in uniques):
        return None
    return f"its key {_listed(key)} holds no primary key and no NOT NULL unique key of the table"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
