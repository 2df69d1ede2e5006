"""Airbyte's messages, and stdout, which holds nothing else.

One `Output` writes everything: records, states, traces and the log. It flushes by size and after
every message that is not a RECORD. Threads write log lines, too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import orjson

from tap_vitess.airbyte.failures import FailureType
from tap_vitess.stdout import LineBuffer

Message = dict[str, Any]
Status = Literal["STARTED", "RUNNING", "COMPLETE", "INCOMPLETE"]


class Output:
    """Writes messages to stdout; for any number of threads."""

    def __init__(self) -> None:
        self.buffer = LineBuffer()
        self._lock = threading.RLock()

    def write(self, message: Mapping[str, Any]) -> None:
        """Write a message, and flush what was buffered before it.

        Raises:
            TargetClosedError: nobody reads stdout any more.
        """
        self.write_lines((orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE),), flush=True)

    def write_lines(self, lines: Iterable[bytes], *, flush: bool = False) -> None:
        """Write messages that are already lines of JSON; a piece may hold several lines.

        Raises:
            TargetClosedError: nobody reads stdout any more.
        """
        with self._lock:
            for line in lines:
                self.buffer.write_line(line)
            if flush:
                self.buffer.flush()


class LogHandler(logging.Handler):
    """Writes log lines as LOG messages; never a traceback, which may quote values."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        level = {"CRITICAL": "FATAL", "WARNING": "WARN"}.get(record.levelname, record.levelname)
        known = level if level in {"FATAL", "ERROR", "WARN", "INFO", "DEBUG"} else "INFO"
        self._output.write({"type": "LOG", "log": {"level": known, "message": record.getMessage()}})


def now() -> int:
    """Return the clock in milliseconds."""
    return time.time_ns() // 1_000_000


def descriptor(keyspace: str, table: str) -> dict[str, str]:
    """Name a stream."""
    return {"name": table, "namespace": keyspace}


def record_frame(keyspace: str, table: str) -> tuple[bytes, bytes]:
    """Return the bytes before and after the members of a record's data."""
    head = b'{"type":"RECORD","record":{"stream":%b,"namespace":%b,"emitted_at":%d,"data":{'
    return head % (orjson.dumps(table), orjson.dumps(keyspace), now()), b"}}}\n"


def stream_status(keyspace: str, table: str, status: Status) -> Message:
    """Report a stream's status."""
    told = {"stream_descriptor": descriptor(keyspace, table), "status": status}
    return _trace("STREAM_STATUS", "stream_status", told)


def estimate(keyspace: str, table: str, rows: int) -> Message:
    """Report an estimate of a stream's rows."""
    told = {"type": "STREAM", **descriptor(keyspace, table), "row_estimate": rows}
    return _trace("ESTIMATE", "estimate", told)


def error_trace(
    message: str,
    kind: FailureType,
    *,
    internal: str,
    stream: tuple[str, str] | None = None,
    stack: str | None = None,
) -> Message:
    """Report an error.

    Args:
        message: what happened, where, and what to do, for the user.
        kind: Airbyte's type, which says who must act.
        internal: the error's class.
        stream: keyspace and table, if the error concerns one.
        stack: the traceback, of code only.
    """
    told: Message = {"message": message, "internal_message": internal, "failure_type": kind}
    if stream is not None:
        told["stream_descriptor"] = descriptor(*stream)
    if stack is not None:
        told["stack_trace"] = stack
    return _trace("ERROR", "error", told)


def _trace(kind: str, name: str, told: Mapping[str, Any]) -> Message:
    return {"type": "TRACE", "trace": {"type": kind, "emitted_at": float(now()), name: told}}
