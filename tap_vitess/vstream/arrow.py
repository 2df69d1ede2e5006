"""Level 2 with columns for rows: tables in; Arrow's record batches, copies and boundaries out.

The engine, the boundaries, the versions and the state are those of `changes`; only what rows become
is another thing. Whole images of one kind are taken apart by column, without an object a row; the
others one by one. A batch has rows of one table and one shard, in order.

Each batch has the columns of its FIELD event, and behind them columns of its own. A table's schema
is told before its first row, and again before the first batch with another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from tap_vitess.errors import ConfigError
from tap_vitess.protocol.items import Rows
from tap_vitess.records.images import ImageOptions, Operation
from tap_vitess.records.records import RecordSequence
from tap_vitess.survey.facts import Table
from tap_vitess.values.arrow import ArrowDecoder, pyarrow, scalar, schema_of
from tap_vitess.values.entries import value_type
from tap_vitess.vstream.changes import DEFAULT_RETRY, Boundary, TableCopied, items_of
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.decoding import images_of
from tap_vitess.vtgate.retry import RetryOptions

logger = logging.getLogger(__name__)

OWN_COLUMNS = ("operation", "sequence", "version", "shard", "commit_time", "unsent")
FEW_ROWS = 60  # up to which one by one is faster than by column
_OPERATIONS: Sequence[Operation] = get_args(Operation)


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The schema of the table's batches from here on; a pyarrow.Schema."""

    keyspace: str
    table: str
    schema: Any

    @property
    def name(self) -> str:
        """The table's whole name, `keyspace.table`."""
        return f"{self.keyspace}.{self.table}"


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table, in order; a pyarrow.RecordBatch. Its own columns are named with a `_`:

    _operation: copy, insert, update or delete; an update of the key is a delete and an insert. A
    delete has the row as it was. _sequence: rises with every change of a keyspace, also across
    runs. _version: of the table's copy; see TableCopied. _shard: where the row is, or was.
    _commit_time: to the second; null for a copied row. _unsent: the names of columns that are null
    because the binlog does not carry them; null where there is none.
    """

    keyspace: str
    table: str
    version: int
    rows: Any

    @property
    def name(self) -> str:
        """The table's whole name, `keyspace.table`."""
        return f"{self.keyspace}.{self.table}"


ArrowItem = TableSchema | TableRows | TableCopied | Boundary


def arrow_changes(
    vitess: Vitess,
    tables: Iterable[str],
    *,
    own_columns: Collection[str] = OWN_COLUMNS,
    state: str | None = None,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    boundary_seconds: float = 1.0,
    poll_seconds: float = 10.0,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Generator[ArrowItem, None, None]:
    """Copy tables and follow their changes, as columns of Arrow's.

    Args:
        vitess: where they are.
        tables: their names, as `keyspace.table`.
        own_columns: which columns to add, of OWN_COLUMNS. Without "unsent", nobody tells a NULL
            from what the binlog does not carry.
        state, follow, stop, boundary_seconds, poll_seconds, retry: see `changes`.

    Raises:
        ConfigError: pyarrow is not installed, or a table has a column of an own one's name.
        VitessError: see `changes`.
    """
    pyarrow()
    if strange := sorted({*own_columns} - {*OWN_COLUMNS}):
        raise ConfigError(f"own_columns: there is no {', '.join(strange)}")
    own = [name for name in OWN_COLUMNS if name in own_columns]
    return items_of(
        vitess,
        tables,
        partial(_ArrowReader, own=own),
        state=state,
        follow=follow,
        stop=stop,
        boundary_seconds=boundary_seconds,
        poll_seconds=poll_seconds,
        retry=retry,
    )


class _ArrowReader:
    """Makes batches of one table's rows."""

    def __init__(
        self, table: Table, sequence: RecordSequence, options: ImageOptions, own: Sequence[str]
    ) -> None:
        self._pa = pyarrow()
        self._table = table
        self._sequence = sequence
        self._images = images_of(table, options, ArrowDecoder)
        pa = self._pa
        kinds = {
            "operation": pa.dictionary(pa.int8(), pa.string()),
            "sequence": pa.int64(),
            "version": pa.int64(),
            "shard": pa.dictionary(pa.int32(), pa.string()),
            "commit_time": pa.timestamp("s", "UTC"),
            "unsent": pa.list_(pa.string()),
        }
        self._own = {name: pa.field(f"_{name}", kinds[name]) for name in own}
        types = {
            c.name: value_type(c.column_type, c.charset, options=options.values)
            for c in table.columns
        }
        self._known = self._with_own(schema_of(types))

    def opening(self) -> Iterator[TableSchema]:
        """Tell the schema, as SQL knows the table, before its first row."""
        yield TableSchema(self._table.keyspace, self._table.name, self._known)

    def read(self, rows: Rows, version: int) -> list[TableSchema | TableRows]:
        """Return the batch that rows are, behind its schema where that is another.

        Raises:
            VitessError: a value or an image that cannot be taken as it is.
        """
        self._images.prepare(rows.fields)
        self._sequence.catch_up()
        decoder = self._images.told(rows.fields.shard).decoder
        schema = self._with_own(decoder.schema)
        columns, operations, unsent = self._alike(rows, decoder) or self._each(rows, decoder)
        own = self._own_columns(rows, version, operations, unsent)
        batch = self._pa.RecordBatch.from_arrays(
            [*columns, *(own[name]() for name in self._own)], schema=schema
        )
        where = self._table.keyspace, self._table.name
        found: list[TableSchema | TableRows] = []
        if not schema.equals(self._known):
            self._known = schema
            found.append(TableSchema(*where, schema))
        return [*found, TableRows(*where, version, batch)]

    def _with_own(self, schema: Any) -> Any:
        names = [field.name for field in self._own.values()]
        if taken := sorted({*schema.names}.intersection(names)):
            raise ConfigError(
                f"{self._table.keyspace}.{self._table.name} has a column {', '.join(taken)}: "
                "leave the own column out by own_columns"
            )
        return self._pa.schema([*schema, *self._own.values()])

    def _alike(self, rows: Rows, decoder: ArrowDecoder) -> _Taken | None:
        found = self._images.alike(rows) if len(rows.changes) > FEW_ROWS else None
        if found is None:
            return None
        number = _OPERATIONS.index(found.operation)
        operations = self._pa.repeat(scalar(number, self._pa.int8()), found.count)
        unsent = self._pa.nulls(found.count, self._pa.list_(self._pa.string()))
        return decoder.decode_all(found.rows), operations, unsent

    def _each(self, rows: Rows, decoder: ArrowDecoder) -> _Taken:
        images = self._images.each(rows)
        columns = decoder.assemble([image.decoded(decoder) | image.fetched for image in images])
        operations = [_OPERATIONS.index(image.operation) for image in images]
        unsent = [sorted(image.absent - image.fetched.keys()) or None for image in images]
        pa = self._pa
        return columns, pa.array(operations, pa.int8()), pa.array(unsent, pa.list_(pa.string()))

    def _own_columns(
        self, rows: Rows, version: int, operations: Any, unsent: Any
    ) -> dict[str, Callable[[], Any]]:
        """Say how to make the own columns of rows."""
        pa, count = self._pa, len(operations)
        first = self._sequence.take(count)
        commit_time = None if rows.fields.copying else rows.commit_time

        def alike(value: Any, kind: Any) -> Any:
            return pa.repeat(scalar(value, kind), count)

        def labelled(numbers: Any, labels: Sequence[str]) -> Any:
            return pa.DictionaryArray.from_arrays(numbers, pa.array(labels, pa.string()))

        return {
            "operation": lambda: labelled(operations, _OPERATIONS),
            "sequence": lambda: pa.arange(first, first + count),
            "version": lambda: alike(version, pa.int64()),
            "shard": lambda: labelled(alike(0, pa.int32()), [rows.fields.shard]),
            "commit_time": lambda: alike(commit_time, pa.timestamp("s", "UTC")),
            "unsent": lambda: unsent,
        }


_Taken = tuple[list[Any], Any, Any]  # columns, operations, names of columns that were not sent
