"""Tries a VStream: which shards report their position.

A VStream without tables resolves `current` on each shard at once, or silently waits for a tablet,
for 90 s at a time. VTGate looks for tablets in the cells of the request, and by default in its own
cell first, so a cell that does not exist may go unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.errors import ConfigError, RetriableError
from tap_vitess.log import logger_of
from tap_vitess.protocol.decode import StreamEvent
from tap_vitess.protocol.request import RequestOptions, first_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.facts import Tablet
from tap_vitess.vtgate.grpc import Client

logger = logger_of(__name__)

CELLS_SECONDS = 8.0


def silent_shards(
    client: Client,
    keyspace: str,
    shards: Iterable[str],
    options: RequestOptions,
    seconds: float,
    *,
    alone: bool = False,
) -> set[str]:
    """Return the shards that do not report their position within some seconds.

    Args:
        alone: whether to ask only these shards; then each must exist.

    Raises:
        VitessError: VTGate's error.
    """
    silent = set(shards)
    deadline = time.monotonic() + seconds
    asked = sorted(silent) if alone else ("",)
    request = first_request(keyspace, (), options, shards=asked)
    with client.stream(request, silence=seconds) as responses:
        for response in responses:
            silent -= _answered(response, keyspace)
            if not silent or time.monotonic() > deadline:
                break
    return silent


def _answered(events: Iterable[StreamEvent], keyspace: str) -> set[str]:
    """Return the shards that report a position."""
    told = (event for event in events if isinstance(event, binlogdata.VEvent))
    entries = [e for event in told for e in event.vgtid.shard_gtids if e.gtid != "current"]
    return set(Vgtid.from_proto(keyspace, entries).shards)


def check_cells(
    client: Client,
    keyspace: str,
    tablets: Sequence[Tablet],
    shards: Callable[[], Collection[str]],
    options: RequestOptions,
    *,
    alone: bool,
) -> None:
    """Check that a stream finds tablets in the cells of the setting.

    Args:
        tablets: those that VTGate sees; it may not watch all cells.
        shards: returns the serving shards, if a stream has to be tried.
        options: the cells and the tablet type.
        alone: whether these are only some of the keyspace's shards.

    Raises:
        ConfigError: there is no tablet, and VTGate takes none from elsewhere.
    """
    fit = [tablet for tablet in tablets if tablet.tablet_type == options.tablet_type]
    if any(tablet.cell in options.cells for tablet in fit):
        return
    cells = ", ".join(options.cells)
    seen = ", ".join(f"{tablet} in {tablet.cell}" for tablet in tablets) or "none"
    try:
        silent = silent_shards(client, keyspace, shards(), options, CELLS_SECONDS, alone=alone)
    except RetriableError:
        silent = set(shards())
    if silent:
        raise ConfigError(
            f"setting cells: a stream finds no {options.tablet_type} tablet of {keyspace} in "
            f"{cells} (shards {', '.join(sorted(silent))}); VTGate sees {seen}"
        )
    logger.warning(
        "%s: VTGate sees no %s tablet in %s (setting cells) and reads from elsewhere; it sees %s",
        keyspace,
        options.tablet_type,
        cells,
        seen,
    )
