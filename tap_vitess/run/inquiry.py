"""What a run asks by SQL: where the keyspace is, whether a bookmark holds, why nothing comes.

VTGate's heartbeats prove VTGate alone, it drops the tablets' own word about throttling, and what
is wrong with a position it tells as CANCELED after 90 s. SQL knows at once. What SQL cannot tell
either (it may be down, too) leaves the fault as it was.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from tap_vitess.errors import (
    ColumnsUnknownError,
    ConfigError,
    ConnectError,
    HistoryLostError,
    RequestError,
    RetriableError,
    ShardsGoneError,
    StalledError,
    StuckError,
    TableGoneError,
    TableUnseenError,
    VitessError,
)
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.statements import Effects, changed_tables
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.cascades import ADVICE, Cascade, told
from tap_vitess.survey.charsets import ColumnCharsets
from tap_vitess.survey.facts import BinlogReader, LockWait, ShardFacts, Tablet
from tap_vitess.survey.keys import doubt
from tap_vitess.survey.probe import check_cells
from tap_vitess.survey.verdict import FOLLOWS_OLD_SHARDS, READS_PARTIAL_JSON, check_shards, judge
from tap_vitess.vtgate.faults import TOO_LARGE
from tap_vitess.vtgate.grpc import Client
from tap_vitess.vtgate.retry import Answer, RetryOptions, answered, retrying

logger = logging.getLogger(__name__)

_EFFECTS_SECONDS = 10.0  # views and triggers are asked for again after so long


_SAMPLES = 12
_BETWEEN = 60  # a part of the time until it is suspected
_YOUNG_SECONDS = 1
_REMEMBERED_SECONDS = 60.0
_CIRCLE = 3  # connections of late that one stream is not seen with


class KeyspaceSurvey(Protocol):
    """What can be asked about a keyspace; `survey.Survey` asks VTGate."""

    def position(self) -> Vgtid: ...
    def facts(self, names: Iterable[str]) -> dict[str, ShardFacts]: ...
    def tablets(self) -> list[Tablet]: ...
    def throttled(self) -> dict[str, list[str]]: ...
    def routed(self, tables: Iterable[str]) -> dict[str, str]: ...
    def vindexes(self, tables: Iterable[str]) -> dict[str, str | None]: ...
    def has_table(self, table: str) -> bool: ...
    def expression_indexes(self, table: str) -> list[str]: ...
    def effects(self) -> Effects: ...
    def cascades(self) -> list[Cascade]: ...
    def version(self) -> tuple[int, int, int] | None: ...
    def readers(self, names: Iterable[str]) -> list[BinlogReader]: ...
    def not_resumable(self) -> dict[str, str]: ...
    def column_charsets(self, shard: str, table: str) -> dict[str, str]: ...
    def lock_waits(self, table: str) -> list[LockWait]: ...


class Inquiry:
    """Asks on behalf of one run over one keyspace."""

    def __init__(
        self,
        keyspace: str,
        survey: KeyspaceSurvey,
        tablet_type: str,
        retry: RetryOptions,
        stopping: Callable[[], bool],
    ) -> None:
        self.keyspace = keyspace
        self._survey = survey
        self._tablet_type = tablet_type
        self._retry = retry
        self._stopping = stopping
        self._facts: dict[str, ShardFacts] = {}
        self._not_resumable: Mapping[str, str] | None = None
        self._answered = False
        self._effects: Effects = ()
        self._effects_until = 0.0
        # Of a shard, and a table's copy or None: connections of late, and when they were seen.
        self._young: dict[tuple[str, str | None], dict[int, float]] = {}
        self._unlocated = 0.0  # since when no tablet has told a position
        self.charsets = ColumnCharsets(self._version, self._column_charsets)

    def _version(self) -> tuple[int, int, int] | None:
        return self._ask("the version of VTGate", self._survey.version)

    def _column_charsets(self, shard: str, table: str) -> dict[str, str]:
        ask = functools.partial(self._survey.column_charsets, shard, table)
        return self._ask(f"the charsets of {self.keyspace}.{table} on shard {shard}", ask)

    def position(self) -> Vgtid:
        """Ask where the keyspace is; once VTGate has answered, its absence is a passing fault.

        So is a connection that breaks off: VTGate cuts some while shards are exchanged (v22).
        """
        return self._ask(f"the position of {self.keyspace}", self._located)

    def _located(self) -> Vgtid:
        try:
            return self._survey.position()
        except RetriableError as error:
            self._unlocated = self._unlocated or time.monotonic()
            if self._tablet_type != "PRIMARY":  # a keyspace may be without one for a while
                self._check_type()
            raise error from None

    def _check_type(self) -> None:
        """See whether there are tablets of the type asked for, once VTGate has had some time."""
        if time.monotonic() - self._unlocated < min(self._retry.settle, self._retry.budget):
            return
        tablets = self._survey.tablets()
        if tablets and not any(tablet.tablet_type == self._tablet_type for tablet in tablets):
            raise ConfigError(
                f"setting tablet_type: no tablet of {self.keyspace} is a {self._tablet_type}; "
                f"VTGate sees {', '.join(map(str, tablets))}"
            )

    def check_cells(self, client: Client, options: RequestOptions) -> None:
        """See whether streams find tablets in the cells asked for; see `probe.check_cells`."""
        if options.cells and options.tablet_type != "PRIMARY":
            tablets = self._ask(f"the tablets of {self.keyspace}", self._survey.tablets)
            check_cells(client, self.keyspace, tablets, lambda: self.position().shards, options)

    def stop_position(self) -> Vgtid:
        """Ask where the keyspace is, and see that a stream can be followed to there.

        Raises:
            GtidError: a shard's MySQL has no GTIDs.
        """
        now = self.position()
        if bare := [shard for shard, gtids in now.shards.items() if not gtids.intervals]:
            ask = functools.partial(self._survey.facts, bare)
            self._ask(f"the binlogs of {self.keyspace}", ask)
        return now

    def _ask(self, what: str, question: Callable[[], Answer]) -> Answer:
        answer = retrying(what, question, self._retry, self._stopping, reached=self._answered)
        self._answered = True
        return answer

    def why_not_resumable(self, table: str) -> str:
        """Say why a table's copy cannot be resumed by its key; empty when it can be.

        The FIELD event of a copy tells types, but neither prefixes nor directions.
        """
        if self._not_resumable is None:
            ask = self._survey.not_resumable
            self._not_resumable = self._ask(f"the keys of {self.keyspace}", ask)
        return self._not_resumable.get(table, "")

    def whole_rows(self, shard: str) -> bool:
        """Tell whether a shard is known to log every column of every row."""
        return shard in self._facts and self._facts[shard].whole_rows

    def check(self, position: Vgtid, serving: Collection[str]) -> None:
        """See whether a bookmark can be read on from, before VTGate is asked to.

        Args:
            position: the bookmark.
            serving: the shards that serve the keyspace.

        Raises:
            PositionLostError: it cannot.
            RequestError: what follows could not be read without losing some of it.
        """
        check_shards(position, serving)
        if old := sorted(position.shards.keys() - set(serving)):
            self._check_follows(old)
        ask = functools.partial(self._survey.facts, position.shards)
        facts = self._ask(f"the binlogs of {self.keyspace}", ask)
        self._facts |= facts
        self._check_partial_json(facts)
        verdict = judge(position, facts, self._tablet_type)
        for warning in verdict.warnings:
            logger.warning("%s: %s", self.keyspace, warning)
        if error := verdict.error(self.keyspace):
            raise error

    def _check_follows(self, old: Sequence[str]) -> None:
        version = self._version()
        if version is not None and version < FOLLOWS_OLD_SHARDS:
            raise ShardsGoneError(
                f"{self.keyspace}: shards {', '.join(old)} of the bookmark were resharded, and "
                f"Vitess {'.'.join(map(str, version))} cannot follow from shards that no longer "
                "serve; upgrade VTGate and tablets to 20 while they are kept, or let "
                "on_lost_position be `resync` for a run to copy its tables again"
            )

    def _check_partial_json(self, facts: dict[str, ShardFacts]) -> None:
        """Refuse all tables: with the option MySQL logs every update so, documents or not."""
        partial = sorted(s for s, found in facts.items() if found.row_value_options)
        if not partial:
            return
        version = self._survey.version()
        if version is not None and version < READS_PARTIAL_JSON:
            raise RequestError(
                f"{self.keyspace}: MySQL logs partial JSON on shards {', '.join(partial)}, and "
                f"Vitess {'.'.join(map(str, version))} loses every update then, of tables without "
                "JSON too: empty binlog_row_value_options on the tablets' MySQL and copy the "
                "tables again, or upgrade Vitess to 22"
            )

    def changed(self, statements: Collection[str], tables: frozenset[str]) -> frozenset[str]:
        """Name the tables that statements without row events may have changed."""
        if statements and time.monotonic() >= self._effects_until:
            what = f"the views and triggers of {self.keyspace}"
            self._effects = self._ask(what, self._survey.effects)
            self._effects_until = time.monotonic() + _EFFECTS_SECONDS
        return changed_tables(statements, self._effects, tables)

    def look(
        self, error: VitessError, position: Vgtid | None, copied: str | None = None
    ) -> VitessError:
        """Return what is behind a fault: a lost position, or the fault with what SQL knows of it.

        A table that is not there may only be new to the tablet, which becomes a passing fault.

        Args:
            error: the fault.
            position: what the stream or copy must go on from, or contain.
            copied: the table of a copy.
        """
        ask = functools.partial(self._look, error, position, copied)
        try:
            return answered(ask, self._stopping)
        except RetriableError:
            return error

    def _look(self, error: VitessError, position: Vgtid | None, copied: str | None) -> VitessError:
        if isinstance(error, TableGoneError):
            return self._look_for_table(error)
        if isinstance(error, ColumnsUnknownError):
            return self._look_for_columns(error)
        try:
            if position is not None:
                verdict = judge(position, self._survey.facts(position.shards), self._tablet_type)
                if lost := verdict.error(self.keyspace):
                    return lost
            waits = self._lock_waits(copied) if isinstance(error, StalledError) else []
            known = [*waits, *self._tablets(), *self._throttled()]
        except (RetriableError, ConnectError, RequestError) as silent:
            known = [f"VTGate's MySQL port does not tell why: {silent}"]
        return error.reworded(f"{error}; {'; '.join(known)}")

    def circles(self, shards: Sequence[str], table: str | None = None) -> StuckError | None:
        """See whether VTGate opens a shard's stream again and again, without a word.

        It may take 3 s. A tablet that sends a large transaction, or sorts a table, does so through
        one connection to its MySQL, which gets older. What cannot be sent is read through a new one
        each time.

        Args:
            shards: those that nothing comes from.
            table: the table whose copy it is about; None for a stream.
        """
        for _ in range(_SAMPLES):
            try:
                found = self._survey.readers(shards)
            except VitessError:
                return None  # the user may not see it, or there is no tablet
            now = time.monotonic()
            for reader in found:
                if reader.seconds <= _YOUNG_SECONDS and _reads(reader, table):
                    seen = self._young.setdefault((reader.shard, table), {})
                    seen[reader.connection] = now
                    if sum(now - at < _REMEMBERED_SECONDS for at in seen.values()) >= _CIRCLE:
                        return _circling(reader.shard)
            if self._stopping():
                return None
            time.sleep(self._retry.suspect / _BETWEEN)
        return None

    def _look_for_table(self, error: TableGoneError) -> VitessError:
        """See whether MySQL has the table: a primary of late may not know one made just before."""
        try:
            there = error.table is not None and self._survey.has_table(error.table)
        except (RetriableError, ConnectError, RequestError):
            return error
        if not there:
            return error
        return TableUnseenError(
            f"{self.keyspace}.{error.table}: a tablet does not know the table yet, which MySQL has "
            "on every shard, as after a failover",
            table=error.table,
        )

    def _look_for_columns(self, error: ColumnsUnknownError) -> VitessError:
        """See whether the table has columns that MySQL hides, or has lost some.

        MySQL keeps a hidden column for an index on an expression. 8.0.15 writes it into the binlog,
        9.7.4 does not; Vitess does not know it.
        """
        try:
            indexes = self._survey.expression_indexes(error.table) if error.table else []
        except (RetriableError, ConnectError, RequestError):
            indexes = []
        return HistoryLostError(
            f"{self.keyspace}.{error.table}: this MySQL logs the hidden column of an index on an "
            f"expression ({', '.join(indexes)}), and Vitess cannot read such changes: index a "
            "generated column instead, or upgrade MySQL; then set on_lost_position to `resync` for "
            "a run to copy the table again"
            if indexes
            else str(error),
            table=error.table,
        )

    def _tablets(self) -> list[str]:
        """Name the tablets of each shard, where one of the type asked for does not serve."""
        by_shard: dict[str, list[Tablet]] = {}
        for tablet in self._survey.tablets():
            by_shard.setdefault(tablet.shard, []).append(tablet)
        wanting = {
            shard: tablets
            for shard, tablets in by_shard.items()
            if not any(t.tablet_type == self._tablet_type and t.state == "SERVING" for t in tablets)
        }
        if not wanting:
            return [f"each shard has a {self._tablet_type} tablet that serves"]
        return [
            f"shard {shard} has no {self._tablet_type} tablet that serves: "
            + ", ".join(map(str, tablets))
            for shard, tablets in sorted(wanting.items())
        ]

    def _lock_waits(self, copied: str | None) -> list[str]:
        """Tell what holds up a copy that waits for its lock; less where the user may see less."""
        try:
            return [str(wait) for wait in self._survey.lock_waits(copied)] if copied else []
        except (RequestError, RetriableError, ConnectError):
            return []

    def _throttled(self) -> list[str]:
        try:
            throttled = self._survey.throttled()
        except (RequestError, RetriableError, ConnectError):
            return []  # an old Vitess, a user without the right, or the primary is down
        return [
            f"the tablets of shard {shard} throttle {', '.join(apps)}"
            for shard, apps in sorted(throttled.items())
        ]

    def tell_routed(self, tables: Iterable[str]) -> None:
        """Warn of tables that MoveTables has taken away: their changes come while it pleases."""
        try:
            moved = answered(functools.partial(self._survey.routed, tables), self._stopping)
        except VitessError as error:
            logger.info("%s: whether tables were moved away is not known: %s", self.keyspace, error)
            return
        for table, keyspace in sorted(moved.items()):
            logger.warning(
                "%s.%s: VTGate routes it to the keyspace %s, as in a MoveTables; changes made "
                "there come here only while its reverse workflow runs, and end when it completes: "
                "select %s.%s instead",
                self.keyspace,
                table,
                keyspace,
                keyspace,
                table,
            )

    def tell_keys(self, keys: Mapping[str, Sequence[str]]) -> None:
        """Warn of tables whose rows of several shards may have one key in the target."""
        try:
            vindexes = self._survey.vindexes(keys) if keys else {}
        except VitessError as error:
            logger.info("%s: the tables' vindexes are not known: %s", self.keyspace, error)
            return
        for table, vindex in sorted(vindexes.items()):
            if why := doubt(keys[table], vindex):
                logger.warning(
                    "%s.%s: %s, and rows of several shards with one key become one row in the "
                    "target; set keys to `primary` if a sequence or the application keeps the key "
                    "unique, else discover again and copy the table again",
                    self.keyspace,
                    table,
                    why,
                )

    def tell_cascades(self, tables: Collection[str]) -> None:
        """Warn of tables whose rows change by foreign keys without being logged."""
        try:
            found = told(self._survey.cascades(), tables)
        except VitessError as error:
            logger.info("%s: whether foreign keys cascade is not known: %s", self.keyspace, error)
            return
        for table, what in found.items():
            logger.warning("%s.%s: %s; %s", self.keyspace, table, what, ADVICE)

    def peek(self, stop: Vgtid) -> Vgtid:
        """Ask again for a stop position that does not come: a failover may have lost part of it.

        Returns the stop position, and of shards that have not got so far, where they are.
        """
        if self._tablet_type != "PRIMARY":
            return stop  # a replica that lags is no reason
        try:
            now = answered(self._survey.position, self._stopping)
        except (RetriableError, ConnectError, RequestError):
            return stop
        shards = {
            shard: gtids if now.shards.get(shard, gtids).contains(gtids) else now.shards[shard]
            for shard, gtids in stop.shards.items()
        }
        return Vgtid(self.keyspace, shards)


def _circling(shard: str) -> StuckError:
    return StuckError(
        "VTGate reads the same again and again and sends nothing, as it does when " + TOO_LARGE,
        shard=shard,
    )


def _reads(reader: BinlogReader, table: str | None) -> bool:
    """Tell whether a connection reads what a stream waits for, or the copy of a table."""
    if table is None:
        return not reader.statement
    return re.search(rf" from `?{re.escape(table)}`?(\s|$)", reader.statement) is not None
