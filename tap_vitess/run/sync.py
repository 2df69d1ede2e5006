"""The run of one keyspace: stream, copy, stream. It knows nothing of Singer.

Two sentences carry everything:

1. Every change after the position S reaches the target through one shared stream.
2. Every row is copied from a snapshot that is not older than S.

So a run streams the tables whose copy has begun from S to where the keyspace is now, copies
what is not copied yet, and streams once more if anything was copied. A table joins the stream
the moment its copy begins, and a Checkpoint says so before its first row. `state` is at any
moment what may be stored once all events given out so far have been written.

With `follow` a run does not end there: the shared stream stays open, and its stop position is
replaced by a later one every so often (`protocol/changes.py`). It is left for a table that is to be
copied again, for `stopping`, and for any error, so that none is hidden by a run without an end.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import (
    ConnectError,
    CopyCutError,
    PositionLostError,
    Remedy,
    RequestError,
    RetriableError,
    ShardsGoneError,
    StalledError,
    StuckError,
    StumbleError,
    TableUnseenError,
    UnreadableError,
    ValueDecodeError,
    VitessError,
)
from tap_vitess.protocol.changes import ChangeStream, EndlessStream, by_table
from tap_vitess.protocol.copy import TableCopy
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import (
    Boundary,
    ChangeItem,
    CopyItem,
    CopyProgress,
    Feed,
    Fields,
    Rows,
    ShardCopied,
)
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.interleave import interleave
from tap_vitess.run.layouts import Layouts
from tap_vitess.run.looking import Looking
from tap_vitess.run.sift import Sieve, SiftStoppedError, stuck_shards, uncopyable
from tap_vitess.run.standstill import Standstill
from tap_vitess.run.state import COPIED, Group, KeyspaceState, ShardProgress
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.telling import Telling
from tap_vitess.vtgate.grpc import Client
from tap_vitess.vtgate.reader import Item, Look, read
from tap_vitess.vtgate.retry import Question, RetryOptions

logger = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 2.0
_NAP_SECONDS = 0.2
_STATED = "a statement whose rows MySQL does not log (binlog_format STATEMENT or MIXED)"
_SIFTED_AGAIN = 3
_STUMBLES = 2


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table to bring.

    full_table: copy it afresh and follow no changes. key: what its rows are told apart by; with
    one its rows can come twice, and its copy can be resumed unless the primary key is one of those
    by which none can be (`protocol/keys.py`); None where nobody tells. once: rows that came twice
    would stay twice, so a copy that cannot go on where it was cut is an error.
    again: copy it again whatever the state tells, and follow it on.
    """

    name: str
    full_table: bool = False
    key: tuple[str, ...] | None = None
    once: bool = False
    again: bool = False

    @property
    def resumable(self) -> bool:
        """Whether a cut copy can go on where it was, as far as the key allows it."""
        return self.key != () and not self.full_table


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """How to run.

    checkpoint_seconds: between two Checkpoints. refresh_seconds: how long copies run before
    the shared stream is brought forward, so that S does not grow old. copy_restarts: how often
    copies that cannot be resumed start again in one run. resync: whether tables whose position
    is lost are copied again; else they are left behind with an error. follow: whether to go on
    behind the position at the start, for ever. poll_seconds: how often such a run asks where the
    keyspace is, to see that the stream brings all there is. by_table: whether the rows of small
    transactions may come table by table; else they come in the order of their commits. check_keys:
    whether to tell of tables whose key is not unique over the shards.
    """

    request: RequestOptions = field(default_factory=RequestOptions)
    retry: RetryOptions = field(default_factory=RetryOptions)
    checkpoint_seconds: float = 10.0
    copy_parallelism: int = 1
    refresh_seconds: float = 900.0
    copy_restarts: int = 5
    resync: bool = False
    follow: bool = False
    poll_seconds: float = 10.0
    by_table: bool = False
    check_keys: bool = False


@dataclass(frozen=True, slots=True)
class CopyFinished:
    """All rows of a table's copy have been given out; older versions of it may go."""

    table: str
    version: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The moment to store `state`, before anything that follows.

    phase: whether a copy or the stream begins or ends here; else it is due by time alone.
    """

    phase: bool = True


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run is at, for other threads to look at: it does not change."""

    phase: Phase = "asking"
    table: str | None = None
    feed: ChangeStream | None = None

    @property
    def behind(self) -> dict[str, int]:
        """How many transactions each shard still is before the stop position."""
        return self.feed.distance if self.feed is not None else {}

    @property
    def resharded(self) -> frozenset[str]:
        """The shards that the stop position does not name: the stream is before their reshard."""
        return self.feed.unknown_shards if self.feed is not None else frozenset()


Event = Rows | CopyFinished | Checkpoint
Events = Generator[Event, None, None]


class _TableError(Exception):
    """What ended the copy of one table, and whether the copy starts again."""

    def __init__(self, table: str, error: VitessError, *, again: bool) -> None:
        super().__init__(table)
        self.table = table
        self.error = error
        self.again = again


@dataclass(slots=True)
class _Copy:
    """A table's copy in this run: the version of its rows, and what is left of it."""

    spec: TableSpec
    version: int
    unfinished: dict[str, query.QueryResult | None]
    begun: bool


class KeyspaceSync:
    """One run over one keyspace. Read `events` to the end; `state` and `versions` go with it.

    held_up: the error that a run comes to which was stopped while nothing had come further; whether
    it is one depends on who stopped it.
    """

    def __init__(
        self,
        client: Client,
        survey: Survey,
        tables: Iterable[TableSpec],
        state: KeyspaceState,
        options: SyncOptions,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare a run.

        Args:
            client: an open channel to VTGate.
            survey: asks about the keyspace by SQL.
            tables: what to bring; all other tables of the state keep their place.
            state: where the last run ended.
            options: how to run.
            stopping: asked at every boundary; True ends the run there.
        """
        self.keyspace = state.keyspace
        self._client = client
        self._inquiry = Inquiry(survey, options.retry, stopping)
        self._looking = Looking(survey, options.retry, stopping)
        self._telling = Telling(survey, stopping)
        self._specs = {spec.name: spec for spec in tables}
        self._log_based = frozenset(s.name for s in self._specs.values() if not s.full_table)
        self._options = options
        self._stopping = stopping
        self.stopped = False
        self.held_up: VitessError | None = None
        self._standstill = Standstill()
        self.activity = Activity()
        self.left_behind: dict[str, VitessError] = {}
        for spec in self._specs.values():
            if spec.full_table:
                state = state.without(spec.name)
        # Apart from the others, which must not be held up by what may be wrong with them.
        self._asked = frozenset(s.name for s in self._specs.values() if s.again)
        for table in self._asked:
            state = state.recopied(table)
        self._state = state.split(self._log_based).split(self._asked)
        self._moved: tuple[frozenset[str], Boundary] | None = None
        self.versions = {table: state.version(table) for table in self._log_based}
        self._now: Vgtid | None = None
        self._next_stop = 0.0  # when the next stop position of an endless stream is asked for
        self._question: Question[Vgtid] | None = None
        self._layouts = Layouts(state.layouts)
        self._other_layouts = {
            table: text for table, text in state.layouts.items() if table not in self._log_based
        }
        self._checked: dict[tuple[str, str], Fields] = {}
        self._met_shards: frozenset[str] = frozenset()  # by the stream that runs
        self._met_unplaced: set[tuple[str, str, int]] = set()  # statements that have no position
        self._streaming = False
        self._out: set[str] = set()  # no longer given out by the stream that runs
        self._unfollowed: frozenset[str] = frozenset()  # their stream has failed
        self._uncopied: frozenset[str] = frozenset()  # their copy has failed
        self._stumbles: Counter[str] = Counter()  # of copies
        self._unsifted = 0  # how often a passing fault has cut the sifting short
        self._errors: list[VitessError] = []
        self._replaced: Counter[str] = Counter()
        self._full: set[str] = set()  # FULL_TABLE copies that are finished
        self._ended = False
        self._last_checkpoint = time.monotonic()

    @property
    def state(self) -> KeyspaceState:
        """What may be stored once all events given out so far have been written."""
        if self._moved is not None:
            tables, boundary = self._moved
            position = Vgtid.from_proto(self.keyspace, boundary.vgtid.shard_gtids)
            self._state = self._state.moved(tables, position)
            self._moved = None
        return self._state

    @property
    def stored(self) -> KeyspaceState:
        """What a STATE message tells: `state`, and how the tables looked there."""
        tables: dict[str, Mapping[str, GtidSet]] = {}
        for group in self.state.groups:
            followed = [table for table in group.tables if table in self._log_based]
            tables |= dict.fromkeys(followed, group.position.shards)
        layouts = self._other_layouts | self._layouts.stored(tables)
        return replace(self.state, layouts=layouts)

    def is_full_table(self, table: str) -> bool:
        """Tell whether a table is copied afresh and not followed."""
        return self._specs[table].full_table

    def is_copied(self, table: str) -> bool:
        """Tell whether a table's copy is finished."""
        return table in self._full or self._state.is_copied(table)

    def whole_rows(self, shard: str) -> bool:
        """Tell whether a shard is known to log every column of every row."""
        return self._inquiry.whole_rows(shard)

    def brought(self, table: str) -> bool:
        """Tell whether all of a table has been given out, up to where the run has ended."""
        if not self._ended or self.held_up or table in self._unfollowed | self._uncopied:
            return False
        return table in self._full or (table in self._log_based and self.state.is_copied(table))

    def events(self) -> Events:
        """Run, and yield rows, finished copies and checkpoints.

        A table or group that cannot be brought does not stop the others.

        Raises:
            VitessError: the run cannot go on, or the first of what was left behind; `state` still
                holds.
        """
        before = self.state.groups
        yield self._checkpoint()
        self._inquiry.check_cells(self._client, self._options.request)
        if self._log_based:
            yield from self._follow()
            self._telling.routed(self._log_based)
            self._telling.cascades(self._log_based)
        # A question a table: too dear for a run with nothing to do.
        if self._options.check_keys and (self.state.groups != before or self._pending()):
            self._telling.keys({s.name: s.key for s in self._specs.values() if s.key})
        yield from self._copy_and_follow()
        while self._options.follow and not self.stopped and self._followed():
            if self._errors or self._uncopied:
                break  # what is not copied in this run is copied in the next
            yield from self._stay()
            yield from self._copy_and_follow()
        self._state = self.state.merged()
        yield self._checkpoint()
        self._ended = True
        if self._errors:
            raise self._errors[0]

    def _copy_and_follow(self) -> Events:
        while (yield from self._copy_tables()) and not self.stopped:
            yield from self._follow()  # which may tell of tables to copy again

    def give_up(self, table: str, error: VitessError) -> None:
        """Go on without a table whose rows cannot be taken, or copy it again; between two events.

        It keeps the position it has: what came since its last boundary comes again.
        """
        self._lose(frozenset({table}), error)
        if table in self._unfollowed:
            self._uncopied |= {table}

    def _lose(self, tables: frozenset[str], error: VitessError) -> None:
        """Let tables go that cannot be read on, or copy them again where that is the setting."""
        restarts = max(self._replaced[table] for table in tables)
        # A change's bytes may not fit because the column has been altered since; a copy's do.
        history = isinstance(error, ValueDecodeError) and self._streaming
        lost = (history or error.remedy is Remedy.POLICY) and (
            self._options.resync or tables <= self._asked
        )
        if lost and restarts < self._options.copy_restarts:
            names = ", ".join(sorted(tables))
            told = error.within(self.keyspace)
            logger.warning("%s: %s copied again: %s", self.keyspace, names, told)
            if isinstance(error, UnreadableError):
                self._now = None  # what cannot be read may stand behind an earlier answer
            self._now = self._now or self._inquiry.position()
            self._state = self.state.restarted(tables, self._now)
            self._replaced.update(tables)
            for table in tables:
                self._layouts.copy_begins(table)
        else:
            self._unfollowed |= tables
            self._state = self.state.split(self._log_based - self._unfollowed)
            self._leave_behind(tables, error)
        self._out |= tables

    def _leave_behind(self, tables: frozenset[str], error: VitessError) -> None:
        """Go on without some tables; the run ends with the error all the same."""
        names = ", ".join(sorted(tables))
        told = error.within(self.keyspace)
        logger.error("%s: %s left behind: %s", self.keyspace, names, told)
        self._errors.append(error)
        self.left_behind.update(dict.fromkeys(tables, error))

    # The shared stream

    def _followed(self) -> list[frozenset[str]]:
        """List the tables of each group that takes part in this run."""
        return [frozenset(group.tables) for group in self._followed_groups()]

    def _followed_groups(self) -> list[Group]:
        among = self._among()
        return [group for group in self.state.groups if group.tables.keys() <= among]

    def _among(self) -> frozenset[str]:
        """Return the tables that the shared stream of this run may follow."""
        return self._log_based - self._unfollowed if self._unfollowed else self._log_based

    def _follow(self) -> Events:
        """Bring every group of this run to where the keyspace is now, and make them one."""
        self.activity = Activity()
        self._now = self._inquiry.stop_position()
        self._layouts.asked()
        for tables in self._followed():
            yield from self._bring(tables, self._now)
            if self.stopped:
                return
        self._unite()
        yield self._checkpoint()

    def _stay(self) -> Events:
        """Follow on until there is something to copy, an error, or an order to stop."""
        groups = self._followed()
        self._question = None
        if len(groups) == 1:
            yield from self._bring(groups[0], self.state.position_of(groups[0]), endless=True)
            return
        # Groups that do not meet, as while only some have passed a reshard.
        until = time.monotonic() + self._options.poll_seconds
        while not self._stop_here() and time.monotonic() < until:
            time.sleep(_NAP_SECONDS)
        if not self.stopped:
            yield from self._follow()

    def _bring(self, tables: frozenset[str], stop: Vgtid, *, endless: bool = False) -> Events:
        """Stream a group; a table that cannot be read is let go, and the others go on."""
        checked = False
        while tables and not self.stopped and not (endless and self._is_to_leave()):
            self._out.clear()
            self._streaming = True
            try:
                # Behind the stop position it may be purged, ahead of it comes from elsewhere.
                if not checked and self.state.position_of(tables) != stop:
                    self._inquiry.check(self.state.position_of(tables), stop.shards)
                    checked = True
                if (yield from self._stream(tables, stop, endless=endless)):
                    return
            except RequestError as error:
                one = frozenset({error.table or ""}) & tables - self._out
                self._lose(one or tables - self._out, error)
            tables -= self._out

    def _sift(self, feed: ChangeStream, tables: frozenset[str], why: VitessError) -> None:
        """Let go of the tables that a stream cannot pass its place with."""
        shards = stuck_shards(why.shard, feed.behind, feed.shards)
        sieve = Sieve(
            self._client,
            feed.position,
            shards,
            self._options.request,
            self._options.retry,
            lambda: self._looking.circles(sorted(shards)),
            self._stop_here,
        )
        try:
            found = sieve.sift(tables, why)
        except SiftStoppedError:
            return
        except RetriableError as fault:
            self._unsifted += 1
            if self._unsifted > _SIFTED_AGAIN:
                raise
            logger.warning("%s: %s; streamed again", self.keyspace, fault)
            return
        self._unsifted = 0
        for culprits, error in found.items():
            if isinstance(error, RetriableError):
                raise error  # it stands still for another reason than its tables
            self._lose(culprits, error)

    def _is_to_leave(self) -> bool:
        return bool(self._errors or self._uncopied or self._pending())

    def _stream(
        self, tables: frozenset[str], stop: Vgtid, *, endless: bool
    ) -> Generator[Event, None, bool]:
        """Stream a group once; tell whether that is all, or what is left of it comes again."""
        start = self.state.position_of(tables)
        kind = EndlessStream if endless else ChangeStream
        feed = kind(tables, start, stop, self._options.request)
        if feed.finished:
            logger.info("%s: nothing new for %d tables", self.keyspace, len(tables))
        else:
            logger.info("%s: streaming the changes of %d tables", self.keyspace, len(tables))
            try:
                yield from self._read(feed, tables)
            except (StuckError, StalledError) as error:
                self._sift(feed, tables - self._out, error)
                return False
        if feed.finished:
            self._copy_again(self._layouts.reached(tables - self._out))
        if feed.finished and feed.behind:
            logger.warning(
                "%s: shards %s end with a transaction that has no position; they stay before it",
                self.keyspace,
                ", ".join(feed.behind),
            )
        return True

    def _read(self, feed: ChangeStream, tables: frozenset[str]) -> Events:
        self.activity = Activity("streaming", feed=feed)
        shards = self._met_shards = feed.shards
        ask = 0.0
        look = functools.partial(self._look, feed)
        for items in self._items_of(feed, ("stream", tables), look):
            for item in by_table(items) if self._options.by_table else items:
                yield from self._change(item, tables)
            if not tables - self._out:
                return
            if items and isinstance(items[-1], Rows):
                continue
            if self._is_due():
                yield self._checkpoint(phase=False)
            if feed.shards != shards:
                shards = feed.shards
                logger.info("%s: resharded to %s", self.keyspace, ", ".join(sorted(shards)))
                self._layouts.resharded(shards)
            endless = isinstance(feed, EndlessStream)
            if feed.unknown_shards and not endless and time.monotonic() >= ask:
                # For a while after the journal SQL still names the old shards.
                feed.stop_at(self._inquiry.position())
                ask = time.monotonic() + _ASK_AGAIN_SECONDS
            if self._leaves(feed, tables):
                return

    def _items_of(
        self, feed: Feed[Item], part: Hashable, look: Look
    ) -> Generator[Sequence[Item], None, None]:
        """Read a feed, and keep in mind what holds it up."""
        note = self._standstill.begin(part, feed, time.monotonic())
        try:
            yield from read(self._client, feed, self._options.retry, look, note)
        finally:
            self._standstill.end(part)

    def _leaves(self, feed: ChangeStream, tables: frozenset[str]) -> bool:
        """Tell whether a stream is left before it is finished; move the stop of an endless one."""
        if isinstance(feed, EndlessStream):
            self._move_stop(feed, tables)
            if self._is_to_leave():
                return True
        return not feed.finished and self._stop_here()

    def _move_stop(self, feed: EndlessStream, tables: frozenset[str]) -> None:
        """Ask for the next stop position where the last one is reached, or is of other shards."""
        if self._question is not None:
            if self._question.answered:
                self._take_stop(feed, self._question)
                self._question = None
            return
        if (feed.reached or feed.unknown_shards) and time.monotonic() >= self._next_stop:
            if feed.reached:
                self._copy_again(self._layouts.reached(tables - self._out))
            self._layouts.asked()
            self._question = Question(self._inquiry.position)

    def _take_stop(self, feed: EndlessStream, question: Question[Vgtid]) -> None:
        try:
            self._now = question.answer()
        except (RetriableError, ConnectError) as error:
            logger.warning("%s: asked again later: %s", self.keyspace, error)
        else:
            feed.stop_at(self._now)
        again = _ASK_AGAIN_SECONDS if feed.unknown_shards else self._options.poll_seconds
        self._next_stop = time.monotonic() + min(again, self._options.poll_seconds)

    def _change(self, item: ChangeItem, tables: frozenset[str]) -> Events:
        """Give out the rows of tables that are still followed, and move the others' position."""
        if isinstance(item, Rows):
            if item.fields.table in self._out:
                return
            raw, item.fields = item.fields, self._inquiry.charsets.told(item.fields)
            if item.fields.shard not in self._met_shards:
                # Its rows may come together with the end of the shards before it.
                self._met_shards |= {item.fields.shard}
                self._layouts.resharded([item.fields.shard])
            if self._checked.get((item.fields.table, item.fields.shard)) is not item.fields:
                try:
                    self._layouts.check(item.fields, raw)
                except PositionLostError as error:
                    self._lose(frozenset({item.fields.table}), error)
                    return
                self._checked[item.fields.table, item.fields.shard] = item.fields
            yield item
            return
        stated = self._stated(item, tables - self._out)
        self._moved = tables - self._out, item
        misread = self._layouts.altered(a for a in item.altered if a.table not in self._out)
        self._copy_again({**stated, **misread, **item.replaced})

    def _stated(self, boundary: Boundary, tables: frozenset[str]) -> dict[str, str]:
        """Name the tables that statements in the place of rows may have changed.

        Those of a transaction without a position come again with each call of the stream.
        """
        if not boundary.statements:
            return {}
        if boundary.unplaced:
            gtids = next(e.gtid for e in boundary.vgtid.shard_gtids if e.shard == boundary.shard)
            place = boundary.shard, gtids, boundary.unplaced
            if place in self._met_unplaced:
                return {}
            self._met_unplaced.add(place)
        changed = self._inquiry.changed(boundary.statements, tables)
        return dict.fromkeys(changed, f"{_STATED} on shard {boundary.shard}")

    def _look(self, feed: ChangeStream, error: VitessError) -> VitessError:
        """Look into a fault of the shared stream; a stop position that never comes is mended."""
        if isinstance(error, StumbleError):
            return error
        if isinstance(error, StalledError) and (stuck := self._looking.circles(feed.behind)):
            return stuck
        found = self._looking.look(error, feed.position)
        if isinstance(found, StalledError):
            stop = self._looking.peek(feed.stop)
            if stop != feed.stop:
                logger.warning(
                    "%s: shards are behind the stop position taken before, as after a failover; "
                    "the run ends where they are now",
                    self.keyspace,
                )
                feed.stop_at(stop)
        return found

    def _copy_again(self, tables: Mapping[str, str]) -> None:
        """Note, with the position behind the DDL, that what was given of tables does not count.

        A DDL comes once a shard, and several may come before the copy: they ask for one copy.

        Args:
            tables: each with why it must be copied again.
        """
        for table, why in tables.items():
            if table in self._out or self.state.copies.get(table) == {}:
                continue
            self._state = self.state.recopied(table)
            self._replaced[table] += 1
            again = self._replaced[table] <= self._options.copy_restarts
            self._uncopied |= set() if again else {table}
            logger.warning(
                "%s.%s is copied again in %s run: %s",
                self.keyspace,
                table,
                "this" if again else "the next",
                why,
            )

    def _unite(self) -> None:
        """Let the groups of this run stand at one position: what all of them contain."""
        followed = self._followed()
        if len(followed) < 2:
            return
        position = self.state.position_of(followed[0])
        for tables in followed[1:]:
            common = position.intersection(self.state.position_of(tables))
            if common is None:
                return
            position = common
        for tables in followed:
            self._state = self.state.moved(tables, position)
        # Groups that are not in this run may stand there too, and stay apart.
        self._state = self.state.merged().split(self._log_based - self._unfollowed)

    # Copies

    def _copy_tables(self) -> Generator[Event, None, bool]:
        """Copy what is not copied; tell whether the shared stream has to follow once more."""
        copied = False
        restarts: Counter[str] = Counter()
        while (pending := self._pending()) and not self.stopped:
            try:
                yield from self._copy_round(pending)
            except _TableError as fault:
                restarts[fault.table] += 1
                if fault.error.remedy is Remedy.POLICY and self._options.resync:
                    self._lose(frozenset({fault.table}), fault.error)
                    continue
                self._state = self.state.recopied(fault.table) if fault.again else self.state
                again = fault.again and not self._specs[fault.table].once
                if not again or restarts[fault.table] > self._options.copy_restarts:
                    self._uncopied |= {fault.table}
                    self._leave_behind(frozenset({fault.table}), fault.error)
                else:
                    logger.warning("%s; it starts again", fault.error)
                    self._now = None
            copied = copied or any(not spec.full_table for spec in pending)
            if self._log_based and self._pending() and not self.stopped:
                yield from self._follow()
        return copied

    def _pending(self) -> list[TableSpec]:
        """List what is left to copy, those last that hold up the others: they cannot be paused."""
        done = self._uncopied | self._unfollowed | self._full
        pending = [
            spec
            for spec in self._specs.values()
            if spec.name not in done and not self.state.is_copied(spec.name)
        ]
        return sorted(pending, key=lambda spec: not self._is_resumable(spec))

    def _is_resumable(self, spec: TableSpec) -> bool:
        return spec.resumable and not self._inquiry.why_not_resumable(spec.name)

    def _copy_round(self, pending: Sequence[TableSpec]) -> Events:
        """Copy until all is done or the shared stream has to be brought forward.

        A copy that cannot be resumed is never paused, so it goes alone.
        """
        self.activity = Activity("copying")
        self._streaming = False
        self._out.clear()
        resumable = [spec for spec in pending if self._is_resumable(spec)]
        specs = resumable or pending[:1]
        until = time.monotonic() + self._options.refresh_seconds
        copies = {spec.name: self._plan(spec) for spec in specs}
        sources = [self._source(copy) for copy in copies.values()]
        progress = False
        batches = interleave(sources, self._options.copy_parallelism)
        try:
            for table, items in batches:
                copy = copies[table]
                yield from self._copy_items(copy, items)
                if table in self._uncopied | self._out:
                    return
                if not copy.unfinished:
                    yield from self._finish(copy)
                elif items and isinstance(items[-1], Rows):
                    continue
                elif self._is_due():
                    yield self._checkpoint(phase=False)
                progress = progress or any(not isinstance(item, Rows) for item in items)
                pause = progress and bool(resumable) and time.monotonic() >= until
                if self._stop_here() or pause:
                    break
        finally:
            batches.close()

    def _plan(self, spec: TableSpec) -> _Copy:
        """Resume the copy the state tells of, where that is right; else begin a new one."""
        shards = self._copy_position(spec.name).shards
        progress = self.state.copies.get(spec.name)
        resumable = self._is_resumable(spec)
        if resumable and progress is not None and progress.keys() == shards.keys():
            left = {shard: pk for shard, pk in progress.items() if pk is not COPIED}
            logger.info("%s.%s: the copy goes on", self.keyspace, spec.name)
            return _Copy(spec, self.versions[spec.name], left, begun=True)
        version = max(time.time_ns() // 1_000_000, self.versions.get(spec.name, 0) + 1)
        return _Copy(spec, version, dict.fromkeys(shards), begun=False)

    def _copy_position(self, table: str) -> Vgtid:
        """Return the position a table's snapshots must contain: that of its stream."""
        followed = self._followed_groups()
        own = [group for group in followed if table in group.tables] or followed
        if own:
            return own[0].position
        if self._now is None:
            self._now = self._inquiry.position()
        return self._now

    def _source(self, copy: _Copy) -> Callable[[], Iterator[tuple[str, Sequence[CopyItem]]]]:
        spec = copy.spec
        floor = None if spec.full_table else self._copy_position(spec.name)
        feed = TableCopy(
            spec.name,
            copy.unfinished,
            floor,
            self._options.request,
            keyspace=self.keyspace,
            resumable=self._is_resumable(spec),
        )

        def look(error: VitessError) -> VitessError:
            if isinstance(error, StumbleError):
                self._stumbles[spec.name] += 1
                return error
            if isinstance(error, StalledError):
                stuck = self._looking.circles(feed.unfinished, spec.name)
                if stuck is not None:
                    return stuck
            return self._looking.look(error, floor, spec.name)

        def batches() -> Iterator[tuple[str, Sequence[CopyItem]]]:
            try:
                if feed.finished:
                    yield spec.name, ()
                for items in self._items_of(feed, ("copy", spec.name), look):
                    yield spec.name, items
            except StuckError as error:
                found = uncopyable(self.keyspace, spec.name, error)
                raise _TableError(spec.name, found, again=False) from None
            except (RequestError, CopyCutError, TableUnseenError) as error:
                # A copy asks for no changes: what it has lost are shards.
                again = error.remedy is Remedy.RESTART or isinstance(error, ShardsGoneError)
                # One that cannot be resumed would stumble at its last row time and again.
                again = again and self._stumbles[spec.name] < _STUMBLES
                raise _TableError(spec.name, error, again=again) from None

        return batches

    def _begin(self, copy: _Copy) -> Events:
        """Let the table join the shared stream, and say so before its first row."""
        name = copy.spec.name
        logger.info("%s.%s: the copy begins", self.keyspace, name)
        if copy.spec.resumable and (why := self._inquiry.why_not_resumable(name)):
            logger.info(
                "%s.%s: should this copy be cut, it starts over: Vitess resumes none by the key's "
                "%s without losing rows",
                self.keyspace,
                name,
                why,
            )
        copy.begun = True
        self.versions[name] = copy.version
        self._layouts.copy_begins(name)
        if not copy.spec.full_table:
            position = self._copy_position(name)
            self._state = self.state.joined(
                name, copy.version, position, copy.unfinished, self._among()
            )
        yield self._checkpoint()

    def _copy_items(self, copy: _Copy, items: Sequence[CopyItem]) -> Events:
        self.activity = Activity("copying", copy.spec.name)
        if not copy.begun:
            yield from self._begin(copy)
        for item in items:
            if copy.spec.name in self._uncopied | self._out:
                return
            if isinstance(item, Rows):
                item.fields = self._inquiry.charsets.told(item.fields)
                self._layouts.copied(item.fields)
                yield item
                continue
            if isinstance(item, ShardCopied):
                del copy.unfinished[item.shard]
            if not copy.spec.full_table:
                progress: ShardProgress = item.lastpk if isinstance(item, CopyProgress) else COPIED
                self._state = self.state.progressed(copy.spec.name, item.shard, progress)

    def _finish(self, copy: _Copy) -> Events:
        name = copy.spec.name
        logger.info("%s.%s: the copy is finished", self.keyspace, name)
        yield CopyFinished(name, copy.version)
        if copy.spec.full_table:
            self._full.add(name)
        self._state = self.state.copied(name)
        yield self._checkpoint()

    # Pace

    def _stop_here(self) -> bool:
        if not self.stopped and self._stopping():
            self.stopped = True
            self.held_up = self._standstill.found(time.monotonic())
        return self.stopped

    def _is_due(self) -> bool:
        return time.monotonic() - self._last_checkpoint >= self._options.checkpoint_seconds

    def _checkpoint(self, *, phase: bool = True) -> Checkpoint:
        self._last_checkpoint = time.monotonic()
        return Checkpoint(phase)


Phase = Literal["asking", "streaming", "copying"]
