"""What MySQL's port answers: other rows, errors, and bytes that are none of MySQL's."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from support.fuzzing import (
    FACTOR,
    PASSWORD,
    SECRETS,
    TABLES,
    VALUE,
    cases,
    fuzz,
    guarded,
    ids,
    outcome,
    ran,
)
from support.proxies import Rows, answering, greeting, mysql_proxy, packet
from support.shops import insert
from support.taps import ImpatientTap, Target, discover, settings

from tap_vitess.config import Config
from tap_vitess.doctor.examine import examine
from tap_vitess.errors import VitessError
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vtgate import mysql as sql

pytestmark = fuzz

CELLS: list[bytes | None] = [
    *(None, b"", b"0", b"-1", b"1", b"x", b"NULL", b"9" * 30, b"1.5", b"nan", b"\xff\xfe", b"\0"),
    *(b"{}", b"[]", b"[" * 20_000, b'{"keyspace": {}}', b"-80", b"shop/-40", b"shop", b"\x1b[31m"),
    *(b"decimal(x,y)", b"enum(", b"set('a','b')", b"bigint(20", b"varchar(99999)", b"geometry"),
    *(b"PRIMARY", b"YES", b"PRI", b"utf8mb4", b"klingon", b"2024-01-01", b"a" * 100_000, b"%s"),
    b"11111111-1111-1111-1111-111111111111:1-5",
    b"11111111-1111-1111-1111-111111111111:5-1",
    b"11111111-1111-1111-1111-111111111111:1-" + b"9" * 4400,
    b"mysql-bin.000001:4",
]


@dataclass
class Liar:
    """Changes one answer of so many; `cell` is one of CELLS."""

    turn: int = 0
    how: str = "cell"
    place: int = 0
    cell: int = 0
    asked: list[str] = field(default_factory=list, repr=False)
    lied: bool = False

    def __call__(self, statement: str, rows: Rows) -> Rows | bytes:
        self.asked.append(statement)
        if len(self.asked) - 1 != self.turn:
            return rows
        self.lied = True
        if self.how == "error":
            return VALUE.join(["Duplicate entry '", "' for key 'k'"]).encode()
        if self.how == "none" or not rows:
            return []
        row = self.place % len(rows)
        match self.how:
            case "cell":
                cells = rows[row]
                cells[(self.place // len(rows)) % len(cells)] = CELLS[self.cell]
            case "less":
                del rows[row]
            case "twice":
                rows.append(rows[row])
        return rows


@st.composite
def liars(draw: st.DrawFn) -> Liar:
    how = draw(st.sampled_from(["cell"] * 6 + ["error", "none", "less", "twice"]))
    return Liar(
        draw(st.integers(0, 40)),
        how,
        draw(st.integers(0, 60)),
        draw(st.integers(0, len(CELLS) - 1)),
    )


@dataclass
class Lied:
    """A sandbox, a catalog of it, and a port that lies."""

    sandbox: Sandbox
    catalog: dict[str, Any]
    port: int
    liar: Liar = field(repr=False)

    def answer(self, statement: str, rows: Rows) -> Rows | bytes:
        return self.liar(statement, rows)


@pytest.fixture(scope="module")
def lied() -> Iterator[Lied]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(guarded())
        catalog = discover(settings(sandbox, **SECRETS))
        found = Lied(sandbox, catalog, 0, Liar(-1))
        found.port = stack.enter_context(mysql_proxy(sandbox, found.answer))
        yield found


@cases(40)
@given(liars())
def test_a_run_that_is_told_something_else(lied: Lied, liar: Liar) -> None:
    """An error, or every row: a copy's and a change's. What a cell cannot say is that of a list."""
    lied.liar = Liar(-1)
    config = settings(lied.sandbox, **SECRETS, mysql_port=lied.port, connect_timeout_seconds=5)
    target = Target()
    lied.liar = liar
    error = ran(config, target, catalog=lied.catalog)
    if error is None and liar.lied:
        event("all rows in spite of it")
    if error is None and liar.how != "less":
        for table in TABLES:
            there = {row["id"] for row in target.contents(f"shop-{table}")}
            assert there == ids(lied.sandbox.cluster, table), liar


@cases(40)
@given(liars())
def test_discovery_that_is_told_something_else(lied: Lied, liar: Liar) -> None:
    lied.liar = liar
    config = settings(lied.sandbox, **SECRETS, mysql_port=lied.port)
    outcome(lambda: discover(config, ImpatientTap))


@cases(20)
@given(liars())
def test_a_doctor_who_is_told_something_else(lied: Lied, liar: Liar) -> None:
    lied.liar = liar
    config = Config.from_settings(settings(lied.sandbox, **SECRETS, mysql_port=lied.port))
    outcome(lambda: examine(config))


def test_the_proxy_lies_to_a_run(lied: Lied) -> None:
    """With no lie all rows come; a run asks often enough for lies to count."""
    lied.liar = Liar(-1)
    target = Target()
    config = settings(lied.sandbox, **SECRETS, mysql_port=lied.port)
    assert ran(config, target, catalog=lied.catalog) is None
    assert len(lied.liar.asked) > 10
    insert(lied.sandbox.cluster, "alpha", 500)
    lied.liar = Liar(-1)
    assert ran(config, target, catalog=lied.catalog) is None
    assert {row["id"] for row in target.contents("shop-alpha")} == ids(
        lied.sandbox.cluster, "alpha"
    )


# Bytes that are not MySQL's


def wrong(chance: random.Random, data: bytes, at: int) -> bytes:
    """Change, drop, double or add a byte."""
    return chance.choice(
        [
            data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
            data[:at],
            data[:at] + data[at:] * 2,
            data[:at] + bytes(chance.randrange(9)) + data[at:],
        ]
    )


def column(name: bytes) -> bytes:
    texts = (b"def", b"", b"", b"", name, name)
    held = b"".join(bytes([len(text)]) + text for text in texts)
    return held + b"\x0c\x2d\0\0\1\0\0\xfd\0\0\0\0\0"


HERE = {"host": "127.0.0.1", "connect_timeout_seconds": 1}
LET_IN = b"\0\0\0\2\0\0\0"
EOF = b"\xfe\0\0\2\0"
ANSWERS = [
    greeting(),
    packet(2, LET_IN),
    *[packet(1, LET_IN)] * 2,  # the charset, the workload
    packet(1, b"\1")
    + packet(2, column(b"Database"))
    + packet(3, EOF)
    + packet(4, b"\4shop")
    + packet(5, EOF),
]


@pytest.mark.parametrize("seed", range(3 * FACTOR))
def test_a_mysql_port_that_garbles(seed: int) -> None:
    """Right answers or a sentence, whatever byte is wrong, cut, doubled or too many."""
    chance = random.Random(seed)

    def answer(taken: socket.socket) -> None:
        at = chance.randrange(sum(map(len, ANSWERS)) + 100)
        for data in ANSWERS:
            if 0 <= at < len(data):
                taken.sendall(wrong(chance, data, at))
                return
            at -= len(data)
            taken.sendall(data)
            taken.recv(4096)

    outcomes, told = set(), list[str]()
    with answering(answer) as port:
        given = Config.from_settings({**HERE, **SECRETS, "mysql_port": port})
        for _ in range(50):
            try:
                with sql.connect(given) as connection:
                    found = connection.query("show databases")
                    outcomes.add("right" if found == [{"Database": "shop"}] else "other")
            except VitessError as error:
                outcomes.add(type(error).__name__)
                told.append(str(error))
    assert {"right", "ConnectError"} <= outcomes
    assert PASSWORD not in "".join(told)
