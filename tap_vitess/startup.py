"""What both console scripts do while they import, which takes the better part of a second.

Signals end the script with 128 + signal until the run takes them over: at once, because Python
goes on after an exception in the middle of its import locks' callbacks. And garbage is not looked
for, because hundreds of modules are made and none is garbage.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    os._exit(128 + signum)


@contextmanager
def importing() -> Iterator[None]:
    """Import inside of this."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
