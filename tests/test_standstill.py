"""A run that reaches its limit while nothing comes is no success; one that has come further is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.airbyte import Connector
from support.shops import insert, served, three_tables
from support.taps import Target, check, discover, run, settings

from tap_vitess.errors import RetriableError
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.standstill import SILENT_SECONDS, Standstill
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream.changes import changes
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vtgate.retry import RetryOptions

TAP = Path(sys.executable).with_name("tap-vitess")
SECONDS = 30
pytestmark = [
    pytest.mark.slow,
    served(lambda: three_tables(40), options=Options(copy_rows_per_packet=2)),
]

NEVER = "max_run_seconds was reached, and"


def unavailable() -> Fault:
    return Fault(error="unavailable", times=None)


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_nothing_but_faults(sandbox: Sandbox, phase: str) -> None:
    """VStream never answers: an error that names the limit and the fault, behind a STATE."""
    target = Target()
    if phase == "stream":
        run(settings(sandbox), target)
        insert(sandbox.cluster, "alpha", 100)
    sandbox.faults.append(unavailable())
    seen = len(target.messages)
    with pytest.raises(RetriableError, match=f"{NEVER} the .*{phase}.* of shop.*UNAVAILABLE"):
        run(settings(sandbox, max_run_seconds=3), target)
    assert "RECORD" not in {m["type"] for m in target.messages[seen:]}
    assert target.messages[-1]["type"] == "STATE"
    sandbox.faults.clear()
    assert run(settings(sandbox), target)
    check(sandbox, target)


def test_a_run_that_came_further_ends_well(sandbox: Sandbox) -> None:
    """Faults at the limit are passing ones as long as each run brings the copy on."""
    target, config = Target(), settings(sandbox, max_run_seconds=3)
    sandbox.faults.append(Fault(cut_after_all_events=60, times=None))
    assert run(config, target)
    assert target.records()
    with pytest.raises(RetriableError, match=NEVER):
        run(config, target)  # which finds the fault where the first run met it
    sandbox.faults.clear()
    assert run(settings(sandbox), target)
    check(sandbox, target)


def test_a_copy_that_never_begins_is_not_hidden_by_others(sandbox: Sandbox) -> None:
    """Changes come in each run, and one table's copy fails in each."""
    target, config = Target(), settings(sandbox, tables=["shop.alpha", "shop.empty"])
    assert run(config, target)
    insert(sandbox.cluster, "alpha", 300)
    events = _events_of(sandbox, config, target)
    insert(sandbox.cluster, "alpha", 301)
    sandbox.faults.append(Fault(cut_after_all_events=events + 9, times=None))
    with pytest.raises(RetriableError, match=f"{NEVER} the copy of shop.beta"):
        run(settings(sandbox, max_run_seconds=4), target)
    assert 301 in {record["id"] for record in target.records("shop-alpha")}


def _events_of(sandbox: Sandbox, config: dict[str, Any], target: Target) -> int:
    """Run, and count the events that VTGate has sent until now, by a fault that never comes."""
    sandbox.faults.append(Fault(cut_after_all_events=10**9, times=None))
    assert run(config, target)
    sandbox.faults.clear()
    return sandbox.faults.count_event()


def test_a_signal_is_no_failure(sandbox: Sandbox, tmp_path: Path) -> None:
    """A run told to end among faults ends as any other: 128 + signal, and no error."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings(sandbox)))
    catalog = tmp_path / "catalog.json"
    catalog.write_text(json.dumps(discover(settings(sandbox))))
    sandbox.faults.append(unavailable())
    log = tmp_path / "log"
    with log.open("wb") as stderr, (tmp_path / "out").open("wb") as stdout:
        command = [str(TAP), "--config", str(config), "--catalog", str(catalog)]
        tap = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        end = time.monotonic() + SECONDS
        while b"is opened again" not in log.read_bytes():
            assert time.monotonic() < end
            time.sleep(0.05)
        tap.send_signal(signal.SIGTERM)
        assert tap.wait(SECONDS) == 128 + signal.SIGTERM
    assert NEVER not in log.read_text()


@pytest.mark.parametrize("phase", ["copy", "stream"])
def test_airbyte(sandbox: Sandbox, tmp_path: Path, phase: str) -> None:
    """No stream is complete, the error is told, and the exit code is 1."""
    connector = Connector(tmp_path, settings(sandbox, tables=["shop.alpha"]))
    catalog, state = connector.catalog(), None
    if phase == "stream":
        state = connector.run("read", catalog=catalog).state
        insert(sandbox.cluster, "alpha", 100)
    sandbox.faults.append(unavailable())
    connector.config["max_run_seconds"] = 4
    done = connector.run("read", catalog=catalog, **({"state": state} if state else {}))
    assert done.code == 1
    [error] = done.traces("ERROR")
    assert NEVER in error["message"]
    assert error["failure_type"] == "transient_error"
    assert done.statuses()["alpha"][-1] == "INCOMPLETE"


def test_the_library_ends_where_it_is_told_to(sandbox: Sandbox) -> None:
    """Who stops an iterator among faults knows why; it ends without an error."""
    sandbox.faults.append(unavailable())
    vitess = Vitess(sandbox.host, grpc_port=sandbox.grpc_port, mysql_port=sandbox.mysql_port)
    end = time.monotonic() + 0.5
    found = changes(
        vitess,
        ["shop.alpha"],
        stop=lambda: time.monotonic() > end,
        retry=RetryOptions(longest_wait=0.05),
    )
    assert [item for item in found if not hasattr(item, "state")] == []


# What counts, without a run

OPTIONS = RequestOptions()


def stream() -> ChangeStream:
    start = Vgtid("shop", {"-": GtidSet.parse("")})
    stop = Vgtid("shop", {"-": GtidSet.parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5")})
    return ChangeStream(["alpha"], start, stop, OPTIONS)


def copy() -> TableCopy:
    return TableCopy("beta", {"-": None}, None, OPTIONS, keyspace="shop", resumable=True)


def test_silence_counts_when_nothing_at_all_has_come() -> None:
    """A stream that only stands still is told after a while, unless something else has moved."""
    silent = Standstill()
    silent.begin("stream", stream(), 0.0)
    assert silent.found(SILENT_SECONDS - 0.1) is None
    assert "nothing has come in 12 s" in str(silent.found(12.0))
    other = copy()
    silent.begin("copy", other, 0.0)
    other.steps += 1
    assert silent.found(12.0) is None


def test_a_fault_counts_until_its_own_part_moves() -> None:
    """Not one of another part, and also where the part had to begin again."""
    standstill, feed = Standstill(), copy()
    standstill.begin("stream", moving := stream(), 0.0)
    moving.steps += 1
    standstill.begin("copy", feed, 0.0)(RetriableError("lost"))
    assert "lost" in str(standstill.found(0.1))
    standstill.end("copy")
    standstill.begin("copy", again := copy(), 0.0)
    assert "lost" in str(standstill.found(0.1))
    again.steps += 1
    assert standstill.found(0.1) is None
    standstill.end("copy")
    standstill.begin("copy", copy(), 0.0)(RetriableError("lost"))
    assert standstill.found(0.1) is None
