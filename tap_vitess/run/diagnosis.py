"""Why a stream ended or stands still, as far as SQL knows.

VTGate's heartbeats prove only that VTGate lives, it drops what tablets report about throttling, and
it reports a wrong position as CANCELED after 90 s. SQL knows at once. If SQL does not answer either
(it may be down, too, or the user may lack permission), the fault stays as it was.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence

from tap_vitess.errors import (
    ColumnsUnknownError,
    HistoryLostError,
    ParticipantsMissingError,
    RetriableError,
    ShardsGoneError,
    StalledError,
    StuckError,
    TableGoneError,
    TableUnseenError,
    VitessError,
)
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.blockers import lock_waits, readers, throttled
from tap_vitess.survey.bookmark import judge
from tap_vitess.survey.facts import BinlogReader, Tablet
from tap_vitess.survey.keyspace import Asking, P, Survey, T, facts, position, tablets
from tap_vitess.survey.own_shards import resharded_together
from tap_vitess.survey.tables import expression_indexes, has_table
from tap_vitess.vtgate.faults import TOO_LARGE
from tap_vitess.vtgate.retry import RetryOptions, Stopping, answered

_SAMPLES = 12
_BETWEEN = 60  # samples in the time until a stall is suspected
_YOUNG_SECONDS = 1
_REMEMBERED_SECONDS = 60.0
_CIRCLE = 3  # recent connections: more than a healthy stream has


class Diagnosis:
    """Diagnoses for one run over one keyspace."""

    def __init__(self, survey: Survey, retry: RetryOptions, stopping: Stopping) -> None:
        self._survey = survey
        self._pause = retry.suspect / _BETWEEN
        self._stopping = stopping
        # Shard, and the copied table or None -> recent connections, and when they were seen.
        self._young: dict[tuple[str, str | None], dict[int, float]] = {}

    def _ask(self, question: Asking[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
        """Ask once; None if SQL does not answer."""
        try:
            return self._survey.ask(question, *arguments, **named)
        except VitessError:
            return None

    def look(self, error: VitessError, floor: Vgtid | None, copied: str = "") -> VitessError:
        """Return the cause of a fault: a lost position, or the fault with what SQL knows about it.

        A missing table may only be unknown to the tablet yet, which is a passing fault.

        Args:
            floor: the position that the stream is resumed from, or that the copy must contain.
            copied: the table of a copy.
        """
        try:
            return answered(functools.partial(self._look, error, floor, copied), self._stopping)
        except RetriableError:
            return error

    def _look(self, error: VitessError, floor: Vgtid | None, copied: str) -> VitessError:
        if isinstance(error, TableGoneError):
            return self._look_for_table(error)
        if isinstance(error, ColumnsUnknownError):
            return self._look_for_columns(error)
        if isinstance(error, ParticipantsMissingError):
            return self._look_for_jobs(error)
        try:
            if floor is not None:
                found = self._survey.ask(facts, floor.shards)
                verdict = judge(floor, found, self._survey.tablet_type)
                if lost := verdict.error(self._survey.keyspace):
                    return lost
            stalled = isinstance(error, StalledError) and copied
            waits = self._ask(lock_waits, copied) if stalled else None
            known = [*map(str, waits or ()), *self._tablets(), *self._throttled()]
        except VitessError as silent:
            known = [f"VTGate's MySQL port does not say why: {silent}"]
        return error.reworded(f"{error}; {'; '.join(known)}")

    def _look_for_table(self, error: TableGoneError) -> VitessError:
        """Check whether MySQL has the table: a new primary may not know one created just before."""
        if error.table is None or not self._ask(has_table, error.table):
            return error
        return TableUnseenError(
            f"{self._survey.keyspace}.{error.table}: a tablet does not know the table yet, which "
            "MySQL has on every shard, as after a failover",
            table=error.table,
        )

    def _look_for_jobs(self, error: ParticipantsMissingError) -> VitessError:
        """Check whether the missing participants are shards of other jobs."""
        ranges = self._survey.ranges
        told = str(error).partition("journal:")[2].partition("stream:")[0]
        named = set(re.findall(r'shard:"([^"]*)"', told))
        others = {shard for shard in named if not ranges.holds(shard)}
        if not others:  # they are the job's own: a copy requests only its unfinished shards
            return ShardsGoneError(str(error), shard=error.shard)
        return resharded_together(self._survey.keyspace, others, ranges)

    def _look_for_columns(self, error: ColumnsUnknownError) -> VitessError:
        """Check whether the table has columns that MySQL hides, or has lost some.

        MySQL keeps a hidden column for an index on an expression. 8.0.15 writes it into the binlog,
        9.7.4 does not; Vitess does not know it.
        """
        indexes = self._ask(expression_indexes, error.table) if error.table else None
        return HistoryLostError(
            f"{self._survey.keyspace}.{error.table}: this MySQL logs the hidden column of an index "
            f"on an expression ({', '.join(indexes)}), and Vitess cannot read such changes: index "
            "a generated column instead, or upgrade MySQL; then set on_lost_position to `resync` "
            "for a run to copy the table again"
            if indexes
            else str(error),
            table=error.table,
        )

    def _tablets(self) -> list[str]:
        """Describe the tablets of shards where none of the requested type serves."""
        kind = self._survey.tablet_type
        by_shard: dict[str, list[Tablet]] = {}
        for tablet in self._survey.ask(tablets):
            by_shard.setdefault(tablet.shard, []).append(tablet)
        wanting = {
            shard: found
            for shard, found in by_shard.items()
            if not any(t.tablet_type == kind and t.state == "SERVING" for t in found)
        }
        if not wanting:
            return [f"each shard has a {kind} tablet that serves"]
        return [
            f"shard {shard} has no {kind} tablet that serves: {', '.join(map(str, found))}"
            for shard, found in sorted(wanting.items())
        ]

    def _throttled(self) -> list[str]:
        """Describe what is throttled; nothing on an old Vitess, or while the primary is down."""
        return [
            f"the tablets of shard {shard} throttle {', '.join(apps)}"
            for shard, apps in sorted((self._ask(throttled) or {}).items())
        ]

    def circles(self, shards: Sequence[str], table: str | None = None) -> StuckError | None:
        """Check whether VTGate silently opens a shard's stream again and again.

        It may take 3 s. A tablet that sends a large transaction, or sorts a table, does so through
        one connection to its MySQL, which gets older. What cannot be sent is read through a new one
        each time.

        Args:
            shards: the silent ones.
            table: the table that is copied; None for the shared stream.
        """
        for _ in range(_SAMPLES):
            found = self._ask(readers, shards)
            if found is None:
                return None  # the user lacks permission, or there is no tablet
            for reader in found:
                if _reads(reader, table) and self._is_circling(reader, table):
                    return StuckError(
                        "VTGate keeps reading the same data and sends nothing, as it does when "
                        + TOO_LARGE,
                        shard=reader.shard,
                    )
            if self._stopping():
                return None
            time.sleep(self._pause)
        return None

    def _is_circling(self, reader: BinlogReader, table: str | None) -> bool:
        """Note a recent connection; return whether there have been too many of them."""
        if reader.seconds > _YOUNG_SECONDS:
            return False
        now = time.monotonic()
        seen = self._young.setdefault((reader.shard, table), {})
        seen[reader.connection] = now
        return sum(now - at < _REMEMBERED_SECONDS for at in seen.values()) >= _CIRCLE

    def peek(self, stop: Vgtid) -> Vgtid:
        """Ask again for a stop position that is not reached: a failover may have lost part of it.

        Returns the stop position; for shards that have not got so far, their current position.
        """
        if self._survey.tablet_type != "PRIMARY":
            return stop  # a lagging replica is no reason
        try:
            now = answered(functools.partial(self._survey.ask, position), self._stopping)
        except VitessError:
            return stop
        shards = {
            shard: gtids if now.shards.get(shard, gtids).contains(gtids) else now.shards[shard]
            for shard, gtids in stop.shards.items()
        }
        return Vgtid(stop.keyspace, shards)


def _reads(reader: BinlogReader, table: str | None) -> bool:
    """Return whether a connection reads for a table's copy, or for the shared stream (None)."""
    if table is None:
        return not reader.statement
    return re.search(rf" from `?{re.escape(table)}`?(\s|$)", reader.statement) is not None
