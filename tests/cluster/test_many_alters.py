"""Many ALTERs, rows between them, runs anywhere and some killed: right, and no copy for nothing.

TAP_VITESS_TEST_SEQUENCES=200 tries so many sequences of each kind instead of two; the seed of each
is printed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pymysql
import pytest
from support.alters import SAFE, UNSAFE, Column, Table, alter, begin

from cluster.runs import Kill, Outcome, Pipeline
from cluster.source import Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

SEQUENCES = int(os.environ.get("TAP_VITESS_TEST_SEQUENCES", "2"))
STEPS = 7
KNOWN_SECONDS = 60.0
UNKNOWN_COLUMN = 1054
BEGINS = "the copy begins"


def execute(source: Source, *statements: str) -> None:
    """Run statements, each as soon as VTGate knows the columns that it names."""
    deadline = time.monotonic() + KNOWN_SECONDS
    for statement in statements:
        while True:
            try:
                source.execute(statement)
                break
            except pymysql.err.OperationalError as error:
                if error.args[0] != UNKNOWN_COLUMN or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


@dataclass
class World:
    """A table on the cluster, and what must be known of it to compare."""

    source: Source
    pipe: Pipeline
    name: str
    chance: random.Random
    table: Table = field(default_factory=begin)
    step: int = 0
    written: dict[int, int] = field(default_factory=dict)  # each row, when it was written last
    bound: dict[str, int] = field(default_factory=dict)  # each column, since when it has its name
    logs: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def write(self) -> None:
        """Insert some rows, update some, delete one; each in all columns."""
        self.step += 1
        new = [len(self.written) + self.step * 1000 + i for i in range(4)]
        old = self.chance.sample(sorted(self.written), min(3, len(self.written)))
        for key in new:
            names = ", ".join(quote(column.name) for column in self.table.columns)
            values = ", ".join(self._value(column, key) for column in self.table.columns)
            execute(self.source, f"insert into {quote(self.name)} ({names}) values ({values})")
        for key in old[1:]:
            sets = ", ".join(
                f"{quote(column.name)} = {self._value(column, key + self.step)}"
                for column in self.table.columns[1:]
            )
            execute(self.source, f"update {quote(self.name)} set {sets} where id = {key}")
        for key in old[:1]:
            execute(self.source, f"delete from {quote(self.name)} where id = {key}")
            del self.written[key]
        self.written |= dict.fromkeys([*new, *old[1:]], self.step)

    def _value(self, column: Column, number: int) -> str:
        if column.name == "id":
            return str(number)
        if column.labels:
            return repr(column.labels[number % len(column.labels)])
        if column.charset:
            return f"'{column.name} é {number}'"
        unsigned = "unsigned" in column.kind
        return str(number % 1000 if unsigned or self.chance.random() < 0.5 else -(number % 1000))

    def alter(self, kind: str) -> None:
        statement, behind = alter(kind, self.table, self.chance)
        said = statement.replace("alter table t", f"alter table {quote(self.name)}", 1)
        try:
            self.source.execute(said)
        except pymysql.MySQLError as error:
            self.said.append(f"{statement}: refused, {str(error)[:80]}")
            return
        self.said.append(statement)
        before = {column.name for column in self.table.columns}
        for column in behind.columns:
            if column.name not in before or kind == "exchange":
                self.bound[column.name] = self.step + 1
        self.table = behind

    def run(self, kill: Kill | None = None) -> Outcome:
        outcome = self.pipe.run(kill=kill)
        self.logs.append(outcome.log)
        return outcome

    def compare(self) -> None:
        source = self.source.rows(self.name, ["id"])
        target = self.pipe.rows(self.name, ["id"])
        assert source.keys() == target.keys()
        for key, row in source.items():
            number = int(row["id"])
            for name, value in row.items():
                found = target[key].get(name)
                if self.written[number] >= self.bound.get(name, 0):
                    assert _text(found) == _text(value), (name, number, self.said)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _sequence(
    source: Source, make: Callable[..., Pipeline], kinds: Iterable[str], number: int
) -> World:
    chance = random.Random(number)
    print(f"seed {number}")
    columns = ", ".join(
        f"{column.name} {column.type}{' charset latin1' if column.charset == 'latin1' else ''}"
        f"{' primary key' if column.name == 'id' else ''}"
        for column in begin().columns
    )
    name = source.create(f"alters{number}", columns)
    pipe = make(tables=[f"*.{name}"], on_lost_position="resync", checkpoint_seconds=0)
    world = World(source, pipe, name, chance)
    world.write()
    assert world.run().tap == 0
    world.logs.clear()
    choices = [*kinds]
    for _ in range(STEPS):
        world.alter(chance.choice(choices))
        if chance.random() < 0.7:
            world.write()
        if chance.random() < 0.25:
            cut = Kill(line=chance.randint(2, 12)) if chance.random() < 0.5 else None
            world.run(kill=cut)
    print(*world.said, sep="\n")
    for _ in range(2):
        outcome = world.run()
        assert outcome.tap == 0, outcome.log
        world.compare()
    return world


@pytest.mark.parametrize("number", range(SEQUENCES))
def test_any_alters(
    source: Source, pipeline: Callable[..., Pipeline], seed: int, number: int
) -> None:
    """Whatever is misread is copied again."""
    _sequence(source, pipeline, [*SAFE, *UNSAFE], seed + number)


@pytest.mark.parametrize("number", range(SEQUENCES))
def test_alters_that_leave_old_rows_right(
    source: Source, pipeline: Callable[..., Pipeline], seed: int, number: int
) -> None:
    """Columns at the end and other sizes cost no copy, however many and however often."""
    world = _sequence(source, pipeline, SAFE, seed + number)
    assert BEGINS not in "".join(world.logs), world.said


def test_two_alters_between_two_runs(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """A daily job over a deploy with two migrations; and with three, one of which gives a size."""
    table = source.create("daily", "id bigint primary key, a varchar(20)")
    pipe = pipeline(tables=[f"*.{table}"])
    source.insert(table, ["id", "a"], [(i, "old") for i in range(100)])
    pipe.complete()
    t = quote(table)
    execute(
        source,
        f"update {t} set a = 'before' where id < 10",
        f"alter table {t} add column c1 int",
        f"update {t} set a = 'between', c1 = id where id between 5 and 15",
        f"alter table {t} add column c2 int",
        f"update {t} set c2 = 7 where id between 10 and 20",
    )
    first = pipe.complete()
    pipe.merge = True
    execute(
        source,
        f"alter table {t} modify a varchar(60)",
        f"update {t} set a = repeat('x', 60) where id between 15 and 25",
        f"alter table {t} add column c3 varchar(10) after c2",
        f"update {t} set c3 = 'y' where id between 20 and 30",
        f"alter table {t} modify a varchar(300), modify c3 varchar(30)",
        f"update {t} set c3 = repeat('z', 30) where id between 25 and 35",
    )
    second = pipe.complete()
    assert BEGINS not in first.log + second.log
    names = ["id", "a", "c1", "c2", "c3"]
    rows = pipe.rows(table, ["id"])
    for key, row in source.rows(table, ["id"]).items():
        assert [rows[key].get(name) for name in names] == [row[name] for name in names]


def test_a_table_that_was_empty(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """Its copy has told its columns without a row: what comes between two ALTERs is right."""
    table = source.create("empty", "id bigint primary key, a varchar(20)")
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.complete()
    t = quote(table)
    execute(
        source,
        f"alter table {t} add column c1 int",
        f"insert into {t} (id, a, c1) values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)",
        f"alter table {t} modify a varchar(60)",
    )
    assert BEGINS not in pipe.complete().log
    pipe.check(table, ["id"])


def test_the_reason_of_a_copy_is_the_true_one(
    source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """Two ALTERs, the second of which renames: rows between them came under the new name."""
    table = source.create("why", "id bigint primary key, a varchar(20)")
    pipe = pipeline(tables=[f"*.{table}"])
    source.insert(table, ["id", "a"], [(i, "old") for i in range(20)])
    pipe.complete()
    t = quote(table)
    execute(
        source,
        f"alter table {t} add column c1 int",
        f"update {t} set c1 = 1",
        f"alter table {t} rename column c1 to c2",
    )
    outcome = pipe.complete()
    assert "an ALTER on shard" in outcome.log
    pipe.check(table, ["id"])
