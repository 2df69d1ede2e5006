"""What has ended a load, in one sentence: without rows and without credentials.

Databases quote rows in their errors (`Failing row contains (...)`), and drivers quote addresses. So
for a failed job only the table and the kind of the error are reported, and for a failed connection
only what the driver says before the first place where an address could be.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from dlt.common.configuration.exceptions import ConfigFieldMissingException
from dlt.common.exceptions import DltException, MissingDependencyException
from dlt.pipeline.exceptions import PipelineStepFailed

from tap_vitess.errors import VitessError

EXPECTED = (VitessError, DltException)
# A file cannot be written: which, the destination's or dlt's own, only dlt says.
_FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


def sentence_of(error: BaseException, destination: str) -> str:
    """Say what has ended a load into a destination."""
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, VitessError):
            return str(cause)
        if isinstance(cause, MissingDependencyException):
            needed = ", ".join(cause.dependencies)
            return f"the destination {destination} needs {needed}, which is not installed"
        if isinstance(cause, ConfigFieldMissingException):
            return (
                f"the destination {destination} lacks {', '.join(cause.traces)} of its "
                f"{cause.spec_name}: set them in dlt's secrets.toml or environment"
            )
    jobs = (str(getattr(cause, "job_id", "")).partition(".")[0] for cause in causes)
    where = next((f" of {job}" for job in jobs if job), "")
    full = next((f", {words}" for words in _FULL if any(words in str(c) for c in causes)), "")
    step = next((c.step for c in causes if isinstance(c, PipelineStepFailed)), "load")
    return (
        f"{destination}: the step {step}{where} has failed ({_kind(causes[-1])}{full}); run with "
        "the environment variable RUNTIME__LOG_LEVEL=ERROR to see what dlt says, with rows among "
        "it; the next run starts at the position of the last package"
    )


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what is behind it, the outermost first."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "exception", None) or getattr(error, "dbapi_exception", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def _kind(error: BaseException) -> str:
    code = getattr(error, "pgcode", None)
    return type(error).__name__ + (f", SQLSTATE {code}" if code else "")
