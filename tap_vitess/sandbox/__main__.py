"""`tap-vitess-sandbox`, the console script, also as `python -m tap_vitess.sandbox`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tap_vitess.signals import importing
from tap_vitess.stdout import script


@script("tap-vitess-sandbox")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    with importing():
        from tap_vitess.sandbox.commands import run  # noqa: PLC0415
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
