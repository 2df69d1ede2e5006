"""Level 1: a VStream's events, over the tap's client and reader, with their TLS, users and retries.

It has no stop position and keeps no state, and it cannot resume an interrupted copy; `changes` can.
It uses SQL only for what FIELD events leave out before Vitess 20.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence

from tap_vitess.errors import ConfigError, RequestError
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.signals import Taken
from tap_vitess.survey.charsets import ColumnCharsets
from tap_vitess.survey.discovery import with_the_known
from tap_vitess.survey.keyspace import Survey, shards, version
from tap_vitess.survey.tables import column_charsets
from tap_vitess.vstream.changes import DEFAULT_RETRY, by_keyspace
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.events import Event, EventFeed
from tap_vitess.vtgate.grpc import connect
from tap_vitess.vtgate.reader import read
from tap_vitess.vtgate.retry import RetryOptions, Stopping, retrying


def events(
    vitess: Vitess,
    tables: Iterable[str],
    *,
    position: Vgtid | None = None,
    copy: bool = False,
    stop: Callable[[], bool] = lambda: False,
    signals: bool = False,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Generator[Event, None, None]:
    """Open a VStream and yield its events, for ever.

    Args:
        vitess: where it is.
        tables: as `keyspace.table`, of one keyspace.
        position: of a VgtidEvent, to resume after the boundary that followed it; None to start now.
        copy: whether to copy the tables first; only without a position.
        stop: asked about every second, and between responses; True ends the iterator.
        signals: whether SIGTERM and SIGINT (Ctrl-C) end it, too; see `changes`.
        retry: how long temporary faults are retried.

    Raises:
        CopyCutError: the call was cut in the middle of a copy.
        VitessError: the stream cannot be opened, or cannot continue.
    """
    keyspaces = by_keyspace(tables)
    if len(keyspaces) != 1:
        raise ConfigError(f"tables: events are of one keyspace, not of {', '.join(keyspaces)}")
    [(keyspace, names)] = keyspaces.items()
    if copy and position is not None:
        raise ConfigError("copy: a copy begins without a position")
    if position is not None and position.keyspace != keyspace:
        raise ConfigError(f"position: it is one of {position.keyspace}, not of {keyspace}")
    config = vitess.config()
    options = config.request
    taken = Taken()
    stopping = taken.or_asked(stop)
    survey = Survey(config, keyspace, config.tablet_type, config.ranges)

    def charsets(shard: str, table: str) -> dict[str, str]:
        question = functools.partial(survey.ask, column_charsets, shard, table)
        return retrying(f"the charsets of {keyspace}.{table}", question, retry, stopping)

    told = ColumnCharsets(functools.partial(survey.ask, version), charsets).told
    feed = EventFeed(
        keyspace,
        names,
        position,
        options,
        copy=copy,
        told=told,
        shards=functools.partial(_first_shards, survey, retry, stopping),
    )

    def items() -> Generator[Event, None, None]:
        with connect(config) as client:
            for found in read(client, feed, retry):
                yield from found
                if stopping():
                    return

    def told_items() -> Generator[Event, None, None]:
        try:
            yield from items()
        except RequestError as error:
            raise with_the_known(error, keyspace, config) from error

    return taken.within(told_items(), wanted=signals)


def _first_shards(survey: Survey, retry: RetryOptions, stopping: Stopping) -> Sequence[str]:
    """Return the shards to start with; the empty name stands for all."""
    if not survey.ranges.names:
        return ("",)
    question = functools.partial(survey.ask, shards)
    return retrying(f"the shards of {survey.keyspace}", question, retry, stopping)
