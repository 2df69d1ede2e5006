"""The whole pipe: from Vitess into a table of Postgres or DuckDB, by each way there is.

Every way copies the same rows, then follows the same backlog, then finds nothing new. Whole
processes are measured, their starts included; Vitess and Postgres are not among them. Afterwards
the destination must have as many rows as the source, or the way's line says how many it has.
"""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import duckdb
import psycopg2

from benchmarks.places import Place
from benchmarks.process import BenchmarkError, environment

ROOT = Path(__file__).parents[1]
Json = dict[str, Any]
Destination = Literal["postgres", "duckdb"]
# Gives the commands of a run, by the state that the run before it left.
Commands = Callable[[Json | None], Sequence[Sequence[str]]]


@dataclass
class Way:
    """One way into a destination.

    where: the DuckDB file, or Postgres' address. schema: of the table there. state: what the last
    command printed last, which the next run of a Singer pipe is given.
    """

    name: str
    destination: Destination
    where: str
    schema: str
    commands: Commands
    state: Json | None = field(default=None, init=False)

    def run(self, log: Path) -> Json:
        """Run it once; return what it cost.

        Raises:
            BenchmarkError: a command ended with another code than 0.
        """
        with log.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, "-S", str(ROOT / "benchmarks" / "timed.py")],
                input=json.dumps(self.commands(self.state)).encode(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(),
                check=True,
            )
        cost: Json = json.loads(done.stdout)
        codes, out = cost.pop("codes"), cost.pop("out")
        if any(codes):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise BenchmarkError(f"{self.name} into {self.destination} ended with {codes}:\n{tail}")
        if out.startswith("{"):
            self.state = json.loads(out)
        return {"wall": cost["wall"], "cpu": cost["cpu"], "rss_mb": cost["rss"] / 1e6}

    def count(self, table: str) -> int:
        """Count the rows of the table in the destination."""
        query = f'select count(*) from "{self.schema}"."{table}"'
        if self.destination == "duckdb":
            with duckdb.connect(self.where, read_only=True) as file:
                (found,) = file.execute(query).fetchone() or (0,)
                return int(found)
        with closing(psycopg2.connect(self.where)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            (number,) = cursor.fetchone() or (0,)
            return int(number)


@dataclass(frozen=True, slots=True)
class Source:
    """A table of so many columns, empty at first."""

    place: Place
    keyspace: str
    table: str
    columns: int

    def insert(self, first: int, count: int, size: int) -> None:
        """Insert rows from number `first` on, `size` in a transaction."""
        self.place.insert(self.keyspace, self.table, self.columns, first, count, size)

    def update(self, count: int, size: int) -> None:
        """Change the first rows."""
        self.place.update(self.keyspace, self.table, self.columns, 1, count, size)

    def config(self) -> Json:
        """Return the tap's settings for this table alone."""
        place = self.place
        ports = {"grpc_port": place.grpc_port, "mysql_port": place.mysql_port}
        return {"host": place.host, **ports, "tables": [f"{self.keyspace}.{self.table}"]}


def measure(source: Source, folder: Path, rows: int, changes: int) -> Json:
    """Measure the copy of rows, a backlog of changes (a third of them updates), and nothing new."""
    sys.path.append(str(ROOT / "tests"))
    from support.targets import postgres  # noqa: PLC0415

    inserts = changes * 2 // 3
    source.insert(1, rows, 5_000)
    with postgres() as address:
        ways = Ways(source, folder, address).all()
        found: Json = {"rows": rows, "changes": changes}
        found["copy"] = compare(ways, source.table, rows, folder)
        source.insert(rows + 1, inserts, 500)
        source.update(changes - inserts, 500)
        found["backlog"] = compare(ways, source.table, rows + inserts, folder)
        found["nothing"] = compare(ways, source.table, rows + inserts, folder, repeats=3)
    return found


def compare(ways: Sequence[Way], table: str, rows: int, folder: Path, repeats: int = 1) -> Json:
    """Run each way; return by destination and name what it cost, and how many rows are too many.

    repeats: of which the median is told; only a run with nothing new can be repeated.
    """
    found: Json = {}
    for way in ways:
        costs = [way.run(folder / "log") for _ in range(repeats)]
        figures = {name: median(cost[name] for cost in costs) for name in costs[0]}
        here = found.setdefault(way.destination, {})
        first = next(iter(here.values()), figures)
        ratio = figures["wall"] / first["wall"]
        excess = way.count(table) - rows
        here[way.name] = {**figures, "of_the_first": ratio, "rows_too_many": excess}
    return found


class Ways:
    """The ways from one table, with their files in a folder."""

    def __init__(self, source: Source, folder: Path, postgres: str) -> None:
        """Install the targets, and compile what is measured, as pip would have done."""
        from support import targets  # noqa: PLC0415
        from support.environments import install  # noqa: PLC0415

        self._source = source
        self._folder = folder
        self._postgres = postgres
        self._bin = {
            "target-postgres": install(targets.POSTGRES),
            "target-duckdb": install(targets.DUCKDB),
        }
        for path in (Path(sys.executable).parent, *self._bin.values()):
            compileall.compile_dir(path.parent / "lib", quiet=2, maxlevels=20)

    def all(self) -> list[Way]:
        """List them; the first of each destination is what the others are compared with."""
        duck = str(self._folder / "load.duckdb")
        ways = [
            self._singer("RECORDs", "records"),
            self._singer("RECORDs, use_copy", "records_copy", use_copy=True),
            self._singer("BATCH, use_copy", "batches", batches=True, use_copy=True),
            self._load("postgres", self._postgres, self._postgres),
            self._duckdb(),
            self._load("duckdb", duck, f"duckdb:///{duck}"),
        ]
        if ingestr := shutil.which("ingestr"):
            duck = str(self._folder / "ingestr.duckdb")
            ways.insert(4, self._ingestr(ingestr, "postgres", self._postgres, self._postgres))
            ways.append(self._ingestr(ingestr, "duckdb", duck, f"duckdb:///{duck}"))
        return ways

    def _singer(self, name: str, schema: str, *, batches: bool = False, **target: bool) -> Way:
        url = self._postgres.replace("postgresql", "postgresql+psycopg", 1)
        config = {"sqlalchemy_url": url, "default_target_schema": schema, **target}
        commands = self._pipe("target-postgres", schema, config, batches=batches)
        return Way(name, "postgres", self._postgres, schema, commands)

    def _duckdb(self) -> Way:
        path = str(self._folder / "target.duckdb")
        config = {"path": path, "filepath": path, "database": "target"}
        config["default_target_schema"] = "records"
        commands = self._pipe("target-duckdb", "duckdb", config, batches=False)
        return Way("RECORDs", "duckdb", path, "records", commands)

    def _pipe(self, program: str, name: str, target: Json, *, batches: bool) -> Commands:
        config = self._source.config()
        if batches:
            encoding = {"format": "jsonl", "compression": "gzip"}
            storage = {"root": str(self._folder / "batches")}
            config["batch_config"] = {"encoding": encoding, "storage": storage}
        tap = [sys.executable, "-m", "tap_vitess"]
        tap += ["--config", self._file(f"{name}-tap", config)]
        sink = [str(self._bin[program] / program), "--config", self._file(f"{name}-target", target)]

        def commands(state: Json | None) -> list[list[str]]:
            more = [] if state is None else ["--state", self._file(f"{name}-state", state)]
            return [[*tap, *more], sink]

        return commands

    def _load(self, destination: Destination, where: str, to: str) -> Way:
        config = self._file("load", self._source.config())
        command = [sys.executable, "-m", "tap_vitess.load", "--config", config, "--to", to]
        command += ["--dataset", "loaded"]
        return Way("tap-vitess-load", destination, where, "loaded", lambda _: [command])

    def _ingestr(self, program: str, destination: Destination, where: str, to: str) -> Way:
        source, place = self._source, self._source.place
        address = f"vitess+cdc://root@{place.host}:{place.mysql_port}/{source.keyspace}"
        command = [program, "ingest", "--yes", "--dest-uri", to]
        command += ["--source-uri", f"{address}?grpc_port={place.grpc_port}&mode=batch"]
        command += ["--source-table", f"{source.keyspace}.{source.table}"]
        command += ["--dest-table", f"ingested.{source.table}"]
        return Way("ingestr", destination, where, "ingested", lambda _: [command])

    def _file(self, name: str, value: Json) -> str:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(value))
        return str(path)
