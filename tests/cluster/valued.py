"""A table with a column of every kind, on a real Vitess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pymysql
import pytest
from pymysql.constants import ER
from support.kinds import KINDS, Kind

from cluster.conftest import SHARDED
from cluster.launcher import Cluster, Version
from cluster.source import Source, quote

INSERTED_AT_ONCE = 10


def create_kinds(source: Source, columns: Mapping[str, Kind] = KINDS) -> str:
    """Create a table with a column of every kind; return its name."""
    declared = [f"{quote(name)} {kind.sql_type}" for name, kind in columns.items()]
    return source.create("kinds", ", ".join(["id bigint primary key", *declared]))


def _put(kind: Kind, vitess: Version) -> str:
    """Return the SQL around a value, so that Vitess can stream it."""
    mended = vitess >= (22, 0, 3) and not (23, 0, 0) <= vitess < (23, 0, 1)
    if kind is not KINDS["json_decimal"] or mended:
        return kind.put
    # A tablet looks for eight bytes of a DECIMAL, and panics where the document ends before.
    return f"json_insert({kind.put}, '$.filling', 'at the end')"


def insert_kinds(
    source: Source,
    table: str,
    rows: Sequence[dict[str, Any]],
    first: int,
    vitess: Version,
    columns: Mapping[str, Kind] = KINDS,
) -> None:
    """Insert rows; without the strict mode, which refuses zero dates."""
    names = ", ".join(["id", *map(quote, columns)])
    marks = ", ".join(["%s", *(_put(kind, vitess) for kind in columns.values())])
    connection = source.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("set sql_mode = 'ALLOW_INVALID_DATES'")
        for start in range(0, len(rows), INSERTED_AT_ONCE):
            part = rows[start : start + INSERTED_AT_ONCE]
            values = [[first + start + i, *row.values()] for i, row in enumerate(part)]
            try:
                cursor.execute(
                    f"insert into {quote(table)} ({names}) values "
                    + ", ".join([f"({marks})"] * len(values)),
                    [value for row in values for value in row],
                )
            except pymysql.MySQLError as error:
                raise RuntimeError(str(error)[:500]) from None


def needs_vectors(cluster: Cluster) -> None:
    """Skip the test where MySQL has no vectors."""
    try:
        cluster.mysql(
            cluster.primary(SHARDED, "-80"),
            f"use vt_{SHARDED}",  # without it MySQL says no more than that no database is selected
            "select hex(string_to_vector('[1]'))",
        )
    except pymysql.MySQLError as error:
        if error.args[0] != ER.SP_DOES_NOT_EXIST:
            raise
        pytest.skip(f"this MySQL has no VECTOR: {error.args[1]}")
