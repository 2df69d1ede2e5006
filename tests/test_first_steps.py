"""The first contact: help, a config by `tap-vitess init`, and settings that are variables alone."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.clones import ROOT
from support.shops import served
from support.taps import settings

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.sample import sample_cluster
from tap_vitess.sandbox.server import Sandbox

SECONDS = 120
SECRET = "correct-horse"


def cluster() -> Cluster:
    return sample_cluster(5)


pytestmark = [pytest.mark.slow, served(cluster, username="etl", password=SECRET)]
CONSOLE_SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def script(
    name: str, *arguments: str, folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a console script, without a terminal."""
    return subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def on_a_terminal(folder: Path, answers: Sequence[str], *arguments: str) -> tuple[int, str]:
    """Run `tap-vitess init` on a pseudo-terminal; return its exit code and what stands there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        program = str(Path(sys.executable).with_name("tap-vitess"))
        os.execv(program, [program, "init", *arguments])
    seen, waiting, end = "", list(answers), time.monotonic() + SECONDS
    while time.monotonic() < end:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if ready:
            try:
                seen += os.read(terminal, 4096).decode()
            except OSError:  # the other end is closed
                break
        if waiting and seen.endswith(": "):
            os.write(terminal, f"{waiting.pop(0)}\n".encode())
            seen += "\n"
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert not waiting, seen
    return os.waitstatus_to_exitcode(status), seen


def variables_of(config: Mapping[str, Any]) -> dict[str, str]:
    texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in config.items()}
    return {f"TAP_VITESS_{name.upper()}": text for name, text in texts.items()}


def test_help_has_examples(tmp_path: Path) -> None:
    done = script("tap-vitess", "--help", folder=tmp_path)
    assert done.returncode == 0
    for words in ("tap-vitess init", "--discover > catalog.json", "--config ENV", "doctor"):
        assert words in done.stdout


def test_a_config_by_questions(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is what the doctor reads; the password is not shown, and nobody else can read the file."""
    answers = [
        "vtgate:15991",  # asked again
        "127.0.0.1",
        str(sandbox.grpc_port),
        "70000",  # asked again
        str(sandbox.mysql_port),
        "n",
        "etl",
        SECRET,
        "shop.orders  ref.*",
    ]
    code, seen = on_a_terminal(tmp_path, answers)
    assert code == 0, seen
    assert "is a name with a port" in seen
    assert SECRET not in seen
    assert "tap-vitess-doctor --config config.json" in seen
    path = tmp_path / "config.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {
        "host": "127.0.0.1",
        "grpc_port": sandbox.grpc_port,
        "mysql_port": sandbox.mysql_port,
        "user": "etl",
        "password": SECRET,
        "tables": ["shop.orders", "ref.*"],
    }
    done = script("tap-vitess", "--config", "config.json", "--discover", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    streams = json.loads(done.stdout)["streams"]
    assert sorted(s["tap_stream_id"] for s in streams) == ["ref-countries", "shop-orders"]


def test_enter_takes_the_defaults(tmp_path: Path) -> None:
    code, seen = on_a_terminal(tmp_path, ["vtgate", "", "", "", "", ""])
    assert code == 0, seen
    assert json.loads((tmp_path / "config.json").read_text()) == {"host": "vtgate"}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_config_by_host_alone(tmp_path: Path, *, terminal: bool) -> None:
    """Nothing is asked."""
    arguments = ["--host", "vtgate.example.com", "--config", "made.json"]
    if terminal:
        code, seen = on_a_terminal(tmp_path, [], *arguments)
    else:
        done = script("tap-vitess", "init", *arguments, folder=tmp_path)
        code, seen = done.returncode, done.stderr
        assert done.stdout == ""
    assert code == 0, seen
    assert json.loads((tmp_path / "made.json").read_text()) == {"host": "vtgate.example.com"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no terminal to ask on"),
        (["--host", "a b"], "setting host: a name has no blanks"),
        (["--host", "a", "--table", "orders"], "write keyspace.table"),
        (["--host", "a", "--config", "there.json"], "there.json exists already"),
        (["--host", "a", "--config", "no/such/folder"], "cannot be written"),
    ],
)
def test_init_refuses(tmp_path: Path, arguments: list[str], words: str) -> None:
    """With one sentence and exit code 1, and leaves what is there."""
    (tmp_path / "there.json").write_text("mine")
    done = script("tap-vitess", "init", *arguments, folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert words in line
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("there.json", "mine")]


def test_init_replaces_by_force(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    done = script("tap-vitess", "init", "--host", "a", "--force", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "config.json").read_text()) == {"host": "a"}


# How each console script is called with no file, and its exit codes when all is well.
WITHOUT_FILES: Mapping[str, tuple[list[str], set[int]]] = {
    "tap-vitess": (["--config", "ENV", "--discover"], {0}),
    "source-vitess": (["discover", "--config", "ENV"], {0}),
    "tap-vitess-doctor": (["--config", "ENV"], {0, 3}),
    "tap-vitess-load": (["--config", "ENV", "--to", "duckdb:///made.duckdb"], {0}),
    "tap-vitess-mirror": (["ddl", "--config", "ENV"], {0}),
}


def test_every_console_script_is_tried() -> None:
    assert {*WITHOUT_FILES, "tap-vitess-sandbox"} == CONSOLE_SCRIPTS.keys()


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_settings_that_are_variables_alone(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """Without each of them the sandbox is not found, or lets nobody in."""
    arguments, well = WITHOUT_FILES[name]
    mirror = {"mirror_keyspace": "ref", "mirror_name": "job"} if "mirror" in name else {}
    config = settings(sandbox, user="etl", password=SECRET, tables=["ref.*"], **mirror)
    done = script(name, *arguments, folder=tmp_path, **variables_of(config))
    assert done.returncode in well, done.stdout + done.stderr
