"""Rows to RECORD lines, and a new SCHEMA before the first record that needs one.

A delete carries the whole image of the deleted row: a target that upserts would blank what is
left out. An update of the key is a delete of the old row and an insert of the new one.
Records are encoded here, without the SDK; only streams with maps or flattening go through it.

Where the binlog does not carry a column (`vstream/images.py`), a record never says null for it:
by the setting on_partial_image the row's present value is fetched by key, or the column is
absent from the record, or the table ends with an error. A row that is no longer there has been
deleted or got another key since, which the stream tells later: its record is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib import RecordMessage

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import RequestError, VitessError
from tap_vitess.output import BufferedWriter
from tap_vitess.progress import Tally
from tap_vitess.streams import (
    COMMIT_TIME,
    DELETED_AT,
    METADATA_COLUMNS,
    OP,
    SEQ,
    SHARD,
    VitessStream,
    write_activate_version,
    write_schema,
)
from tap_vitess.vstream.images import completed, is_partial, nulls, unpacked
from tap_vitess.vstream.protocol import Fields, Rows
from tap_vitess.vstream.rows import RowDecoder, value_types
from tap_vitess.vstream.values import DEFAULTS, ValueOptions, ValueType, plain

logger = logging.getLogger(__name__)

Record = dict[str, Any]
OnPartialImage = Literal["fetch", "omit", "fail"]

# Asks for columns of rows: the table, its columns as a FIELD event tells them, the raw key values
# of each row, the columns wanted -> for each row these columns in the order of the FIELD event,
# text in UTF-8; None where the row is not there.
RawKey = Mapping[str, bytes]
Fetch = Callable[
    [str, Sequence[query.Field], Sequence[RawKey], Collection[str]], Sequence[query.Row | None]
]

BINARY_COLLATION = 63
UTF8MB4_COLLATION = 255


class RecordSequence:
    """Gives out `_sdc_vitess_seq`: microseconds since 1970, and always more than the last."""

    def __init__(self, last: int) -> None:
        self.last = last

    def take(self) -> int:
        """Return the next number."""
        self.last += 1
        return self.last

    def catch_up(self) -> None:
        """Go up to the clock, unless the clock is behind."""
        self.last = max(self.last, time.time_ns() // 1000)


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What all streams of a run share.

    fetch: asks for what a partial image lacks; None where nothing can be asked. whole_rows: tells
    whether a shard's MySQL logs every column of every row, as far as is known.
    """

    values: ValueOptions = DEFAULTS
    metadata_columns: bool = True
    on_partial_image: OnPartialImage = "fetch"
    fetch: Fetch | None = None
    whole_rows: Callable[[str], bool] = lambda _: True


@dataclass(slots=True)
class _Decoders:
    """What is made of a FIELD event, for one version of the stream's schema."""

    fields: Fields
    version: int
    row: RowDecoder
    key: RowDecoder


@dataclass(slots=True)
class _Image:
    """A row as the binlog tells it; `unknown` columns were not sent, `fetched` ones stand in."""

    op: str
    row: query.Row
    unknown: frozenset[str] = frozenset()
    fetched: Record = field(default_factory=dict)


class RecordMaker:
    """Makes records of a stream's rows; each shard's decoders are those of its last FIELD event."""

    def __init__(
        self, stream: VitessStream, sequence: RecordSequence, options: RecordOptions
    ) -> None:
        """Prepare for a stream whose numbers come from `sequence`."""
        self.schema = stream.stream_schema()
        self.tally = Tally()
        self._stream = stream
        self._sequence = sequence
        self._options = options
        self._key = frozenset(stream.primary_keys)
        own = METADATA_COLUMNS.keys() if options.metadata_columns else frozenset[str]()
        self._own = self.schema.wanted & own
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
            RowDecoder(fields, keyspace, self.schema.wanted, **self._read_as, as_text=texts),
            RowDecoder(fields, keyspace, self._key, **self._read_as),
        )
        return changed

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
            self.tally.add({"copy": len(rows.changes)}, time.monotonic())
            return [
                self._finish(decode(change.after), "copy", shard, None) for change in rows.changes
            ]
        commit_time = datetime.fromtimestamp(rows.commit_time, UTC).isoformat()
        images = self._known(decoders, self._images(rows, decoders))
        self.tally.add([image.op for image in images], time.monotonic())
        records: list[Record] = []
        for image in images:
            record = self._finish(decode(image.row), image.op, shard, commit_time)
            for name in image.unknown:
                record.pop(name, None)
            records.append(record | image.fetched)
        return records

    def _images(self, rows: Rows, decoders: _Decoders) -> list[_Image]:
        """Name the operations; an update of the key is a delete and an insert."""
        shard = rows.fields.shard
        images: list[_Image] = []
        for change in rows.changes:
            after = change.after
            unknown = frozenset[str]()
            if is_partial(change):
                self._partial.add(shard)
                after, unknown = completed(change, rows.fields.fields)
            if not change.HasField("before"):
                images.append(_Image("insert", after, unknown))
            elif not change.HasField("after"):
                images.append(self._deleted(change.before, rows.fields))
            elif self._key and not self._same_key(decoders.key, change.before, after):
                images.append(self._deleted(change.before, rows.fields))
                images.append(_Image("insert", after, unknown))
            else:
                images.append(_Image("update", after, unknown))
        return images

    def _same_key(self, key: RowDecoder, before: query.Row, after: query.Row) -> bool:
        return key.decode(before) == key.decode(after)

    def _deleted(self, before: query.Row, fields: Fields) -> _Image:
        """Nothing tells what a before image lacks, so a NULL counts only where all is logged."""
        whole = fields.shard not in self._partial and self._options.whole_rows(fields.shard)
        unsent = frozenset[str]() if whole else nulls(before, fields.fields) - self._key
        return _Image("delete", before, unsent)

    def _known(self, decoders: _Decoders, images: list[_Image]) -> list[_Image]:
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
        values = fetch(fields.table, fields.fields, keys, columns)
        decode = self._fetched_decoder(fields, columns).decode
        gone: set[int] = set()
        for image, row in zip(partial, values, strict=True):
            if row is None:
                gone.add(id(image))
            else:
                image.fetched = {n: v for n, v in decode(row).items() if n in image.unknown}
        return [image for image in images if id(image) not in gone]

    def _fetched_decoder(self, fields: Fields, columns: Collection[str]) -> RowDecoder:
        """Decode what a SELECT gives: as copied rows, but all text in UTF-8."""
        asked = tuple(_in_utf8(f) for f in fields.fields if f.name in columns)
        selected = Fields(fields.table, fields.shard, asked, copying=True)
        read_as = {**self._read_as, "charsets": {}}
        texts = self.schema.as_text(value_types(selected, **read_as))
        return RowDecoder(selected, self._stream.keyspace, columns, **read_as, as_text=texts)

    def _raw_key(self, decoders: _Decoders, row: query.Row) -> RawKey:
        names = (column.name for column in decoders.fields.fields)
        values = dict(zip(names, unpacked(row), strict=True))
        return {name: values[name] or b"" for name in self._stream.primary_keys}

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
        record[DELETED_AT] = commit_time if op == "delete" else None
        seq = self._sequence.take()
        own = self._own
        if own:
            if OP in own:
                record[OP] = op
            if SHARD in own:
                record[SHARD] = shard
            if COMMIT_TIME in own:
                record[COMMIT_TIME] = commit_time
            if SEQ in own:
                record[SEQ] = seq
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


class RecordWriter:
    """Writes a stream's rows as RECORD messages, and its SCHEMA messages."""

    def __init__(self, stream: VitessStream, maker: RecordMaker, writer: BufferedWriter) -> None:
        """Write the SCHEMA and choose the way: encoded here, or through the stream's maps."""
        self._stream = stream
        self._maker = maker
        self._writer = writer
        self._choose_way()

    def write(self, rows: Rows, version: int) -> int:
        """Write rows; return how many records came of them."""
        if self._maker.prepare(rows.fields):
            logger.info("%s: the table was altered; a new SCHEMA", self._stream.name)
            self._choose_way()
        records = self._maker.records(rows)
        self._write(records, version)
        return len(records)

    @property
    def tally(self) -> Tally:
        """The records so far."""
        return self._maker.tally

    def write_activate_version(self, version: int) -> None:
        """Tell the target that all rows of other versions may go."""
        write_activate_version(self._maps, self._writer, version)

    def _choose_way(self) -> None:
        self._maps = self._stream.maps_of(self._maker.schema)
        write_schema(self._maps, self._writer)
        first = self._maps[0]
        direct = (
            len(self._maps) == 1
            and type(first) is SameRecordTransform
            and not first.flattening_enabled
        )
        self._write = self._write_direct if direct else self._write_mapped
        self._prefix = b'{"type":"RECORD","stream":%s,"record":' % orjson.dumps(first.stream_alias)

    def _write_direct(self, records: list[Record], version: int) -> None:
        prefix, dumps = self._prefix, orjson.dumps
        now = datetime.now(UTC).isoformat().encode()
        suffix = b',"version":%d,"time_extracted":"%s"}\n' % (version, now)
        for record in records:
            self._writer.write_line(prefix + dumps(record) + suffix)

    def _write_mapped(self, records: list[Record], version: int) -> None:
        for record in records:
            values = {name: plain(value) for name, value in record.items()}
            for stream_map in self._maps:
                mapped = stream_map.transform(values)
                if mapped is not None:
                    self._writer.write_message(
                        RecordMessage(
                            stream=stream_map.stream_alias,
                            record=mapped,
                            version=version,
                            time_extracted=datetime.now(UTC),
                        )
                    )


def _in_utf8(column: query.Field) -> query.Field:
    """Describe a column as a connection with the charset utf8mb4 gives it."""
    found = query.Field()
    found.CopyFrom(column)
    if column.charset != BINARY_COLLATION:
        found.charset = UTF8MB4_COLLATION
    return found
