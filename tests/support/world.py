"""A keyspace that is written, altered, resharded and broken at will, and what a tap must guarantee.

`World` has a sandbox, its target, and what is needed to compare the two:

    added column      nullable and without default; rows written before it was added lack it in the
                      target (the binlog does not show an ADD with a DEFAULT), which is as good as
                      null. Names are never used twice: a new column with an old name would show the
                      old values in the target.
    renamed column    is a new column to the target; rows that were not written since lack it
    dropped column    what the target keeps of it does not count
    other type        old rows in the target hold the value of the old type; compared as text
    ENUM reordered    labels stay; only the numbers in old binlogs change their meaning

What must hold at any moment is asserted by `StrictTarget`: a record fits the last SCHEMA of its
stream, versions never go back, and whatever ends a run, the last message is a STATE.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jsonschema

from support.taps import Message, Target, discover, run, settings
from tap_vitess._proto.vtgate_pb2 import VStreamRequest
from tap_vitess.errors import VitessError
from tap_vitess.run.state import parse
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Row, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.tap import TapVitess
from tap_vitess.vtgate.retry import RetryOptions

KEYSPACE = "shop"
TABLES = ("alpha", "beta", "gamma")
LABELS = ("red", "green", "blue")
Action = Callable[[], None]


class PatientTap(TapVitess):
    """A tap that never waits long, and notices a stall at the first heartbeat after it."""

    retry: ClassVar[RetryOptions] = RetryOptions(budget=5, longest_wait=0.01, stall=0.8)


class StrictTarget(Target):
    """A target that refuses messages that contradict earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        self.validators: dict[str, jsonschema.Draft202012Validator] = {}
        self.columns: dict[str, set[str]] = {}
        self.versions: dict[str, int] = defaultdict(int)
        self.later: dict[int, Action] = {}  # after so many messages

    def take(self, line: bytes) -> None:
        super().take(line)
        for number in sorted(n for n in self.later if n <= len(self.messages)):
            self.later.pop(number)()

    def _schema(self, message: Message) -> None:
        stream, schema = message["stream"], message["schema"]
        self.validators[stream] = jsonschema.Draft202012Validator(schema)
        self.columns[stream] = set(schema["properties"])
        super()._schema(message)

    def _record(self, message: Message) -> None:
        stream, record = message["stream"], message["record"]
        assert record.keys() <= self.columns[stream], "a column the SCHEMA does not tell"
        self.validators[stream].validate(record)
        super()._record(message)

    def _activate_version(self, message: Message) -> None:
        stream, version = message["stream"], message["version"]
        assert version >= self.versions[stream], f"{stream}: ACTIVATE_VERSION went back"
        self.versions[stream] = version
        super()._activate_version(message)


class _Requests(list[VStreamRequest]):
    """The requests of a sandbox; some actions happen before an opening stream reads anything."""

    def __init__(self) -> None:
        super().__init__()
        self.later: dict[int, Action] = {}

    def append(self, request: VStreamRequest) -> None:
        super().append(request)
        for number in sorted(n for n in self.later if n <= len(self)):
            self.later.pop(number)()


def definition(name: str) -> Table:
    """Describe the initial table."""
    return Table(
        name,
        (
            Column("id", "bigint", nullable=False),
            Column("n", "int"),
            Column("m", "int"),
            Column("s", "varchar(20)"),
            Column("c", f"enum({','.join(map(repr, LABELS))})"),
            Column("t", "text"),
        ),
        primary_key=("id",),
    )


# The columns, the chosen one, a new name -> the columns afterwards, and the statement.
Altered = tuple[list[Column], str] | None


def _add_last(columns: list[Column], at: int, fresh: str) -> Altered:  # noqa: ARG001
    return [*columns, Column(fresh, "int")], f"add column {fresh} int"


def _add_first(columns: list[Column], at: int, fresh: str) -> Altered:  # noqa: ARG001
    return [Column(fresh, "varchar(20)"), *columns], f"add column {fresh} varchar(20) first"


def _add_in_the_middle(columns: list[Column], at: int, fresh: str) -> Altered:
    kind = columns[at].column_type
    after = f" after {columns[at - 1].name}" if at else " first"
    return [*columns[:at], Column(fresh, kind), *columns[at:]], f"add column {fresh} {kind}{after}"


def _drop(columns: list[Column], at: int, fresh: str) -> Altered:  # noqa: ARG001
    if len(columns) < 4:
        return None
    return [*columns[:at], *columns[at + 1 :]], f"drop column {columns[at].name}"


def _drop_and_add(columns: list[Column], at: int, fresh: str) -> Altered:
    new = Column(fresh, columns[at].column_type)
    action = f"drop column {columns[at].name}, add column {fresh} {new.column_type}"
    return [*columns[:at], *columns[at + 1 :], new], action


def _rename_column(columns: list[Column], at: int, fresh: str) -> Altered:
    renamed = replace(columns[at], name=fresh)
    action = f"rename column {columns[at].name} to {fresh}"
    return [*columns[:at], renamed, *columns[at + 1 :]], action


def _reorder(columns: list[Column], at: int, fresh: str) -> Altered:  # noqa: ARG001
    """Exchange the places of two columns of one type."""
    integers = [i for i, column in enumerate(columns) if column.column_type == "int"]
    if len(integers) < 2:
        return None
    i, j = integers[:2]
    order = [*columns]
    order[i], order[j] = columns[j], columns[i]
    return order, f"modify column {columns[j].name} int after id"


def _retype(kind: str, columns: list[Column], at: int, fresh: str) -> Altered:  # noqa: ARG001
    """Change the first INT."""
    for i, column in enumerate(columns):
        if column.column_type == "int":
            altered = [*columns[:i], replace(column, column_type=kind), *columns[i + 1 :]]
            return altered, f"modify column {column.name} {kind}"
    return None


def _relabel(columns: list[Column], at: int, fresh: str, *, add: bool) -> Altered:  # noqa: ARG001
    """Give an ENUM another label, or the same ones in another order."""
    for i, column in enumerate(columns):
        if column.parsed.base == "enum":
            labels = column.parsed.labels
            labels = [*labels, fresh] if add else [*labels[1:], labels[0]]
            new = f"enum({','.join(map(repr, labels))})"
            altered = [*columns[:i], replace(column, column_type=new), *columns[i + 1 :]]
            return altered, f"modify column {column.name} {new}"
    return None


ALTERATIONS: dict[str, Callable[[list[Column], int, str], Altered]] = {
    "add last": _add_last,
    "add first": _add_first,
    "add in the middle": _add_in_the_middle,
    "drop": _drop,
    "drop and add": _drop_and_add,
    "rename column": _rename_column,
    "reorder": _reorder,
    "bigint": partial(_retype, "bigint"),
    "varchar(20)": partial(_retype, "varchar(20)"),
    "int unsigned": partial(_retype, "int unsigned"),
    "add label": partial(_relabel, add=True),
    "reorder labels": partial(_relabel, add=False),
    "index": lambda columns, _, fresh: (columns, f"add key {fresh} (id)"),
}


def _integers(table: Table) -> list[Column]:
    return [column for column in table.columns if column.column_type == "int"]


class World:
    """A source, a target, and everything that can happen between them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.cluster: Cluster = sandbox.cluster
        self.sandbox = sandbox
        self.requests = sandbox.requests = _Requests()
        self.target = StrictTarget()
        self.cluster.create_keyspace(KEYSPACE, ["-80", "80-"])
        self._renamed: dict[tuple[str, str], set[bytes]] = defaultdict(set)
        self._names = itertools.count()
        self._ids = itertools.count(100)
        self._shards = {"-80", "80-"}
        self._catalog: dict[str, Any] | None = None
        for name in TABLES:
            self.cluster.create_table(KEYSPACE, definition(name))
            self.insert(name, *range(6))

    # Writes

    @property
    def tables(self) -> dict[str, Table]:
        return self.cluster.tables(KEYSPACE)

    def table(self, number: int) -> Table | None:
        """Choose an existing table."""
        tables = list(self.tables.values())
        return tables[number % len(tables)] if tables else None

    def keys(self, table: str) -> list[bytes]:
        return [row["id"] or b"" for row in self.cluster.rows(KEYSPACE, table)]

    def insert(self, table: str, *ids: int) -> None:
        found = self.tables[table]
        rows = [
            {"id": b"%d" % i, **{c.name: _value(c, i) for c in found.columns[0:] if c.name != "id"}}
            for i in ids
            if b"%d" % i not in self.keys(table)
        ]
        self._wrote(table, [row["id"] for row in rows])
        self.cluster.insert(KEYSPACE, table, rows)

    def write(self, kind: int, number: int) -> None:
        """Insert, update, delete, or give a row another key."""
        table = self.table(number)
        if table is None:
            return
        keys = self.keys(table.name)
        key = keys[number % len(keys)] if keys else None
        if kind % 4 == 0 or key is None:
            self.insert(table.name, *(next(self._ids) for _ in range(1 + number % 3)))
        elif kind % 4 == 1:
            self.update(table.name, key, number)
        elif kind % 4 == 2:
            self._wrote(table.name, [key])
            self.cluster.delete(KEYSPACE, table.name, {"id": key})
        else:
            new = b"%d" % next(self._ids)
            self._wrote(table.name, [key])
            self.cluster.update(KEYSPACE, table.name, {"id": key}, {"id": new})

    def update(self, table: str, key: bytes, number: int) -> None:
        """Change one column or two, mostly not the TEXT."""
        columns = self.tables[table].columns
        if not any(row["id"] == key for row in self.cluster.rows(KEYSPACE, table)):
            return
        at = (number % len(columns), number // 7 % len(columns))
        chosen = [columns[i] for i in at if columns[i].name != "id"]
        values = {c.name: _value(c, number) for c in chosen}
        [row] = [row for row in self.cluster.rows(KEYSPACE, table) if row["id"] == key]
        if any(row[name] != value for name, value in values.items()):
            self._wrote(table, [key])
            self.cluster.update(KEYSPACE, table, {"id": key}, values)

    def touch(self, number: int) -> None:
        """Update some rows of a table, each in its own transaction."""
        if table := self.table(number):
            for i, key in enumerate(self.keys(table.name)[:4]):
                self.update(table.name, key, number + 7 * i)

    def transaction(self, writes: Iterable[tuple[int, int]]) -> None:
        """Make several writes in one transaction, over tables and shards."""
        with self.cluster.transaction(KEYSPACE):
            for kind, number in writes:
                self.write(kind, number)

    def other_write(self) -> None:
        for shard in self.cluster.shards(KEYSPACE):
            self.cluster.other_write(KEYSPACE, shard)

    def _wrote(self, table: str, keys: Iterable[bytes | None]) -> None:
        for (name, _), stale in self._renamed.items():
            if name == table:
                stale.difference_update(keys)

    # Definitions

    def alter(self, kind: str, number: int) -> None:
        """Alter a table if this alteration is possible."""
        table = self.table(number)
        if table is None:
            return
        others = [column for column in table.columns if column.name != "id"]
        at = table.columns.index(others[number % len(others)])
        fresh = f"x{next(self._names)}"
        if kind == "rename column":
            self._renamed[table.name, fresh] = set(self.keys(table.name))
        if kind == "int unsigned":
            for column in _integers(table):
                self._no_negatives(table.name, column.name)
        if found := ALTERATIONS[kind](list(table.columns), at, fresh):
            columns, action = found
            altered = replace(table, columns=tuple(columns))
            self.cluster.ddl(KEYSPACE, f"alter table {table.name} {action}", altered)

    def _no_negatives(self, table: str, column: str) -> None:
        """Remove minus signs: MySQL does not convert negative numbers to unsigned."""
        for row in self.cluster.rows(KEYSPACE, table):
            if (row[column] or b"").startswith(b"-"):
                self._wrote(table, [row["id"]])
                values = {column: (row[column] or b"")[1:]}
                self.cluster.update(KEYSPACE, table, {"id": row["id"] or b""}, values)

    def truncate(self, number: int) -> None:
        if table := self.table(number):
            self.cluster.ddl(KEYSPACE, f"truncate table {table.name}", None)
            self.insert(table.name, next(self._ids), 1)

    def drop(self, number: int) -> None:
        if (table := self.table(number)) and len(self.tables) > 1:
            self.cluster.ddl(KEYSPACE, f"DROP TABLE `{table.name}`", None)

    def create(self) -> None:
        """Create dropped tables again, perhaps with fewer or other columns."""
        for name in TABLES:
            if name not in self.tables:
                table = definition(name)
                self.cluster.ddl(KEYSPACE, f"create table {name} (\n\tid bigint, ...)", table)
                self.insert(name, next(self._ids), 2)

    def rename(self, number: int) -> None:
        """Rename a table away, or back if its old name is free."""
        table = self.table(number)
        if table is None:
            return
        name = table.name
        new = name.removesuffix("_away") if name.endswith("_away") else f"{name}_away"
        if new not in self.tables:
            statement = f"rename table {name} to {new}"
            self.cluster.ddl(KEYSPACE, statement, replace(table, name=new))
            for (renamed, column), stale in list(self._renamed.items()):
                if renamed == name:
                    self._renamed[new, column] = self._renamed[new, column] | stale

    # Operations

    def reshard(self, number: int) -> None:
        """Split a shard, or merge it with the next; a shard's name is never used twice."""
        shards = sorted(self.cluster.shards(KEYSPACE), key=_start)
        at = number % len(shards)
        if number % 3 and len(shards) < 4:
            source, target = shards[at : at + 1], _halves(shards[at])
        else:
            source = shards[at : at + 2]
            target = [f"{source[0].partition('-')[0]}-{source[-1].partition('-')[2]}"]
        if not self._shards.intersection(target):
            self._shards.update(target)
            self.cluster.reshard(KEYSPACE, source, target)

    def drop_old_shards(self) -> None:
        self.cluster.drop_old_shards(KEYSPACE)

    def purge(self) -> None:
        for shard in self.cluster.shards(KEYSPACE):
            self.cluster.purge_binlogs(KEYSPACE, shard)

    def log_images(self, image: str) -> None:
        for shard in self.cluster.all_shards(KEYSPACE):
            shard.variables["binlog_row_image"] = image

    # Runs

    def run(
        self,
        *,
        lines: int | None = None,
        fault: Fault | None = None,
        selected: Iterable[int] = (0, 1, 2, 3, 4, 5),
        full: Iterable[int] = (),
        fresh: bool = True,
        resync: bool = True,
        parallel: int = 1,
        at_message: tuple[int, Action] | None = None,
        at_stream: Iterable[tuple[int, Action]] = (),
    ) -> VitessError | None:
        """Run the tap once; if it reports success, compare the tables.

        Returns:
            the error it ended with, if any.
        """
        config = settings(
            self.sandbox,
            copy_parallelism=parallel,
            on_lost_position="resync" if resync else "fail",
        )
        if fresh or self._catalog is None:
            self._catalog = discover(config)
        chosen = self._choose(self._catalog, selected, full)
        disturbed = False

        def marked(action: Action) -> Action:
            def act() -> None:
                nonlocal disturbed
                disturbed = True
                action()

            return act

        if at_message:
            number, action = at_message
            self.target.later = {len(self.target.messages) + number: marked(action)}
        opened = len(self.requests)
        self.requests.later = {opened + number: marked(action) for number, action in at_stream}
        if fault:
            self.sandbox.faults.append(fault)
        error = None
        try:
            ended = run(config, self.target, catalog=chosen, lines=lines, tap_class=PatientTap)
        except VitessError as found:
            error, ended = found, lines is not None
            assert self.target.messages[-1]["type"] == "STATE", "the error hides where it is"
        finally:
            self.sandbox.faults.clear()
            self.target.later.clear()
            self.requests.later.clear()
        self._check_state()
        if ended and error is None:
            assert self.target.messages[-1]["type"] == "STATE"
            if not disturbed:
                names = [s["tap_stream_id"] for s in chosen["streams"] if _is_selected(s)]
                self.compare(name.removeprefix(f"{KEYSPACE}-") for name in names)
        return error

    def _choose(
        self, catalog: dict[str, Any], selected: Iterable[int], full: Iterable[int]
    ) -> dict[str, Any]:
        copied: dict[str, Any] = json.loads(json.dumps(catalog))
        for i, stream in enumerate(copied["streams"]):
            [root] = [m for m in stream["metadata"] if not m["breadcrumb"]]
            root["metadata"]["selected"] = i in set(selected)
            stream["replication_method"] = "FULL_TABLE" if i in set(full) else "LOG_BASED"
        return copied

    def _check_state(self) -> None:
        if bookmark := self.target.state.get("bookmarks", {}).get(f"vitess:{KEYSPACE}"):
            parse(KEYSPACE, bookmark)

    def forget(self, states: int) -> None:
        """Make the target lose the last STATEs, although it has stored the rows."""
        if states:
            del self.target.states[-states:]

    def settle(self) -> None:
        """Run without disturbances: the tap must finish, and the tables must be equal."""
        started = time.monotonic()
        errors = []
        for _ in range(3):
            error = self.run()
            if error is None:
                self.compare(self.tables)
                return
            errors.append(str(error))
        after = f"no end after {time.monotonic() - started:.1f} s"
        raise AssertionError(f"{after}: {errors}; state {self.target.state}")

    # The comparison

    def compare(self, tables: Iterable[str]) -> None:
        """Compare the target with the source, as this file's docstring says."""
        for name in tables:
            found = self.tables.get(name)
            if found is None:
                continue  # gone; its stream reports that or has nothing to report
            rows = {row["id"] or b"": row for row in self.cluster.rows(KEYSPACE, name)}
            records = {
                str(record["id"]).encode(): record
                for _, record in self.target.tables.get(f"{KEYSPACE}-{name}", {}).values()
            }
            assert records.keys() == rows.keys(), f"{name}: other rows"
            for key, row in rows.items():
                self._compare_row(name, key, row, records[key])

    def _compare_row(self, name: str, key: bytes, row: Row, record: Mapping[str, Any]) -> None:
        for column, raw in row.items():
            value = record.get(column)
            if column not in record and key in self._renamed.get((name, column), ()):
                continue
            shown = None if value is None else str(value)
            assert shown == (None if raw is None else raw.decode()), f"{name}.{column} of {key!r}"


def _start(shard: str) -> int:
    return int(shard.partition("-")[0].ljust(4, "0"), 16)


def _halves(shard: str) -> list[str]:
    start, _, end = shard.partition("-")
    last = int(end.ljust(4, "0"), 16) if end else 0x10000
    middle = f"{(_start(shard) + last) // 2:04x}"
    return [f"{start}-{middle}", f"{middle}-{end}"]


def _is_selected(stream: Mapping[str, Any]) -> bool:
    return any(m["metadata"].get("selected") for m in stream["metadata"] if not m["breadcrumb"])


def _value(column: Column, number: int) -> bytes | None:
    """Make a value for a column, never the same for two columns of one type."""
    salt = sum(column.name.encode())
    if (number + salt) % 7 == 0:
        return None
    parsed = column.parsed
    if parsed.base == "enum":
        return parsed.labels[(number + salt) % len(parsed.labels)].encode()
    if parsed.is_integer:
        sign = 1 if parsed.unsigned or number % 2 else -1
        return b"%d" % (sign * (1000 * salt + number))
    return f"{column.name} {number}".encode()
