"""Foreign keys that change rows without anything in the binlog. Pure.

InnoDB carries out ON DELETE and ON UPDATE below the binlog, so no stream shows what happens to the
child's rows (MySQL 8.0.15). If a keyspace's foreign_key_mode is managed, VTGate changes the child's
rows by separate statements, which are logged. A MySQL with the variable innodb_native_foreign_keys
(seen: 9.7.4) carries them out above the binlog unless it is ON.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

ADVICE = (
    "read it as FULL_TABLE, set the keyspace's foreign_key_mode to managed, or change its rows by "
    "separate statements"
)
_CHANGING = {"CASCADE", "SET NULL", "SET DEFAULT"}


@dataclass(frozen=True, slots=True)
class Cascade:
    """What a change of a parent's row does to the child's rows, such as ON DELETE CASCADE."""

    child: str
    parent: str
    rules: tuple[str, ...]

    @classmethod
    def of(cls, child: str, parent: str, **rules: str) -> Cascade:
        """Keep the rules (delete, update) that change rows."""
        kept = (f"ON {on.upper()} {rule}" for on, rule in rules.items() if rule in _CHANGING)
        return cls(child, parent, tuple(kept))

    def __str__(self) -> str:
        return f"{self.parent} ({', '.join(self.rules)})"


def told(found: Iterable[Cascade], tables: Collection[str]) -> dict[str, str]:
    """Return those of `tables` whose rows change without being logged, each with the reason."""
    parents: dict[str, list[str]] = {}
    for cascade in found:
        if cascade.child in tables:
            parents.setdefault(cascade.child, []).append(str(cascade))
    return {child: _sentence(by) for child, by in sorted(parents.items())}


def _sentence(parents: Iterable[str]) -> str:
    return (
        f"its rows change with those of {', '.join(parents)}, which MySQL does not log, and the "
        "target keeps them as they were"
    )
