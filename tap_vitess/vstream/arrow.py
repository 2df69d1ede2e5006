"""Level 2 with Arrow: tables in; record batches, finished copies and boundaries out.

The engine, the boundaries, the versions and the state are those of `changes`. Two things differ:
rows become record batches, and rows of several small transactions come table by table. A batch has
rows of one table and one shard, in order.

Each batch has the columns of its FIELD event, followed by added columns. A table's schema comes
before its first row, and again before the first batch with another schema.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from functools import partial

from tap_vitess.errors import ConfigError
from tap_vitess.signals import Taken
from tap_vitess.values.kernels import pyarrow
from tap_vitess.vstream.arrow_reader import OWN_COLUMNS, ArrowReader, TableRows, TableSchema
from tap_vitess.vstream.changes import (
    DEFAULT_RETRY,
    Boundary,
    Reading,
    TableCopied,
    flat,
    parts_of,
)
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.query import Query
from tap_vitess.vtgate.retry import RetryOptions

ArrowItem = TableSchema | TableRows | TableCopied | Boundary


def arrow_changes(
    vitess: Vitess,
    tables: Iterable[str | Query],
    *,
    own_columns: Collection[str] = OWN_COLUMNS,
    state: str | None = None,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    boundary_seconds: float = 1.0,
    poll_seconds: float = 10.0,
    signals: bool = False,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Generator[ArrowItem, None, None]:
    """Copy tables and follow their changes, as columns of Arrow's.

    Args:
        vitess: where they are.
        tables: their names, as `keyspace.table`, or a Query for some columns and rows.
        own_columns: which columns to add, of OWN_COLUMNS. Without "unsent", a NULL cannot be
            distinguished from a value that the binlog does not carry.
        state, follow, stop, boundary_seconds, poll_seconds, signals, retry: see `changes`.

    Raises:
        ConfigError: pyarrow is not installed, or a column has the name of an added column.
        VitessError: see `changes`.
    """
    pyarrow()
    if strange := sorted({*own_columns} - {*OWN_COLUMNS}):
        raise ConfigError(f"own_columns: there is no {', '.join(strange)}")
    own = [name for name in OWN_COLUMNS if name in own_columns]
    taken = Taken()
    how = Reading(state, follow, taken.or_asked(stop), boundary_seconds, poll_seconds, retry)
    parts = parts_of(vitess, tables, partial(ArrowReader, own=own), how, by_table=True)
    return taken.within(flat(parts), wanted=signals)
