"""The one buffer before stdout: order, flushes, and writes that are cut."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from singer_sdk.singerlib import RecordMessage, SchemaMessage, StateMessage

from tap_vitess.errors import TargetClosedError
from tap_vitess.singer.output import BufferedWriter
from tap_vitess.stdout import FLUSH_BYTES


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


@contextmanager
def raw_pipe(*, closed: bool = False) -> Iterator[RawPipe]:
    """Put a raw pipe in the place of stdout."""
    stdout, pipe = sys.stdout, RawPipe(closed=closed)
    sys.stdout = pipe
    try:
        yield pipe
    finally:
        sys.stdout = stdout


def test_cut_writes_lose_nothing() -> None:
    """A write that takes a part is followed by the rest, in order."""
    writer = BufferedWriter()
    with raw_pipe() as pipe:
        writer.write_line(b'{"raw":1}\n')
        writer.write_message(RecordMessage(stream="s", record={"a": 1}))
        assert pipe.written == b""
        assert not writer.ends_with_state
        writer.write_message(StateMessage({"b": 2}))
    assert writer.ends_with_state
    lines = pipe.written.decode().splitlines()
    assert [line[:9] for line in lines] == ['{"raw":1}', '{"type":"', '{"type":"']
    assert '"STATE"' in lines[2]


def test_flush_by_size() -> None:
    """Records go out when the buffer is full."""
    with raw_pipe() as pipe:
        BufferedWriter().write_line(b"x" * FLUSH_BYTES + b"\n")
    assert len(pipe.written) == FLUSH_BYTES + 1


def test_a_closed_pipe_is_an_error_of_ours() -> None:
    """And is raised once: what could not be written is forgotten."""
    writer = BufferedWriter()
    writer.write_line(b"x\n")
    with raw_pipe(closed=True):
        with pytest.raises(TargetClosedError):
            writer.flush()
        writer.flush()


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    """A raw file answers None where nothing could be written; nothing is lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = b"x" * 300_000 + b"\n"
    found: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as file:
            found.append(file.read())

    reader = threading.Timer(0.3, read)
    reader.start()
    stdout = sys.stdout
    with io.TextIOWrapper(io.FileIO(writing, "wb"), write_through=True) as raw:
        sys.stdout = raw
        try:
            writer = BufferedWriter()
            writer.write_line(data)
            writer.flush()
        finally:
            sys.stdout = stdout
    reader.join()
    assert found == [data]


@pytest.mark.parametrize("bookmarks", [None, ["at"]])
@pytest.mark.parametrize("key", [[], ["id"]])
def test_a_schema_is_written_as_the_sdk_does(key: list[str], bookmarks: list[str] | None) -> None:
    """Without its copy in depth."""
    message = SchemaMessage("s", {"properties": {"id": {"type": ["string"]}}}, key, bookmarks)
    assert json.loads(BufferedWriter().serialize_message(message)) == message.to_dict()


@pytest.mark.parametrize("value", [{}, {"bookmarks": {"vitess:ks": {"groups": [{"tables": []}]}}}])
def test_a_state_is_written_as_the_sdk_does(value: dict[str, Any]) -> None:
    """Without its copy in depth."""
    message = StateMessage(value)
    assert json.loads(BufferedWriter().serialize_message(message)) == message.to_dict()
