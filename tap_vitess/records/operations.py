"""Rows as inserts, updates and deletes, for JSON, Python objects and lines alike. Pure.

An update of the key is a delete of the old row and an insert of the new one.

If the binlog does not carry a column (`protocol/images.py`), it is never null in a record: by the
setting on_partial_image, the row's current value is fetched by key, or the column is left out, or
the table ends with an error. If the row is not found, it was deleted or got another key since,
which the stream shows later; the column is left out.

What surprised us: nothing shows what a before image lacks. So once a shard has sent a partial
image, or its MySQL is known to log fewer columns, a NULL in a before image counts as not sent.
And a delete may be an update to NULL whose after image Vitess has dropped: such a row is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError, RequestError, VitessError
from tap_vitess.protocol.columns import Changes, CopiedChanges, EncodedChanges, Images, RowChanges
from tap_vitess.protocol.images import (
    NOT_NULL_FLAG,
    PRI_KEY_FLAG,
    OnPartialImage,
    RawKey,
    beside_own_key,
    completed,
    is_minimal,
    is_partial,
    may_be_empty,
    never_null,
    nulls,
    unpacked,
    unsent_key,
)
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.records.schema import StreamSchema
from tap_vitess.values.decode import RowDecoder
from tap_vitess.values.mysql_types import value_types
from tap_vitess.values.types import DEFAULTS, ValueOptions, ValueType

DecoderT = TypeVar("DecoderT", bound=RowDecoder)
Record = dict[str, Any]
Operation = Literal["copy", "insert", "update", "delete"]
# FIELD event, keys, wanted columns, second of the commit, whether rows may be gone -> for each
# key these columns in the FIELD event's order, text in UTF-8; None if the row is not there.
Fetch = Callable[[Fields, Sequence[RawKey], Collection[str], int, bool], Sequence[query.Row | None]]

_BINARY_COLLATION = 63
_UTF8MB4_COLLATION = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """How images are read.

    fetch: reads what a partial image lacks; None if that is impossible. whole_rows: returns whether
    a shard's MySQL is known to log every column of every row. whole_keys: whether it logs
    the key with every image, as it does with binlog_row_image=FULL; None if that is not known.
    """

    values: ValueOptions = DEFAULTS
    on_partial_image: OnPartialImage = "fetch"
    fetch: Fetch | None = None
    whole_rows: Callable[[str], bool] = lambda _: True
    whole_keys: Callable[[str], bool | None] = lambda _: True


@dataclass(frozen=True, slots=True)
class Alike:
    """Whole images of rows with the same operation, to be split by column.

    rows: the new images, or a delete's old ones. before: the old images of updates.
    """

    operation: Operation
    count: int
    rows: Images
    before: Images | None = None


@dataclass(slots=True)
class Image:
    """What happened to one row.

    row: the new image, or a delete's old one, without the columns `absent`. before: an update's old
    image if wanted, without the columns `unsent`. fetched: current values of absent columns.
    doubtful: whether an update is a delete if the row is not there any more.
    """

    operation: Operation
    row: query.Row
    absent: frozenset[str] = frozenset()
    before: query.Row | None = None
    unsent: frozenset[str] = frozenset()
    fetched: Record = field(default_factory=dict)
    doubtful: bool = False

    def decoded(self, decoder: RowDecoder) -> Record:
        """Decode the columns that the row's image carries."""
        return _without(self.absent, decoder.decode(self.row))

    def decoded_before(self, decoder: RowDecoder) -> Record | None:
        """Decode the columns that the old image carries."""
        return None if self.before is None else _without(self.unsent, decoder.decode(self.before))


def _without(absent: frozenset[str], record: Record) -> Record:
    for name in absent:
        record.pop(name, None)
    return record


@dataclass(frozen=True, slots=True)
class Told(Generic[DecoderT]):
    """What a FIELD event says, for one version of the table's schema.

    types: of its columns, in order. decoder: for the wanted columns; key_decoder: for the key's.
    key: the indexes of the key's columns; added: of those that are not in MySQL's own key. others:
    the names of columns in no key. telling: the index of one that is never NULL, unless MINIMAL has
    cut the image; empty if there is none.
    """

    fields: Fields
    version: int
    types: Mapping[str, ValueType]
    decoder: DecoderT
    key_decoder: DecoderT
    key: Sequence[int]
    added: Sequence[int]
    others: frozenset[str]
    telling: Sequence[int]

    @property
    def where(self) -> str:
        return self.decoder.where

    @property
    def width(self) -> int:
        return len(self.fields.fields)


class TableImages(Generic[DecoderT]):
    """Tells what happened to a table's rows, read by the last FIELD event of their shard."""

    def __init__(
        self,
        keyspace: str,
        schema: StreamSchema,
        key: Sequence[str],
        charsets: Mapping[str, str],
        options: ImageOptions,
        decoder: type[DecoderT],
        warn: Callable[[str], object],
        *,
        before: bool = False,
    ) -> None:
        """Prepare for a table with this key and schema, which `prepare` keeps up to date.

        `charsets` has those that FIELD events may lack, `warn` takes warnings for the user, and
        `before` says whether the old images of updates are wanted, too.
        """
        self.schema = schema
        self._keyspace = keyspace
        self._key = key
        self._charsets = charsets
        self._options = options
        self._decoder = decoder
        self._warn = warn
        self._with_before = before
        self._told: dict[str, Told[DecoderT]] = {}
        self._partial: set[str] = set()  # shards that have sent a partial image
        self._minimal: set[str] = set()  # shards that have sent one of MINIMAL
        self._keyless: set[str] = set()  # shards that have sent one without a key column
        self._warned: set[str] = set()
        self._left_out: set[str] = set()

    def prepare(self, fields: Fields) -> bool:
        """Process a FIELD event; return whether the properties of the schema have changed.

        Raises:
            CatalogError: the table has been altered so that its rows no longer fit.
            HistoryLostError: Vitess did not know the columns' names.
        """
        found = self._told.get(fields.shard)
        if found and found.fields is fields and found.version == self.schema.version:
            return False
        types = self._types(fields, self._charsets)
        self._tell_warnings(types)
        changed = self.schema.fit(fields, types)
        self._tell_left_out(fields)
        others = frozenset(
            c.name for c in fields.fields if not c.flags & PRI_KEY_FLAG and c.name not in self._key
        )
        self._told[fields.shard] = Told(
            fields,
            self.schema.version,
            types,
            self._make_decoder(fields, self.schema.wanted, self._charsets),
            self._make_decoder(fields, self._key, self._charsets),
            [i for i, column in enumerate(fields.fields) if column.name in self._key],
            beside_own_key(fields.fields, self._key),
            others,
            [i for i in never_null(fields.fields) if fields.fields[i].name in others][:1],
        )
        return changed

    def told(self, shard: str) -> Told[DecoderT]:
        """Return what a shard's last FIELD event says."""
        return self._told[shard]

    def _types(self, fields: Fields, charsets: Mapping[str, str]) -> dict[str, ValueType]:
        return value_types(fields, self._options.values, key=self._key, charsets=charsets)

    def _make_decoder(
        self, fields: Fields, wanted: Collection[str], charsets: Mapping[str, str]
    ) -> DecoderT:
        return self._decoder(
            fields,
            self._keyspace,
            wanted,
            self._options.values,
            key=self._key,
            charsets=charsets,
            as_text=self.schema.as_text(self._types(fields, charsets)),
        )

    def _tell_warnings(self, types: Mapping[str, ValueType]) -> None:
        for name, found in types.items():
            if found.warning and name in self.schema.wanted and name not in self._warned:
                self._warned.add(name)
                self._warn(f"{self.schema.name}, column {name}: {found.warning}")

    def _tell_left_out(self, fields: Fields) -> None:
        names = self.schema.left_out(fields)
        if new := sorted(names - self._left_out):
            self._left_out |= names
            self._warn(
                f"{self.schema.name}: column {', '.join(new)} is not in the catalog, which "
                "deselects columns, and is left out; discover again to choose it"
            )

    # Many rows at once

    def alike(self, rows: Rows) -> Alike | None:
        """Return whole images with the same operation; None means: use `each`.

        Raises:
            ProtocolError: the images are not whole rows.
        """
        if not isinstance(rows.changes, RowChanges | EncodedChanges | CopiedChanges):
            return None
        changes = rows.changes.by_column()
        if changes is None:
            return None
        operation = self._common(changes, self._told[rows.fields.shard])
        images = changes.before if changes.after is None else changes.after
        if operation is None or images is None:
            return None
        before = changes.before if operation == "update" else None
        return Alike(operation, changes.count, images, before)

    def _common(self, changes: Changes, told: Told[DecoderT]) -> Operation | None:
        """Return the operation of changes; None if they must be examined one by one."""
        before, after = changes.before, changes.after
        if told.fields.copying:
            return "copy"
        if before is None:
            return "insert"
        sent = sorted([*told.added, *(told.telling if after is None else ())])
        if sent and before.has_null(told.width, told.where, sent):
            return None  # it may not have been sent
        if (after is None or self._with_before) and not self._logs_whole_rows(told):
            return None
        if after is None:
            return None if self._lacks_keys(told) else "delete"
        same = told.decoder.are_same(before, after, told.key)
        return "update" if same else None

    def _logs_whole_rows(self, told: Told[DecoderT]) -> bool:
        shard = told.fields.shard
        return shard not in self._partial and self._options.whole_rows(shard)

    # One by one

    def each(self, rows: Rows) -> list[Image]:
        """Return what happened to each row; fetch missing values if on_partial_image says so.

        Raises:
            VitessError: an image cannot be used as it is.
        """
        if rows.fields.copying:
            return [Image("copy", change.after) for change in rows.changes]
        told = self._told[rows.fields.shard]
        images = [image for change in rows.changes for image in self._changed(change, told)]
        if not self._logs_whole_rows(told):
            for image in images:
                if image.operation == "delete":
                    image.absent = self._unsent(image.row, told)
                elif image.before is not None:
                    image.unsent = self._unsent(image.before, told)
        self._complete(images, told, rows.commit_time)
        return images

    def _changed(self, change: binlogdata.RowChange, told: Told[DecoderT]) -> Iterator[Image]:
        before, after = change.before, change.after
        absent = frozenset[str]()
        if is_partial(change):
            self._partial.add(told.fields.shard)
            after, absent = self._completed(change, told)
        self._note_minimal(change.before, told)
        if told.added:
            self._check_key(change, absent, told)
        if not change.HasField("before"):
            yield Image("insert", after, absent)
        elif not change.HasField("after"):
            yield self._gone(before, told)
        elif told.key and told.key_decoder.decode(before) != told.key_decoder.decode(after):
            yield Image("delete", before)
            yield Image("insert", after, absent)
        else:
            yield Image("update", after, absent, before if self._with_before else None)

    def _completed(
        self, change: binlogdata.RowChange, told: Told[DecoderT]
    ) -> tuple[query.Row, frozenset[str]]:
        """Complete a partial image, and note what it shows of those of the shard."""
        columns, shard = told.fields.fields, told.fields.shard
        found = completed(
            change,
            columns,
            told.where,
            projected=told.fields.projected,
            minimal=shard in self._minimal,
        )
        if is_minimal(change, columns, found[1]):
            self._minimal.add(shard)
        if any(change.after.lengths[i] < 0 for i in told.key if i not in told.added):
            self._keyless.add(shard)
        return found

    def _note_minimal(self, before: query.Row, told: Told[DecoderT]) -> None:
        """Note the shard if a before image has the key alone, and another column is never NULL."""
        lengths, shard = before.lengths, told.fields.shard
        cut = any(i < len(lengths) and lengths[i] < 0 for i in told.telling)
        if cut and self._unsent(before, told) >= told.others:
            self._partial.add(shard)
            self._minimal.add(shard)

    def _gone(self, before: query.Row, told: Told[DecoderT]) -> Image:
        """Return a delete, or what may be an update to NULL."""
        if not self._may_live(before, told):
            return Image("delete", before)
        old = before if self._with_before else None
        unsent = self._unsent(before, told)
        return Image("update", before, told.others, old, unsent, doubtful=True)

    def _may_live(self, before: query.Row, told: Told[DecoderT]) -> bool:
        """Return whether Vitess may have dropped an image after, because it has only NULLs."""
        columns, shard = told.fields.fields, told.fields.shard
        if not told.key:
            return False
        if shard in self._minimal and self._unsent(before, told) >= told.others:
            may_be_null = [c for c in columns if not c.flags & NOT_NULL_FLAG]
            return told.fields.projected or bool(may_be_null)
        return self._lacks_keys(told)

    def _lacks_keys(self, told: Told[DecoderT]) -> bool:
        """Return whether an image after may lack even the key, as far as is known."""
        shard, own_key = told.fields.shard, [i for i in told.key if i not in told.added]
        if not told.key or not may_be_empty(told.fields.fields, own_key):
            return False
        if shard in self._keyless:
            return True
        whole = self._options.whole_keys(shard)
        # What is not known costs a question, but is no error where none may be asked.
        return self._options.on_partial_image == "fetch" if whole is None else not whole

    def _unsent(self, before: query.Row, told: Told[DecoderT]) -> frozenset[str]:
        return nulls(before, told.fields.fields, told.where).difference(self._key)

    def _check_key(
        self, change: binlogdata.RowChange, absent: frozenset[str], told: Told[DecoderT]
    ) -> None:
        """Refuse a change that does not identify its row."""
        unsent = absent.intersection(self._key)
        if change.HasField("before"):
            columns, whole = told.fields.fields, self._logs_whole_rows(told)
            unsent |= unsent_key(change.before, columns, told.added, told.where, whole=whole)
        if unsent:
            raise HistoryLostError(
                f"{told.where}: a change does not carry the key column "
                f"{', '.join(sorted(unsent))}; set binlog_row_image=FULL on the tablets' MySQL and "
                "on_lost_position to `resync`, for a run to copy the table again",
                table=told.fields.table,
            )

    def _complete(self, images: list[Image], told: Told[DecoderT], commit_time: int) -> None:
        """Apply on_partial_image to absent columns, except those that nobody wants."""
        wanted = self.schema.wanted
        partial = [
            i for i in images if i.doubtful or (i.operation != "delete" and i.absent & wanted)
        ]
        doubtful = any(image.doubtful for image in partial)
        if not partial or (self._options.on_partial_image == "omit" and not doubtful):
            return
        columns = frozenset[str]().union(*(image.absent for image in partial)) & wanted
        fetch, fields = self._options.fetch, told.fields
        if self._options.on_partial_image != "fetch" or fetch is None or not self._key:
            raise self._untold(told) if doubtful else self._incomplete(told, columns)
        keys = [self._raw_key(image.row, told) for image in partial]
        try:
            values = fetch(fields, keys, columns, commit_time, doubtful)
        except RequestError:
            if not doubtful:
                raise
            raise self._untold(told) from None
        # A SELECT gives values like copied rows, but all text in UTF-8.
        asked = tuple(_in_utf8(column) for column in fields.fields if column.name in columns)
        selected = Fields(fields.table, fields.shard, asked, copying=True)
        decode = self._make_decoder(selected, columns, {}).decode
        for image, row in zip(partial, values, strict=True):
            if row is not None:
                image.fetched = {n: v for n, v in decode(row).items() if n in image.absent}
            elif image.doubtful:
                image.operation, image.before, image.absent = "delete", None, image.unsent

    def _untold(self, told: Told[DecoderT]) -> VitessError:
        return HistoryLostError(
            f"{told.where}: the binlog does not tell whether a row was deleted or its columns "
            "were set to NULL; set on_partial_image to `fetch`, or on_lost_position to "
            "`resync` for a run to copy the table again",
            table=told.fields.table,
        )

    def _raw_key(self, row: query.Row, told: Told[DecoderT]) -> RawKey:
        names = [column.name for column in told.fields.fields]
        values = dict(zip(names, unpacked(row, told.width, told.where), strict=True))
        return {name: values[name] for name in self._key}

    def _incomplete(self, told: Told[DecoderT], columns: Collection[str]) -> VitessError:
        why = "" if self._key else "; without a key its present value cannot be fetched"
        return RequestError(
            f"{told.where}: a change does not carry the columns "
            f"{', '.join(sorted(columns))}{why}; set binlog_row_image=FULL and "
            "binlog_row_value_options='' on the tablets' MySQL, or choose another value of the "
            "setting on_partial_image",
            table=told.fields.table,
        )


def _in_utf8(column: query.Field) -> query.Field:
    """Describe a column as a connection with the charset utf8mb4 returns it."""
    found = query.Field()
    found.CopyFrom(column)
    if column.charset != _BINARY_COLLATION:
        found.charset = _UTF8MB4_COLLATION
    return found
