"""A consumer made for being killed: rows into SQLite in `flush`, then the state into Vitess.

Between the two it is another transaction in another database, so rows may be stored of which no
state tells. Arguments: HOST:GRPC:MYSQL FILE KEYSPACE STATE_TABLE TABLE...
"""

from __future__ import annotations

import json
import sqlite3
import sys

from tap_vitess.vstream import Batch, Change, Vitess, VitessTableState, consume


def main() -> None:
    """Follow until SIGTERM."""
    host, grpc_port, mysql_port = sys.argv[1].split(":")
    vitess = Vitess(host, int(grpc_port), int(mysql_port))
    database = sqlite3.connect(sys.argv[2])
    database.execute(
        "create table if not exists rows (name, key, version, row, primary key (name, key))"
    )

    def flush(batch: Batch) -> None:
        for item in batch.items:
            if not isinstance(item, Change):
                where = "name = ? and version < ?"
                database.execute(f"delete from rows where {where}", (item.name, item.version))
                continue
            key = json.dumps(list(item.key.values()), default=str)
            if item.after is None:
                database.execute("delete from rows where name = ? and key = ?", (item.name, key))
            else:
                row = json.dumps(item.after, default=str)
                sql = "insert or replace into rows values (?, ?, ?, ?)"
                database.execute(sql, (item.name, key, item.version, row))
        database.commit()

    state = VitessTableState(vitess, sys.argv[3], "replica", table=sys.argv[4])
    tables = dict.fromkeys(sys.argv[5:], dict)
    consume(vitess, tables, flush, state, batch_rows=300, batch_seconds=0.1)


if __name__ == "__main__":
    main()
