"""`--discover` on a sharded keyspace: which tables become streams, and with which keys.

Views, sequences and internal tables are left out; odd names pass unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from cluster.conftest import UNSHARDED
from cluster.launcher import Cluster
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

DEAD_SECONDS = 5.0
INTERNAL = "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_"
TABLES = {
    "plain": ("id bigint primary key, v varchar(20)", ["id"]),
    "composite": ("v varchar(20), b int, id bigint, primary key (id, b)", ["id", "b"]),
    "no_key": ("id bigint, v varchar(20)", []),
    "unique": ("id bigint not null, v varchar(20), unique key (id)", ["id"]),
    "nullable": ("id bigint, v varchar(20), unique key (id)", []),
    "with space": ("id bigint primary key, `a column` int", ["id"]),
    "with.dot": ("id bigint primary key, `a.b` int", ["id"]),
    "ünï表": ("id bigint, `schlüssel` int, primary key (`schlüssel`, id)", ["schlüssel", "id"]),
    "with-dash": ("id bigint primary key", ["id"]),
}


def _root(stream: dict[str, Any]) -> dict[str, Any]:
    roots = [m["metadata"] for m in stream["metadata"] if m["breadcrumb"] == []]
    assert len(roots) == 1
    found: dict[str, Any] = roots[0]
    return found


def test_catalog_of_a_sharded_keyspace(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """Each base table is one LOG_BASED stream with its key; views are left out."""
    keys = {source.create(name, columns): key for name, (columns, key) in TABLES.items()}
    source.create("view", f"select id from {quote(source.prefix + 'plain')}", kind="view")
    pipe = pipeline()
    streams = {stream["tap_stream_id"]: stream for stream in pipe.discover()["streams"]}
    assert streams.keys() == {pipe.stream(table) for table in keys}
    for table, key in keys.items():
        stream = streams[pipe.stream(table)]
        assert stream.get("key_properties", []) == key, table
        assert stream["replication_method"] == "LOG_BASED"
        assert _root(stream)["schema-name"] == source.address.keyspace


def test_columns_of_a_stream(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """A stream has the table's columns in order, then the tap's own, which are automatic."""
    source.create("typed", "id bigint primary key, a decimal(10,2), b json, c datetime, d blob")
    (stream,) = pipeline().discover()["streams"]
    columns = list(stream["schema"]["properties"])
    assert columns[:5] == ["id", "a", "b", "c", "d"]
    assert columns[5] == "_sdc_deleted_at"
    inclusions = {
        m["breadcrumb"][-1]: m["metadata"]["inclusion"]
        for m in stream["metadata"]
        if m["breadcrumb"]
    }
    assert inclusions == {
        name: "automatic" if name == "id" or name.startswith("_sdc_") else "available"
        for name in columns
    }


def test_odd_names_are_copied_and_followed(
    source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """Tables with spaces, dots, dashes and letters of all scripts are copied and followed."""
    names = [
        source.create(name, TABLES[name][0])
        for name in ("with space", "with.dot", "ünï表", "with-dash")
    ]
    pipe = pipeline()
    for run in (0, 1):
        for name in names:
            columns = ["id", "schlüssel"] if name.endswith("ünï表") else ["id"]
            source.insert(name, columns, [(100 * run + i, 7)[: len(columns)] for i in range(5)])
        pipe.complete()
    for name in names:
        assert pipe.count(name) == 10
        pipe.check(name, ["id"])


def test_sequences_and_internal_tables_are_left_out(
    source: Source, own_cluster: Cluster, pipeline: Callable[..., Pipeline], prefix: str
) -> None:
    """A sequence and a table of an online schema change are no streams."""
    assert own_cluster
    address = replace(source.address, keyspace=UNSHARDED)
    with closing(Source(address, prefix)) as main:
        table, sequence = prefix + "base", prefix + "seq"
        main.execute(
            f"create table {table} (id bigint primary key)",
            f"create table {INTERNAL} (id bigint primary key)",
            f"create table {sequence} (id bigint primary key, next_id bigint, cache bigint)"
            " comment 'vitess_sequence'",
        )
        done = pipeline(tables=None).alone("--discover", keyspaces=[UNSHARDED], tables=["*.*"])
        main.execute(*(f"drop table {name}" for name in (table, sequence, INTERNAL)))
    assert done.code == 0, done.log
    assert f'"{UNSHARDED}-{table}"' in done.out
    assert sequence not in done.out
    assert INTERNAL not in done.out


def test_a_keyspace_without_a_tablet_is_waited_for(
    source: Source, own_cluster: Cluster, pipeline: Callable[..., Pipeline], prefix: str
) -> None:
    """Its only vttablet is dead when discovery begins, and comes back."""
    number, table = own_cluster.tablet(UNSHARDED, "0"), prefix + "awaited"
    with closing(Source(replace(source.address, keyspace=UNSHARDED), prefix)) as main:
        main.execute(f"create table {table} (id bigint primary key)")
    pipe = pipeline(tables=None)
    with ThreadPoolExecutor(1) as pool:
        own_cluster.kill_tablet(number, mysql=False)
        try:
            found = pool.submit(
                pipe.alone, "--discover", keyspaces=[UNSHARDED], tables=[f"*.{table}"]
            )
            time.sleep(DEAD_SECONDS)
            assert not found.done(), found.result().log
        finally:
            own_cluster.start_tablet(number, UNSHARDED, "0")
        done = found.result()
    own_cluster.wait_served(UNSHARDED)
    assert done.code == 0, done.log
    assert f'"{UNSHARDED}-{table}"' in done.out
    assert f"the tables of {UNSHARDED}: a shard has no tablet of this type (now)" in done.log
    with closing(Source(replace(source.address, keyspace=UNSHARDED), prefix)) as main:
        main.execute(f"drop table {table}")
