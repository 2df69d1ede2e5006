"""Keys by which Vitess resumes a copy at the wrong place: such a copy starts over.

The sandbox reads ENUM and SET in the order of their numbers and resumes behind their text, as seen
on real clusters (`tests/cluster/test_key_order.py`, which tries every kind of key).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from support.events import (
    KEYSPACE,
    begin,
    commit,
    field,
    fields,
    lastpk,
    row,
    rows,
    vgtid,
)
from support.shops import SHARDS, served, shop, three_tables
from support.taps import ImpatientTap, QuickTap, Target, check, run
from support.taps import settings as tap_settings

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.config import Config
from tap_vitess.errors import (
    CopyCutError,
    RetriableError,
)
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.copy_keys import KeyPart, why_not_resumable
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.run.state import COPIED, bookmark_key, parse
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.tables import not_resumable

LABELS = ("z", "m", "a")
IDS = range(4)


@pytest.mark.parametrize(
    ("column_type", "why"),
    [
        ("enum('z','m','a')", "enum"),
        ("set('z','m')", "set"),
        ("float", "float"),
        ("float unsigned", "float"),
        ("double(10,2)", "double"),
        ("double", ""),
        ("bit(64)", "bit(64)"),
        ("bit(6)", ""),
        ("text", "a prefix"),
        ("mediumblob", "a prefix"),
        ("varchar(768)", ""),
        ("varbinary(16)", ""),
        ("bigint unsigned", ""),
        ("decimal(65,30)", ""),
        ("datetime(6)", ""),
        ("year", ""),
        ("ENUM", "enum"),  # before FIELD events had a column's whole type
    ],
)
def test_types_that_no_copy_is_resumed_by(column_type: str, why: str) -> None:
    """One part of the key is enough; the others are not named."""
    key = [KeyPart("id", "bigint"), KeyPart("k", column_type)]
    assert why_not_resumable(key) == (f"k ({why})" if why else "")


def test_keys_that_mysql_has_to_sort() -> None:
    """It compares 1024 bytes of a text then; numbers it sorts as well as the index does."""
    assert why_not_resumable([KeyPart("k", "varchar(2000)", prefix=True)]) == "k (a prefix)"
    descending = KeyPart("n", "int", descending=True)
    assert why_not_resumable([descending, KeyPart("id", "bigint")]) == ""
    assert why_not_resumable([descending, KeyPart("k", "char(9)")]) == (
        "k (together with a descending column)"
    )


def definition(kind: str = f"enum({','.join(map(repr, LABELS))})") -> Table:
    columns = (Column("kind", kind, nullable=False), Column("id", "bigint", nullable=False))
    return Table("e", (*columns, Column("v", "int")), ("kind", "id"), vindex=("id",))


def filled() -> Cluster:
    """Make a table whose key begins with an ENUM."""
    cluster = shop(definition())
    for label in LABELS:
        new = [{"kind": label.encode(), "id": b"%d" % i, "v": b"%d" % i} for i in IDS]
        cluster.insert("shop", "e", new)
    return cluster


pytestmark = served(filled, options=Options(copy_rows_per_packet=1))


def keys_in(target: Target) -> set[tuple[str, int]]:
    return {(row["kind"], row["id"]) for row in target.contents("shop-e")}


EVERYTHING = {(label, i) for label in LABELS for i in IDS}


@pytest.mark.slow
def test_a_copy_killed_after_any_line(sandbox: Sandbox) -> None:
    """The next run brings every row, wherever the first was killed."""
    config = tap_settings(sandbox)
    lines, ended = 0, False
    while not ended:
        lines += 1
        target = Target()
        ended = run(config, target, lines=lines)
        assert run(config, target)
        assert keys_in(target) == EVERYTHING, f"killed after {lines} lines"
    assert lines > len(EVERYTHING)


@pytest.mark.slow
@pytest.mark.parametrize("tap", [ImpatientTap, QuickTap], ids=["next run", "same run"])
def test_a_copy_cut_after_any_row(sandbox: Sandbox, tap: type[QuickTap]) -> None:
    """The copy starts over, in the same run or in the next, in a version of its own."""
    for cut in range(1, len(EVERYTHING) + 1):
        target = Target()
        sandbox.faults.append(Fault(cut_in_copy=cut))
        with suppress(RetriableError):
            run(tap_settings(sandbox), target, tap_class=tap)
        assert run(tap_settings(sandbox), target)
        assert keys_in(target) == EVERYTHING, f"cut after {cut} rows"
        versions = {message["version"] for message in target.messages if "version" in message}
        assert len(versions) == 2
        sandbox.faults.clear()


def test_a_state_of_old_with_a_lastpk(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """What it says of the copy is not used: it may have come from a wrong place already."""
    caplog.set_level("INFO")
    config, target = tap_settings(sandbox), Target()
    run(config, target, lines=8)
    bookmark = target.state["bookmarks"][bookmark_key("shop")]
    behind = query.QueryResult(
        fields=[query.Field(name="kind", type="ENUM"), query.Field(name="id", type="INT64")],
        rows=[query.Row(lengths=[1, 1], values=b"z1")],
    )
    state = parse("shop", bookmark).progressed("e", SHARDS[0], behind)
    target.states.append({"bookmarks": {bookmark_key("shop"): state.render()}})
    assert run(config, target)
    assert keys_in(target) == EVERYTHING
    assert not any(entry.table_p_ks for r in sandbox.requests for entry in r.vgtid.shard_gtids)
    assert "if this copy is interrupted, it starts over" in caplog.text
    assert "kind (enum)" in caplog.text


def begun(resumed: query.QueryResult | None = None) -> TableCopy:
    progress = {SHARDS[0]: resumed, SHARDS[1]: None}
    copy = TableCopy("e", progress, None, RequestOptions(), keyspace="shop", resumable=True)
    copy.request()
    return copy


def leg(shard: str, kind: str) -> list[binlogdata.VEvent]:
    """Begin a copy as VTGate does, and bring a row."""
    columns = field("id", kind, key=True), field("k1", key=True)
    where = dict.fromkeys(SHARDS, 1)
    return [
        begin(shard),
        fields(shard, "e", *columns),
        vgtid(shard, where),
        rows(shard, "e", (None, ["z", "1"])),
        vgtid(shard, where, {shard: lastpk("e", "z", "1")}),
        commit(shard),
    ]


@pytest.mark.parametrize("kind", ["enum('z','m','a')", "set('z','m','a')", "float", "text"])
def test_vtgate_resumes_such_a_copy_by_itself(kind: str) -> None:
    """It sends FIELD anew; between the rows of another shard, too, and from the same snapshot."""
    copy = begun()
    items = copy.feed([*leg(SHARDS[0], kind), *leg(SHARDS[1], kind)])
    assert [type(item).__name__ for item in items] == ["Rows", "Rows"]
    with pytest.raises(CopyCutError, match=r"cannot be resumed: id \("):
        copy.feed(leg(SHARDS[0], kind)[:2])


def test_a_lastpk_of_such_a_key_is_not_used() -> None:
    """The FIELD event tells, where nothing told before."""
    copy = begun(lastpk("e", "z", "1").lastpk)
    with pytest.raises(CopyCutError, match=r"cannot be resumed: id \(enum\)"):
        copy.feed(leg(SHARDS[0], "enum('z','m','a')")[:2])


def test_sql_finds_such_tables(sandbox: Sandbox) -> None:
    """A key of integers is none of them, whatever else the table has."""
    columns = (Column("id", "bigint", nullable=False), Column("kind", "enum('a')", nullable=False))
    plain = Table("plain", columns, primary_key=("id",), unique_keys=(("kind", "id"),))
    sandbox.cluster.create_table("shop", plain)
    survey = Survey(Config.from_settings(tap_settings(sandbox)), "shop", "PRIMARY")
    assert survey.ask(not_resumable) == {"e": "kind (enum)"}


def lastpk_of(name: str, kind: str, charset: int) -> query.QueryResult:
    return query.QueryResult(
        fields=[query.Field(name=name, type=kind, charset=charset)], rows=[row("5")]
    )


@pytest.mark.parametrize(
    "resumed",
    [
        lastpk_of("other", "INT64", 63),
        lastpk_of("id", "VARCHAR", 63),
        lastpk_of("id", "INT64", 8),
        query.QueryResult(
            fields=[query.Field(name=n, type="INT64", charset=63) for n in ("id", "other")],
            rows=[row("5", "6")],
        ),
    ],
    ids=["another column", "another type", "another charset", "another column more"],
)
def test_a_lastpk_of_another_key_is_not_used(resumed: query.QueryResult) -> None:
    """MySQL would go on behind the value in the order of today's key, and skip rows."""
    copy = TableCopy(
        "t", {"-80": resumed}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True
    )
    now = query.Field(name="id", type="INT64", charset=63, column_type="bigint", flags=3)
    other = query.Field(name="other", type="INT64", charset=63, column_type="bigint")
    with pytest.raises(CopyCutError, match="its key was altered"):
        copy.feed([begin("-80"), fields("-80", "t", now, other)])


@served(three_tables)
def test_a_copy_whose_key_was_altered_starts_again(sandbox: Sandbox) -> None:
    """With a new version; nothing of the table's rows is skipped."""
    config, target = tap_settings(sandbox), Target()
    run(config, target, lines=9)
    state = target.state
    begun = parse(KEYSPACE, state["bookmarks"]["vitess:shop"])
    [(table, shards)] = [(t, s) for t, s in begun.copies.items() if t != "empty"]
    wrong = {
        shard: lastpk_of("id", "VARCHAR", 255) if pk is not COPIED else pk
        for shard, pk in shards.items()
    }
    changed = replace(begun, copies={table: wrong})
    assert run(config, target, state={"bookmarks": {"vitess:shop": changed.render()}})
    check(sandbox, target)


def test_a_key_that_vitess_chooses_otherwise_is_not_resumed() -> None:
    """Two NOT NULL unique keys: MySQL flags the first, Vitess may go by the second."""
    copy = TableCopy("t", {"-80": None}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True)
    copy.request()
    flagged = query.Field(name="u", type="VARCHAR", charset=255, column_type="varchar(5)", flags=3)
    other = query.Field(name="i", type="INT64", charset=63, column_type="bigint", flags=1)
    pk = binlogdata.TableLastPK(table_name="t", lastpk=lastpk_of("i", "INT64", 63))
    items = copy.feed(
        [
            begin("-80"),
            fields("-80", "t", flagged, other),
            vgtid("-80", {"-80": 1}),
            rows("-80", "t", (None, ["a", "5"])),
            vgtid("-80", {"-80": 1}, {"-80": pk}),
            commit("-80"),
        ]
    )
    assert [type(item).__name__ for item in items] == ["Rows"]
    with pytest.raises(CopyCutError, match="cannot be resumed"):
        copy.request()


def test_a_keyless_table_with_a_users_key_is_not_resumed() -> None:
    """What the user says of a key does not make VTGate's rows unique."""
    copy = TableCopy("t", {"-80": None}, None, RequestOptions(), keyspace=KEYSPACE, resumable=True)
    copy.request()
    copy.feed(
        [
            begin("-80"),
            fields("-80", "t", field("id")),
            vgtid("-80", {"-80": 1}),
            rows("-80", "t", (None, ["1"])),
        ]
    )
    with pytest.raises(CopyCutError, match="cannot be resumed"):
        copy.request()
