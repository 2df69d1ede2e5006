"""Makes Arrow record batches of a table's rows, as `TableReader` makes objects.

`records/operations.py` says what happened to rows. They are converted by column, several kinds and
transactions at once, because each Arrow kernel costs some microseconds however few values there
are. Small groups are converted row by row, and so are rows with a fetched value.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tap_vitess.errors import ConfigError
from tap_vitess.log import logger_of
from tap_vitess.protocol.columns import EncodedChanges, Images
from tap_vitess.protocol.items import Rows
from tap_vitess.records.operations import Alike, Image, ImageOptions, Operation
from tap_vitess.records.records import RecordSequence
from tap_vitess.survey.facts import Table
from tap_vitess.values.arrow import ArrowDecoder, located, schema_of
from tap_vitess.values.kernels import kernels, pyarrow
from tap_vitess.values.mysql_types import value_type
from tap_vitess.vstream.decoding import OfTable, images_of

logger = logger_of(__name__)

OWN_COLUMNS = ("operation", "sequence", "version", "shard", "commit_time", "unsent")
FEW_ROWS = 40  # up to which one by one is faster than by column
_LARGE = 1 << 20  # bytes of rows that would be copied many times one by one
_OPERATIONS: Sequence[Operation] = get_args(Operation)
_NUMBERS = {operation: bytes([number]) for number, operation in enumerate(_OPERATIONS)}


@dataclass(frozen=True, slots=True)
class TableSchema(OfTable):
    """The schema of the table's batches from here on; a pyarrow.Schema."""

    schema: Any


@dataclass(frozen=True, slots=True)
class TableRows(OfTable):
    """Rows of a table, in order; a pyarrow.RecordBatch. Its own columns are named with a `_`:

    _operation: copy, insert, update or delete; an update of the key is a delete and an insert. A
    delete has the row as it was. _sequence: rises with every change of a keyspace, across runs too.
    _version: of the table's copy; see TableCopied. _shard: where the row is, or was. _commit_time:
    to the second; null for a copied row. _unsent: the names of columns that are null because the
    binlog does not carry them; null if there are no such columns.
    """

    version: int
    rows: Any


# Rows of one kind and second: whole images, or each by itself.
_Part = tuple[Rows, Alike | list[Image]]


class ArrowReader:
    """Makes batches of one table's rows."""

    def __init__(
        self, table: Table, sequence: RecordSequence, options: ImageOptions, own: Sequence[str]
    ) -> None:
        """Prepare for a table whose numbers come from `sequence`; for `own` see OWN_COLUMNS."""
        self._table = table
        self._sequence = sequence
        self._images = images_of(table, options, ArrowDecoder)
        self._own = _OwnColumns(own)
        self._srids = {c.name: c.srid for c in table.columns}
        types = {
            c.name: value_type(c.column_type, c.charset, options=options.values)
            for c in table.columns
        }
        self._known = self._with_own(schema_of(types))
        self._made_for: tuple[ArrowDecoder | None, Any] = None, None  # the last schema, and whose

    def opening(self) -> Iterator[TableSchema]:
        """Yield the schema, as SQL knows the table, before its first row."""
        yield TableSchema(self._table.keyspace, self._table.name, self._known)

    def read(self, rows: Rows, version: int) -> list[TableSchema | TableRows]:
        """Return the batch that rows are, after its schema where that is another.

        Raises:
            VitessError: a value or an image that cannot be taken as it is.
        """
        self._images.prepare(rows.fields)
        self._sequence.catch_up()
        decoder = self._images.told(rows.fields.shard).decoder
        columns, parts = self._taken([rows, *rows.others], decoder)
        own = self._own.of(parts, self._sequence, version)
        schema = self._schema_of(decoder)
        batch = pyarrow().RecordBatch.from_arrays([*columns, *own], schema=schema)
        where = self._table.keyspace, self._table.name
        found: list[TableSchema | TableRows] = []
        if schema is not self._known and not schema.equals(self._known):
            found.append(TableSchema(*where, schema))
        self._known = schema
        return [*found, TableRows(*where, version, batch)]

    def _schema_of(self, decoder: ArrowDecoder) -> Any:
        known, schema = self._made_for
        if known is not decoder:
            schema = self._with_own(decoder.schema)
            self._made_for = decoder, schema
        return schema

    def _with_own(self, schema: Any) -> Any:
        if taken := sorted({*schema.names}.intersection(self._own.names)):
            raise ConfigError(
                f"{self._table.keyspace}.{self._table.name} has a column {', '.join(taken)}: "
                "leave the own column out by own_columns"
            )
        return pyarrow().schema([*located(schema, self._srids), *self._own.fields])

    def _taken(
        self, parts: Sequence[Rows], decoder: ArrowDecoder
    ) -> tuple[list[Any], Sequence[_Part]]:
        """Return the columns, and what happened to their rows."""
        images = self._images
        found: list[_Part]
        if not _are_few([part.changes for part in parts]):
            found = [(part, images.alike(part) or images.each(part)) for part in parts]
            whole = [_whole(told) for _, told in found]
            if all(whole):
                return decoder.decode_all(Images.joined([w for w in whole if w])), found
        else:
            found = [(part, images.each(part)) for part in parts]
        each = [
            (part, images.each(part) if isinstance(told, Alike) else told) for part, told in found
        ]
        rows = [image.decoded(decoder) | image.fetched for _, told in each for image in told]
        return decoder.assemble(rows), each


def _are_few(some: Sequence[Collection[object]]) -> bool:
    encoded = [changes for changes in some if isinstance(changes, EncodedChanges)]
    if len(encoded) < len(some) or sum(map(len, encoded)) > FEW_ROWS:
        return False
    return sum(changes.size for changes in encoded) < _LARGE


def _whole(told: Alike | list[Image]) -> Images | None:
    """Return images of which each holds all that is known of its row; None when one does not."""
    if isinstance(told, Alike):
        return told.rows
    if any(image.fetched for image in told):
        return None
    return Images.of_rows([image.row for image in told])


class _OwnColumns:
    """The columns after a table's own, without an object a row."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._pa = pa = pyarrow()
        kinds = {
            "operation": pa.dictionary(pa.int8(), pa.string()),
            "sequence": pa.int64(),
            "version": pa.int64(),
            "shard": pa.dictionary(pa.int32(), pa.string()),
            "commit_time": pa.timestamp("s", "UTC"),
            "unsent": pa.list_(pa.string()),
        }
        self._wanted = wanted
        self.names = [f"_{name}" for name in wanted]
        self.fields = [pa.field(f"_{name}", kinds[name]) for name in wanted]
        self._operations = kernels().array(_OPERATIONS, pa.string())
        self._shards: dict[str, Any] = {}

    def of(self, parts: Sequence[_Part], sequence: RecordSequence, version: int) -> Iterator[Any]:
        """Yield the columns of rows, which are of one shard."""
        pa = self._pa
        counts = [_count(told) for _, told in parts]
        count = sum(counts)
        first = sequence.take(count)
        shard = parts[0][0].fields.shard
        for name in self._wanted:
            match name:
                case "operation":
                    told = b"".join(map(_operations, parts))
                    yield self._labelled(pa.int8(), told, self._operations)
                case "sequence":
                    yield kernels().arange(first, first + count)
                case "version":
                    yield self._plain(pa.int64(), struct.pack("<q", version) * count)
                case "shard":
                    if shard not in self._shards:
                        self._shards[shard] = kernels().array([shard], pa.string())
                    yield self._labelled(pa.int32(), bytes(4 * count), self._shards[shard])
                case "commit_time" if parts[0][0].fields.copying:
                    yield kernels().nulls(count, pa.timestamp("s", "UTC"))
                case "commit_time":
                    times = [
                        struct.pack("<q", part.commit_time) * count
                        for (part, _), count in zip(parts, counts, strict=True)
                    ]
                    yield self._plain(pa.timestamp("s", "UTC"), b"".join(times))
                case _:
                    yield self._unsent(parts)

    def _plain(self, kind: Any, raw: bytes) -> Any:
        pa = self._pa
        count = len(raw) * 8 // kind.bit_width
        return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(raw)])

    def _labelled(self, kind: Any, raw: bytes, labels: Any) -> Any:
        return self._pa.DictionaryArray.from_arrays(self._plain(kind, raw), labels, safe=False)

    def _unsent(self, parts: Sequence[_Part]) -> Any:
        pa = self._pa
        kind = pa.list_(pa.string())
        found = [
            kernels().nulls(told.count, kind)
            if isinstance(told, Alike)
            else kernels().array([sorted(i.absent - i.fetched.keys()) or None for i in told], kind)
            for _, told in parts
        ]
        return found[0] if len(found) == 1 else kernels().concat_arrays(found)


def _count(told: Alike | list[Image]) -> int:
    return told.count if isinstance(told, Alike) else len(told)


def _operations(part: _Part) -> bytes:
    _, told = part
    if isinstance(told, Alike):
        return _NUMBERS[told.operation] * told.count
    return b"".join([_NUMBERS[image.operation] for image in told])
