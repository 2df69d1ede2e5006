"""Tries a VStream: which shards report where they are.

A VStream of no table resolves `current` on each shard at once, or waits for a tablet, silently, for
90 s at a time. VTGate looks for tablets in the cells of the request, and by default in its own cell
first, so a cell that does not exist may go unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.errors import ConfigError, RetriableError
from tap_vitess.log import logger_of
from tap_vitess.protocol.columns import StreamEvent
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
    """Name the shards that have not told where they are within some seconds.

    Args:
        alone: whether no other shard is asked; then each must be there.

    Raises:
        VitessError: what VTGate said.
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
    """Name the shards that have told a position."""
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
    """See whether a stream finds tablets where the setting cells wants them.

    Args:
        tablets: those VTGate sees; it may not watch all cells.
        shards: asked for the shards that serve, when a stream has to be tried.
        options: the setting, and the type of the tablets.
        alone: whether these shards are not all of the keyspace's.

    Raises:
        ConfigError: no tablet is there, and VTGate takes none from elsewhere.
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
