"""The command line, in a process of its own: exit codes, one sentence, clean stdout, signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.airbyte import Connector
from support.shops import served
from support.taps import settings

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.errors import RECORDED
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.stdout import STUCK_SECONDS

SECONDS = 30
# The tap, but it gives up at the first fault instead of after two minutes.
IMPATIENT = """
from support.taps import ImpatientTap
from tap_vitess.singer.tap import main
main(ImpatientTap)
"""
SECRET = "correct-horse"


def cluster(rows: int = 200) -> Cluster:
    made = Cluster()
    made.create_keyspace("shop", ["-80", "80-"])
    columns = (Column("id", "int", nullable=False), Column("secret", "varchar(40)"))
    made.create_table("shop", Table("item", columns, primary_key=("id",)))
    values = [{"id": b"%d" % i, "secret": b"value-nobody-may-log"} for i in range(rows)]
    made.insert("shop", "item", values)
    return made


pytestmark = [pytest.mark.slow, served(cluster, username="elt", password=SECRET)]


def write(path: Path, value: object) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def credentials(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    return settings(sandbox, **{"user": "elt", "password": SECRET, **more})


def command(arguments: Sequence[str], *, impatient: bool = False) -> list[str]:
    start = ["-c", IMPATIENT] if impatient else ["-m", "tap_vitess"]
    return [sys.executable, "-W", "error", *start, *arguments]


def tap(*arguments: str, impatient: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the tap."""
    return subprocess.run(
        command(arguments, impatient=impatient),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


def the_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of the error; there is no traceback and nothing secret."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
    assert "value-nobody-may-log" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if "| CRITICAL |" in line]
    assert re.findall(r"\[TV\d{3}\]", line) == re.findall(r"\[TV\d{3}\]$", line) != []
    return line


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "no-such-host.invalid"}, "MySQL port no-such-host.invalid"),
        ({"mysql_port": "closed"}, "MySQL port 127.0.0.1:.* check the settings host"),
        ({"grpc_port": "closed"}, "gRPC port 127.0.0.1:.* check the settings host, grpc_port"),
        ({"grpc_port": "mysql"}, "gRPC port 127.0.0.1:.* check the settings"),
        ({"mysql_port": "grpc"}, "MySQL port 127.0.0.1:.* check the settings"),
        ({"user": "nobody"}, "refuses the user or the password"),
        ({"password": "wrong"}, "refuses the user or the password"),
        ({"tls": True}, "MySQL port 127.0.0.1:.* tls"),
        ({"keyspaces": ["nope"]}, "setting keyspaces: VTGate does not know nope"),
        ({"tables": ["shop.nope"]}, "setting tables: shop.nope matches no table"),
        ({"tls_ca_file": "x"}, "tls is not true"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_settings(
    sandbox: Sandbox, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """One sentence that names the setting, exit code 1, nothing on stdout, within seconds."""
    ports = {"closed": closed_port(), "mysql": sandbox.mysql_port, "grpc": sandbox.grpc_port}
    change = {k: ports.get(v, v) if isinstance(v, str) else v for k, v in change.items()}
    config = credentials(sandbox, connect_timeout_seconds=3, **change)
    began = time.monotonic()
    done = tap("--config", write(tmp_path / "c.json", config))
    sentence = the_sentence(done)
    assert re.search(words, sentence), sentence
    assert "RECORD" not in done.stdout
    assert time.monotonic() - began < 15


def test_wrong_grpc_credentials(tmp_path: Path) -> None:
    """They are refused at once, and not after a stream's 90 seconds."""
    with serve(cluster(), username="elt", password=SECRET) as guarded, serve(cluster()) as free:
        config = settings(free, grpc_port=guarded.grpc_port, user="elt", password="wrong")
        done = tap("--config", write(tmp_path / "c.json", config))
    assert "check the settings user and password" in the_sentence(done)


def test_bad_config_is_told_setting_by_setting(tmp_path: Path) -> None:
    """The SDK's validation names each."""
    done = tap("--config", write(tmp_path / "c.json", {"grpc_port": "x", "tablet_type": "ANY"}))
    assert done.returncode == 1
    for name in ("host", "grpc_port", "tablet_type"):
        assert name in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_errors_end_the_run(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """Each recorded error is a sentence with advice, exit code 1, and the last line is a STATE."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    sandbox.faults.append(Fault(error=name, times=None))
    done = tap("--config", config, impatient=True)
    sentence = the_sentence(done)
    if RECORDED[name].code not in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        assert "VTGate said" in sentence
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "STATE"


@pytest.mark.parametrize(
    "state",
    [
        {"bookmarks": {"vitess:shop": {}}},
        {"bookmarks": {"vitess:shop": {"format": 9}}},
        {"bookmarks": {"vitess:shop": {"format": 1, "groups": "x", "copies": "{}", "seq": 0}}},
    ],
)
def test_a_state_that_cannot_be_read(
    sandbox: Sandbox, tmp_path: Path, state: dict[str, Any]
) -> None:
    """It is refused before anything is read, and no STATE replaces it."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    done = tap("--config", config, "--state", write(tmp_path / "s.json", state))
    assert "bookmark vitess:shop" in the_sentence(done)
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--config", "--state", "--catalog"])
def test_files_that_are_no_json(sandbox: Sandbox, tmp_path: Path, option: str) -> None:
    """One sentence, no traceback."""
    (tmp_path / "bad.json").write_text("{bad")
    arguments = ["--config", write(tmp_path / "c.json", credentials(sandbox))]
    done = tap(*arguments, option, str(tmp_path / "bad.json"))
    assert "bad.json is not JSON" in the_sentence(done)


@pytest.mark.parametrize("state", [[], "text", {"bookmarks": []}, {"bookmarks": {"a": 1}}])
def test_states_that_are_none(sandbox: Sandbox, tmp_path: Path, state: object) -> None:
    """They are not taken for the state of a first run."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    done = tap("--config", config, "--state", write(tmp_path / "s.json", state))
    said = the_sentence(done)
    assert "not a Singer state" in said or "s.json: an object is expected" in said


def test_a_state_message_is_no_state(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is not taken for the state of a first run."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    message = {"type": "STATE", "value": {"bookmarks": {}}}
    done = tap("--config", config, "--state", write(tmp_path / "s.json", message))
    assert "a STATE message" in the_sentence(done)


def test_discover_and_about(sandbox: Sandbox, tmp_path: Path) -> None:
    """stdout holds one JSON document."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    done = tap("--config", config, "--discover")
    assert done.returncode == 0
    assert [s["tap_stream_id"] for s in json.loads(done.stdout)["streams"]] == ["shop-item"]
    about = tap("--about", "--format", "json")
    assert json.loads(about.stdout)["name"] == "tap-vitess"


def test_connection_test(sandbox: Sandbox, tmp_path: Path) -> None:
    """--test reads a record of each stream."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    done = tap("--config", config, "--test")
    assert done.returncode == 0, done.stderr
    assert '"RECORD"' in done.stdout


def test_nothing_but_singer_on_stdout(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each line is a message; nothing secret is logged, at the finest level either."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    os.environ["TAP_VITESS_LOGLEVEL"] = "DEBUG"
    try:
        done = tap("--config", config)
    finally:
        del os.environ["TAP_VITESS_LOGLEVEL"]
    assert done.returncode == 0
    kinds = {json.loads(line)["type"] for line in done.stdout.splitlines()}
    assert kinds == {"STATE", "SCHEMA", "RECORD", "ACTIVATE_VERSION"}
    assert SECRET not in done.stderr
    assert "value-nobody-may-log" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("stalled", [True, False], ids=["idle", "copying"])
def test_signals_end_the_run_at_a_boundary(
    tmp_path: Path, number: signal.Signals, *, stalled: bool
) -> None:
    """Exit code 128 + signal, the last line a STATE, and the next run finishes the work."""
    with serve(cluster(20_000)) as sandbox:
        config = write(tmp_path / "c.json", settings(sandbox))
        if stalled:
            sandbox.faults.append(Fault(stall_after_events=600, times=None))
        output = tmp_path / "out"
        with output.open("wb") as stdout, (tmp_path / "err").open("wb") as stderr:
            running = subprocess.Popen(command(["--config", config]), stdout=stdout, stderr=stderr)
            wait_for(output, b'"RECORD"')
            running.send_signal(number)
            assert running.wait(SECONDS) == 128 + number, (tmp_path / "err").read_text()
        lines = output.read_text().splitlines()
        last = json.loads(lines[-1])
        assert last["type"] == "STATE"
        sandbox.faults.clear()
        done = tap("--config", config, "--state", write(tmp_path / "s.json", last["value"]))
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in (*lines, *done.stdout.splitlines())]
        assert {r["record"]["id"] for r in records if r["type"] == "RECORD"} == set(range(20_000))


@pytest.mark.parametrize("heard", [True, False], ids=["stderr is read", "nothing is read"])
@pytest.mark.parametrize("module", ["tap_vitess", "tap_vitess.airbyte"])
def test_a_signal_while_nobody_reads(tmp_path: Path, module: str, *, heard: bool) -> None:
    """It ends by itself, says why, and does not wait for the pipe at its end."""
    read_end, write_end = os.pipe()
    with serve(cluster(20_000)) as sandbox:
        config = settings(sandbox)
        arguments = ["--config", write(tmp_path / "c.json", config)]
        if module.endswith("airbyte"):
            catalog = Connector(tmp_path, config).catalog()
            arguments = ["read", *arguments, "--catalog", write(tmp_path / "k.json", catalog)]
        with subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=write_end,
        ) as running:
            assert running.stdout is not None
            while b'"RECORD"' not in running.stdout.readline():
                pass
            if not heard:
                fill(write_end)
            running.send_signal(signal.SIGTERM)
            started = time.monotonic()
            assert running.wait(SECONDS) == 128 + signal.SIGTERM
            assert time.monotonic() - started > STUCK_SECONDS - 1
    os.close(write_end)
    with os.fdopen(read_end, "rb") as log:
        errors = log.read().decode()
    if heard:
        assert "nobody has taken anything from stdout" in errors
        assert "Traceback" not in errors


def fill(pipe: int) -> None:
    """Let whoever writes to a pipe wait."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(100_000):
            os.write(pipe, b"x")
    os.set_blocking(pipe, True)


def catches_sigterm(pid: int) -> bool:
    """Tell whether a process has a handler of its own for SIGTERM (Python has one for SIGINT)."""
    [caught] = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_while_the_tap_starts(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals
) -> None:
    """The exit code is 128 + signal from the first line of ours on, before the long imports."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    start = [sys.executable, "-m", "tap_vitess", "--config", config]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        end = time.monotonic() + SECONDS
        while not catches_sigterm(running.pid):
            assert time.monotonic() < end
            time.sleep(0.002)
        running.send_signal(number)
        out, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + number, errors.decode()
    assert out == b""


def wait_for(path: Path, words: bytes) -> None:
    end = time.monotonic() + SECONDS
    while words not in path.read_bytes():
        assert time.monotonic() < end, "the tap wrote nothing"
        time.sleep(0.02)


def test_a_target_that_goes_away(sandbox: Sandbox, tmp_path: Path) -> None:
    """The tap says so, without a traceback, and does not report success."""
    config = write(tmp_path / "c.json", credentials(sandbox))
    with subprocess.Popen(
        command(["--config", config]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read().decode()
        assert running.wait(SECONDS) == 1
    assert "the target has closed the pipe" in errors
    assert "Traceback" not in errors
