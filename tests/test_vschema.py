"""What VTGate's VSchema tells, by the sandbox as a real VTGate (v22) has told it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.taps import settings

from tap_vitess.config import Config
from tap_vitess.errors import RequestError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import serve
from tap_vitess.survey import vschema
from tap_vitess.vtgate.mysql import Sql, connect

COLUMNS = (
    Column("id", "bigint", nullable=False),
    Column("region", "varchar(10)"),
    Column("cust", "bigint"),
)
TABLES = (
    Table("by key", COLUMNS, ("id",)),
    Table("by.one", COLUMNS, ("id",), vindex=("cust",)),
    Table("by`two%", COLUMNS, ("id",), vindex=("region", "cust")),
    Table("pinned", COLUMNS, ("id",), role="pinned"),
    Table("reference", COLUMNS, ("id",), role="reference"),
    Table("unlisted", COLUMNS, ("id",), role="unlisted"),
)


@pytest.fixture
def cluster() -> Cluster:
    """Return keyspaces with a table of each role."""
    made = Cluster()
    made.create_keyspace("ks", ["-80", "80-"], foreign_keys="managed")
    made.create_keyspace("main", ["0"])
    for table in TABLES:
        made.create_table("ks", table)
    made.create_table("main", Table("t", COLUMNS, ("id",), vindex=("cust",)))
    return made


@pytest.fixture
def sql(cluster: Cluster) -> Iterator[Sql]:
    """Return a connection without a keyspace in use."""
    with (
        serve(cluster) as sandbox,
        connect(Config.from_settings(settings(sandbox))) as opened,
    ):
        yield opened


def test_keyspaces(sql: Sql) -> None:
    """Whether they are sharded is said, not counted: a sharded keyspace may have one shard."""
    assert vschema.keyspaces(sql) == {
        "ks": vschema.Keyspace(sharded=True, foreign_keys="managed"),
        "main": vschema.Keyspace(sharded=False, foreign_keys="unmanaged"),
    }


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("by key", "id"),
        ("by.one", "cust"),
        ("by`two%", "region, cust"),
        ("pinned", ""),
        ("reference", ""),
        ("unlisted", None),
        ("nope", None),
    ],
)
def test_primary_vindex(sql: Sql, table: str, columns: str | None) -> None:
    """Its columns, with names that have to be quoted, too."""
    assert vschema.primary_vindex(sql, "ks", table) == columns


def test_an_unsharded_keyspace_has_no_vindex(sql: Sql) -> None:
    """Not even a table that is not there is missed in it."""
    assert [vschema.primary_vindex(sql, "main", name) for name in ("t", "nope")] == ["", ""]
    with pytest.raises(RequestError, match="VTGate does not know the keyspace"):
        vschema.primary_vindex(sql, "other", "t")


def test_rows_are_where_the_vschema_says(cluster: Cluster) -> None:
    """The same key on two shards, all rows on one shard, and each row on all."""

    def held(table: str, *shards: str) -> list[int | None]:
        return [cluster.rows_of_shard("ks", table, shard) for shard in shards]

    rows = [{"id": b"%d" % n, "region": b"r", "cust": b"0"} for n in range(10)]
    for table in ("by.one", "pinned", "reference"):
        cluster.insert("ks", table, rows)
    cluster.insert("ks", "by.one", [{**row, "cust": b"2"} for row in rows])
    assert held("by.one", "-80", "80-") == [10, 10]
    assert held("pinned", "-80", "80-") == [10, 0]
    assert held("reference", "-80", "80-") == [10, 10]
    cluster.delete("ks", "reference", {"id": b"3"})
    cluster.delete("ks", "by.one", {"id": b"3", "cust": b"2"})
    cluster.reshard("ks", ["80-"], ["80-c0", "c0-"])
    assert held("reference", "-80", "80-c0", "c0-") == [9, 9, 9]
    assert len(cluster.rows("ks", "reference")) == 9
    assert [row["cust"] for row in cluster.rows("ks", "by.one") if row["id"] == b"3"] == [b"0"]
