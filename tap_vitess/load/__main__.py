"""`tap-vitess-load`, the console script.

dlt reads its own settings from the environment when it is imported. Those here can be set otherwise
by who calls: no telemetry, silence about what errors of ours tell, signals for us alone.
"""

from __future__ import annotations

import argparse
import os
import sys

from tap_vitess.log import with_codes
from tap_vitess.settings import config_option
from tap_vitess.signals import importing
from tap_vitess.stdout import script

DEFAULTS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


NAME = "vitess"


@script("tap-vitess-load")
def main() -> int:
    """Run the command line."""
    options = parser().parse_args()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    with importing():
        try:
            from tap_vitess.load.commands import run  # noqa: PLC0415
        except ImportError as error:
            sys.exit(f"tap-vitess-load: {error.name} is not installed: install tap-vitess[dlt]")
    with_codes()
    return run(options)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="tap-vitess-load",
        parents=[config_option()],
        description="Copies tables of a Vitess into a destination of dlt's and follows them to "
        "now; the next run resumes from the state in the destination.",
        epilog="Exit code: 0 all is there, 1 an error, 2 a wrong command line, 128 + n after "
        "signal n. It sends no telemetry of dlt's.",
    )
    made.add_argument(
        "--to",
        required=True,
        metavar="ADDRESS",
        help="duckdb:///shop.duckdb, postgresql://user:password@host/database, "
        "or the name of any destination of dlt's, whose credentials dlt's configuration has",
    )
    made.add_argument("--dataset", default=NAME, help="the schema of the tables there (vitess)")
    made.add_argument("--name", default=NAME, help="of the pipeline, for its state (vitess)")
    made.add_argument(
        "--write",
        choices=["merge", "append"],
        default="merge",
        help="merge: a row a key; append: a row a change",
    )
    made.add_argument(
        "--table-names",
        default="{table}",
        metavar="TEMPLATE",
        help="how tables are called, of {keyspace} and {table}",
    )
    made.add_argument("--table-format", choices=["delta", "iceberg"], help="of files")
    made.add_argument("--every", type=float, metavar="SECONDS", help="stay, and load so often")
    made.add_argument(
        "--package-rows", type=int, default=2_000_000, help="rows that make a load package full"
    )
    made.add_argument("--package-seconds", type=float, default=60.0, help="seconds that do")
    return made


if __name__ == "__main__":
    sys.exit(main())
