"""Levels 2 and 3 of the library against the sandbox: nothing is lost, wherever it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.library import NAMES, QUICK, KilledError, Replica, Store, vitess
from support.shops import SHARDS, TABLES, insert, table, three_tables, write
from support.taps import expected

from tap_vitess._proto.binlogdata_pb2 import VEvent, VEventType
from tap_vitess._proto.vtgate_pb2 import TabletType
from tap_vitess.protocol.changes import EndlessStream
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.vstream import (
    Boundary,
    Change,
    ConfigError,
    ConnectError,
    Consumed,
    GtidSet,
    MappingError,
    MemoryState,
    PositionLostError,
    RetriableError,
    RetryOptions,
    StateError,
    TableCopied,
    TableGoneError,
    Vgtid,
    Vitess,
    VitessError,
    arrow_changes,
    changes,
    consume,
    events,
    state_at,
)

SECONDS = 20.0


def bring(sandbox: Sandbox, replica: Replica, state: MemoryState, **more: Any) -> Consumed:
    """Consume up to where the sandbox is."""
    arguments = {"batch_rows": 5, "batch_seconds": 0, "retry": QUICK, "follow": False, **more}
    return consume(vitess(sandbox), NAMES, replica.flush, state, **arguments)


def check(cluster: Cluster, replica: Replica) -> None:
    """Fail unless the replica equals the sandbox."""
    for name in TABLES:
        assert replica.contents(f"shop.{name}") == expected(cluster, "shop", name)


# Level 2


def items(sandbox: Sandbox, **more: Any) -> list[Change[Any] | TableCopied | Boundary]:
    """List what `changes` gives up to where the sandbox is."""
    return list(changes(vitess(sandbox), NAMES, retry=QUICK, **more))


def test_the_tables_are_waited_for(sandbox: Sandbox) -> None:
    """For a while after a reshard or a failover nobody can tell what they are."""
    sandbox.faults.append(Fault(no_tablet_for="information_schema.columns", times=3))
    assert {item.name for item in items(sandbox) if isinstance(item, TableCopied)} == NAMES.keys()
    assert not sandbox.faults


def test_a_copy(sandbox: Sandbox) -> None:
    """Copied rows carry a version, a finished copy is told, and boundaries come first and last."""
    found = items(sandbox)
    assert isinstance(found[0], Boundary)
    assert isinstance(found[-1], Boundary)
    copied = [item for item in found if isinstance(item, Change)]
    assert {c.operation for c in copied} == {"copy"}
    assert {c.before for c in copied} == {None}
    assert {c.commit_time for c in copied} == {None}
    assert {c.shard for c in copied} == set(SHARDS)
    assert all(c.key == {"id": c.after["id"]} for c in copied if c.after)
    done = {item.name: item.version for item in found if isinstance(item, TableCopied)}
    assert done.keys() == NAMES.keys()
    assert all(c.version == done[c.name] for c in copied)
    numbers = [c.sequence for c in copied]
    assert numbers == sorted(set(numbers))
    begun = next(i for i, item in enumerate(found) if isinstance(item, Change))
    before = found[begun - 1]
    assert isinstance(before, Boundary)
    assert copied[0].table in before.state, "the state names a table before its first row"


def test_changes_behind_a_state(sandbox: Sandbox) -> None:
    """Each operation with its images; an update of the key is a delete and an insert."""
    state = last_state(items(sandbox))
    began = datetime.now(UTC) - timedelta(seconds=1)
    write(sandbox.cluster)
    found = [item for item in items(sandbox, state=state) if isinstance(item, Change)]
    told = {(c.name, c.operation, c.key["id"]): (c.before, c.after) for c in found}
    assert told == {
        ("shop.alpha", "insert", 100): (None, {"id": 100, "name": "n100"}),
        ("shop.alpha", "insert", 101): (None, {"id": 101, "name": "n101"}),
        ("shop.alpha", "delete", 3): ({"id": 3, "name": "n3"}, None),
        ("shop.alpha", "delete", 4): ({"id": 4, "name": "n4"}, None),
        ("shop.alpha", "insert", 104): (None, {"id": 104, "name": None}),
        ("shop.beta", "update", 5): ({"id": 5, "name": "n5"}, {"id": 5, "name": "changed"}),
        ("shop.beta", "delete", 6): ({"id": 6, "name": "n6"}, None),
        ("shop.beta", "insert", 6): (None, {"id": 6, "name": "n6"}),
        ("shop.beta", "insert", 200): (None, {"id": 200, "name": "n200"}),
        ("shop.empty", "insert", 1): (None, {"id": 1, "name": "n1"}),
    }
    assert all(c.commit_time and began <= c.commit_time <= datetime.now(UTC) for c in found)


def last_state(found: list[Change[Any] | TableCopied | Boundary]) -> str:
    """Return the last boundary's state."""
    last = found[-1]
    assert isinstance(last, Boundary)
    return last.state


@pytest.mark.slow
def test_every_boundary_holds(sandbox: Sandbox) -> None:
    """From each boundary's state, all that was not given out before it comes."""
    found = items(sandbox, boundary_seconds=0)
    places = [i for i, item in enumerate(found) if isinstance(item, Boundary)]
    assert len(places) > 6
    everything = {(c.name, c.key["id"]) for c in found if isinstance(c, Change)}
    for place in places:
        boundary = found[place]
        assert isinstance(boundary, Boundary)
        before = {(c.name, c.key["id"]) for c in found[:place] if isinstance(c, Change)}
        rest = items(sandbox, state=boundary.state)
        after = {(c.name, c.key["id"]) for c in rest if isinstance(c, Change)}
        assert before | after == everything


def test_many_rows_and_few_are_the_same(sandbox: Sandbox) -> None:
    """Changes that are taken apart by column are those that are read one by one."""
    state = last_state(items(sandbox))
    ids = range(1000, 1100)
    with sandbox.cluster.transaction("shop"):
        insert(sandbox.cluster, "alpha", *ids)
    with sandbox.cluster.transaction("shop"):
        for i in ids:
            sandbox.cluster.update("shop", "alpha", {"id": b"%d" % i}, {"name": b"new"})
    with sandbox.cluster.transaction("shop"):
        for i in ids:
            sandbox.cluster.delete("shop", "alpha", {"id": b"%d" % i})
    found = [c for c in items(sandbox, state=state) if isinstance(c, Change)]
    by_operation = {
        operation: {c.key["id"]: (c.before, c.after) for c in found if c.operation == operation}
        for operation in ("insert", "update", "delete")
    }
    old = {i: {"id": i, "name": f"n{i}"} for i in ids}
    new = {i: {"id": i, "name": "new"} for i in ids}
    assert by_operation == {
        "insert": {i: (None, old[i]) for i in ids},
        "update": {i: (old[i], new[i]) for i in ids},
        "delete": {i: (new[i], None) for i in ids},
    }


def test_changed_keys_are_two_changes(sandbox: Sandbox) -> None:
    """A delete and an insert, also where the row stays on its shard, among many or alone."""
    state = last_state(items(sandbox))
    with sandbox.cluster.transaction("shop"):
        for i in range(12):
            sandbox.cluster.update("shop", "alpha", {"id": b"%d" % i}, {"id": b"%d" % (1000 + i)})
    sandbox.cluster.update("shop", "beta", {"id": b"1"}, {"id": b"1001"})
    found = {
        (c.name, c.operation, c.key["id"])
        for c in items(sandbox, state=state)
        if isinstance(c, Change)
    }
    moved = [("shop.alpha", i) for i in range(12)] + [("shop.beta", 1)]
    assert found == {(name, "delete", i) for name, i in moved} | {
        (name, "insert", 1000 + i) for name, i in moved
    }


def test_a_run_that_breaks_off_ends_with_a_boundary(sandbox: Sandbox) -> None:
    """Its state is behind what was given out, though none was due."""
    state = last_state(items(sandbox))
    for i in range(30):
        insert(sandbox.cluster, "alpha", 1000 + i)
    sandbox.faults.append(Fault(cut_after_events=60))
    found: list[Any] = []

    def refused() -> Iterator[Any]:
        once = RetryOptions(budget=0)
        for item in changes(vitess(sandbox), NAMES, state=state, retry=once, boundary_seconds=60):
            if isinstance(item, Change) and len(sandbox.faults) < 2:
                sandbox.faults.append(Fault(error="unavailable", times=None))  # of the next call
            yield item

    with pytest.raises(RetriableError):
        found.extend(refused())
    assert any(isinstance(item, Change) for item in found)
    assert isinstance(found[-1], Boundary)
    sandbox.faults.clear()
    given = {c.key["id"] for c in found if isinstance(c, Change)}
    rest = [c.key["id"] for c in items(sandbox, state=found[-1].state) if isinstance(c, Change)]
    assert given | set(rest) >= {1000 + i for i in range(30)}
    assert len(rest) < 30


def test_a_cut_copy_goes_on(sandbox: Sandbox) -> None:
    """Behind the last key of each shard: no row of before comes again."""
    rows = range(1000, 1400)
    insert(sandbox.cluster, "empty", *rows)
    given: list[int] = []
    state = None
    with serve(sandbox.cluster, options=Options(copy_rows_per_packet=20)) as small:
        with closing(changes(vitess(small), ["shop.empty"], boundary_seconds=0)) as found:
            for item in found:
                if isinstance(item, Change):
                    given.append(item.key["id"])
                elif isinstance(item, Boundary) and len(given) >= 100:
                    state = item.state
                    break
        assert state is not None
        rest = [
            c.key["id"]
            for c in changes(vitess(small), ["shop.empty"], state=state)
            if isinstance(c, Change)
        ]
    assert sorted(given + rest) == list(rows)


@pytest.mark.slow
def test_the_doctor_reads_a_state(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is a Singer state, so what lies between it and the present is told."""
    path, config = tmp_path / "state.json", tmp_path / "config.json"
    path.write_text(last_state(items(sandbox)))
    settings_ = {"host": sandbox.host, "grpc_port": sandbox.grpc_port}
    config.write_text(json.dumps({**settings_, "mysql_port": sandbox.mysql_port}))
    command = [sys.executable, "-m", "tap_vitess.doctor", "--config", str(config), "--json"]
    for purged, severity in ((False, "ok"), (True, "error")):
        if purged:
            write(sandbox.cluster)
            sandbox.cluster.purge_binlogs("shop", "-80")
        done = subprocess.run(
            [*command, "--state", str(path)], capture_output=True, text=True, check=False
        )
        found = json.loads(done.stdout)["findings"]
        told = [f["severity"] for f in found if f["check"] == "position" and "-80" in str(f)]
        assert severity in told, found


def test_tablet_type_and_cells(sandbox: Sandbox) -> None:
    """They are in every request."""
    for name in SHARDS:
        sandbox.cluster.shard("shop", name).tablet_type = "REPLICA"
    where = vitess(sandbox, tablet_type="REPLICA", cells=["zone1", "zone2"])
    list(changes(where, NAMES))
    found = {(TabletType.Name(r.tablet_type), r.flags.cells) for r in sandbox.requests}
    assert found == {("REPLICA", "zone1,zone2")}


def test_tables_that_are_left_out_keep_their_place(sandbox: Sandbox) -> None:
    """And a table that is added later is copied then."""
    where = vitess(sandbox)
    first = list(changes(where, ["shop.alpha"]))
    write(sandbox.cluster)
    second = list(changes(where, ["shop.beta", "shop.empty"], state=last_state(first)))
    names = {c.name for c in second if isinstance(c, Change)}
    assert names == {"shop.beta", "shop.empty"}
    assert [item for item in second if isinstance(item, TableCopied)]
    third = items(sandbox, state=last_state(second))
    assert {c.operation for c in third if isinstance(c, Change)} == {"insert", "delete"}
    assert {c.name for c in third if isinstance(c, Change)} == {"shop.alpha"}
    position = next(item for item in reversed(third) if isinstance(item, Boundary)).position
    assert position is not None
    assert position.shards.keys() == set(SHARDS)


@pytest.mark.parametrize(
    ("tables", "state", "error", "message"),
    [
        ([], None, ConfigError, "name at least one"),
        (["orders"], None, ConfigError, "orders is not keyspace.table"),
        (["shop.none"], None, ConfigError, "shop has no table none; it has alpha, beta, empty"),
        (["shop.alpha"], "{", StateError, "not JSON"),
        (["shop.alpha"], '{"value": 1}', StateError, "STATE message"),
        (["shop.alpha"], '{"bookmarks": {"vitess:shop": {}}}', StateError, "format None"),
    ],
)
def test_what_cannot_be_read(
    sandbox: Sandbox, tables: list[str], state: str | None, error: type[Exception], message: str
) -> None:
    """It is told in a sentence."""
    with pytest.raises(error, match=message):
        list(changes(vitess(sandbox), tables, state=state))


def test_nobody_answers() -> None:
    """That is told at once, not retried for minutes."""
    with pytest.raises(ConnectError, match="gRPC port"):
        list(changes(Vitess("127.0.0.1", 1, 1, connect_timeout_seconds=1), ["a.b"]))


def test_secrets_are_in_no_repr() -> None:
    """Of what a consumer holds."""
    where = Vitess("h", user="u", password="hush", grpc_headers={"authorization": "hush"})
    assert "hush" not in repr(where) + repr(where.config())


def test_settings_are_checked() -> None:
    """By the tap's own rules, and without quoting secrets."""
    with pytest.raises(ConfigError, match="tablet_type"):
        Vitess("h", tablet_type="MASTER")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="password is given without user") as error:
        Vitess("h", password="hush")
    assert "hush" not in str(error.value)


def test_two_keyspaces(sandbox: Sandbox) -> None:
    """One after the other, with one state; what is wrong with one does not stop the other."""
    cluster = sandbox.cluster
    cluster.create_keyspace("ref", ["0"])
    cluster.create_table("ref", table("alpha"))
    cluster.insert("ref", "alpha", [{"id": b"1"}])
    found = list(changes(vitess(sandbox), ["shop.alpha", "ref.alpha"]))
    assert {c.name for c in found if isinstance(c, Change)} == {"shop.alpha", "ref.alpha"}
    again = list(changes(vitess(sandbox), ["shop.alpha", "ref.alpha"], state=last_state(found)))
    assert not [item for item in again if not isinstance(item, Boundary)]
    seen: list[Any] = []
    with pytest.raises(ConfigError, match="shop has no table none"):
        seen.extend(changes(vitess(sandbox), ["shop.none", "ref.alpha"]))
    assert [c.name for c in seen if isinstance(c, Change)] == ["ref.alpha"]


def test_partial_images(sandbox: Sandbox) -> None:
    """What the binlog does not carry is fetched, or absent; it is never None."""
    cluster = sandbox.cluster
    columns = (Column("id", "int"), Column("n", "int"), Column("note", "text"))
    cluster.create_table("shop", Table("t", columns, primary_key=("id",)))
    for name in SHARDS:
        cluster.shard("shop", name).variables["binlog_row_image"] = "NOBLOB"
    rows = [{"id": b"%d" % i, "n": b"0", "note": b"note %d" % i} for i in range(10)]
    cluster.insert("shop", "t", rows)
    first = list(changes(vitess(sandbox), ["shop.t"]))
    for i in range(10):
        cluster.update("shop", "t", {"id": b"%d" % i}, {"n": b"1"})
    cluster.delete("shop", "t", {"id": b"3"})
    found = {
        (c.operation, c.key["id"]): c
        for c in changes(vitess(sandbox), ["shop.t"], state=last_state(first))
        if isinstance(c, Change)
    }
    assert found["update", 5].after == {"id": 5, "n": 1, "note": "note 5"}
    assert found["update", 5].before == {"id": 5, "n": 0}
    assert found["update", 3].after == {"id": 3, "n": 1}, "the row is gone: its delete follows"
    assert found["delete", 3].before == {"id": 3, "n": 1}
    omitting = vitess(sandbox, on_partial_image="omit")
    omitted = [
        c
        for c in changes(omitting, ["shop.t"], state=last_state(first))
        if isinstance(c, Change) and c.operation == "update"
    ]
    assert [c.after for c in omitted if c.after and "note" in c.after] == []


def test_fetched_values_are_objects(sandbox: Sandbox) -> None:
    """As those that the binlog carries: bytes of a BLOB, not their base64."""
    cluster = sandbox.cluster
    columns = (Column("id", "int"), Column("n", "int"), Column("raw", "blob"))
    cluster.create_table("shop", Table("t", columns, primary_key=("id",)))
    for name in SHARDS:
        cluster.shard("shop", name).variables["binlog_row_image"] = "NOBLOB"
    cluster.insert("shop", "t", [{"id": b"1", "n": b"0", "raw": b"\x00\xff"}])
    first = list(changes(vitess(sandbox), ["shop.t"]))
    cluster.update("shop", "t", {"id": b"1"}, {"n": b"1"})
    again = changes(vitess(sandbox), ["shop.t"], state=last_state(first))
    [changed] = [item for item in again if isinstance(item, Change)]
    assert changed.after == {"id": 1, "n": 1, "raw": b"\x00\xff"}


def test_a_table_without_a_key(sandbox: Sandbox) -> None:
    """It is copied and followed; its changes have an empty key."""
    cluster = sandbox.cluster
    cluster.create_table("shop", Table("log", (Column("line", "varchar(20)"),)))
    cluster.insert("shop", "log", [{"line": b"one"}, {"line": b"one"}])
    first = list(changes(vitess(sandbox), ["shop.log"]))
    assert [c.after for c in first if isinstance(c, Change)] == [{"line": "one"}] * 2
    cluster.insert("shop", "log", [{"line": b"two"}])
    second = changes(vitess(sandbox), ["shop.log"], state=last_state(first))
    assert [(c.key, c.after) for c in second if isinstance(c, Change)] == [({}, {"line": "two"})]


def test_a_start_without_a_copy(sandbox: Sandbox) -> None:
    """From now on, or from a position of before."""
    cluster = sandbox.cluster
    start = next(
        item.position
        for item in changes(vitess(sandbox), NAMES)
        if isinstance(item, Boundary) and item.position
    )
    insert(cluster, "alpha", 500)
    now = state_at(vitess(sandbox), NAMES)
    insert(cluster, "alpha", 501)
    wanted = [({"id": 501}, "insert")]
    assert [(c.key, c.operation) for c in items(sandbox, state=now) if isinstance(c, Change)] == (
        wanted
    )
    before = state_at(vitess(sandbox), NAMES, {"shop": start})
    found = [c.key["id"] for c in items(sandbox, state=before) if isinstance(c, Change)]
    assert sorted(found) == [500, 501]
    with pytest.raises(ConfigError, match="that of main is of another keyspace"):
        state_at(vitess(sandbox), ["main.t"], {"main": start})


# Level 3: finite


def test_batches(sandbox: Sandbox) -> None:
    """They end at boundaries with enough rows, carry a state, and are counted."""
    replica, state = Replica(), Store()
    done = bring(sandbox, replica, state)
    assert (done.reason, done.signum) == ("finished", None)
    assert (done.rows, done.batches) == (24, len(replica.batches))
    assert all(batch.state is not None for batch in replica.batches)
    check(sandbox.cluster, replica)
    write(sandbox.cluster)
    before = len(replica.batches)
    bring(sandbox, replica, state, batch_rows=10**6, batch_seconds=600)
    assert len(replica.batches) == before + 1, "neither full nor old: one batch, at the end"
    check(sandbox.cluster, replica)


def test_a_large_transaction_comes_in_parts(sandbox: Sandbox) -> None:
    """Only the last part carries a state, and a kill between two of them loses nothing."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state)
    with sandbox.cluster.transaction("shop"):
        insert(sandbox.cluster, "empty", *range(1000, 1300))
    after = state.state
    replica.batches.clear()

    def fail(moment: str) -> None:
        if moment == "flushed" and killed.batches[-1].state is None:
            raise KilledError

    killed = Replica(replica.tables, fail=fail)
    with pytest.raises(KilledError):
        bring(sandbox, killed, state, batch_rows=1)
    assert state.state == after
    bring(sandbox, replica, state, batch_rows=1)
    parts = [batch for batch in replica.batches if batch.state is None]
    assert parts
    assert all(len(batch.items) <= 10 for batch in parts)
    check(sandbox.cluster, replica)


MOMENTS = ("flush", "item", "flushed", "save", "saved")


@dataclass
class Killer:
    """Fails at the nth of the moments of one kind."""

    moment: str
    left: int

    def __call__(self, moment: str) -> None:
        if moment == self.moment:
            self.left -= 1
            if self.left < 0:
                raise KilledError


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(
        st.tuples(st.sampled_from(MOMENTS), st.integers(0, 12), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    cut=st.none() | st.integers(1, 60),
)
def test_killed_anywhere(kills: list[tuple[str, int, bool]], cut: int | None) -> None:
    """Whatever is killed, with lost saves, cut connections and writes between: it converges."""
    with serve(three_tables(), options=Options(copy_rows_per_packet=3)) as sandbox:
        replica, state = Replica(), Store()
        for number, (moment, left, lose) in enumerate(kills):
            replica.fail = state.fail = Killer(moment, left)
            before = state.state
            if cut is not None:
                sandbox.faults.append(Fault(cut_after_events=cut))
            try:
                bring(sandbox, replica, state, batch_rows=3)
            except KilledError:
                event(f"killed at {moment}")
            if lose:
                state.state = before
            if number == 0:
                write(sandbox.cluster)
            sandbox.cluster.delete("shop", "beta", {"id": b"%d" % number})
            sandbox.cluster.update("shop", "alpha", {"id": b"%d" % (number + 7)}, {"name": b"x"})
        replica.fail = state.fail = lambda _: None
        bring(sandbox, replica, state)
        check(sandbox.cluster, replica)


def test_a_row_deleted_between_two_attempts_of_a_copy(sandbox: Sandbox) -> None:
    """A copy whose every save is lost leaves rows behind; the version tells them apart."""
    replica, state = Replica(), Store()
    replica.fail = Killer("flushed", 0)
    with pytest.raises(KilledError):
        bring(sandbox, replica, state, batch_rows=1)
    assert replica.changes()
    state.state = None
    gone = replica.changes()[0]
    sandbox.cluster.delete("shop", gone.table, {"id": b"%d" % gone.key["id"]})
    replica.fail = lambda _: None
    bring(sandbox, replica, state)
    check(sandbox.cluster, replica)


def test_truncate(sandbox: Sandbox) -> None:
    """The table is copied again with a higher version, and the rows of before go."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state)
    first = replica.seen[-1].version
    sandbox.cluster.ddl("shop", "truncate table alpha", table("alpha"))
    insert(sandbox.cluster, "alpha", 77)
    bring(sandbox, replica, state)
    copied = [item for item in replica.seen if isinstance(item, TableCopied)]
    assert copied[-1].name == "shop.alpha"
    assert copied[-1].version > first
    check(sandbox.cluster, replica)


def test_a_new_column(sandbox: Sandbox) -> None:
    """It is in the rows from then on."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state)
    altered = table("alpha", Column("more", "int"))
    sandbox.cluster.ddl("shop", "alter table alpha add column more int", altered)
    sandbox.cluster.insert("shop", "alpha", [{"id": b"50", "name": None, "more": b"7"}])
    bring(sandbox, replica, state)
    assert {"id": 50, "name": None, "more": 7} in replica.contents("shop.alpha")


def test_a_reshard(sandbox: Sandbox) -> None:
    """It is followed, during a run and between runs."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state)
    write(sandbox.cluster)
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    insert(sandbox.cluster, "alpha", *range(500, 520))
    bring(sandbox, replica, state)
    check(sandbox.cluster, replica)
    assert {c.shard for c in replica.changes()} > {"40-80"}


def test_a_purged_position(sandbox: Sandbox) -> None:
    """An error of its own kind, and nothing is given out; or a new copy, where that is wanted."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state)
    write(sandbox.cluster)
    for shard in SHARDS:
        sandbox.cluster.purge_binlogs("shop", shard)
    kept, before = state.state, len(replica.seen)
    with pytest.raises(PositionLostError, match="purged"):
        bring(sandbox, replica, state)
    assert len(replica.seen) == before
    assert kept is not None
    resync = vitess(sandbox, on_lost_position="resync")
    consume(resync, NAMES, replica.flush, state, follow=False, retry=QUICK)
    check(sandbox.cluster, replica)


def test_a_table_that_is_gone_does_not_stop_the_others(sandbox: Sandbox) -> None:
    """What came of them is flushed and saved; the error is raised at the end."""
    replica, state = Replica(), Store()
    bring(sandbox, replica, state)
    sandbox.cluster.ddl("shop", "drop table alpha", None)
    insert(sandbox.cluster, "beta", 300)
    with pytest.raises(ConfigError, match="no table alpha"):
        bring(sandbox, replica, state)
    fresh = {"shop.beta": dict}
    consume(vitess(sandbox), fresh, replica.flush, state, follow=False, retry=QUICK)
    assert replica.contents("shop.beta") == expected(sandbox.cluster, "shop", "beta")


@dataclass(frozen=True)
class Named:
    """A row of the sandbox's tables."""

    id: int
    name: str | None


def test_rows_as_dataclasses(sandbox: Sandbox) -> None:
    """`after` is the object, `before` stays a dict."""
    replica, state = Replica(), Store()
    wanted = {"shop.alpha": Named, "shop.beta": lambda row: row["id"], "shop.empty": dict}
    where = vitess(sandbox)
    consume(where, wanted, replica.flush, state, follow=False)
    write(sandbox.cluster)
    consume(where, wanted, replica.flush, state, follow=False)
    found = {(c.name, c.operation, c.key["id"]): c for c in replica.changes()}
    assert found["shop.alpha", "insert", 104].after == Named(104, None)
    assert found["shop.alpha", "delete", 3].before == {"id": 3, "name": "n3"}
    assert found["shop.beta", "update", 5].after == 5
    assert found["shop.empty", "insert", 1].after == {"id": 1, "name": "n1"}


def test_a_row_that_does_not_fit(sandbox: Sandbox) -> None:
    """The error names table, shard and column, and the state stays before the row."""

    @dataclass
    class Short:
        id: int

    replica, state = Replica(), Store()
    with pytest.raises(MappingError, match=r"shop.alpha, shard .*80.*: Short has no field .* name"):
        consume(vitess(sandbox), {"shop.alpha": Short}, replica.flush, state, follow=False)
    assert replica.changes() == []
    nothing = {"shop.alpha": lambda _: None}
    with pytest.raises(MappingError, match=r"shop.alpha, .*: its function returned None") as error:
        consume(vitess(sandbox), nothing, replica.flush, state, follow=False)
    assert error.value.table == "alpha"
    consume(vitess(sandbox), {"shop.alpha": dict}, replica.flush, state, follow=False)
    assert replica.contents("shop.alpha") == expected(sandbox.cluster, "shop", "alpha")


def test_an_error_of_flush_ends_the_call(sandbox: Sandbox) -> None:
    """It is passed on as it is, nothing is saved, and the store is let go."""
    closed: list[bool] = []

    class Noting(Store):
        def close(self) -> None:
            closed.append(True)

    replica, state = Replica(fail=Killer("flush", 0)), Noting()
    with pytest.raises(KilledError):
        bring(sandbox, replica, state)
    assert closed == [True]


# Level 3: without an end


class Following:
    """A consumer in a thread of its own, which follows until the block is left."""

    def __init__(self, sandbox: Sandbox, replica: Replica, state: MemoryState, **more: Any) -> None:
        self._enough = threading.Event()
        self.replica = replica
        self.outcome: Consumed | BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(more.pop("where", vitess(sandbox)), state, more), daemon=True
        )

    def _run(self, where: Vitess, state: MemoryState, more: dict[str, Any]) -> None:
        arguments = {"tables": NAMES, "batch_seconds": 0, "poll_seconds": 0.3, "retry": QUICK}
        try:
            self.outcome = consume(
                where,
                flush=self.replica.flush,
                state=state,
                stop=self._enough,
                **{**arguments, **more},
            )
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.outcome = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def until(self, holds: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Wait for something."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not come"
            assert self.outcome is None, self.outcome
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the consumer hangs"


def in_step(cluster: Cluster, replica: Replica) -> Callable[[], bool]:
    """Tell whether the replica equals the sandbox."""

    def found() -> bool:
        contents = {name: replica.contents(f"shop.{name}") for name in TABLES}
        return contents == {name: expected(cluster, "shop", name) for name in TABLES}

    return found


@pytest.mark.slow
def test_follows_in_one_call(sandbox: Sandbox) -> None:
    """Changes come through the stream that stays open, whatever the poll interval; no gaps."""
    cluster, replica, state = sandbox.cluster, Replica(), Store()
    with Following(sandbox, replica, state, poll_seconds=0.2) as consumer:
        consumer.until(in_step(cluster, replica))
        streams = 0
        while streams < len(sandbox.requests):  # until all is copied and the stream is open
            streams = len(sandbox.requests)
            time.sleep(1.5)
        for i in range(5):
            insert(cluster, "alpha", 1000 + i)
            consumer.until(in_step(cluster, replica))
            time.sleep(0.3)
        write(cluster)
        consumer.until(in_step(cluster, replica))
        assert len(sandbox.requests) == streams, "a stream was opened for each change"
    assert isinstance(consumer.outcome, Consumed), consumer.outcome
    assert consumer.outcome.reason == "stopped"
    before = len(replica.seen)
    bring(sandbox, replica, state)
    assert len(replica.seen) == before, "the state at the stop is behind all that was flushed"


@pytest.mark.slow
def test_a_change_comes_without_waiting_for_a_poll(sandbox: Sandbox) -> None:
    """The stop position is for finding stalls; rows do not wait for it."""
    cluster, replica = sandbox.cluster, Replica()
    with Following(sandbox, replica, Store(), poll_seconds=600) as consumer:
        consumer.until(in_step(cluster, replica))
        time.sleep(0.5)
        insert(cluster, "alpha", 1000)
        consumer.until(in_step(cluster, replica), 5)


@pytest.mark.slow
def test_following_survives_what_happens(sandbox: Sandbox) -> None:
    """TRUNCATE, often; a cut connection; a reshard: one call, in step all the time."""
    cluster, replica = sandbox.cluster, Replica()
    with Following(sandbox, replica, Store()) as consumer:
        consumer.until(in_step(cluster, replica))
        for number in range(7):  # more often than one run copies a table again
            cluster.ddl("shop", "truncate table alpha", table("alpha"))
            insert(cluster, "alpha", number)
            consumer.until(in_step(cluster, replica))
        sandbox.faults.append(Fault(cut_after_all_events=1))
        insert(cluster, "beta", 400)
        consumer.until(in_step(cluster, replica))
        cluster.reshard("shop", ["-80"], ["-40", "40-80"])
        insert(cluster, "beta", *range(500, 540))
        consumer.until(in_step(cluster, replica))
    assert isinstance(consumer.outcome, Consumed), consumer.outcome


@pytest.mark.slow
def test_an_error_is_not_hidden_by_following(sandbox: Sandbox) -> None:
    """A table that can no longer be read ends the call, though others could be followed on."""
    cluster, replica, state = sandbox.cluster, Replica(), Store()
    with Following(sandbox, replica, state) as consumer:
        consumer.until(in_step(cluster, replica))
        cluster.ddl("shop", "drop table alpha", None)
        insert(cluster, "beta", 400)
        consumer.join()
    assert isinstance(consumer.outcome, TableGoneError), consumer.outcome
    fresh = {"shop.beta": dict}
    consume(vitess(sandbox), fresh, replica.flush, state, follow=False, retry=QUICK)
    assert replica.contents("shop.beta") == expected(cluster, "shop", "beta")


def test_an_idle_stream_makes_progress() -> None:
    """At its stop position heartbeats are signs and steps, so a cut after hours is a first fault.

    Behind it they are not: what SQL knows of has to come.
    """
    start, stop = position(5), position(6)
    feed = EndlessStream(["alpha"], start, start, RequestOptions())
    heartbeat = VEvent(type=VEventType.HEARTBEAT, current_time=1)
    feed.feed([heartbeat])
    assert (feed.reached, feed.finished) == (True, False)
    assert feed.signs
    assert feed.steps
    feed.stop_at(stop)
    before = feed.signs, feed.steps
    feed.feed([heartbeat])
    assert not feed.reached
    assert (feed.signs, feed.steps) == before


def position(last: int) -> Vgtid:
    uuid = "3e1e2083-9b67-52e3-be67-a5259638df3f"
    return Vgtid("shop", {"0": GtidSet.parse(f"{uuid}:1-{last}")})


@pytest.mark.slow
def test_what_sql_knows_of_and_the_stream_does_not_bring(sandbox: Sandbox) -> None:
    """It is a stall, and in the end an error: heartbeats alone do not keep a consumer content."""
    cluster, replica = sandbox.cluster, Replica()
    strict = RetryOptions(budget=0.5, longest_wait=0.05, stall=1.5, suspect=0.3)
    with Following(sandbox, replica, Store(), retry=strict) as consumer:
        consumer.until(in_step(cluster, replica))
        time.sleep(0.5)
        sandbox.faults.append(Fault(stall_after_events=1, times=None))
        sandbox.faults.append(Fault(cut_after_all_events=1))
        time.sleep(1.5)
        insert(cluster, "alpha", 1000)
        consumer.join()
    assert isinstance(consumer.outcome, RetriableError), consumer.outcome


@pytest.mark.slow
def test_follows_two_keyspaces_at_once(sandbox: Sandbox) -> None:
    """Neither waits for the other, and one state holds both."""
    cluster, replica, state = sandbox.cluster, Replica(), Store()
    cluster.create_keyspace("ref", ["0"])
    cluster.create_table("ref", table("alpha"))
    names = {**NAMES, "ref.alpha": dict}
    with Following(sandbox, replica, state, tables=names) as consumer:
        consumer.until(in_step(cluster, replica))
        for i in range(3):
            cluster.insert("ref", "alpha", [{"id": b"%d" % i}])
            insert(cluster, "beta", 1000 + i)
            consumer.until(in_step(cluster, replica))
            consumer.until(
                lambda: replica.contents("ref.alpha") == expected(cluster, "ref", "alpha")
            )
    assert isinstance(consumer.outcome, Consumed), consumer.outcome
    assert state.state is not None
    assert "vitess:ref" in state.state
    assert "vitess:shop" in state.state


def test_leaving_changes_early(sandbox: Sandbox) -> None:
    """The iterator can be closed at any item."""
    for count in (1, 5, 30):
        with closing(changes(vitess(sandbox), NAMES, follow=True)) as found:
            for _ in range(count):
                next(found)


# Signals


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_a_boundary(sandbox: Sandbox, signum: int) -> None:
    """All that came is flushed and saved, and the handlers of before are back."""
    replica, state = Replica(), Store()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def send() -> None:
        end = time.monotonic() + SECONDS
        while not in_step(sandbox.cluster, replica)() and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send)
    sender.start()
    done = consume(vitess(sandbox), NAMES, replica.flush, state, poll_seconds=0.2)
    sender.join()
    assert (done.reason, done.signum) == ("signal", signum)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    check(sandbox.cluster, replica)
    flushed = list(replica.changes())
    bring(sandbox, replica, state)  # where it came before the end of the last copy, to tell of that
    assert replica.changes() == flushed


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("read", [changes, arrow_changes, events])
def test_a_signal_ends_an_iterator(
    sandbox: Sandbox, read: Callable[..., Generator[object, None, None]], signum: int
) -> None:
    """Where it says so: at a boundary, and the handlers of before are back."""
    more = {"copy": True} if read is events else {"follow": True}
    names = [name for name in NAMES if name.startswith("shop.")]
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    items = read(vitess(sandbox), names, signals=True, **more)
    last = next(items)
    threading.Timer(0.5, os.kill, (os.getpid(), signum)).start()
    began = time.monotonic()
    for item in items:
        last = item
    assert time.monotonic() - began < SECONDS
    assert read is events or isinstance(last, Boundary)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_signal_ends_at_once(sandbox: Sandbox) -> None:
    """Also in the middle of flush."""

    def flush(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    began = time.monotonic()
    with pytest.raises(SystemExit) as error:
        consume(vitess(sandbox), NAMES, flush, Store())
    assert error.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5


def test_signals_can_be_left_alone(sandbox: Sandbox) -> None:
    """For who has handlers of his own."""
    kept = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []
    replica = Replica(fail=lambda _: seen.append(signal.getsignal(signal.SIGTERM)))
    consume(vitess(sandbox), NAMES, replica.flush, Store(), follow=False, signals=False)
    assert set(seen) == {kept}


def test_stop_asked_before_anything_was_read(sandbox: Sandbox) -> None:
    """Nothing is flushed."""
    replica = Replica()
    done = consume(vitess(sandbox), NAMES, replica.flush, Store(), stop=lambda: True)
    assert (done.reason, done.rows) == ("stopped", 0)


def test_errors_are_of_one_family() -> None:
    """One except clause is enough."""
    for kind in (ConfigError, MappingError, PositionLostError, TableGoneError, StateError):
        assert issubclass(kind, VitessError)
