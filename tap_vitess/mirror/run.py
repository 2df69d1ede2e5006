"""What a run does with the mirror: at its start, at its checkpoints, at its end.

A tap's STATE is only a promise, because the target has not stored it yet. So the mirror's
`confirmed` is the state that a run was started with, which the target had stored, or what
`tap-vitess-mirror confirm` reads from the target. The run's own states are `emitted`.

Each STATE carries the run's token, as a bookmark, so that `confirm` knows which run it comes from:
a STATE of an older run does not move the row back.

At the start the run must take over the row. Later, a mirror that cannot be written does not hold up
the copying: the run logs a warning, and the next checkpoint tries again. At the end the mirror must
have been written; otherwise the run ends with an error, because nobody knows whether it was the
newest.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from tap_vitess.config import Config
from tap_vitess.errors import ConfigError, FencedError, StateError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.mirror import row as state_mirror
from tap_vitess.mirror.row import Claim, Place
from tap_vitess.run.state import bookmarks_of
from tap_vitess.vtgate.retry import Answer, RetryOptions, answered, retrying

logger = logger_of(__name__)

BOOKMARK = "vitess-mirror"  # a keyspace's is vitess:<keyspace>
_RUN = "run"
_LEAST_SECONDS = 1.0  # between two writes, even if each transaction is a checkpoint

State = dict[str, Any]


def place(settings: Config) -> Place:
    """Return the job's row; raises ConfigError: no mirror is set up."""
    if settings.mirror_keyspace is None or settings.mirror_name is None:
        raise ConfigError(
            "settings mirror_keyspace and mirror_name: without both there is no mirror"
        )
    return Place(settings.mirror_keyspace, settings.mirror_table, settings.mirror_name)


def run_of(state: Mapping[str, Any]) -> str | None:
    """Return the token of the run that a state comes from."""
    found = bookmarks_of(state).get(BOOKMARK, {}).get(_RUN)
    return found if isinstance(found, str) else None


def text_of(state: Mapping[str, Any]) -> str:
    """Return a state as the mirror holds it."""
    return json.dumps(state, separators=(",", ":"))


class Mirroring:
    """A run's mirror, or none; for one thread."""

    def __init__(self, settings: Config, retry: RetryOptions, stopping: Callable[[], bool]) -> None:
        """Prepare; `start` is the first to connect."""
        self._settings = settings
        self._retry = retry
        self._stopping = stopping
        self._claim: Claim | None = None
        self._written = 0.0
        self._seconds = max(settings.checkpoint_seconds, _LEAST_SECONDS)

    def start(self, state: Mapping[str, Any], *, given: bool) -> Mapping[str, Any]:
        """Take the row over; return the state to start from, which carries the run's token.

        Args:
            given: whether the run was given a state.

        Raises:
            VitessError: the row cannot be taken over.
            StateError: the mirror's state cannot be read.
        """
        if self._settings.mirror_keyspace is None:
            return state
        where = place(self._settings)
        call = functools.partial(state_mirror.claim, self._settings, where)
        claim, confirmed = self._patiently(call)
        if not given and self._settings.start_from_mirror:
            state = _stored(where, confirmed)
        else:
            stored = text_of(state) if given else None
            self._patiently(functools.partial(claim.confirm, stored))
        self._claim = claim
        bookmarks = {**bookmarks_of(state), BOOKMARK: {_RUN: claim.token}}
        return {**state, "bookmarks": bookmarks}

    def emit(self, state: Mapping[str, Any]) -> None:
        """Store a STATE that is about to be written, unless one was stored just now.

        Raises:
            FencedError: a newer run has taken over; the STATE must not be written.
        """
        if self._claim is None or time.monotonic() - self._written < self._seconds:
            return
        try:
            answered(functools.partial(self._claim.emit, text_of(state)), self._stopping)
        except FencedError:
            raise
        except VitessError as error:
            logger.warning("the state was not mirrored, the next checkpoint tries again: %s", error)
        self._written = time.monotonic()

    def finish(self, state: Mapping[str, Any]) -> list[VitessError]:
        """Store the last STATE; return the error if that fails."""
        if self._claim is None:
            return []
        try:
            self._patiently(functools.partial(self._claim.emit, text_of(state)))
        except VitessError as error:
            logger.error("%s", error)  # noqa: TRY400
            return [error]
        return []

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        reached = self._claim is not None
        return retrying("the mirror", ask, self._retry, self._stopping, reached=reached)


def _stored(where: Place, confirmed: str | None) -> State:
    if confirmed is None:
        logger.warning("%s has no confirmed state of %s: everything is copied", where, where.name)
        return {}
    logger.info("no state was given: starting from what %s holds as confirmed", where)
    try:
        state: State = json.loads(confirmed)
    except (ValueError, RecursionError):
        raise StateError(f"{where}: what is confirmed of {where.name} is not JSON") from None
    bookmarks_of(state)
    return state
