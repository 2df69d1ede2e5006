"""Binlogs without whole rows (NOBLOB, PARTIAL_JSON): nothing that was not sent becomes a null."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.compare import Key, difference
from cluster.launcher import Cluster, Version
from cluster.rawstream import RawSource
from cluster.runs import Kill, Pipeline
from cluster.source import Source, quote
from cluster.valued import needs_vectors
from tap_vitess.survey.bookmark import READS_PARTIAL_JSON

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

COLUMNS = "id bigint primary key, n int, tx text, bl blob, js json, other json"
ROWS = 1000
CHANGES = 4000
SHARDS = ("-80", "80-")
WHOLE = {"binlog_row_image": "FULL", "binlog_row_value_options": ""}
IMAGES = {
    "NOBLOB": {"binlog_row_image": "NOBLOB"},
    "PARTIAL_JSON": {"binlog_row_value_options": "PARTIAL_JSON"},
    "both": {"binlog_row_image": "NOBLOB", "binlog_row_value_options": "PARTIAL_JSON"},
}


@pytest.fixture(params=IMAGES)
def partial(
    request: pytest.FixtureRequest, own_cluster: Cluster, source: Source, vitess_version: Version
) -> Iterator[None]:
    """Make both shards log parts of rows, for this test."""
    image = IMAGES[request.param]
    if "binlog_row_value_options" in image and vitess_version < READS_PARTIAL_JSON:
        pytest.skip(f"Vitess {vitess_version[0]} drops partial JSON, which has a test of its own")
    with _logging(own_cluster, source, image):
        yield


@contextmanager
def _logging(cluster: Cluster, source: Source, image: dict[str, str]) -> Iterator[None]:
    numbers = [cluster.primary(source.address.keyspace, shard) for shard in SHARDS]
    try:
        for number in numbers:
            cluster.set_globals(number, **image)
        yield
    finally:
        for number in numbers:
            cluster.set_globals(number, **WHOLE)


@pytest.fixture
def table(source: Source) -> str:
    """Create a table with all that may be left out."""
    name = source.create("partial", COLUMNS)
    document = json.dumps({"a": 1, "b": [1, 2, 3], "long": "x" * 100})
    rows = [(i, i, f"text {i}", b"\xff\x00" * 20, document, document) for i in range(ROWS)]
    source.insert(name, ["id", "n", "tx", "bl", "js", "other"], rows)
    return name


def _write(source: Source, table: str, rng: random.Random) -> None:
    """Change single columns and whole rows."""
    name = quote(table)
    kinds = [
        "update {t} set n = n + 1 where id = {i}",
        "update {t} set tx = 'changed {i} {n}' where id = {i}",
        "update {t} set tx = null, bl = null where id = {i}",
        "update {t} set bl = 'blob {n}', n = {n} where id between {i} and {i} + 3",
        "update {t} set js = json_set(js, '$.a', {n}) where id = {i}",
        "update {t} set js = json_remove(js, '$.long'), n = {n} where id = {i}",
        "update {t} set js = json_set(js, '$.new{n}', 'v'), other = json_set(other, '$.a', {n})"
        " where id = {i}",
        "update {t} set js = '[{n}]' where id = {i}",
        "update {t} set js = null where id = {i}",
        "delete from {t} where id = {i}",
        "insert into {t} (id, n, tx, js) values ({new}, {n}, 'new', '{{}}')",
        "insert into {t} (id) values ({new})",
        "insert into {t} (id, n, tx) values ({i}, 0, 'again') on duplicate key update n = n + 1",
    ]
    connection = source.connect()
    with connection, connection.cursor() as cursor:
        for change in range(CHANGES):
            i, n = rng.randrange(ROWS), rng.randrange(1000)
            new = ROWS + change
            statement = rng.choice(kinds)
            cursor.execute(statement.format(t=name, i=i, n=n, new=new))


def _check(pipe: Pipeline, table: str) -> None:
    differs = difference(
        _parsed(pipe.source.rows(table, ["id"])), _parsed(pipe.rows(table, ["id"]))
    )
    assert not differs, differs


def _parsed(rows: dict[Key, dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Read the documents: MySQL's and Vitess' texts of them may differ in blanks."""
    for row in rows.values():
        for name in ("js", "other"):
            if isinstance(row.setdefault(name, None), str):
                row[name] = json.loads(row[name])
        for name in ("n", "tx", "bl"):
            row.setdefault(name, None)
    return rows


@pytest.mark.usefixtures("partial")
def test_values_are_fetched(
    source: Source, pipeline: Callable[..., Pipeline], table: str, seed: int
) -> None:
    """Under writers, and with kills, the target equals the source."""
    rng = random.Random(seed)
    pipe = pipeline(tables=[f"*.{table}"], checkpoint_seconds=0.1)
    pipe.complete()
    codes = []
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(_write, source, table, rng)
        while not writer.done():
            codes.append(pipe.run(kill=Kill(line=rng.choice([0, 5, 30, 100]))).tap)
            assert codes[-1] in {0, -9}
        writer.result()
    print(f"exit codes: {codes}")
    pipe.complete()
    _check(pipe, table)


@pytest.mark.usefixtures("partial")
def test_columns_are_left_out(
    source: Source, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """With omit, a target that updates only what a record has equals the source."""
    pipe = pipeline(tables=[f"*.{table}"], on_partial_image="omit")
    pipe.merge = True
    pipe.complete()
    source.execute(f"update {quote(table)} set n = n + 1 where id % 3 = 0")
    source.execute(f"update {quote(table)} set tx = 'changed' where id % 3 = 1")
    pipe.complete()
    _check(pipe, table)


@pytest.mark.usefixtures("partial")
def test_partial_images_are_refused(
    source: Source, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """With fail the run fails, names the table and the setting, and the bookmark stays."""
    pipe = pipeline(tables=[f"*.{table}"], on_partial_image="fail")
    pipe.complete()
    source.execute(f"update {quote(table)} set js = json_set(js, '$.a', id), n = n + 1")
    outcome = pipe.run()
    assert outcome.tap == 1
    message = outcome.log.partition("CRITICAL")[2]
    print(message)
    assert table in message
    assert "on_partial_image" in message
    source.execute(f"update {quote(table)} set n = n + 1")
    assert pipe.run().tap == 1


def test_what_was_logged_with_minimal(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], table: str
) -> None:
    """MINIMAL is refused with advice; what it has logged is completed once it is gone."""
    pipe = pipeline(tables=[f"*.{table}"])
    pipe.complete()
    with _logging(own_cluster, source, {"binlog_row_image": "MINIMAL"}):
        source.execute(f"update {quote(table)} set n = n + 1 where id % 3 = 0")
        source.execute(f"delete from {quote(table)} where id % 3 = 1")
        source.execute(f"insert into {quote(table)} (id, n) values (100000, 1)")
        outcome = pipe.run()
    assert outcome.tap == 1
    assert "binlog_row_image" in outcome.log.partition("CRITICAL")[2]
    pipe.complete()
    _check(pipe, table)


def test_vectors_are_fetched(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """MINIMAL leaves VECTORs out, too; NOBLOB does not."""
    needs_vectors(own_cluster)
    table = source.create("vectors", "id bigint primary key, n int, v vector(3)")
    for i in range(4):
        vector = "string_to_vector('[1.5,-2,0.1]')"
        source.execute(f"insert into {quote(table)} (id, n, v) values ({i}, 1, {vector})")
    pipe, raw = pipeline(tables=[f"*.{table}"]), RawSource(source.address)
    pipe.complete()
    start = raw.position()
    with _logging(own_cluster, source, IMAGES["NOBLOB"]):
        source.execute(f"update {quote(table)} set n = 2 where id = 0")
    (_, _, whole), *_ = raw.streamed(table, start, 1)
    assert whole.lengths[2] == 12
    with _logging(own_cluster, source, {"binlog_row_image": "MINIMAL"}):
        source.execute(f"update {quote(table)} set n = 2 where id < 3")
        source.execute(f"update {quote(table)} set v = null, n = 3 where id = 1")
        assert pipe.run().tap == 1
    pipe.complete()
    found = {record["id"]: (record["n"], record["v"]) for record in pipe.records(table)}
    sent = [1.5, -2.0, 0.10000000149011612]  # of single precision
    assert found == {0: (2, sent), 1: (3, None), 2: (2, sent), 3: (1, sent)}


def test_a_minimal_image_of_nulls(own_cluster: Cluster, source: Source) -> None:
    """Vitess takes an after image without a byte for none, and the update for a delete."""
    table = source.create("nulls", "id bigint primary key, n int, tx text")
    source.insert(table, ["id", "n", "tx"], [(1, 1, "a")])
    raw = RawSource(source.address)
    start = raw.position()
    with _logging(own_cluster, source, {"binlog_row_image": "MINIMAL"}):
        source.execute(f"update {quote(table)} set n = null, tx = null where id = 1")
    (_, _, after), *_ = raw.streamed(table, start, 1)
    assert list(after.lengths) == []


def test_rows_of_nulls(own_cluster: Cluster, source: Source) -> None:
    """Of a table without a key such a row does not arrive, and an update to it is a delete."""
    table = source.create("keyless", "a int, b int", vindex="a")
    raw = RawSource(source.address)
    start = raw.position()
    keyspace, name = source.address.keyspace, quote(table)
    written = (
        f"insert into {name} values (null, null)",
        f"insert into {name} values (1, null)",
        f"update {name} set a = null where a = 1",
    )
    own_cluster.mysql(own_cluster.primary(keyspace, "-80"), f"use vt_{keyspace}", *written)
    found = raw.streamed(table, start, 2)
    assert [list(after.lengths) for _, _, after in found] == [[1, -1], []]


@dataclass(frozen=True)
class Cut:
    """A table whose changes MySQL cuts short: its columns, the key, and what may become NULL."""

    image: str
    columns: str
    key: str
    nullable: tuple[str, ...]
    inserted: str = ""


CUT = {
    "a column tells": Cut(
        "MINIMAL",
        "id bigint primary key, n int not null, v varchar(9), tx text",
        "id",
        ("v", "tx"),
        "n",
    ),
    "no column tells": Cut("MINIMAL", "id bigint primary key, v int, tx text", "id", ("v", "tx")),
    "a key of text, and a number": Cut(
        "NOBLOB", "k text not null, v int, tx text, primary key (k(20))", "k", ("v", "tx")
    ),
    "a key of text": Cut(
        "NOBLOB", "k text not null, tx text, bl blob, primary key (k(20))", "k", ("tx", "bl")
    ),
}


def _nulled(source: Source, table: str, cut: Cut, rng: random.Random) -> None:
    """Set columns to NULL, alone and with others, delete rows, and insert them again."""
    name, inserted = quote(table), f", {cut.inserted}" * bool(cut.inserted)
    connection = source.connect()
    with connection, connection.cursor() as cursor:
        for number in range(1000):
            where = f"where {cut.key} = '{rng.randrange(100)}'"
            some = rng.sample(cut.nullable, rng.randint(1, len(cut.nullable)))
            nulls = ", ".join(f"{column} = null" for column in some)
            kinds = [
                f"update {name} set {nulls} {where}",
                f"update {name} set {cut.nullable[-1]} = 'text {number}' {where}",
                f"delete from {name} {where}",
                f"insert ignore into {name} ({cut.key}{inserted}) "
                f"values ('{rng.randrange(100)}'{', 7' * bool(inserted)})",
            ]
            cursor.execute(rng.choice(kinds))


@pytest.mark.parametrize("kind", CUT)
def test_updates_to_null(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], kind: str, seed: int
) -> None:
    """They may look like deletes, but delete nothing; deletes do."""
    cut, rng = CUT[kind], random.Random(seed)
    table = source.create("cut", cut.columns, vindex=cut.key)
    names = [cut.key, *filter(None, [cut.inserted]), *cut.nullable]
    source.insert(table, names, [[i, *[1] * (len(names) - 1)] for i in range(100)])
    pipe = pipeline(tables=[f"*.{table}"], checkpoint_seconds=0.1)
    pipe.complete()
    with _logging(own_cluster, source, {"binlog_row_image": cut.image}):
        # What shows that MINIMAL is set, where no before image does.
        source.execute(f"update {quote(table)} set {cut.nullable[-1]} = 'first'")
        _nulled(source, table, cut, rng)
        if cut.image == "NOBLOB":
            pipe.complete()
    pipe.complete()
    found = pipe.rows(table, [cut.key])
    wanted = source.query(f"select * from {quote(table)}")
    assert len(wanted) == len(found)
    assert any(row[cut.nullable[-1]] is None for row in wanted)
    for row in wanted:
        record = found[row[cut.key],]
        given = {name: record.get(name) for name in row}
        told = {n: v.decode() if isinstance(v, bytes) else v for n, v in row.items()}
        if given.get("bl") is not None:
            given["bl"] = base64.b64decode(str(given["bl"])).decode()
        assert given == told


def test_rows_that_leave_a_filter(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """They are deletes, although the rows are there."""
    cut = CUT["a key of text, and a number"]
    table = source.create("left", cut.columns, vindex="k")
    source.insert(table, ["k", "v"], [(i, 1) for i in range(20)])
    pipe = pipeline(tables=[f"*.{table}"], filters={f"{source.address.keyspace}.{table}": "v = 1"})
    pipe.complete()
    with _logging(own_cluster, source, {"binlog_row_image": cut.image}):
        source.execute(
            f"update {quote(table)} set v = 2 where k in ('1', '2')",
            f"update {quote(table)} set v = null where k in ('3', '4')",
            f"update {quote(table)} set tx = 'stays' where k = '5'",
            f"delete from {quote(table)} where k = '6'",
        )
        pipe.complete()
    chosen = source.query(f"select k from {quote(table)} where v = 1")
    assert pipe.rows(table, ["k"]).keys() == {(row["k"],) for row in chosen}
    assert len(chosen) == 15


def test_a_time_zone(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """A TIMESTAMP that is fetched is in UTC, wherever MySQL is; so is that of a filter."""
    columns = "k text not null, at timestamp(3) null, tx text, primary key (k(20))"
    table = source.create("zoned", columns, vindex="k")
    pipe = pipeline(tables=[f"*.{table}"])
    numbers = [own_cluster.primary(source.address.keyspace, shard) for shard in SHARDS]
    source.execute(
        f"insert into {quote(table)} (k, at, tx) values ('1', '2024-07-01 12:00:00.125', 'a')"
    )
    pipe.complete()
    before = pipe.rows(table, ["k"])
    try:
        for number in numbers:
            own_cluster.set_globals(number, time_zone="+05:30")
        with _logging(own_cluster, source, {"binlog_row_image": "MINIMAL"}):
            source.execute(f"update {quote(table)} set tx = 'b' where k = '1'")
        pipe.complete()
    finally:
        for number in numbers:
            own_cluster.set_globals(number, time_zone="SYSTEM")
    after = pipe.rows(table, ["k"])
    assert [row["tx"] for row in after.values()] == ["b"]
    assert [row["at"] for row in after.values()] == [row["at"] for row in before.values()]


def test_partial_json_that_vitess_drops(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], vitess_version: Version
) -> None:
    """MySQL logs every update so: before 22 that of a table without a document is dropped too."""
    plain = source.create("plain", "id bigint primary key, v varchar(20)")
    source.insert(plain, ["id", "v"], [(1, "a")])
    pipe, raw = pipeline(), RawSource(source.address)
    pipe.complete()
    start = raw.position()
    with _logging(own_cluster, source, IMAGES["PARTIAL_JSON"]):
        source.execute(f"update {quote(plain)} set v = 'changed' where id = 1")
        source.execute(f"delete from {quote(plain)} where id = 1")
        outcome = pipe.run()
    (_, _, first), *_ = raw.streamed(plain, start, 1)
    if vitess_version >= READS_PARTIAL_JSON:
        assert outcome.tap == 0, outcome.log
        assert pipe.count(plain) == 0
        assert b"changed" in first.values
        return
    assert outcome.tap == 1, outcome.log
    assert "loses every update" in outcome.log
    assert first.values == b""
