"""The command line: spec, check, discover, read.

Exit codes: 0 all is well (for `check`, also when the answer is FAILED); 1 an error, which a TRACE
reported, after the last STATE; 2 a wrong command line; 128 + signal.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from tap_vitess.airbyte.catalog import configured_streams, stream_of
from tap_vitess.airbyte.failures import failure_type
from tap_vitess.airbyte.messages import LogHandler, Message, Output, error_trace
from tap_vitess.airbyte.read import Reading
from tap_vitess.airbyte.spec import config_of, specification
from tap_vitess.airbyte.state import states_of
from tap_vitess.config import Config
from tap_vitess.errors import CatalogError, StateError, TargetClosedError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.settings import config_option, read_json, read_sources
from tap_vitess.signals import SIGNALS, Taken
from tap_vitess.stdout import end_when_stuck, give_up_stdout
from tap_vitess.survey import discovery
from tap_vitess.vtgate import grpc as vstream_client
from tap_vitess.vtgate.retry import RetryOptions

logger = logger_of(__name__)

_ONCE = RetryOptions(budget=0, settle=0)  # a check reports the present, so it does not wait


def run(arguments: Sequence[str] | None = None, *, retry: RetryOptions | None = None) -> int:
    """Run a command and return the exit code."""
    options = _parser().parse_args(arguments)
    output = Output()
    _log_to(output)
    sys.excepthook = _unexpected(output)
    try:
        match options.command:
            case "spec":
                output.write({"type": "SPEC", "spec": specification()})
            case "check":
                output.write({"type": "CONNECTION_STATUS", "connectionStatus": _check(options)})
            case "discover":
                config = _config(options)
                tables = discovery.discover(config, retry or RetryOptions())
                streams = [stream_of(table, config.values) for table in tables]
                output.write({"type": "CATALOG", "catalog": {"streams": streams}})
            case "read":
                return _Read(options, output, retry or RetryOptions()).run()
    except TargetClosedError as error:
        give_up_stdout()
        sys.stderr.write(f"{error.coded()}\n")
        return 1
    except VitessError as error:
        kind = failure_type(error)
        output.write(error_trace(error.coded(), kind, internal=type(error).__name__))
        return 1
    return 0


def _config(options: argparse.Namespace) -> Config:
    return config_of(read_sources(options.config, os.environ))


def _check(options: argparse.Namespace) -> Message:
    """Reach both ports and find the tables, as a sync would."""
    try:
        config = _config(options)
        discovery.discover(config, _ONCE)
        with vstream_client.connect(config):
            return {"status": "SUCCEEDED"}
    except VitessError as error:
        return {"status": "FAILED", "message": error.coded()}


class _Read:
    """The command `read`: its files, its signals, its exit code."""

    def __init__(self, options: argparse.Namespace, output: Output, retry: RetryOptions) -> None:
        self._options = options
        self._output = output
        self._retry = retry
        self._signal = Taken()

    def run(self) -> int:
        config = _config(self._options)
        streams = configured_streams(read_json(self._options.catalog, CatalogError))
        path = self._options.state
        states = states_of(read_json(path, StateError)) if path else {}
        for number in SIGNALS:
            signal.signal(number, self._end)
        reading = Reading(config, streams, states, self._output, self._retry, self._signal.came)
        complete = reading.run()
        return self._exit_code(config, complete=complete, told=reading.errors)

    def _exit_code(self, config: Config, *, complete: bool, told: int) -> int:
        if (signum := self._signal.signum) is not None:
            self._tell_cut(f"ended by signal {signum}")
            return 128 + signum
        if not complete and not told:
            limit = config.max_run_seconds
            why = f"max_run_seconds ({limit:g})" if limit else "a table was altered in mid-copy"
            self._tell_cut(f"ended before every copy was finished: {why}")
        return 0 if complete else 1

    def _tell_cut(self, what: str) -> None:
        message = f"The sync was {what}; the next attempt resumes there"
        self._output.write(error_trace(message, "transient_error", internal="Cut"))

    def _end(self, signum: int, frame: FrameType | None) -> None:
        """End at the next boundary; at once on a second signal."""
        self._signal.take(signum, frame)
        end_when_stuck(self._output.buffer, signum, lambda why: sys.stderr.write(f"{why}\n"))


def _log_to(output: Output) -> None:
    root = logging.getLogger()
    root.handlers[:] = [LogHandler(output)]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)  # noqa: FBT003


def _unexpected(
    output: Output,
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """Return a handler that reports unexpected errors; Python then ends with exit code 1.

    It leaves out the error's text, which may quote values.
    """

    def tell(kind: type[BaseException], _error: BaseException, trace: TracebackType | None) -> None:
        output.write(
            error_trace(
                f"source-vitess has a fault ({kind.__name__}): please report it with the stack "
                "trace; the last state holds",
                "system_error",
                internal=kind.__name__,
                stack="".join(traceback.format_tb(trace)),
            )
        )

    return tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="source-vitess", description="Airbyte source for Vitess, through VStream."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("spec", help="print the settings")
    for name, words in (
        ("check", "try the settings"),
        ("discover", "print the catalog"),
        ("read", "print records and states"),
    ):
        command = commands.add_parser(name, help=words, parents=[config_option()])
        if name == "read":
            command.add_argument("--catalog", required=True, metavar="FILE")
            command.add_argument("--state", metavar="FILE")
    return parser
