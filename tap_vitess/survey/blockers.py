"""What may hold up a stream or a copy, by SQL: readers, locks, throttlers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tap_vitess.survey.facts import BinlogReader, LockWait, Throttling
from tap_vitess.survey.keyspace import KeyspaceSql, shards
from tap_vitess.vtgate.mysql import text

_READERS = """
select id as id, time as seconds, info as statement from information_schema.processlist
where command like 'Binlog Dump%' or info like 'select /*+ MAX_EXECUTION_TIME(%'
"""
_LOCK_REQUESTS = """
select info as info, time as seconds from information_schema.processlist
where state = 'Waiting for table metadata lock'
"""
# A transaction that only reads does not block LOCK TABLES ... READ.
_WRITERS = """
select trx_started as since, trx_mysql_thread_id as thread from information_schema.innodb_trx
where trx_tables_locked > 0 or trx_rows_modified > 0 order by trx_started
"""
_ALWAYS_THROTTLED = "always-throttled-app"  # listed everywhere


def readers(at: KeyspaceSql, names: Iterable[str]) -> list[BinlogReader]:
    """List the connections that read some shards' MySQL for streams or copies, of any client."""
    return [
        BinlogReader(shard, int(row["id"]), int(row["seconds"] or 0), text(row["statement"]))
        for shard in names
        for row in at.on(shard).query(_READERS)
    ]


def lock_waits(at: KeyspaceSql, table: str) -> list[LockWait]:
    """Find the shards where a table's copy waits for its lock, and what blocks it."""
    found = []
    for shard in shards(at):
        sql = at.on(shard)
        waiting = [
            int(row["seconds"])
            for row in sql.query(_LOCK_REQUESTS)
            if text(row["info"]).replace("`", "").lower() == f"lock tables {table} read".lower()
        ]
        if waiting:
            writers = sql.query(_WRITERS)
            oldest: Mapping[str, Any] = writers[0] if writers else {"since": "", "thread": 0}
            since, thread = str(oldest["since"]), int(oldest["thread"])
            found.append(LockWait(shard, table, max(waiting), len(writers), since, thread))
    return found


def throttling(at: KeyspaceSql, shard: str) -> Throttling:
    """Ask a shard's primary about its throttler; the statements need workload oltp.

    Raises:
        VitessError: the shard has no primary, or VTGate does not know the statement.
    """
    sql = at.sql
    sql.use(f"{at.keyspace}:{shard}@primary")
    sql.query("set workload = 'oltp'")
    try:
        status = sql.query("show vitess_throttler status")
        apps = sql.query("show vitess_throttled_apps")
    finally:
        sql.query("set workload = 'olap'")
    enabled = any(int(row["enabled"]) for row in status)
    return Throttling(shard, enabled, {text(row["app"]): float(row["ratio"]) for row in apps})


def throttled(at: KeyspaceSql) -> dict[str, list[str]]:
    """Return the apps that are throttled on each shard; shards without any are left out.

    Raises:
        VitessError: see `throttling`.
    """
    found = [throttling(at, shard) for shard in shards(at)]
    held = {t.shard: sorted(t.apps.keys() - {_ALWAYS_THROTTLED}) for t in found if t.enabled}
    return {shard: apps for shard, apps in held.items() if apps}
