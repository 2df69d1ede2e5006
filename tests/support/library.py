"""What tests of the library share: a sandbox's address, and a replica that a consumer keeps.

The replica stores rows at once and keeps their versions, like a consumer's own database. It can be
made to fail, as if the process were killed there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.shops import TABLES
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import Batch, Change, MemoryState, RetryOptions, TableCopied, Vitess

NAMES = {f"shop.{name}": dict for name in TABLES}
QUICK = RetryOptions(budget=20, longest_wait=0.01)


class KilledError(Exception):
    """Stands for the end of the process."""


def vitess(sandbox: Sandbox, **more: Any) -> Vitess:
    """Return a sandbox's address."""
    return Vitess(sandbox.host, sandbox.grpc_port, sandbox.mysql_port, **more)


@dataclass
class Replica:
    """Tables by name: key -> version and row.

    fail: called with a word for each moment at which a process can be killed; may raise.
    """

    tables: dict[str, dict[str, tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    seen: list[Change[Any] | TableCopied] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    fail: Callable[[str], None] = lambda _: None

    def flush(self, batch: Batch) -> None:
        """Apply a batch, item by item."""
        self.fail("flush")
        self.batches.append(batch)
        for item in batch.items:
            self.apply(item)
            self.fail("item")
        self.fail("flushed")

    def apply(self, item: Change[Any] | TableCopied) -> None:
        """Apply one item."""
        self.seen.append(item)
        rows = self.tables.setdefault(item.name, {})
        if isinstance(item, TableCopied):
            for key in [key for key, (version, _) in rows.items() if version < item.version]:
                del rows[key]
        elif item.after is None:
            rows.pop(_text(item.key), None)
        else:
            rows[_text(item.key)] = item.version, item.after

    def contents(self, name: str) -> list[dict[str, Any]]:
        """Return a table's rows, sorted."""
        found = list(self.tables.get(name, {}).values())  # another thread may change it
        return sorted((row for _, row in found), key=_text)

    def changes(self) -> list[Change[Any]]:
        """List all changes seen."""
        return [item for item in self.seen if isinstance(item, Change)]


def _text(value: Any) -> str:
    return json.dumps(value, default=str)


@dataclass
class Store(MemoryState):
    """A state store that can be killed before or after saving."""

    state: str | None = None
    fail: Callable[[str], None] = lambda _: None

    def save(self, state: str) -> None:
        """Keep the state."""
        self.fail("save")
        self.state = state
        self.fail("saved")
