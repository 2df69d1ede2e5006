"""A consumer of Arrow batches made for being killed: rows and state in one transaction of SQLite.

So nothing comes again after a kill, and the replica notes what looks as if it did: once a table's
copy is finished, a copied row, an insert of a row that is there, and a change of one that is not.
(A change from the time of the copy may look so, too: the copied row may already have it.)
Arguments: HOST:GRPC:MYSQL FILE KEYSPACE.TABLE:KEY,KEY...
"""

from __future__ import annotations

import json
import sqlite3
import sys

from tap_vitess.vstream import ArrowBatch, TableCopied, TableRows, Vitess, consume

TABLES = """
create table if not exists rows (name, key, version, shard, row);
create index if not exists rows_of_keys on rows (name, key);
create table if not exists copied (name, version);
create table if not exists odd (name, key, operation);
create table if not exists state (id integer primary key, state);
create table if not exists starts (id integer primary key)
"""


class Replica:
    """The database: `flush` begins a transaction, `save` commits it."""

    def __init__(self, path: str, keys: dict[str, list[str]]) -> None:
        """Open the database; `keys` are the key columns by table."""
        self._keys = keys
        self._database = sqlite3.connect(path, timeout=30)
        self._database.executescript(TABLES)
        self._database.execute("insert into starts default values")
        self._database.commit()

    def load(self) -> str | None:
        """Return the state."""
        return next((state for (state,) in self._database.execute("select state from state")), None)

    def save(self, state: str) -> None:
        """Commit the rows and the state that covers them."""
        self._database.execute("insert or replace into state values (1, ?)", [state])
        self._database.commit()

    def close(self) -> None:
        """Undo what no state covers."""
        self._database.rollback()

    def flush(self, batch: ArrowBatch) -> None:
        """Apply a batch."""
        for item in batch.items:
            if isinstance(item, TableRows):
                self._apply(item)
            elif isinstance(item, TableCopied):
                finished = item.name, item.version
                self._database.execute("delete from rows where name = ? and version < ?", finished)
                self._database.execute("insert into copied values (?, ?)", finished)

    def _apply(self, item: TableRows) -> None:
        found = "select count(*) from copied where name = ? and version = ?"
        [copied] = self._database.execute(found, (item.name, item.version)).fetchone()
        for row in item.rows.to_pylist():
            own = {name: row.pop(name) for name in [*row] if name.startswith("_")}
            operation, version = own["_operation"], own["_version"]
            assert version == item.version
            where = item.name, json.dumps([row[name] for name in self._keys[item.name]])
            gone = self._database.execute("delete from rows where name = ? and key = ?", where)
            if gone.rowcount > 1 or (copied and gone.rowcount != (operation in CHANGES)):
                self._database.execute("insert into odd values (?, ?, ?)", (*where, operation))
            if operation != "delete":
                text = json.dumps(row, default=str)
                values = *where, version, own["_shard"], text
                self._database.execute("insert into rows values (?, ?, ?, ?, ?)", values)


CHANGES = {"update", "delete"}


def main() -> None:
    """Follow until SIGTERM."""
    host, grpc_port, mysql_port = sys.argv[1].split(":")
    named = [argument.split(":") for argument in sys.argv[3:]]
    replica = Replica(sys.argv[2], {name: columns.split(",") for name, columns in named})
    tables = {name: dict for name, _ in named}
    consume(
        Vitess(host, int(grpc_port), int(mysql_port)),
        tables,
        replica.flush,
        replica,
        rows="arrow",
        batch_rows=300,
        batch_seconds=0.1,
    )


if __name__ == "__main__":
    main()
