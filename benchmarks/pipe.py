"""The whole pipe: from Vitess into a table of Postgres or DuckDB, by each way there is.

Every way copies the same rows, then follows the same backlog, then finds nothing new. With several
turns each has tables of its own, and the ways take turns in each workload (A, B, A, B, ...); of the
turns the median is told. Whole processes are measured, their starts included; Vitess and Postgres
are not among them. Afterwards the destination must have as many rows as the source, or the way's
line says how many it has.
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

TELEMETRY_OFF = {"INGESTR_DISABLE_TELEMETRY": "true"}
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
                env={**environment(), **TELEMETRY_OFF},
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. names: of the ways, in their order; all of them if it is empty."""

    rows: int
    changes: int
    turns: int = 1
    names: Sequence[str] = ()


def measure(source: Source, folder: Path, plan: Plan) -> Json:
    """Measure the copy of rows, a backlog of changes (a third of them updates), and nothing new."""
    sys.path.append(str(ROOT / "tests"))
    from support.targets import postgres  # noqa: PLC0415

    rows, changes = plan.rows, plan.changes
    inserts = changes * 2 // 3
    source.insert(1, rows, 5_000)
    with postgres() as address:
        made = Ways(source, folder, address)
        ways = [way for turn in range(plan.turns) for way in chosen(made.all(turn), plan.names)]
        found: Json = {"rows": rows, "changes": changes, "turns": plan.turns}
        found["copy"] = compare(ways, source.table, rows, folder)
        source.insert(rows + 1, inserts, 500)
        source.update(changes - inserts, 500)
        found["backlog"] = compare(ways, source.table, rows + inserts, folder)
        repeats = max(1, 3 // plan.turns)
        found["nothing"] = compare(ways, source.table, rows + inserts, folder, repeats=repeats)
    return found


def chosen(ways: Sequence[Way], names: Sequence[str]) -> list[Way]:
    """Return the ways of these names, in the order of the names.

    Raises:
        BenchmarkError: there is none of a name.
    """
    known = list(dict.fromkeys(way.name for way in ways))
    if strange := sorted({*names} - {*known}):
        raise BenchmarkError(f"no way {', '.join(strange)}; there are {', '.join(known)}")
    return [way for name in names or known for way in ways if way.name == name]


def compare(ways: Sequence[Way], table: str, rows: int, folder: Path, repeats: int = 1) -> Json:
    """Run each way; return by destination and name what it cost, and how many rows are too many.

    Of ways of one name, which are its turns, the median is told, and the seconds of each.

    repeats: of each turn; only a run with nothing new can be repeated.
    """
    costs: dict[tuple[str, str], list[Json]] = {}
    for way in ways:
        runs = [way.run(folder / "log") for _ in range(repeats)]
        excess = way.count(table) - rows
        costs.setdefault((way.destination, way.name), []).extend(
            {**cost, "rows_too_many": excess} for cost in runs
        )
    found: Json = {}
    for (destination, name), runs in costs.items():
        figures = {what: median(cost[what] for cost in runs) for what in ("wall", "cpu", "rss_mb")}
        here = found.setdefault(destination, {})
        first = next(iter(here.values()), figures)
        here[name] = {
            **figures,
            "of_the_first": figures["wall"] / first["wall"],
            "rows_too_many": max((cost["rows_too_many"] for cost in runs), key=abs),
            "walls": [cost["wall"] for cost in runs],
        }
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
        self._turn = 0
        self._bin = {
            "target-postgres": install(targets.POSTGRES),
            "target-duckdb": install(targets.DUCKDB),
        }
        for path in (Path(sys.executable).parent, *self._bin.values()):
            compileall.compile_dir(path.parent / "lib", quiet=2, maxlevels=20)

    def all(self, turn: int) -> list[Way]:
        """List them; the first of each destination is what the others are compared with."""
        self._turn = turn
        duck = str(self._folder / f"load{turn}.duckdb")
        ways = [
            self._singer("RECORDs", "records"),
            self._singer("RECORDs, use_copy", "records_copy", use_copy=True),
            self._singer("BATCH, use_copy", "batches", batches=True, use_copy=True),
            self._load("postgres", self._postgres, self._postgres),
            self._duckdb(),
            self._load("duckdb", duck, f"duckdb:///{duck}"),
        ]
        if ingestr := shutil.which("ingestr"):
            duck = str(self._folder / f"ingestr{turn}.duckdb")
            ways.insert(4, self._ingestr(ingestr, "postgres", self._postgres, self._postgres))
            ways.append(self._ingestr(ingestr, "duckdb", duck, f"duckdb:///{duck}"))
        return ways

    def _singer(self, name: str, schema: str, *, batches: bool = False, **target: bool) -> Way:
        schema = f"{schema}{self._turn}"
        url = self._postgres.replace("postgresql", "postgresql+psycopg", 1)
        config = {"sqlalchemy_url": url, "default_target_schema": schema, **target}
        commands = self._pipe("target-postgres", schema, config, batches=batches)
        return Way(name, "postgres", self._postgres, schema, commands)

    def _duckdb(self) -> Way:
        path = str(self._folder / f"target{self._turn}.duckdb")
        config = {"path": path, "filepath": path, "database": "target"}
        config["default_target_schema"] = "records"
        commands = self._pipe("target-duckdb", f"duckdb{self._turn}", config, batches=False)
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
        dataset = f"loaded{self._turn}"
        command += ["--dataset", dataset]
        return Way("tap-vitess-load", destination, where, dataset, lambda _: [command])

    def _ingestr(self, program: str, destination: Destination, where: str, to: str) -> Way:
        source, place = self._source, self._source.place
        address = f"vitess+cdc://root@{place.host}:{place.mysql_port}/{source.keyspace}"
        command = [program, "ingest", "--yes", "--dest-uri", to]
        command += ["--source-uri", f"{address}?grpc_port={place.grpc_port}"]
        command += ["--source-table", f"{source.keyspace}.{source.table}"]
        schema = f"ingested{self._turn}"
        command += ["--dest-table", f"{schema}.{source.table}"]
        return Way("ingestr", destination, where, schema, lambda _: [command])

    def _file(self, name: str, value: Json) -> str:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(value))
        return str(path)
