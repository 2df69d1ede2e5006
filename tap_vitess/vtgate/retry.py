"""How long to wait for an answer, and how to ask again: the only place that decides this.

A silent port is waited for as long as its socket allows, a minute on the MySQL port. After an order
to stop, an answer is waited for no longer than `GRACE_SECONDS`: each question is asked in its own
thread, which may then be left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import backoff
from backoff.types import ContextDetails

from tap_vitess.errors import ConnectError, ConnectionLostError, RetriableError
from tap_vitess.log import logger_of

logger = logger_of(__name__)

GRACE_SECONDS = 4.0
_LOOK_SECONDS = 0.2

Answer = TypeVar("Answer")
Stopping = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How long to continue without progress, in seconds.

    budget: from the first fault to giving up. longest_wait: between two attempts. stall: how long a
    stream may bring nothing but heartbeats; VTGate holds back a transaction until it is complete,
    and a copy until its first row is sorted, so minutes are legitimate. tell: how long until the
    log says so, and what SQL knows about it. suspect: how long until SQL is asked whether VTGate
    reads the same data again and again. silence: how long without even a heartbeat. settle: how
    long VTGate must see no tablet of the requested kind until that counts, because a VTGate that
    has just started discovers tablets one by one.
    """

    budget: float = 300.0
    longest_wait: float = 5.0
    stall: float = 600.0
    tell: float = 60.0
    suspect: float = 15.0
    silence: float = 60.0
    settle: float = 5.0


class Question(Generic[Answer]):
    """A question that is asked in its own thread."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        """Ask."""
        self._ask = ask
        self._answers: list[Answer] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="question", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answers.append(self._ask())
        except Exception as error:  # noqa: BLE001 - raised again where the answer is taken
            self._error = error

    @property
    def answered(self) -> bool:
        """Whether there is an answer, or an error."""
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer, for so long at most; return whether there is one, or an error."""
        self._thread.join(seconds)
        return self.answered

    def answer(self) -> Answer:
        """Return the answer, or raise the error; once there is one."""
        if self._error is not None:
            raise self._error
        return self._answers[0]


def answered(ask: Callable[[], Answer], stopping: Stopping) -> Answer:
    """Ask once, and wait for the answer; once told to stop, for `GRACE_SECONDS` at most.

    Raises:
        RetriableError: `stopping` tells to end, and no answer has come.
        Exception: what `ask` raises.
    """
    question = Question(ask)
    until = float("inf")
    while not question.wait(_LOOK_SECONDS):
        now = time.monotonic()
        if stopping():
            until = min(until, now + GRACE_SECONDS)
        if now >= until:
            raise RetriableError("VTGate's MySQL port gave no answer, and the run was asked to end")
    return question.answer()


def retrying(
    what: str,
    ask: Callable[[], Answer],
    retry: RetryOptions,
    stopping: Stopping = lambda: False,
    *,
    reached: bool = False,
) -> Answer:
    """Ask until there is an answer; passing faults are retried within the budget.

    So is a connection that breaks off: VTGate cuts some while shards are exchanged (v22).

    Args:
        what: is asked for, for the log.
        stopping: True ends the attempts, and soon the one that waits for its answer.
        reached: whether this VTGate has answered before, so that its absence passes, too; else it
            is told at once, because a setting may be wrong.

    Raises:
        VitessError: what cannot be retried, or the last fault.
    """

    def once() -> Answer:
        try:
            return answered(ask, stopping)
        except ConnectError as error:
            if not (reached or isinstance(error, ConnectionLostError)):
                raise
            raise RetriableError(str(error)) from error

    for attempt in attempts(what, retry, stopping):
        with attempt:
            return once()
    raise AssertionError("the last attempt returns or raises")


def attempts(
    what: str, retry: RetryOptions, stopping: Stopping = lambda: False
) -> Iterator[backoff.Attempt]:
    """Yield attempts until one ends without a RetriableError, with waits between them."""

    def tell(details: ContextDetails) -> None:
        error = details["exception"]
        said = error.within(what) if isinstance(error, RetriableError) else error
        logger.warning("%s: %s; trying again in %.1f s", what, said, details["wait"])

    return backoff.retry_context(
        RetriableError,
        backoff.expo,
        max_time=retry.budget,
        max_value=retry.longest_wait,
        giveup=lambda _: stopping(),
        on_backoff=tell,
        logger=None,
    )
