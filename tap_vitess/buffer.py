"""Lines on their way to stdout: one buffer for all of them, so that order is kept.

sys.stdout is looked up at each flush, because the SDK's test runner puts another one there.

What surprised us: with PYTHONUNBUFFERED, sys.stdout.buffer is a raw file, and a signal that
comes while it waits for a full pipe makes it write a part and say so in its return value only.
"""

from __future__ import annotations

import select
import sys
import time

from tap_vitess.errors import TargetClosedError

FLUSH_BYTES = 1 << 16


class LineBuffer:
    """Holds lines back until there are enough of them. For one thread.

    waiting_since: the moment (monotonic) from which stdout has not taken `FLUSH_BYTES`; None while
    there is nothing to take. Other threads may look.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[bytes] = []
        self._size = 0
        self.ends_with_state = False
        self.waiting_since: float | None = None

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
                self.waiting_since = time.monotonic()
                written = sys.stdout.buffer.write(rest[:FLUSH_BYTES])
                if written is None:  # a raw file that does not block, and is full
                    select.select([], [sys.stdout.buffer], [])
                rest = rest[written or 0 :]
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise TargetClosedError("the target has closed the pipe: see its own log") from error
        finally:
            self.waiting_since = None
