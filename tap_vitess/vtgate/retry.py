"""How long to go on without an answer, and how to ask again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import backoff
from backoff.types import ContextDetails

from tap_vitess.errors import RetriableError

logger = logging.getLogger(__name__)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How long to go on without progress, in seconds.

    budget: from the first fault to giving up. longest_wait: between two attempts. stall: how
    long a stream may bring nothing but heartbeats; VTGate holds back a transaction until it has
    all of it, and a copy until its first row is sorted, so minutes are legitimate. tell: how long
    until the log says so, and what SQL knows of it. suspect: how long until SQL is asked whether
    VTGate goes round in circles. silence: without even a heartbeat. settle: how long VTGate must
    see no tablet of the kind that is asked for until that counts; one that has just started learns
    of them by and by.
    """

    budget: float = 300.0
    longest_wait: float = 5.0
    stall: float = 600.0
    tell: float = 60.0
    suspect: float = 15.0
    silence: float = 60.0
    settle: float = 5.0


def retrying(
    what: str, call: Callable[[], Result], retry: RetryOptions, stopping: Callable[[], bool]
) -> Result:
    """Call until there is an answer; passing faults are retried within the budget.

    Raises:
        VitessError: what cannot be retried, or the last fault when the budget is used up or
            `stopping` tells to end.
    """
    for attempt in _attempts(what, retry, stopping):
        with attempt:
            return call()
    raise AssertionError("the last attempt returns or raises")


def _attempts(
    what: str, retry: RetryOptions, stopping: Callable[[], bool] = lambda: False
) -> Iterator[backoff.Attempt]:
    def tell(details: ContextDetails) -> None:
        logger.warning(
            "%s: %s; trying again in %.1f s", what, details["exception"], details["wait"]
        )

    return backoff.retry_context(
        RetriableError,
        backoff.expo,
        max_time=retry.budget,
        max_value=retry.longest_wait,
        giveup=lambda _: stopping(),
        on_backoff=tell,
        logger=None,
    )
