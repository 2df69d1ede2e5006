"""The one buffer before stdout: order, flushes, and writes that are cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from singer_sdk.singerlib import RecordMessage, StateMessage

from tap_vitess.errors import TargetClosedError
from tap_vitess.output import FLUSH_BYTES, BufferedWriter


class RawPipe:
    """A raw file that takes at most a few bytes at once, as one that a signal interrupts."""

    def __init__(self, *, closed: bool = False) -> None:
        self.written = b""
        self.buffer = self
        self._closed = closed

    def write(self, data: memoryview) -> int:
        if self._closed:
            raise BrokenPipeError
        self.written += bytes(data[:7])
        return min(len(data), 7)

    def flush(self) -> None:
        pass


@pytest.fixture(params=[False, True], ids=["open", "closed"])
def pipe(request: pytest.FixtureRequest) -> Iterator[RawPipe]:
    """Put a raw pipe in the place of stdout."""
    stdout, pipe = sys.stdout, RawPipe(closed=request.param)
    sys.stdout = pipe  # type: ignore[assignment]
    yield pipe
    sys.stdout = stdout


@pytest.mark.parametrize("pipe", [False], indirect=True)
def test_cut_writes_lose_nothing(pipe: RawPipe) -> None:
    """A write that takes a part is followed by the rest, in order."""
    writer = BufferedWriter()
    writer.write_line(b'{"raw":1}\n')
    writer.write_message(RecordMessage(stream="s", record={"a": 1}))
    assert pipe.written == b""
    assert not writer.ends_with_state
    writer.write_message(StateMessage({"b": 2}))
    assert writer.ends_with_state
    lines = pipe.written.decode().splitlines()
    assert [line[:9] for line in lines] == ['{"raw":1}', '{"type":"', '{"type":"']
    assert '"STATE"' in lines[2]


@pytest.mark.parametrize("pipe", [False], indirect=True)
def test_flush_by_size(pipe: RawPipe) -> None:
    """Records go out when the buffer is full."""
    writer = BufferedWriter()
    writer.write_line(b"x" * FLUSH_BYTES + b"\n")
    assert len(pipe.written) == FLUSH_BYTES + 1


@pytest.mark.parametrize("pipe", [True], indirect=True)
def test_a_closed_pipe_is_an_error_of_ours(pipe: RawPipe) -> None:
    """And is raised once: what could not be written is forgotten."""
    writer = BufferedWriter()
    writer.write_line(b"x\n")
    with pytest.raises(TargetClosedError):
        writer.flush()
    writer.flush()
    assert pipe.written == b""
