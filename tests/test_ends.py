"""Scripts where stdout, stderr or a disk cannot be used, or a port is taken, or Ctrl-C is pressed.

One sentence, and exit code 1 or 128 + the signal's number.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.airbyte import Connector
from support.shops import served, three_tables
from support.taps import settings

from tap_vitess.sandbox.server import Sandbox

pytestmark = [pytest.mark.slow, served(lambda: three_tables(400))]

SECONDS = 60
QUICK = ("doctor", "mirror", "airbyte", "load", "sandbox")
COMMANDS = [
    ["tap_vitess"],
    ["tap_vitess", "--discover"],
    ["tap_vitess", "--about"],
    ["tap_vitess.doctor"],
    ["tap_vitess.mirror", "ddl"],
    ["tap_vitess.airbyte", "discover"],
    ["tap_vitess.airbyte", "read"],
    ["tap_vitess.sandbox"],
]


def command(sandbox: Sandbox, folder: Path, words: Sequence[str]) -> list[str]:
    """Return a command with its settings, in files."""
    module, *rest = words
    start = [sys.executable, "-m", module, *rest]
    if "--about" in rest:
        return start
    if module.endswith("sandbox"):
        return [*start, "--grpc-port=0", "--mysql-port=0", "--rows=3"]
    given = settings(sandbox)
    if module.endswith("mirror"):
        given |= {"mirror_keyspace": "shop", "mirror_name": "m"}
    config = folder / "config.json"
    config.write_text(json.dumps(given))
    start += ["--config", str(config)]
    if "read" in rest:
        catalog = folder / "catalog.json"
        catalog.write_text(json.dumps(Connector(folder, given).catalog()))
        start += ["--catalog", str(catalog)]
    return start


def ended(words: Sequence[str], **how: Any) -> tuple[int, str]:
    """Run a command; return its exit code and what stands in stderr."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **how}
    done = subprocess.run(words, text=True, timeout=SECONDS, check=False, **streams)
    return done.returncode, done.stderr or ""


def one_sentence(done: tuple[int, str], words: str) -> None:
    """Expect exit code 1, and that the last line says it."""
    code, errors = done
    assert code == 1, errors
    assert "Traceback" not in errors
    assert "Exception in" not in errors
    assert words in errors.splitlines()[-1], errors


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_disk(sandbox: Sandbox, tmp_path: Path, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = ended(command(sandbox, tmp_path, words), stdout=full)
    one_sentence(done, "stdout cannot be written to (No space left on device)")


@pytest.mark.parametrize("words", [COMMANDS[i] for i in (1, 3, 5)], ids=" ".join)
def test_nobody_reads(sandbox: Sandbox, tmp_path: Path, words: list[str]) -> None:
    """As in `doctor | true`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        done = ended(command(sandbox, tmp_path, words), stdout=pipe)
    one_sentence(done, "the target has closed the pipe")


def by_shell(words: str, start: Sequence[str]) -> list[str]:
    """Return a command whose shell says something first, or redirects it."""
    return ["sh", "-c", words, "sh", *start]


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[6]], ids=" ".join)
def test_a_file_that_is_as_large_as_it_may_be(
    sandbox: Sandbox, tmp_path: Path, words: list[str]
) -> None:
    with (tmp_path / "out").open("w") as out:
        start = command(sandbox, tmp_path, words)
        done = ended(by_shell('ulimit -f 8; exec "$@"', start), stdout=out)
    one_sentence(done, "stdout cannot be written to (File too large)")
    assert 0 < (tmp_path / "out").stat().st_size <= 8 * 1024


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[3]], ids=" ".join)
def test_a_closed_stdout(sandbox: Sandbox, tmp_path: Path, words: list[str]) -> None:
    """Its number is no connection's: nothing is written to VTGate that is meant for a target."""
    done = ended(by_shell('exec "$@" >&-', command(sandbox, tmp_path, words)))
    one_sentence(done, "stdout is closed")


@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[3]], ids=" ".join)
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing(
    sandbox: Sandbox, tmp_path: Path, words: list[str], how: str
) -> None:
    """The log is lost, and nothing else."""
    start, out = command(sandbox, tmp_path, words), tmp_path / "out"
    well, _ = ended(start)
    with out.open("w") as stdout:
        code, _ = ended(by_shell(f'exec "$@" {how}', start), stdout=stdout)
    assert code == well
    assert out.read_text().count('"RECORD"') == (800 if words == COMMANDS[0] else 0)


def test_a_mirror_keeps_the_state_of_a_target_whose_reader_is_gone(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The line before the last is passed on, but cannot be."""
    start = command(sandbox, tmp_path, ["tap_vitess.mirror", "confirm"])
    lines = tmp_path / "in"
    lines.write_text('{"bookmarks": {}}\n')
    with Path("/dev/full").open("w") as full, lines.open() as stdin:
        one_sentence(ended(start, stdout=full, stdin=stdin), "stdout cannot be written to")


@pytest.mark.parametrize("option", ["--grpc-port", "--mysql-port"])
def test_a_sandbox_whose_port_is_taken(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--grpc-port": 0, "--mysql-port": 0, option: port}
        options = [f"{name}={number}" for name, number in ports.items()]
        code, errors = ended([sys.executable, "-m", "tap_vitess.sandbox", *options])
    assert code == 1
    [line] = errors.splitlines()
    assert f"port {port} of 127.0.0.1 cannot be served (Address already in use)" in line
    assert f"give another one by {option}" in line


# Scripts that write nothing to stdout but their help


def load(sandbox: Sandbox, folder: Path, *more: str) -> list[str]:
    """Return a load of the three tables into a file of DuckDB."""
    start = command(sandbox, folder, ["tap_vitess.load"])
    return [*start, "--to", f"duckdb:///{folder / 'shop.duckdb'}", *more]


def loaded(folder: Path) -> int:
    """Count the rows of a table that are loaded."""
    with duckdb.connect(str(folder / "shop.duckdb"), read_only=True) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM vitess.alpha").fetchall()
        return int(count)


def init(folder: Path, *more: str) -> list[str]:
    path = str(folder / "config.json")
    return [sys.executable, "-m", "tap_vitess", "init", "--config", path, "--host", "vt", *more]


@pytest.mark.parametrize("words", [["tap_vitess.load"], ["tap_vitess", "init"]], ids=" ".join)
def test_help_that_nobody_can_read(words: list[str]) -> None:
    start = [sys.executable, "-m", *words, "--help"]
    # Unbuffered, argparse passes over what cannot be written.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        one_sentence(ended(start, stdout=full, env=variables), "stdout cannot be written to")
    one_sentence(ended(by_shell('exec "$@" >&-', start)), "stdout is closed")


@pytest.mark.parametrize("how", [">/dev/full 2>/dev/full", "2>&-"])
def test_a_load_whose_log_is_lost(sandbox: Sandbox, tmp_path: Path, how: str) -> None:
    assert ended(by_shell(f'exec "$@" {how}', load(sandbox, tmp_path))) == (0, "")
    assert loaded(tmp_path) == 400


def test_a_load_whose_files_are_as_large_as_they_may_be(sandbox: Sandbox, tmp_path: Path) -> None:
    """The next one loads all."""
    start = load(sandbox, tmp_path)
    one_sentence(ended(by_shell('ulimit -f 64; exec "$@"', start)), "File too large")
    assert ended(start)[0] == 0
    assert loaded(tmp_path) == 400


def interrupted(words: Sequence[str], after: str, signum: int = signal.SIGINT) -> tuple[int, str]:
    """Run a command, and send it a signal when stderr tells this; return the same as `ended`."""
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = ""
        while after not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(signum)
        _, rest = process.communicate(timeout=SECONDS)
    return process.returncode, seen + rest


def test_a_load_that_is_interrupted(sandbox: Sandbox, tmp_path: Path) -> None:
    code, errors = interrupted(load(sandbox, tmp_path), "the copy begins")
    assert code == 130, errors
    assert "Traceback" not in errors
    assert "ended by signal 2; the next run resumes here" in errors.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [["tap_vitess"], ["tap_vitess", "init"], *([f"tap_vitess.{name}"] for name in QUICK)],
    ids=" ".join,
)
def test_ctrl_c_while_a_script_starts(words: list[str]) -> None:
    """Importing takes the better part of a second; for its help a load imports too little."""
    more = (
        ["--config", "none", "--to", "duckdb:///none.duckdb"] if "load" in words[0] else ["--help"]
    )
    start = [sys.executable, "-X", "importtime", "-m", *words, *more]
    late = "tap_vitess.sandbox.cluster" if "sandbox" in words[0] else "tap_vitess.config"
    code, errors = interrupted(start, late)
    assert code == 130, errors
    assert "Traceback" not in errors


def test_init_on_a_full_disk(tmp_path: Path) -> None:
    """The config of before stays, and nothing else does."""
    path = tmp_path / "config.json"
    start = by_shell('ulimit -f 0; exec "$@"', init(tmp_path))
    one_sentence(ended(start), "config.json cannot be written (File too large)")
    assert list(tmp_path.iterdir()) == []
    path.write_text('{"host": "before"}')
    one_sentence(ended([*start, "--force"]), "config.json cannot be written (File too large)")
    assert list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text()) == {"host": "before"}


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_init_whose_stderr_takes_nothing(tmp_path: Path, how: str) -> None:
    """It is the exit code that tells."""
    start = by_shell(f'exec "$@" {how}', init(tmp_path))
    assert ended(start)[0] == 0
    assert json.loads((tmp_path / "config.json").read_text()) == {"host": "vt"}
    assert ended(start)[0] == 1  # it is there


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_init_that_is_interrupted(tmp_path: Path, number: int) -> None:
    """While it asks, on a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "tap_vitess", "init"])
    seen = ""
    while not seen.endswith(": "):
        seen += os.read(terminal, 4096).decode()
    time.sleep(0.2)  # until it waits
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # the other end is closed
        seen += os.read(terminal, 4096).decode()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == (1 if number == signal.SIGINT else -number)
    assert "Traceback" not in seen
    assert list(tmp_path.iterdir()) == []
