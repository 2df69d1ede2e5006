"""The copies of a run: which are resumed, begun and finished, and which fail.

A round copies until everything is done, or until the shared stream has to advance, because its
position must not become too old. A copy that cannot be resumed is never paused, so it runs alone. A
table joins the shared stream the moment its copy begins, and a Checkpoint says so before its first
row.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import (
    ColumnGoneError,
    CopyCutError,
    Remedy,
    RequestError,
    ShardsGoneError,
    StalledError,
    StuckError,
    StumbleError,
    TableUnseenError,
    VitessError,
)
from tap_vitess.log import logger_of
from tap_vitess.protocol.copy import TableCopy, by_shard
from tap_vitess.protocol.items import CopyItem, CopyProgress, Fields, Rows, ShardCopied
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.diagnosis import Diagnosis
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.interleave import interleave
from tap_vitess.run.pace import Activity, CopyFinished, Outputs, Pace
from tap_vitess.run.parts import Parts, TableSpec
from tap_vitess.run.sift import uncopyable
from tap_vitess.run.state import COPIED, ShardProgress
from tap_vitess.vtgate.reader import Look

logger = logger_of(__name__)

_STUMBLES = 2


@dataclass(eq=False)
class CopyFaultError(Exception):
    """The error that ended a table's copy, and whether the copy starts over."""

    table: str
    error: VitessError
    again: bool


@dataclass(slots=True)
class _Copy:
    """A table's copy in this run: the version of its rows, and what is left of it."""

    spec: TableSpec
    version: int
    unfinished: dict[str, query.QueryResult | None]


class Copies:
    """Copies the tables of a run, round by round."""

    def __init__(self, parts: Parts, inquiry: Inquiry, diagnosis: Diagnosis, pace: Pace) -> None:
        self.keyspace = parts.keyspace
        self._parts = parts
        self._inquiry = inquiry
        self._diagnosis = diagnosis
        self._pace = pace
        self._stumbles = Counter[str]()

    def round(self, pending: Sequence[TableSpec]) -> Outputs:
        """Copy until all is done or the shared stream has to advance.

        Raises:
            CopyFaultError: a copy could not be finished; see `fail`.
        """
        self._pace.activity = Activity("copying")
        resumable = [spec for spec in pending if self._parts.is_resumable(spec)]
        until = time.monotonic() + self._pace.options.refresh_seconds
        copies = {spec.name: self._plan(spec) for spec in resumable or pending[:1]}
        self._parts.running = frozenset(copies)
        sources = [self._source(copy) for copy in copies.values()]
        progress = False
        batches = interleave(sources, self._pace.options.copy_parallelism)
        try:
            for table, items in batches:
                copy = copies[table]
                yield from self._take(copy, items)
                if table not in self._parts.running:
                    return
                if not copy.unfinished:
                    yield from self._finish(copy)
                elif items and isinstance(items[-1], Rows):
                    continue
                else:
                    yield from self._pace.due()
                progress = progress or any(not isinstance(item, Rows) for item in items)
                pause = progress and bool(resumable) and time.monotonic() >= until
                if self._pace.stop_here() or pause:
                    break
        finally:
            batches.close()

    def fail(self, fault: CopyFaultError, *, count: int) -> bool:
        """Restart a table's copy, or give it up; return whether the table's position was lost.

        count: how often its copies have failed.
        """
        parts, options, table = self._parts, self._pace.options, fault.table
        if isinstance(fault.error, ColumnGoneError) and parts.narrow(table):
            return False
        if fault.error.remedy is Remedy.POLICY and options.resync:
            parts.lose(frozenset({table}), fault.error)
            return True
        if fault.again:
            parts.state = parts.state.recopied(table)
        if fault.again and not parts.specs[table].once and count <= options.copy_restarts:
            logger.warning("%s; it starts again", fault.error)
            parts.now = None
        else:
            parts.postpone(table, fault.error)
        return False

    def _plan(self, spec: TableSpec) -> _Copy:
        """Resume the copy in the state if that is possible; otherwise begin a new one."""
        parts = self._parts
        shards = parts.copy_position(spec.name).shards
        progress = parts.state.copies.get(spec.name)
        same = progress is not None and progress.keys() == shards.keys()
        if progress is not None and same and parts.is_resumable(spec):
            left = {shard: pk for shard, pk in progress.items() if pk is not COPIED}
            logger.info("%s.%s: copying continues", self.keyspace, spec.name)
            return _Copy(spec, parts.versions[spec.name], left)
        version = max(time.time_ns() // 1_000_000, parts.versions.get(spec.name, 0) + 1)
        return _Copy(spec, version, dict.fromkeys(shards))

    def _source(self, copy: _Copy) -> Callable[[], Iterator[tuple[str, Sequence[CopyItem]]]]:
        floor = None if copy.spec.full_table else self._parts.copy_position(copy.spec.name)
        feed = TableCopy(
            copy.spec.name,
            copy.unfinished,
            floor,
            self._parts.request,
            keyspace=self.keyspace,
            resumable=self._parts.is_resumable(copy.spec),
        )
        return functools.partial(self._read, feed, functools.partial(self._look, feed, floor))

    def _read(self, feed: TableCopy, look: Look) -> Iterator[tuple[str, Sequence[CopyItem]]]:
        """Read a copy, perhaps in its own thread."""
        name = feed.table
        try:
            if feed.finished:
                yield name, ()
            for items in self._pace.read(feed, ("copy", name), look):
                yield name, by_shard(items) if self._pace.options.by_column else items
        except StuckError as error:
            found = uncopyable(self.keyspace, name, error)
            raise CopyFaultError(name, found, again=False) from None
        except (RequestError, CopyCutError, TableUnseenError) as error:
            # A copy requests no changes, so a lost position means that shards are gone.
            again = error.remedy is Remedy.RESTART or isinstance(error, ShardsGoneError)
            # A copy that cannot be resumed would stumble at its last row again and again.
            again = again and self._stumbles[name] < _STUMBLES
            raise CopyFaultError(name, error, again=again) from None

    def _look(self, feed: TableCopy, floor: Vgtid | None, error: VitessError) -> VitessError:
        if isinstance(error, StumbleError):
            self._stumbles[feed.table] += 1
            return error
        stalled = isinstance(error, StalledError)
        if stalled and (stuck := self._diagnosis.circles(feed.unfinished, feed.table)):
            return stuck
        return self._diagnosis.look(error, floor, feed.table)

    def _take(self, copy: _Copy, items: Sequence[CopyItem]) -> Outputs:
        """Deliver rows and note the progress of the copy."""
        parts, spec = self._parts, copy.spec
        self._pace.activity = Activity("copying", spec.name)
        if parts.versions.get(spec.name) != copy.version:
            yield from self._begin(copy)
        for item in items:
            if spec.name not in parts.running:
                return
            if isinstance(item, Rows):
                item.fields = self._copied(item.fields)
                yield item
                continue
            if isinstance(item, ShardCopied):
                del copy.unfinished[item.shard]
                if item.fields:
                    self._copied(item.fields)
            if not spec.full_table:
                progress: ShardProgress = item.lastpk if isinstance(item, CopyProgress) else COPIED
                parts.state = parts.state.progressed(spec.name, item.shard, progress)

    def _copied(self, fields: Fields) -> Fields:
        """Note the columns of a shard's snapshot; return them with their charsets."""
        fields = self._inquiry.charsets.told(fields)
        self._parts.layouts.copied(self._inquiry.whole(fields))
        return fields

    def _begin(self, copy: _Copy) -> Outputs:
        """Add the table to the shared stream, with a checkpoint before its first row."""
        parts, name = self._parts, copy.spec.name
        logger.info("%s.%s: the copy begins", self.keyspace, name)
        if copy.spec.resumable and (why := self._inquiry.why_not_resumable(name)):
            logger.info(
                "%s.%s: if this copy is interrupted, it starts over: Vitess cannot resume a copy "
                "by the key's %s without losing rows",
                self.keyspace,
                name,
                why,
            )
        parts.versions[name] = copy.version
        parts.layouts.copy_begins(name)
        if not copy.spec.full_table:
            position = parts.copy_position(name)
            parts.state = parts.state.joined(
                name, copy.version, position, copy.unfinished, parts.followed
            )
        yield self._pace.checkpoint()

    def _finish(self, copy: _Copy) -> Outputs:
        logger.info("%s.%s: the copy is finished", self.keyspace, copy.spec.name)
        yield CopyFinished(copy.spec.name, copy.version)
        self._parts.finish(copy.spec)
        yield self._pace.checkpoint()
