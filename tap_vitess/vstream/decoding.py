"""A table's rows as changes: what `RecordMaker` is for records, with Python's own objects.

Which operation a change is, what a partial image lacks and how that is asked for is decided in
`records/records.py`. Whole images of one kind are taken apart by column, the others one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from tap_vitess.protocol.columns import Changes, CopiedChanges, EncodedChanges, RowChanges
from tap_vitess.protocol.images import beside_own_key
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.records import Image, RecordMaker, RecordOptions, RecordSequence
from tap_vitess.records.schema import StreamSchema
from tap_vitess.survey.facts import Table
from tap_vitess.values.decode import ObjectDecoder, Row
from tap_vitess.values.encode import same_columns
from tap_vitess.values.entries import value_type

RowT = TypeVar("RowT")
Operation = Literal["copy", "insert", "update", "delete"]


@dataclass(frozen=True, slots=True)
class Change(Generic[RowT]):
    """A row that was copied, or a change of one.

    keyspace, table: where. operation: an update of the key is a delete and an insert. key: the key
    columns and their values; empty for a table without a key. before: the row before an update or
    delete, as far as the binlog carries it. after: the row, unless it was deleted. commit_time: to
    the second; None for a copied row. shard: where the row is, or was. sequence: rises with every
    change of a keyspace, also across runs. version: of the table's copy; see TableCopied.
    """

    keyspace: str
    table: str
    operation: Operation
    key: Mapping[str, Any]
    before: Row | None
    after: RowT | None
    commit_time: datetime | None
    shard: str
    sequence: int
    version: int

    @property
    def name(self) -> str:
        """The table's whole name, `keyspace.table`."""
        return f"{self.keyspace}.{self.table}"


class _Stream:
    """What a RecordMaker wants to know of a table."""

    own_columns: Mapping[str, str] = {}

    def __init__(self, table: Table, options: RecordOptions) -> None:
        self.keyspace = table.keyspace
        self.name = f"{table.keyspace}.{table.name}"
        self.primary_keys = table.key
        self.charsets = {c.name: c.charset for c in table.columns if c.charset is not None}
        self._properties = {
            column.name: value_type(
                column.column_type, column.charset, options=options.values
            ).nullable()
            for column in table.columns
        }

    def stream_schema(self) -> StreamSchema:
        return StreamSchema(self.name, self._properties, self.primary_keys, (), ())


class TableReader:
    """Makes changes of one table's rows."""

    def __init__(self, table: Table, sequence: RecordSequence, options: RecordOptions) -> None:
        """Prepare; `options.decoder` must be an ObjectDecoder."""
        self.table = table
        self._stream = _Stream(table, options)
        self._maker = RecordMaker(self._stream, sequence, options)
        self._sequence = sequence
        self._options = options
        self._decoders: dict[str, ObjectDecoder] = {}

    def read(self, rows: Rows, version: int) -> list[Change[Row]]:
        """Return the changes that rows are.

        Raises:
            VitessError: a value or an image that cannot be taken as it is.
        """
        self._maker.prepare(rows.fields)
        self._sequence.catch_up()
        decoder = self._decoder(rows.fields)
        found = self._whole(rows, decoder)
        if found is None:
            found = list(self._one_by_one(rows, decoder))
        copying = rows.fields.copying
        at = None if copying else datetime.fromtimestamp(rows.commit_time, UTC)
        first = self._sequence.take(len(found))
        where = self.table.keyspace, self.table.name
        shard, names = rows.fields.shard, self.table.key
        return [
            Change(
                *where,
                operation,
                _key(names, before if after is None else after),
                before,
                after,
                at,
                shard,
                sequence,
                version,
            )
            for sequence, (operation, before, after) in enumerate(found, first)
        ]

    def _decoder(self, fields: Fields) -> ObjectDecoder:
        found = self._decoders.get(fields.shard)
        if found is None or found.fields is not fields.fields:
            found = self._decoders[fields.shard] = ObjectDecoder(
                fields,
                self.table.keyspace,
                [field.name for field in fields.fields],
                self._options.values,
                key=self.table.key,
                charsets=self._stream.charsets,
            )
        return found

    def _whole(self, rows: Rows, decoder: ObjectDecoder) -> list[_Found] | None:
        """Take whole images of one kind apart by column; None where they are not so."""
        if not isinstance(rows.changes, RowChanges | EncodedChanges | CopiedChanges):
            return None
        changes = rows.changes.by_column()
        if changes is None:
            return None
        whole = self._maker.logs_whole_rows(rows.fields.shard)
        if changes.before is not None and not (whole and self._same_keys(changes, decoder)):
            return None
        added = beside_own_key(rows.fields.fields, self.table.key)
        if (
            added
            and changes.before
            and changes.before.has_null(len(decoder.columns), decoder.where, added)
        ):
            return None  # it may not have been sent
        before = _rows(changes, changes.before, decoder)
        after = _rows(changes, changes.after, decoder)
        operation: Operation = "update"
        if rows.fields.copying:
            operation = "copy"
        elif changes.before is None or changes.after is None:
            operation = "insert" if changes.before is None else "delete"
        return [(operation, b, a) for b, a in zip(before, after, strict=True)]

    def _same_keys(self, changes: Changes, decoder: ObjectDecoder) -> bool:
        before, after = changes.before, changes.after
        if before is None or after is None:
            return True
        columns = decoder.columns
        indexes = [i for i, (name, _) in enumerate(columns) if name in self.table.key]
        return same_columns(before, after, len(columns), indexes, decoder.where)

    def _one_by_one(self, rows: Rows, decoder: ObjectDecoder) -> Iterator[_Found]:
        if rows.fields.copying:
            for change in rows.changes:
                yield "copy", None, decoder.decode(change.after)
            return
        for image in self._maker.images(rows):
            row = {n: v for n, v in decoder.decode(image.row).items() if n not in image.unknown}
            if image.op == "delete":
                yield "delete", row, None
            else:
                before = self._before(image, rows.fields, decoder)
                operation: Operation = "insert" if before is None else "update"
                yield operation, before, row | image.fetched

    def _before(self, image: Image, fields: Fields, decoder: ObjectDecoder) -> Row | None:
        if image.before is None:
            return None
        unsent = self._maker.unsent(image.before, fields)
        return {n: v for n, v in decoder.decode(image.before).items() if n not in unsent}


_Found = tuple[Operation, Row | None, Row | None]


def _rows(changes: Changes, images: Any, decoder: ObjectDecoder) -> Sequence[Row | None]:
    if images is None:
        return [None] * changes.count
    return list(decoder.decode_all(images))


def _key(names: Sequence[str], row: Row | None) -> Row:
    found = row or {}
    return {name: found[name] for name in names}
