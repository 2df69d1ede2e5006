"""`source-vitess`, the console script."""

from __future__ import annotations

import gc
import signal
import sys
from types import FrameType


def _end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise SystemExit(128 + signum)


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    gc.disable()  # hundreds of modules are made, and none is garbage
    from tap_vitess.airbyte.commands import run  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    sys.exit(run())


if __name__ == "__main__":
    main()
