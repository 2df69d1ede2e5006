"""Keys that are unique within a shard only, as MySQL's all are: the target equals SELECT.

More cases by hand: TAP_VITESS_TEST_CASES=40, and TAP_VITESS_TEST_SEED for those of a seed.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pymysql
import pytest

from cluster.conftest import SHARDED, UNSHARDED
from cluster.launcher import Cluster
from cluster.runs import Kill, Pipeline
from cluster.source import Address, Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

CASES = int(os.environ.get("TAP_VITESS_TEST_CASES", "3"))
KEYSPACE = "tapkeys"
COUNTED = "id bigint auto_increment primary key, customer_id bigint, v varchar(20)"
DUPLICATE = 1062
ROUNDS = 6
STATEMENTS = 60


def _key(pipe: Pipeline, table: str) -> list[str]:
    (stream,) = (s for s in pipe.discover()["streams"] if s["tap_stream_id"] == pipe.stream(table))
    return list(stream.get("key_properties", []))


def _check(pipe: Pipeline, table: str, key: Sequence[str]) -> None:
    rows = pipe.source.query(f"select count(*) as n from {quote(table)}")[0]["n"]
    assert rows == len(pipe.source.rows(table, key)), "the key is not unique in the source"
    pipe.check(table, key)


def _on(cluster: Cluster, keyspace: str, shard: str, *statements: str) -> list[dict[str, Any]]:
    """Run statements in a shard's MySQL, past VTGate."""
    return cluster.mysql(cluster.primary(keyspace, shard), f"use vt_{keyspace}", *statements)


def test_each_shard_counts_from_one(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """Twenty inserts through VTGate give a key to two rows; none is lost, nor by a delete."""
    table = source.create("ai", COUNTED, vindex="customer_id")
    for customer in range(20):
        source.execute(f"insert into {quote(table)} (customer_id, v) values ({customer}, 'x')")
    source.execute(f"insert into {quote(table)} (v) values ('of nobody')")
    ids = [row["id"] for row in source.query(f"select id from {quote(table)}")]
    assert len(set(ids)) < len(ids) == 21, "the shards do not count alike"
    pipe, key = pipeline(), ["id", "customer_id"]
    assert _key(pipe, table) == key
    pipe.complete()
    _check(pipe, table, key)

    source.execute(f"delete from {quote(table)} where customer_id = 7")
    source.execute(f"update {quote(table)} set v = 'y' where customer_id in (1, 2, 3)")
    source.execute(f"update {quote(table)} set v = 'gone' where customer_id is null")
    pipe.complete()
    _check(pipe, table, key)

    # A row moves through VTGate, and within its shard straight in MySQL.
    source.execute(f"delete from {quote(table)} where customer_id = 8")
    source.execute(f"insert into {quote(table)} (customer_id, v) values (108, 'moved')")
    owners = _on(own_cluster, SHARDED, "-80", f"select id, customer_id from {quote(table)}")
    one, other = (row for row in owners[:2])
    statement = "update {} set customer_id = {} where id = {}"
    _on(
        own_cluster,
        SHARDED,
        "-80",
        statement.format(quote(table), other["customer_id"], one["id"]),
        f"update {quote(table)} set customer_id = null where id = {other['id']}",
    )
    pipe.complete()
    _check(pipe, table, key)


def test_keys_with_their_vindex(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """Vindex columns are spelled as the table spells them; a key that holds them stays."""
    nullable = "id bigint primary key, Customer bigint, v int"
    tables = {
        source.create("plain", "id bigint primary key, v int"): ["id"],
        source.create("case", nullable, vindex="customer"): ["id", "Customer"],
        source.create("within", "a int, b int, primary key (b, a)", vindex="a"): ["b", "a"],
        source.create("unique", "k int not null unique, c int not null", vindex="c"): ["k", "c"],
        source.create("comma", "id int primary key, `a, b` int", vindex="`a, b`"): ["id", "a, b"],
        source.create("none", "v int, c int", vindex="c"): [],
    }
    pipe = pipeline()
    done = pipe.alone("--discover")
    streams = {s["tap_stream_id"]: s for s in json.loads(done.out)["streams"]}
    for table, key in tables.items():
        assert streams[pipe.stream(table)].get("key_properties", []) == key
    (case,) = (s for name, s in streams.items() if name.endswith("_case"))
    assert case["schema"]["properties"]["Customer"]["type"] == ["integer", "null"]
    assert case["schema"]["required"] == ["id", "Customer"]
    warnings = [line for line in done.log.splitlines() if "may be NULL" in line]
    assert [word for line in warnings for word in ("_case", "_comma") if word in line] == [
        "_case",
        "_comma",
    ]
    (case_name,) = (table for table in tables if table.endswith("_case"))
    plain = pipe.alone("--discover", keys="primary")
    assert all(len(s["key_properties"]) < 2 for s in json.loads(plain.out)["streams"][:1])
    assert "may be NULL" not in plain.log
    found = {s["tap_stream_id"]: s for s in json.loads(plain.out)["streams"]}
    assert found[pipe.stream(case_name)]["key_properties"] == ["id"]


def test_tables_without_a_vindex(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline], address: Address
) -> None:
    """Unsharded, pinned and reference tables have their own key; an unlisted one is told of."""
    with closing(Source(replace(address, keyspace=UNSHARDED), source.prefix)) as other:
        other.execute(f"create table {quote(source.prefix + 'un')} (id int primary key, c int)")
        names = [source.prefix + name for name in ("pinned", "reference", "unlisted")]
        for name in names:
            source.execute(f"create table {quote(name)} (id int primary key, c int)")
        try:
            _list(own_cluster, {names[0]: {"pinned": "00"}, names[1]: {"type": "reference"}})
            pipe = pipeline(
                keyspaces=[SHARDED, UNSHARDED],
                tables=[f"{SHARDED}.{source.prefix}*", f"{UNSHARDED}.{source.prefix}*"],
            )
            done = pipe.alone("--discover")
            keys = {
                s["tap_stream_id"]: s["key_properties"] for s in json.loads(done.out)["streams"]
            }
            assert len(keys) == 4
            assert set(map(tuple, keys.values())) == {("id",)}
            told = [line for line in done.log.splitlines() if "the VSchema lacks it" in line]
            assert len(told) == 1
            assert names[2] in told[0]
        finally:
            _list(own_cluster, dict.fromkeys(names[:2]))
            for name in names:
                source.execute(f"drop table {quote(name)}")
            other.execute(f"drop table {quote(source.prefix + 'un')}")


def _list(cluster: Cluster, tables: dict[str, Any]) -> None:
    """Put tables into the sharded keyspace's VSchema, or take them out."""
    vschema = json.loads(cluster.run("ctl", "GetVSchema", SHARDED))
    for name, table in tables.items():
        vschema["tables"].pop(name, None)
        if table is not None:
            vschema["tables"][name] = table
    path = cluster.folder / "tables.json"
    path.write_text(json.dumps(vschema))
    path.chmod(0o644)
    cluster.run("vschema", SHARDED, str(path))


def test_a_catalog_of_before(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """It is honoured, and a warning names the table, until the setting says that it is right."""
    table = source.create("ai", COUNTED, vindex="customer_id")
    held = source.create("held", "id bigint primary key")
    for customer in range(10):
        source.execute(f"insert into {quote(table)} (customer_id, v) values ({customer}, 'x')")
    pipe = pipeline()
    pipe.use_catalog(pipe.alone("--discover", keys="primary").catalog())
    log = pipe.complete().log
    assert f"{table}: its key id is unique within a shard only, as it lacks the primary" in log
    assert f"{held}: its key" not in log
    ids = {row["id"] for row in source.query(f"select id from {quote(table)}")}
    assert pipe.count(table) == len(ids) < 10
    quiet = pipeline(keys="primary")
    quiet.use_catalog(quiet.discover())
    assert "is unique within a shard only" not in quiet.complete().log


def test_a_minimal_image_of_a_session(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """A delete that lacks a key column is no delete of another row: the table is told of."""
    columns = "id bigint primary key, customer_id bigint not null, v int"
    table = source.create("cut", columns, vindex="customer_id")
    source.insert(table, ["id", "customer_id", "v"], [(n, n, n) for n in range(20)])
    pipe = pipeline()
    pipe.complete()
    (row, *_) = _on(own_cluster, SHARDED, "-80", f"select id from {quote(table)}")
    delete = f"delete from {quote(table)} where id = {row['id']}"
    _on(own_cluster, SHARDED, "-80", "set binlog_row_image = 'MINIMAL'", delete)
    outcome = pipe.run()
    assert outcome.tap == 1
    assert (
        f"{table} on shard -80: a change does not carry the key column customer_id" in outcome.log
    )
    again = pipeline(on_lost_position="resync")
    assert again.run().tap == 0
    _check(again, table, ["id", "customer_id"])


def test_a_generated_key(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """Each shard counts MySQL's `my_row_id`: it is a key with the vindex, and none without."""
    numbers = [own_cluster.primary(SHARDED, shard) for shard in ("-80", "80-")]
    variable = "show global variables like 'sql_generate_invisible_primary_key'"
    if not own_cluster.mysql(numbers[0], variable):
        pytest.skip("this MySQL generates no keys")
    try:
        for number in numbers:
            own_cluster.set_globals(number, sql_generate_invisible_primary_key="ON")
        listed = source.create("listed", "customer_id bigint, v int", vindex="customer_id")
        unlisted = source.create("unlisted", "customer_id bigint, v int", vindex="")
    finally:
        for number in numbers:
            own_cluster.set_globals(number, sql_generate_invisible_primary_key="OFF")
    for customer in range(20):
        source.execute(f"insert into {quote(listed)} (customer_id, v) values ({customer}, 0)")
    pipe = pipeline()
    assert _key(pipe, listed) == ["my_row_id", "customer_id"]
    assert _key(pipe, unlisted) == []
    source.execute(f"drop table {quote(unlisted)}")
    source.forget(unlisted)
    pipe.complete()
    assert pipe.count(listed) == 20
    source.execute(f"delete from {quote(listed)} where customer_id in (1, 2, 3)")
    source.execute(f"update {quote(listed)} set v = 1 where customer_id > 15")
    pipe.complete()
    rows = pipe.records(listed)
    assert {row["customer_id"]: row["v"] for row in rows} == {
        customer: int(customer > 15) for customer in {*range(20)} - {1, 2, 3}
    }
    assert len({row["my_row_id"] for row in rows}) < len(rows) == 17


# Any key with any vindex, under moves, deletes, kills and a reshard


@dataclass(frozen=True, slots=True)
class Case:
    """A table: its columns, its key, and the vindex."""

    columns: str
    key: tuple[str, ...]
    vindex: tuple[str, ...]
    kind: str

    @property
    def identity(self) -> list[str]:
        """What tells its rows apart in the whole keyspace."""
        return [*self.key, *(name for name in self.vindex if name not in self.key)]

    @classmethod
    def of(cls, rng: random.Random) -> Case:
        """Choose one."""
        null = rng.choice(["", " not null"])
        others = ", ".join(f"{name}{null}" for name in ("r bigint", "c bigint", "t varchar(9)"))
        columns = f"id bigint not null, k int not null, {others}"
        key, ending = rng.choice(
            [
                (("id",), "primary key (id)"),
                (("k", "id"), "primary key (k, id)"),
                (("id",), "unique key (id)"),
                (("id", "k"), "unique key (id, k)"),
            ]
        )
        vindex, kind = rng.choice(
            [
                (("c",), "xxhash"),
                (("r",), "hash"),
                (("t",), "unicode_loose_xxhash"),
                (("t",), "xxhash"),
                (("k",), "xxhash"),
                (("r", "c"), "multicol with column_count=2"),
                (("c", "k"), "multicol with column_count=2"),
            ]
        )
        return cls(f"{columns}, v int, {ending}", key, vindex, kind)


class Table:
    """A table that is written to at random."""

    def __init__(self, source: Source, case: Case, number: int, rng: random.Random) -> None:
        """Make it."""
        self._source = source
        self.case = case
        self._rng = rng
        self.name = source.create(f"t{number}", case.columns, vindex="")
        vindex = f"{case.kind.split()[0]}_{source.prefix}{number}({', '.join(case.vindex)})"
        source.execute(f"alter vschema on {quote(self.name)} add vindex {vindex} using {case.kind}")

    def write(self) -> None:
        """Run one statement, or two that move a row; some are refused, as a shard's key twice."""
        rows = self._source.query(f"select * from {quote(self.name)}")
        row = self._rng.choice(rows) if rows else None
        kind = self._rng.choice(["insert", "insert", "move", "delete", "update", "update"])
        if kind == "insert" or row is None:
            self._insert(self._row(self._rng.randrange(12)))
        elif kind == "update":
            self._source.execute(
                f"update {quote(self.name)} set v = {self._rng.randrange(1000)} where {_is(row)}"
            )
        else:
            self._source.execute(f"delete from {quote(self.name)} where {_is(row)}")
            if kind == "move":
                self._insert({**self._row(row["id"]), "v": row["v"]})

    def _row(self, number: int) -> dict[str, Any]:
        null = "not null" not in self.case.columns.partition("r bigint")[2]
        rng = self._rng
        values = {"r": rng.randrange(9), "c": rng.randrange(9), "t": rng.choice("aAbäzZ")}
        if null:
            values = {n: rng.choice([None, v, v, v]) for n, v in values.items()}
        return {"id": number, "k": rng.randrange(3), **values, "v": rng.randrange(1000)}

    def _insert(self, row: dict[str, Any]) -> None:
        try:
            self._source.execute(
                f"insert into {quote(self.name)} ({', '.join(row)}) values "
                f"({', '.join(map(_literal, row.values()))})"
            )
        except pymysql.MySQLError as error:
            # Some vindexes have no place for NULL.
            if error.args[0] != DUPLICATE and "VT09023: could not map" not in str(error):
                raise


def _literal(value: object) -> str:
    if value is None:
        return "null"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _is(row: dict[str, Any]) -> str:
    """Say which row is meant; `t` byte by byte."""
    return " and ".join(
        f"{name} is null" if value is None else f"{name} = {_literal(value)}"
        for name, value in row.items()
    )


@pytest.fixture(scope="module")
def other_keyspace(_cluster: Cluster | None) -> str:
    """Return a keyspace whose shards the test may change."""
    if _cluster is None:
        pytest.skip("needs a cluster of its own")
    _cluster.keyspace(KEYSPACE, "-80", "80-")
    return KEYSPACE


@pytest.fixture
def other_source(other_keyspace: str, address: Address, prefix: str) -> Iterator[Source]:
    """Return a connection into that keyspace."""
    with closing(Source(replace(address, keyspace=other_keyspace), prefix)) as opened:
        yield opened


def test_any_vindex(
    own_cluster: Cluster, other_source: Source, tmp_path: Any, rng: random.Random
) -> None:
    """Rows are inserted, moved, changed and deleted; runs are killed; a shard is split."""
    tables = [Table(other_source, Case.of(rng), n, rng) for n in range(CASES)]
    pipe = Pipeline(tmp_path / "any", other_source, checkpoint_seconds=0.05)
    twice = 0
    for round_ in range(ROUNDS):
        for table in tables:
            for _ in range(STATEMENTS):
                table.write()
        if round_ == ROUNDS // 2:
            shard, *parts = ("80-", "80-c0", "c0-")
            if shard in _shards(other_source):
                own_cluster.reshard(KEYSPACE, shard, *parts)
                own_cluster.wait_served(KEYSPACE)
        if rng.random() < 0.5:
            pipe.run(kill=Kill(line=rng.randrange(2, 60)))
        pipe.complete()
        for table in tables:
            _check(pipe, table.name, table.case.identity)
            ids = other_source.query(f"select {', '.join(table.case.key)} from {quote(table.name)}")
            twice += len(ids) - len({tuple(row.values()) for row in ids})
    print(f"{CASES} tables, {ROUNDS * STATEMENTS} statements each; keys on two shards: {twice}")
    assert twice, "no key was on two shards: the test shows nothing"


def _shards(source: Source) -> set[str]:
    names = [str(next(iter(row.values()))) for row in source.query("show vitess_shards")]
    return {name.partition("/")[2] for name in names if name.startswith(f"{KEYSPACE}/")}
