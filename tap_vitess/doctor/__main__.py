"""`tap-vitess-doctor`, the console script."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tap_vitess.signals import importing
from tap_vitess.stdout import script


@script("tap-vitess-doctor")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    with importing():
        from tap_vitess.doctor.commands import run  # noqa: PLC0415
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
