"""Random responses: JSON lines, Python's objects and Arrow hold the same rows, or all refuse.

A case is a table of some kinds of columns, and a copy's response or a transaction of its rows, most
of them right. What is looked for are the places where reading changes its way: lengths around those
of one byte and two, of two and three, and of three and four; values that look like events; very
many columns; updates of which none, some or all change the key, which may have a vindex' column
beside MySQL's own; rows with a length, a byte or a letter too many or too few.

By hand, for many more: `python tests/test_agreement.py 5000`, with the folder tests in PYTHONPATH.
"""

from __future__ import annotations

import base64
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from support.events import KEYSPACE, VEvent, begin, commit, field, fields, gtid, vgtid

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import VitessError
from tap_vitess.protocol.changes import ChangeStream, by_table
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.decode import decode, decode_all
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.records.schema import StreamSchema
from tap_vitess.survey.facts import Column, Table
from tap_vitess.values.mysql_types import value_type
from tap_vitess.vstream.arrow_reader import ArrowReader, TableRows
from tap_vitess.vstream.decoding import TableReader

CASES = 80
SHARD, TABLE = "-80", "t"
AT = 1_700_000_000

_EVENT = VEvent(
    type=binlogdata.ROW,
    row_event=binlogdata.RowEvent(
        table_name=f"{KEYSPACE}.{TABLE}",
        row_changes=[binlogdata.RowChange(after=packed([b"1", b"x"]))],
        keyspace=KEYSPACE,
        shard=SHARD,
    ),
    keyspace=KEYSPACE,
    shard=SHARD,
).SerializeToString()
_LOOKS = [
    *(_EVENT, b"\x0a" + bytes([len(_EVENT)]) + _EVENT, b"\x08\x0c\x2a", b"\x08\x0c\x10\x01"),
    *(b"\x0a\x03\x08\x0c\x2a", b'"', b"\\", b"\n", b"\x00", b"null", b"\x01", "é😀".encode()),
]
_SIZES = [0, 1, 2, 30, 62, 63, 64, 65, 126, 127, 128, 129]
_LARGE = [8191, 8192, 8193, 16383, 16384, 16385]
_HUGE = [2**20 - 1, 2**20, 2**21 - 1, 2**21, 2**21 + 1]

Row = list[bytes | None]
Found = list[tuple[str, list[Any]]]


def _letters(chance: random.Random, size: int) -> bytes:
    looks = [look for look in _LOOKS if len(look) <= size]
    if not looks or chance.random() < 0.5:
        return b"x" * size
    look = chance.choice(looks)
    return look + b"y" * (size - len(look))


def _text(chance: random.Random, size: int) -> bytes:
    return (
        _letters(chance, size)
        .decode(errors="replace")
        .encode()[:size]
        .decode(errors="ignore")
        .encode()
    )


def _document(chance: random.Random, size: int) -> bytes:
    text = _text(chance, max(size - 2, 0)).decode()
    return json.dumps(chance.choice([text, [text], {"a": text, "b": [1, None]}])).encode()


def _moment(chance: random.Random, _: int) -> bytes:
    at = datetime.fromtimestamp(chance.randrange(2**31))  # noqa: DTZ006 - any will do
    return at.isoformat(" ").encode()


# A kind of column: its values, and what the three ways make of one as the same object of Python's.
KINDS: dict[str, Callable[[random.Random, int], bytes]] = {
    "bigint": lambda chance, _: b"%d" % chance.randrange(-(2**63), 2**63),
    "longtext": _text,
    "longblob": _letters,
    "json": _document,
    "decimal(20,4)": lambda chance, _: b"%.4f" % (chance.randrange(-(10**9), 10**9) / 10_000),
    "datetime": _moment,
}
_OF_JSON: dict[str, Callable[[Any], Any]] = {
    "longblob": base64.b64decode,
    "decimal(20,4)": Decimal,
    "datetime": lambda text: datetime.fromisoformat(text).replace(tzinfo=None),
}
_OF_ARROW: dict[str, Callable[[Any], Any]] = {"json": json.loads}


class Case:
    """A table, and the responses with its rows."""

    def __init__(self, chance: random.Random) -> None:
        """Draw it."""
        width = chance.choice([1, 2, 3, 7, 12, 12, 40, 300, 1500])
        names = list(KINDS)
        self.kinds = ["bigint", *(chance.choice(names) for _ in range(width - 1))]
        self.key: tuple[str, ...] = ("c0",)
        if width > 1 and chance.random() < 0.5:  # of a vindex, and none of MySQL's key
            self.kinds[1] = chance.choice(["bigint", "longtext", "longblob", "datetime"])
            self.key = ("c0", "c1")
        self.columns = [field(f"c{i}", kind, key=i == 0) for i, kind in enumerate(self.kinds)]
        self.copying = chance.random() < 0.4
        cells = 3000
        most = max(cells // width, 1)
        self._sizes = _SIZES + (_LARGE if chance.random() < 0.3 else [])
        self._huge = chance.random() < 0.05
        count = min(chance.choice([1, 2, 3, 15, 30, 80]), most)
        rows = [self._row(chance, number) for number in range(count)]
        self.is_broken = chance.random() < 0.3
        written = [packed(row) for row in rows]
        share = chance.choice([0, 0.1, 0.5, 1, 1])
        befores = [
            packed(self._moved(chance, row, number)) if chance.random() < share else same
            for number, (row, same) in enumerate(zip(rows, written, strict=True), count)
        ]
        self.moved = 0  # updates that change the key
        if self.is_broken:
            self._break(chance, chance.choice(written))
        self.responses = [
            vtgate.VStreamResponse(events=events).SerializeToString()
            for events in (
                self._copied(written)
                if self.copying
                else self._streamed(chance, [*zip(befores, written, strict=True)])
            )
        ]

    def _row(self, chance: random.Random, number: int) -> Row:
        row: Row = [b"%d" % number]
        for place, kind in enumerate(self.kinds[1:], 1):
            size = chance.choice(self._sizes)
            if self._huge and chance.random() < 0.1:
                size, self._huge = chance.choice(_HUGE), False
            is_null = place >= len(self.key) and chance.random() < 0.15
            row.append(None if is_null else KINDS[kind](chance, size))
        return row

    def _moved(self, chance: random.Random, row: Row, number: int) -> Row:
        """Return what a row was before its key changed: in one column of it, or in all columns."""
        before = self._row(chance, number)
        if chance.random() < 0.5:
            return before
        place = chance.randrange(len(self.key))
        return [*row[:place], before[place], *row[place + 1 :]]

    @staticmethod
    def _break(chance: random.Random, row: query.Row) -> None:
        place = chance.randrange(len(row.lengths))
        match chance.randrange(6):
            case 0:
                row.lengths[place] += chance.choice([-1, 1, 64, -64])
            case 1:
                row.lengths[place] = chance.choice([-2, -1, 0, 2**31, 2**40, -(2**62)])
            case 2:
                del row.lengths[place]
            case 3:
                row.lengths.append(chance.choice([0, -1, 1]))
            case 4:
                row.values += b"z"
            case _:
                at = chance.randrange(len(row.values))
                row.values = row.values[:at] + b"\xff" + row.values[at + 1 :]

    def _event(self, changes: Iterable[binlogdata.RowChange], at: int) -> VEvent:
        return VEvent(
            type=binlogdata.ROW,
            keyspace=KEYSPACE,
            shard=SHARD,
            timestamp=at,
            row_event=binlogdata.RowEvent(
                table_name=f"{KEYSPACE}.{TABLE}",
                keyspace=KEYSPACE,
                shard=SHARD,
                row_changes=changes,
            ),
        )

    def _copied(self, rows: Sequence[query.Row]) -> list[list[VEvent]]:
        opening = [begin(SHARD), fields(SHARD, TABLE, *self.columns), vgtid(SHARD, {SHARD: 1})]
        events = [self._event([binlogdata.RowChange(after=row)], 0) for row in rows]
        return [opening, [*events, commit(SHARD)]]

    def _streamed(
        self, chance: random.Random, rows: Sequence[tuple[query.Row, query.Row]]
    ) -> list[list[VEvent]]:
        """Write rows as changes, in events of some, in one response or one each.

        `rows` has each as it was before an update, and as it is.
        """
        every = ["insert", "update", "delete"]
        kinds = chance.choice([["insert"], ["delete"], ["update"], ["update"], every])
        found: list[list[VEvent]] = [[begin(SHARD, AT), fields(SHARD, TABLE, *self.columns, at=AT)]]
        left = list(rows)
        apart = chance.random() < 0.5
        while left:
            size = chance.choice([1, 10, 40])
            part, left = left[:size], left[size:]
            kind = chance.choice(kinds)
            changes = [
                binlogdata.RowChange(
                    before=None if kind == "insert" else row if kind == "delete" else before,
                    after=None if kind == "delete" else row,
                )
                for before, row in part
            ]
            self.moved += kind == "update" and any(before is not row for before, row in part)
            event = self._event(changes, AT + chance.randrange(2))
            found += [[event]] if apart else []
            found[-1].extend([] if apart else [event])
        return [*found, [vgtid(SHARD, {SHARD: 2}), commit(SHARD, AT)]]

    def rows(self) -> list[Rows]:
        """Read the responses, as the client and the engine do."""
        if self.copying:
            copy = TableCopy(
                TABLE, {SHARD: None}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True
            )
            items = [item for response in self.responses for item in copy.feed(decode(response))]
            return [item for item in items if isinstance(item, Rows)]
        start, stop = (
            Vgtid(KEYSPACE, {SHARD: GtidSet.parse(gtid(SHARD, last))}) for last in (1, 2)
        )
        stream = ChangeStream([TABLE], start, stop, RequestOptions())
        joined = by_table(stream.feed(decode_all(self.responses)), mixed=True)
        return [item for item in joined if isinstance(item, Rows)]

    # The three ways

    def as_json(self) -> Found:
        """Read the rows as the tap's records."""
        maker = RecordMaker(_Stream(self), RecordSequence(0), RecordOptions())
        found: Found = []
        for joined in self.rows():
            for rows in (joined, *joined.others):
                maker.prepare(rows.fields)
                _, lines = maker.written(rows, b"{", b"}\n")
                for line in b"".join(lines).splitlines():
                    record = json.loads(line)
                    found.append((record["op"], self._plain(record, _OF_JSON)))
        return found

    def as_objects(self) -> Found:
        """Read the rows as the library's changes."""
        reader = TableReader(self._table(), RecordSequence(0), RecordOptions())
        return [
            (change.operation, self._plain(change.after or change.before or {}, {}))
            for joined in self.rows()
            for rows in (joined, *joined.others)
            for change in reader.read(rows, 1)
        ]

    def as_arrow(self) -> Found:
        """Read the rows as record batches."""
        own = ("operation", "sequence", "version", "shard", "commit_time", "unsent")
        reader = ArrowReader(self._table(), RecordSequence(0), RecordOptions(), own)
        found: Found = []
        for rows in self.rows():
            for item in reader.read(rows, 1):
                if isinstance(item, TableRows):
                    item.rows.validate(full=True)
                    found += [
                        (row["_operation"], self._plain(row, _OF_ARROW))
                        for row in item.rows.to_pylist()
                    ]
        return found

    def _table(self) -> Table:
        columns = tuple(
            Column(f"c{i}", kind, i > 0, "utf8mb4") for i, kind in enumerate(self.kinds)
        )
        return Table(KEYSPACE, TABLE, columns, self.key)

    def _plain(self, row: Any, of: dict[str, Callable[[Any], Any]]) -> list[Any]:
        values = [row[f"c{i}"] for i in range(len(self.kinds))]
        return [
            value if value is None or kind not in of else of[kind](value)
            for kind, value in zip(self.kinds, values, strict=True)
        ]


class _Stream:
    """What a RecordMaker wants to know of a table."""

    own_columns = MappingProxyType({"deleted_at": "deleted at", "op": "op"})

    def __init__(self, case: Case) -> None:
        self.name = self.keyspace = KEYSPACE
        self.primary_keys = case.key
        self._case = case

    def stream_schema(self) -> StreamSchema:
        types = {f"c{i}": value_type(kind, "utf8mb4") for i, kind in enumerate(self._case.kinds)}
        properties = {name: type_.nullable() for name, type_ in types.items()}
        properties["op"] = {"type": "string"}
        return StreamSchema("t", properties, self.primary_keys, ["deleted at", "op"], ())


def _outcome(way: Callable[[], Found]) -> Found | None:
    try:
        return way()
    except (VitessError, DecodeError):
        return None


def check(seed: int) -> str:
    """Try one case in all ways; tell what came of it."""
    case = Case(random.Random(seed))
    found, objects, arrow = map(_outcome, (case.as_json, case.as_objects, case.as_arrow))
    assert (found is None) == (objects is None) == (arrow is None), f"seed {seed}: one refuses"
    assert objects == arrow, f"seed {seed}: objects and Arrow differ"
    assert found == objects, f"seed {seed}: JSON lines and objects differ"
    assert found or case.is_broken, f"seed {seed}: rows that are right are refused"
    return "refused" if found is None else "read, keys changed" if case.moved else "read"


@pytest.mark.slow
def test_all_ways_agree() -> None:
    """Or all refuse; both happen, and rows whose key changes are among those that are read."""
    first = random.randrange(2**32)
    print(f"seeds from {first}")
    outcomes = Counter(check(seed) for seed in range(first, first + CASES))
    assert min(outcomes["read"], outcomes["refused"]) > CASES // 20
    assert outcomes["read, keys changed"]


if __name__ == "__main__":
    start = random.randrange(2**32)
    told: Counter[str] = Counter()
    for number in range(int(sys.argv[1])):
        told[check(start + number)] += 1
    print(f"seeds from {start}: {dict(told)}")
