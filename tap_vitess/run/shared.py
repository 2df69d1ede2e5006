"""The shared stream of a run: all tables that are followed, from their position to a stop position.

If a run has left out or lost some tables, groups of tables have different positions. Each group is
streamed to the same stop position, and then they are merged. With `follow` the stream stays open,
and a later stop position replaces the last one from time to time (`protocol/changes.py`). The run
leaves the stream to copy a table, after an error, and to end.

A table that can no longer be read is taken out of the running stream, and the stream's other tables
continue.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Generator

from tap_vitess.errors import (
    ColumnGoneError,
    ConnectError,
    PositionLostError,
    RequestError,
    RetriableError,
    StalledError,
    StuckError,
    StumbleError,
    VitessError,
)
from tap_vitess.log import logger_of
from tap_vitess.protocol.changes import ChangeStream, EndlessStream, by_table
from tap_vitess.protocol.items import Boundary, Fields, Rows
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.diagnosis import Diagnosis
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.pace import Activity, Output, Outputs, Pace
from tap_vitess.run.parts import Parts
from tap_vitess.run.sift import Sieve, SiftStoppedError
from tap_vitess.vtgate.retry import Question

logger = logger_of(__name__)

_ASK_AGAIN_SECONDS = 2.0
_NAP_SECONDS = 0.2
_STATED = "a statement whose rows MySQL does not log (binlog_format STATEMENT or MIXED)"
_SIFTED_AGAIN = 3


class SharedStream:
    """Streams the groups of a run, one at a time."""

    def __init__(self, parts: Parts, inquiry: Inquiry, diagnosis: Diagnosis, pace: Pace) -> None:
        self.keyspace = parts.keyspace
        self._parts = parts
        self._inquiry = inquiry
        self._diagnosis = diagnosis
        self._pace = pace
        self._options = pace.options
        self._next_stop = 0.0  # when the next stop position is asked for
        self._question: Question[Vgtid] | None = None
        self._checked: dict[tuple[str, str], Fields] = {}
        self._met_shards = frozenset[str]()  # of the running stream
        self._met_unplaced = set[tuple[str, str, int]]()  # statements that have no position
        self._unsifted = 0  # how often a passing fault has cut the sifting short

    def follow(self) -> Outputs:
        """Stream every group of this run to the keyspace's present position, and merge them."""
        self._pace.activity = Activity()
        self._parts.now = self._inquiry.stop_position()
        self._parts.layouts.asked()
        self._next_stop = 0.0
        for group in self._parts.groups():
            yield from self._bring(frozenset(group.tables), self._parts.located())
            if self._pace.stopped:
                return
        self._parts.unite()
        yield self._pace.checkpoint()

    def stay(self) -> Outputs:
        """Keep following until there is something to copy, an error, or a request to stop."""
        groups = self._parts.groups()
        self._question = None
        if len(groups) == 1:
            yield from self._bring(frozenset(groups[0].tables), groups[0].position, endless=True)
            return
        # Groups without a common position, as while only some have passed a reshard.
        until = time.monotonic() + self._options.poll_seconds
        while not self._pace.stop_here() and time.monotonic() < until:
            time.sleep(_NAP_SECONDS)
        if not self._pace.stopped:
            yield from self.follow()

    def _bring(self, tables: frozenset[str], stop: Vgtid, *, endless: bool = False) -> Outputs:
        """Stream a group; lose a table that cannot be read, and continue with the others."""
        parts = self._parts
        parts.running = tables
        checked = False
        while parts.running and not self._pace.stopped:
            if endless and not parts.are_brought():
                return
            try:
                # An older position may be purged; a newer one comes from elsewhere.
                if not checked:
                    if (position := parts.own_position()) != stop:
                        copied = max(parts.versions[table] for table in parts.running) / 1000
                        self._inquiry.check(position, stop.shards, copied)
                    parts.forget_others_shards()
                    checked = True
                if (yield from self._stream(stop, endless=endless)):
                    return
            except RequestError as error:
                one = frozenset({error.table or ""}) & parts.running
                if not (isinstance(error, ColumnGoneError) and one and parts.narrow(*one)):
                    parts.lose(one or parts.running, error)

    def _stream(self, stop: Vgtid, *, endless: bool) -> Generator[Output, None, bool]:
        """Stream a group once; return False if what is left of it must be streamed again."""
        parts, kind = self._parts, EndlessStream if endless else ChangeStream
        feed = kind(parts.running, parts.position, stop, parts.request)
        count = len(parts.running)
        if feed.finished:
            logger.info("%s: no further changes in %d tables", self.keyspace, count)
        else:
            logger.info("%s: streaming the changes of %d tables", self.keyspace, count)
            try:
                yield from self._read(feed)
            except (StuckError, StalledError) as error:
                self._sift(feed, error)
                return False
        if feed.finished:
            parts.copy_again(parts.layouts.reached(parts.running))
        if feed.finished and feed.behind:
            logger.warning(
                "%s: shards %s end with a transaction that has no position; they stay before it",
                self.keyspace,
                ", ".join(feed.behind),
            )
        return True

    def _read(self, feed: ChangeStream) -> Outputs:
        self._pace.activity = Activity("streaming", feed=feed)
        shards = self._met_shards = feed.shards
        look = functools.partial(self._look, feed)
        join, mixed = self._options.by_table, self._options.by_column
        for items in self._pace.read(feed, ("stream", feed.tables), look):
            for item in by_table(items, mixed=mixed) if join else items:
                if isinstance(item, Boundary):
                    self._pass(item)
                elif self._gives_out(item):
                    yield item
                del item
            if not self._parts.running:
                return
            within = items and isinstance(items[-1], Rows)
            del items
            if within:
                continue
            yield from self._pace.due()
            if feed.shards != shards:
                shards = feed.shards
                logger.info("%s: resharded to %s", self.keyspace, ", ".join(sorted(shards)))
                self._parts.layouts.resharded(shards)
            if self._leaves(feed):
                return

    def _gives_out(self, rows: Rows) -> bool:
        """Return whether to deliver rows: their table is still followed, and read correctly."""
        raw, table, shard = rows.fields, rows.fields.table, rows.fields.shard
        if table not in self._parts.running:
            return False
        rows.fields = self._inquiry.charsets.told(raw)
        if shard not in self._met_shards:
            # Its rows may come together with the end of the shards that it replaces.
            self._met_shards |= {shard}
            self._parts.layouts.resharded([shard])
        if self._checked.get((table, shard)) is not rows.fields:
            try:
                whole = self._inquiry.whole(rows.fields)
                self._parts.layouts.check(whole, None if raw.projected else raw)
            except PositionLostError as error:
                self._parts.lose(frozenset({table}), error)
                return False
            self._checked[table, shard] = rows.fields
        return True

    def _pass(self, boundary: Boundary) -> None:
        """Move the position of the tables that are still followed."""
        parts = self._parts
        stated = self._stated(boundary)
        parts.move(boundary)
        if boundary.is_plain:
            return
        altered = (a for a in boundary.altered if a.table in parts.running)
        parts.copy_again({**stated, **parts.layouts.altered(altered), **boundary.replaced})

    def _stated(self, boundary: Boundary) -> dict[str, str]:
        """Return the tables that statements instead of rows may have changed, and why.

        Statements of a transaction without a position come again with each call of the stream.
        """
        if not boundary.statements:
            return {}
        if boundary.unplaced:
            gtids = next(e.gtid for e in boundary.vgtid.shard_gtids if e.shard == boundary.shard)
            place = boundary.shard, gtids, boundary.unplaced
            if place in self._met_unplaced:
                return {}
            self._met_unplaced.add(place)
        changed = self._inquiry.changed(boundary.statements, self._parts.running)
        return dict.fromkeys(changed, f"{_STATED} on shard {boundary.shard}")

    # Its end, and its stop position

    def _leaves(self, feed: ChangeStream) -> bool:
        """Return whether to leave a stream before it is finished; move its stop position."""
        if isinstance(feed, EndlessStream):
            self._move_stop(feed)
            if not self._parts.are_brought():
                return True
        elif feed.unknown_shards and time.monotonic() >= self._next_stop:
            # For a while after the journal SQL still names the old shards.
            feed.stop_at(self._inquiry.position())
            self._next_stop = time.monotonic() + _ASK_AGAIN_SECONDS
        return not feed.finished and self._pace.stop_here()

    def _move_stop(self, feed: EndlessStream) -> None:
        """Ask for the next stop position if the last one is reached, or has other shards."""
        if self._question is not None:
            if self._question.answered:
                self._take_stop(feed, self._question)
                self._question = None
        elif (feed.reached or feed.unknown_shards) and time.monotonic() >= self._next_stop:
            layouts = self._parts.layouts
            if feed.reached:
                self._parts.copy_again(layouts.reached(self._parts.running))
            layouts.asked()
            self._question = Question(self._inquiry.position)

    def _take_stop(self, feed: EndlessStream, question: Question[Vgtid]) -> None:
        try:
            self._parts.now = question.answer()
        except (RetriableError, ConnectError) as error:
            said = error.within(self.keyspace)
            logger.warning("%s: asked again later: %s", self.keyspace, said)
        else:
            feed.stop_at(self._parts.now)
        again = _ASK_AGAIN_SECONDS if feed.unknown_shards else self._options.poll_seconds
        self._next_stop = time.monotonic() + min(again, self._options.poll_seconds)

    # What holds it up

    def _look(self, feed: ChangeStream, error: VitessError) -> VitessError:
        """Diagnose a fault of the shared stream; correct a stop position that cannot be reached."""
        if isinstance(error, StumbleError):
            return error
        if isinstance(error, StalledError) and (stuck := self._diagnosis.circles(feed.behind)):
            return stuck
        found = self._diagnosis.look(error, feed.position)
        if isinstance(found, StalledError):
            stop = self._diagnosis.peek(feed.stop)
            if stop != feed.stop:
                logger.warning(
                    "%s: shards lag behind the stop position taken before, as after a failover; "
                    "the run ends where they are now",
                    self.keyspace,
                )
                feed.stop_at(stop)
        return found

    def _sift(self, feed: ChangeStream, why: VitessError) -> None:
        """Find and lose the tables that keep a stream from passing a place."""
        waiting = frozenset({why.shard} if why.shard else feed.behind)
        sieve = Sieve(
            self._pace,
            self._diagnosis,
            self._parts.request,
            feed.position,
            waiting & feed.shards or feed.shards,
        )
        try:
            found = sieve.sift(self._parts.running, why)
        except SiftStoppedError:
            return
        except RetriableError as fault:
            self._unsifted += 1
            if self._unsifted > _SIFTED_AGAIN:
                raise
            logger.warning("%s: %s; streamed again", self.keyspace, fault.within(self.keyspace))
            return
        self._unsifted = 0
        for culprits, error in found.items():
            if isinstance(error, RetriableError):
                raise error  # its tables are not the reason
            self._parts.lose(culprits, error)
