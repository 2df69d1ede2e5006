"""What a run was asked for: the selected streams by keyspace; warnings about what is left out."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tap_vitess.log import logger_of
from tap_vitess.run.state import KeyspaceState, bookmark_key, parse
from tap_vitess.singer.streams import VitessStream

logger = logger_of(__name__)


def by_keyspace(
    state: Mapping[str, Any], selected: Sequence[VitessStream]
) -> Iterator[tuple[KeyspaceState, list[VitessStream]]]:
    """Yield each keyspace's bookmark and streams; warn if the state has no bookmark for it."""
    bookmarks = state.get("bookmarks", {})
    for keyspace in dict.fromkeys(stream.keyspace for stream in selected):
        if bookmarks and bookmark_key(keyspace) not in bookmarks:
            logger.warning(
                "%s: the state given has no bookmark of this keyspace: everything is copied",
                keyspace,
            )
        streams = [stream for stream in selected if stream.keyspace == keyspace]
        yield parse(keyspace, bookmarks.get(bookmark_key(keyspace))), streams


def warn_of_maps(stream_maps: Mapping[str, Any], selected: Sequence[VitessStream]) -> None:
    """Warn about stream maps that match no selected stream: one may be meant to hide something."""
    for name, definition in stream_maps.items():
        source = definition.get("__source__", name) if isinstance(definition, dict) else name
        if name != "__else__" and not any(fnmatch.fnmatch(s.name, source) for s in selected):
            logger.warning("setting stream_maps: %s is not a selected stream", source)


def warn_of_selection(selected: int, known: int) -> None:
    """Warn about streams that lose their state: Meltano's full refresh gives no state."""
    if 0 < selected < known:
        logger.warning(
            "no state is given, and %d of %d streams are selected: the state of this run knows "
            "no others, which are copied again when they are selected; to copy some tables "
            "again and keep the others' place, give the state and set resync_tables",
            selected,
            known,
        )
