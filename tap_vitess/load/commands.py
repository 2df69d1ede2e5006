"""A call of `tap-vitess-load`: from a tap's settings into a destination, to where Vitess is now.

The state is only in the destination. dlt's working folder is emptied at each start, so what a
killed run left there is never loaded: it is read again, from the position in the destination. Only
one run at a time has the folder of a destination.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tap_vitess.dlt.destinations import destination_of, name_of
from tap_vitess.dlt.failures import EXPECTED, sentence_of
from tap_vitess.dlt.feed import Limits, columns_of
from tap_vitess.dlt.loading import Loaded, load_config, pipeline_of
from tap_vitess.dlt.settings import without_meaning
from tap_vitess.dlt.source import Manner
from tap_vitess.errors import ConfigError, VitessError
from tap_vitess.load.options import NAME
from tap_vitess.log import logger_of
from tap_vitess.settings import read_config
from tap_vitess.signals import Taken, taken_over

logger = logger_of("tap_vitess.load")

_FORMAT = "{asctime:23s} | {levelname:8s} | {name:20s} | {message}"


def run(options: argparse.Namespace) -> int:
    """Run what the command line says; return the exit code."""
    logging.basicConfig(level=logging.INFO, style="{", format=_FORMAT, stream=sys.stderr)
    with taken_over(wanted=True) as signal:
        try:
            _load(options, signal)
        except VitessError as error:
            logger.critical("%s", error)
            return 1
        if signal.signum is not None:
            logger.warning("ended by signal %d; the next run resumes here", signal.signum)
            return 128 + signal.signum
    return 0


def _load(options: argparse.Namespace, signal: Taken) -> None:
    config = read_config(options.config, os.environ)
    if idle := without_meaning(config):
        logger.warning("settings that mean nothing to a load: %s", ", ".join(idle))
    if config.shards and options.name == NAME:
        raise ConfigError(
            "setting shards: each job has its state under its own name, and two of one name "
            "replace each other's: give each a --name"
        )
    destination = destination_of(options.to, options.dataset)
    manner = Manner(options.write, options.table_names, options.table_format)
    columns = columns_of(dict(options.columns))
    limits = Limits(options.package_rows, options.package_seconds)
    with working_folder(options.to, options.dataset, options.name) as folder:
        pipeline = pipeline_of(options.name, destination, options.dataset, folder)
        logger.info("connecting to %s and to %s", config.host, name_of(pipeline))
        while signal.signum is None:
            began = time.monotonic()
            try:
                loaded = load_config(
                    pipeline, config, manner, limits, lambda: signal.signum is not None, columns
                )
            except EXPECTED as error:
                raise VitessError(sentence_of(error, name_of(pipeline))) from error
            logger.info("%s", _told(loaded))
            if options.every is None:
                break
            while signal.signum is None and time.monotonic() - began < options.every:
                time.sleep(min(0.2, options.every))


def _told(loaded: Loaded) -> str:
    if not loaded.packages:
        return "nothing to load"
    return f"finished: {loaded.rows:,} rows loaded"


@contextmanager
def working_folder(*names: str) -> Iterator[Path]:
    """Have an empty folder to work in, the same one for the same names.

    Raises:
        ConfigError: another run has it, or it is another user's.
    """
    home = Path(tempfile.gettempdir()) / f"tap-vitess-load-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise ConfigError(f"{home} belongs to another user: set TMPDIR to a folder that you own")
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
