"""The loop: open the call, feed the events, open again after a passing fault.

This is the only place that retries a stream, and it never resumes from memory: after a fault it
asks the feed for a request that starts at the last boundary, and what came after that boundary
comes again. The budget starts over whenever a boundary was reached. Heartbeats prove only that
VTGate lives, so a stream that brings nothing else for `stall` seconds counts as a temporary fault
too.

If a tablet cannot read or send something, it never can: a call that fails twice at the same place
is stuck, and is not tried for the rest of the budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tap_vitess.errors import (
    Remedy,
    RetriableError,
    StalledError,
    StuckError,
    StumbleError,
    VitessError,
)
from tap_vitess.protocol.items import Feed
from tap_vitess.vtgate.grpc import Client
from tap_vitess.vtgate.retry import RetryOptions, attempts, logger

_FIRST_TELL_SECONDS = 10.0  # of a call that has brought nothing yet

Item = TypeVar("Item")
Look = Callable[[VitessError], VitessError]
Note = Callable[[VitessError], None]


def read(
    client: Client,
    feed: Feed[Item],
    retry: RetryOptions,
    look: Look = lambda error: error,
    note: Note = lambda _: None,
) -> Iterator[Sequence[Item]]:
    """Yield the items of each response until the feed is finished.

    Empty sequences are heartbeats and faults: a turn for the caller, who may leave.

    Args:
        retry: how long to continue without progress.
        look: asked about a fault whose remedy is LOOK; what it returns is raised instead, or told
            in a warning while the stream only stands still.
        note: told each fault that is passed over.

    Raises:
        VitessError: what cannot be retried, or the last fault when the budget is used up.
    """
    look = _judging(feed, look)
    while not feed.finished:
        try:
            yield from _call(client, feed, retry, look, note)
        except RetriableError as error:
            logger.warning("%s is opened again: %s", feed.name, error.within(feed.name))
            note(error)
            yield ()
            yield from _retry(client, feed, retry, look, note)


def _judging(feed: Feed[Item], look: Look) -> Look:
    """Look into a second stumble at one place, too: each shard has a place, which alone counts."""
    places: dict[str | None, object] = {}

    def judge(error: VitessError) -> VitessError:
        if not isinstance(error, StumbleError):
            return look(error)
        shard, place = error.shard, feed.place(error.shard)
        if shard not in places or places[shard] != place:
            places[shard] = place
            return look(error)
        return StuckError(str(error), shard=shard)

    return judge


def _retry(
    client: Client, feed: Feed[Item], retry: RetryOptions, look: Look, note: Note
) -> Iterator[Sequence[Item]]:
    """Open the call again until it makes progress; what ends it then is a first fault again."""
    for attempt in attempts(feed.name, retry):
        yield ()
        with attempt:
            steps = feed.steps
            try:
                yield from _call(client, feed, retry, look, note)
            except RetriableError as error:
                note(error)
                if feed.steps == steps:
                    raise
                logger.warning("%s is opened again: %s", feed.name, error.within(feed.name))


def _call(
    client: Client, feed: Feed[Item], retry: RetryOptions, look: Look, note: Note
) -> Iterator[Sequence[Item]]:
    """Read one call, and look into what ends it where looking helps."""
    try:
        yield from _responses(client, feed, retry, look, note)
    except VitessError as error:
        if error.remedy is not Remedy.LOOK:
            raise
        raise look(error) from None


def _responses(
    client: Client, feed: Feed[Item], retry: RetryOptions, look: Look, note: Note
) -> Iterator[Sequence[Item]]:
    """Read one call; it ends by the feed being finished, or by an error."""
    with client.stream(feed.request(), silence=retry.silence) as responses:
        last = asked = told = time.monotonic()
        patience = min(_FIRST_TELL_SECONDS, retry.tell)
        signs = feed.signs
        for events in responses:
            items = feed.feed(events)
            now = time.monotonic()
            # Given out before anything is raised: the feed's position is after them already.
            yield items
            del events, items
            if feed.fault:
                raise feed.fault
            if feed.finished:
                return
            if feed.signs != signs:
                signs = feed.signs
                last = asked = told = now
                patience = retry.tell
            elif now - last > retry.stall:
                raise StalledError(_stalled(feed, now - last))
            elif now - asked > min(retry.suspect, patience):
                asked = now
                found = look(StalledError(_stalled(feed, now - last)))
                if not isinstance(found, StalledError):
                    raise found
                if now - told > patience:
                    told, patience = now, retry.tell
                    note(found)
                    logger.warning("%s", found)
    raise RetriableError(f"{feed.name}: VTGate ended the stream")


def _stalled(feed: Feed[Item], seconds: float) -> str:
    return (
        f"{feed.name} has brought nothing of what it waits for in {seconds:.0f} s; {feed.waits_for}"
    )
