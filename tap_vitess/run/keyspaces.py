"""What both front ends make of the settings: how to run, and how to make records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tap_vitess._proto.query_pb2 import Row
from tap_vitess.config import Config
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.records.records import RecordOptions
from tap_vitess.run.sync import SyncOptions
from tap_vitess.survey.lookup import Lookup
from tap_vitess.vtgate.retry import RetryOptions, retrying


def sync_options(config: Config, retry: RetryOptions) -> SyncOptions:
    """Return how to run."""
    return SyncOptions(
        request=RequestOptions(config.tablet_type, config.cells),
        retry=retry,
        checkpoint_seconds=config.checkpoint_seconds,
        copy_parallelism=config.copy_parallelism,
        resync=config.on_lost_position == "resync",
        by_table=True,
        check_keys=config.keys == "with_vindex",
    )


def record_options(
    config: Config,
    keyspace: str,
    retry: RetryOptions,
    stopping: Callable[[], bool],
    whole_rows: Callable[[str], bool],
) -> RecordOptions:
    """Return how to make a keyspace's records; what partial images lack is asked for by SQL.

    Args:
        config: the settings.
        keyspace: the keyspace.
        retry: how often to ask again.
        stopping: asked between two attempts; True ends them.
        whole_rows: tells whether a shard's MySQL logs every column of every row.
    """
    lookup = Lookup(config, keyspace)

    def fetch(*question: Any) -> Sequence[Row | None]:
        what = f"the present values of rows of {keyspace}"
        ask = functools.partial(lookup.fetch, *question)
        return retrying(what, ask, retry, stopping, reached=True)

    return RecordOptions(
        values=config.values,
        metadata_columns=config.metadata_columns,
        on_partial_image=config.on_partial_image,
        fetch=fetch,
        whole_rows=whole_rows,
    )
