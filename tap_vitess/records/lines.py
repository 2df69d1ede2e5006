"""RECORD lines of many rows at once, straight from their bytes. Pure.

For rows whose records hold what the image holds: copied rows, and changes of one kind with whole
images and unchanged keys. `Lines.of` says None to all others, and to few rows: looking at columns
pays from some rows on. `RecordMaker` then makes their records one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain

import orjson

from tap_vitess.protocol.columns import Changes, CopiedChanges, EncodedChanges, Images, RowChanges
from tap_vitess.protocol.images import beside_own_key
from tap_vitess.protocol.items import Fields, Rows
from tap_vitess.values.encode import RowEncoder, same_columns
from tap_vitess.values.types import ValueType

FEW_ROWS = 4
_NUMBERS = 1000  # written at a time


@lru_cache(maxsize=8)
def moment(seconds: int) -> str:
    """Write a second since 1970 as records have it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _numbers(first: int, rows: int) -> Iterator[bytes]:
    end = first + rows
    parts = (range(start, min(start + _NUMBERS, end)) for start in range(first, end, _NUMBERS))
    return chain.from_iterable(orjson.dumps([*part])[1:-1].split(b",") for part in parts)


class Lines:
    """Writes the rows of one FIELD event."""

    def __init__(
        self,
        fields: Fields,
        keyspace: str,
        types: Mapping[str, ValueType],
        wanted: Collection[str],
        key: Collection[str],
        own: Mapping[str, str],
    ) -> None:
        """Prepare.

        Args:
            fields: the FIELD event.
            keyspace: its keyspace.
            types: its columns in order.
            wanted: the names of those to write.
            key: the names of the key columns.
            own: what to write behind them: `deleted_at` always, and of `op`, `shard`,
                `commit_time` and `seq` what is wanted, each with its column's name.
        """
        self._where = f"{keyspace}.{fields.table} on shard {fields.shard}"
        self._encoder = RowEncoder(self._where, types, wanted)
        self._width = len(types)
        self._key = [index for index, name in enumerate(types) if name in key]
        self._added = beside_own_key(fields.fields, key)
        self._own = own
        self._shard = fields.shard

    def of(
        self,
        rows: Rows,
        first_seq: int,
        head: bytes,
        end: bytes,
        *,
        whole: bool,
        copied_at: str | None = None,
    ) -> tuple[int, str, Iterator[bytes]] | None:
        """Return how many lines there are, their operation, and the lines, many in one piece.

        Args:
            rows: what is to be written.
            first_seq: the number of the first record.
            head: what opens a line, up to the record's brace.
            end: what closes it, from the record's brace on.
            whole: whether a NULL of a deleted row is known to have been one.
            copied_at: what copied rows have as their commit time.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are no whole rows.
        """
        if len(rows.changes) < FEW_ROWS:
            return None
        if not isinstance(rows.changes, RowChanges | EncodedChanges | CopiedChanges):
            return None
        changes = rows.changes.by_column()
        if changes is None:
            return None
        op, images = self._operation(rows, changes)
        if images is None or (op == "delete" and not whole):
            return None
        commit_time = copied_at
        if not rows.fields.copying:
            commit_time = moment(rows.commit_time)
        tail = [*self._tail(op, commit_time, first_seq, changes.count), end]
        return changes.count, op, self._encoder.encode(images, head, tail)

    def _operation(self, rows: Rows, changes: Changes) -> tuple[str, Images | None]:
        """Name the operation; without images when the changes are not one operation each."""
        before, after = changes.before, changes.after
        if rows.fields.copying:
            return "copy", after
        if before is None:
            return "insert", after
        if self._added and before.has_null(self._width, self._where, self._added):
            return "update", None  # it may not have been sent
        if after is None:
            return "delete", before
        if not same_columns(before, after, self._width, self._key, self._where):
            return "update", None
        return "update", after

    def _tail(
        self, op: str, commit_time: str | None, first_seq: int, rows: int
    ) -> Iterator[bytes | Iterator[bytes]]:
        values = {
            "deleted_at": commit_time if op == "delete" else None,
            "op": op,
            "shard": self._shard,
            "commit_time": commit_time,
        }
        members = [
            orjson.dumps(self._own[name]) + b":" + orjson.dumps(value)
            for name, value in values.items()
            if name in self._own
        ]
        yield b",".join(members)
        if "seq" in self._own:
            yield b"," + orjson.dumps(self._own["seq"]) + b":"
            yield _numbers(first_seq, rows)
