"""What SQL reports about a keyspace's tables: keys, columns, rows, and where queries go.

What surprised us: for a query to the whole keyspace, VTGate answers for one of its shards, so
whatever may differ is asked of each shard. Only the plan of a query shows that MoveTables has moved
a table away.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from tap_vitess.errors import RequestError, RetriableError
from tap_vitess.protocol.copy_keys import KeyPart, why_not_resumable
from tap_vitess.survey import vschema
from tap_vitess.survey.cascades import Cascade
from tap_vitess.survey.facts import Text
from tap_vitess.survey.identity import Key
from tap_vitess.survey.keyspace import KeyspaceSql, shards
from tap_vitess.vtgate.mysql import Sql, SqlRow, quote, text

# Only the keyspace's own database: a shard's MySQL also has Vitess' and its own.
_ROW_COUNTS = """
select table_name as table_name, table_rows as row_count from information_schema.tables
where table_schema = database()
"""
_SIZES = """
select table_name as table_name, data_length as size from information_schema.tables
where table_schema = database()
"""
# MySQL 5.7 has no indexes on expressions, and no such column.
_EXPRESSIONS = """
select index_name as index_name, expression as expression from information_schema.statistics
where table_schema = %s and table_name = %s
"""
# MySQL shows a view's definition only to users with the privilege to see it.
_EFFECTS = (
    "select table_name as name, view_definition as text from information_schema.views "
    "where table_schema = database()",
    "select event_object_table as name, action_statement as text from information_schema.triggers "
    "where trigger_schema = database()",
    "select routine_name as name, routine_definition as text from information_schema.routines "
    "where routine_schema = database()",
    "select referenced_table_name as name, concat('`', table_name, '`') as text "
    "from information_schema.referential_constraints where constraint_schema = database()",
)
_RULES = """
select table_name as child, referenced_table_name as parent, delete_rule as on_delete,
       update_rule as on_update
from information_schema.referential_constraints where constraint_schema = %s
"""
_NATIVE = "innodb_native_foreign_keys"
# The flag PRI names the primary key, else the first unique key of NOT NULL columns.
_KEY_COLUMNS = """
select table_name as table_name, column_name as column_name, column_type as column_type
from information_schema.columns where table_schema = %s and column_key = 'PRI'
"""
_INDEXES = """
select table_name as table_name, index_name as index_name, seq_in_index as seq_in_index,
       column_name as column_name, nullable as nullable, sub_part as sub_part,
       collation as direction
from information_schema.statistics where table_schema = %s and non_unique = 0
order by table_name, index_name, seq_in_index
"""
_CHARSETS = """
select column_name as name, character_set_name as charset from information_schema.columns
where table_schema = database() and table_name = %s
"""
_TEXTS = """
select table_name as table_name, column_name as column_name, column_type as column_type,
       character_set_name as charset, collation_name as collation
from information_schema.columns where table_schema = %s and collation_name is not null
"""
_COLUMNS = """
select column_name as name, column_type as column_type, character_set_name as charset,
       ordinal_position as position
from information_schema.columns where table_schema = database() and table_name = %s
order by ordinal_position
"""
_TABLES_AT_ONCE = 50


def has_table(at: KeyspaceSql, table: str) -> bool:
    """Return whether the MySQL of every shard has a table.

    Raises:
        RetriableError: a shard has no tablet of this type.
    """
    there = ({text(row["table_name"]) for row in at.on(s).query(_ROW_COUNTS)} for s in shards(at))
    return all(table in names for names in there)


def columns(at: KeyspaceSql, shard: str, table: str) -> dict[str, tuple[str, str | None]]:
    """Return the type and charset of each column that a table has on a shard, in order."""
    rows = at.on(shard).query(_COLUMNS, table)
    return {text(row["name"]): (text(row["column_type"]), row["charset"]) for row in rows}


def columns_everywhere(at: KeyspaceSql, table: str) -> frozenset[str]:
    """Return the columns that a table has on every shard."""
    found = [frozenset(columns(at, shard, table)) for shard in shards(at)]
    return frozenset.intersection(*found) if found else frozenset()


def row_counts(at: KeyspaceSql, tables: Collection[str]) -> dict[str, int]:
    """Add up each shard's InnoDB estimate of the number of a table's rows."""
    found: Counter[str] = Counter()
    for shard in shards(at):
        for row in at.on(shard).query(_ROW_COUNTS):
            if (name := text(row["table_name"])) in tables:
                found[name] += int(row["row_count"] or 0)
    return dict(found)


def sizes(at: KeyspaceSql, tables: Collection[str]) -> dict[str, dict[str, int]]:
    """Return InnoDB's estimate of the bytes of rows, by table and shard.

    MySQL 8 remembers the estimates for a day (information_schema_stats_expiry).
    """
    found: dict[str, dict[str, int]] = {table: {} for table in tables}
    for shard in shards(at):
        for row in at.on(shard).query(_SIZES):
            if (name := text(row["table_name"])) in found:
                found[name][shard] = int(row["size"] or 0)
    return found


def expression_indexes(at: KeyspaceSql, table: str) -> list[str]:
    """Return a table's indexes on expressions, sorted."""
    rows = at.anywhere().query(_EXPRESSIONS, at.keyspace, table)
    return sorted({text(row["index_name"]) for row in rows if row["expression"] is not None})


def effects(at: KeyspaceSql) -> list[tuple[str, str]]:
    """List what a statement may change besides the tables it names; see `statements.Effects`.

    Raises:
        RetriableError: there is no tablet of this type.
    """
    for shard in shards(at):
        sql = at.on(shard)
        rows = (row for statement in _EFFECTS for row in sql.query(statement))
        return [(text(row["name"]), text(row["text"])) for row in rows]
    raise RetriableError(f"{at.keyspace}: VTGate names no shard that serves")


def cascades(at: KeyspaceSql) -> list[Cascade]:
    """List the foreign keys that change rows without any event in a stream."""
    mode = vschema.keyspaces(at.sql).get(at.keyspace)
    if mode is not None and mode.foreign_keys == "managed":
        return []
    every = (
        Cascade.of(
            text(row["child"]),
            text(row["parent"]),
            delete=text(row["on_delete"]),
            update=text(row["on_update"]),
        )
        for row in at.anywhere().query(_RULES, at.keyspace)
    )
    found = [cascade for cascade in every if cascade.rules]
    unlogged = any(_cascades_below_the_binlog(at.on(shard)) for shard in shards(at) if found)
    return found if unlogged else []


def _cascades_below_the_binlog(sql: Sql) -> bool:
    rows = sql.query(f"show global variables like '{_NATIVE}'")
    values = {text(row["Variable_name"]): text(row["Value"]) for row in rows}
    return values.get(_NATIVE, "ON") != "OFF"


def column_charsets(at: KeyspaceSql, shard: str, table: str) -> dict[str, str]:
    """Return the charsets of a table's text columns, as they are now on a shard's MySQL.

    Raises:
        RetriableError: the shard has no tablet of this type.
    """
    found = {text(r["name"]): text(r["charset"]) for r in at.on(shard).query(_CHARSETS, table)}
    return {name: charset for name, charset in found.items() if charset}


def texts(at: KeyspaceSql) -> list[Text]:
    """List the columns that have a collation."""
    names = ("table_name", "column_name", "column_type", "charset", "collation")
    rows = at.anywhere().query(_TEXTS, at.keyspace)
    return [Text(*(text(row[name]) for name in names)) for row in rows]


def unique_keys(at: KeyspaceSql) -> dict[str, tuple[Key, ...]]:
    """Return the keys that identify a table's rows within a shard, by table, best first.

    The primary key is best, then NOT NULL unique keys of whole columns, fewest columns first.
    """
    found: dict[str, tuple[Key, ...]] = {}
    for table, rows in by_table(at.anywhere().query(_INDEXES, at.keyspace)).items():
        keys: list[tuple[bool, int, str, Key]] = []
        for index, group in groupby(rows, key=itemgetter("index_name")):
            parts = list(group)
            primary = index == "PRIMARY"
            if primary or all(_identifies(part) for part in parts):
                names = tuple(str(part["column_name"]) for part in parts)
                keys.append((not primary, len(names), str(index), names))
        found[table] = tuple(key[-1] for key in sorted(keys))
    return found


def _identifies(part: SqlRow) -> bool:
    """Return whether a part of a unique index is a whole column that is never NULL."""
    return (
        part["nullable"] != "YES" and part["sub_part"] is None and part["column_name"] is not None
    )


def by_table(rows: Iterable[SqlRow]) -> dict[str, list[SqlRow]]:
    """Group rows by their table."""
    name = itemgetter("table_name")
    return {str(table): list(group) for table, group in groupby(sorted(rows, key=name), key=name)}


def not_resumable(at: KeyspaceSql) -> dict[str, str]:
    """Find the tables whose copies cannot be resumed by their key; map each to the reason."""
    sql = at.anywhere()
    keys: dict[str, dict[str, KeyPart]] = {}
    for row in sql.query(_KEY_COLUMNS, at.keyspace):
        part = KeyPart(text(row["column_name"]), text(row["column_type"]))
        keys.setdefault(text(row["table_name"]), {})[part.column] = part
    parts = sql.query(_INDEXES, at.keyspace)
    primary = {row["table_name"] for row in parts if row["index_name"] == "PRIMARY"}
    for row in parts:
        key = keys.get(text(row["table_name"]), {})
        column = text(row["column_name"])
        chosen = row["index_name"] == "PRIMARY" or row["table_name"] not in primary
        if chosen and column in key:
            prefix, descending = row["sub_part"] is not None, row["direction"] == "D"
            key[column] = replace(key[column], prefix=prefix, descending=descending)
    found = {table: why_not_resumable([*key.values()]) for table, key in keys.items()}
    return {table: why for table, why in found.items() if why}


def routed(at: KeyspaceSql, tables: Iterable[str]) -> dict[str, str]:
    """Find the tables whose queries VTGate sends to another keyspace; map each to that keyspace.

    MoveTables routes them to the source until traffic is switched, and to the target afterwards.
    This only asks for plans and executes nothing. A plan covers many tables; if it names another
    keyspace, each table is planned alone. Tables that cannot be planned are left out.
    """
    names = list(tables)
    at.sql.use(at.keyspace)
    found: dict[str, str] = {}
    for start in range(0, len(names), _TABLES_AT_ONCE):
        some = names[start : start + _TABLES_AT_ONCE]
        if _planned(at, some) == {at.keyspace}:
            continue
        for name in some:
            # A reference table may be planned where its neighbours are, so plan each alone.
            elsewhere = _planned(at, [name]) - {at.keyspace}
            found.update((name, other) for other in elsewhere)
    return found


def _planned(at: KeyspaceSql, tables: Iterable[str]) -> set[str]:
    """Return the keyspaces that a query over tables would go to; none if it has no plan."""
    selects = (f"select 1 from {quote(at.keyspace)}.{quote(table)}" for table in tables)  # noqa: S608
    try:
        [plan] = at.sql.column("vexplain plan " + " union all ".join(selects))
    except RequestError:
        return set()
    return set(_keyspaces(json.loads(plan)))


def _keyspaces(plan: Mapping[str, Any]) -> Iterator[str]:
    if "Keyspace" in plan:
        yield plan["Keyspace"]["Name"]
    for part in plan.get("Inputs", ()):
        yield from _keyspaces(part)
