"""Keeps SQLite in step, however it is killed: HOST:GRPC_PORT:MYSQL_PORT FILE TABLE..."""

import json
import sqlite3
import sys
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal

from tap_vitess.vstream import Batch, Change, Vitess, consume

for kind in (Decimal, date, datetime, timedelta):  # types that SQLite lacks become text
    sqlite3.register_adapter(kind, str)
for container in (dict, list):
    sqlite3.register_adapter(container, lambda value: json.dumps(value, default=str))
db = sqlite3.connect(sys.argv[2])  # begins a transaction with the first change
db.execute("create table if not exists _state (id integer primary key, state)")


def each(columns: Iterable[str], form: str = '"{}"', between: str = ", ") -> str:
    return between.join(map(form.format, columns))


def flush(batch: Batch) -> None:
    for item in batch.items:
        table = f'"{item.name}"'
        known = [column[1] for column in db.execute(f"pragma table_info({table})")]
        if isinstance(item, Change):
            row, key = {**(item.after or item.key), "_v": item.version}, each(item.key)
            if not known:
                db.execute(f"create table {table} ({key}, _v, primary key ({key}))")
            for name in row.keys() - {*known, *item.key, "_v"}:
                db.execute(f'alter table {table} add "{name}"')
            where = each(item.key, '"{}" = ?', " and ")
            db.execute(f"delete from {table} where {where}", [*item.key.values()])
            if item.after is not None:
                insert = f"insert into {table} ({each(row)}) values ({each(row, '?')})"
                db.execute(insert, [*row.values()])
        elif known:  # a copy is finished: rows that were not copied are gone
            db.execute(f"delete from {table} where _v < ?", [item.version])


class State:  # is in the database, too, and committed together with its rows
    def load(self) -> str | None:
        return next((state for (state,) in db.execute("select state from _state")), None)

    def save(self, state: str) -> None:
        db.execute("insert or replace into _state values (1, ?)", [state])
        db.commit()

    def close(self) -> None:
        db.rollback()


host, grpc_port, mysql_port = sys.argv[1].split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))
consume(vitess, dict.fromkeys(sys.argv[3:], dict), flush, State())
