"""A table with a column of every kind, on a real Vitess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pymysql
from support.kinds import KINDS, Kind

from cluster.launcher import Version
from cluster.source import Source, quote

INSERTED_AT_ONCE = 10


def create_kinds(source: Source) -> str:
    """Create a table with a column of every kind; return its name."""
    columns = [f"{quote(name)} {kind.sql_type}" for name, kind in KINDS.items()]
    return source.create("kinds", ", ".join(["id bigint primary key", *columns]))


def _put(kind: Kind, vitess: Version) -> str:
    """Return the SQL around a value, so that Vitess can stream it."""
    mended = vitess >= (22, 0, 3) and not (23, 0, 0) <= vitess < (23, 0, 1)
    if kind is not KINDS["json_decimal"] or mended:
        return kind.put
    # A tablet looks for eight bytes of a DECIMAL, and panics where the document ends before.
    return f"json_insert({kind.put}, '$.filling', 'at the end')"


def insert_kinds(
    source: Source, table: str, rows: Sequence[dict[str, Any]], first: int, vitess: Version
) -> None:
    """Insert rows; without the strict mode, which refuses zero dates."""
    names = ", ".join(["id", *map(quote, KINDS)])
    marks = ", ".join(["%s", *(_put(kind, vitess) for kind in KINDS.values())])
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
