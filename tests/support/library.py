"""What tests of the library share: a sandbox of three tables, and a replica that a consumer keeps.

The replica stores rows at once and keeps their versions, as a database of the consumer's own does.
It can be told to fail, as if the process were killed there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import Batch, Change, MemoryState, RetryOptions, TableCopied, Vitess

TABLES = ("alpha", "beta", "empty")
NAMES = {f"shop.{name}": dict for name in TABLES}
SHARDS = ("-80", "80-")
QUICK = RetryOptions(budget=20, longest_wait=0.01)


class KilledError(Exception):
    """Stands for the end of the process."""


def fill(cluster: Cluster, rows: int = 12) -> Cluster:
    """Make a keyspace of two shards and three tables, one of them empty."""
    cluster.create_keyspace("shop", SHARDS)
    for name in TABLES:
        cluster.create_table("shop", table(name))
    for name in TABLES[:2]:
        insert(cluster, name, *range(rows))
    return cluster


def table(name: str, *more: Column) -> Table:
    """Describe a table of an id and a name."""
    columns = Column("id", "bigint", nullable=False), Column("name", "varchar(20)"), *more
    return Table(name, columns, primary_key=("id",))


def insert(cluster: Cluster, name: str, *ids: int) -> None:
    """Insert rows."""
    cluster.insert("shop", name, [{"id": b"%d" % i, "name": b"n%d" % i} for i in ids])


def vitess(sandbox: Sandbox, **more: Any) -> Vitess:
    """Return where a sandbox is."""
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
        found = list(self.tables.get(name, {}).values())  # another thread may go on
        return sorted((row for _, row in found), key=_text)

    def changes(self) -> list[Change[Any]]:
        """List all changes seen."""
        return [item for item in self.seen if isinstance(item, Change)]


def _text(value: Any) -> str:
    return json.dumps(value, default=str)


@dataclass
class Store(MemoryState):
    """A state that can be lost before or behind its saving."""

    state: str | None = None
    fail: Callable[[str], None] = lambda _: None

    def save(self, state: str) -> None:
        """Keep the state."""
        self.fail("save")
        self.state = state
        self.fail("saved")
