"""Rows to records, for both front ends; what is a record's own column is called by `own_columns`.

A delete carries the whole image of the deleted row: a target that upserts would blank what is
left out. An update of the key is a delete of the old row and an insert of the new one.

Where the binlog does not carry a column (`protocol/images.py`), a record never says null for it:
by the setting on_partial_image the row's present value is fetched by key, or the column is
absent from the record, or the table ends with an error. A row that is not there has been deleted or
got another key since, which the stream tells later; its record is written without the column. With
semi-synchronous replication the stream may be ahead of the commit, so for a row of this moment it
is asked twice.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError, RequestError, VitessError
from tap_vitess.protocol.images import (
    RawKey,
    beside_own_key,
    completed,
    is_partial,
    nulls,
    unpacked,
    unsent_key,
)
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.lines import Lines, moment
from tap_vitess.records.schema import StreamSchema
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.entries import value_types
from tap_vitess.values.types import DEFAULTS, ValueOptions, ValueType

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_RECENT_SECONDS = 10
_COMMIT_SECONDS = 0.3
OnPartialImage = Literal["fetch", "omit", "fail"]

Fetch = Callable[
    [str, Sequence[query.Field], Sequence[RawKey], Collection[str]], Sequence[query.Row | None]
]

BINARY_COLLATION = 63
UTF8MB4_COLLATION = 255


class RecordStream(Protocol):
    """What records are made for.

    primary_keys: the key columns, in order. charsets: those that FIELD events may not tell, by
    column. own_columns: what to add to a record, and the column's name for it: `deleted_at`
    always, and of `op`, `shard`, `commit_time` and `seq` what the front end has.
    """

    @property
    def name(self) -> str: ...
    @property
    def keyspace(self) -> str: ...
    @property
    def primary_keys(self) -> Sequence[str]: ...
    @property
    def charsets(self) -> Mapping[str, str]: ...
    @property
    def own_columns(self) -> Mapping[str, str]: ...
    def stream_schema(self) -> StreamSchema: ...


class RecordSequence:
    """Gives out numbers that rise with a keyspace's records: microseconds since 1970, or more."""

    def __init__(self, last: int) -> None:
        self.last = last

    def take(self, count: int = 1) -> int:
        """Return the next number; the `count - 1` behind it are taken, too."""
        self.last += count
        return self.last - count + 1

    def catch_up(self) -> None:
        """Go up to the clock, unless the clock is behind."""
        self.last = max(self.last, time.time_ns() // 1000)


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What all streams of a run share.

    copied_at: whether copied rows have the time at which they came as their commit time; else
    they have none. fetch: asks for what a partial image lacks; None where nothing can be asked.
    whole_rows: tells whether a shard's MySQL logs every column of every row, as far as is known.
    decoder: makes values of a row's bytes.
    """

    values: ValueOptions = DEFAULTS
    metadata_columns: bool = True
    copied_at: bool = False
    on_partial_image: OnPartialImage = "fetch"
    fetch: Fetch | None = None
    whole_rows: Callable[[str], bool] = lambda _: True
    decoder: type[RowDecoder] = RowDecoder


@dataclass(slots=True)
class _Decoders:
    """What is made of a FIELD event, for one version of the stream's schema.

    added: where the columns of the key are that are not of MySQL's own.
    """

    fields: Fields
    version: int
    added: tuple[int, ...]
    row: RowDecoder
    key: RowDecoder
    lines: Lines


@dataclass(slots=True)
class Image:
    """A row as the binlog tells it; `unknown` columns were not sent, `fetched` ones stand in.

    before: what an update has changed.
    """

    op: str
    row: query.Row
    unknown: frozenset[str] = frozenset()
    fetched: Record = field(default_factory=dict)
    before: query.Row | None = None


class RecordMaker:
    """Makes records of a stream's rows; each shard's decoders are those of its last FIELD event."""

    def __init__(
        self, stream: RecordStream, sequence: RecordSequence, options: RecordOptions
    ) -> None:
        """Prepare for a stream whose numbers come from `sequence`."""
        self.schema = stream.stream_schema()
        self.tally = Tally()
        self._stream = stream
        self._sequence = sequence
        self._options = options
        self._key = frozenset(stream.primary_keys)
        self._own = {
            word: name
            for word, name in stream.own_columns.items()
            if word == "deleted_at" or (options.metadata_columns and name in self.schema.wanted)
        }
        self._read_as: dict[str, Any] = {
            "options": options.values,
            "key": self._key,
            "charsets": stream.charsets,
        }
        self._decoders: dict[str, _Decoders] = {}
        self._told: set[str] = set()
        self._warned: set[str] = set()
        self._partial: set[str] = set()  # shards that have sent a partial image

    def prepare(self, fields: Fields) -> bool:
        """Take in a FIELD event; tell whether a new SCHEMA message is due.

        Raises:
            CatalogError: the table has been altered so that its rows no longer fit.
            HistoryLostError: Vitess could not tell the columns' names.
        """
        found = self._decoders.get(fields.shard)
        if found and found.fields is fields and found.version == self.schema.version:
            return False
        types = value_types(fields, **self._read_as)
        self._tell_warnings(types)
        changed = self.schema.fit(fields, types)
        self._tell_left_out(fields)
        texts = self.schema.as_text(types)
        keyspace = self._stream.keyspace
        self._decoders[fields.shard] = _Decoders(
            fields,
            self.schema.version,
            beside_own_key(fields.fields, self._key),
            self._options.decoder(
                fields, keyspace, self.schema.wanted, **self._read_as, as_text=texts
            ),
            self._options.decoder(fields, keyspace, self._key, **self._read_as),
            self._lines_of(fields, types, texts),
        )
        return changed

    def _lines_of(
        self, fields: Fields, types: Mapping[str, ValueType], texts: Collection[str]
    ) -> Lines:
        written = {
            name: found.as_text() if name in texts else found for name, found in types.items()
        }
        keyspace = self._stream.keyspace
        return Lines(fields, keyspace, written, self.schema.wanted, self._key, self._own)

    def lines(self, rows: Rows, head: bytes, end: bytes) -> tuple[int, Iterator[bytes]] | None:
        """Return how many records come of rows, and their lines; None: see `records`.

        Raises:
            VitessError: a value that cannot be taken as it is.
        """
        self._sequence.catch_up()
        lines = self._decoders[rows.fields.shard].lines
        whole = self.logs_whole_rows(rows.fields.shard)
        first, copied_at = self._sequence.last + 1, self._copied_at()
        found = lines.of(rows, first, head, end, whole=whole, copied_at=copied_at)
        if found is None:
            return None
        count, op, written = found
        self._sequence.take(count)
        self.tally.add({op: count}, time.monotonic())
        return count, written

    def records(self, rows: Rows) -> list[Record]:
        """Decode rows whose FIELD event has been taken in.

        Raises:
            VitessError: a value or an image that cannot be taken as it is.
        """
        decoders = self._decoders[rows.fields.shard]
        self._sequence.catch_up()
        shard = rows.fields.shard
        decode = decoders.row.decode
        if rows.fields.copying:
            copied_at = self._copied_at()
            self.tally.add({"copy": len(rows.changes)}, time.monotonic())
            return [
                self._finish(decode(change.after), "copy", shard, copied_at)
                for change in rows.changes
            ]
        commit_time = moment(rows.commit_time)
        images = self.images(rows)
        self.tally.add([image.op for image in images], time.monotonic())
        records: list[Record] = []
        for image in images:
            record = self._finish(decode(image.row), image.op, shard, commit_time)
            for name in image.unknown:
                record.pop(name, None)
            records.append(record | image.fetched)
        return records

    def images(self, rows: Rows) -> list[Image]:
        """Tell what changed rows are, with what on_partial_image lets be asked for.

        Raises:
            VitessError: an image that cannot be taken as it is.
        """
        decoders = self._decoders[rows.fields.shard]
        return self._known(decoders, self._images(rows, decoders), rows.commit_time)

    def unsent(self, before: query.Row, fields: Fields) -> frozenset[str]:
        """Name the columns that a before image may lack: a NULL counts only where all is logged."""
        if self.logs_whole_rows(fields.shard):
            return frozenset()
        where = self._decoders[fields.shard].row.where
        return nulls(before, fields.fields, where) - self._key

    def _copied_at(self) -> str | None:
        return datetime.now(UTC).isoformat() if self._options.copied_at else None

    def _images(self, rows: Rows, decoders: _Decoders) -> list[Image]:
        """Name the operations; an update of the key is a delete and an insert."""
        shard = rows.fields.shard
        images: list[Image] = []
        for change in rows.changes:
            after = change.after
            unknown = frozenset[str]()
            if is_partial(change):
                self._partial.add(shard)
                after, unknown = completed(change, rows.fields.fields, decoders.row.where)
            if decoders.added:
                self._check_key(decoders, change, unknown)
            if not change.HasField("before"):
                images.append(Image("insert", after, unknown))
            elif not change.HasField("after"):
                images.append(self._deleted(change.before, rows.fields))
            elif self._key and not self._same_key(decoders.key, change.before, after):
                images.append(self._deleted(change.before, rows.fields))
                images.append(Image("insert", after, unknown))
            else:
                images.append(Image("update", after, unknown, before=change.before))
        return images

    def _check_key(
        self, decoders: _Decoders, change: binlogdata.RowChange, unknown: frozenset[str]
    ) -> None:
        """Refuse a change that does not tell whose it is."""
        unsent = unknown & self._key
        if change.HasField("before"):
            fields, whole = decoders.fields, self.logs_whole_rows(decoders.fields.shard)
            unsent |= unsent_key(
                change.before, fields.fields, decoders.added, decoders.row.where, whole=whole
            )
        if unsent:
            error = HistoryLostError(
                f"{decoders.row.where}: a change does not carry the key column "
                f"{', '.join(sorted(unsent))}; set binlog_row_image=FULL on the tablets' MySQL and "
                "on_lost_position to `resync`, for a run to copy the table again"
            )
            error.table = decoders.fields.table
            raise error

    def _same_key(self, key: RowDecoder, before: query.Row, after: query.Row) -> bool:
        return key.decode(before) == key.decode(after)

    def _deleted(self, before: query.Row, fields: Fields) -> Image:
        return Image("delete", before, self.unsent(before, fields))

    def logs_whole_rows(self, shard: str) -> bool:
        """Tell whether a shard's images are believed to have every column."""
        return shard not in self._partial and self._options.whole_rows(shard)

    def _known(self, decoders: _Decoders, images: list[Image], commit_time: int) -> list[Image]:
        """Do about unknown columns what the setting says; those that nobody wants do not count."""
        partial = [
            image for image in images if image.op != "delete" and image.unknown & self.schema.wanted
        ]
        if not partial or self._options.on_partial_image == "omit":
            return images
        columns = frozenset().union(*(image.unknown for image in partial)) & self.schema.wanted
        fetch = self._options.fetch
        if self._options.on_partial_image == "fail" or fetch is None or not self._key:
            raise self._error(decoders, columns)
        keys = [self._raw_key(decoders, image.row) for image in partial]
        fields = decoders.fields
        values = list(fetch(fields.table, fields.fields, keys, columns))
        missing = [i for i, row in enumerate(values) if row is None]
        if missing and time.time() - commit_time < _RECENT_SECONDS:
            time.sleep(_COMMIT_SECONDS)
            again = fetch(fields.table, fields.fields, [keys[i] for i in missing], columns)
            for i, row in zip(missing, again, strict=True):
                values[i] = row
        decode = self._fetched_decoder(fields, columns).decode
        for image, row in zip(partial, values, strict=True):
            if row is not None:
                image.fetched = {n: v for n, v in decode(row).items() if n in image.unknown}
        return images

    def _fetched_decoder(self, fields: Fields, columns: Collection[str]) -> RowDecoder:
        """Decode what a SELECT gives: as copied rows, but all text in UTF-8."""
        asked = tuple(_in_utf8(f) for f in fields.fields if f.name in columns)
        selected = Fields(fields.table, fields.shard, asked, copying=True)
        read_as = {**self._read_as, "charsets": {}}
        texts = self.schema.as_text(value_types(selected, **read_as))
        return RowDecoder(selected, self._stream.keyspace, columns, **read_as, as_text=texts)

    def _raw_key(self, decoders: _Decoders, row: query.Row) -> RawKey:
        names = [column.name for column in decoders.fields.fields]
        values = dict(zip(names, unpacked(row, len(names), decoders.row.where), strict=True))
        return {name: values[name] for name in self._stream.primary_keys}

    def _error(self, decoders: _Decoders, columns: Iterable[str]) -> VitessError:
        why = "" if self._key else "; without a key its present value cannot be fetched"
        error = RequestError(
            f"{decoders.row.where}: a change does not carry the columns "
            f"{', '.join(sorted(columns))}{why}; set binlog_row_image=FULL and "
            "binlog_row_value_options='' on the tablets' MySQL, or choose another value of the "
            "setting on_partial_image"
        )
        error.table = decoders.fields.table
        return error

    def _finish(self, record: Record, op: str, shard: str, commit_time: str | None) -> Record:
        values = {
            "deleted_at": commit_time if op == "delete" else None,
            "op": op,
            "shard": shard,
            "commit_time": commit_time,
            "seq": self._sequence.take(),
        }
        for word, name in self._own.items():
            record[name] = values[word]
        return record

    def _tell_warnings(self, types: Mapping[str, ValueType]) -> None:
        for name, found in types.items():
            if found.warning and name in self.schema.wanted and name not in self._warned:
                self._warned.add(name)
                logger.warning("%s, column %s: %s", self._stream.name, name, found.warning)

    def _tell_left_out(self, fields: Fields) -> None:
        names = self.schema.left_out(fields)
        if new := sorted(names - self._told):
            self._told |= names
            logger.warning(
                "%s: column %s is not in the catalog, which deselects columns, and is left out; "
                "discover again to choose it",
                self._stream.name,
                ", ".join(new),
            )


def _in_utf8(column: query.Field) -> query.Field:
    """Describe a column as a connection with the charset utf8mb4 gives it."""
    found = query.Field()
    found.CopyFrom(column)
    if column.charset != BINARY_COLLATION:
        found.charset = UTF8MB4_COLLATION
    return found


_CHANGES = ("insert", "update", "delete")


_OPERATIONS = ("copy", *_CHANGES)


@dataclass(slots=True)
class Tally:
    """What has been made of one table's rows: records by operation, and when (monotonic).

    All operations are there from the start, so that another thread can add them up.
    """

    records: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_OPERATIONS, 0)))
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
        """From the first batch to the last."""
        return 0.0 if self.first is None else self.last - self.first
