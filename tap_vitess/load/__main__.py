"""`tap-vitess-load`, the console script.

dlt reads its settings from the environment when it is imported. This module sets defaults, which
the caller can override: no telemetry, no log lines for errors that we report ourselves, and signals
left to us.
"""

from __future__ import annotations

import os
import sys

from tap_vitess.signals import importing
from tap_vitess.stdout import script

DEFAULTS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


@script("tap-vitess-load")
def main() -> int:
    """Run the command line."""
    with importing():
        from tap_vitess.load.options import parser  # noqa: PLC0415
    options = parser().parse_args()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    with importing():
        from tap_vitess.log import with_codes  # noqa: PLC0415

        try:
            from tap_vitess.load.commands import run  # noqa: PLC0415
        except ImportError as error:
            sys.exit(
                f"tap-vitess-load: {error.name} is not installed: install tap-vitess "
                "with the extra dlt"
            )
    with_codes()
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
