"""A sandbox with a column of every kind."""

from __future__ import annotations

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table


def everything() -> Cluster:
    """Make a keyspace with a column of every kind, and NULLs."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    values: dict[str, tuple[str, bytes]] = {
        "number": ("int", b"-5"),
        "big": ("bigint unsigned", b"18446744073709551615"),
        "price": ("decimal(10,2)", b"0.50"),
        "ratio": ("double", b"1e20"),
        "flags": ("bit(9)", b"\x01\x01"),
        "day": ("date", b"2024-02-29"),
        "moment": ("datetime(6)", b"2024-02-29 23:59:59.123456"),
        "stamp": ("timestamp", b"2024-02-29 23:59:59"),
        "span": ("time", b"-838:59:59"),
        "year": ("year", b"2024"),
        "text": ("varchar(50)", "ä\n\"'".encode()),
        "raw": ("varbinary(9)", b"\x00\xff"),
        "choice": ("enum('a','b')", b"a"),
    }
    columns = (
        Column("id", "bigint", nullable=False),
        *(Column(name, kind) for name, (kind, _) in values.items()),
    )
    cluster.create_table("shop", Table("types", columns, primary_key=("id",)))
    full = {name: raw for name, (_, raw) in values.items()}
    cluster.insert("shop", "types", [{"id": b"%d" % i, **full} for i in range(5)])
    cluster.insert("shop", "types", [{"id": b"6", **dict.fromkeys(full)}])
    cluster.create_table(
        "shop", Table("pairs", (Column("a", "int"), Column("b", "int")), primary_key=("b", "a"))
    )
    cluster.insert("shop", "pairs", [{"a": b"%d" % i, "b": b"1"} for i in range(5)])
    cluster.create_table(
        "shop",
        Table("documents", (Column("id", "int"), Column("document", "json")), primary_key=("id",)),
    )
    documents = [b'{"a": [1, 2.5, null]}', b"[1]", b'"text"', b"1.0", b"true", b"null", None]
    rows = [{"id": b"%d" % i, "document": raw} for i, raw in enumerate(documents)]
    cluster.insert("shop", "documents", rows)
    return cluster
