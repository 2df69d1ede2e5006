"""A VTGate that says nothing, and a copy that waits for its lock: a run ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.shops import served, shop
from support.taps import Asked, QuickTap, Target, run
from support.taps import settings as tap_settings

from tap_vitess.config import Config
from tap_vitess.errors import RetriableError, StalledError
from tap_vitess.mirror import commands as mirror_command
from tap_vitess.mirror.row import Place, create
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.diagnosis import Diagnosis
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.blockers import lock_waits
from tap_vitess.survey.discovery import patiently_described
from tap_vitess.survey.facts import LockWait
from tap_vitess.vtgate.retry import RetryOptions

LONGEST_SECONDS = 10
TABLES = ("one", "two", "three")


def some_tables() -> Cluster:
    columns = (Column("id", "bigint", nullable=False),)
    cluster = shop(*(Table(name, columns, primary_key=("id",)) for name in TABLES))
    for name in TABLES:
        cluster.insert("shop", name, [{"id": b"%d" % i} for i in range(20)])
    return cluster


pytestmark = [pytest.mark.slow, served(some_tables)]


class PatientTap(QuickTap):
    """A tap that takes no silence for a fault while a test lasts."""

    retry = RetryOptions(budget=300, silence=300)


def end_when(ready: Callable[[], bool], config: dict[str, object], target: Target) -> float:
    """Run, send SIGTERM half a second after something has happened; return how long it took."""
    sent: list[float] = []

    def kill() -> None:
        while not ready():
            time.sleep(0.01)
        time.sleep(0.5)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(SystemExit) as ended:
        run(config, target, tap_class=PatientTap)
    assert ended.value.code == 128 + signal.SIGTERM
    assert target.messages[-1]["type"] == "STATE"
    return time.monotonic() - sent[0]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("events", [0, 5])
def test_a_mute_copy(sandbox: Sandbox, events: int, parallel: int) -> None:
    """No response, before the first row or behind some, of one copy or of several."""
    sandbox.faults.append(Fault(mute_after_events=events))
    config = tap_settings(sandbox, copy_parallelism=parallel)
    assert end_when(lambda: bool(sandbox.requests), config, Target()) < LONGEST_SECONDS


def test_a_mute_stream(sandbox: Sandbox) -> None:
    """The changes do not come."""
    config, target = tap_settings(sandbox), Target()
    assert run(config, target)
    streams = len(sandbox.requests)
    sandbox.cluster.insert("shop", "one", [{"id": b"99"}])
    sandbox.faults.append(Fault(mute_after_events=0))
    assert end_when(lambda: len(sandbox.requests) > streams, config, target) < LONGEST_SECONDS


def test_a_mute_mysql_port(sandbox: Sandbox) -> None:
    """The first question, which is asked before any stream, gets no answer."""
    target = Target()
    sandbox.faults.append(Fault(no_answer_to="gtid_executed"))
    assert end_when(lambda: bool(target.messages), tap_settings(sandbox), target) < LONGEST_SECONDS


def test_a_mute_mirror(sandbox: Sandbox) -> None:
    """A write at a checkpoint gets no answer, and neither does the last one."""
    sandbox.cluster.create_keyspace("main", ["0"])
    config = tap_settings(sandbox, mirror_keyspace="main", mirror_name="job")
    where = Place("main", "tap_vitess_mirror", "job")
    create(Config.from_settings(config), where)

    def begun() -> bool:
        return any(row["confirmed_at"] for row in sandbox.cluster.rows("main", where.table))

    sandbox.faults.append(Fault(no_answer_to="set emitted"))
    assert end_when(begun, config, Target()) < 2 * LONGEST_SECONDS


def test_a_mute_lookup(sandbox: Sandbox) -> None:
    """A column that a change does not carry is asked for, and there is no answer."""
    for shard in ("-80", "80-"):
        sandbox.cluster.shard("shop", shard).variables["binlog_row_image"] = "NOBLOB"
    columns = (Column("id", "int"), Column("n", "int"), Column("note", "text"))
    sandbox.cluster.create_table("shop", Table("noted", columns, primary_key=("id",)))
    sandbox.cluster.insert("shop", "noted", [{"id": b"1", "n": b"1", "note": b"a"}])
    config, target = tap_settings(sandbox), Target()
    assert run(config, target)
    streams = len(sandbox.requests)
    sandbox.cluster.update("shop", "noted", {"id": b"1"}, {"n": b"2"})
    sandbox.faults.append(Fault(no_answer_to="`note` as c"))
    assert end_when(lambda: len(sandbox.requests) > streams, config, target) < LONGEST_SECONDS


def test_tables_that_are_not_described(sandbox: Sandbox) -> None:
    """Whoever asks for the tables of a keyspace may be told to stop as well."""
    sandbox.faults.append(Fault(no_answer_to="information_schema.columns"))
    config = Config.from_settings(tap_settings(sandbox))
    began = time.monotonic()
    with pytest.raises(RetriableError, match=r"^keyspace shop: .*asked to end"):
        patiently_described(config, "shop", RetryOptions(), lambda: True)
    assert time.monotonic() - began < LONGEST_SECONDS


def test_a_state_that_is_not_confirmed(sandbox: Sandbox) -> None:
    """A pipe that is killed does not wait for a mirror that says nothing."""
    sandbox.cluster.create_keyspace("main", ["0"])
    settings = tap_settings(sandbox, mirror_keyspace="main", mirror_name="job")
    config = Config.from_settings(settings)
    create(config, Place("main", "tap_vitess_mirror", "job"))
    target = Target()
    assert run(settings, target)
    began: list[float] = []

    def lines() -> Iterator[bytes]:
        for state in target.states[:2]:
            yield json.dumps(state).encode()
        sandbox.faults.append(Fault(no_answer_to="set confirmed"))
        began.append(time.monotonic())
        raise SystemExit(128 + signal.SIGTERM)

    with pytest.raises(SystemExit):
        mirror_command.confirm(config, lines())
    assert 1 < time.monotonic() - began[0] < LONGEST_SECONDS


def test_a_copy_that_waits_for_its_lock_is_told_of() -> None:
    """The shard, since when, and whose transaction is the oldest; of a stream nothing is said."""
    position = Vgtid("shop", {"-80": GtidSet.parse("")})
    waits = [LockWait("-80", "one", 12, 3, "2026-01-02 03:04:05", 47)]
    told = Asked(lambda: position, {lock_waits: waits})
    looking = Diagnosis(told, RetryOptions(budget=0), lambda: False)
    found = looking.look(StalledError("nothing has come"), None, "one")
    assert isinstance(found, StalledError)
    assert (
        "shard -80 waits for a lock since 12 s: LOCK TABLES one READ, which a copy begins with; a "
        "transaction is open there since 2026-01-02 03:04:05 (MySQL's thread 47), 3 in all"
    ) in str(found)
    assert "LOCK TABLES" not in str(looking.look(StalledError("nothing has come"), None))
