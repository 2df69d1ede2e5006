"""A sharded cluster in memory: keyspaces, shards, tables, rows and each shard's binlog.

Guarantees: whatever changes rows goes through the binlog of the shards touched, one transaction
per shard; a snapshot's GTID is exact, because snapshot and binlog share one lock; nothing of a
failed call remains. Nothing here knows gRPC, SQL or sockets.

Surprising: an empty transaction follows a DDL, since a tablet notes the new schema in its own
tables, and a reshard leaves such transactions on both sides of the journal. The definition of a
table is kept with each change, because a row event has types and positions, but no names.
"""

import hashlib
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from tap_vitess.sandbox.schema import Column, Row, SortKey, Table

__all__ = [
    "Cluster",
    "Column",
    "Ddl",
    "DuplicateEntryError",
    "Journal",
    "NullError",
    "RowChange",
    "Shard",
    "ShardName",
    "Statement",
    "Table",
    "TableVersion",
    "Transaction",
    "UnknownColumnError",
    "key_range",
    "keyspace_id",
]

_NAMESPACE = uuid.UUID("6f1b1f0c-5a7e-4f0e-9a55-7a1f2d3c4b5a")
_DDL_TABLES = re.compile(
    r"\s*(?P<verb>create|alter|drop|truncate|rename)\s+(?:table\s+)?(?:if\s+(?:not\s+)?exists\s+)?"
    r"`?(?P<name>[^\s`(;]+)`?",
    re.IGNORECASE,
)
_RENAMED_COLUMN = re.compile(r"\brename\s+column\s+`?(\w+)`?\s+to\s+`?(\w+)`?", re.IGNORECASE)

ShardName = str


# A shard's MySQL variables about its binlogs.
_VARIABLES = {
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_value_options": "",
    "binlog_expire_logs_seconds": "259200",
    "expire_logs_days": "0",
    "gtid_mode": "ON",
    "version": "8.0.40",
}


class DuplicateEntryError(ValueError):
    """A row with that key exists."""


class UnknownColumnError(ValueError):
    """The table has no such column."""


class NullError(ValueError):
    """A NOT NULL column would be NULL."""


_RowKey = tuple[SortKey, int]


@dataclass(frozen=True)
class TableVersion:
    """A definition and its id in MySQL; a DDL changes the id, and each id gets a FIELD event."""

    id: int
    table: Table


@dataclass(frozen=True)
class RowChange:
    """An insert has no `before`, a delete no `after`."""

    before: Row | None
    after: Row | None


@dataclass(frozen=True)
class Statement:
    """The rows one statement changed in one table."""

    version: TableVersion
    changes: tuple[RowChange, ...]


@dataclass(frozen=True)
class Ddl:
    statement: str
    table: str | None  # None when the statement names none


@dataclass(frozen=True)
class Journal:
    """Marks where a reshard took over; `targets` are the new shards and their GTID sets."""

    id: int
    keyspace: str
    participants: tuple[ShardName, ...]
    targets: tuple[tuple[ShardName, str], ...]
    local_position: str


@dataclass(frozen=True)
class Transaction:
    """One binlog entry. Without statements, ddl and journal it wrote to other schemas only."""

    number: int
    timestamp: int
    statements: tuple[Statement, ...] = ()
    ddl: Ddl | None = None
    journal: Journal | None = None
    other: bool = False  # a statement outside of a transaction: VGTID, OTHER
    row_image: str = "FULL"  # MySQL's binlog_row_image when it was written
    text: str = ""  # the statement, if MySQL logged that and not the rows


@dataclass(frozen=True)
class Poison:
    """What no tablet can read or send; `kind` is one of `errors.POISONS`.

    table: it stops only streams of this table; None stops all.
    """

    kind: str
    table: str | None = None


@dataclass
class _ShardTable:
    version: TableVersion
    rows: dict[_RowKey, Row] = field(default_factory=dict)
    poisons: dict[SortKey, Poison] = field(default_factory=dict)  # rows that no copy can pass
    next_row: int = 0  # distinguishes equal rows of a table without any key

    def key_of(self, row: Row) -> _RowKey:
        table = self.version.table
        if table.identity:
            return table.sort_key(row), 0
        self.next_row += 1
        return table.sort_key(row), self.next_row

    def sorted(self) -> list[tuple[SortKey, Row]]:
        return [(key[0], self.rows[key]) for key in sorted(self.rows)]


@dataclass
class Shard:
    """A shard: its binlog is a list in which transaction n is at index n-1."""

    name: ShardName
    uuid: str
    tablet: str
    serving: bool = True
    binlog: list[Transaction] = field(default_factory=list)
    purged: int = 0  # the last transaction whose binlog is gone
    tables: dict[str, _ShardTable] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=lambda: dict(_VARIABLES))
    tablet_type: str = "PRIMARY"  # of its one tablet; SQL checks it, streams take any
    throttler: bool = False
    by_file: bool = (
        False  # vttablet runs with --db_flavor FilePos: VStream's positions are no GTIDs
    )
    throttled: dict[str, float] = field(default_factory=dict)  # app -> ratio; only SQL shows it
    poisons: dict[int, Poison] = field(default_factory=dict)  # transactions that stop streams
    # What VTGate silently opens again and again: statements of copies, or None for binlogs.
    circling: list[str | None] = field(default_factory=list)

    @property
    def executed(self) -> int:
        return len(self.binlog)

    def gtid_set(self, number: int) -> str:
        if not number or self.variables["gtid_mode"] == "OFF":
            return ""
        return f"{self.uuid}:1" if number == 1 else f"{self.uuid}:1-{number}"

    def covers(self, keyspace_id: bytes) -> bool:
        start, end = key_range(self.name)
        return start <= keyspace_id and (not end or keyspace_id < end)


@dataclass
class _Keyspace:
    name: str
    shards: dict[ShardName, Shard]
    tables: dict[str, TableVersion] = field(default_factory=dict)
    foreign_keys: str = "unmanaged"  # the VSchema's foreign_key_mode
    empty_vschema: bool = False

    @property
    def sharded(self) -> bool:
        """What the VSchema says; the only shard of an unsharded keyspace is not a key range."""
        return not self.empty_vschema and all("-" in name for name in self.shards)

    @property
    def serving(self) -> list[Shard]:
        return [shard for _, shard in sorted(self.shards.items()) if shard.serving]


class _Changes:
    """The open transaction: statements per shard, and how to undo them."""

    def __init__(self, keyspace: str) -> None:
        self.keyspace = keyspace
        self.statements: dict[ShardName, list[Statement]] = {}
        self._undo: list[tuple[dict[_RowKey, Row], _RowKey, Row | None]] = []

    def put(self, rows: dict[_RowKey, Row], key: _RowKey, row: Row | None) -> None:
        self._undo.append((rows, key, rows.get(key)))
        if row is None:
            del rows[key]
        else:
            rows[key] = row

    def note(self, shard: Shard, version: TableVersion, changes: list[RowChange]) -> None:
        if changes:
            statement = Statement(version, tuple(changes))
            self.statements.setdefault(shard.name, []).append(statement)

    @property
    def savepoint(self) -> int:
        return len(self._undo)

    def roll_back(self, savepoint: int = 0) -> None:
        while len(self._undo) > savepoint:
            rows, key, row = self._undo.pop()
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row


class Cluster:
    """Every method may be called from any thread."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.now = now
        # (keyspace, table) -> the keyspace that queries go to, by MoveTables' routing rules.
        self.routes: dict[tuple[str, str], str] = {}
        self._changed = threading.Condition(threading.RLock())
        self._version = 0
        self._keyspaces: dict[str, _Keyspace] = {}
        self._generations: Counter[tuple[str, ShardName]] = Counter()
        self._table_ids = 0
        self._journals = 0
        self._tablets = 99
        self._open: _Changes | None = None

    # Definitions

    def create_keyspace(
        self, keyspace: str, shards: Sequence[str], *, foreign_keys: str = "unmanaged"
    ) -> None:
        _check_cover(shards, [("", "")])
        with self._changed:
            if keyspace in self._keyspaces:
                raise ValueError(f"keyspace {keyspace} exists")
            made = {name: self._new_shard(keyspace, name) for name in shards}
            self._keyspaces[keyspace] = _Keyspace(keyspace, made, foreign_keys=foreign_keys)

    def create_table(self, keyspace: str, table: Table) -> None:
        """Creates the table as if it had always been there: without a DDL in the binlog."""
        with self._changed:
            space = self._keyspace(keyspace)
            if table.name in space.tables:
                raise ValueError(f"table {keyspace}.{table.name} exists")
            self._define(space, table)

    def ddl(self, keyspace: str, statement: str, new_table: Table | None) -> None:
        """Puts the statement into every shard's binlog and replaces the definition when given.

        Rows get NULL for new columns and lose dropped ones. TRUNCATE, DROP, RENAME and
        RENAME COLUMN are understood from the statement.
        """
        with self._changed:
            space = self._keyspace(keyspace)
            match = _DDL_TABLES.match(statement)
            name = match["name"].rpartition(".")[2].strip("`") if match else None
            verb = match["verb"].lower() if match else ""
            if verb == "drop" and name in space.tables and new_table is None:
                self._drop(space, name)
            if verb == "truncate" and name in space.tables:
                self._truncate(space, name)
            if verb == "rename" and name in space.tables and new_table is not None:
                self._rename(space, name, new_table.name)
            if new_table is not None:
                renamed = {new: old for old, new in _RENAMED_COLUMN.findall(statement)}
                self._define(space, new_table, renamed)
            for shard in space.serving:
                self._log(shard, ddl=Ddl(statement, name))
                self._log(shard)
            self._notify()

    # Writes

    def insert(self, keyspace: str, table: str, rows: Iterable[Mapping[str, bytes | None]]) -> None:
        """Inserts by one statement; columns left out are NULL."""
        with self.transaction(keyspace) as changes:
            space = self._keyspace(keyspace)
            version = self._version_of(space, table)
            done: dict[ShardName, list[RowChange]] = {}
            for given in rows:
                row = _complete(version.table, given)
                for shard in self._shards_of(space, version.table, row):
                    self._put_new(changes, shard, table, row)
                    done.setdefault(shard.name, []).append(RowChange(None, row))
            for name, row_changes in done.items():
                changes.note(space.shards[name], version, row_changes)

    def update(
        self,
        keyspace: str,
        table: str,
        key: Mapping[str, bytes],
        values: Mapping[str, bytes | None],
    ) -> None:
        """Updates the rows whose columns equal `key`; one that changes shard moves there."""
        self.update_many(keyspace, table, [(key, values)])

    def update_many(
        self,
        keyspace: str,
        table: str,
        updates: Iterable[tuple[Mapping[str, bytes | None], Mapping[str, bytes | None]]],
    ) -> int:
        """Updates by one statement and returns the number of rows changed."""
        with self.transaction(keyspace) as changes:
            space = self._keyspace(keyspace)
            version = self._version_of(space, table)
            stay: dict[ShardName, list[RowChange]] = {}
            leave: dict[ShardName, list[RowChange]] = {}
            arrive: dict[ShardName, list[RowChange]] = {}
            for key, values in updates:
                for shard, row_key, before in self._matching(space, table, key):
                    after = _complete(version.table, {**before, **values})
                    if after == before:
                        continue
                    shards = self._shards_of(space, version.table, after)
                    target = shard if shard in shards else shards[0]
                    changes.put(shard.tables[table].rows, row_key, None)
                    self._put_new(changes, target, table, after)
                    if target is shard:
                        stay.setdefault(shard.name, []).append(RowChange(before, after))
                    else:
                        leave.setdefault(shard.name, []).append(RowChange(before, None))
                        arrive.setdefault(target.name, []).append(RowChange(None, after))
            for part in (stay, leave, arrive):
                for name, row_changes in part.items():
                    changes.note(space.shards[name], version, row_changes)
            return sum(len(found) for part in (stay, leave) for found in part.values())

    def delete(self, keyspace: str, table: str, key: Mapping[str, bytes]) -> None:
        self.delete_many(keyspace, table, [key])

    def delete_many(
        self, keyspace: str, table: str, keys: Iterable[Mapping[str, bytes | None]]
    ) -> int:
        """Deletes by one statement and returns the number of rows gone."""
        with self.transaction(keyspace) as changes:
            space = self._keyspace(keyspace)
            version = self._version_of(space, table)
            gone: dict[ShardName, list[RowChange]] = {}
            for key in keys:
                for shard, row_key, before in self._matching(space, table, key):
                    changes.put(shard.tables[table].rows, row_key, None)
                    gone.setdefault(shard.name, []).append(RowChange(before, None))
            for name, row_changes in gone.items():
                changes.note(space.shards[name], version, row_changes)
            return sum(map(len, gone.values()))

    @contextmanager
    def transaction(self, keyspace: str, text: str = "") -> Iterator[_Changes]:
        """Groups the writes made inside into one transaction per shard; an error undoes all.

        With a text, it is logged as that statement, as in a session with binlog_format STATEMENT.
        """
        with self._changed:
            space = self._keyspace(keyspace)
            outer = self._open
            if outer is not None and outer.keyspace != keyspace:
                raise ValueError(f"the open transaction is one of {outer.keyspace}")
            changes = self._open = outer or _Changes(keyspace)
            savepoint = changes.savepoint
            done = False
            try:
                yield changes
                done = True
            finally:
                self._open = outer
                if not done:
                    changes.roll_back(savepoint)
            if outer is not None:
                return
            for name, statements in sorted(changes.statements.items()):
                self._log(
                    space.shards[name], statements=() if text else tuple(statements), text=text
                )
            self._notify()

    def other_write(self, keyspace: str, shard: ShardName) -> None:
        """A transaction that touches no user table."""
        with self._changed:
            self._log(self._shard(keyspace, shard))
            self._notify()

    # Operations

    def reshard(self, keyspace: str, source: Sequence[str], target: Sequence[str]) -> None:
        """Moves the rows of the source shards to new target shards and journals it."""
        with self._changed:
            space = self._keyspace(keyspace)
            old = [space.shards[name] for name in source]
            if not all(shard.serving for shard in old):
                raise ValueError("only serving shards can be resharded")
            if existing := set(target) & set(space.shards):
                raise ValueError(f"shards exist already: {sorted(existing)}")
            _check_cover(target, [key_range(name) for name in source])
            new = [self._new_shard(keyspace, name) for name in target]
            for name, version in space.tables.items():
                self._move_rows(old, new, name, version)
            self._journal(keyspace, old, new)
            for shard in old:
                shard.serving = False
            space.shards.update((shard.name, shard) for shard in new)
            for shard in new:
                self._log(shard)
                self._log(shard)
            self._notify()

    def poison(self, keyspace: str, shard: ShardName, kind: str, table: str | None = None) -> None:
        """Make the shard's last transaction stop all streams, or those of a table."""
        with self._changed:
            found = self._shard(keyspace, shard)
            found.poisons[found.executed] = Poison(kind, table)

    def poison_row(
        self, keyspace: str, table: str, key: Mapping[str, bytes | None], kind: str
    ) -> None:
        """Make a row stop every copy of its table."""
        with self._changed:
            space = self._keyspace(keyspace)
            definition = self._version_of(space, table).table
            for shard in space.serving:
                for sort_key, row in shard.tables[table].sorted():
                    if all(row[name] == value for name, value in key.items()):
                        shard.tables[table].poisons[sort_key] = Poison(kind, definition.name)

    def heal(self, keyspace: str) -> None:
        """Remove all poison."""
        with self._changed:
            for shard in self._keyspace(keyspace).shards.values():
                shard.poisons.clear()
                for table in shard.tables.values():
                    table.poisons.clear()
            self._notify()

    def purge_binlogs(self, keyspace: str, shard: ShardName) -> None:
        """Makes every position before now unusable."""
        with self._changed:
            purged = self._shard(keyspace, shard)
            purged.purged = purged.executed

    def drop_old_shards(self, keyspace: str) -> None:
        """Forgets the shards a reshard replaced."""
        with self._changed:
            space = self._keyspace(keyspace)
            space.shards = {name: shard for name, shard in space.shards.items() if shard.serving}
            self._notify()

    # Reads

    def keyspaces(self) -> list[str]:
        with self._changed:
            return sorted(self._keyspaces)

    def vschema(self, keyspace: str) -> tuple[bool, str]:
        """Whether the keyspace is sharded, and its foreign_key_mode."""
        with self._changed:
            space = self._keyspace(keyspace)
            return space.sharded, space.foreign_keys

    def empty_vschema(self, keyspace: str) -> None:
        """Empty the VSchema, as before the first ApplyVSchema."""
        with self._changed:
            self._keyspace(keyspace).empty_vschema = True

    def shards(self, keyspace: str) -> list[ShardName]:
        """The serving shards."""
        with self._changed:
            return [shard.name for shard in self._keyspace(keyspace).serving]

    def all_shards(self, keyspace: str) -> list[Shard]:
        """The shards, including those that a reshard has replaced."""
        with self._changed:
            return [shard for _, shard in sorted(self._keyspace(keyspace).shards.items())]

    def shard(self, keyspace: str, name: ShardName) -> Shard:
        """The shard, serving or not; KeyError if there is none."""
        with self._changed:
            return self._shard(keyspace, name)

    def has_shard(self, keyspace: str, name: ShardName) -> bool:
        with self._changed:
            return name in self._keyspace(keyspace).shards

    def tables(self, keyspace: str) -> dict[str, Table]:
        with self._changed:
            tables = self._keyspace(keyspace).tables
            return {name: version.table for name, version in sorted(tables.items())}

    def rows(self, keyspace: str, table: str) -> list[dict[str, bytes | None]]:
        """The present contents of all serving shards in the order of the table's key."""
        with self._changed:
            space = self._keyspace(keyspace)
            self._version_of(space, table)
            shards = space.serving
            if space.tables[table].table.role == "reference":
                shards = shards[:1]
            found = [item for shard in shards for item in shard.tables[table].sorted()]
        return [dict(row) for _, row in sorted(found, key=lambda item: item[0])]

    def rows_of_first_shard(self, keyspace: str, table: str) -> int:
        """What information_schema counts: it asks one shard only."""
        with self._changed:
            return len(self._keyspace(keyspace).serving[0].tables[table].rows)

    def rows_of_shard(self, keyspace: str, table: str, shard: ShardName) -> int | None:
        """The number of rows of one shard; None if the keyspace has no such shard."""
        with self._changed:
            found = self._keyspace(keyspace).shards.get(shard)
            return None if found is None else len(found.tables[table].rows)

    def bytes_of_shard(self, keyspace: str, table: str, shard: ShardName) -> int | None:
        """The bytes of one shard's values; None if the keyspace has no such shard."""
        with self._changed:
            found = self._keyspace(keyspace).shards.get(shard)
            rows = () if found is None else found.tables[table].rows.values()
            size = sum(len(value or b"") for row in rows for value in row.values())
        return None if found is None else size

    def gtid_executed(self, keyspace: str) -> dict[str, str]:
        with self._changed:
            serving = self._keyspace(keyspace).serving
            return {shard.name: shard.gtid_set(shard.executed) for shard in serving}

    def snapshot(
        self, shard: Shard, table: str
    ) -> tuple[int, TableVersion, list[tuple[SortKey, Row]]]:
        """The shard's position and the table's rows at it, in key order."""
        with self._changed:
            found = shard.tables[table]
            return shard.executed, found.version, found.sorted()

    def transaction_after(self, shard: Shard, number: int) -> Transaction | None:
        with self._changed:
            return shard.binlog[number] if number < shard.executed else None

    # Waiting

    @property
    def version(self) -> int:
        """Grows with everything a stream might wait for."""
        with self._changed:
            return self._version

    def wait(self, version: int, timeout: float | None) -> None:
        """Returns when something happened after `version`, or after the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout)

    def wake(self) -> None:
        """Ends every `wait`, so that a stream checks whether it is still wanted."""
        with self._changed:
            self._notify()

    # Inside, all under the lock

    def _keyspace(self, keyspace: str) -> _Keyspace:
        return self._keyspaces[keyspace]

    def _shard(self, keyspace: str, shard: ShardName) -> Shard:
        return self._keyspace(keyspace).shards[shard]

    def _version_of(self, space: _Keyspace, table: str) -> TableVersion:
        return space.tables[table]

    def _new_shard(self, keyspace: str, name: ShardName) -> Shard:
        generation = self._generations[keyspace, name]
        self._generations[keyspace, name] += 1
        server = uuid.uuid5(_NAMESPACE, f"{keyspace}/{name}/{generation}")
        self._tablets += 1
        return Shard(name, str(server), f"zone1-{self._tablets:010}")

    def _define(
        self, space: _Keyspace, table: Table, renamed: Mapping[str, str] | None = None
    ) -> None:
        """Replace a definition; `renamed` maps a column's new name to its old one."""
        old_names = {c.name: (renamed or {}).get(c.name, c.name) for c in table.columns}
        self._table_ids += 1
        version = TableVersion(self._table_ids, table)
        space.tables[table.name] = version
        for shard in space.serving:
            old = shard.tables.get(table.name)
            new = shard.tables[table.name] = _ShardTable(version)
            for _, row in old.sorted() if old else ():
                kept: Row = {name: row.get(old_name) for name, old_name in old_names.items()}
                new.rows[new.key_of(kept)] = kept

    def _drop(self, space: _Keyspace, table: str) -> None:
        del space.tables[table]
        for shard in space.serving:
            del shard.tables[table]

    def _truncate(self, space: _Keyspace, table: str) -> None:
        definition = space.tables[table].table
        for shard in space.serving:
            shard.tables[table].rows = {}
        self._define(space, definition)

    def _rename(self, space: _Keyspace, table: str, new_name: str) -> None:
        del space.tables[table]
        for shard in space.serving:
            shard.tables[new_name] = shard.tables.pop(table)

    def _shards_of(self, space: _Keyspace, table: Table, row: Row) -> list[Shard]:
        return [shard for shard in space.serving if _has(shard, table, row)]

    def _put_new(self, changes: _Changes, shard: Shard, table: str, row: Row) -> None:
        shard_table = shard.tables[table]
        key = shard_table.key_of(row)
        if key in shard_table.rows:
            names = shard_table.version.table.identity
            shown = "-".join((row[name] or b"").decode(errors="replace") for name in names)
            raise DuplicateEntryError(f"Duplicate entry '{shown}' for key '{table}.PRIMARY'")
        changes.put(shard_table.rows, key, row)

    def _matching(
        self, space: _Keyspace, table: str, key: Mapping[str, bytes | None]
    ) -> list[tuple[Shard, _RowKey, Row]]:
        definition = self._version_of(space, table).table
        identity = definition.identity
        if identity and set(identity) <= set(key):
            wanted = definition.sort_key(dict(key)), 0
            return [
                (shard, wanted, row)
                for shard in space.serving
                if (row := shard.tables[table].rows.get(wanted)) is not None
                and all(row[name] == key[name] for name in set(key) - set(identity))
            ]
        return [
            (shard, row_key, row)
            for shard in space.serving
            for row_key, row in sorted(shard.tables[table].rows.items())
            if all(row[name] == value for name, value in key.items())
        ]

    def _move_rows(
        self, old: list[Shard], new: list[Shard], table: str, version: TableVersion
    ) -> None:
        rows = [row for shard in old for _, row in shard.tables[table].sorted()]
        for shard in new:
            moved = shard.tables[table] = _ShardTable(version)
            changes = []
            for row in rows:
                if _has(shard, version.table, row):
                    moved.rows[moved.key_of(row)] = row
                    changes.append(RowChange(None, row))
            if changes:
                self._log(shard, statements=(Statement(version, tuple(changes)),))

    def _journal(self, keyspace: str, old: list[Shard], new: list[Shard]) -> None:
        self._journals += 1
        for shard in new:
            self._log(shard)
        targets = tuple((shard.name, shard.gtid_set(shard.executed)) for shard in new)
        participants = tuple(shard.name for shard in old)
        for shard in old:
            position = shard.gtid_set(shard.executed)
            self._log(shard)
            self._log(shard, other=True)
            journal = Journal(self._journals, keyspace, participants, targets, position)
            self._log(shard, journal=journal)

    def _log(
        self,
        shard: Shard,
        *,
        statements: tuple[Statement, ...] = (),
        text: str = "",
        ddl: Ddl | None = None,
        journal: Journal | None = None,
        other: bool = False,
    ) -> None:
        number = len(shard.binlog) + 1
        image = shard.variables["binlog_row_image"]
        entry = Transaction(number, int(self.now()), statements, ddl, journal, other, image, text)
        shard.binlog.append(entry)

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()


def keyspace_id(table: Table, row: Row) -> bytes:
    """The place of a row in the key ranges: a hash of its vindex columns."""
    if table.role == "pinned":
        return b"\0"
    values = (row[name] or b"" for name in table.vindex_columns)
    return hashlib.blake2b(b"\0".join(values), digest_size=8).digest()


def _has(shard: Shard, table: Table, row: Row) -> bool:
    """Whether a row belongs on a shard."""
    return table.role == "reference" or shard.covers(keyspace_id(table, row))


def key_range(shard: ShardName) -> tuple[bytes, bytes]:
    """Start and end of a shard's key range; an empty end is the end of everything."""
    if "-" not in shard:
        return b"", b""
    start, _, end = shard.partition("-")
    return bytes.fromhex(start), bytes.fromhex(end)


def _check_cover(shards: Sequence[str], wanted: Sequence[tuple[bytes | str, bytes | str]]) -> None:
    """The shards' ranges must join without gap or overlap and reach as far as the wanted ones."""
    ranges = sorted(key_range(name) for name in shards)
    if not ranges:
        raise ValueError("no shards are given")
    gapless = all(left[1] == right[0] and left[1] for left, right in pairwise(ranges))
    if not gapless:
        raise ValueError(f"the shards leave gaps or overlap: {list(shards)}")
    starts = sorted(_as_bytes(start) for start, _ in wanted)
    ends = sorted((not end, _as_bytes(end)) for _, end in wanted)
    if ranges[0][0] != starts[0] or ranges[-1][1] != ends[-1][1]:
        raise ValueError(f"the shards do not cover what they replace: {list(shards)}")


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _complete(table: Table, given: Mapping[str, bytes | None]) -> Row:
    row: Row = {column.name: given.get(column.name) for column in table.columns}
    if unknown := set(given) - set(row):
        raise UnknownColumnError(f"Unknown column '{min(unknown)}' in 'field list'")
    for name, value in row.items():
        if value is None and not table.is_nullable(name):
            raise NullError(f"Column '{name}' cannot be null")
    return row
