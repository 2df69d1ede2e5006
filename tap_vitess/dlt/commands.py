"""`tap-vitess-load`: from the settings of a tap into a destination, to where Vitess is now.

The state is in the destination alone. The working folder of dlt is emptied at each start, so what
a run that was killed has left there is never loaded: it is read again, from the position of what
the destination has. One run at a time has the folder of a destination.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dlt

from tap_vitess.config import config_option, read_config
from tap_vitess.dlt.destinations import destination_of, name_of
from tap_vitess.dlt.failures import EXPECTED, sentence_of
from tap_vitess.dlt.feed import Limits
from tap_vitess.dlt.loading import PACKAGES, load_config
from tap_vitess.dlt.settings import without_meaning
from tap_vitess.dlt.source import NAME, Manner
from tap_vitess.errors import ConfigError, VitessError
from tap_vitess.signals import Taken, taken_over

logger = logging.getLogger("tap_vitess.load")

_FORMAT = "{asctime:23s} | {levelname:8s} | {name:20s} | {message}"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, style="{", format=_FORMAT, stream=sys.stderr)
    with taken_over(wanted=True) as signal:
        try:
            _load(options, signal)
        except VitessError as error:
            logger.critical("%s", error)
            return 1
        if signal.signum is not None:
            logger.warning("ended by signal %d; the next run goes on from here", signal.signum)
            return 128 + signal.signum
    return 0


def _load(options: argparse.Namespace, signal: Taken) -> None:
    config = read_config(options.config, os.environ)
    if idle := without_meaning(config):
        logger.warning("settings that mean nothing to a load: %s", ", ".join(idle))
    destination = destination_of(options.to, options.dataset)
    manner = Manner(options.write, options.table_names, options.table_format)
    limits = Limits(options.package_rows, options.package_seconds)
    with working_folder(options.to, options.dataset, options.name) as folder:
        pipeline = dlt.pipeline(
            options.name,
            destination=destination,
            dataset_name=options.dataset,
            pipelines_dir=str(folder),
        )
        while signal.signum is None:
            began = time.monotonic()
            try:
                load_config(pipeline, config, manner, limits, lambda: signal.signum is not None)
            except EXPECTED as error:
                raise VitessError(sentence_of(error, name_of(pipeline))) from error
            if options.every is None:
                break
            while signal.signum is None and time.monotonic() - began < options.every:
                time.sleep(min(0.2, options.every))


@contextmanager
def working_folder(*names: str) -> Iterator[Path]:
    """Have an empty folder to work in, the same one for the same names.

    Raises:
        ConfigError: another run has it, or it is another user's.
    """
    home = Path(tempfile.gettempdir()) / f"tap-vitess-load-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise ConfigError(f"{home} belongs to another user: set TMPDIR to a folder of your own")
    place = home / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    with place.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "another tap-vitess-load is loading into this dataset: wait for its end"
            ) from None
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
        shutil.rmtree(place, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tap-vitess-load",
        parents=[config_option()],
        description="Copies tables of a Vitess into a destination of dlt's and follows them to "
        "now; the next run resumes from the state in the destination.",
        epilog="Exit code: 0 all is there, 1 an error, 2 a wrong command line, 128 + n after "
        "signal n. It sends no telemetry of dlt's.",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="ADDRESS",
        help="duckdb:///shop.duckdb, postgresql://user:password@host/database, "
        "or the name of any destination of dlt's, whose credentials dlt's configuration has",
    )
    parser.add_argument("--dataset", default=NAME, help="the schema of the tables there (vitess)")
    parser.add_argument("--name", default=NAME, help="of the pipeline, for its state (vitess)")
    parser.add_argument(
        "--write",
        choices=["merge", "append"],
        default="merge",
        help="merge: a row a key; append: a row a change",
    )
    parser.add_argument(
        "--table-names",
        default="{table}",
        metavar="TEMPLATE",
        help="how tables are called, of {keyspace} and {table}",
    )
    parser.add_argument("--table-format", choices=["delta", "iceberg"], help="of files")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="stay, and load so often")
    parser.add_argument(
        "--package-rows", type=int, default=PACKAGES.rows, help="rows that make a load package full"
    )
    parser.add_argument(
        "--package-seconds", type=float, default=PACKAGES.seconds, help="seconds that do"
    )
    return parser
