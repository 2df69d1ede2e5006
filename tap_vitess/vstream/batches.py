"""When a batch is full. Pure.

A batch ends at a boundary once it has enough rows or enough time has passed, and always where a
copy or the stream begins or ends. Only a transaction that is far larger than a batch is split into
parts, which carry no state; without this, memory would have no limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tap_vitess.vstream.changes import TableCopied
from tap_vitess.vstream.decoding import Change

PARTS_ABOVE = 10  # times the rows of a batch


@dataclass(frozen=True, slots=True)
class Batch:
    """What to apply, in order.

    items: changes and finished copies. state: what is stored once all of it has been applied;
    None for a part of a transaction too large for one batch: the rest follows.
    """

    items: Sequence[Change[Any] | TableCopied]
    state: str | None

    @property
    def changes(self) -> list[Change[Any]]:
        """The changes alone."""
        return [item for item in self.items if isinstance(item, Change)]


class Collector:
    """Collects items until they are a batch."""

    def __init__(self, rows: int, seconds: float) -> None:
        self._most = rows
        self._seconds = seconds
        self._items: list[Any] = []
        self._since: float | None = None
        self.rows = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was collected."""
        return not self._items

    @property
    def is_too_large(self) -> bool:
        """Whether to deliver a part before its boundary."""
        return self._size() >= self._most * PARTS_ABOVE

    def add(self, item: object, now: float) -> None:
        """Collect an item; now: when it came."""
        self._items.append(item)
        self.rows += self._rows_of(item)
        if self._since is None:
            self._since = now

    def is_due(self, now: float) -> bool:
        """Return whether the batch is full, at a boundary."""
        if self._since is None:
            return False
        return self._size() >= self._most or now - self._since >= self._seconds

    def take(self, state: str | None) -> Any:
        """Return what was collected as a batch, and start over."""
        batch = self._batch(state)
        self._items.clear()
        self._since, self.rows = None, 0
        return batch

    def _size(self) -> int:
        return len(self._items)

    def _rows_of(self, item: object) -> int:
        return int(isinstance(item, Change))

    def _batch(self, state: str | None) -> Any:
        return Batch(tuple(self._items), state)
