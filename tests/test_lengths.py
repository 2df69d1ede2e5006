"""Lengths by the bytes they are packed in: those that protobuf reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError
from tap_vitess.vstream.columns import Images
from tap_vitess.vstream.lengths import Lengths, count

short = st.integers(-1, 63)
long = st.integers(64, 2**31 - 1)


def packed(lengths: list[int]) -> bytes:
    """Return what protobuf packs: behind the field's tag and size."""
    written = query.Row(lengths=lengths).SerializeToString()
    size = next((i for i in range(1, len(written)) if not written[i] & 0x80), len(written))
    return written[size + 1 :]


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Draw the lengths of some rows; with few long values, with many, and with none."""
    width = draw(st.integers(1, 5))
    kind = draw(st.sampled_from([short, long, short | long, st.integers(62, 65)]))
    lengths = draw(st.lists(kind, max_size=12 * width))
    return width, lengths[: len(lengths) // width * width]


@given(rows(), st.integers(0, 12), st.integers(0, 12))
def test_any_rows(drawn: tuple[int, list[int]], one: int, other: int) -> None:
    """Sizes and NULLs of any of the rows."""
    width, told = drawn
    lengths = Lengths(packed(told), width, "here")
    assert count(packed(told)) == len(lengths) == len(told)
    total = len(told) // width
    first, last = sorted((min(one, total), min(other, total)))
    part = lengths.rows(first, last)
    wanted = told[first * width : last * width]
    assert list(part.sizes) == [max(length, 0) for length in wanted]
    nulls = {row * width + index for index, places in part.nulls.items() for row in places}
    assert nulls == {place for place, length in enumerate(wanted) if length < 0}
    assert all(part.nulls.values())


@pytest.mark.parametrize("share", [0, 10])
@pytest.mark.parametrize(
    "wrong",
    [
        packed([-2]),
        packed([-65]),
        packed([-(2**40)]),
        b"\x80",
        b"\xff" * 11,
    ],
    ids=["-2", "-65", "-2^40", "cut short", "no varint"],
)
def test_what_is_no_length(wrong: bytes, share: int) -> None:
    """Among short ones and among long ones."""
    others = packed([1000] * share + [1] * (20 - share))
    with pytest.raises(ProtocolError, match="here: a length that is none"):
        Lengths(others + wrong, 1, "here")


@pytest.mark.parametrize("others", [[], [1000] * 9])
def test_more_than_any_message_holds(others: list[int]) -> None:
    """It is refused, if not before the values are looked at."""
    images = Images(packed([*others, 2**40]), b"x" * 10_000)
    with pytest.raises(ProtocolError, match="here: "):
        list(images.chunks(1, "here"))


@pytest.mark.parametrize(("lengths", "width"), [([1, 1, 1], 2), ([1], 0), ([100, 1, 200], 2)])
def test_no_whole_rows(lengths: list[int], width: int) -> None:
    """A value is missing, or there are no columns."""
    with pytest.raises(ProtocolError, match=f"here: .* are no rows of {width} columns"):
        Lengths(packed(lengths), width, "here")
