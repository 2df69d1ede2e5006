"""Updates to NULL that look like deletes (MINIMAL, NOBLOB), on the sandbox, against its rows."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from support.shops import SHARDS, served, shop
from support.taps import Target, expected, run, settings

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError
from tap_vitess.protocol.images import RawKey
from tap_vitess.run import inquiry, keyspaces
from tap_vitess.run.keyspaces import present
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import (
    Boundary,
    Change,
    Query,
    TableCopied,
    TableRows,
    Vitess,
    arrow_changes,
    changes,
)

ROWS = 12
COLUMNS = (
    Column("id", "bigint", nullable=False),
    Column("n", "int", nullable=False),
    Column("m", "int"),
    Column("note", "text"),
)
NULLABLE = COLUMNS[0], *COLUMNS[2:]


def tables() -> Cluster:
    """Make a table that shows what MINIMAL has cut, and one that does not."""
    cluster = shop(
        Table("strict", COLUMNS, primary_key=("id",)),
        Table("loose", NULLABLE, primary_key=("id",)),
    )
    insert(cluster, range(ROWS))
    return cluster


pytestmark = served(tables)


def insert(cluster: Cluster, numbers: Sequence[int]) -> None:
    rows = [{"id": b"%d" % i, "m": b"0", "note": b"note %d" % i} for i in numbers]
    cluster.insert("shop", "loose", rows)
    cluster.insert("shop", "strict", [{**row, "n": b"0"} for row in rows])


@contextmanager
def minimal(cluster: Cluster) -> Iterator[None]:
    """Log MINIMAL images; VTGate refuses a stream until it is set back."""
    log(cluster, "MINIMAL")
    yield
    log(cluster, "FULL")


def log(cluster: Cluster, image: str) -> None:
    for name in SHARDS:
        cluster.shard("shop", name).variables["binlog_row_image"] = image


def write(cluster: Cluster, rng: random.Random) -> None:
    """Change and delete rows, most by statements that set columns to NULL and to nothing else."""
    for i in range(ROWS):
        cluster.update("shop", "loose", {"id": b"%d" % i}, {"m": b"1"})
    for number in range(50):
        table, i = rng.choice(["strict", "loose"]), rng.randrange(ROWS)
        key = {"id": b"%d" % i}
        there = any(row["id"] == key["id"] for row in cluster.rows("shop", table))
        kind = rng.choice(["note", "m", "both", "n", "delete", "again"]) if there else "again"
        if kind == "delete":
            cluster.delete("shop", table, key)
        elif kind == "again" and not there:
            row = {**key, "m": None, "note": b"again"}
            cluster.insert("shop", table, [row if table == "loose" else {**row, "n": b"7"}])
        elif kind == "n" and table == "strict":
            cluster.update("shop", table, key, {"n": b"%d" % number})
        else:
            names = {"note": ["note"], "m": ["m"]}.get(kind, ["note", "m"])
            cluster.update("shop", table, key, dict.fromkeys(names))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_target_equals_the_source(sandbox: Sandbox, seed: int) -> None:
    """An update to NULL, which looks like a delete, deletes nothing; a delete does."""
    config, target, rng = settings(sandbox), Target(), random.Random(seed)
    run(config, target)
    for _ in range(2):
        with minimal(sandbox.cluster):
            write(sandbox.cluster, rng)
        run(config, target)
        for name in ("strict", "loose"):
            assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name)
    told = [r for r in target.records("shop-strict") if r["_sdc_vitess_op"] == "delete"]
    assert told, "some rows were deleted"
    assert not any("note" in r or "n" in r for r in told), "a delete's image has the key alone"


def vitess(sandbox: Sandbox, **more: Any) -> Vitess:
    return Vitess(sandbox.host, sandbox.grpc_port, sandbox.mysql_port, **more)


def last_state(items: Sequence[object]) -> str:
    return [item.state for item in items if isinstance(item, Boundary)][-1]


def one_of_each(cluster: Cluster) -> None:
    """Set columns to NULL in rows 1 and 2, and delete rows 2 and 3."""
    with minimal(cluster):
        for i in (1, 2):
            cluster.update("shop", "strict", {"id": b"%d" % i}, {"note": None, "m": None})
        for i in (2, 3):
            cluster.delete("shop", "strict", {"id": b"%d" % i})


def test_objects(sandbox: Sandbox) -> None:
    """A row that is there has been updated, its old image being unknown; others are deleted."""
    copied = list(changes(vitess(sandbox), ["shop.strict"]))
    one_of_each(sandbox.cluster)
    items = changes(vitess(sandbox), ["shop.strict"], state=last_state(copied))
    found = [(i.operation, i.before, i.after) for i in items if isinstance(i, Change)]
    gone = ("delete", {"id": 2}, None)
    changed = ("update", {"id": 1}, {"id": 1, "n": 0, "m": None, "note": None})
    assert sorted(found, key=repr) == sorted(
        [changed, gone, gone, ("delete", {"id": 3}, None)], key=repr
    )


def test_arrow(sandbox: Sandbox) -> None:
    """The same as Arrow; `_unsent` names what a delete's image lacks."""
    copied = list(arrow_changes(vitess(sandbox), ["shop.strict"]))
    one_of_each(sandbox.cluster)
    items = arrow_changes(vitess(sandbox), ["shop.strict"], state=last_state(copied))
    rows = [row for i in items if isinstance(i, TableRows) for row in i.rows.to_pylist()]
    found = {(row["id"], row["_operation"], row["n"], tuple(row["_unsent"] or ())) for row in rows}
    lacking = ("m", "n", "note")
    assert found == {
        (1, "update", 0, ()),
        (2, "delete", None, lacking),
        (3, "delete", None, lacking),
    }


@pytest.mark.parametrize("columns", [("id", "n"), ("id", "note"), ("id", "m", "note")])
def test_some_columns(sandbox: Sandbox, columns: tuple[str, ...]) -> None:
    """Of a table that is read in part, nothing is deleted or null that should not be."""
    asked = [Query("shop.strict", columns=columns)]
    items = list(changes(vitess(sandbox), asked))
    state = last_state(items)
    with minimal(sandbox.cluster):
        for i in range(4):
            update(sandbox.cluster, i, {"n": b"5"})
        for i in range(2, 6):
            update(sandbox.cluster, i, {"note": None})
        sandbox.cluster.delete("shop", "strict", {"id": b"7"})
    items += changes(vitess(sandbox), asked, state=state)
    replica: dict[int, Any] = {}
    for item in items:
        if isinstance(item, Change) and item.after is None:
            replica.pop(item.key["id"], None)
        elif isinstance(item, Change):
            replica[item.key["id"]] = item.after
    rows = expected(sandbox.cluster, "shop", "strict")
    assert len(rows) == ROWS - 1
    assert replica == {row["id"]: {name: row[name] for name in columns} for row in rows}


def update(cluster: Cluster, number: int, values: dict[str, bytes | None]) -> None:
    cluster.update("shop", "strict", {"id": b"%d" % number}, values)


@pytest.mark.parametrize("setting", ["omit", "fail"])
def test_without_asking(sandbox: Sandbox, setting: str) -> None:
    """Where no row may be asked for, the table ends with what to do, or is copied again."""
    config, target = settings(sandbox, on_partial_image=setting), Target()
    run(config, target)
    one_of_each(sandbox.cluster)
    with pytest.raises(HistoryLostError, match=r"shop.strict on shard .* set on_partial_image to"):
        run(config, target)
    run({**config, "on_lost_position": "resync"}, target)
    assert target.contents("shop-strict") == expected(sandbox.cluster, "shop", "strict")


TEXTS = (
    Column("k", "text", nullable=False),
    Column("n", "int"),
    Column("note", "text"),
)
Values = dict[str, bytes | None]


def with_texts(cluster: Cluster) -> None:
    """Make a table of which NOBLOB logs images after without the key."""
    cluster.create_table("shop", Table("texts", TEXTS, primary_key=("k",)))
    rows = [{"k": b"%d" % i, "n": b"1", "note": b"note"} for i in range(ROWS)]
    cluster.insert("shop", "texts", rows)


def set_texts(cluster: Cluster, number: int, values: Values) -> None:
    cluster.update("shop", "texts", {"k": b"%d" % number}, values)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_key_of_text(sandbox: Sandbox, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOBLOB leaves such a key out of images after, which may have nothing else."""
    asked: list[bool] = []

    def noted(*arguments: Any, may_be_gone: bool) -> Any:
        asked.append(may_be_gone)
        return present(*arguments, may_be_gone=may_be_gone)

    monkeypatch.setattr(keyspaces, "present", noted)
    cluster, rng = sandbox.cluster, random.Random(seed)
    with_texts(cluster)
    config, target = settings(sandbox), Target()
    run(config, target)
    log(cluster, "NOBLOB")
    kinds: list[Values] = [{"n": None}, {"note": None}, {"n": b"2"}, {"note": b"x"}]
    for i in range(ROWS - 2):
        set_texts(cluster, i, rng.choice(kinds))
        set_texts(cluster, i, rng.choice(kinds))
    cluster.delete("shop", "texts", {"k": b"%d" % (ROWS - 1)})
    run(config, target)
    found = expected(cluster, "shop", "texts")
    assert target.contents("shop-texts") == found
    assert len(found) == ROWS - 1
    [gone] = [r for r in target.records("shop-texts") if r["_sdc_vitess_op"] == "delete"]
    assert gone["n"] == 1, "the image of a delete has it"
    assert "note" not in gone
    assert True in asked


@pytest.mark.parametrize("first", ["NOBLOB", "MINIMAL"])
def test_a_first_update_to_null(sandbox: Sandbox, first: str) -> None:
    """Nothing before it has shown how MySQL logs; or MINIMAL was set back to NOBLOB."""
    cluster = sandbox.cluster
    with_texts(cluster)
    config, target = settings(sandbox), Target()
    run(config, target)
    log(cluster, first)
    if first == "MINIMAL":
        for i in range(ROWS):
            set_texts(cluster, i, {"note": b"x"})
        log(cluster, "NOBLOB")
    for i in range(ROWS):
        set_texts(cluster, i, {"n": None})
    run(config, target)
    assert target.contents("shop-texts") == expected(cluster, "shop", "texts")


@pytest.mark.parametrize("value", [None, b"2"])
def test_a_row_that_leaves_a_filter(sandbox: Sandbox, value: bytes | None) -> None:
    """It is a delete, although the row is there."""
    with_texts(sandbox.cluster)
    config, target = settings(sandbox, filters={"shop.texts": "n = 1"}), Target()
    run(config, target)
    log(sandbox.cluster, "NOBLOB")
    for i in (1, 2):
        set_texts(sandbox.cluster, i, {"n": value})
    run(config, target)
    rows = expected(sandbox.cluster, "shop", "texts")
    assert target.contents("shop-texts") == [row for row in rows if row["n"] == 1]


def test_whole_images_are_not_asked_for(sandbox: Sandbox) -> None:
    """Where MySQL logs all columns, a delete is a delete, whatever the key and the columns."""
    config, target = settings(sandbox, on_partial_image="fail"), Target()
    with_texts(sandbox.cluster)
    sandbox.cluster.insert("shop", "loose", [{"id": b"100", "m": None, "note": None}])
    run(config, target)
    sandbox.cluster.delete("shop", "loose", {"id": b"100"})
    sandbox.cluster.delete("shop", "loose", {"id": b"1"})
    for i in range(ROWS - 1):
        if i == ROWS // 2:  # the old shard answers no more
            sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
        sandbox.cluster.delete("shop", "texts", {"k": b"%d" % i})
    run(config, target)
    for name in ("loose", "texts"):
        assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name)


def test_whole_images_of_an_endless_stream(sandbox: Sandbox) -> None:
    """The same where nothing was asked about MySQL when the stream began."""
    with_texts(sandbox.cluster)
    place = vitess(sandbox, on_partial_image="fail")
    for item in changes(place, ["shop.texts"], follow=True):
        if isinstance(item, TableCopied):
            sandbox.cluster.delete("shop", "texts", {"k": b"1"})
        if isinstance(item, Change) and item.operation != "copy":
            assert (item.operation, item.key) == ("delete", {"k": "1"})
            break


def test_a_setting_that_changes(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that goes on for long does not rely on an old answer."""
    monkeypatch.setattr(inquiry, "IMAGE_SECONDS", 0.0)
    with_texts(sandbox.cluster)
    told: list[tuple[str, str]] = []
    for item in changes(vitess(sandbox), ["shop.texts"], follow=True):
        if isinstance(item, TableCopied):
            sandbox.cluster.delete("shop", "texts", {"k": b"1"})
        if isinstance(item, Change) and item.operation != "copy":
            told.append((item.operation, item.key["k"]))
            if len(told) == 2:
                break
            log(sandbox.cluster, "NOBLOB")
            set_texts(sandbox.cluster, 2, {"n": None})
    assert told == [("delete", "1"), ("update", "2")]


STAMPED = Column("id", "bigint", nullable=False), Column("at", "timestamp", nullable=False)


def test_a_key_that_cannot_be_asked_for(sandbox: Sandbox) -> None:
    """The table is copied again, if that is wanted."""
    table = Table(
        "stamped",
        (*STAMPED, Column("n", "int", nullable=False), Column("m", "int")),
        primary_key=("id", "at"),
    )
    sandbox.cluster.create_table("shop", table)
    row = {"at": b"2024-01-02 03:04:05", "n": b"1", "m": b"1"}
    sandbox.cluster.insert("shop", "stamped", [{**row, "id": b"%d" % i} for i in range(3)])
    config, target = settings(sandbox), Target()
    run(config, target)
    with minimal(sandbox.cluster):
        sandbox.cluster.update("shop", "stamped", {"id": b"1", "at": row["at"]}, {"m": None})
    with pytest.raises(HistoryLostError, match="on_lost_position to `resync`"):
        run(config, target)
    run({**config, "on_lost_position": "resync"}, target)
    assert {r["id"]: r["m"] for r in target.contents("shop-stamped")} == {0: 1, 1: None, 2: 1}


def test_a_row_of_nulls(sandbox: Sandbox) -> None:
    """Of a table without a key its insert does not arrive, as with Vitess; its copy does."""
    table = Table("bare", (Column("a", "int"), Column("b", "int")))
    sandbox.cluster.create_table("shop", table)
    rows: list[Values] = [{"a": None, "b": None}, {"a": b"1", "b": None}]
    sandbox.cluster.insert("shop", "bare", rows)
    config, target = settings(sandbox), Target()
    run(config, target)
    sandbox.cluster.insert("shop", "bare", rows)
    run(config, target)
    told = [(r["_sdc_vitess_op"], r["a"]) for r in target.records("shop-bare")]
    assert sorted(told, key=repr) == [("copy", 1), ("copy", None), ("insert", 1)]


@pytest.mark.parametrize("age", [0, 60])
def test_a_commit_is_waited_for(age: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream may be ahead of it: a row that is asked for at once would still be the old one."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    row = query.Row(lengths=[1], values=b"1")

    def ask(keys: Sequence[RawKey]) -> list[query.Row | None]:
        return [None if slept or age else row for _ in keys]

    found = present(ask, [{"id": b"1"}], int(time.time()) - age, may_be_gone=True)
    assert found == [None]
    assert len(slept) == (age == 0)
