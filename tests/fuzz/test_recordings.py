"""Recorded sessions, broken at random: the right rows come of them, or an error.

A case is a recording with one to three mutations: events dropped, doubled, exchanged or moved; bits
flipped, bytes put in, taken out or repeated, a response cut short. It goes the way of a call's
responses, by all ways in which rows are written. What is right is told by a reader that takes
everything one by one and is far too slow for a tap (`Straight`):

- without an error the rows are those that the same bytes hold for it, and so is the position;
- with one, what was given out before is the beginning of that, and the position covers no more;
- the error is one of ours, whatever is broken.

What no reader can see stays unseen: other digits in a number, other letters in a text, a ROW event,
or a whole transaction, that is not there.

`TAP_VITESS_SEED` tries others.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import orjson
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from support import recordings
from support.fuzzing import FACTOR, fuzz

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import columns_pb2 as by_column
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError, VitessError
from tap_vitess.protocol.changes import ChangeStream, by_table
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.decode import StreamEvent, decode, decode_all, has_copied_rows
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Boundary, Rows
from tap_vitess.protocol.lengths import varint
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.records.schema import StreamSchema
from tap_vitess.survey.facts import Column, Table
from tap_vitess.values.documents import plain
from tap_vitess.values.mysql_types import value_types
from tap_vitess.vstream.decoding import TableReader
from tap_vitess.vstream.events import EventFeed
from tap_vitess.vtgate.responses import SMALL

pytestmark = fuzz

CASES = 500 * FACTOR
SEED = int(os.environ.get("TAP_VITESS_SEED", "14"))
PARTS = 10  # of the cases, so that a part can be run alone
MOST_ROWS = 40  # copied rows in a row that a case keeps
NOWHERE = GtidSet.parse("ffffffff-ffff-ffff-ffff-ffffffffffff:1")

Values = tuple[bytes | None, ...]
Change = tuple[Values | None, Values | None]
Places = dict[tuple[str, str], list[Change]]


class WrongError(Exception):
    """The straight reader cannot place an event."""


# The recordings


@dataclass(frozen=True)
class Session:
    """A recorded session: its events, by response, and what was asked for."""

    name: str
    keyspace: str
    tables: frozenset[str]
    shards: frozenset[str]
    copying: bool
    responses: tuple[tuple[bytes, ...], ...]


def _shortened(events: Sequence[binlogdata.VEvent]) -> Iterator[bytes]:
    for is_row, run in itertools.groupby(events, lambda event: event.type == binlogdata.ROW):
        for event in itertools.islice(run, MOST_ROWS) if is_row else run:
            yield event.SerializeToString()


@functools.cache
def sessions() -> list[Session]:
    """Read the recordings that have rows."""
    found = []
    for name in recordings.names():
        recording = recordings.load(name)
        asked = recording.request.vgtid.shard_gtids
        events = [event for response in recording.responses for event in response.events]
        rows = [event for event in events if event.type == binlogdata.ROW]
        if rows:
            keyspace = asked[0].keyspace
            found.append(
                Session(
                    name,
                    keyspace,
                    frozenset(e.row_event.table_name.removeprefix(f"{keyspace}.") for e in rows),
                    frozenset(s.shard for e in events for s in e.vgtid.shard_gtids),
                    any(not event.timestamp for event in rows),
                    tuple(tuple(_shortened(r.events)) for r in recording.responses),
                )
            )
    return found


# The mutations


def mutated(session: Session, chance: random.Random) -> list[bytes]:
    """Break a session in one to three ways; return its responses."""
    events = [list(response) for response in session.responses]
    written: list[bytes] | None = None
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if written is None and chance.random() < 0.5:
            _break_events(events, chance)
        else:
            written = written or _written(events)
            _break_bytes(written, chance)
    return written or _written(events)


def _written(events: Sequence[Sequence[bytes]]) -> list[bytes]:
    return [b"".join(b"\x0a" + varint(len(e)) + e for e in response) for response in events]


def _break_events(events: list[list[bytes]], chance: random.Random) -> None:
    places = [(i, j) for i, response in enumerate(events) for j in range(len(response))]
    i, j = chance.choice(places)
    match chance.choice(["drop", "double", "exchange", "move", "repeat"]):
        case "drop":
            del events[i][j]
        case "double":
            events[i].insert(j, events[i][j])
        case "exchange":
            k, m = chance.choice(places)
            events[i][j], events[k][m] = events[k][m], events[i][j]
        case "move":
            event = events[i].pop(j)
            k = chance.randrange(len(events))
            events[k].insert(chance.randint(0, len(events[k])), event)
        case "repeat":
            events.insert(chance.randint(0, len(events)), list(events[i]))


def _break_bytes(written: list[bytes], chance: random.Random) -> None:
    i = chance.choice([i for i, response in enumerate(written) if response] or [0])
    raw = bytearray(written[i])
    if not raw:
        return
    at = chance.randrange(len(raw))
    if chance.random() < 0.5:  # where most structure is
        at = chance.randrange(min(len(raw), 200))
    match chance.choice(["flip", "flip", "flip", "byte", "cut", "out", "in", "again"]):
        case "flip":
            raw[at] ^= 1 << chance.randrange(8)
        case "byte":
            raw[at] = chance.choice(
                [0, 1, 0x7F, 0x80, 0xFF, (raw[at] + 1) % 256, raw[at] - 1 & 0xFF]
            )
        case "cut":
            del raw[at:]
        case "out":
            del raw[at : at + chance.randint(1, 4)]
        case "in":
            raw[at:at] = chance.randbytes(chance.randint(1, 4))
        case "again":
            raw[at:at] = raw[at : at + chance.randint(1, 60)]
    written[i] = bytes(raw)


# The straight reader


HEAD = frozenset({"shard"})


@functools.cache
def lenient(wanted: frozenset[str] | None = None) -> type[binlogdata.VEvent]:
    """Make VEvent anew, with bytes for what nobody looks at: keyspaces, and texts and messages
    that are none of the wanted members, where these are given.
    """
    pool = descriptor_pool.DescriptorPool()
    for module in (query, binlogdata):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            for told in message.field:
                is_text = told.name == "keyspace" and message.name in {"VEvent", "RowEvent"}
                other = message.name == "VEvent" and wanted is not None and told.name not in wanted
                if is_text or (other and told.type in {told.TYPE_STRING, told.TYPE_MESSAGE}):
                    told.type = told.TYPE_BYTES
                    told.ClearField("type_name")
        pool.Add(file)
    found = pool.FindMessageTypeByName(binlogdata.VEvent.DESCRIPTOR.full_name)
    return cast(type[binlogdata.VEvent], message_factory.GetMessageClass(found))


def events_in(response: bytes, *, copying: bool) -> Iterator[binlogdata.VEvent]:
    """Read the events of a response, without the rows that a copy passes over.

    Raises:
        DecodeError: there is something else.
    """
    for event in by_column.Response.FromString(response).events:
        head = lenient(HEAD).FromString(event)
        if head.type != binlogdata.ROW:
            yield lenient().FromString(event)
        elif not (copying and head.timestamp):
            yield lenient(HEAD | {"row_event"}).FromString(event)


@dataclass
class Straight:
    """Reads events one by one, as protobuf gives them; what it cannot place is an error.

    reached: the rows given out at each boundary, and the position there.
    """

    session: Session
    rows: Places = field(default_factory=lambda: defaultdict(list))
    positions: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    fields: dict[tuple[str, str], Sequence[query.Field]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    pending: binlogdata.VGtid | None = None

    def read(self, responses: Sequence[bytes]) -> bool:
        """Read responses; tell whether all could be placed."""
        try:
            for response in responses:
                for event in events_in(response, copying=self.session.copying):
                    self._take(event)
        except (WrongError, DecodeError):
            return False
        return True

    def _take(self, event: binlogdata.VEvent) -> None:
        if event.HasField("row_event") != (event.type == binlogdata.ROW):
            raise WrongError
        match event.type:
            case binlogdata.FIELD if not (self.session.copying and event.timestamp):
                told = event.field_event
                self.fields[self._bare(told.table_name), event.shard] = told.fields
            case binlogdata.ROW:
                self._rows(event)
            case binlogdata.VGTID:
                self.pending = event.vgtid
            case binlogdata.BEGIN:
                self.open.add(event.shard)
            case binlogdata.COPY_COMPLETED:
                self.done.add(event.shard)
            case binlogdata.COMMIT | binlogdata.DDL | binlogdata.OTHER:
                self._end(event.shard)

    def _end(self, shard: str) -> None:
        self.open.discard(shard)
        if self.pending is None:
            return
        self.open &= {entry.shard for entry in self.pending.shard_gtids}
        if not self.open:
            self.positions.append(self.pending.SerializeToString())
            self.counts.append(sum(map(len, self.rows.values())))
            self.pending = None

    def _rows(self, event: binlogdata.VEvent) -> None:
        row = event.row_event
        table = self._bare(row.table_name)
        if self.session.copying and event.timestamp:
            return
        if not self.session.copying and row.is_internal_table and event.timestamp:
            return
        columns = self.fields.get((table, event.shard))
        strange = table not in self.session.tables or row.shard != event.shard
        if columns is None or strange or self.session.copying != (not event.timestamp):
            raise WrongError
        if self.session.copying and event.shard in self.done:
            raise WrongError
        for change in row.row_changes:
            before = _values(change.before, columns) if change.HasField("before") else None
            after = _values(change.after, columns) if change.HasField("after") else None
            self.rows[table, event.shard].append((before, after))

    def _bare(self, name: str) -> str:
        return name.removeprefix(f"{self.session.keyspace}.")


def _values(row: query.Row, columns: Sequence[query.Field] | None) -> Values:
    """Cut a row; without columns, whatever there is."""
    left = row.values
    values: list[bytes | None] = []
    for length in row.lengths:
        if length < -1 or length > len(left):
            raise WrongError
        values.append(None if length == -1 else left[:length])
        left = left[max(length, 0) :]
    if left or (columns is not None and len(values) != len(columns)):
        raise WrongError
    return tuple(values)


# The tap's ways


class _Stream:
    """What a RecordMaker wants to know of a table: all columns as the FIELD event has them."""

    own_columns: Mapping[str, str] = MappingProxyType({"deleted_at": "deleted at"})

    def __init__(self, session: Session, found: Rows) -> None:
        self.name = self.keyspace = session.keyspace
        flagged = [f.name for f in found.fields.fields if f.flags & 2]
        self.primary_keys = flagged
        types = value_types(found.fields)
        self._properties = {name: type_.nullable() for name, type_ in types.items()}
        self.columns = found.fields.fields

    def stream_schema(self) -> StreamSchema:
        return StreamSchema("t", self._properties, self.primary_keys, ["deleted at"], ())


def written_in_all_ways(session: Session, found: Rows) -> None:
    """Write rows by column and one by one, which must be the same, and as objects.

    Raises:
        WrongError: they are no whole rows, at which their table ends.
    """
    stream = _Stream(session, found)
    options = RecordOptions(on_partial_image="omit")
    lines = _outcome(lambda: _lines(RecordMaker(stream, RecordSequence(0), options), found))
    records = _outcome(lambda: _records(RecordMaker(stream, RecordSequence(0), options), found))
    mapped = _outcome(lambda: _mapped(RecordMaker(stream, RecordSequence(0), options), found))
    if lines is not None:
        assert lines == records
    assert (mapped is None) == (records is None) or isinstance(mapped, str)
    columns = tuple(Column(f.name, f.column_type, True, None) for f in stream.columns)  # noqa: FBT003
    table = Table(session.keyspace, found.fields.table, columns, tuple(stream.primary_keys))
    reader = TableReader(table, RecordSequence(0), options)
    _outcome(lambda: len(reader.read(found, 1)))
    if records == ProtocolError.__name__:
        raise WrongError


def _outcome(way: Callable[[], Any]) -> Any:
    try:
        return way()
    except VitessError as error:
        return type(error).__name__


def _lines(maker: RecordMaker, found: Rows) -> list[Any] | None:
    maker.prepare(found.fields)
    told = maker.lines(found, b"{", b"}\n")
    return None if told is None else [json.loads(x) for x in b"".join(told[1]).splitlines()]


def _records(maker: RecordMaker, found: Rows) -> list[Any]:
    maker.prepare(found.fields)
    return [json.loads(orjson.dumps(record)) for record in maker.records(found)]


def _mapped(maker: RecordMaker, found: Rows) -> int:
    maker.prepare(found.fields)
    return sum(len(plain(dict(record))) > 0 for record in maker.records(found))


def raw(found: Rows) -> list[Change]:
    """List the values of rows; those by column must be the same."""
    one_by_one = [
        (
            _values(change.before, None) if change.HasField("before") else None,
            _values(change.after, None) if change.HasField("after") else None,
        )
        for change in found.changes
    ]
    changes = found.changes.by_column() if hasattr(found.changes, "by_column") else None
    if changes is not None:
        width = len(found.fields.fields)
        for images, side in ((changes.before, 0), (changes.after, 1)):
            if images is not None:
                chunks = list(images.chunks(width, "here", range(width)))
                columns = [[v for c in chunks for v in c.column(i)] for i in range(width)]
                rows = list(zip(*columns, strict=True))
                assert rows == [change[side] for change in one_by_one]
    return one_by_one


def grouped(responses: Sequence[bytes], chance: random.Random) -> Iterator[list[bytes]]:
    """Put small responses together, as `Responses` does."""
    small: list[bytes] = []
    for response in responses:
        if len(response) < SMALL and not has_copied_rows(response):
            small.append(response)
            if chance.random() < 0.7:
                continue
        else:
            yield from [small] * bool(small)
            yield [response]
            small = []
            continue
        yield small
        small = []
    yield from [small] * bool(small)


def events_of(some: Sequence[bytes]) -> Sequence[StreamEvent]:
    """Read responses, as the client does."""
    return decode(some[0]) if len(some) == 1 else decode_all(some)


def feed_of(session: Session) -> ChangeStream | TableCopy:
    """Make the feed that the session was recorded for; it never comes to its end."""
    if session.copying:
        left = dict.fromkeys(session.shards)
        table = min(session.tables)
        feed = TableCopy(
            table, left, None, RequestOptions(), keyspace=session.keyspace, resumable=True
        )
        feed.tables = session.tables  # some recordings copy several at once
        return feed
    start, stop = (
        Vgtid(session.keyspace, dict.fromkeys(session.shards, gtids))
        for gtids in (GtidSet({}), NOWHERE)
    )
    return ChangeStream(session.tables, start, stop, RequestOptions())


def check(session: Session, responses: Sequence[bytes], chance: random.Random) -> bool:
    """Read a broken session in all ways; tell whether it came to its end without an error."""
    straight = Straight(session)
    placed = straight.read(responses)
    given: Places = defaultdict(list)
    position: bytes | None = None
    count = 0
    feed = feed_of(session)
    read_all = True
    try:
        for some in grouped(responses, chance):
            items = feed.feed(events_of(some))  # type: ignore[arg-type, unused-ignore]
            for item in by_table(items) if isinstance(feed, ChangeStream) else items:  # type: ignore[arg-type]
                if isinstance(item, Rows):
                    written_in_all_ways(session, item)
                    given[item.fields.table, item.fields.shard] += raw(item)
                elif isinstance(item, Boundary):
                    position = item.vgtid.SerializeToString()
                    count = sum(map(len, given.values()))
            if feed.fault:
                raise feed.fault
    except (VitessError, DecodeError, WrongError):
        read_all = False
    _read_events(session, responses)
    if read_all:
        assert placed, "what the straight reader cannot place was passed over"
        assert {k: v for k, v in given.items() if v} == {
            k: v for k, v in straight.rows.items() if v
        }
    for place, changes in given.items():
        assert changes == straight.rows[place][: len(changes)]
    if position is not None:
        covered = [
            n for n, p in zip(straight.counts, straight.positions, strict=True) if p == position
        ]
        assert covered, "a position that no boundary has"
        assert min(covered) <= count
    return read_all


def _read_events(session: Session, responses: Sequence[bytes]) -> None:
    """Read the library's events: no error but ours."""
    feed = EventFeed(session.keyspace, session.tables, None, RequestOptions(), copy=session.copying)
    try:
        for response in responses:
            feed.feed(decode(response))
    except (VitessError, DecodeError):
        return


def test_the_recordings_themselves_are_read_to_their_ends() -> None:
    """Unbroken, they hold what the straight reader finds."""
    chance = random.Random(SEED)
    for session in sessions():
        assert check(session, _written(session.responses), chance), session.name


@pytest.mark.parametrize("part", range(PARTS))
def test_the_right_rows_or_an_error(part: int) -> None:
    """Whatever is broken, in whichever way rows are read."""
    read_all = 0
    numbers = range(part, CASES, PARTS)
    for number in numbers:
        chance = random.Random(f"{SEED}/{number}")
        session = chance.choice(sessions())
        responses = mutated(session, chance)
        print(f"seed {SEED}, case {number}, {session.name}")  # told when it fails
        read_all += check(session, responses, chance)
    print(f"seed {SEED}: {len(numbers)} cases, {read_all} without an error")
    assert 0 < read_all < len(numbers)
