"""The rows of small transactions, table by table. Pure.

Rows cost least when they come many at a time (`columns.py`), and a backlog mostly is of
transactions of one row. Those that came together are given out as if they were one: the order of a
table's rows on a shard stays, and what is between them and other tables' rows is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from tap_vitess.vstream.columns import EncodedChanges
from tap_vitess.vstream.protocol import Boundary, ChangeItem, Fields, Rows


def by_table(items: Sequence[ChangeItem]) -> Sequence[ChangeItem]:
    """Join rows of one table and shard, kind and second; of the boundaries the last one stays.

    Behind a boundary that tells of more than a position, as a DDL's, nothing of what was before it
    may come: where there is one, all stays as it is.
    """
    boundaries = [item for item in items if isinstance(item, Boundary)]
    if len(boundaries) < 2 or not all(b.is_plain for b in boundaries):
        return items
    end = max(place for place, item in enumerate(items) if isinstance(item, Boundary))
    runs: list[list[Rows]] = []
    last: dict[Fields, list[Rows]] = {}
    for rows in items[:end]:
        if isinstance(rows, Boundary):
            continue
        run = last.get(rows.fields)
        if run is None or not _are_alike(run[-1], rows):
            run = last[rows.fields] = []
            runs.append(run)
        run.append(rows)
    return [*map(_joined, runs), *items[end:]]


def _are_alike(one: Rows, other: Rows) -> bool:
    return (
        isinstance(one.changes, EncodedChanges)
        and isinstance(other.changes, EncodedChanges)
        and one.changes.kind == other.changes.kind
        and one.commit_time == other.commit_time
    )


def _joined(run: Sequence[Rows]) -> Rows:
    if len(run) == 1:
        return run[0]
    parts = [rows.changes for rows in run if isinstance(rows.changes, EncodedChanges)]
    return Rows(run[0].fields, EncodedChanges.joined(parts), run[0].commit_time)
