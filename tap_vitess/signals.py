"""SIGTERM, SIGINT and SIGHUP: while the console scripts import, and as an order to stop.

Importing takes the better part of a second. Signals end the script with 128 + signal until the run
takes them over: at once, because Python goes on after an exception in the middle of its import
locks' callbacks. And garbage is not looked for, because hundreds of modules are made and none is
garbage.

A run takes them as an order to stop at its next boundary; a second one ends the process at once.
Then the handlers of before are put back. Python takes signals in the main thread only, so elsewhere
there is nothing to take over.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Never

# What nohup has ignored stays ignored.
SIGNALS = tuple(
    number
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)


def end_by_signals(end: Callable[[int], Never] = sys.exit) -> None:
    """Let any of them end the process with 128 + signal."""
    for number in SIGNALS:
        signal.signal(number, lambda signum, _: end(128 + signum))


@contextmanager
def importing() -> Iterator[None]:
    """Import inside of this."""
    end_by_signals(os._exit)
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@dataclass(slots=True)
class Taken:
    """The signal that has come, if one has."""

    signum: int | None = None

    def came(self) -> bool:
        """Tell whether one has."""
        return self.signum is not None

    def take(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note the first signal; end at the second; raises SystemExit: it is the second one."""
        if self.signum is not None:
            raise SystemExit(128 + signum)
        self.signum = signum


@contextmanager
def taken_over(*, wanted: bool) -> Iterator[Taken]:
    """Take the signals over inside the block, where that is wanted and can be."""
    taken = Taken()
    with ExitStack() as stack:
        if wanted and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.signal(number, taken.take)
                # None: it was not set from Python, and cannot be put back from there.
                stack.callback(signal.signal, number, before or signal.SIG_DFL)
        yield taken
