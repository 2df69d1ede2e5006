"""The console script. It only sees to signals until the tap does, which imports for a second."""

from __future__ import annotations

import gc
import signal
from types import FrameType


def _end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise SystemExit(128 + signum)


def main() -> None:
    """Run the tap's command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    gc.disable()  # hundreds of modules are made, and none is garbage
    from tap_vitess.tap import main as run  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
