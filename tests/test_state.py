"""The state document: round trip, changes, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import KEYSPACE, gtid, lastpk

from tap_vitess.errors import StateError
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.state import COPIED, Group, KeyspaceState, ShardProgress, parse


def at(a: int, b: int) -> Vgtid:
    return Vgtid(
        KEYSPACE, {"-80": GtidSet.parse(gtid("-80", a)), "80-": GtidSet.parse(gtid("80-", b))}
    )


TABLES = [f"t{n}" for n in range(5)]
progress: st.SearchStrategy[ShardProgress] = st.one_of(
    st.none(), st.just(COPIED), st.integers(0, 99).map(lambda n: lastpk("t", str(n)).lastpk)
)


@st.composite
def states(draw: st.DrawFn) -> KeyspaceState:
    """Draw a state whose groups stand at different positions."""
    tables = draw(st.lists(st.sampled_from(TABLES), unique=True))
    places = [draw(st.integers(1, 3)) for _ in tables]
    groups = tuple(
        Group(
            at(place, place),
            {t: draw(st.integers(1, 9)) for t, p in zip(tables, places, strict=True) if p == place},
        )
        for place in sorted(set(places))
    )
    copies: dict[str, dict[str, ShardProgress]] = {
        table: {"-80": draw(progress), "80-": draw(progress)}
        for table in tables
        if draw(st.booleans())
    }
    properties = st.dictionaries(st.sampled_from("xy"), st.just({"type": ["string", "null"]}))
    altered = draw(st.dictionaries(st.sampled_from(TABLES), properties))
    return KeyspaceState(KEYSPACE, groups, copies, draw(st.integers(0, 2**62 - 1)), altered=altered)


@given(states())
def test_round_trip(state: KeyspaceState) -> None:
    """What is rendered is JSON, and parses to the same state."""
    assert parse(KEYSPACE, json.loads(json.dumps(state.render()))) == state


@given(states(), st.sets(st.sampled_from(TABLES)))
def test_split_moves_nobody(state: KeyspaceState, chosen: set[str]) -> None:
    """Splitting changes no table's position, and merging undoes it."""
    parted = state.split(chosen)
    for table in TABLES:
        before, after = state.group_of(table), parted.group_of(table)
        assert (before and before.position) == (after and after.position)
        assert parted.version(table) == state.version(table)
    assert all(g.tables.keys() <= chosen or not g.tables.keys() & chosen for g in parted.groups)
    assert {g.position.to_json(): g.tables for g in parted.merged().groups} == {
        g.position.to_json(): g.tables for g in state.groups
    }


@pytest.mark.parametrize("place", ["copies", "layouts", "altered", "vgtid"])
def test_texts_that_are_nested_too_deep(place: str) -> None:
    """In each of a bookmark's texts."""
    value = KeyspaceState(KEYSPACE, (Group(at(1, 1), {"a": 1}),)).render()
    (value["groups"][0] if place == "vgtid" else value)[place] = "[" * 100_000
    with pytest.raises(StateError, match="is broken"):
        parse(KEYSPACE, value)


def test_left_out_tables_keep_their_position() -> None:
    """Moving a group does not move the tables that are not in this run."""
    state = KeyspaceState(KEYSPACE, (Group(at(1, 1), {"a": 1, "b": 2}),)).split({"a"})
    moved = state.moved(frozenset({"a"}), at(5, 5))
    assert moved.position_of(frozenset({"a"})) == at(5, 5)
    assert moved.position_of(frozenset({"b"})) == at(1, 1)
    assert moved.moved(frozenset({"b"}), at(5, 5)).merged().groups == (
        Group(at(5, 5), {"a": 1, "b": 2}),
    )


def test_a_copy_from_begin_to_end() -> None:
    """A table is in the stream from the first row on, and copied only at the end."""
    state = KeyspaceState(KEYSPACE).joined("a", 7, at(1, 1), ["-80", "80-"], frozenset("a"))
    assert state.group_of("a") == Group(at(1, 1), {"a": 7})
    assert not state.is_copied("a")
    state = state.progressed("a", "-80", lastpk("a", "9").lastpk).progressed("a", "80-", COPIED)
    assert state.copies["a"]["80-"] is COPIED
    assert state.copied("a").is_copied("a")
    again = state.joined("a", 8, at(2, 2), ["-80", "80-"], frozenset("a"))
    assert again.groups == (Group(at(2, 2), {"a": 8}),)
    assert again.copies["a"] == {"-80": None, "80-": None}
    assert again.without("a") == KeyspaceState(KEYSPACE)


def test_a_table_joins_no_group_that_is_left_out() -> None:
    """It would not be streamed in this run; rendered, the groups of one position are one."""
    state = KeyspaceState(KEYSPACE, (Group(at(1, 1), {"a": 1}),))
    joined = state.joined("b", 2, at(1, 1), ["-80", "80-"], frozenset("b"))
    assert joined.position_of(frozenset("a")) == joined.position_of(frozenset("b"))
    assert len(joined.render()["groups"]) == 1


def test_a_new_copy_counts_nothing_of_the_old() -> None:
    """A table that was truncated is followed on, and no longer copied."""
    state = KeyspaceState(KEYSPACE, (Group(at(1, 1), {"a": 1}),))
    again = state.recopied("a")
    assert not again.is_copied("a")
    assert again.copies == {"a": {}}
    assert parse(KEYSPACE, again.render()) == again
    assert state.recopied("unknown") == state


GOOD: dict[str, Any] = (
    KeyspaceState(KEYSPACE, seq=1)
    .joined("a", 7, at(1, 1), ["-80"], frozenset("a"))
    .progressed("a", "-80", lastpk("a", "9").lastpk)
    .render()
)
GROUP = GOOD["groups"][0]


@pytest.mark.parametrize(
    "value",
    [
        "text",
        [],
        {},
        {**GOOD, "format": 2},
        {**GOOD, "format": "1"},
        {k: v for k, v in GOOD.items() if k != "groups"},
        {k: v for k, v in GOOD.items() if k != "seq"},
        {**GOOD, "seq": -1},
        {**GOOD, "seq": 2**62},
        {**GOOD, "groups": [{**GROUP, "versions": [2**62]}]},
        {**GOOD, "seq": True},
        {**GOOD, "groups": None},
        {**GOOD, "groups": [{**GROUP, "vgtid": "nonsense"}]},
        {**GOOD, "groups": [{**GROUP, "vgtid": GROUP["vgtid"].replace("shop", "shops")}]},
        {**GOOD, "groups": [{**GROUP, "vgtid": GROUP["vgtid"].replace("MySQL56", "MariaDB")}]},
        {**GOOD, "groups": [{**GROUP, "versions": []}]},
        {**GOOD, "groups": [{**GROUP, "tables": "a"}]},
        {**GOOD, "groups": [GROUP, GROUP]},
        {**GOOD, "groups": []},
        {**GOOD, "copies": "nonsense"},
        {**GOOD, "copies": '{"a": {"-80": "!"}}'},
        {**GOOD, "copies": '{"a": {"-80": "aGVsbG8="}}'},
        {**GOOD, "copies": '{"a": {"-80": false}}'},
        {**GOOD, "copies": '{"a": {"-80": ""}}'},
        {**GOOD, "copies": '{"b": {}}'},
        {**GOOD, "copies": "[]"},
        {**GOOD, "layouts": '{"a": 1}'},
        {**GOOD, "altered": "nonsense"},
        {**GOOD, "altered": "[]"},
        {**GOOD, "altered": '{"a": "x"}'},
        {**GOOD, "altered": '{"a": {"x": "text"}}'},
        {**GOOD, "altered": '{"a": {"x": {"type": 5}}}'},
        {**GOOD, "altered": '{"a": {"x": {"type": [null]}}}'},
        {**GOOD, "altered": '{"a": {"x": {"x-sql-datatype-properties": 3}}}'},
        {**GOOD, "altered": '{"a": {"x": {"x-sql-datatype-properties": {"scale": "3"}}}}'},
    ],
    ids=lambda value: str(value)[-60:],
)
def test_a_broken_state_is_refused(value: object) -> None:
    """Nothing is guessed from a broken bookmark, and the message names it."""
    assert parse(KEYSPACE, GOOD)
    with pytest.raises(StateError, match=f"vitess:{KEYSPACE}"):
        parse(KEYSPACE, value)
