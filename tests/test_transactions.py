"""Rows of small transactions by table: what must stay, stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import VEvent, begin, commit, ddl, field, fields, gtid, rows, vgtid

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.protocol.changes import ChangeStream, by_table
from tap_vitess.protocol.columns import EncodedChanges
from tap_vitess.protocol.copy import by_shard
from tap_vitess.protocol.decode import decode
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import (
    Boundary,
    ChangeItem,
    CopyItem,
    CopyProgress,
    Fields,
    Rows,
    ShardCopied,
)
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid

A, B = "-80", "80-"
# A transaction: its shard and second, and changes, each a table and an operation.
Drawn = tuple[str, int, list[tuple[str, str]]]
drawn = st.tuples(
    st.sampled_from([A, B]),
    st.integers(100, 101),
    st.lists(
        st.tuples(st.sampled_from(["t", "u"]), st.sampled_from(["insert", "update", "delete"])),
        max_size=3,
    ),
)


def events_of(transactions: list[Drawn]) -> list[list[VEvent]]:
    """Write the transactions as VTGate does, each of them a response."""
    told = [[fields(shard, table, field("id", key=True)) for table in "tu"] for shard in (A, B)]
    positions = {A: 1, B: 1}
    for number, (shard, second, changes) in enumerate(transactions):
        positions[shard] += 1
        images = {"insert": (None, [str(number)]), "delete": ([str(number)], None)}
        same = [str(number)], [str(number)]
        told.append(
            [
                begin(shard, second),
                *(rows(shard, table, images.get(op, same), at=second) for table, op in changes),
                vgtid(shard, dict(positions)),
                commit(shard, second),
            ]
        )
    return told


def items_of(responses: list[list[VEvent]]) -> list[ChangeItem]:
    """Read responses that came as one."""
    start = Vgtid("shop", {shard: GtidSet.parse(gtid(shard, 1)) for shard in (A, B)})
    stop = Vgtid("shop", {shard: GtidSet.parse(gtid(shard, 1000)) for shard in (A, B)})
    joined = b"".join(
        vtgate.VStreamResponse(events=events).SerializeToString() for events in responses
    )
    return ChangeStream(["t", "u"], start, stop, RequestOptions()).feed(decode(joined))


def told(items: Sequence[ChangeItem]) -> dict[tuple[str, str], list[tuple[bytes, int]]]:
    """Give each table's changes of each shard, in order, with their seconds."""
    found: dict[tuple[str, str], list[tuple[bytes, int]]] = defaultdict(list)
    for item in items:
        for rows_ in (item, *item.others) if isinstance(item, Rows) else ():
            found[rows_.fields.table, rows_.fields.shard] += [
                (change.SerializeToString(), rows_.commit_time) for change in rows_.changes
            ]
    return found


@pytest.mark.parametrize("mixed", [False, True])
@given(transactions=st.lists(drawn, max_size=20))
def test_each_tables_rows_keep_their_order(transactions: list[Drawn], *, mixed: bool) -> None:
    """With their kinds and times, and the boundary behind them all is the last one."""
    items = items_of(events_of(transactions))
    found = by_table(items, mixed=mixed)
    assert told(found) == told(items)
    boundaries = [item for item in items if isinstance(item, Boundary)]
    assert [item for item in found if isinstance(item, Boundary)] == boundaries[-1:]
    if boundaries:
        assert found[-1] == boundaries[-1]


def test_rows_of_one_kind_come_at_once() -> None:
    """In as many pieces as there are tables, shards, kinds in a row, and seconds."""
    one: list[Drawn] = [(A, 100, [("t", "insert"), ("u", "insert")])] * 50
    more: list[Drawn] = [(A, 100, [("t", "delete")])] * 9 + [(B, 101, [("t", "delete")])] * 9
    items = items_of(events_of([*one, *more]))
    assert len(items) == 50 * 3 + 18 * 2
    found = by_table(items)
    sizes = [(i.fields.table, len(i.changes)) for i in found if isinstance(i, Rows)]
    assert sizes == [("t", 50), ("u", 50), ("t", 9), ("t", 9)]
    assert all(isinstance(i.changes, EncodedChanges) for i in found if isinstance(i, Rows))


def test_rows_of_all_kinds_come_at_once() -> None:
    """Where that is asked for: one piece a table and shard, and one more behind the boundary."""
    *whole, last = events_of([(A, 100, [("t", "insert"), ("u", "insert"), ("t", "delete")])] * 9)
    found = by_table(items_of([*whole, last[:2]]), mixed=True)
    sizes = [
        (item.fields.table, [len(part.changes) for part in (item, *item.others)])
        for item in found
        if isinstance(item, Rows)
    ]
    assert sizes == [("t", [1, 1] * 8), ("u", [8]), ("t", [1])]


@pytest.mark.parametrize("statement", ["truncate table t", "alter table t add column x int"])
def test_nothing_passes_a_ddl(statement: str) -> None:
    """What a TRUNCATE takes away must not come behind it, nor what follows before it."""
    altered = [vgtid(A, {A: 9, B: 1}), ddl(A, statement)]
    before, after = (events_of([(A, 100, [("t", "insert")])] * 2) for _ in range(2))
    items = items_of([*before, altered, *after[2:]])
    assert any(item.replaced or item.altered for item in items if isinstance(item, Boundary))
    assert by_table(items) is by_table(items, mixed=True) is items


def test_rows_of_other_columns_are_not_joined() -> None:
    """A FIELD event in between says what the rows behind it look like."""
    one, two = (events_of([(A, 100, [("t", "insert")])] * 3) for _ in range(2))
    items = items_of([*one, *two])
    for mixed in (False, True):
        found = [item for item in by_table(items, mixed=mixed) if isinstance(item, Rows)]
        assert [len(rows_.changes) for rows_ in found] == [3, 3]
        assert found[0].fields is not found[1].fields


def test_rows_behind_the_last_boundary_stay_behind_it() -> None:
    """A transaction that has not ended is no part of what ends there."""
    *whole, last = events_of([(A, 100, [("t", "insert")])] * 5)
    found = by_table(items_of([*whole, last[:2]]))
    assert [len(item.changes) if isinstance(item, Rows) else 0 for item in found] == [4, 0, 1]


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.sampled_from(["rows", "lastpk", "leg"]))))
def test_a_copys_responses_come_at_once(drawn: list[tuple[str, str]]) -> None:
    """Each shard's rows in order and by their FIELD; then how far they come, and that it is all."""
    fields_of = {shard: Fields("t", shard, (), copying=True) for shard in (A, B)}
    items: list[CopyItem] = []
    for number, (shard, what) in enumerate(drawn):
        if what == "rows":
            change = binlogdata.RowChange(after=packed([b"%d" % number]))
            items.append(Rows(fields_of[shard], [change], 0))
        elif what == "lastpk":
            items.append(CopyProgress("t", shard, query.QueryResult(insert_id=number)))
        else:
            fields_of[shard] = Fields("t", shard, (), copying=True)
    items.append(ShardCopied("t", A))
    found = by_shard(items)
    for shard in (A, B):
        for fields_ in {item.fields for item in items if isinstance(item, Rows)}:
            given_ = [i for i in items if isinstance(i, Rows) and i.fields is fields_]
            joined = [i for i in found if isinstance(i, Rows) and i.fields is fields_]
            assert [i.changes for i in given_] == [
                part.changes for i in joined for part in (i, *i.others)
            ]
            assert len(joined) == 1
        lastpks = [i for i in items if isinstance(i, CopyProgress) and i.shard == shard]
        told_ = [i for i in found if isinstance(i, CopyProgress) and i.shard == shard]
        assert told_ == lastpks[-1:]
    places = [isinstance(item, Rows) for item in found]
    assert places == sorted(places, reverse=True)
    assert [i for i in found if isinstance(i, ShardCopied)] == [ShardCopied("t", A)]
