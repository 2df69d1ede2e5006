"""Keeps a DuckDB table in step with shop.orders: HOST:GRPC_PORT:MYSQL_PORT FILE"""

import sys
from dataclasses import astuple, dataclass
from datetime import datetime
from decimal import Decimal

import duckdb

from tap_vitess.vstream import Batch, Change, TableCopied, Vitess, consume, rows_as


@dataclass
class Order:
    id: int
    customer_id: int
    status: str
    total: Decimal
    placed_at: datetime


db = duckdb.connect(sys.argv[2])
db.execute("create table if not exists state (id integer primary key, state text)")
db.execute(
    "create table if not exists orders (id ubigint, customer_id ubigint, status text,"
    " total decimal(12,2), placed_at timestamp, version ubigint)"
)


def flush(batch: Batch) -> None:
    newest: dict[int, Change[Order]] = {change.key["id"]: change for change in batch.changes}
    rows = [(*astuple(c.after), c.version) for c in newest.values() if c.after is not None]
    db.begin()
    db.execute("delete from orders where id in (select unnest(?))", [list(newest)])
    if rows:
        db.executemany("insert into orders values (?, ?, ?, ?, ?, ?)", rows)
    for item in batch.items:
        if isinstance(item, TableCopied):  # rows that were not copied are gone
            db.execute("delete from orders where version < ?", [item.version])
    db.commit()


class State:  # is saved after the rows: after a kill in between they come again
    def load(self) -> str | None:
        return next((state for (state,) in db.execute("select state from state").fetchall()), None)

    def save(self, state: str) -> None:
        db.execute("insert or replace into state values (1, ?)", [state])

    def close(self) -> None:
        db.close()


host, grpc_port, mysql_port = sys.argv[1].split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))
order = rows_as(Order, unknown="ignore")  # the other columns are not needed
consume(vitess, {"shop.orders": order}, flush, State())
