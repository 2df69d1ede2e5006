"""The log: the loggers of this package, whose lines any terminal can show.

Lines hold names that a server has told. The filter stands at each logger, and at no handler, since
handlers are the SDK's, a platform's or a library user's own.
"""

from __future__ import annotations

import logging

from tap_vitess.errors import shown


def logger_of(name: str) -> logging.Logger:
    """Return the logger of a module."""
    found = logging.getLogger(name)
    found.addFilter(_showable)
    return found


def _showable(record: logging.LogRecord) -> bool:
    record.msg, record.args = shown(record.getMessage()), None
    return True
