"""Rows by column: the same as one by one, whatever the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import recordings
from support.events import begin, commit, copy_completed, fields, read_images, row, rows, vgtid
from support.events import field as column

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.columns import (
    CHUNK_ROWS,
    CHUNK_VALUES,
    CopiedChanges,
    EncodedChanges,
    Images,
    RowChanges,
)
from tap_vitess.protocol.decode import ChangedRows, CopiedRows, StreamEvent, decode
from tap_vitess.protocol.items import Fields
from tap_vitess.protocol.wire import COPIED
from tap_vitess.values.arrow import ArrowDecoder
from tap_vitess.values.decode import RowDecoder

A = "-80"
Values = list[bytes | None]


def packed(values: Values) -> query.Row:
    lengths = [-1 if value is None else len(value) for value in values]
    return query.Row(lengths=lengths, values=b"".join(value or b"" for value in values))


def told(lengths: list[int], values: bytes) -> query.Row:
    """Write a row that may contradict itself."""
    return query.Row(lengths=lengths, values=values)


def copied(*images: query.Row, shard: str = A, at: int = 0) -> list[binlogdata.VEvent]:
    """Write a ROW event for each, as VTGate does."""
    return [
        binlogdata.VEvent(
            type=binlogdata.ROW,
            timestamp=at,
            keyspace="shop",
            shard=shard,
            row_event=binlogdata.RowEvent(
                table_name="shop.t",
                keyspace="shop",
                shard=shard,
                row_changes=[binlogdata.RowChange(after=image)],
            ),
        )
        for image in images
    ]


def response(*events: binlogdata.VEvent) -> bytes:
    return vtgate.VStreamResponse(events=events).SerializeToString()


tables = st.integers(1, 6).flatmap(
    lambda width: st.tuples(
        st.just(width),
        st.lists(
            st.lists(st.none() | st.binary(max_size=200), min_size=width, max_size=width),
            min_size=1,
            max_size=20,
        ),
    )
)


@given(tables)
def test_copied_rows_are_read_as_one(table: tuple[int, list[Values]]) -> None:
    """A run of copied rows has the values of its events; the others stay events."""
    width, values = table
    tail = [vgtid(A, {A: 1}), commit(A)]
    told_ = [begin(A), *copied(*map(packed, values)), *tail]
    assert taken_apart(decode(response(*told_)), width) == taken_apart(told_, width)
    if not all(any(row) for row in values):  # a row without a byte is no row by column
        return
    if any(COPIED in (value or b"") for row in values for value in row):  # which may mislead
        return
    head, run, *behind = decode(response(*told_))
    assert isinstance(run, CopiedRows)
    assert [head, *behind] == [begin(A), *tail]
    assert (run.table_name, run.shard) == ("shop.t", A)
    changes = CopiedChanges(run.images, width, "here")
    assert len(changes) == len(values)
    assert [change.after for change in changes] == [packed(row) for row in values]
    (chunk,) = run.images.chunks(width, "here", range(width))
    columns = [chunk.column(index) for index in range(width)]
    assert [list(row) for row in zip(*columns, strict=True)] == values


Told = binlogdata.VEvent | tuple[str, str, int, bool, binlogdata.RowChange]


def taken_apart(events: Sequence[StreamEvent], width: int = 2) -> list[Told]:
    """List each change by itself, and the events that are no rows as they are."""
    told: list[Told] = []
    for event in events:
        if isinstance(event, CopiedRows):
            changes = CopiedChanges(event.images, width, "here")
            told += [(event.table_name, event.shard, 0, False, change) for change in changes]
        elif isinstance(event, ChangedRows):
            told += _one_by_one(event)
        elif event.type == binlogdata.ROW:
            told += _one_by_one(ChangedRows.of(event))
        else:
            told.append(event)
    return told


def _one_by_one(run: ChangedRows) -> list[Told]:
    at, internal = run.timestamp, run.is_internal_table
    return [(run.table_name, run.shard, at, internal, change) for change in run.changes]


@pytest.mark.parametrize("name", recordings.names())
def test_recorded_responses_have_the_same_rows(name: str) -> None:
    """What a real VTGate sent: nothing is lost and nothing is taken for another thing."""
    responses = recordings.load(name).responses
    read = [decode(recorded.SerializeToString()) for recorded in responses]
    for found, recorded in zip(read, responses, strict=True):
        rows_of = [event.row_event for event in recorded.events if event.type == binlogdata.ROW]
        width = len(rows_of[0].row_changes[0].after.lengths) if rows_of else 0
        assert taken_apart(found, width) == taken_apart(recorded.events, width)
    events = [event for recorded in responses for event in recorded.events]
    copied_rows = any(event.type == binlogdata.ROW and not event.timestamp for event in events)
    assert any(isinstance(e, CopiedRows) for found in read for e in found) == copied_rows
    if name.endswith("binlog_big_transaction"):
        assert any(isinstance(e, ChangedRows) for found in read for e in found)


images = st.lists(st.none() | st.binary(max_size=3), min_size=2, max_size=2)


def change(before: Values | None, after: Values | None) -> binlogdata.RowChange:
    return binlogdata.RowChange(
        before=None if before is None else packed(before),
        after=None if after is None else packed(after),
    )


inserts = st.lists(st.builds(change, st.none(), images), max_size=3)
deletes = st.lists(st.builds(change, images, st.none()), max_size=3)
updates = st.lists(st.builds(change, images, images), max_size=3)


@st.composite
def row_events(draw: st.DrawFn) -> binlogdata.VEvent:
    shard = draw(st.sampled_from([A, "80-"]))
    return binlogdata.VEvent(
        type=binlogdata.ROW,
        timestamp=draw(st.sampled_from([5, 5, 6])),
        current_time=draw(st.integers(1, 9)),
        keyspace="shop",
        shard=shard,
        row_event=binlogdata.RowEvent(
            table_name=draw(st.sampled_from(["shop.t", "shop.u"])),
            row_changes=draw(inserts | deletes | updates),
            keyspace="shop",
            shard=shard,
            is_internal_table=draw(st.sampled_from([False, False, True])),
        ),
    )


@given(st.lists(row_events() | st.sampled_from([begin(A, 5), vgtid(A, {A: 1}), commit(A, 6)])))
def test_row_events_that_follow_each_other_are_read_as_one(events: list[binlogdata.VEvent]) -> None:
    """In their order; those of another table, shard, second or kind stay apart."""
    read = decode(response(*events))
    assert taken_apart(read) == taken_apart(events)
    assert max((e.current_time for e in read if not isinstance(e, CopiedRows)), default=0) == max(
        (event.current_time for event in events), default=0
    )
    if sum(event.type == binlogdata.ROW for event in events) > 1:
        assert not any(e.type == binlogdata.ROW for e in read if isinstance(e, binlogdata.VEvent))
        runs = [places(event) for event in read]
        assert all(len(run) <= 1 for run in runs)
        assert all(one != other for one, other in pairwise(runs) if one)


def places(event: StreamEvent) -> set[tuple[object, ...]]:
    """What the changes of a run must have in common."""
    if not isinstance(event, ChangedRows):
        return set()
    where = event.table_name, event.shard, event.timestamp, event.is_internal_table
    return {(*where, told.HasField("before"), told.HasField("after")) for told in event.changes}


ONE, TWO = row("1", "a"), row("2", None)


@pytest.mark.parametrize(
    "events",
    [
        [*copied(ONE), begin(A), *copied(TWO)],
        [*copied(ONE), *copied(TWO, shard="80-")],
        copied(ONE, at=5),
        [*copied(ONE), rows(A, "t", (("1", "a"), ("2", "b")))],
        copied(ONE, shard=""),
        [begin(A), copy_completed(A)],
        [fields(A, "t", column("\x08\x0c\x2a"))],
    ],
    ids=["interrupted", "two shards", "change", "kinds", "none", "other", "field"],
)
def test_what_is_no_run_of_copied_rows_stays_events(events: list[binlogdata.VEvent]) -> None:
    """Interrupted runs, several shards, changes between them."""
    found = decode(response(*events))
    assert not any(isinstance(event, CopiedRows) for event in found)
    assert taken_apart(found) == taken_apart(events)


def test_changes_after_copied_rows() -> None:
    """In one response: they are read as in any other."""
    events = [*copied(ONE, TWO), *(rows(A, "t", (None, [n, "c"]), at=5) for n in "34")]
    found = decode(response(*events))
    assert [type(event) for event in found] == [CopiedRows, ChangedRows]
    assert taken_apart(found) == taken_apart(events)


@pytest.mark.parametrize(
    "mark", [b"\x08\x0c\x2a", b"\x0a\x04\x08\x0c\x2a", b"\x0a\x03\x08\x0c\x2a"]
)
@pytest.mark.parametrize("behind", [b"", b"x", b"x" * 300])
def test_values_may_look_like_events(mark: bytes, behind: bytes) -> None:
    """Where the last copied row is, is a guess; rows whose bytes mislead it are not lost."""
    values: list[Values] = [[b"1", None], [b"2", mark + behind]]
    for tail in (
        [],
        [vgtid(A, {A: 1}), commit(A)],
        [fields(A, "t", column(mark.decode("latin1")))],
    ):
        told = [begin(A), *copied(*map(packed, values)), *tail]
        assert taken_apart(decode(response(*told))) == taken_apart(told)


def test_a_misleading_value_costs_no_time() -> None:
    """What looks like the size of an event is no longer than one may be."""
    told = [*copied(packed([b"\xff" * 1_000_000 + b"\x08\x0c\x2a"])), commit(A)]
    assert taken_apart(decode(response(*told)), 1) == taken_apart(told, 1)


def test_copied_rows_that_lack_columns_stay_events() -> None:
    """Their images cannot be cut without a look at each."""
    (event,) = copied(ONE)
    event.row_event.row_changes[0].data_columns.count = 2
    found = decode(response(event))
    assert not any(isinstance(event, CopiedRows) for event in found)
    assert taken_apart(found) == taken_apart([event])


@pytest.mark.parametrize(
    "images",
    [
        read_images(told([1, 1, 1], b"abc")),
        read_images(told([1, 2], b"ab")),
        read_images(told([1, 1], b"abc")),
        read_images(told([1, -2], b"a")),
        read_images(told([-2, 5], b"abc")),
        read_images(told([2, 0], b"a"), told([0, 1], b"b")),
        read_images(told([1, 1, 1], b"abc"), told([1], b"d")),
        read_images(told([1, 2], b"ab"), told([1, 1], b"cde")),
        read_images(told([-1, 2], b"abc"), told([2, 1], b"cd")),
    ],
    ids=[
        *("no rows", "other rows", "more", "negative", "hidden", "fewer"),
        *("a value of the next row's", "a byte of the next row's", "of the one before"),
    ],
)
def test_images_that_contradict_themselves_are_refused(images: Images) -> None:
    """Lengths that are no whole rows, or not those of the values."""
    with pytest.raises(ProtocolError, match="here"):
        list(images.chunks(2, "here", [0, 1]))
    with pytest.raises(ProtocolError, match="here"):
        list(images.chunks(2, "here", []))


def test_rows_without_columns_are_refused() -> None:
    """Nothing could be told of them."""
    with pytest.raises(ProtocolError, match="here"):
        list(CopiedChanges(read_images(told([1], b"a")), 0, "here"))


@pytest.mark.parametrize("width", [2, CHUNK_VALUES])
def test_many_rows_come_in_chunks(width: int) -> None:
    """The objects of one chunk at a time: memory does not grow with a response's rows."""
    step = max(CHUNK_VALUES // width, CHUNK_ROWS)
    count = 2 * step + 1
    images = read_images(*[told([1, *[-1] * (width - 1)], b"x")] * count)
    chunks = list(images.chunks(width, "here", [0]))
    assert [chunk.rows for chunk in chunks] == [step, step, 1]
    assert [set(chunk.column(0)) for chunk in chunks] == [{b"x"}] * 3


@given(tables, st.sampled_from(["insert", "update", "delete"]))
def test_changes_of_one_kind_are_read_by_column(table: tuple[int, list[Values]], kind: str) -> None:
    """Both images of each change, in their order."""
    width, values = table
    told = [
        change(None if kind == "insert" else row, None if kind == "delete" else row[::-1])
        for row in values
    ]
    changes = RowChanges(binlogdata.RowEvent(row_changes=told))
    found = changes.by_column()
    if not all(any(row) for row in values):  # a row without a byte is no row by column
        assert found is None
        return
    assert found is not None
    assert found.count == len(changes) == len(values)
    if found.before is None:
        assert kind == "insert"
    else:
        assert list(found.before.rows(width, "here")) == list(map(packed, values))
    if found.after is None:
        assert kind == "delete"
    else:
        assert list(found.after.rows(width, "here")) == [packed(row[::-1]) for row in values]
    assert list(changes) == told
    for images in filter(None, (found.before, found.after)):
        with pytest.raises(ProtocolError, match="here"):
            list(images.chunks(width + 1, "here", [0]))


def test_changes_that_are_none_are_an_error_of_ours() -> None:
    """One whose image is longer than its event."""
    broken = EncodedChanges([b"\x08\x0c\x2a\x04\x12\x02\x12\xff"], 1, "after")
    with pytest.raises(ProtocolError, match="cannot be read"):
        broken.by_column()
    with pytest.raises(ProtocolError, match="cannot be read"):
        list(broken)


@pytest.mark.parametrize(
    "told",
    [
        [change(None, [b"1"]), change([b"1"], None)],
        [change(None, [b"1"]), change([b"1"], [b"2"])],
        [change([b"1"], [b"2"]), change([b"1"], None)],
        [binlogdata.RowChange(after=packed([b"1"]), data_columns={"count": 1})],
        [binlogdata.RowChange(after=packed([b"1"]), json_partial_values={"count": 1})],
    ],
    ids=["insert+delete", "insert+update", "update+delete", "partial", "partial JSON"],
)
def test_changes_of_several_kinds_are_not(told: list[binlogdata.RowChange]) -> None:
    """Each of them is to be looked at."""
    assert RowChanges(binlogdata.RowEvent(row_changes=told)).by_column() is None


@pytest.fixture(params=[RowDecoder, ArrowDecoder])
def decoder(request: pytest.FixtureRequest) -> RowDecoder:
    """What compares images of two columns."""
    columns = column("a", "bigint"), column("b", "longtext")
    made: RowDecoder = request.param(Fields("t", "-80", columns, copying=False), "shop", ())
    return made


@pytest.mark.parametrize("count", [2, 3000])
def test_the_columns_of_two_images_are_compared(decoder: RowDecoder, count: int) -> None:
    """All rows, and only the columns asked for; NULL is not the empty text."""
    rows = [row(str(n), "a") for n in range(count)]
    one, other, null, empty = (read_images(*rows, row("2", last)) for last in ("b", "c", None, ""))
    assert decoder.are_same(one, other, [0])
    assert not decoder.are_same(one, other, [0, 1])
    assert decoder.are_same(null, null, [0, 1])
    assert not decoder.are_same(null, empty, [0, 1])


@pytest.mark.parametrize("count", [9, 2000])
def test_the_columns_of_long_and_short_values_are_compared(decoder: RowDecoder, count: int) -> None:
    """The two images are cut in different ways."""
    one, other = (read_images(*[row("1", "x" * size)] * count) for size in (3, 500))
    assert decoder.are_same(one, other, [0])
    assert not decoder.are_same(one, other, [1])
