"""The library on a real Vitess: killed at random, fenced, every type's values, all three levels."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import kinds
from support.kinds import KINDS
from support.library import Replica

from cluster.compare import difference
from cluster.consumers import ROOT, SECONDS, Process, Rows, database_at, indexed, where
from cluster.launcher import Cluster, Version
from cluster.source import Address, Source, quote
from cluster.valued import create_kinds, insert_kinds
from cluster.writers import Tables, Writer
from tap_vitess.vstream import (
    Batch,
    Boundary,
    Change,
    CommitEvent,
    CopyCompletedEvent,
    FencedError,
    MemoryState,
    RowEvent,
    TableCopied,
    VgtidEvent,
    Vitess,
    VitessError,
    VitessTableState,
    changes,
    consume,
    events,
)

pytestmark = pytest.mark.cluster

EXAMPLE = ROOT / "examples" / "sqlite_replica.py"
REPLICA = Path(__file__).with_name("replica.py")
KILLS = int(os.environ.get("TAP_VITESS_TEST_KILLS") or 30)
ROWS = 30_000
RESHARDED = "tapfollow"


@pytest.fixture
def vitess(address: Address) -> Vitess:
    """Return where the cluster is."""
    return Vitess(address.host, address.grpc_port, address.mysql_port)


@pytest.fixture
def state_table(vitess: Vitess, source: Source, prefix: str) -> Iterator[str]:
    """Make a table for states in the sharded keyspace, and drop it after the test."""
    table = prefix + "state"
    state = VitessTableState(vitess, source.address.keyspace, "first", table=table)
    state.create()
    _wait_known(state)
    yield table
    source.execute(f"drop table {quote(table)}", f"alter vschema drop table {quote(table)}")


def _wait_known(state: VitessTableState) -> None:
    """VTGate learns of a table with a delay."""
    deadline = time.monotonic() + 20
    while True:
        try:
            state.load()
        except VitessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _example(address: Address, tables: Tables, folder: Path) -> Process:
    path = folder / "replica.db"

    def read(table: str, key: Sequence[str]) -> Rows:
        with closing(database_at(path)) as database:
            name = f"{address.keyspace}.{table}"
            found = "select count(*) from sqlite_master where name = ?"
            if not database.execute(found, [name]).fetchone()[0]:
                return {}
            rows = [dict(row) for row in database.execute(f'select * from "{name}"')]
        for row in rows:
            del row["_v"]
        return indexed(rows, key)

    names = [f"{address.keyspace}.{table}" for table, _ in tables]
    return Process([EXAMPLE, where(address), path, *names], folder, read)


def _two_steps(address: Address, tables: Tables, folder: Path, state_table: str) -> Process:
    path = folder / "replica.db"

    def read(table: str, key: Sequence[str]) -> Rows:
        sql = "select row from rows where name = ?"
        with closing(database_at(path)) as database:
            found = database.execute(sql, [f"{address.keyspace}.{table}"]).fetchall()
        return indexed([json.loads(row["row"]) for row in found], key)

    names = [f"{address.keyspace}.{table}" for table, _ in tables]
    command: list[str | Path] = [
        REPLICA,
        where(address),
        path,
        address.keyspace,
        state_table,
        *names,
    ]
    return Process(command, folder, read)


def _copied(text: str | None) -> bool:
    bookmarks = json.loads(text or '{"bookmarks": {}}')["bookmarks"].values()
    return bool(bookmarks) and all(b["groups"] and b["copies"] == "{}" for b in bookmarks)


class States:
    """The states an example has stored; it may lose the last ones, or, to copy more, all."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self._path = path
        self._rng = rng
        self._seen: list[str | None] = [None]
        self.happened: Counter[str] = Counter()

    def seconds_until_made(self) -> float:
        """Wait until the example's table is there; a start takes longer on a busy machine."""
        began = time.monotonic()
        while not self._is_made():
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        return time.monotonic() - began

    def _is_made(self) -> bool:
        with closing(database_at(self._path)) as database:
            made = "select count(*) from sqlite_master where name = '_state'"
            return bool(database.execute(made).fetchone()[0])

    def after_kill(self) -> None:
        """Note the state, and now and then put an earlier one back."""
        with closing(database_at(self._path)) as database:
            if not self._is_made():
                self.happened["no table"] += 1  # killed before it has made it
                return
            found = database.execute("select state from _state").fetchone()
            text = found["state"] if found else None
            phase = "copied" if _copied(text) else "in copy" if text else "no state"
            self.happened[phase] += 1
            self._seen.append(text)
            early = phase == "copied" and self.happened["in copy"] < KILLS // 3
            if early or self._rng.random() < 0.25:
                self.happened["states lost"] += 1
                text = None if early else self._rng.choice(self._seen[-3:])
                database.execute("delete from _state")
                if text is not None:
                    database.execute("insert into _state values (1, ?)", [text])
                database.commit()


@pytest.mark.timeout(120 + 15 * KILLS)
def test_the_sqlite_example_killed(
    source: Source, address: Address, seed: int, tmp_path: Path
) -> None:
    """SIGKILL at random, under writers, with states lost: SQLite equals SELECT at the end."""
    rng = random.Random(seed)
    tables = Tables(source, ROWS, rng)
    process = _example(address, tables, tmp_path)
    states = States(tmp_path / "replica.db", rng)
    starts = 0.0
    with Writer(source, tables, seed) as writer:
        for _ in range(KILLS):
            process.start()
            starts = starts or states.seconds_until_made()
            in_copy = states.happened["in copy"] < KILLS // 3
            time.sleep(starts * rng.uniform(0.8, 1.0) + rng.uniform(0, 1.7 if in_copy else 3.2))
            process.kill()
            states.after_kill()
    print(f"killed {KILLS} times: {dict(states.happened)}; transactions: {dict(writer.done)}")
    process.settle(source, tables)
    assert writer.done["commit"] > KILLS
    assert states.happened["in copy"]


@pytest.mark.timeout(120 + 15 * KILLS)
def test_state_in_vitess_rows_elsewhere_killed(
    source: Source, address: Address, state_table: str, seed: int, tmp_path: Path
) -> None:
    """The same where rows are stored before the state is, and TRUNCATE comes between."""
    rng = random.Random(seed)
    tables = Tables(source, ROWS // 3, rng)
    process = _two_steps(address, tables, tmp_path, state_table)
    kills = max(KILLS // 3, 1)
    with Writer(source, tables, seed) as writer:
        for number in range(kills):
            process.start()
            time.sleep(rng.uniform(0.8, 4.0))
            if number == kills // 2:
                source.execute(f"truncate table {quote(tables.small)}")
            process.kill()
    print(f"killed {kills} times; transactions: {dict(writer.done)}")
    process.settle(source, tables)


def test_the_newer_consumer_of_a_name_wins(
    vitess: Vitess, source: Source, state_table: str, seed: int
) -> None:
    """The older one ends with a FencedError, the newer one goes on from its state and keeps up."""
    tables = Tables(source, 4000, random.Random(seed))
    keyspace = source.address.keyspace
    names = dict.fromkeys((f"{keyspace}.{table}" for table, _ in tables), dict)
    replica = Replica()
    ended: list[BaseException] = []
    stopped = threading.Event()

    def state() -> VitessTableState:
        return VitessTableState(vitess, keyspace, "one", table=state_table)

    def older() -> None:
        try:
            consume(vitess, names, replica.flush, state(), batch_seconds=0.1, idle_seconds=0.5)
        except FencedError as error:
            ended.append(error)

    def newer_flush(batch: Batch) -> None:
        thread.join(20)  # what the older one still flushes would be the older rows
        assert not thread.is_alive()
        replica.flush(batch)

    thread = threading.Thread(target=older, daemon=True)
    with Writer(source, tables, seed):
        thread.start()
        _wait(lambda: any(isinstance(item, TableCopied) for item in replica.seen))
        seen = len(replica.seen)
        threading.Timer(8, stopped.set).start()
        newer = state()
        consume(vitess, names, newer_flush, newer, batch_seconds=0.1, stop=stopped)
        print(f"the older one ended with: {ended}")
    assert len(ended) == 1
    assert "has taken over from this one" in str(ended[0])
    assert len(replica.seen) > seen
    consume(vitess, names, replica.flush, newer, follow=False)
    for table, key in tables:
        wanted = indexed(source.query(f"select * from {quote(table)}"), key)
        found = indexed(replica.contents(f"{keyspace}.{table}"), key)
        assert not difference(wanted, found)


def _wait(holds: Callable[[], bool], seconds: float = SECONDS) -> float:
    """Wait for something; return for how long."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + seconds
        time.sleep(0.05)
    return time.monotonic() - began


def test_values_are_those_of_pymysql(
    vitess: Vitess, source: Source, vitess_version: Version, seed: int
) -> None:
    """Every type, copied and streamed, equals what a SELECT gives; JSON is parsed."""
    table = create_kinds(source)
    name = f"{source.address.keyspace}.{table}"
    rows = kinds.rows(30, seed)
    insert_kinds(source, table, rows, 0, vitess_version)
    copied, state = _read(vitess, name, None)
    insert_kinds(source, table, rows, 100_000, vitess_version)
    streamed, _ = _read(vitess, name, state)
    selected = {row["id"]: row for row in source.query(f"select * from {quote(table)}")}
    assert copied.keys() == set(range(len(rows)))
    assert streamed.keys() == {i + 100_000 for i in copied}
    for i, row in selected.items():
        found = copied.get(i) or streamed[i]
        assert found.keys() == row.keys()
        for column, value in row.items():
            wanted = value
            if column in KINDS and KINDS[column].sql_type == "json" and value is not None:
                assert _digits(found[column]) == json.loads(value, parse_float=Decimal)
                continue
            assert repr(found[column]) == repr(wanted), f"row {i}, {column}"


def _read(vitess: Vitess, name: str, state: str | None) -> tuple[dict[int, Any], str]:
    rows: dict[int, Any] = {}
    for item in changes(vitess, [name], state=state):
        if isinstance(item, Change) and item.after is not None:
            rows[item.after["id"]] = item.after
        elif isinstance(item, Boundary):
            state = item.state
    assert state is not None
    return rows, state


def _digits(value: Any) -> Any:
    """Let floats count by their digits."""
    if isinstance(value, dict):
        return {name: _digits(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_digits(each) for each in value]
    return Decimal(repr(value)) if isinstance(value, float) else value


def test_follows_through_one_stream(vitess: Vitess, source: Source) -> None:
    """Changes come within seconds though the poll interval is long; TRUNCATE is a new copy."""
    table = source.create("followed", "id bigint primary key, v int")
    name = f"{source.address.keyspace}.{table}"
    source.insert(table, ["id", "v"], [(i, i) for i in range(50)])
    replica = Replica()
    stopped = threading.Event()

    def in_step() -> bool:
        found = source.query(f"select * from {quote(table)}")
        return replica.contents(name) == sorted(found, key=json.dumps)

    thread = threading.Thread(
        target=consume,
        args=(vitess, {name: dict}, replica.flush, MemoryState()),
        kwargs={"batch_seconds": 0, "poll_seconds": 300, "stop": stopped},
        daemon=True,
    )
    thread.start()
    _wait(in_step)
    time.sleep(3)
    waited = []
    for i in range(5):
        source.execute(f"insert into {quote(table)} (id, v) values ({1000 + i}, 1)")
        source.execute(f"delete from {quote(table)} where id = {i}")
        waited.append(_wait(in_step))
    print(f"in step after {max(waited):.2f} s at most")
    assert max(waited) < 5
    source.execute(f"truncate table {quote(table)}")
    source.execute(f"insert into {quote(table)} (id, v) values (7, 7)")
    _wait(in_step)
    stopped.set()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.timeout(300)
def test_follows_through_a_reshard(
    own_cluster: Cluster, address: Address, prefix: str, vitess: Vitess, seed: int
) -> None:
    """One call, under writers, while -80 becomes -40 and 40-80: nothing is copied again."""
    own_cluster.keyspace(RESHARDED, "-80", "80-")
    with closing(Source(replace(address, keyspace=RESHARDED), prefix)) as source:
        tables = Tables(source, 4000, random.Random(seed))
        names = {f"{RESHARDED}.{table}": key for table, key in tables}
        replica, state, stopped = Replica(), MemoryState(), threading.Event()
        outcome: list[Any] = []

        def follow() -> None:
            wanted = dict.fromkeys(names, dict)
            outcome.append(
                consume(vitess, wanted, replica.flush, state, batch_seconds=0.2, stop=stopped)
            )

        def in_step() -> bool:
            return not any(
                difference(
                    indexed(source.query(f"select * from {quote(table)}"), key),
                    indexed(replica.contents(f"{RESHARDED}.{table}"), key),
                )
                for table, key in tables
            )

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        _wait(in_step)
        copied = sum(change.operation == "copy" for change in replica.changes())
        with Writer(source, tables, seed) as writer:
            own_cluster.reshard(RESHARDED, "-80", "-40", "40-80")
        print(f"transactions: {dict(writer.done)}")
        own_cluster.wait_served(RESHARDED)
        source.execute(f"update {quote(tables.big)} set amount = amount + 1")
        print(f"in step {_wait(in_step):.1f} s after the reshard")
        stopped.set()
        thread.join(20)
        assert [done.reason for done in outcome] == ["stopped"]
        assert copied == sum(change.operation == "copy" for change in replica.changes())
        assert {"-40", "40-80"} <= {change.shard for change in replica.changes()}
        assert '"40-80' in (state.state or "").replace("\\", "")


def test_raw_events(vitess: Vitess, source: Source) -> None:
    """Level 1: a copy to its end, then a transaction, from a position of it once more."""
    table = source.create("raw", "id bigint primary key, v decimal(5,2)")
    name = f"{source.address.keyspace}.{table}"
    source.insert(table, ["id", "v"], [(i, "1.50") for i in range(20)])
    seen: list[Any] = []
    position = None
    for event in events(vitess, [name], copy=True):
        seen.append(event)
        if isinstance(event, CopyCompletedEvent) and not event.shard:
            source.execute(f"insert into {quote(table)} (id, v) values (100, 2.50)")
        if isinstance(event, VgtidEvent) and event.usable:
            position = event.vgtid
        if isinstance(event, CommitEvent) and seen_row(seen, 100):
            break
    copied = [e.after for e in seen if isinstance(e, RowEvent) and e.at is None]
    assert sorted(row["id"] for row in copied if row) == list(range(20))
    assert {row["v"] for row in copied if row} == {Decimal("1.50")}
    source.execute(f"update {quote(table)} set v = 3 where id = 100")
    assert position is not None
    for event in events(vitess, [name], position=position):
        if isinstance(event, RowEvent):
            assert event.before == {"id": 100, "v": Decimal("2.50")}
            assert event.after == {"id": 100, "v": Decimal("3.00")}
            break


def seen_row(seen: Sequence[Any], number: int) -> bool:
    """Tell whether a row has come."""
    rows = [event for event in seen if isinstance(event, RowEvent) and event.after]
    return any(row.after is not None and row.after["id"] == number for row in rows)
