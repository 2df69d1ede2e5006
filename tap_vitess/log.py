"""The log: the loggers of this package, whose lines any terminal can show.

Lines hold names that come from a server. The filter is attached to each logger and not to a
handler, because handlers belong to the SDK, a platform or the library's user.

In console scripts, warnings and errors end with their codes. A program that uses the library has
`VitessError.code` instead, because the factory of log records is the program's.
"""

from __future__ import annotations

import logging
from typing import Any

from tap_vitess.codes import coded
from tap_vitess.errors import shown

_OURS = ("tap_vitess", "tap-vitess")


def logger_of(name: str) -> logging.Logger:
    """Return the logger of a module."""
    found = logging.getLogger(name)
    found.addFilter(_showable)
    return found


def _showable(record: logging.LogRecord) -> bool:
    record.msg, record.args = shown(record.getMessage()), None
    return True


def with_codes() -> None:
    """Append their codes to this process's warnings and errors, whoever formats them."""
    made = logging.getLogRecordFactory()

    def make(*arguments: Any, **more: Any) -> logging.LogRecord:
        record = made(*arguments, **more)
        if record.levelno >= logging.WARNING and record.name.startswith(_OURS):
            record.msg, record.args = coded(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(make)
