"""How a run that was told to end does end when nobody takes its lines any more.

After a first signal a run goes on to its next boundary and tells a last STATE. Whoever sends that
signal may have ended the target as well, or have stopped reading (seen with Meltano, whose buffer
between the two was full): then the write that the run is in never comes back. Losing the last
STATE costs nothing but what comes again; hanging holds up the schedule.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from tap_vitess.buffer import LineBuffer

STUCK_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 2.0


def end_when_stuck(lines: LineBuffer, signum: int, tell: Callable[[str], object]) -> None:
    """End the process when stdout takes nothing for `STUCK_SECONDS` from now on.

    The signal is sent once more, so that what can be closed is; what waits all the same is left.

    Args:
        lines: what goes to stdout; its thread must end at a second signal.
        signum: the signal.
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
    # Python would wait for the same pipe once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os.kill(os.getpid(), signum)
    # Another thread may be the one that waits for the pipe.
    time.sleep(_GRACE_SECONDS)
    os._exit(128 + signum)
