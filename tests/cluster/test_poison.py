"""Transactions and rows that no VStream passes: the tables they are of are left behind, alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from cluster.launcher import Cluster
from cluster.runs import Outcome, Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

TABLES = ("a", "b", "c", "d", "poisoned")
MENDED = {22: (22, 0, 3), 23: (23, 0, 1)}  # where a small DECIMAL in JSON makes no tablet panic


def _make(source: Source) -> dict[str, str]:
    """Make the tables, with some rows each."""
    columns = "id bigint primary key, v int, doc json, big longblob"
    names = {name: source.create(name, columns) for name in TABLES}
    for table in names.values():
        source.insert(table, ["id", "v"], [(i, i) for i in range(20)])
    return names


def _write(source: Source, names: dict[str, str]) -> None:
    """Change every table on every shard."""
    for table in names.values():
        source.execute(f"update {quote(table)} set v = v + 1")


def _home(cluster: Cluster, source: Source, table: str, key: int) -> tuple[int, str, str]:
    """Find the tablet of a row, its shard, and the table's name in its MySQL."""
    keyspace = source.address.keyspace
    for shard in ("-80", "80-"):
        number = cluster.tablet(keyspace, shard)
        inside = f"vt_{keyspace}.{quote(table)}"
        if cluster.mysql(number, f"select id from {inside} where id = {key}"):
            return number, shard, inside
    raise LookupError(f"{table}: no shard has row {key}")


def _fails(pipe: Pipeline, names: dict[str, str], *, left: str, longest: float) -> Outcome:
    """Run; one table is left behind and the others are whole."""
    outcome = pipe.run()
    print(f"run with {left} poisoned: {outcome.seconds:.1f} s")
    assert outcome.tap == 1, outcome.log
    assert f"{names[left]} not finished: " in outcome.log
    assert outcome.log.count(" not finished: ") >= 1
    assert outcome.seconds < longest
    for name in TABLES:
        if name != left:
            pipe.check(names[name], ["id"])
    return outcome


def _version(source: Source) -> tuple[int, int, int]:
    text = str(next(iter(source.query("select @@version_comment as v")[0].values())))
    found = re.search(r"Version: (\d+)\.(\d+)\.(\d+)", text)
    assert found is not None
    return int(found[1]), int(found[2]), int(found[3])


@pytest.mark.parametrize(
    "document", ["""'{"": 1}'""", "json_object('x', cast('-.5' as decimal(5, 2)))"]
)
def test_a_transaction_that_no_tablet_can_read(
    source: Source, pipeline: Callable[..., Pipeline], document: str
) -> None:
    """A tablet panics over a document: its table waits, and `resync` goes past it."""
    names = _make(source)
    pipe = pipeline()
    pipe.complete()
    table = quote(names["poisoned"])
    source.execute(f"update {table} set doc = {document} where id = 7")
    _write(source, names)
    version = _version(source)
    if "decimal" in document and version >= MENDED.get(version[0], (22, 0, 3)):
        pipe.complete()
    else:
        outcome = _fails(pipe, names, left="poisoned", longest=60)
        assert "a tablet panics over a JSON value" in outcome.log
        _write(source, names)
        _fails(pipe, names, left="poisoned", longest=60)
        pipeline(on_lost_position="resync").complete()
    # What this changes has the document in its old image: with `resync` that is passed as well.
    source.execute(f"update {table} set doc = null where id = 7")
    _write(source, names)
    pipe.complete()
    for name in TABLES:
        pipe.check(names[name], ["id"])


@pytest.mark.parametrize("images", [1, 2])
def test_rows_above_16_mib(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    images: int,
) -> None:
    """Streamed, with one image or both together, and copied: the other tables arrive."""
    names = _make(source)
    pipe = pipeline()
    pipe.complete()
    number, shard, inside = _home(own_cluster, source, names["poisoned"], 7)
    own_cluster.mysql(number, f"set global max_allowed_packet = {1 << 26}")
    size = (17 if images == 1 else 15) << 20
    own_cluster.mysql(number, f"update {inside} set big = repeat('x', {size}) where id = 7")
    if images == 2:
        pipe.complete()
        own_cluster.mysql(number, f"update {inside} set v = v + 1 where id = 7")
    _write(source, {name: names[name] for name in TABLES[:-1]})
    outcome = _fails(pipe, names, left="poisoned", longest=110)
    assert f"of shard {shard}" in outcome.log
    assert "--grpc_max_message_size of VTGate and the tablets" in outcome.log
    again = pipeline(on_lost_position="resync")
    if images == 1:
        copy = _fails(again, names, left="poisoned", longest=110)
        assert "its copy stops at the same row" in copy.log
        own_cluster.mysql(number, f"update {inside} set big = null where id = 7")
    again.complete()
    _write(source, {name: names[name] for name in TABLES[:-1]})
    pipe.complete()
    for name in TABLES[:-1]:
        pipe.check(names[name], ["id"])


def test_xa(own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """It stops every stream: told within a minute with the transaction, and `resync` is past it."""
    names = _make(source)
    pipe = pipeline()
    pipe.complete()
    number, shard, inside = _home(own_cluster, source, names["poisoned"], 7)
    own_cluster.mysql(
        number,
        "xa start 'a1'",
        f"update {inside} set v = 4711 where id = 7",
        "xa end 'a1'",
        "xa prepare 'a1'",
        "xa commit 'a1'",
    )
    _write(source, names)
    began = time.monotonic()
    outcome = pipe.run()
    assert time.monotonic() - began < 60
    assert outcome.tap == 1
    assert "VStream cannot read XA transactions" in outcome.log
    assert re.search(
        rf"no stream can get past the transaction [0-9a-f-]+:\d+ of shard {shard}", outcome.log
    )
    pipeline(on_lost_position="resync").complete()
    _write(source, names)
    pipe.complete()
    for name in TABLES:
        pipe.check(names[name], ["id"])


def test_a_large_transaction_is_none(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """One that takes a while to send is waited for; nothing is left behind."""
    names = _make(source)
    pipe = pipeline()
    source.insert(names["poisoned"], ["id", "v"], [(i, i) for i in range(20, 30_000)])
    pipe.complete()
    number, _, inside = _home(own_cluster, source, names["poisoned"], 7)
    own_cluster.mysql(number, f"update {inside} set doc = json_object('x', repeat('y', 2000))")
    outcome = pipe.complete()
    assert "looking for the table that stops" not in outcome.log
    own_cluster.mysql(number, f"update {inside} set doc = null")  # is compared as text
    pipe.complete()
    for name in TABLES:
        pipe.check(names[name], ["id"])
