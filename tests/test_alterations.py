"""ALTERs in any order, rows between them, read at any later time: right, or copied again.

A model of a table: what each statement makes of it, and what Vitess shows of rows when it reads
them with a later definition. It is held against `Layouts` alone here; the whole tap reads ALTERs
that leave old rows right from the sandbox, and any from a real cluster
(tests/cluster/test_many_alters.py).
TAP_VITESS_EXAMPLES=20000 takes so many examples, a hundredth of them with the sandbox, of a seed
that is printed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st
from support.alters import SAFE, UNSAFE, Column, Table, alter, begin, is_misread, shows
from support.events import field
from support.shops import shop
from support.taps import Target, expected, run
from support.taps import settings as tap_settings

from tap_vitess.errors import HistoryLostError
from tap_vitess.protocol.alterations import ColumnChange, WrittenType, column_changes
from tap_vitess.protocol.ddl import altered_tables
from tap_vitess.protocol.items import Alteration, Fields
from tap_vitess.run.layouts import Layouts
from tap_vitess.sandbox.schema import Column as SandboxColumn
from tap_vitess.sandbox.schema import Table as SandboxTable
from tap_vitess.sandbox.server import Sandbox, serve

EXAMPLES = int(os.environ.get("TAP_VITESS_EXAMPLES", "0"))
SHARD = "0"
T = frozenset("t")


def fields(columns: tuple[Column, ...]) -> Fields:
    made = tuple(field(column.name, column.shown) for column in columns)
    for shown, column in zip(made, columns, strict=True):
        shown.charset = {"latin1": 8, "utf8mb4": 255}.get(column.charset, 63)
    return Fields("t", SHARD, made, copying=False)


@dataclass
class Reader:
    """Reads a history up to where it has happened, in runs that may be cut, as the tap does."""

    history: list[tuple[str, Table]]  # each statement, or "" for rows, and the table behind it
    chance: random.Random
    at: int = 0
    happened: int = 0
    wrong: bool = False  # rows have been given out that are misread
    misread: bool = False  # and it is known: the table is to be copied
    copies: int = 0

    def __post_init__(self) -> None:
        first = self.history[0][1]
        self.layouts = Layouts({})
        self.layouts.copied(fields(first.columns))
        self.layouts.reached(T)

    def read(self) -> None:
        while self.at < len(self.history):
            now = self.chance.randint(self.at + 1, len(self.history))
            self.happened = max(self.happened, now)
            self.run(cut=self.chance.random() < 0.3)
        for _ in range(2):  # until all that was given out is proved
            self.run(cut=False)
        assert not self.wrong

    def run(self, *, cut: bool) -> None:
        """Ask where all is now and read up to there; copy what was misread, and read on."""
        self.layouts = Layouts(self.layouts.stored({"t": [SHARD]}))
        for _ in range(3):
            self.layouts.asked()
            stop = self.happened
            self.stream(self.chance.randint(self.at, stop) if cut else stop)
            if self.at < stop:
                return
            self.misread |= bool(self.layouts.reached(T))
            if self.misread:
                self.copy()

    def stream(self, end: int) -> None:
        plan: Table | None = None
        while self.at < end:
            statement, table = self.history[self.at]
            if statement:
                plan = None
                self.altered(statement)
            else:
                if plan is None or not self.chance.randrange(4):  # VTGate connects again
                    now = self.chance.randint(self.happened, len(self.history))
                    self.happened = max(self.happened, now)
                    plan = self.history[self.happened - 1][1]
                    if not self.given(table, plan):
                        return
                self.wrong |= is_misread(table, plan)
            self.at += 1

    def given(self, written: Table, today: Table) -> bool:
        columns = shows(written, today)
        if columns is not None and self.checked(columns):
            return True
        self.layouts.copy_begins("t")
        self.misread = True
        self.at = self.happened  # the next position is where the keyspace is now
        return False

    def checked(self, columns: tuple[Column, ...]) -> bool:
        try:
            self.layouts.check(fields(columns))
        except HistoryLostError:
            return False
        return True

    def altered(self, statement: str) -> None:
        named = altered_tables(statement, T)
        changes = column_changes(statement)
        found = self.layouts.altered(Alteration(t, SHARD, changes) for t in named)
        self.misread |= bool(found)

    def copy(self) -> None:
        self.copies += 1
        self.wrong = self.misread = False
        self.layouts.copy_begins("t")
        self.layouts.copied(fields(self.history[self.happened - 1][1].columns))


def history(kinds: list[str], number: int) -> list[tuple[str, Table]]:
    """Make a history of rows and statements; "rows" are rows."""
    chance = random.Random(number)
    made = [("", begin())]
    for kind in kinds:
        before = made[-1][1]
        made.append(("", before) if kind == "rows" else alter(kind, before, chance))
    return [*made, ("", made[-1][1])]


def read(kinds: list[str], number: int) -> Reader:
    reader = Reader(history(kinds, number), random.Random(number))
    reader.read()
    return reader


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    chosen = settings(max_examples=count, deadline=None, derandomize=not EXAMPLES)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        if not EXAMPLES:
            return chosen(test)
        number = random.randrange(1 << 32)
        print(f"seed {number}")
        return chosen(seed(number)(test))

    return decorate


many = examples(EXAMPLES or 300)


def kinds_of(*kinds: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.one_of(st.just("rows"), st.sampled_from(kinds)), max_size=12)


@pytest.mark.slow
@many
@given(kinds_of(*SAFE, *UNSAFE), st.integers(0, 1 << 32))
def test_no_row_is_misread_in_silence(kinds: list[str], number: int) -> None:
    """Whatever is given out wrong is copied again, at the latest by the next runs."""
    read(kinds, number)


@pytest.mark.slow
@many
@given(kinds_of(*SAFE), st.integers(0, 1 << 32))
@example(["add last", *["rows"] * 5, *["add last"] * 4, "rows", "resize"], 527)
def test_nothing_is_copied_for_nothing(kinds: list[str], number: int) -> None:
    """Columns at the end and other sizes, however many and however often, cost no copy."""
    assert not read(kinds, number).copies


class Shop:
    """A sandbox with a table that is altered and written to, and the target beside it."""

    def __init__(self, sandbox: Sandbox, chance: random.Random) -> None:
        self._sandbox, self._chance = sandbox, chance
        self._table = begin()
        self._written = 0
        self.target = Target()
        sandbox.cluster.create_table("shop", self._made())
        self.write()

    def _made(self) -> SandboxTable:
        columns = tuple(
            SandboxColumn(
                column.name,
                column.type,
                nullable=column.name != "id",
                collation_id={"latin1": 8}.get(column.charset),
            )
            for column in self._table.columns
        )
        return SandboxTable("t", columns, primary_key=("id",))

    def write(self) -> None:
        """Insert two rows and change one of before, in all columns."""
        cluster = self._sandbox.cluster
        new = [self._row(self._written + i) for i in range(2)]
        cluster.insert("shop", "t", new)
        if self._written:
            old = self._chance.randrange(self._written)
            cluster.update("shop", "t", {"id": b"%d" % old}, self._row(old))
        self._written += 2

    def _row(self, key: int) -> dict[str, bytes | None]:
        number = self._chance.randrange(1000)
        values: dict[str, bytes | None] = {
            column.name: (
                column.labels[number % len(column.labels)] if column.labels else str(number)
            ).encode()
            for column in self._table.columns
        }
        return {**values, "id": b"%d" % key}

    def alter(self, kind: str) -> None:
        statement, self._table = alter(kind, self._table, self._chance)
        self._sandbox.cluster.ddl("shop", statement, self._made())

    def run(self, lines: int | None = None) -> None:
        run(tap_settings(self._sandbox), self.target, lines=lines)

    def check(self) -> None:
        """Compare; rows that have not changed since a column was added lack it."""
        wanted = expected(self._sandbox.cluster, "shop", "t")
        found = {row["id"]: row for row in self.target.contents("shop-t")}
        assert [{name: found[row["id"]].get(name) for name in row} for row in wanted] == wanted
        assert len(found) == len(wanted)


@pytest.mark.slow
@examples(EXAMPLES // 100 or 12)
@given(st.lists(st.sampled_from(["rows", "rows", *SAFE]), min_size=2), st.integers(0, 1 << 32))
def test_the_tap_copies_nothing_for_nothing(kinds: list[str], number: int) -> None:
    """In runs anywhere between the statements, some of them cut; the target equals SELECT."""
    chance = random.Random(number)
    with serve(shop()) as sandbox:
        table = Shop(sandbox, chance)
        table.run()
        copied = len(table.target.messages)
        for kind in kinds:
            if kind == "rows":
                table.write()
            else:
                table.alter(kind)
            if chance.random() < 0.3:
                table.run(lines=chance.choice([None, chance.randrange(2, 8)]))
        table.run()
        table.run()
        table.check()
    types = {message["type"] for message in table.target.messages[copied:]}
    ops = {record["_sdc_vitess_op"] for record in table.target.records()[2:]}
    assert "copy" not in ops
    assert types <= {"SCHEMA", "RECORD", "STATE"}


INT, TEXT = ("int",), ("varchar",)


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("alter table t add column a int", "+a"),
        ("ALTER TABLE `d`.`t` ADD `a b` INT AFTER `c`", "+a b<c"),
        ("alter table t add (a int, b varchar(9), key k (b))", "+a +b"),
        ("alter table t add a int, add index (a), algorithm=instant, comment='x, first'", "+a"),
        ("alter /* gh-ost */ table d.t modify a varchar(60) not null default 'x' comment 'y'", "a"),
        ("alter table t change a A decimal(12,2) default -1.5", "a"),
        ("alter table t add a timestamp(6) default now(6) on update now(6), lock = none;", "+a"),
        ("alter table t add a int generated always as (b + (c)) virtual -- why", "+a"),
        ("alter table t alter column a set default 1, drop index i, add check (a > 0)", ""),
        ("alter table t /*!80000 add a int */", "+a"),
        ("alter table t add a int first", None),
        ("alter table t modify a int after b", None),
        ("alter table t change a b int", None),
        ("alter table t drop a, add b int", None),
        ("alter table t add a int /*!80023 invisible */", None),
        ("alter table t add a int, default charset = latin1", None),
        ("alter table t engine = innodb charset latin1", None),
        ("alter table t add index ((upper(a)))", None),
        (
            "alter table t add a varchar(9) default '/*', add b int first, add c int default '*/'",
            None,
        ),
        ("alter table t add a varchar(9) default '\\', add b int first, add c int default '", None),
        ("alter table t add a varchar(9) default 'x", None),
        ("alter table t modify a varchar(20000)", None),
        ("alter table t modify a real", None),
        ("alter ignore table t add a int", None),
        ("rename table t to u, v to t", None),
        ("create table t (a int)", None),
        ("alter table t", None),
        ("alter table t add a int,", None),
        ("alter table t add (a int", None),
        ("alter table t add a int)", None),
    ],
)
def test_what_is_understood_of_a_statement(statement: str, names: str | None) -> None:
    """Whatever is not read to its last word is taken for anything."""
    found = column_changes(statement)
    told = None if found is None else " ".join(map(_told, found))
    assert told == names


def _told(change: ColumnChange) -> str:
    behind = f"<{change.after}" if change.after else ""
    return f"{'+' * change.added}{change.name}{behind}"


def extends(new: WrittenType, old: WrittenType) -> bool:
    """Tell whether bytes written with the old type are read alike with the new one."""
    return new.words == old.words and new.labels[: len(old.labels)] == old.labels


@pytest.mark.parametrize(
    ("before", "behind", "same"),
    [
        ("varchar(20)", "varchar(60) not null", True),
        ("varchar(20) charset latin1", "varchar(60)", False),
        ("varchar(20) charset latin1", "varchar(60) charset latin1", True),
        ("int", "int(11) default 3", True),
        ("int", "int unsigned", False),
        ("decimal(10,2)", "decimal(12,4)", True),
        ("text", "text(70000)", False),
        ("float", "float(30)", False),
        ("enum('a','b')", "enum('a','b','c')", True),
        ("enum('a','b')", "enum('b','a')", False),
        ("enum('a','b') charset latin1", "enum('a','b','c')", False),
        ("int", "bigint", False),
    ],
)
def test_which_types_are_the_same_in_another_size(before: str, behind: str, *, same: bool) -> None:
    """By what the statements say; what they leave to the table is the same in both."""
    [old], [new] = (column_changes(f"alter table t modify a {t}") or () for t in (before, behind))
    assert extends(new.type, old.type) is same
    assert extends(replace(old.type), old.type)
