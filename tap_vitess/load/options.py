"""The command line of `tap-vitess-load`; it needs no dlt."""

from __future__ import annotations

import argparse

from tap_vitess.settings import config_option

NAME = "vitess"


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    made = argparse.ArgumentParser(
        prog="tap-vitess-load",
        parents=[config_option()],
        description="Copies tables of a Vitess into a dlt destination, then loads their changes up "
        "to now; the next run resumes from the state in the destination.",
        epilog="Exit codes: 0 everything is loaded, 1 an error, 2 a wrong command line, "
        "128 + n after signal n. dlt's telemetry is off.",
    )
    made.add_argument(
        "--to",
        required=True,
        metavar="ADDRESS",
        help="duckdb:///shop.duckdb, postgresql://user:password@host/database, "
        "or the name of any dlt destination, with its credentials in dlt's configuration",
    )
    made.add_argument("--dataset", default=NAME, help="the schema of the tables (vitess)")
    made.add_argument(
        "--name",
        default=NAME,
        help="the name of dlt's pipeline, under which the state is stored (vitess)",
    )
    made.add_argument(
        "--write",
        choices=["merge", "append"],
        default="merge",
        help="merge: one row per key (default); append: one row per change",
    )
    made.add_argument(
        "--table-names",
        default="{table}",
        metavar="TEMPLATE",
        help="what tables are called, with {keyspace} and {table}",
    )
    made.add_argument(
        "--columns",
        type=_columns,
        action="append",
        default=[],
        metavar="TABLE=NAME,...",
        help="read these columns of keyspace.table alone, and those of its key; repeatable",
    )
    made.add_argument("--table-format", choices=["delta", "iceberg"], help="table format for files")
    made.add_argument(
        "--every",
        type=_seconds,
        metavar="SECONDS",
        help="keep running, and load again every SECONDS",
    )
    made.add_argument(
        "--package-rows",
        type=_rows,
        default=2_000_000,
        help="rows after which a load package is full",
    )
    made.add_argument(
        "--package-seconds",
        type=_seconds,
        default=60.0,
        help="seconds of reading after which a load package is full",
    )
    return made


def _seconds(text: str) -> float:
    """Read a number of seconds; raises ArgumentTypeError: it is none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # NaN is not, either
        raise argparse.ArgumentTypeError("expected is a number of seconds, 0 or more")
    return seconds


def _rows(text: str) -> int:
    """Read a number of rows; raises ArgumentTypeError: it is none."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError("expected is a number of rows, 1 or more")
    return int(text)


def _columns(text: str) -> tuple[str, list[str]]:
    """Read a table and the names of its columns.

    Raises:
        ArgumentTypeError: it is none.
    """
    table, _, names = text.partition("=")
    columns = [name for name in names.split(",") if name]
    if not (table and columns):
        raise argparse.ArgumentTypeError("expected is, say, shop.orders=id,status")
    return table, columns
