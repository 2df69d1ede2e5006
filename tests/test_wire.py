"""Responses that contradict themselves, made by hand: each way to read rows refuses them.

A corrupt or hostile server, or something between. What was given out of rows before stays; of what
cannot be placed nothing is, and the sentence names keyspace, shard and table, never a value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from support.events import (
    begin,
    commit,
    copy_completed,
    field,
    fields,
    gtid,
    lastpk,
    row,
    rows,
    vgtid,
)

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError, VitessError
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.decode import decode, decode_all
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.lengths import varint
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import RecordMaker, RecordOptions, RecordSequence
from tap_vitess.records.schema import StreamSchema
from tap_vitess.survey.facts import Column, Table
from tap_vitess.vstream.decoding import TableReader
from tap_vitess.vstream.events import EventFeed
from tap_vitess.vtgate.responses import Responses

VEvent = binlogdata.VEvent
Event = VEvent | bytes  # an event may be written already
A, B, C = "-80", "80-", "c0-"
ID, NAME = field("id", key=True), field("name", "varchar(20)")
SECRET = "secret"
AT = 100


class _Stream:
    name = "shop.t"
    keyspace = "shop"
    primary_keys = ("id",)
    own_columns: Mapping[str, str] = MappingProxyType({"deleted_at": "deleted_at"})

    def stream_schema(self) -> StreamSchema:
        properties: dict[str, Any] = {
            "id": {"type": "integer"},
            "name": {"type": ["string", "null"]},
        }
        return StreamSchema(self.name, properties, self.primary_keys, ["deleted_at"], ())


def _maker() -> RecordMaker:
    return RecordMaker(_Stream(), RecordSequence(0), RecordOptions())


def by_column(found: Rows) -> int:
    """Write lines of many rows at once."""
    maker = _maker()
    maker.prepare(found.fields)
    lines = maker.lines(found, b"{", b"}\n")
    if lines is None:  # looked at by column, and left to the other way
        return one_by_one(found)
    return b"".join(lines[1]).count(b"\n")


def one_by_one(found: Rows) -> int:
    """Make records."""
    maker = _maker()
    maker.prepare(found.fields)
    return len(maker.records(found))


def as_objects(found: Rows) -> int:
    """Make the library's changes."""
    columns = (Column("id", "bigint", False, None), Column("name", "varchar(20)", True, "utf8mb4"))  # noqa: FBT003
    table = Table("shop", "t", columns, ("id",))
    reader = TableReader(table, RecordSequence(0), RecordOptions())
    return len(reader.read(found, 1))


WAYS = [by_column, one_by_one, as_objects]


def written(*events: Event) -> bytes:
    """Write a response."""
    parts = (e if isinstance(e, bytes) else e.SerializeToString() for e in events)
    return b"".join(_framed(part) for part in parts)


def _framed(part: bytes) -> bytes:
    return b"\x0a" + varint(len(part)) + part


def read_copy(*responses: bytes) -> list[Rows]:
    """Feed a copy of shop.t on two shards."""
    feed = TableCopy(
        "t", {A: None, B: None}, None, RequestOptions(), keyspace="shop", resumable=True
    )
    return [i for r in responses for i in feed.feed(decode(r)) if isinstance(i, Rows)]


def read_changes(*responses: bytes) -> list[Rows]:
    """Feed the change stream of shop.t."""
    start, stop = (
        Vgtid("shop", {shard: GtidSet.parse(gtid(shard, last)) for shard in (A, B)})
        for last in (1, 99)
    )
    feed = ChangeStream(["t"], start, stop, RequestOptions())
    return [i for r in responses for i in feed.feed(decode(r)) if isinstance(i, Rows)]


def read_raw(*responses: bytes) -> int:
    """Feed the library's events, in which rows are decoded at once."""
    feed = EventFeed("shop", ["t"], None, RequestOptions(), copy=True)
    return sum(len(feed.feed(decode(response))) for response in responses)


def take(way: Callable[[Rows], int], read: Callable[..., list[Rows]], response: bytes) -> None:
    """Read a response, and its rows in one of the ways."""
    for found in read(response):
        way(found)


def copied(image: query.Row, *, table: str = "t", shard: str = A, at: int = 0) -> VEvent:
    """Write a ROW event."""
    event = rows(shard, table, at=at)
    event.row_event.row_changes.add(after=image)
    return event


def changed(*images: query.Row, before: bool = False) -> VEvent:
    """Write a ROW event of changes."""
    event = rows(A, "t", at=AT)
    for image in images:
        change = event.row_event.row_changes.add(after=image)
        if before:
            change.before.CopyFrom(row("1", "x"))
    return event


OPENING = [begin(A), fields(A, "t", ID, NAME), vgtid(A, {A: 3, B: 3})]
CLOSING = [vgtid(A, {A: 3, B: 3}, {A: lastpk("t", "9")}), commit(A)]
STREAMED = [begin(A, AT), fields(A, "t", ID, NAME, at=AT)]
GOOD = [row(str(n), SECRET) for n in range(8)]


def lied(lengths: Sequence[int], values: str) -> query.Row:
    """Write a row whose lengths may not be those of its values."""
    return query.Row(lengths=lengths, values=values.encode())


WRONG = {
    "short": lied([1, 5], "1secret"),
    "long": lied([1, 9], "1secret"),
    "negative": lied([1, -7], "1secret"),
    "negative before": lied([-2, 8], "1secret"),
    "fewer": lied([1], "1"),
    "more": lied([1, 6, 0], "1secret"),
    "none": lied([], ""),
    "more bytes": lied([1, -1], "1secret"),
}


def check(error: VitessError, *, shard: str = A) -> None:
    """The sentence says where, and nothing of the row."""
    assert isinstance(error, ProtocolError)
    assert "shop" in str(error)
    assert shard in str(error)
    assert "t on " in str(error) or ".t" in str(error)
    assert SECRET not in str(error)
    assert error.__cause__ is None


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("others", [0, 8])
@pytest.mark.parametrize("kind", ["copied", "interrupted", "inserted", "updated"])
def test_rows_whose_lengths_are_not_theirs(
    wrong: query.Row, way: Callable[[Rows], int], others: int, kind: str
) -> None:
    """Alone or among others, in either image, one by one, by column and as objects."""
    images = [*GOOD[:others], wrong]
    if kind == "copied":
        response = written(*OPENING, *map(copied, images), *CLOSING)
    elif kind == "interrupted":
        heartbeat = VEvent(type=binlogdata.HEARTBEAT)
        run = [event for image in images for event in (copied(image), heartbeat)]
        response = written(*OPENING, *run, *CLOSING)
    else:
        response = written(*STREAMED, changed(*images, before=kind == "updated"))
    read = read_copy if kind in {"copied", "interrupted"} else read_changes
    with pytest.raises(ProtocolError) as error:
        take(way, read, response)
    check(error.value)
    with pytest.raises(ProtocolError) as error:
        read_raw(response)
    check(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_two_rows_whose_lengths_make_up_for_each_other(way: Callable[[Rows], int]) -> None:
    """Their sum is right, and so is the number of all values."""
    for pair in (
        (lied([1, 5], "1secret"), lied([1, 7], "2secret")),
        (lied([1, 5, 1], "1secret"), lied([6], "secret")),
        (lied([1, 6], "1secret2"), lied([1, 6], "secret")),
    ):
        for response, read in (
            (written(*OPENING, *map(copied, [*GOOD, *pair])), read_copy),
            (written(*STREAMED, changed(*GOOD, *pair)), read_changes),
        ):
            with pytest.raises(ProtocolError) as error:
                take(way, read, response)
            check(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_before_image_of_other_columns(way: Callable[[Rows], int]) -> None:
    """A deleted row, or the row before an update."""
    for after in (None, row("1", "x")):
        event = rows(A, "t", at=AT)
        for image in [*GOOD, WRONG["short"]]:
            event.row_event.row_changes.add(before=image, after=after)
        with pytest.raises(ProtocolError) as error:
            take(way, read_changes, written(*STREAMED, event))
        check(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_change_without_an_image(way: Callable[[Rows], int]) -> None:
    """It is no row."""
    event = rows(A, "t", at=AT)
    for _ in range(8):
        event.row_event.row_changes.add()
    with pytest.raises(ProtocolError) as error:
        take(way, read_changes, written(*STREAMED, event))
    check(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_field_event_of_fewer_columns_than_the_rows(way: Callable[[Rows], int]) -> None:
    """Eight rows of two values are not sixteen of one."""
    opening = [begin(A), fields(A, "t", ID), vgtid(A, {A: 3, B: 3})]
    with pytest.raises(ProtocolError) as error:
        take(way, read_copy, written(*opening, *map(copied, GOOD), *CLOSING))
    check(error.value)


def test_a_row_of_another_table_in_a_run() -> None:
    """Not written as this one's, whichever comes last."""
    other = copied(row("9", "other"), table="u")
    for run in ([*map(copied, GOOD), other], [other, *map(copied, GOOD)]):
        with pytest.raises(ProtocolError, match=r"not asked for: shop\.u on shard -80"):
            read_copy(written(*OPENING, *run, *CLOSING))


def test_a_row_of_another_shard_in_a_run() -> None:
    """Each shard has its own transactions and FIELD events."""
    other = copied(row("9", "other"), shard=B)
    with pytest.raises(ProtocolError, match=r"shop\.t on shard 80-"):
        read_copy(written(*OPENING, *map(copied, GOOD), other, *CLOSING))
    contrary = copied(row("9", "other"))
    contrary.row_event.shard = B
    for run in ([*map(copied, GOOD), contrary], [contrary]):
        with pytest.raises(ProtocolError, match=r"shop\.t on shard -80.*contradicts itself"):
            read_copy(written(*OPENING, *run))
    contrary.timestamp = AT
    with pytest.raises(ProtocolError, match=r"shop\.t on shard -80.*contradicts itself"):
        read_changes(written(*STREAMED, contrary))


@pytest.mark.parametrize("run", [GOOD, GOOD[:1]], ids=["many", "one"])
def test_copied_rows_of_a_shard_that_is_not_to_be_copied(run: Sequence[query.Row]) -> None:
    """One that was not asked for, and one whose copy has been said to be complete."""
    asked = {A: 3, B: 3, C: 3}
    opening = [begin(C), fields(C, "t", ID, NAME), vgtid(C, asked)]
    with pytest.raises(ProtocolError, match=r"not to be copied: shop\.t on shard c0-"):
        read_copy(written(*opening, *[copied(image, shard=C) for image in run]))
    done = [*OPENING, *map(copied, GOOD), *CLOSING, copy_completed(A), begin(A)]
    with pytest.raises(ProtocolError, match=r"not to be copied: shop\.t on shard -80"):
        read_copy(written(*done, *map(copied, run), commit(A)))


def test_changes_of_a_shard_that_is_copied_are_passed_over() -> None:
    """It goes on to stream; the shared stream brings them too."""
    done = [*OPENING, *map(copied, GOOD), *CLOSING, copy_completed(A)]
    found = read_copy(written(*done, *STREAMED, changed(*GOOD), commit(A, AT)))
    assert [len(part.changes) for part in found] == [8]


@pytest.mark.parametrize("at", [0, AT])
def test_rows_outside_of_a_transaction(at: int) -> None:
    """Behind their COMMIT no boundary would cover them; a copy's lastpk would have passed them."""
    opening = [begin(A, at), fields(A, "t", ID, NAME, at=at), vgtid(A, {A: 3, B: 3}), commit(A, at)]
    late = [copied(image, at=at) for image in GOOD]
    for events in ([*opening, *late], [*opening[1:], *late]):
        with pytest.raises(ProtocolError, match=r"outside of a transaction: shop\.t on shard -80"):
            (read_changes if at else read_copy)(written(*events))


def test_a_copied_row_that_says_when() -> None:
    """In a transaction of the copy it is no change that could be passed over."""
    run = [*map(copied, GOOD), copied(GOOD[0], at=AT)]
    with pytest.raises(ProtocolError, match=r"shop\.t on shard -80"):
        read_copy(written(*OPENING, *run, *CLOSING))


def test_rows_of_a_table_that_was_not_asked_for() -> None:
    """Its FIELD event before it, too."""
    strange = [fields(A, "u", ID, at=AT), rows(A, "u", (None, ["1"]), at=AT)]
    with pytest.raises(ProtocolError, match=r"not asked for: shop\.u on shard -80"):
        read_changes(written(*STREAMED, *strange))


@pytest.mark.parametrize("kind", [binlogdata.UNKNOWN, binlogdata.OTHER, binlogdata.COMMIT, 77])
def test_rows_in_an_event_of_another_type(kind: binlogdata.VEventType) -> None:
    """They would be passed over."""
    event = changed(*GOOD)
    event.type = kind
    for read, opening in ((read_changes, STREAMED), (read_copy, OPENING)):
        for more in ([], [changed(*GOOD)]):
            with pytest.raises(ProtocolError, match=r"shop\.t on shard -80.*contradicts itself"):
                read(written(*opening, *more, event))


def test_what_an_event_tells_twice() -> None:
    """protobuf makes one row event of two: the rows of both, and the last table's name."""
    table = binlogdata.RowEvent(table_name="shop.u").SerializeToString()
    other = rows(A, "u", (None, ["9", "x"]), at=AT)
    both = (
        changed(*GOOD).SerializeToString() + VEvent(row_event=other.row_event).SerializeToString()
    )
    inner = changed(*GOOD).row_event.SerializeToString() + table
    twice = VEvent(type=binlogdata.ROW, timestamp=AT, shard=A).SerializeToString() + b"\x2a"
    twice += bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner
    retyped = changed(*GOOD).SerializeToString() + b"\x08\x0b"  # OTHER
    for event in (both, twice, retyped):
        with pytest.raises(ProtocolError, match="contradicts itself"):
            read_changes(written(*STREAMED, event))
        with pytest.raises(ProtocolError, match="contradicts itself"):
            decode_all([written(*OPENING, *map(copied, GOOD), event)])


def test_a_field_event_of_another_shard() -> None:
    """It would tell the columns of rows that are not its own."""
    contrary = fields(A, "t", ID, NAME)
    contrary.field_event.shard = B
    with pytest.raises(ProtocolError, match=r"shop\.t on shard -80"):
        read_copy(written(begin(A), contrary))


@pytest.mark.parametrize("read", [read_changes, read_copy])
def test_a_vgtid_that_cannot_be_a_position(read: Callable[..., object]) -> None:
    """Of another keyspace, which a state would leave out; of a shard twice; of none."""
    other, twice, none = (vgtid(A, {A: 3, B: 3}) for _ in range(3))
    other.vgtid.shard_gtids[1].keyspace = "shoq"
    twice.vgtid.shard_gtids[1].shard = A
    del none.vgtid.shard_gtids[:]
    at = AT if read is read_changes else 0
    for event in (other, twice, none):
        with pytest.raises(ProtocolError, match="VGTID of"):
            read(written(begin(A, at), fields(A, "t", ID, NAME, at=at), event, commit(A, at)))


def test_bitmaps_that_do_not_tell_of_every_column() -> None:
    """Whether a column was sent is not guessed."""
    change = binlogdata.RowChange(before=row("1", "x"), after=row("1", "y"))
    change.data_columns.count = 20
    change.data_columns.cols = b"\xff"
    event = rows(A, "t", at=AT)
    event.row_event.row_changes.append(change)
    wide = [ID, *(field(f"c{n}") for n in range(19))]
    for image in (change.before, change.after):
        image.CopyFrom(row(*["1"] * 20))
    event.row_event.row_changes[0].CopyFrom(change)
    with pytest.raises(ProtocolError, match=r"shop\.t on shard -80: .* whether it was sent"):
        take(one_by_one, read_changes, written(begin(A, AT), fields(A, "t", *wide, at=AT), event))


@pytest.mark.parametrize("at", [-1, 2**40, 2**62])
def test_a_second_that_is_none(at: int) -> None:
    """Records could not tell it."""
    events = [
        begin(A, at),
        fields(A, "t", ID, NAME, at=at),
        rows(A, "t", (None, ["1", "x"]), at=at),
    ]
    with pytest.raises(ProtocolError, match=r"shop.*shard -80"):
        read_changes(written(*events))
    late = [*STREAMED, changed(*GOOD), vgtid(A, {A: 3, B: 1}), commit(A, at)]
    with pytest.raises(ProtocolError, match="shard -80"):
        read_changes(written(*late))
    with pytest.raises(ProtocolError):
        read_raw(written(*events))


def test_a_response_that_is_cut_short_takes_nothing_of_the_next() -> None:
    """Small ones come together, and each is read by itself."""
    whole = written(begin(A, AT), changed(GOOD[0]))
    broken = written(begin(A, AT)) + b"\x0a" + varint(len(whole))  # an event that is not there
    responses = Responses([broken, whole], silence=10)
    time.sleep(0.1)  # both have come
    with pytest.raises(DecodeError):
        decode_all(next(responses))
    responses.leave()


def test_whole_responses_come_together() -> None:
    """They are read as if they were one: the rows of both are one run."""
    parts = [written(begin(A, AT), changed(GOOD[0])), written(changed(*GOOD[1:]), commit(A, AT))]
    kinds = [type(event).__name__ for event in decode_all(parts)]
    assert kinds == ["VEvent", "ChangedRows", "VEvent"]


def test_the_end_of_a_shard_that_its_vgtid_does_not_list() -> None:
    """Nothing is known to have moved of it."""
    start, stop = (
        Vgtid("shop", {shard: GtidSet.parse(gtid(shard, last)) for shard in shards})
        for last, shards in ((1, (A, B)), (9, (A, B, C)))
    )
    feed = ChangeStream(["t"], start, stop, RequestOptions())
    feed.feed([begin(C, AT), vgtid(C, {A: 2, B: 2}), commit(C, AT)])
    assert feed.behind == [A, B, C]
