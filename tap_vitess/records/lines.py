"""Many rows at a time to JSON lines, straight from their bytes: the fast way of `records.py`. Pure.

It is for rows whose records hold exactly what their images hold (`TableImages.alike`). `Lines.of`
returns None for all others, and for few rows: working by column pays off only from some number of
rows on, or for huge values, which are then copied less often. `RecordMaker` makes the other
records, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson

from tap_vitess.protocol.columns import are_large
from tap_vitess.protocol.items import Rows
from tap_vitess.records.operations import Operation, TableImages
from tap_vitess.values.encode import RowEncoder

FEW_ROWS = 6
_NUMBERS = 1000  # written at a time


@lru_cache(maxsize=8)
def moment(seconds: int) -> str:
    """Format seconds since 1970 as in records."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _numbers(first: int, rows: int) -> Iterator[bytes]:
    end = first + rows
    parts = (range(start, min(start + _NUMBERS, end)) for start in range(first, end, _NUMBERS))
    return chain.from_iterable(orjson.dumps([*part])[1:-1].split(b",") for part in parts)


def own_values(operation: str, shard: str, commit_time: str | None) -> dict[str, Any]:
    """Return the values of a record's own columns, except its number."""
    return {
        "deleted_at": commit_time if operation == "delete" else None,
        "op": operation,
        "shard": shard,
        "commit_time": commit_time,
    }


@dataclass(frozen=True, slots=True)
class Lines:
    """Writes the rows of one FIELD event.

    own: the columns to write after a row's own, with their names: `deleted_at` always, and those of
    `op`, `shard`, `commit_time` and `seq` that are wanted.
    """

    encoder: RowEncoder
    images: TableImages[Any]
    shard: str
    own: Mapping[str, str]

    def of(
        self, rows: Rows, first_seq: int, head: bytes, end: bytes, commit_time: str | None
    ) -> tuple[int, Operation, Iterator[bytes]] | None:
        """Return how many lines there are, their operation, and the lines, many in one piece.

        Args:
            first_seq: the number of the first record.
            head: what opens a line, including the record's brace.
            end: what closes it, including the record's brace.
            commit_time: as in records.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are not whole rows.
        """
        many = len(rows.changes) >= FEW_ROWS or are_large(rows.changes)
        found = self.images.alike(rows) if many else None
        if found is None:
            return None
        tail = [*self._tail(found.operation, commit_time, first_seq, found.count), end]
        return found.count, found.operation, self.encoder.encode(found.rows, head, tail)

    def _tail(
        self, op: str, commit_time: str | None, first_seq: int, rows: int
    ) -> Iterator[bytes | Iterator[bytes]]:
        members = [
            orjson.dumps(self.own[name]) + b":" + orjson.dumps(value)
            for name, value in own_values(op, self.shard, commit_time).items()
            if name in self.own
        ]
        yield b",".join(members)
        if "seq" in self.own:
            yield b"," + orjson.dumps(self.own["seq"]) + b":"
            yield _numbers(first_seq, rows)
