"""Rows to records as Python dicts, for the front ends that write JSON.

`records/operations.py` says what happened to a row; `own_columns` names the added columns. A delete
carries the whole image of the deleted row, because a target that upserts would blank the columns
that are left out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import orjson

from tap_vitess.log import logger_of
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.lines import Lines, moment, own_values
from tap_vitess.records.operations import ImageOptions, Record, TableImages, Told
from tap_vitess.records.schema import StreamSchema
from tap_vitess.values.decode import RowDecoder, unfit
from tap_vitess.values.encode import RowEncoder

logger = logger_of(__name__)


class RecordStream(Protocol):
    """The stream that records are made for.

    primary_keys: the key columns, in order. own_columns: the columns to add to a record, with their
    names: `deleted_at` always, and those of `op`, `shard`, `commit_time` and `seq` that the front
    end has.
    """

    @property
    def name(self) -> str: ...
    @property
    def keyspace(self) -> str: ...
    @property
    def primary_keys(self) -> Sequence[str]: ...
    @property
    def own_columns(self) -> Mapping[str, str]: ...
    def stream_schema(self) -> StreamSchema: ...


@dataclass(slots=True)
class RecordSequence:
    """Numbers a keyspace's records, always rising: microseconds since 1970, or more."""

    last: int

    def take(self, count: int = 1) -> int:
        """Return the next number; the `count - 1` after it are taken, too."""
        self.last += count
        return self.last - count + 1

    def catch_up(self) -> None:
        """Advance to the clock, unless the clock lags."""
        self.last = max(self.last, time.time_ns() // 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOptions(ImageOptions):
    """The options that all streams of a run share.

    copied_at: whether copied rows get the time of their arrival as commit time; else they have
    none.
    """

    metadata_columns: bool = True
    copied_at: bool = False


class RecordMaker:
    """Makes records from a stream's rows."""

    def __init__(
        self, stream: RecordStream, sequence: RecordSequence, options: RecordOptions
    ) -> None:
        """Prepare for a stream whose numbers come from `sequence`."""
        self.schema = stream.stream_schema()
        self.tally = Tally()
        table = stream.keyspace, self.schema, stream.primary_keys, self.schema.charsets
        self._images = TableImages(*table, options, RowDecoder, logger.warning)
        self._sequence = sequence
        self._copied_at = options.copied_at
        self._own = {
            word: name
            for word, name in stream.own_columns.items()
            if word == "deleted_at" or (options.metadata_columns and name in self.schema.wanted)
        }
        self._lines: dict[str, tuple[Told[RowDecoder], Lines]] = {}

    def prepare(self, fields: Fields) -> bool:
        """Process a FIELD event; return whether a new SCHEMA message is due.

        Raises:
            CatalogError: the table has been altered so that its rows no longer fit.
            HistoryLostError: Vitess did not know the columns' names.
        """
        return self._images.prepare(fields)

    def _lines_of(self, shard: str) -> Lines:
        told = self._images.told(shard)
        found = self._lines.get(shard)
        if found is None or found[0] is not told:
            texts = self.schema.as_text(told.types)
            written = {
                name: type_.as_text() if name in texts else type_
                for name, type_ in told.types.items()
            }
            encoder = RowEncoder(told.where, written, self.schema.wanted)
            found = self._lines[shard] = told, Lines(encoder, self._images, shard, self._own)
        return found[1]

    def written(self, rows: Rows, head: bytes, end: bytes) -> tuple[int, Iterable[bytes]]:
        """Return the number of records of some rows, and their lines, many in a piece if possible.

        Raises:
            VitessError: a value or an image cannot be used as it is; the lines may raise it, too.
        """
        if found := self.lines(rows, head, end):
            return found
        records = self.records(rows)
        where = self._images.told(rows.fields.shard).where
        return len(records), (head + _members(record, where) + end for record in records)

    def lines(self, rows: Rows, head: bytes, end: bytes) -> tuple[int, Iterator[bytes]] | None:
        """Return the number of records of some rows, and their lines; None means: use `records`.

        Raises:
            VitessError: a value cannot be used as it is.
        """
        self._sequence.catch_up()
        lines, first = self._lines_of(rows.fields.shard), self._sequence.last + 1
        found = lines.of(rows, first, head, end, self._commit_time(rows))
        if found is None:
            return None
        count, operation, written = found
        self._sequence.take(count)
        self.tally.add({operation: count}, time.monotonic())
        return count, written

    def records(self, rows: Rows) -> list[Record]:
        """Decode rows; `prepare` must have processed their FIELD event.

        Raises:
            VitessError: a value or an image cannot be used as it is.
        """
        self._sequence.catch_up()
        shard, commit_time = rows.fields.shard, self._commit_time(rows)
        decoder = self._images.told(shard).decoder
        images = self._images.each(rows)
        self.tally.add([image.operation for image in images], time.monotonic())
        records: list[Record] = []
        for image in images:
            record = image.decoded(decoder)
            values = own_values(image.operation, shard, commit_time)
            values["seq"] = self._sequence.take()
            for word, name in self._own.items():
                record[name] = values[word]
            record.update(image.fetched)
            records.append(record)
        return records

    def _commit_time(self, rows: Rows) -> str | None:
        if not rows.fields.copying:
            return moment(rows.commit_time)
        return datetime.now(UTC).isoformat() if self._copied_at else None


def _members(record: Record, where: str) -> bytes:
    try:
        return orjson.dumps(record)[1:-1]
    except TypeError as error:
        # The cause may quote the value.
        raise unfit(where, error) from None


CHANGES = ("insert", "update", "delete")


@dataclass(slots=True)
class Tally:
    """The records made from one table's rows: their number by operation, and when (monotonic).

    Every operation has a number from the start, so that another thread can add them up.
    """

    records: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(("copy", *CHANGES), 0))
    )
    first: float | None = None
    last: float = 0.0

    def add(self, operations: Mapping[str, int] | Iterable[str], now: float) -> None:
        """Count the records of one batch."""
        if isinstance(operations, Mapping):
            self.records.update(operations)
        else:
            for operation in operations:
                self.records[operation] += 1
        self.first = now if self.first is None else self.first
        self.last = now

    @property
    def seconds(self) -> float:
        """Seconds from the first batch to the last."""
        return 0.0 if self.first is None else self.last - self.first
