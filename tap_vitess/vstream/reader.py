"""The loop: open the call, feed the events, open again after a passing fault.

The only place that retries a stream, and it never resumes from memory: after a fault the feed
is asked for a request that starts at its last boundary, and what came after that boundary comes
again. The budget starts anew whenever a boundary was reached. Heartbeats prove VTGate alone, so
a stream that brings nothing else for `stall_seconds` counts as a passing fault too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import backoff

from tap_vitess.errors import RetriableError
from tap_vitess.vstream.client import Client
from tap_vitess.vstream.protocol import Feed, Rows

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How long to go on without progress, in seconds.

    budget: from the first fault to giving up. longest_wait: between two attempts.
    stall: without anything but heartbeats.
    """

    budget: float = 120.0
    longest_wait: float = 10.0
    stall: float = 120.0


def retrying(call: Callable[[], Result], retry: RetryOptions) -> Result:
    """Call until there is an answer; passing faults are retried within the budget.

    Raises:
        VitessError: what cannot be retried, or the last fault when the budget is used up.
    """
    wrapped = backoff.on_exception(
        backoff.expo,
        RetriableError,
        max_time=retry.budget,
        max_value=retry.longest_wait,
        logger=logger,
        backoff_log_level=logging.WARNING,
    )(call)
    return wrapped()


def read(client: Client, feed: Feed[Item], retry: RetryOptions) -> Iterator[Sequence[Item]]:
    """Yield the items of each response until the feed is finished; empty ones are heartbeats.

    Raises:
        VitessError: what cannot be retried, or the last fault when the budget is used up.
    """
    while not feed.finished:
        for attempt in backoff.retry_context(
            RetriableError,
            backoff.expo,
            max_time=retry.budget,
            max_value=retry.longest_wait,
            logger=logger,
            backoff_log_level=logging.WARNING,
        ):
            with attempt:
                yield from _attempt(client, feed, retry)


def _attempt(client: Client, feed: Feed[Item], retry: RetryOptions) -> Iterator[Sequence[Item]]:
    """Read one call to its end; a fault after progress ends it without an error."""
    progress = False
    try:
        for items in _responses(client, feed, retry):
            progress = progress or any(not isinstance(item, Rows) for item in items)
            yield items
    except RetriableError as error:
        if not progress:
            raise
        logger.warning("%s is opened again: %s", feed.name, error)


def _responses(client: Client, feed: Feed[Item], retry: RetryOptions) -> Iterator[Sequence[Item]]:
    with client.stream(feed.request()) as responses:
        last = time.monotonic()
        for response in responses:
            items = feed.feed(response.events)
            now = time.monotonic()
            if items:
                last = now
            elif now - last > retry.stall:
                raise RetriableError(
                    f"{feed.name} brought nothing but heartbeats for {retry.stall:g} s; "
                    f"{feed.waits_for}"
                )
            yield items
            if feed.finished:
                return
    raise RetriableError(f"{feed.name}: VTGate ended the stream")
