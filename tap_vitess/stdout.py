"""Lines on their way to stdout: one buffer for all of them, so that order is kept.

sys.stdout is looked up at each flush, because the SDK's test runner puts another one there.

What surprised us: with PYTHONUNBUFFERED, sys.stdout.buffer is a raw file, and a signal that
comes while it waits for a full pipe makes it write a part and say so in its return value only.

After a first signal a run goes on to its next boundary and tells a last STATE. Whoever sends that
signal may have ended the target as well, or have stopped reading (seen with Meltano, whose buffer
between the two was full): then the write that the run is in never comes back. Losing the last
STATE costs nothing but what comes again; hanging holds up the schedule.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable

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
        """Hand everything to stdout; raises TargetClosedError: nobody reads stdout any more."""
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


STUCK_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 2.0


def give_up_stdout() -> None:
    """Let what Python holds back for stdout raise, or wait, no more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_when_stuck(lines: LineBuffer, signum: int, tell: Callable[[str], object]) -> None:
    """End the process when stdout takes nothing for `STUCK_SECONDS` from now on.

    The signal is sent once more, so that what can be closed is; what waits all the same is left.

    Args:
        lines: what goes to stdout; its thread must end at a second signal.
        tell: told why; must not write to stdout.
    """
    threading.Thread(
        target=_watch, args=(lines, signum, tell, time.monotonic()), name="ending", daemon=True
    ).start()


def _watch(lines: LineBuffer, signum: int, tell: Callable[[str], object], begin: float) -> None:
    while True:
        time.sleep(_LOOK_SECONDS)
        since = lines.waiting_since
        if since is not None and time.monotonic() - max(since, begin) >= STUCK_SECONDS:
            break
    why = (
        f"ended by signal {signum}, without a last STATE: nobody has taken anything from stdout "
        f"for {STUCK_SECONDS:g} s; the next run goes on from the last state that the target told"
    )
    # Nobody may read stderr either.
    teller = threading.Thread(target=tell, args=(why,), daemon=True)
    teller.start()
    teller.join(_GRACE_SECONDS)
    give_up_stdout()
    os.kill(os.getpid(), signum)
    # Another thread may be the one that waits for the pipe.
    time.sleep(_GRACE_SECONDS)
    os._exit(128 + signum)
