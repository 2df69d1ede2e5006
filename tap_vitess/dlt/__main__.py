"""`tap-vitess-load`, the console script.

dlt reads its own settings from the environment when it is imported. Those here can be set otherwise
by who calls: no telemetry, silence about what errors of ours tell, signals for us alone.
"""

from __future__ import annotations

import os
import sys

from tap_vitess.signals import importing

DEFAULTS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


def main() -> None:
    """Run the command line."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    with importing():
        from tap_vitess.dlt.commands import run  # noqa: PLC0415
    sys.exit(run())


if __name__ == "__main__":
    main()
