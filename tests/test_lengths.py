"""Lengths by the bytes they are packed in: those that protobuf reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import read_images

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.lengths import Lengths, count

short = st.integers(-1, 63)


def packed(lengths: list[int]) -> bytes:
    """Return what protobuf packs: behind the field's tag and size."""
    written = query.Row(lengths=lengths).SerializeToString()
    size = next((i for i in range(1, len(written)) if not written[i] & 0x80), len(written))
    return written[size + 1 :]


def content(lengths: list[int]) -> list[bytes]:
    """Make values of these lengths that are unlike each other; of the longest, a part."""
    return [(b"%d " % place * length)[: max(length, 0)] for place, length in enumerate(lengths)]


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """Draw the lengths of some rows, and columns: few long values, many, of any size, and none."""
    width = draw(st.integers(1, 5))
    long = st.sampled_from([64, 8191, 8192, 100_000, 2**20]) | st.integers(64, 10_000)
    kind = draw(st.sampled_from([short, long, short | long, st.integers(62, 65)]))
    lengths = draw(st.lists(kind, max_size=12 * width))
    if draw(st.booleans()):
        lengths += draw(st.lists(short, min_size=40, max_size=40))
    columns = draw(st.sets(st.integers(0, width - 1)))
    return width, lengths[: len(lengths) // width * width], sorted(columns)


@given(rows(), st.integers(0, 50))
def test_any_rows(drawn: tuple[int, list[int], list[int]], split: int) -> None:
    """Values and NULLs of any columns, the rows cut in two parts."""
    width, told, columns = drawn
    lengths = Lengths(packed(told), width, "here")
    assert count(packed(told)) == len(lengths) == len(told)
    values = content(told)
    joined = b"".join(values)
    total = len(told) // width
    middle = min(split, total)
    end = 0
    for first, last in ((0, middle), (middle, total)):
        part = lengths.cut(joined, end, first, last, columns)
        end = part.end
        for index in columns:
            place = slice(first * width + index, last * width, width)
            assert list(part.values[index]) == values[place]
            nulls = [row for row, length in enumerate(told[place]) if length < 0]
            assert list(part.nulls.get(index, ())) == nulls
        assert part.values.keys() == set(columns) >= part.nulls.keys()
        assert all(part.nulls.values())
    assert end == len(joined)


@pytest.mark.parametrize("long", [0, 1, 30])
def test_fewer_bytes_than_the_lengths_say(long: int) -> None:
    """Whichever way they are cut."""
    told = [10_000] * long + [3] * 30
    lengths = Lengths(packed(told), 1, "here")
    joined = b"".join(content(told))
    assert lengths.cut(joined, 0, 0, len(told), [0]).end == len(joined)
    with pytest.raises(ProtocolError, match="here: a row has fewer bytes than its values"):
        lengths.cut(joined[:-1], 0, 0, len(told), [0])


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
    with pytest.raises(ProtocolError, match="here: an invalid length"):
        Lengths(others + wrong, 1, "here")


@pytest.mark.parametrize("varint", [b"\x80\x00", b"\x82\x00", b"\x86\x80\x00"])
def test_varints_that_are_longer_than_they_must_be(varint: bytes) -> None:
    """Nobody writes them, and protobuf reads them."""
    told = list(query.Row.FromString(b"\x0a" + bytes([len(varint)]) + varint).lengths)
    lengths = Lengths(varint + packed([1] * 40), 1, "here")
    part = lengths.cut(b"abcd"[: told[0]] + b"x" * 40, 0, 0, 41, [0])
    assert list(part.values[0]) == [b"abcd"[: told[0]], *[b"x"] * 40]


@pytest.mark.parametrize("others", [[], [1000] * 9])
def test_more_than_any_message_holds(others: list[int]) -> None:
    """It is refused, if not before the values are looked at."""
    images = read_images(query.Row(lengths=[*others, 2**40], values=b"x" * 10_000))
    with pytest.raises(ProtocolError, match="here: "):
        list(images.chunks(len(others) + 1, "here", [0]))
