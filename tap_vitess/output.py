"""Everything that goes to stdout, through one buffer, so that order is kept.

RECORD lines made elsewhere and the SDK's own messages share the buffer. It is flushed by size
and after every message that is no RECORD. sys.stdout is looked up at each flush, because the
SDK's test runner puts another one there.

What surprised us: with PYTHONUNBUFFERED, sys.stdout.buffer is a raw file, and a signal that
comes while it waits for a full pipe makes it write a part and say so in its return value only.
"""

from __future__ import annotations

import select
import sys
from typing import Any

from singer_sdk.singerlib import Message, RecordMessage, SchemaMessage, StateMessage
from singer_sdk.singerlib.encoding import GenericSingerWriter
from singer_sdk.singerlib.json import serialize_json

from tap_vitess.errors import TargetClosedError

FLUSH_BYTES = 1 << 16


class BufferedWriter(GenericSingerWriter[bytes, Message]):
    """The tap's message writer."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[bytes] = []
        self._size = 0
        self.ends_with_state = False

    def serialize_message(self, message: Message) -> bytes:
        return serialize_json(_fields(message)).encode() + b"\n"

    def write_message(self, message: Message) -> None:
        self.write_line(self.format_message(message))
        self.ends_with_state = isinstance(message, StateMessage)
        if not isinstance(message, RecordMessage):
            self.flush()

    def write_line(self, line: bytes) -> None:
        """Add a line that ends with a newline."""
        self.ends_with_state = False
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to stdout.

        Raises:
            TargetClosedError: nobody reads stdout any more.
        """
        rest = memoryview(b"".join(self._lines))
        self._lines.clear()
        self._size = 0
        try:
            while rest:
                written = sys.stdout.buffer.write(rest)
                if written is None:  # a raw file that does not block, and is full
                    select.select([], [sys.stdout.buffer], [])
                rest = rest[written or 0 :]
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise TargetClosedError("the target has closed the pipe: see its own log") from error


def _fields(message: Message) -> dict[str, Any]:
    """Return what a message says; `to_dict` copies a schema in depth, at 1 ms each."""
    if not isinstance(message, SchemaMessage) or message.bookmark_properties is not None:
        return message.to_dict()
    fields = {"type": message.type, "stream": message.stream, "schema": message.schema}
    return fields | {"key_properties": message.key_properties}
