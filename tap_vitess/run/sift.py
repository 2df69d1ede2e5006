"""Finds, by bisection, the tables that stop a stream at a transaction.

These streams write nothing and move no position. Each only shows whether it gets past a place: it
does when the stuck shards send their first end of a transaction. The first try is a stream without
tables. It reads the same binlog, and if it does not get past, no table is to blame (XA). It also
shows at which transaction the others fail.

There are two signs that a stream of some tables does not get past: VTGate says so, or it reads the
same data again and again (`Diagnosis.circles`). A temporary fault is raised, because then nothing
is known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.errors import (
    ProtocolError,
    RequestError,
    RetriableError,
    StuckError,
    StumbleError,
    UnreadableError,
    VitessError,
)
from tap_vitess.log import logger_of
from tap_vitess.protocol.decode import StreamEvent
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.request import RequestOptions, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.diagnosis import Diagnosis
from tap_vitess.run.pace import Pace

logger = logger_of(__name__)

LONGEST_SECONDS = 300.0
_ENDS = {binlogdata.COMMIT, binlogdata.DDL, binlogdata.OTHER}
_RESYNC = "set on_lost_position to `resync` for a run"
_NAMED = 10
_FAILED = re.compile(r"error @ (?:\(including the GTID we failed to process\) )?(\S+): ")
"""What a tablet read before its error: a GTID set, whose last is the transaction; v24 says so."""


class SiftStoppedError(Exception):
    """The run was told to end."""


@dataclass(frozen=True, slots=True)
class Sieve:
    """A place that streams do not get past: a position, and the shards that are stuck there."""

    pace: Pace
    diagnosis: Diagnosis
    request: RequestOptions
    position: Vgtid
    shards: frozenset[str]

    def sift(self, tables: frozenset[str], why: VitessError) -> dict[frozenset[str], VitessError]:
        """Find the tables that do not pass, each with the error that ends it in this run.

        If the time is up, several tables share one error: at least one of them does not pass.

        Args:
            tables: those that do not pass together.
            why: what ended their stream.

        Raises:
            RetriableError: a passing fault; nothing is known.
            SiftStoppedError: the run was told to end.
        """
        end = time.monotonic() + LONGEST_SECONDS
        after = self._passes(frozenset(), end)
        if after is None:
            return {tables: self._blames_nobody(why)}
        gtid = self._named(after)
        if len(tables) > 1:
            logger.warning(
                "%s: looking for the table that stops the stream at %s, among %d: %s",
                self.position.keyspace,
                gtid,
                len(tables),
                why,
            )
        found = list(self._culprits(tuple(sorted(tables)), end)) or [tables]
        return {culprits: self._unreadable(culprits, gtid, why) for culprits in found}

    def _culprits(self, tables: tuple[str, ...], end: float) -> Iterator[frozenset[str]]:
        """Halve what does not pass, down to single tables or until the time is up."""
        if len(tables) == 1 or time.monotonic() > end:
            yield frozenset(tables)
            return
        middle = len(tables) // 2
        left, right = tables[:middle], tables[middle:]
        innocent = self._passes(frozenset(left), end) is not None
        if not innocent:
            yield from self._culprits(left, end)
        # If the left half passes, the right one does not; only a single table is tested anyway.
        if (innocent and len(right) > 1) or self._passes(frozenset(right), end) is None:
            yield from self._culprits(right, end)

    def _passes(self, tables: frozenset[str], end: float) -> dict[str, str] | None:
        """Stream some tables; return each shard's GTID set after the place, None if not passed."""
        options = self.pace.options
        request = stream_request(tables, self.position, self.request)
        after: dict[str, str] = {}
        passed: set[str] = set()
        asked = begin = time.monotonic()
        try:
            with self.pace.client.stream(request, silence=options.retry.silence) as responses:
                for events in responses:
                    _take(events, after, passed)
                    if self.shards <= passed:
                        return after
                    if self.pace.stop_here():
                        raise SiftStoppedError
                    now = time.monotonic()
                    if now > min(end, begin + options.retry.stall):
                        return None
                    if now - asked > options.retry.suspect / 2:
                        if self.diagnosis.circles(sorted(self.shards)):
                            return None
                        asked = time.monotonic()
        except (StumbleError, StuckError):
            return None
        raise RetriableError(f"{self.position.keyspace}: VTGate ended the stream")

    def _named(self, after: dict[str, str]) -> str:
        """Name the first transaction after the position, for each stuck shard."""
        return " and ".join(
            f"the transaction {self._first(GtidSet.parse(after[shard]), shard)} of shard {shard}"
            for shard in sorted(self.shards & after.keys())
        )

    def _first(self, gtids: GtidSet, shard: str) -> str:
        return gtids.first_beyond(self.position.shards[shard]) or f"after {gtids}"

    def _blames_nobody(self, why: VitessError) -> VitessError:
        """Return the error of a place that no stream passes, whatever its tables."""
        if not isinstance(why, StuckError):
            return why
        shard = why.shard or ", ".join(sorted(self.shards))
        where = f"what follows {self.position.shards.get(shard, 'the bookmark')} on shard {shard}"
        told = _FAILED.search(str(why))
        if told and shard in self.position.shards:
            try:
                gtid = self._first(GtidSet.parse(told[1]), shard)
            except ProtocolError:
                gtid = told[1]
            where = f"the transaction {gtid} of shard {shard}"
        return UnreadableError(
            f"{self.position.keyspace}: no stream can get past {where}, whichever tables it "
            f"reads: {why}; {_RESYNC}, which copies the tables again and then follows them from "
            "the next transaction"
        )

    def _unreadable(self, tables: frozenset[str], gtid: str, why: VitessError) -> UnreadableError:
        keyspace = self.position.keyspace
        if len(tables) == 1:
            (table,) = tables
            return UnreadableError(
                f"{keyspace}.{table}: its changes from {gtid} on cannot be read: {why}; fix "
                f"that, and the next run reads them; or {_RESYNC}, which copies the table again",
                table=table,
            )
        names = ", ".join(sorted(tables)[:_NAMED]) + (", ..." if len(tables) > _NAMED else "")
        return UnreadableError(
            f"{keyspace}: the changes of at least one of the tables {names} from {gtid} on "
            f"cannot be read: {why}; fix that, and the next run reads them; or {_RESYNC}, which "
            "copies these tables again"
        )


def _take(events: Iterable[StreamEvent], after: dict[str, str], passed: set[str]) -> None:
    """Note the first transaction that ends on each shard."""
    for event in events:
        if not isinstance(event, binlogdata.VEvent) or event.shard in passed:
            continue
        if event.type == binlogdata.VGTID:
            entries = event.vgtid.shard_gtids
            after |= {e.shard: e.gtid for e in entries if e.shard == event.shard}
        elif event.type in _ENDS:
            passed.add(event.shard)


def uncopyable(keyspace: str, table: str, why: StuckError) -> RequestError:
    """Return the error of a copy that ends at the same row each time."""
    where = f" of shard {why.shard}" if why.shard else ""
    return RequestError(
        f"{keyspace}.{table}: its copy stops at the same row{where} each time: {why}; the other "
        "tables are copied",
        table=table,
    )
