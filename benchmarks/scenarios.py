"""What is measured. Each function gives figures by name; `Scale` says how much of everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Json, Sample, Tap, medians
from benchmarks.places import Place
from benchmarks.process import Run
from benchmarks.table import COLUMNS

TABLE = "rows_of_ten"
TEN = len(COLUMNS)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much: of the tests of CI a little, of a benchmark what the page tells.

    rows: of the table of reference. transaction: rows of the one large transaction.
    """

    rows: int = 400_000
    backlog: int = 400_000
    pipe_rows: int = 400_000
    pipe_changes: int = 200_000
    transaction: int = 1_000_000
    repeats: int = 5
    many_tables: int = 500
    growth_rows: tuple[int, ...] = (50_000, 100_000, 200_000, 400_000)
    growth_columns: tuple[int, ...] = (2, 5, 10, 20, 40, 80)
    growth_tables: tuple[int, ...] = (1, 100, 500, 1000, 2000)
    growth_shards: tuple[int, ...] = (1, 4, 16, 64, 256)
    growth_cells: int = 1_000_000  # rows times columns of a run of growth_columns
    pipe_turns: int = 1
    pipe_ways: tuple[str, ...] = ()
    few_tricks: bool = False


SMALL = Scale(
    300, 100, 300, 99, 500, 1, 5, (50, 300), (2, 12), (1, 3), (1, 2), 500, few_tricks=True
)


class Bench:
    """The scenarios over one place."""

    def __init__(self, place: Place, scale: Scale, directory: Path) -> None:
        """Use a directory for configs, catalogs and states."""
        self._place = place
        self._scale = scale
        self._directory = directory

    def _tap(self, keyspace: str) -> Tap:
        return Tap(self._place, keyspace, self._directory)

    # Copy

    def copy(self) -> Json:
        """Copy the table of reference."""
        return self._copy(self._scale.rows, TEN, 2, self._scale.repeats, parse=True)

    def _copy(
        self,
        rows: int,
        columns: int,
        shards: int,
        repeats: int,
        *,
        parse: bool = False,
        bring: Callable[[Tap], Run] = lambda tap: tap.run(tables=[TABLE]),
    ) -> Json:
        keyspace = self._place.keyspace([(TABLE, columns)], shards)
        self._place.insert(keyspace, TABLE, columns, 1, rows, 5_000)
        tap = self._tap(keyspace)
        tap.receive_copy(TABLE)  # not measured: the server makes the responses
        samples = []
        for _ in range(repeats):
            raw = tap.receive_copy(TABLE)
            done = bring(tap)
            seconds = done.second("the copy is finished") - done.second("the copy begins")
            samples.append(Sample(rows, seconds, done, raw, raw["seconds"]).told())
        figures = medians(samples)
        if parse:
            parsed = [tap.receive_copy(TABLE, parse=True) for _ in range(repeats)]
            figures["parse_rows_per_second"] = rows / medians(parsed)["seconds"]
            figures["parse_cpu_per_million"] = medians(parsed)["cpu"] / rows * 1e6
        return figures

    # Changes

    def stream(self) -> Json:
        """Stream a backlog, two thirds inserts and one third updates, 500 rows a transaction."""
        return self._stream(self._scale.backlog, 500)

    def stream_single(self) -> Json:
        """Stream a backlog of transactions of one row."""
        return self._stream(self._scale.backlog // 8, 1)

    def transaction(self) -> Json:
        """Stream one transaction of very many rows."""
        return self._stream(self._scale.transaction, self._scale.transaction, repeats=1)

    def _stream(
        self,
        rows: int,
        size: int,
        repeats: int | None = None,
        bring: Callable[[Tap, Json], Run] = lambda tap, state: tap.run(state=state, tables=[TABLE]),
        end: str = "METRIC",
    ) -> Json:
        keyspace = self._place.keyspace([(TABLE, TEN)])
        tap = self._tap(keyspace)
        state = tap.state([TABLE])
        inserts = rows if size >= rows else rows * 2 // 3
        self._place.insert(keyspace, TABLE, TEN, 1, inserts, size)
        if inserts < rows:
            self._place.update(keyspace, TABLE, TEN, 1, rows - inserts, size)
        tap.receive_changes([TABLE], state)
        samples = []
        for _ in range(repeats or self._scale.repeats):
            raw = tap.receive_changes([TABLE], state)
            done = bring(tap, state)
            seconds = done.second(end) - done.second("streaming the changes")
            whole = raw["opening"] + raw["seconds"]
            samples.append(Sample(rows, seconds, done, raw, whole).told())
        return medians(samples)

    # Rows as Arrow

    def arrow(self) -> Json:
        """Copy the table of reference, and stream its backlogs, by the library as Arrow."""
        scale = self._scale
        keyspace = self._place.keyspace([(TABLE, TEN)])
        tap = self._tap(keyspace)
        state = tap.state([TABLE])
        idle = [tap.run_arrow(TABLE, state) for _ in range(max(3, scale.repeats))]
        start = medians([_cost(done) for done in idle])
        found = {
            "copy": self._copy(scale.rows, TEN, 2, scale.repeats, bring=_copy_arrow),
            "stream": self._stream(scale.backlog, 500, None, _stream_arrow, "consumed"),
            "stream_single": self._stream(scale.backlog // 8, 1, None, _stream_arrow, "consumed"),
        }
        for figures in found.values():
            own = figures["cpu"] - start["cpu"]
            figures["own_cpu_per_million"] = own / figures["rows"] * 1e6
        return {"start": start, **found}

    # In a loop of asyncio's

    def asyncio(self) -> Json:
        """Copy the table of reference beside a coroutine that measures the loop's lateness."""
        rows = self._scale.rows
        keyspace = self._place.keyspace([(TABLE, TEN)], 2)
        self._place.insert(keyspace, TABLE, TEN, 1, rows, 5_000)
        tap = self._tap(keyspace)
        tap.receive_copy(TABLE)
        return {
            kind: medians([tap.run_async(TABLE, kind) for _ in range(self._scale.repeats)])
            for kind in ("idle", "python", "items", "arrow")
        }

    # Nothing to do

    def nothing(self) -> Json:
        """Run with nothing new: one table, then many."""
        return {
            "one": self._nothing(1),
            "many": self._nothing(self._scale.many_tables),
            "tables": self._scale.many_tables,
        }

    def _nothing(self, tables: int) -> Json:
        names = [f"t{i:04}" for i in range(tables)]
        keyspace = self._place.keyspace([(name, TEN) for name in names])
        tap = self._tap(keyspace)
        state = tap.state(names)
        runs = [tap.run(state=state, tables=names) for _ in range(max(3, self._scale.repeats))]
        return medians([_cost(done) for done in runs])

    # The whole pipe

    def pipe(self) -> Json:
        """Copy into Postgres and DuckDB by each way, follow a backlog, find nothing new."""
        from benchmarks import pipe  # noqa: PLC0415 - its drivers count as others' memory

        keyspace = self._place.keyspace([(TABLE, TEN)])
        source = pipe.Source(self._place, keyspace, TABLE, TEN)
        scale = self._scale
        plan = pipe.Plan(scale.pipe_rows, scale.pipe_changes, scale.pipe_turns, scale.pipe_ways)
        return pipe.measure(source, self._directory, plan)

    # Each trick alone

    def tricks(self) -> Json:
        """Measure each trick of the hot path with and without."""
        from benchmarks import tricks  # noqa: PLC0415 - imports all of the tap

        scale = tricks.SMALL if self._scale.few_tricks else tricks.Scale()
        names = [(f"t{i:04}", TEN) for i in range(scale.tables)]
        catalog = self._tap(self._place.keyspace(names)).catalog
        return tricks.measure(self._place, catalog, scale)

    # Growth

    def growth(self) -> Json:
        """Cost against rows, columns, tables and shards."""
        return {
            "rows": dict(self._growth_rows()),
            "columns": dict(self._growth_columns()),
            "tables": dict(self._growth_tables()),
            "shards": dict(self._growth_shards()),
        }

    def _growth_rows(self) -> Iterator[tuple[str, Json]]:
        for rows in self._scale.growth_rows:
            yield str(rows), self._copy(rows, TEN, 2, 1)

    def _growth_columns(self) -> Iterator[tuple[str, Json]]:
        for columns in self._scale.growth_columns:
            yield str(columns), self._copy(self._scale.growth_cells // columns, columns, 2, 1)

    def _growth_tables(self) -> Iterator[tuple[str, Json]]:
        for tables in self._scale.growth_tables:
            yield str(tables), self._tables(tables, 2)

    def _growth_shards(self) -> Iterator[tuple[str, Json]]:
        for shards in self._scale.growth_shards:
            yield str(shards), self._tables(1, shards)

    def _tables(self, tables: int, shards: int) -> Json:
        """Copy small tables, then run with nothing new, then with one new row in each table."""
        names = [f"t{i:04}" for i in range(tables)]
        keyspace = self._place.keyspace([(name, TEN) for name in names], shards)
        rows = max(4, 4 * shards // tables)
        for name in names:
            self._place.insert(keyspace, name, TEN, 1, rows, rows)
        tap = self._tap(keyspace)
        tap.run()  # not measured: the server makes the responses
        copy = tap.run(keep=True)
        state = tap.state()
        nothing = tap.run(state=state)
        for name in names:
            self._place.insert(keyspace, name, TEN, rows + 1, 1, 1)
        tap.run(state=state)
        changes = tap.run(state=state)
        return {"copy": _cost(copy), "nothing": _cost(nothing), "changes": _cost(changes)}


def _copy_arrow(tap: Tap) -> Run:
    return tap.run_arrow(TABLE)


def _stream_arrow(tap: Tap, state: Json) -> Run:
    return tap.run_arrow(TABLE, state)


def _cost(done: Run) -> Json:
    return {"wall": done.wall, "cpu": done.cpu, "rss_mb": done.rss / 1e6}


SCENARIOS = (
    "copy",
    "stream",
    "stream_single",
    "transaction",
    "nothing",
    "growth",
    "arrow",
    "asyncio",
)
