"""`source-vitess`, the console script."""

from __future__ import annotations

import sys

from tap_vitess.signals import importing
from tap_vitess.stdout import script


@script("source-vitess")
def main() -> int:
    """Run the command line."""
    with importing():
        from tap_vitess.airbyte.commands import run  # noqa: PLC0415
        from tap_vitess.log import with_codes  # noqa: PLC0415
    with_codes()
    return run()


if __name__ == "__main__":
    sys.exit(main())
