"""Which shards a set of shards covers, against a model that looks at single ids."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_vitess.protocol.keyranges import uncovered


@pytest.mark.parametrize(
    ("shards", "by", "left"),
    [
        (["-80", "80-"], ["-80", "80-"], []),
        (["-80", "80-"], ["-80"], ["80-"]),
        (["-80", "80-"], [], ["-80", "80-"]),
        (["-40", "40-80", "80-"], ["-80", "80-"], []),  # split
        (["-80"], ["-40", "40-80", "80-"], []),  # merged
        (["-60", "60-a0", "a0-"], ["-80", "80-"], []),
        (["-60", "60-a0", "a0-"], ["-80", "a0-"], ["60-a0"]),
        (["-80", "80-"], ["0"], []),  # an unsharded keyspace was sharded
        (["-80", "80-"], ["-"], []),
        (["0"], ["-80", "80-"], []),
        (["0"], ["-80"], ["0"]),
        (["-"], ["0"], []),
        (["8000-", "-80"], ["-8000", "80-"], []),  # numbers of different lengths
        (["-80", "80-80c0", "80c0-"], ["-80", "80-80c0"], ["80c0-"]),
        (["80c0-FF", "ff-"], ["80-"], []),
        (["all"], ["-7f", "80-"], ["all"]),  # a gap of one number
    ],
)
def test_examples(shards: list[str], by: list[str], left: list[str]) -> None:
    assert uncovered(shards, by) == left


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, range]:
    """Draw a shard's name, and the sixteenths of the keyspace that it holds."""
    first = draw(st.integers(0, 15))
    last = draw(st.integers(first + 1, 16))
    names = [
        "" if at % 16 == 0 else f"{at:x}0" + "00" * draw(st.integers(0, 2)) for at in (first, last)
    ]
    return "-".join(names), range(first, last)


@settings(max_examples=300, deadline=None)
@given(st.lists(ranges(), min_size=1, max_size=6), st.lists(ranges(), max_size=6))
def test_against_a_model(shards: list[tuple[str, range]], by: list[tuple[str, range]]) -> None:
    """A shard is covered when every sixteenth of it is in one of the others."""
    held = {at for _, sixteenths in by for at in sixteenths}
    left = sorted(name for name, sixteenths in shards if not held.issuperset(sixteenths))
    assert uncovered([name for name, _ in shards], [name for name, _ in by]) == left
