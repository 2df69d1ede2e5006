"""GTID sets behave as sets of transactions: Python's own sets are the oracle."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_vitess.errors import GtidError, ProtocolError
from tap_vitess.protocol.gtid import Goal, GtidSet

UUIDS = [f"{n:08x}-0000-11ee-8000-00000000000a" for n in range(3)]
Transactions = set[tuple[str, int]]

transactions = st.sets(st.tuples(st.sampled_from(UUIDS), st.integers(1, 30)), max_size=40)


def text_of(found: Transactions) -> str:
    """Write a set in the clumsiest way: every transaction by itself."""
    return ",\n".join(f"{uuid.upper()}:{number}" for uuid, number in sorted(found))


def listed(gtids: GtidSet) -> Transactions:
    """Take a set apart."""
    return {
        (uuid, number)
        for uuid, intervals in gtids.intervals.items()
        for first, last in intervals
        for number in range(first, last + 1)
    }


@given(transactions)
def test_round_trip(found: Transactions) -> None:
    """What is written is read as the same set, with VStream's prefix."""
    gtids = GtidSet.parse(text_of(found))
    assert listed(gtids) == found
    assert GtidSet.parse(str(gtids)) == gtids
    assert str(gtids).startswith("MySQL56/")


@given(transactions, transactions)
def test_contains_and_intersection(left: Transactions, right: Transactions) -> None:
    """Containment and intersection are those of sets."""
    a, b = GtidSet.parse(text_of(left)), GtidSet.parse(text_of(right))
    assert a.contains(b) == (left >= right)
    assert listed(a.intersection(b)) == left & right


@given(
    transactions,
    transactions,
    st.lists(st.tuples(st.sampled_from(UUIDS), st.integers(1, 35)), max_size=30),
    st.booleans(),
)
def test_a_goal_is_contained_or_not(
    wanted: Transactions,
    start: Transactions,
    steps: list[tuple[str, int]],
    clumsy: bool,  # noqa: FBT001
) -> None:
    """Whatever comes one after another: sets that grow at an end, or elsewhere, or anew."""
    goal = Goal(GtidSet.parse(text_of(wanted)))
    found = set(start)
    for uuid, number in [("", 0), *steps]:
        if number > 30:  # the next one of this server
            numbers = [n for u, n in found if u == uuid]
            number = max(numbers, default=0) + 1  # noqa: PLW2901
        found |= {(uuid, number)} if uuid else set()
        text = text_of(found)
        text = text if clumsy else str(GtidSet.parse(text))
        assert goal.reached(text) == (found >= wanted), (text, wanted)


def test_a_goal_needs_no_parsing_while_a_set_grows() -> None:
    """What parsing would refuse shows that it was not done."""
    goal = Goal(GtidSet.parse(f"{UUIDS[0]}:1-7"))
    text = f"MySQL56/{UUIDS[0]}:1-"
    assert [goal.reached(f"{text}{last}") for last in (5, 6, 0, 7, 8)] == [
        *(False, False, False, True, True)
    ]


@given(transactions)
def test_intervals_are_normal(found: Transactions) -> None:
    """Intervals are sorted, apart and not adjacent, so that equal sets are equal values."""
    for intervals in GtidSet.parse(text_of(found)).intervals.values():
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(intervals))


@pytest.mark.parametrize(
    "text",
    [
        "MariaDB/0-1-2",
        "current",
        f"{UUIDS[0]}:1-5:1x",
        f"{UUIDS[0]}:5-1",
        f"{UUIDS[0]}:0",
        f"{UUIDS[0]}:",
        UUIDS[0],
    ],
)
def test_what_is_no_gtid_set_is_refused(text: str) -> None:
    """Nothing is guessed from other flavors or broken text."""
    with pytest.raises(ProtocolError):
        GtidSet.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FilePos/binlog.1:4", "gtid_mode=ON"),
        (f"{UUIDS[0]}:tag:1-5", "tagged GTIDs"),
        (f"MySQL56/{UUIDS[1]}:1-3,{UUIDS[0]}:1-7:_t2:1:x:2-3", "tagged GTIDs"),
    ],
)
def test_positions_that_vitess_cannot_follow(text: str, words: str) -> None:
    """The sentence says whose position it is, and what to do."""
    with pytest.raises(GtidError, match=f"^ks/-80: .*{words}"):
        GtidSet.parse(text, "ks/-80")


def test_form_of_show_gtid_executed() -> None:
    """SHOW GLOBAL GTID_EXECUTED has no prefix and newlines after commas."""
    text = f"{UUIDS[0]}:1-5:7-9,\n{UUIDS[1]}:1"
    assert GtidSet.parse(text) == GtidSet.parse("MySQL56/" + text.replace("\n", ""))
