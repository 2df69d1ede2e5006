"""SIGTERM, SIGINT and SIGHUP: while the console scripts import, and as a request to stop.

Importing takes most of a second. Until the run takes signals over, they end the script at once with
128 + signal, because Python swallows an exception in the callbacks of its import locks and
continues. Garbage collection is off meanwhile: importing makes hundreds of modules, and nothing to
collect.

A run treats a signal as a request to stop at its next boundary; a second one ends the process at
once. Afterwards the previous handlers are restored. Python handles signals only in the main thread,
so elsewhere there is nothing to take over.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Never, TypeVar

ItemT = TypeVar("ItemT")

# A SIGHUP that nohup ignores stays ignored.
SIGNALS = tuple(
    number
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
)


def end_by_signals(end: Callable[[int], Never] = sys.exit) -> None:
    """Make each of these signals end the process with 128 + signal."""
    for number in SIGNALS:
        signal.signal(number, lambda signum, _: end(128 + signum))


@contextmanager
def importing() -> Iterator[None]:
    """End the process by signals, and collect no garbage, during the imports inside the block."""
    end_by_signals(os._exit)
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@dataclass(slots=True)
class Taken:
    """The signal that has arrived, if any."""

    signum: int | None = None

    def came(self) -> bool:
        """Return whether a signal has arrived."""
        return self.signum is not None

    def take(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note the first signal; raises SystemExit at the second one."""
        if self.signum is not None:
            raise SystemExit(128 + signum)
        self.signum = signum

    def or_asked(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """Return a function that returns whether a signal has arrived, or `stop` says so."""
        return lambda: self.signum is not None or stop()

    @contextmanager
    def taking(self, *, wanted: bool) -> Iterator[None]:
        """Handle the signals inside the block, if that is wanted and possible."""
        with ExitStack() as stack:
            if wanted and threading.current_thread() is threading.main_thread():
                for number in SIGNALS:
                    before = signal.signal(number, self.take)
                    # None: the handler was not set from Python, and Python cannot restore it.
                    stack.callback(signal.signal, number, before or signal.SIG_DFL)
            yield

    def within(
        self, items: Generator[ItemT, None, None], *, wanted: bool
    ) -> Generator[ItemT, None, None]:
        """Yield the items, and handle the signals from the first item to the last."""
        with self.taking(wanted=wanted), closing(items):
            yield from items


@contextmanager
def taken_over(*, wanted: bool) -> Iterator[Taken]:
    """Handle the signals inside the block, if that is wanted and possible."""
    taken = Taken()
    with taken.taking(wanted=wanted):
        yield taken
