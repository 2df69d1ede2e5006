"""What the VSchema says about keyspaces and tables, over VTGate's MySQL port.

What surprised us: VTGate answers from its copy of the topology server, whether or not the tablets
have the table. In an unsharded keyspace it does not even look up the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tap_vitess.errors import TableGoneError
from tap_vitess.survey.keyspace import KeyspaceSql
from tap_vitess.vtgate.mysql import Sql, quote


@dataclass(frozen=True, slots=True)
class Keyspace:
    """A keyspace; `foreign_keys` is managed, unmanaged or disallow."""

    sharded: bool
    foreign_keys: str


def keyspaces(sql: Sql) -> dict[str, Keyspace]:
    """Describe every keyspace that VTGate knows."""
    return {
        str(row["Keyspace"]): Keyspace(row["Sharded"] == "true", str(row["Foreign Key"]))
        for row in sql.query("show vschema keyspaces")
    }


def described(at: KeyspaceSql) -> dict[str, Keyspace]:
    """Describe every keyspace that VTGate knows; a question."""
    return keyspaces(at.sql)


def primary_vindex(sql: Sql, keyspace: str, table: str) -> str | None:
    """Return the columns that decide a row's shard, as `region, customer_id`.

    Empty if no column does: in an unsharded keyspace, and for tables that are pinned to a shard, or
    are on every shard (reference tables). None if the VSchema lacks the table.
    """
    try:
        vindexes = sql.query(f"show vschema vindexes on {quote(keyspace)}.{quote(table)}")
    except TableGoneError:
        return None
    return str(vindexes[0]["Columns"]) if vindexes else ""


def primary_vindexes(at: KeyspaceSql, tables: Iterable[str]) -> dict[str, str | None]:
    """Map each table of a sharded keyspace to its `primary_vindex`; empty if it is unsharded."""
    found = keyspaces(at.sql).get(at.keyspace)
    if found is None or not found.sharded:
        return {}
    return {table: primary_vindex(at.sql, at.keyspace, table) for table in tables}
