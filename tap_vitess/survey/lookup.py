"""Fetches the current values of rows by key, over VTGate's MySQL port.

A query goes to the keyspace, never to one shard: after MoveTables a shard holds such a statement
back for 60 s and then refuses it, while VTGate routes it to where the table is now. Rows are
matched by the key that MySQL returns, byte by byte; a key that is equal only by collation is
another row. Keys with a NULL, which a column of a vindex may be, get a separate query.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import RequestError
from tap_vitess.protocol.images import RawKey, packed
from tap_vitess.values.charsets import charset_of
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.types import UnfitError
from tap_vitess.vtgate.address import Address
from tap_vitess.vtgate.mysql import connect, quote

_AT_ONCE = 500
Parameter = int | str | bytes | Decimal | None
Asked = tuple[Parameter, ...]
_escaped = functools.partial(quote, formatted=True)
# Types whose values MySQL does not find again by their text.
_COMPARED_OTHERWISE = ("float", "double", "bit", "timestamp", "json", "vector")


@dataclass(frozen=True, slots=True)
class Lookup:
    """Asks for rows of one keyspace's tables."""

    address: Address
    keyspace: str

    def fetch(
        self,
        table: str,
        fields: Sequence[query.Field],
        keys: Sequence[RawKey],
        columns: Collection[str],
        where: str | None = None,
    ) -> list[query.Row | None]:
        """Return some columns of each key's row, in the order of `fields`; None if there is no row.

        Only rows that fulfil the conditions `where` are seen.

        Raises:
            VitessError: VTGate refuses the statement, or a key column's type cannot be looked up.
        """
        wanted = [field for field in fields if field.name in columns]
        key = [field for name in keys[0] for field in fields if field.name == name]
        asked = [tuple(_parameter(table, field, k[field.name]) for field in key) for k in keys]
        alike: dict[tuple[bool, ...], list[Asked]] = {}
        for values in asked:
            alike.setdefault(tuple(value is None for value in values), []).append(values)
        statements = [
            self._select(table, key, wanted, some[start : start + _AT_ONCE], where)
            for some in alike.values()
            for start in range(0, len(some), _AT_ONCE)
        ]
        with connect(self.address, raw=True) as sql:
            sql.query("set time_zone = '+00:00'")  # in which VStream gives a TIMESTAMP
            told = [row for statement in statements for row in sql.query(*statement)]
        rows = {
            tuple(
                _parameter(table, field, _bytes(row[f"k{i}"]), charset="utf8mb4")
                for i, field in enumerate(key)
            ): packed([_bytes(row[f"c{i}"]) for i in range(len(wanted))])
            for row in told
        }
        return [rows.get(name) for name in asked]

    def _select(
        self,
        table: str,
        key: Sequence[query.Field],
        wanted: Sequence[query.Field],
        asked: Sequence[Asked],
        where: str | None,
    ) -> tuple[Any, ...]:
        """Return the statement and its values, for keys that are NULL in the same columns."""
        names = [_escaped(field.name) for field in key]
        columns = [f"{name} as k{i}" for i, name in enumerate(names)]
        columns += [f"{_asked(field)} as c{i}" for i, field in enumerate(wanted)]
        empty = [name for name, value in zip(names, asked[0], strict=True) if value is None]
        held = [name for name in names if name not in empty]
        one = ", ".join(["%s"] * len(held))
        one, left = (one, held[0]) if len(held) == 1 else (f"({one})", f"({', '.join(held)})")
        conditions = [f"{left} in ({', '.join([one] * len(asked))})"]
        conditions += [f"{name} is null" for name in empty]
        if where is not None:
            conditions.append(f"({where.replace('%', '%%')})")
        statement = (
            f"select {', '.join(columns)} from {_escaped(self.keyspace)}.{_escaped(table)} "  # noqa: S608
            f"where {' and '.join(conditions)}"
        )
        return statement, *(value for values in asked for value in values if value is not None)


def _asked(field: query.Field) -> str:
    """Return the SQL of a value: PyMySQL would decode a VECTOR, which it does not know, as text."""
    name = _escaped(field.name)
    vector = field.column_type.lower().startswith("vector")
    return f"cast({name} as binary)" if vector else name


def _parameter(
    table: str, field: query.Field, raw: bytes | None, charset: str | None = None
) -> Parameter:
    """Convert a key value so that MySQL compares it correctly."""
    if raw is None:
        return None
    if not field.column_type.lower().startswith(_COMPARED_OTHERWISE):
        with suppress(UnfitError):
            value = value_type(field.column_type, charset or charset_of(field.charset)).python(raw)
            if isinstance(value, int | str | bytes | Decimal):
                return value
            if isinstance(value, date | timedelta):
                return raw.decode()
    raise RequestError(
        f"{table}: a row cannot be asked for by its key column {field.name}, a "
        f"{field.column_type}; set binlog_row_image=FULL and binlog_row_value_options='' on the "
        "tablets' MySQL, or choose another value of the setting on_partial_image",
        table=table,
    )


def _bytes(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()
