"""Batches of rows as Arrow, which are full by the rules of batches.py or by bytes. Pure.

Within a batch a table's rows are joined, from all responses and shards. The order of a table's
rows, schemas and finished copies stays; the order between tables was never promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tap_vitess.values.kernels import kernels
from tap_vitess.vstream.arrow_reader import TableRows, TableSchema
from tap_vitess.vstream.batches import PARTS_ABOVE, Collector
from tap_vitess.vstream.changes import TableCopied


@dataclass(frozen=True, slots=True)
class ArrowBatch:
    """What to apply, in order.

    items: rows, finished copies, and each table's schema before its first row and where it changes.
    state: see Batch.
    """

    items: Sequence[TableRows | TableCopied | TableSchema]
    state: str | None

    @property
    def rows(self) -> list[TableRows]:
        """The rows alone."""
        return [item for item in self.items if isinstance(item, TableRows)]


class ArrowCollector(Collector):
    """Collects items until they are a batch."""

    def __init__(self, rows: int, seconds: float, size: int) -> None:
        super().__init__(rows, seconds)
        self._most_bytes = size
        self._bytes = 0

    @property
    def is_too_large(self) -> bool:
        """Whether a part is to be given out before its boundary."""
        return super().is_too_large or self._bytes >= self._most_bytes

    def pieces(self, item: TableRows) -> Iterator[TableRows]:
        """Yield rows in pieces, each to be added before the next: none makes a part too large."""
        count, first = item.rows.num_rows, 0
        by_bytes = max(self._most_bytes * count // (item.rows.nbytes or 1), 1)
        while first < count:
            step = min(self._most * PARTS_ABOVE - self.rows, by_bytes)
            yield replace(item, rows=item.rows.slice(first, step))
            first += step

    def add(self, item: object, now: float) -> None:
        """Collect an item that came at a time."""
        super().add(item, now)
        self._bytes += item.rows.nbytes if isinstance(item, TableRows) else 0

    def _size(self) -> int:
        return self.rows

    def _rows_of(self, item: object) -> int:
        return int(item.rows.num_rows) if isinstance(item, TableRows) else 0

    def _batch(self, state: str | None) -> ArrowBatch:
        self._bytes = 0
        items = deque(self._items)
        self._items.clear()
        return ArrowBatch(tuple(_joined(items)), state)


def _joined(
    items: deque[TableRows | TableCopied | TableSchema],
) -> Iterator[TableRows | TableCopied | TableSchema]:
    """Yield items, the rows of each table joined; none of them stays in `items`."""
    waiting: dict[str, list[TableRows]] = {}
    while items:
        item = items.popleft()
        known = waiting.get(item.name)
        if isinstance(item, TableRows):
            if known and known[0].version == item.version:
                known.append(item)
                continue
            waiting[item.name] = [item]
        elif known:
            del waiting[item.name]
        if known:
            yield _one(known)
        if not isinstance(item, TableRows):
            yield item
    yield from map(_one, waiting.values())


def _one(parts: list[TableRows]) -> TableRows:
    """Join rows a column at a time, and keep none: only one column is in memory twice."""
    if len(parts) == 1:
        return parts[0]
    pa = kernels().pa
    first, schema = replace(parts[0], rows=None), parts[0].rows.schema
    columns = [[*pieces] for pieces in zip(*(part.rows.columns for part in parts), strict=True)]
    parts.clear()
    joined = []
    for pieces in columns:
        joined.append(kernels().concat_arrays(pieces))
        pieces.clear()
    return replace(first, rows=pa.RecordBatch.from_arrays(joined, schema=schema))
