"""Which streams a target may put into one table, or name in an unexpected way. Pure.

What surprised us: targets built on the SDK use what follows a stream's last hyphen as the table,
and what is between that hyphen and the one before as the schema, unless their default_target_schema
is set, as target-postgres' is. target-duckdb splits at the first two hyphens. And some ignore case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_MOST = 5  # of what a sentence lists


def doubts(streams: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what targets may confuse in the streams' names, and what to do about it."""
    names = sorted(streams)
    by_table: dict[str, list[str]] = {}
    for name in names:
        by_table.setdefault(name.rpartition("-")[2].lower(), []).append(name)
    if alike := [" and ".join(some) for some in by_table.values() if len(some) > 1]:
        yield (
            f"{_listed(alike)} may be one table in the target, where a row of one replaces a row "
            "of the other: many targets name a table by what comes after the last hyphen, or "
            "ignore case",
            "set stream_name to `{keyspace}__{table}`, rename streams by stream_maps, or leave "
            "tables out by exclude_tables",
        )
    if split := [name for name in names if name.count("-") > 1]:
        yield (
            f"{_listed(split)}: many targets split a stream's name at each hyphen, so that the "
            "table gets the last part alone, and the schema the part before",
            "rename such streams by stream_maps, or set stream_name where the keyspace's name has "
            "the hyphen",
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
