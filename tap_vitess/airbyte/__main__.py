"""`source-vitess`, the console script."""

from __future__ import annotations

import sys

from tap_vitess.signals import importing


def main() -> None:
    """Run the command line."""
    with importing():
        from tap_vitess.airbyte.commands import run  # noqa: PLC0415
    sys.exit(run())


if __name__ == "__main__":
    main()
