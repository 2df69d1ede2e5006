"""Lines on their way to stdout: one buffer for all of them, so that order is kept.

sys.stdout is looked up at each flush, because the SDK's test runner replaces it.

What surprised us: with PYTHONUNBUFFERED, sys.stdout.buffer is a raw file. If a signal arrives while
it waits for a full pipe, it writes only a part, and says so only in its return value.

After a first signal a run continues to its next boundary and writes a last STATE. The sender of
that signal may have ended the target as well, or have stopped reading (seen with Meltano, when its
buffer between the two was full). Then the run's current write never returns. Losing the last STATE
only means that some rows come again; hanging would hold up the schedule.

If stdout cannot be written to (a full disk, a file at its size limit, a pipe that nobody reads),
the run ends with one sentence (`written`, `script`). What cannot be written to stderr is lost, and
ends nothing. If a shell has closed one of the two, the next file or connection to be opened would
get its number, so /dev/null is opened there first.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec

from tap_vitess.errors import TargetClosedError

P = ParamSpec("P")

FLUSH_BYTES = 1 << 16
LARGE = 1 << 20


class LineBuffer:
    """Buffers lines until there are enough of them. For one thread.

    waiting_since: since when (monotonic) the present write to stdout has been waiting; None if
    there is none. Other threads may read it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[bytes] = []
        self._size = 0
        self.ends_with_state = False
        self.waiting_since: float | None = None

    def write_line(self, line: bytes) -> None:
        """Add a line that ends with a newline, or a part of one."""
        self.ends_with_state = False
        if len(line) > LARGE:  # not joined with others, which would copy it
            self.flush()
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
            with written():
                while rest:
                    self.waiting_since = time.monotonic()
                    taken = sys.stdout.buffer.write(rest[:FLUSH_BYTES])
                    if taken is None:  # a raw, non-blocking file that is full
                        select.select([], [sys.stdout.buffer], [])
                    rest = rest[taken or 0 :]
        finally:
            self.waiting_since = None


_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


@contextmanager
def written() -> Iterator[None]:
    """Flush stdout at the end of the block, and report its errors.

    Raises:
        TargetClosedError: nobody reads stdout any more, or it cannot be written to.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise TargetClosedError("the target has closed the pipe: see its own log") from error
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        raise TargetClosedError(
            f"stdout cannot be written to ({error.strerror}): what was not written comes again in "
            "the next run"
        ) from error


def script(name: str) -> Callable[[Callable[P, int | None]], Callable[P, int]]:
    """Make a console script's main function end with one sentence if stdout cannot be used.

    Args:
        name: the script's, which begins the sentence.
    """

    def wrap(main: Callable[P, int | None]) -> Callable[P, int]:
        @functools.wraps(main)
        def whole(*args: P.args, **kwargs: P.kwargs) -> int:
            _take_numbers()
            try:
                return _ended(main, *args, **kwargs)
            except TargetClosedError as error:
                give_up_stdout()
                with suppress(OSError):
                    sys.stderr.write(f"{name}: {error.coded()}\n")
                return 1
            finally:
                _give_up_stderr()

        return whole

    return wrap


def _ended(main: Callable[P, int | None], *args: P.args, **kwargs: P.kwargs) -> int:
    if sys.stdout is None:
        raise TargetClosedError("stdout is closed: redirect it into a file, or into a target")
    with written():
        try:
            return main(*args, **kwargs) or 0
        except SystemExit as end:  # of argparse and click
            if isinstance(end.code, str):
                raise
            return int(end.code or 0)


def _take_numbers() -> None:
    """Open /dev/null in place of closed standard files; sys.stderr uses it, too."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # noqa: FBT003
    os.close(number)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


def _give_up_stderr() -> None:
    """Drop what stderr has not accepted: Python would end with exit code 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


STUCK_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 2.0


def give_up_stdout() -> None:
    """Drop what Python has buffered for stdout, so that it neither raises nor waits at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_when_stuck(lines: LineBuffer, signum: int, tell: Callable[[str], object]) -> None:
    """End the process once stdout accepts nothing for `STUCK_SECONDS` from now on.

    It sends the signal once more, so that everything that can be closed is, and then exits.

    Args:
        lines: the buffer of stdout; its thread must end at a second signal.
        tell: called with the reason; must not write to stdout.
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
        f"for {STUCK_SECONDS:g} s; the next run resumes from the last state that the target printed"
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
