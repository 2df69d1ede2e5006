"""Responses received ahead: none is lost, moved or held too many of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import VEvent, copy_completed

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import RetriableError
from tap_vitess.vtgate.responses import AHEAD, BY_COLUMN, SMALL, Responses

sizes = st.sampled_from([0, 1, 300, SMALL - 1, SMALL, AHEAD // 3, AHEAD, 2 * AHEAD])


def filled(size: int, place: int) -> bytes:
    """Make a response that is unlike its neighbours."""
    return bytes([place % 251]) * size


class BrokenError(Exception):
    """What ends a call."""


class Call(Iterator[bytes]):
    """Gives responses and counts them; then it ends, or breaks."""

    def __init__(self, responses: list[bytes], *, broken: bool = False) -> None:
        self._rest = list(reversed(responses))
        self._broken = broken
        self.given = 0

    def __next__(self) -> bytes:
        if not self._rest:
            raise BrokenError if self._broken else StopIteration
        self.given += 1
        return self._rest.pop()


@given(st.lists(sizes, max_size=30), st.booleans())
def test_nothing_is_lost_or_moved(drawn: list[int], broken: bool) -> None:  # noqa: FBT001
    """Small ones are joined with their neighbours, others come as they are; then the error."""
    given_ = [filled(size, place) for place, size in enumerate(drawn)]
    responses = Responses(Call(given_, broken=broken), silence=10)
    found: list[Sequence[bytes]] = []
    if broken:
        with pytest.raises(BrokenError):
            found.extend(iter(responses))
    else:
        found.extend(responses)
    assert [response for some in found for response in some] == given_
    assert all(len(some) == 1 for some in found if any(len(one) >= SMALL for one in some))
    responses.leave()


def test_a_backlog_of_small_ones_is_joined() -> None:
    """Many at a time, whatever the thread's luck."""
    responses = Responses(Call([b"x" * 100] * 10_000), silence=10)
    found = list(responses)
    assert sum(map(len, found)) == 10_000
    assert len(found) < 2_000


def test_copied_rows_are_not_joined() -> None:
    """They are read by the response."""
    copied = vtgate.VStreamResponse(
        events=[VEvent(type=binlogdata.ROW, row_event=binlogdata.RowEvent(table_name="a.t"))]
    ).SerializeToString()
    assert all(some == [copied] for some in Responses(Call([copied] * 1000), silence=10))


@pytest.mark.parametrize("size", [1 << 10, 360_000, BY_COLUMN.joined - 1, BY_COLUMN.joined])
def test_for_kernels_all_are_joined(size: int) -> None:
    """Up to a size, whatever they hold; and they are waited for, for a moment."""
    copied = vtgate.VStreamResponse(
        events=[VEvent(type=binlogdata.ROW, row_event=binlogdata.RowEvent(table_name="a.t"))]
    ).SerializeToString()
    given_ = [copied + bytes(size - len(copied))] * (4 * BY_COLUMN.ahead // size)
    call = Call(given_)
    found: list[bytes] = []
    responses = Responses(call, silence=10, units=BY_COLUMN)
    for some in responses:
        found += some
        assert call.given - len(found) <= -(-BY_COLUMN.ahead // size)
        if size < BY_COLUMN.joined and len(found) < len(given_):
            assert len(some) > 1
        else:
            assert len(some) == 1 or size < BY_COLUMN.joined
    assert found == given_
    responses.leave()


class Silent(Call):
    """Gives responses, and then nothing, for as long as a test may take."""

    def __init__(self, responses: list[bytes]) -> None:
        super().__init__(responses)
        self.left = threading.Event()

    def __next__(self) -> bytes:
        if not self._rest:
            self.left.wait()
        return super().__next__()


@pytest.mark.parametrize(
    ("last", "pause"),
    [
        (copy_completed("-80"), 3600.0),
        (copy_completed(), 3600.0),
        (VEvent(type=binlogdata.HEARTBEAT), 0.01),
    ],
)
def test_what_ends_a_copy_or_a_backlog_is_not_held_back(last: VEvent, pause: float) -> None:
    """No more is waited for, though much has come and more was to be had."""
    rows = bytes(BY_COLUMN.enough // 2)
    end = vtgate.VStreamResponse(events=[last]).SerializeToString()
    call = Silent([rows, end])
    responses = Responses(call, 3600, replace(BY_COLUMN, moment=3600.0, pause=pause))
    found: list[bytes] = []
    while len(found) < 2:
        found += next(responses)
    assert found == [rows, end]
    call.left.set()
    responses.leave()


@pytest.mark.parametrize("size", [1 << 10, SMALL // 2, SMALL, AHEAD // 2, AHEAD, 3 * AHEAD])
def test_no_more_is_held_than_must_be(size: int) -> None:
    """What is worked on counts: no more is received while that is much, of large ones or small."""
    call = Call([b"x" * size] * (4 * AHEAD // size))
    responses = Responses(call, silence=10)
    most = max(-(-AHEAD // size), 1)
    taken = 0
    for response in responses:
        assert {*map(len, response)} == {size}
        assert len(response) == 1 or size < SMALL
        assert call.given - taken <= most  # these included
        taken += len(response)
    assert taken == call.given
    responses.leave()


def test_silence_is_a_fault() -> None:
    """However long the call would wait."""
    end = threading.Event()

    def call() -> Iterator[bytes]:
        yield b"one"
        end.wait(10)

    responses = Responses(call(), silence=0.05)
    assert next(responses) == [b"one"]
    with pytest.raises(RetriableError, match="not even a heartbeat"):
        next(responses)
    end.set()
    responses.leave()


def test_a_slow_reader_is_no_silence() -> None:
    """Only waiting counts."""
    responses = Responses(Call([b"x" * SMALL] * 3), silence=0.05)
    for response in responses:
        assert [*map(len, response)] == [SMALL]
        time.sleep(0.1)


def test_a_call_that_is_left_is_not_read_on() -> None:
    """The thread does not wait for a reader that is gone."""
    before = threading.active_count()
    call = Call([b"x" * AHEAD] * 5)
    responses = Responses(call, silence=10)
    next(responses)
    assert threading.active_count() == before + 1
    responses.leave()
    assert threading.active_count() == before
