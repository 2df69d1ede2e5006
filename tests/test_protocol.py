"""The protocol, fed by hand: what is a boundary, what is progress, what is dropped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import (
    begin,
    changes,
    commit,
    copy_completed,
    ddl,
    field,
    fields,
    gtid,
    lastpk,
    other,
    rows,
    vgtid,
)
from support.recordings import replay

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto.vtgate_pb2 import VStreamResponse
from tap_vitess.errors import (
    CopyCutError,
    ProtocolError,
    ReshardedError,
    RetriableError,
    SnapshotTooOldError,
)
from tap_vitess.protocol.changes import SILENT_SECONDS, ChangeStream
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import (
    Boundary,
    ChangeItem,
    CopyItem,
    CopyProgress,
    Rows,
    ShardCopied,
)
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.vtgate.grpc import connect
from tap_vitess.vtgate.reader import read
from tap_vitess.vtgate.retry import RetryOptions

A, B = "-80", "80-"
ID = field("id", key=True)
OPTIONS = RequestOptions()


def at(a: int, b: int) -> Vgtid:
    """Write a position after `a` and `b` transactions."""
    return Vgtid("shop", {A: GtidSet.parse(gtid(A, a)), B: GtidSet.parse(gtid(B, b))})


def change_stream(stop: Vgtid) -> ChangeStream:
    return ChangeStream(["t"], at(1, 1), stop, OPTIONS)


def table_copy(*, floor: Vgtid | None = None, resumable: bool = True) -> TableCopy:
    return TableCopy("t", {A: None, B: None}, floor, OPTIONS, keyspace="shop", resumable=resumable)


def transaction(
    shard: str, number: int, others: dict[str, int], *, time: int = 100
) -> list[binlogdata.VEvent]:
    """Insert the row `number` on a shard."""
    return [
        begin(shard, time),
        fields(shard, "t", ID, at=time),
        rows(shard, "t", (None, [str(number)]), at=time),
        vgtid(shard, {**others, shard: number}),
        commit(shard, time),
    ]


def kinds(items: Sequence[ChangeItem | CopyItem]) -> list[str]:
    return [type(item).__name__ for item in items]


def test_vgtid_is_no_boundary() -> None:
    """The position moves with COMMIT, not with the VGTID before it."""
    stream = change_stream(at(5, 5))
    events = transaction(A, 2, {A: 1, B: 1})
    assert kinds(stream.feed(events[:4])) == ["Rows"]
    assert stream.position == at(1, 1)
    assert kinds(stream.feed(events[4:])) == ["Boundary"]
    assert stream.position == at(2, 1)


@pytest.mark.parametrize("end", [ddl(A, "alter table t add x int"), other(A)])
def test_ddl_and_other_are_boundaries(end: binlogdata.VEvent) -> None:
    """They end a VGTID without BEGIN and COMMIT."""
    stream = change_stream(at(5, 5))
    assert kinds(stream.feed([vgtid(A, {A: 3, B: 1}), end])) == ["Boundary"]
    assert stream.position == at(3, 1)


@pytest.mark.parametrize("inner", [ddl(A, "create table u (id int) start transaction"), other(A)])
def test_ddl_and_other_within_a_transaction_are_none(inner: binlogdata.VEvent) -> None:
    """Their VGTID contains the whole transaction, rows that are still to come among them."""
    stream = change_stream(at(3, 3))
    begun, told, row, _, end = transaction(A, 3, {A: 1, B: 1})
    assert kinds(stream.feed([begun, told, row, vgtid(A, {A: 3, B: 1}), inner])) == ["Rows"]
    assert stream.position == at(1, 1)
    assert kinds(stream.feed(transaction(B, 3, {A: 3, B: 1}))) == ["Rows"]
    assert (stream.position, stream.finished) == (at(1, 1), False)
    assert kinds(stream.feed([row, vgtid(A, {A: 3, B: 3}), end])) == ["Rows", "Boundary"]
    assert (stream.position, stream.finished) == (at(3, 3), True)


@pytest.mark.parametrize("inner", [ddl(A, "create table u (id int) start transaction"), other(A)])
def test_vtgate_resumes_within_a_transaction(inner: binlogdata.VEvent) -> None:
    """It takes such a VGTID for its position: the call is opened again from before them."""
    stream = change_stream(at(9, 3))
    begun, told, row, _, _ = transaction(A, 3, {A: 1, B: 1})
    stream.feed([begun, told, row, vgtid(A, {A: 3, B: 1}), inner])
    with pytest.raises(RetriableError, match="within a transaction of shard -80"):
        stream.feed(transaction(A, 4, {A: 3, B: 1}))
    assert Vgtid.from_proto("shop", stream.request().vgtid.shard_gtids) == at(1, 1)
    assert kinds(stream.feed(transaction(A, 4, {A: 1, B: 1}))) == ["Rows", "Boundary"]


def test_what_came_before_a_resumed_transaction_is_given_out() -> None:
    """The next request starts behind it, so it would not come again."""
    stream = change_stream(at(9, 3))
    begun, told, row, _, _ = transaction(A, 3, {A: 2, B: 1})
    torn = [begun, told, row, vgtid(A, {A: 3, B: 1}), other(A)]
    items = stream.feed([*transaction(A, 2, {A: 1, B: 1}), *torn, *transaction(A, 4, {A: 3, B: 1})])
    assert kinds(items) == ["Rows", "Boundary", "Rows"]
    assert isinstance(stream.fault, RetriableError)
    assert Vgtid.from_proto("shop", stream.request().vgtid.shard_gtids) == at(2, 1)
    assert stream.fault is None


def test_a_copy_streams_a_transaction_with_an_other_within() -> None:
    """What is streamed in mid-copy is passed over to its COMMIT."""
    copy = table_copy()
    begun, told, row, known, end = transaction(A, 3, {A: 1, B: 1})
    assert copy.feed([begun, told, row, known, other(A), row, known, end]) == []


def test_commit_without_vgtid_moves_nothing() -> None:
    """Transactions that end with a Query COMMIT come without a VGTID (facts, 3.2)."""
    stream = change_stream(at(5, 5))
    assert stream.feed([begin(A, 1), commit(A, 1)]) == []
    assert stream.position == at(1, 1)


def test_second_begin_is_no_error() -> None:
    """A BEGIN may follow a BEGIN."""
    stream = change_stream(at(5, 5))
    items = stream.feed([begin(A, 1), *transaction(A, 2, {A: 1, B: 1})])
    assert kinds(items) == ["Rows", "Boundary"]


def test_no_boundary_while_another_shard_is_open() -> None:
    """A VGTID that covers rows of an open transaction is no position."""
    stream = change_stream(at(5, 5))
    first, second = transaction(A, 2, {A: 1, B: 1}), transaction(B, 2, {A: 1, B: 1})
    items = stream.feed([*first[:3], *second, vgtid(A, {A: 2, B: 2}), commit(A)])
    assert kinds(items) == ["Rows", "Rows", "Boundary"]
    assert stream.position == at(2, 2)


def test_stop_is_containment() -> None:
    """A stream that steps over the stop position has reached it."""
    stream = change_stream(at(2, 1))
    assert not stream.finished
    items = stream.feed([*transaction(A, 7, {A: 1, B: 1}), *transaction(A, 8, {A: 7, B: 1})])
    assert kinds(items) == ["Rows", "Boundary"]
    assert stream.finished
    assert stream.position == at(7, 1)


def test_every_shard_must_reach_the_stop() -> None:
    """One shard far ahead does not make up for another."""
    stream = change_stream(at(2, 2))
    stream.feed(transaction(A, 9, {A: 1, B: 1}))
    assert not stream.finished
    stream.feed(transaction(B, 2, {A: 9, B: 1}))
    assert stream.finished


def test_reshard_needs_another_stop() -> None:
    """Shards that the stop position does not name keep the stream open."""
    stream = change_stream(at(2, 1))
    stream.feed([vgtid(A, {"-40": 3, "40-80": 3, B: 1}), other(A)])
    assert not stream.finished
    assert stream.shards == {"-40", "40-80", B}
    stream.stop_at(stream.position)
    assert stream.finished


def test_request_starts_at_the_last_boundary() -> None:
    """After a fault nothing of an open transaction is remembered."""
    stream = change_stream(at(5, 5))
    stream.feed(transaction(A, 2, {A: 1, B: 1}))
    stream.feed(transaction(A, 3, {A: 2, B: 1})[:4])
    request = stream.request()
    assert Vgtid.from_proto("shop", request.vgtid.shard_gtids) == at(2, 1)
    assert stream.feed([commit(A, 1)]) == []
    assert stream.position == at(2, 1)


def test_rows_take_the_time_of_their_own_shards_commit() -> None:
    """A transaction of another shard that ends meanwhile says nothing of theirs."""
    stream = change_stream(at(9, 9))
    other = transaction(B, 2, {A: 1}, time=200)
    events = [*transaction(A, 2, {B: 1})[:3], *other, *transaction(A, 2, {B: 2}, time=300)[3:]]
    items = stream.feed(events)
    times = {item.fields.shard: item.commit_time for item in items if isinstance(item, Rows)}
    assert times == {A: 300, B: 200}


def test_rows_take_the_commit_time() -> None:
    """A row's own timestamp is when its statement ran; COMMIT's is when it was committed."""
    stream = change_stream(at(5, 5))
    events = [
        begin(A, 100),
        fields(A, "t", ID, at=100),
        rows(A, "t", (None, ["1"]), at=100),
        rows(A, "t", (None, ["2"]), at=103),
        vgtid(A, {A: 2, B: 1}),
        commit(A, 105),
    ]
    times = [item.commit_time for item in stream.feed(events) if isinstance(item, Rows)]
    assert times == [105, 105]


@pytest.mark.parametrize(
    "events",
    [
        [rows(A, "t", (None, ["1"]), at=5)],
        [fields(A, "t", ID), rows(A, "t", (None, ["1"]))],
        [copy_completed(A)],
    ],
    ids=["rows before FIELD", "copied rows", "COPY_COMPLETED"],
)
def test_change_stream_refuses(events: list[binlogdata.VEvent]) -> None:
    """What contradicts VStream's promises is an error."""
    with pytest.raises(ProtocolError):
        change_stream(at(5, 5)).feed(events)


def test_unknown_and_internal_events_are_passed_over() -> None:
    """Event types of later versions, heartbeats and internal tables are no news."""
    internal = rows(A, "_vt_hb", (None, ["1"]), at=5)
    internal.row_event.is_internal_table = True
    unknown = binlogdata.VEvent()
    unknown.ParseFromString(b"\x08\x63")  # type 99
    stream = change_stream(at(5, 5))
    assert stream.feed([unknown, binlogdata.VEvent(type=binlogdata.HEARTBEAT), internal]) == []


def copied(shard: str, first: int, last: int, positions: dict[str, int]) -> list[binlogdata.VEvent]:
    """Copy rows `first` to `last` of a shard in one batch."""
    return [
        *(rows(shard, "t", (None, [str(n)])) for n in range(first, last + 1)),
        vgtid(shard, positions, {shard: lastpk("t", str(last))}),
        commit(shard),
    ]


def whole_copy(shard: str, positions: dict[str, int]) -> list[binlogdata.VEvent]:
    """Copy a shard as VTGate does (facts, 3.1)."""
    return [
        begin(shard),
        fields(shard, "t", ID),
        vgtid(shard, positions),
        *copied(shard, 1, 3, positions),
        begin(shard),
        *copied(shard, 4, 5, positions),
        begin(shard),
        vgtid(shard, positions),
        commit(shard),
        copy_completed(shard),
    ]


def numbers(items: Sequence[CopyItem | ChangeItem]) -> list[str]:
    """List the ids of the rows given out."""
    return [
        change.after.values.decode()
        for item in items
        if isinstance(item, Rows)
        for change in item.changes
    ]


def test_copy_ends_with_each_shards_own_completion() -> None:
    """The aggregate COPY_COMPLETED is not waited for."""
    copy = table_copy()
    items = copy.feed(whole_copy(A, {A: 3, B: 0}))
    assert kinds(items) == [
        *("Rows", "Rows", "Rows", "CopyProgress"),
        *("Rows", "Rows", "CopyProgress", "ShardCopied"),
    ]
    assert numbers(items) == ["1", "2", "3", "4", "5"]
    assert not copy.finished
    items = copy.feed(whole_copy(B, {A: 3, B: 3}))
    assert copy.finished
    assert isinstance(items[-1], ShardCopied)


def test_changes_in_a_copy_are_dropped() -> None:
    """A finished shard streams on, and inner retries catch up: the shared stream brings that."""
    copy = table_copy()
    copy.feed(whole_copy(A, {A: 3, B: 0}))
    assert copy.feed(transaction(A, 4, {A: 3, B: 0})) == []
    before = copy.feed([begin(B), fields(B, "t", ID), vgtid(B, {A: 4, B: 3})])
    catch_up = copy.feed(transaction(B, 4, {A: 4, B: 3}))
    assert [item for item in (*before, *catch_up) if isinstance(item, Rows)] == []


def test_resume_asks_behind_each_lastpk() -> None:
    """Finished shards are left out, unfinished ones go on behind their last COMMIT."""
    copy = table_copy()
    copy.feed(whole_copy(A, {A: 3, B: 0}))
    copy.feed([begin(B), fields(B, "t", ID), vgtid(B, {A: 3, B: 3})])
    copy.feed(copied(B, 1, 3, {A: 3, B: 3}))
    copy.feed([begin(B), *copied(B, 4, 9, {A: 3, B: 3})[:-1]])
    [entry] = copy.request().vgtid.shard_gtids
    assert (entry.shard, entry.gtid) == (B, "")
    assert [pk.lastpk.rows[0].values for pk in entry.table_p_ks] == [b"3"]


def test_a_snapshot_must_contain_the_floor() -> None:
    """Rows older than the shared stream's position would never be mended."""
    copy = table_copy(floor=at(4, 4))
    with pytest.raises(SnapshotTooOldError):
        copy.feed(whole_copy(A, {A: 3, B: 0}))
    assert numbers(table_copy(floor=at(3, 4)).feed(whole_copy(A, {A: 3, B: 0})))


def test_what_came_before_an_old_snapshot_is_given_out() -> None:
    """A shard's rows are not lost with the fault of another, whose events came with them."""
    copy = table_copy(floor=at(3, 4))
    done = whole_copy(A, {A: 3, B: 0})
    first = [event.type for event in done].index(binlogdata.COMMIT) + 1
    items = copy.feed([*done[:first], *whole_copy(B, {A: 3, B: 1})])
    assert numbers(items) == ["1", "2", "3"]
    assert isinstance(copy.fault, SnapshotTooOldError)
    asked = {entry.shard: entry for entry in copy.request().vgtid.shard_gtids}
    assert asked[A].table_p_ks[0].lastpk == next(
        item.lastpk for item in items if isinstance(item, CopyProgress)
    )
    assert copy.fault is None


def test_rows_without_a_snapshot_are_refused() -> None:
    """Without its VGTID nobody knows how old a snapshot is."""
    with pytest.raises(ProtocolError):
        table_copy().feed([begin(A), fields(A, "t", ID), rows(A, "t", (None, ["1"]))])


def test_no_lastpk_without_a_key() -> None:
    """A table without a key cannot be resumed behind a row."""
    copy = table_copy()
    events = whole_copy(A, {A: 3, B: 0})
    events[1] = fields(A, "t", field("id"))
    assert not any(isinstance(item, CopyProgress) for item in copy.feed(events))


@pytest.mark.parametrize("cut", ["request", "leg"])
def test_a_copy_that_cannot_be_resumed_says_so(cut: str) -> None:
    """Neither we nor VTGate may go on in the middle of it."""
    copy = table_copy(resumable=False)
    copy.request()
    copy.feed(whole_copy(A, {A: 3, B: 0})[:6])
    again: Callable[[], object] = copy.request
    if cut == "leg":
        again = functools.partial(copy.feed, [begin(A), fields(A, "t", ID)])
    with pytest.raises(CopyCutError):
        again()


def test_a_reshard_ends_a_copy() -> None:
    """New shards only stream: what was not copied of the old ones would be lost."""
    copy = table_copy()
    copy.feed(whole_copy(A, {A: 3, B: 0})[:6])
    with pytest.raises(ReshardedError):
        copy.feed([vgtid("-40", {"-40": 1, "40-80": 1, B: 0}), commit("-40")])


def flat(items: Sequence[ChangeItem | CopyItem]) -> list[object]:
    """Make items comparable whatever pieces their rows came in."""
    found: list[object] = []
    for item in items:
        if isinstance(item, Rows):
            found += [change.SerializeToString() for change in item.changes]
        elif isinstance(item, Boundary):
            found.append(item.vgtid.SerializeToString())
        else:
            found.append((type(item).__name__, item.shard))
    return found


@given(st.lists(st.integers(1, 4), min_size=1, max_size=60), st.booleans())
def test_any_chunking_gives_the_same(sizes: list[int], copying: bool) -> None:  # noqa: FBT001
    """How events are cut into responses changes nothing."""
    if copying:
        events = [*whole_copy(A, {A: 3, B: 0}), *whole_copy(B, {A: 3, B: 3}), copy_completed()]
    else:
        events = [
            event
            for n in range(2, 7)
            for event in (*transaction(A, n, {A: n, B: n - 1}), *transaction(B, n, {A: n, B: n}))
        ]
    feed: TableCopy | ChangeStream = table_copy() if copying else change_stream(at(6, 6))
    whole: TableCopy | ChangeStream = table_copy() if copying else change_stream(at(6, 6))
    items: list[ChangeItem | CopyItem] = []
    rest = list(events)
    while rest:
        size = sizes[len(rest) % len(sizes)]
        items += feed.feed(rest[:size])
        rest = rest[size:]
    assert feed.finished
    assert flat(items) == flat(whole.feed(events))


def test_a_ddl_between_an_open_transaction_is_told_with_the_next_boundary() -> None:
    """The position behind it moves only there."""
    stream = change_stream(at(9, 9))
    stream.request()
    opened = [begin(A, 5), vgtid(B, {A: 1, B: 2}), ddl(B, "truncate table t")]
    assert stream.feed(opened) == []
    added = [vgtid(B, {A: 1, B: 3}), ddl(B, "alter table t add x int")]
    assert stream.feed(added) == []
    [boundary] = stream.feed([vgtid(A, {A: 2, B: 3}), commit(A, 5)])
    assert isinstance(boundary, Boundary)
    assert boundary.replaced == {"t": "TRUNCATE on shard 80-"}
    [alteration] = boundary.altered
    assert (alteration.table, alteration.shard) == ("t", B)


def test_transactions_within_each_other_reach_the_stop_position() -> None:
    """The boundary of the one is that of both."""
    stream = change_stream(at(2, 2))
    stream.request()
    within = [begin(A), begin(B), vgtid(A, {A: 2, B: 1}), commit(A), vgtid(B, {A: 2, B: 2})]
    assert stream.feed(within) == []
    [boundary] = stream.feed([commit(B)])
    assert isinstance(boundary, Boundary)
    assert stream.finished


def test_what_other_shards_bring_is_no_sign() -> None:
    """A shard that stands still shows itself, however busy the others are."""
    stream = change_stream(at(1, 2))
    stream.request()
    stream.feed(transaction(A, 2, {B: 1}))
    assert (stream.signs, stream.steps) == (0, 0)
    stream.feed(transaction(B, 2, {A: 2})[:3])
    assert (stream.signs > 0, stream.steps) == (True, 0)
    stream.feed(transaction(B, 2, {A: 2})[3:])
    assert stream.steps == 1


SECOND = 1_000_000_000


def heartbeat(second: int) -> binlogdata.VEvent:
    return binlogdata.VEvent(type=binlogdata.HEARTBEAT, current_time=second * SECOND)


def test_a_transaction_without_vgtid_does_not_hold_up_a_run() -> None:
    """A shard that sent one and is silent since has nothing more; its position stays behind."""
    stream = changes(begin("0", 1), commit("0", 1), heartbeat(1))
    before = stream.position
    for second in range(2, SILENT_SECONDS):
        stream.feed([heartbeat(second)])
        assert not stream.finished
    stream.feed([heartbeat(SILENT_SECONDS + 2)])
    assert stream.finished
    assert stream.position == before
    assert stream.behind == ["0"]


def test_silence_alone_is_no_end() -> None:
    """Heartbeats prove VTGate only."""
    stream = changes()
    for second in range(10 * SILENT_SECONDS):
        stream.feed([heartbeat(second)])
    assert not stream.finished


def test_a_shard_that_goes_on_is_not_silent() -> None:
    """Any event of it counts, and a VGTID takes back what a COMMIT without one has told."""
    stream = changes(begin("0", 1), commit("0", 1), heartbeat(1))
    for second in range(2, 5 * SILENT_SECONDS):
        stream.feed([begin("0", 1), heartbeat(second)])
    assert not stream.finished
    stream.feed([vgtid("0", {"0": 2}), commit("0", 1)])
    for second in range(5 * SILENT_SECONDS, 9 * SILENT_SECONDS):
        stream.feed([heartbeat(second)])
    assert not stream.finished


def test_the_reader_gives_out_what_came_before_a_passing_fault() -> None:
    """Over a real connection: the rows, then the call again from behind them, and no row twice."""
    copy = table_copy(floor=at(3, 4))
    whole, old = whole_copy(A, {A: 3, B: 0}), whole_copy(B, {A: 3, B: 1})
    first = [event.type for event in whole].index(binlogdata.COMMIT) + 1
    rest = [*whole[:3], *whole[first:], *whole_copy(B, {A: 3, B: 4})]
    calls = ([[*whole[:first], *old[:3]], old[3:]], [rest])
    served = [[VStreamResponse(events=events) for events in call] for call in calls]
    with replay(*served) as config, connect(config) as client:
        found = [item for items in read(client, copy, RetryOptions()) for item in items]
    assert numbers(found) == ["1", "2", "3", "4", "5", "1", "2", "3", "4", "5"]
    assert copy.finished
