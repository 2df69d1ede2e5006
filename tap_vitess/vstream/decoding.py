"""A table's rows as the library's changes, with Python objects for values.

`records/operations.py` says what happened to a row. Whole images of one kind are converted by
column, all others row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import repeat
from typing import Any, Generic, Never, TypeVar

from tap_vitess.log import logger_of
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.operations import ImageOptions, Operation, TableImages
from tap_vitess.records.records import RecordSequence
from tap_vitess.records.schema import StreamSchema
from tap_vitess.survey.facts import Table
from tap_vitess.values.decode import ObjectDecoder, Row, RowDecoder
from tap_vitess.values.mysql_types import value_type

logger = logger_of(__name__)

RowT = TypeVar("RowT")
DecoderT = TypeVar("DecoderT", bound=RowDecoder)


@dataclass(frozen=True, slots=True)
class OfTable:
    """The base of items that belong to one table."""

    keyspace: str
    table: str

    @property
    def name(self) -> str:
        """The table's whole name, `keyspace.table`."""
        return f"{self.keyspace}.{self.table}"


@dataclass(frozen=True, slots=True)
class Change(OfTable, Generic[RowT]):
    """A row that was copied, or a change of one.

    keyspace, table: where. operation: an update of the key is a delete and an insert. key: the key
    columns and their values; empty for a table without a key. before: the row before an update or
    delete, as far as the binlog carries it. after: the row, unless it was deleted. commit_time: to
    the second; None for a copied row. shard: where the row is, or was. sequence: rises with every
    change of a keyspace, across runs too. version: of the table's copy; see TableCopied.
    """

    operation: Operation
    key: Mapping[str, Any]
    before: Row | None
    after: RowT | None
    commit_time: datetime | None
    shard: str
    sequence: int
    version: int


def images_of(
    table: Table, options: ImageOptions, decoder: type[DecoderT], *, before: bool = False
) -> TableImages[DecoderT]:
    """Return the TableImages of a table, which also explain `before`."""
    properties = {
        c.name: value_type(c.column_type, c.charset, options=options.values).nullable()
        for c in table.columns
    }
    return TableImages(
        table.keyspace,
        StreamSchema(f"{table.keyspace}.{table.name}", properties, table.key, (), ()),
        table.key,
        {c.name: c.charset for c in table.columns if c.charset is not None},
        options,
        decoder,
        logger.warning,
        before=before,
    )


_Found = tuple[Operation, Row | None, Row | None]


class TableReader:
    """Makes changes from one table's rows."""

    def __init__(
        self,
        table: Table,
        sequence: RecordSequence,
        options: ImageOptions,
        timezone: tzinfo | None = None,
    ) -> None:
        """Prepare for a table whose numbers come from `sequence`; for `timezone` see `changes`."""
        self.table = table
        self._timezone = timezone
        self._sequence = sequence
        self._images = images_of(table, options, ObjectDecoder, before=True)

    def opening(self) -> Iterable[Never]:
        """Yield nothing before the first row."""
        return ()

    def read(self, rows: Rows, version: int) -> list[Change[Row]]:
        """Return rows as changes.

        Raises:
            VitessError: a value or an image cannot be used as it is.
        """
        self._images.prepare(rows.fields)
        self._sequence.catch_up()
        found = self._alike(rows)
        if found is None:
            found = list(self._one_by_one(rows))
        zone = self._timezone
        if zone is not None:
            _locate(rows.fields, [row for _, *both in found for row in both if row], zone)
        copied = rows.fields.copying
        at = None if copied else datetime.fromtimestamp(rows.commit_time, zone or UTC)
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

    def _alike(self, rows: Rows) -> list[_Found] | None:
        found = self._images.alike(rows)
        if found is None:
            return None
        decoder = self._images.told(rows.fields.shard).decoder
        present = decoder.decode_all(found.rows)
        if found.operation == "delete":
            return [("delete", row, None) for row in present]
        before: Iterable[Row | None] = repeat(None, found.count)
        if found.before is not None:
            before = decoder.decode_all(found.before)
        return [(found.operation, b, a) for b, a in zip(before, present, strict=True)]

    def _one_by_one(self, rows: Rows) -> Iterator[_Found]:
        decoder = self._images.told(rows.fields.shard).decoder
        for image in self._images.each(rows):
            row = image.decoded(decoder)
            if image.operation == "delete":
                yield "delete", row, None
            else:
                yield image.operation, image.decoded_before(decoder), row | image.fetched


def _locate(fields: Fields, rows: Iterable[Row], zone: tzinfo) -> None:
    """Convert each TIMESTAMP, which is in UTC without a zone, to a zone."""
    names = [f.name for f in fields.fields if f.column_type.lower().startswith("timestamp")]
    for row in rows if names else ():
        for name in names:
            if isinstance(moment := row.get(name), datetime):
                row[name] = moment.replace(tzinfo=UTC).astimezone(zone)


def _key(names: Sequence[str], row: Row | None) -> Row:
    found = row or {}
    return {name: found[name] for name in names}
