"""What SQL tells about a keyspace at this moment: positions, binlogs, tablets, throttling.

What surprised us. `show vitess_shards` names the shards that serve; old shards of a reshard are
not among them, and are still there. A shard that does not exist and one without a tablet of the
type asked for give the same error (1105), at once. LIKE in SHOW is a pattern, so it is not used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tap_vitess.config import Config
from tap_vitess.errors import GtidError, RequestError, RetriableError
from tap_vitess.protocol.gtid import NO_GTIDS, GtidSet
from tap_vitess.protocol.keys import KeyPart, why_not_resumable
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey import vschema
from tap_vitess.survey.cascades import Cascade
from tap_vitess.survey.facts import BinlogReader, LockWait, ShardFacts, Tablet, Text, Throttling
from tap_vitess.vtgate.mysql import Sql, connect, quote

# SHOW and not @@global: MySQL 5.7 lacks some of them, and would refuse the whole statement. But not
# for GTID sets: SHOW cuts a value at 1024 characters.
_VARIABLES = """
show global variables where variable_name in ('binlog_row_image', 'binlog_row_value_options',
'binlog_format', 'binlog_expire_logs_seconds', 'expire_logs_days',
'version', 'gtid_mode')
"""
_GTIDS = "select @@global.gtid_executed as executed, @@global.gtid_purged as purged"
# The keyspace's own database only: a shard's MySQL has Vitess' and its own beside it.
_ROW_COUNTS = """
select table_name as table_name, table_rows as row_count from information_schema.tables
where table_schema = database()
"""
# MySQL 5.7 has no indexes on expressions, and no such column.
_EXPRESSIONS = """
select index_name as index_name, expression as expression from information_schema.statistics
where table_schema = %s and table_name = %s
"""
# Of a view MySQL tells what it reads only to those who may see that.
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
_UNIQUE_KEYS = """
select table_name as table_name, index_name as index_name, column_name as column_name,
       sub_part as sub_part, collation as direction
from information_schema.statistics where table_schema = %s and non_unique = 0
"""
_CHARSETS = """
select column_name as name, character_set_name as charset from information_schema.columns
where table_schema = database() and table_name = %s
"""
_LOCK_REQUESTS = """
select info as info, time as seconds from information_schema.processlist
where state = 'Waiting for table metadata lock'
"""
# What only reads holds up no LOCK TABLES ... READ.
_WRITERS = """
select trx_started as since, trx_mysql_thread_id as thread from information_schema.innodb_trx
where trx_tables_locked > 0 or trx_rows_modified > 0 order by trx_started
"""
_DAY = 86400


def server_version(sql: Sql) -> tuple[int, int, int] | None:
    """Ask for VTGate's version; None when it does not tell one."""
    text = str(next(iter(sql.query("select @@version_comment")[0].values())))
    match = re.search(r"Version: (\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def shards(sql: Sql, keyspace: str) -> list[str]:
    """Name the shards that serve a keyspace, sorted."""
    names = [str(next(iter(row.values()))) for row in sql.query("show vitess_shards")]
    parts = [name.split("/", 1) for name in names]
    return sorted(shard for name, shard in parts if name == keyspace)


def position(sql: Sql, keyspace: str, tablet_type: str) -> Vgtid:
    """Ask where a keyspace is now, all serving shards at once.

    Raises:
        RetriableError: a shard has no tablet (yet), as for a while after a reshard.
    """
    sql.use(f"{keyspace}@{tablet_type.lower()}")
    rows = sql.query(f"show global gtid_executed from {quote(keyspace)}")
    texts = {str(row["shard"]): str(row["gtid_executed"]) for row in rows}
    found = {shard: GtidSet.parse(text, f"{keyspace}/{shard}") for shard, text in texts.items()}
    missing = set(shards(sql, keyspace)) ^ found.keys()
    if missing or not found:
        raise RetriableError(
            f"{keyspace}: VTGate told the position of {', '.join(found) or 'no shard'}, "
            f"which are not the shards that serve ({', '.join(missing)} differ)"
        )
    return Vgtid(keyspace, found)


def shard_facts(sql: Sql, keyspace: str, shard: str, tablet_type: str) -> ShardFacts:
    """Ask one shard's MySQL about its binlogs.

    Raises:
        RetriableError: there is no such shard, or it has no tablet of this type.
        GtidError: its MySQL gives transactions no GTIDs, or such as Vitess cannot read.
    """
    where = f"{keyspace}/{shard}"
    sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
    rows = (tuple(row.values()) for row in sql.query(_VARIABLES))
    values = {_text(name): _text(value) for name, value in rows}
    gtids = sql.query("select @@global.gtid_executed as executed, @@global.gtid_purged as purged")[
        0
    ]
    if (mode := values.get("gtid_mode", "ON").upper()) != "ON":
        raise GtidError(f"{where}: MySQL runs with gtid_mode={mode}; {NO_GTIDS}")
    clock = next(iter(sql.query("select unix_timestamp(now(6))")[0].values()))
    days = int(values.get("expire_logs_days") or 0)
    return ShardFacts(
        shard=shard,
        executed=GtidSet.parse(_text(gtids["executed"]), where),
        purged=GtidSet.parse(_text(gtids["purged"]), where),
        row_image=values.get("binlog_row_image", "FULL").upper(),
        row_value_options=values.get("binlog_row_value_options", "").upper(),
        binlog_format=values.get("binlog_format", "ROW").upper(),
        binlog_expire_seconds=int(values.get("binlog_expire_logs_seconds") or 0) or days * _DAY,
        mysql_version=values.get("version", ""),
        clock=float(clock),
    )


def has_table(sql: Sql, keyspace: str, table: str, tablet_type: str) -> bool:
    """Tell whether the MySQL of every shard has a table.

    Raises:
        RetriableError: a shard has no tablet of this type.
    """
    for shard in shards(sql, keyspace):
        sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
        if table not in {_text(row["table_name"]) for row in sql.query(_ROW_COUNTS)}:
            return False
    return True


def expression_indexes(sql: Sql, keyspace: str, table: str) -> list[str]:
    """Name a table's indexes on expressions, sorted."""
    rows = sql.query(_EXPRESSIONS, keyspace, table)
    return sorted({_text(row["index_name"]) for row in rows if row["expression"] is not None})


def effects(sql: Sql, keyspace: str, tablet_type: str) -> list[tuple[str, str]]:
    """List what else a statement changes than the tables it names; see `statements.Effects`.

    Raises:
        RetriableError: there is no tablet of this type.
    """
    for shard in shards(sql, keyspace):
        sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
        rows = (row for statement in _EFFECTS for row in sql.query(statement))
        return [(_text(row["name"]), _text(row["text"])) for row in rows]
    raise RetriableError(f"{keyspace}: VTGate names no shard that serves")


_READERS = """
select id as id, time as seconds, info as statement from information_schema.processlist
where command like 'Binlog Dump%' or info like 'select /*+ MAX_EXECUTION_TIME(%'
"""


def readers(sql: Sql, keyspace: str, names: Iterable[str], tablet_type: str) -> list[BinlogReader]:
    """List what reads the MySQL of some shards for a stream or a copy, of any client."""
    found: list[BinlogReader] = []
    for shard in names:
        sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
        found += [
            BinlogReader(shard, int(row["id"]), int(row["seconds"] or 0), _text(row["statement"]))
            for row in sql.query(_READERS)
        ]
    return found


def unlogged_cascades(sql: Sql, keyspace: str, tablet_type: str) -> list[Cascade]:
    """List the foreign keys by which rows change that no stream tells of."""
    mode = vschema.keyspaces(sql).get(keyspace)
    if mode is not None and mode.foreign_keys == "managed":
        return []
    rows = sql.query(_RULES, keyspace)
    every = (
        Cascade.of(
            _text(row["child"]),
            _text(row["parent"]),
            delete=_text(row["on_delete"]),
            update=_text(row["on_update"]),
        )
        for row in rows
    )
    found = [cascade for cascade in every if cascade.rules]
    targets = (f"{keyspace}:{s}@{tablet_type.lower()}" for s in shards(sql, keyspace) if found)
    return found if any(_cascades_below_the_binlog(sql, target) for target in targets) else []


def _cascades_below_the_binlog(sql: Sql, target: str) -> bool:
    sql.use(target)
    rows = sql.query(f"show global variables like '{_NATIVE}'")
    values = {_text(row["Variable_name"]): _text(row["Value"]) for row in rows}
    return values.get(_NATIVE, "ON") != "OFF"


def column_charsets(
    sql: Sql, keyspace: str, shard: str, table: str, tablet_type: str
) -> dict[str, str]:
    """Name the charset of each column of a table that has one, as a shard's MySQL has it now.

    Raises:
        RetriableError: the shard has no tablet of this type.
    """
    sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
    found = {_text(r["name"]): _text(r["charset"]) for r in sql.query(_CHARSETS, table)}
    return {name: charset for name, charset in found.items() if charset}


def tablets(sql: Sql, keyspace: str) -> list[Tablet]:
    """List the tablets VTGate sees in a keyspace."""
    return [tablet for tablet in all_tablets(sql) if tablet.keyspace == keyspace]


def all_tablets(sql: Sql) -> list[Tablet]:
    """List the tablets VTGate sees: those of the cells it watches, whether they serve or not."""
    names = ("Cell", "Keyspace", "Shard", "TabletType", "State", "Alias", "Hostname")
    rows = sql.query("show vitess_tablets")
    return [Tablet(*(str(row[name]) for name in names)) for row in rows]


def row_counts(
    sql: Sql, keyspace: str, tables: Collection[str], tablet_type: str = "PRIMARY"
) -> dict[str, int]:
    """Add up what each shard's InnoDB takes for the number of a table's rows.

    Asked of the keyspace as a whole, VTGate would answer for one of its shards.
    """
    found: Counter[str] = Counter()
    for shard in shards(sql, keyspace):
        sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
        for row in sql.query(_ROW_COUNTS):
            if (name := _text(row["table_name"])) in tables:
                found[name] += int(row["row_count"] or 0)
    return dict(found)


def lock_waits(sql: Sql, keyspace: str, table: str, tablet_type: str) -> list[LockWait]:
    """Find the shards on which the copy of a table waits for its lock, and what holds it up."""
    found = []
    for shard in shards(sql, keyspace):
        sql.use(f"{keyspace}:{shard}@{tablet_type.lower()}")
        waiting = [
            int(row["seconds"])
            for row in sql.query(_LOCK_REQUESTS)
            if _text(row["info"]).replace("`", "").lower() == f"lock tables {table} read".lower()
        ]
        if waiting:
            writers = sql.query(_WRITERS)
            oldest: Mapping[str, Any] = writers[0] if writers else {"since": "", "thread": 0}
            since, thread = str(oldest["since"]), int(oldest["thread"])
            found.append(LockWait(shard, table, max(waiting), len(writers), since, thread))
    return found


def not_resumable(sql: Sql, keyspace: str) -> dict[str, str]:
    """Find the tables whose copies cannot be resumed by their key; map each to why."""
    keys: dict[str, dict[str, KeyPart]] = {}
    for row in sql.query(_KEY_COLUMNS, keyspace):
        part = KeyPart(_text(row["column_name"]), _text(row["column_type"]))
        keys.setdefault(_text(row["table_name"]), {})[part.column] = part
    parts = sql.query(_UNIQUE_KEYS, keyspace)
    primary = {row["table_name"] for row in parts if row["index_name"] == "PRIMARY"}
    for row in parts:
        key = keys.get(_text(row["table_name"]), {})
        column = _text(row["column_name"])
        chosen = row["index_name"] == "PRIMARY" or row["table_name"] not in primary
        if chosen and column in key:
            prefix, descending = row["sub_part"] is not None, row["direction"] == "D"
            key[column] = replace(key[column], prefix=prefix, descending=descending)
    found = {table: why_not_resumable([*key.values()]) for table, key in keys.items()}
    return {table: why for table, why in found.items() if why}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


_ALWAYS_THROTTLED = "always-throttled-app"  # is listed everywhere


class Survey:
    """Asks about one keyspace; each question opens a connection of its own.

    A run may last for hours, and a connection kept open would not.
    """

    def __init__(self, config: Config, keyspace: str) -> None:
        self._config = config
        self.keyspace = keyspace

    def position(self) -> Vgtid:
        """Ask where the keyspace is now; see `position`."""
        with connect(self._config) as sql:
            return position(sql, self.keyspace, self._config.tablet_type)

    def facts(self, names: Iterable[str]) -> dict[str, ShardFacts]:
        """Ask the MySQL of each shard named; those that do not answer are left out."""
        found: dict[str, ShardFacts] = {}
        with connect(self._config) as sql:
            for shard in names:
                try:
                    found[shard] = shard_facts(sql, self.keyspace, shard, self._config.tablet_type)
                except RetriableError:
                    continue
        return found

    def version(self) -> tuple[int, int, int] | None:
        """Ask for VTGate's version."""
        with connect(self._config) as sql:
            return server_version(sql)

    def throttled(self) -> dict[str, list[str]]:
        """Name the apps that are held back on each shard; shards with none are left out."""
        with connect(self._config) as sql:
            found = [throttling(sql, self.keyspace, shard) for shard in shards(sql, self.keyspace)]
        held = {t.shard: sorted(t.apps.keys() - {_ALWAYS_THROTTLED}) for t in found if t.enabled}
        return {shard: apps for shard, apps in held.items() if apps}

    def routed(self, tables: Iterable[str]) -> dict[str, str]:
        """Find the tables that VTGate routes to another keyspace; see `routed`."""
        with connect(self._config) as sql:
            return routed(sql, self.keyspace, tables)

    def vindexes(self, tables: Iterable[str]) -> dict[str, str | None]:
        """Ask for the tables' primary vindexes; see `vschema.primary_vindexes`."""
        with connect(self._config) as sql:
            return vschema.primary_vindexes(sql, self.keyspace, tables)

    def has_table(self, table: str) -> bool:
        """Tell whether every shard has a table; see `has_table`."""
        with connect(self._config) as sql:
            return has_table(sql, self.keyspace, table, self._config.tablet_type)

    def expression_indexes(self, table: str) -> list[str]:
        """Name a table's indexes on expressions."""
        with connect(self._config) as sql:
            sql.use(f"{self.keyspace}@{self._config.tablet_type.lower()}")
            return expression_indexes(sql, self.keyspace, table)

    def effects(self) -> list[tuple[str, str]]:
        """List what else a statement changes than the tables it names; see `effects`."""
        with connect(self._config) as sql:
            return effects(sql, self.keyspace, self._config.tablet_type)

    def cascades(self) -> list[Cascade]:
        """List the foreign keys by which rows change unseen; see `unlogged_cascades`."""
        with connect(self._config) as sql:
            return unlogged_cascades(sql, self.keyspace, self._config.tablet_type)

    def column_charsets(self, shard: str, table: str) -> dict[str, str]:
        """Name the charsets of a table's columns on a shard; see `column_charsets`."""
        with connect(self._config) as sql:
            return column_charsets(sql, self.keyspace, shard, table, self._config.tablet_type)

    def row_counts(self, tables: Iterable[str]) -> dict[str, int]:
        """Estimate how many rows tables have; see `row_counts`."""
        with connect(self._config) as sql:
            return row_counts(sql, self.keyspace, frozenset(tables), self._config.tablet_type)

    def readers(self, names: Iterable[str]) -> list[BinlogReader]:
        """List what reads the MySQL of some shards; see `readers`."""
        with connect(self._config) as sql:
            return readers(sql, self.keyspace, names, self._config.tablet_type)

    def lock_waits(self, table: str) -> list[LockWait]:
        """Find what holds up the copy of a table; see `lock_waits`."""
        with connect(self._config) as sql:
            return lock_waits(sql, self.keyspace, table, self._config.tablet_type)

    def not_resumable(self) -> dict[str, str]:
        """Find the tables whose copies cannot be resumed; see `not_resumable`."""
        with connect(self._config) as sql:
            sql.use(f"{self.keyspace}@{self._config.tablet_type.lower()}")
            return not_resumable(sql, self.keyspace)

    def tablets(self) -> list[Tablet]:
        """List the keyspace's tablets."""
        with connect(self._config) as sql:
            return tablets(sql, self.keyspace)


# What the doctor asks beside.


_TEXTS = """
select table_name as table_name, column_name as column_name, column_type as column_type,
       character_set_name as charset, collation_name as collation
from information_schema.columns where table_schema = %s and collation_name is not null
"""
_TABLES_AT_ONCE = 50


def throttling(sql: Sql, keyspace: str, shard: str) -> Throttling:
    """Ask a shard's primary about its throttler; it knows the statements in workload oltp only.

    Raises:
        VitessError: the shard has no primary, or VTGate does not know the statement.
    """
    sql.use(f"{keyspace}:{shard}@primary")
    sql.query("set workload = 'oltp'")
    try:
        status = sql.query("show vitess_throttler status")
        apps = sql.query("show vitess_throttled_apps")
    finally:
        sql.query("set workload = 'olap'")
    enabled = any(int(row["enabled"]) for row in status)
    return Throttling(shard, enabled, {_text(row["app"]): float(row["ratio"]) for row in apps})


def texts(sql: Sql, keyspace: str) -> list[Text]:
    """List the columns that have a collation."""
    names = ("table_name", "column_name", "column_type", "charset", "collation")
    return [Text(*(_text(row[name]) for name in names)) for row in sql.query(_TEXTS, keyspace)]


def routed(sql: Sql, keyspace: str, tables: Iterable[str]) -> dict[str, str]:
    """Find the tables whose queries VTGate sends to another keyspace; map each to that keyspace.

    MoveTables does so: towards the source until traffic is switched, towards the target then.
    Nothing but the plan of a query tells; none is executed. Many tables are planned at once, and
    one by one only where that is not plain. A table that no query can be planned for is left out.
    """
    names = list(tables)
    sql.use(keyspace)
    found: dict[str, str] = {}
    for start in range(0, len(names), _TABLES_AT_ONCE):
        some = names[start : start + _TABLES_AT_ONCE]
        if _planned(sql, keyspace, some) == {keyspace}:
            continue
        for name in some:
            # A reference table may be planned where its neighbours are, so each is asked alone.
            elsewhere = _planned(sql, keyspace, [name]) - {keyspace}
            found.update((name, other) for other in elsewhere)
    return found


def _planned(sql: Sql, keyspace: str, tables: Iterable[str]) -> set[str]:
    """Name the keyspaces that a query over tables would go to; none when it has no plan."""
    selects = (f"select 1 from {quote(keyspace)}.{quote(table)}" for table in tables)  # noqa: S608
    try:
        rows = sql.query("vexplain plan " + " union all ".join(selects))
    except RequestError:
        return set()
    return set(_keyspaces(json.loads(_text(next(iter(rows[0].values()))))))


def _keyspaces(plan: Mapping[str, Any]) -> Iterator[str]:
    if "Keyspace" in plan:
        yield plan["Keyspace"]["Name"]
    for part in plan.get("Inputs", ()):
        yield from _keyspaces(part)
