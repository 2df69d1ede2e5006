"""A call of `tap-vitess-mirror`: creates the mirror's table, and confirms what a target has stored.

    tap-vitess-mirror ddl --config c.json [--run]
    tap-vitess --config c.json ... | target ... | tap-vitess-mirror confirm --config c.json

A target prints a state when everything before it is stored. `confirm` passes its output on line by
line and stores the last state, and earlier ones in between, so that a killed pipe loses little. A
state names its run. If a newer run has taken over the mirror, the older run's state is refused. A
pipe's exit code is that of its last command, so it is an error here if the target has printed no
state at all.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tap_vitess.config import Config
from tap_vitess.errors import FencedError, StateError, VitessError
from tap_vitess.mirror.row import Claim, create, ddl, is_sharded
from tap_vitess.mirror.run import place, run_of, text_of
from tap_vitess.settings import config_option, read_config
from tap_vitess.signals import end_by_signals
from tap_vitess.vtgate.retry import RetryOptions, retrying

State = dict[str, Any]

_ONCE = RetryOptions(budget=0)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    end_by_signals()
    options = _parser().parse_args(arguments)
    try:
        config = read_config(options.config, os.environ)
        if options.command == "ddl":
            _ddl(config, run=options.run)
        else:
            # An interrupt from the keyboard goes to the whole pipe: what the target stores then
            # counts too.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            confirm(config, sys.stdin.buffer)
    except VitessError as error:
        sys.stderr.write(f"tap-vitess-mirror: {error.coded()}\n")
        return 1
    return 0


def _ddl(config: Config, *, run: bool) -> None:
    where = place(config)
    for statement in ddl(where, sharded=is_sharded(config, where)):
        sys.stdout.write(f"{statement};\n")
    if run:
        create(config, where)


class _Confirmer:
    """Stores the states of a run."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._place = place(config)
        self._waiting: State | None = None
        self._stored = float("-inf")
        self._seen = False
        self.error: VitessError | None = None

    def take(self, line: bytes) -> None:
        """Look at a line; store its state, unless one was stored just now."""
        state = _state(line)
        if state is None:
            return
        self._seen = True
        self._waiting = state
        if time.monotonic() - self._stored >= max(self._config.checkpoint_seconds, 1.0):
            self.store()

    def end(self) -> None:
        """Store the last state; raises VitessError: it was not stored."""
        if not self._seen:
            raise StateError(f"the target has printed no state: {self._place} is as it was")
        self.error = self.error if isinstance(self.error, FencedError) else None
        self.store(RetryOptions())
        if self.error is not None:
            raise self.error

    def store(self, retry: RetryOptions = _ONCE, *, ending: bool = False) -> None:
        """Store the waiting state, within seconds if `ending`; keep an error for the end."""
        if self._waiting is None or isinstance(self.error, FencedError):
            return
        try:
            token = run_of(self._waiting)
            if token is None:
                raise StateError(
                    "the target's state names no run of a mirror: give the tap the settings "
                    "mirror_keyspace and mirror_name too"
                )
            claim, text = Claim(self._config, self._place, token), text_of(self._waiting)
            confirming = functools.partial(claim.confirm, text)
            retrying("the mirror", confirming, retry, lambda: ending, reached=True)
        except VitessError as error:
            self.error = error
        else:
            self._waiting = None
        self._stored = time.monotonic()


def confirm(config: Config, lines: Iterable[bytes]) -> None:
    """Pass a target's output on to stdout and store its states.

    Raises:
        VitessError: the last state was not stored, or there was none.
    """
    confirmer = _Confirmer(config)
    try:
        for line in lines:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            confirmer.take(line)
    except (SystemExit, OSError):  # a signal, or a closed stdout; the state is still good
        confirmer.store(ending=True)
        raise
    confirmer.end()


def _state(line: bytes) -> State | None:
    """Return the state a line holds: bare, as targets print it, or in a STATE message."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and found.get("type") == "STATE":
        found = found.get("value")
    if isinstance(found, dict) and isinstance(found.get("bookmarks"), dict):
        state: State = found
        return state
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tap-vitess-mirror", description="Keeps the state of tap-vitess in a table."
    )
    config = config_option()
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser(
        "ddl", parents=[config], help="print the statements that create the table"
    )
    making.add_argument("--run", action="store_true", help="and run them")
    commands.add_parser(
        "confirm",
        parents=[config],
        help="store the last state that a target prints; stdin is passed on to stdout",
    )
    return parser
