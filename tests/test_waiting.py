"""A VTGate that says nothing, and a copy that waits for its lock: a run ends when it is told to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pipeline import Asked, QuickTap, Target, run
from pipeline import settings as tap_settings

from tap_vitess.errors import StalledError
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.survey.facts import LockWait
from tap_vitess.vtgate.retry import RetryOptions

LONGEST_SECONDS = 10
TABLES = ("one", "two", "three")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Serve a keyspace of some tables; what is mute speaks again at the end."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    for name in TABLES:
        columns = (Column("id", "bigint", nullable=False),)
        cluster.create_table("shop", Table(name, columns, primary_key=("id",)))
        cluster.insert("shop", name, [{"id": b"%d" % i} for i in range(20)])
    with serve(cluster) as served:
        yield served
        served.faults.clear()


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


class Locked(Asked):
    """A survey that knows of a copy that waits."""

    def lock_waits(self, table: str) -> list[LockWait]:
        return [LockWait("-80", table, 12, 3, "2026-01-02 03:04:05", 47)]


def test_a_copy_that_waits_for_its_lock_is_told_of() -> None:
    """The shard, since when, and whose transaction is the oldest; of a stream nothing is said."""
    position = Vgtid("shop", {"-80": GtidSet.parse("")})
    told = Locked(lambda: position)
    inquiry = Inquiry("shop", told, "PRIMARY", RetryOptions(budget=0), lambda: False)
    found = inquiry.look(StalledError("nothing has come"), None, "one")
    assert isinstance(found, StalledError)
    assert (
        "shard -80 waits for a lock since 12 s: LOCK TABLES one READ, which a copy begins with; a "
        "transaction is open there since 2026-01-02 03:04:05 (MySQL's thread 47), 3 in all"
    ) in str(found)
    assert "LOCK TABLES" not in str(inquiry.look(StalledError("nothing has come"), None))
