"""Each table's part in a run (copied, followed, left behind), and the state that follows from it.

What is stored (`KeyspaceState`) says where a table is: followed from a position, copied or not. It
does not say what this run does with it, which is its part:

    part          copied     followed   becomes
    TAKEN         if it must be  yes    COPIED when a copy without changes is finished; POSTPONED
                                        when its copy fails for good, or comes too often; LEFT when
                                        it can no longer be read, or its rows not be processed
    POSTPONED     next run   yes        LEFT, as above
    COPIED        done       no
    LEFT          no         no

A table that can no longer be read stays TAKEN if it may be copied again (`lose`). In any case, the
running stream and copies yield nothing more of it (`running`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from tap_vitess.errors import Remedy, UnreadableError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Boundary
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.layouts import Layouts
from tap_vitess.run.pace import SyncOptions
from tap_vitess.run.rules import EVERYTHING, Rules, Wanted
from tap_vitess.run.state import UNKNOWN, Group, KeyspaceState

logger = logger_of(__name__)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table to read.

    full_table: copy it anew and follow no changes. key: what identifies its rows; None if unknown.
    With a key, rows may come twice, and a copy can be resumed, but for the primary keys of
    `protocol/copy_keys.py`. once: rows that came twice would stay twice, so a copy that cannot be
    resumed where it was cut is an error. again: copy it again whatever the state says, then follow
    it. wanted: its columns and rows.
    """

    name: str
    full_table: bool = False
    key: tuple[str, ...] | None = None
    once: bool = False
    again: bool = False
    wanted: Wanted = EVERYTHING

    @property
    def resumable(self) -> bool:
        """Whether a cut copy can be resumed, as far as the key allows it."""
        return self.key != () and not self.full_table


class Part(Enum):
    """A table's part in a run; see the top of this file."""

    TAKEN = auto()
    POSTPONED = auto()
    COPIED = auto()
    LEFT = auto()


class Parts:
    """The tables of a run.

    specs: by name. log_based: all but full tables. followed: those of them that no stream has lost.
    running: those whose rows are delivered now. now: the keyspace's position when it was last asked
    for. errors: those of the tables left behind, in order.
    """

    def __init__(
        self,
        specs: Iterable[TableSpec],
        state: KeyspaceState,
        inquiry: Inquiry,
        options: SyncOptions,
    ) -> None:
        self.keyspace = state.keyspace
        self.specs = {spec.name: spec for spec in specs}
        self.log_based = frozenset(s.name for s in self.specs.values() if not s.full_table)
        self.followed = self.log_based
        self.running = frozenset[str]()
        self.versions = {table: state.version(table) for table in self.log_based}
        self.layouts = Layouts(state.layouts)
        self.now: Vgtid | None = None
        self.errors: list[VitessError] = []
        self.left_behind: dict[str, VitessError] = {}
        self._inquiry = inquiry
        self._options = options
        self._part = dict.fromkeys(self.specs, Part.TAKEN)
        self._again = Counter[str]()  # how often each is copied again
        self._other_layouts = {t: x for t, x in state.layouts.items() if t not in self.log_based}
        self._moved: tuple[frozenset[str], Boundary] | None = None
        wanted = {spec.name: spec.wanted for spec in self.specs.values()}
        self._rules = Rules(self.keyspace, wanted, inquiry, options.keys)
        again = {spec.name for spec in self.specs.values() if spec.again}
        self._asked = frozenset(again.union(self._rules.changed(state, self.log_based)))
        for table in self.log_based & self._rules.by_table.keys():
            if state.rules.get(table) == UNKNOWN:
                self.layouts.copy_begins(table)  # it has columns no longer requested
        for table in self.specs.keys() - self.log_based:
            state = state.without(table)
        for table in self._asked:
            state = state.recopied(table)
        # Tables to copy again stay apart from the others, which their faults must not hold up.
        self._state = self._ruled(state).split(self.log_based).split(self._asked)

    @property
    def request(self) -> RequestOptions:
        """The options of all requests of the run, with its tables' rules."""
        return replace(self._options.request, rules=self._rules.by_table)

    def narrow(self, table: str) -> bool:
        """Stop requesting a table's dropped columns; return whether there were any."""
        narrowed = self._rules.narrow(table)
        self.state = self._ruled(self.state)
        return narrowed

    def _ruled(self, state: KeyspaceState) -> KeyspaceState:
        """Put the rules of this run's tables into a state."""
        others = {name: rule for name, rule in state.rules.items() if name not in self.log_based}
        return replace(state, rules=others | self._rules.told(self.log_based))

    # Where the tables are

    @property
    def state(self) -> KeyspaceState:
        """The state that may be stored once everything delivered so far has been written."""
        if self._moved is not None:
            tables, boundary = self._moved
            position = Vgtid.from_proto(self.keyspace, boundary.vgtid.shard_gtids)
            self._state = self._state.moved(tables, position)
            self._moved = None
        return self._state

    @state.setter
    def state(self, state: KeyspaceState) -> None:
        self._state = state

    @property
    def stored(self) -> KeyspaceState:
        """The state of a STATE message: `state` with the tables' layouts there."""
        tables: dict[str, Mapping[str, GtidSet]] = {}
        for group in self.state.groups:
            followed = [table for table in group.tables if table in self.log_based]
            tables |= dict.fromkeys(followed, group.position.shards)
        return replace(self.state, layouts=self._other_layouts | self.layouts.stored(tables))

    def move(self, boundary: Boundary) -> None:
        """Move the tables that are streamed to a boundary."""
        self._moved = self.running, boundary

    @property
    def position(self) -> Vgtid:
        """The position that the running tables are streamed from."""
        return self.state.position_of(self.running)

    def own_position(self) -> Vgtid:
        """Return `position` without the shards outside of the ranges that this job reads."""
        state = self.state.narrowed(self.running, self._inquiry.ranges.meets)
        return state.position_of(self.running)

    def forget_others_shards(self) -> None:
        """Forget shards outside of the ranges, for good: call it only after all checks."""
        before = self.position.shards.keys()
        self.state = self.state.narrowed(self.running, self._inquiry.ranges.meets)
        if left := before - self.position.shards.keys():
            logger.warning(
                "%s: shard %s of the bookmark is outside of the setting shards (%s), and is "
                "forgotten: the job that reads it must begin with this state, else it copies all",
                self.keyspace,
                ", ".join(sorted(left)),
                self._inquiry.ranges,
            )

    def groups(self) -> list[Group]:
        """Return the groups that the shared stream of this run may follow."""
        return [group for group in self.state.groups if group.tables.keys() <= self.followed]

    def located(self) -> Vgtid:
        """Return the keyspace's position, as of the last time it was asked for."""
        self.now = self.now or self._inquiry.position()
        return self.now

    def copy_position(self, table: str) -> Vgtid:
        """Return the position a table's snapshots must contain: that of its stream."""
        groups = self.groups()
        own = [group for group in groups if table in group.tables] or groups
        return own[0].position if own else self.located()

    def unite(self) -> None:
        """Merge the groups of this run at one position, which all of theirs contain."""
        groups = self.groups()
        if len(groups) < 2:
            return
        position = groups[0].position
        for group in groups[1:]:
            common = position.intersection(group.position)
            if common is None:
                return
            position = common
        for group in groups:
            self.state = self.state.moved(frozenset(group.tables), position)
        # Groups that are not in this run may have that position too, and stay apart.
        self.state = self.state.merged().split(self.followed)

    # What is to be copied

    def is_resumable(self, spec: TableSpec) -> bool:
        """Return whether a cut copy can be resumed."""
        return (
            spec.resumable
            and self._rules.is_resumable(spec.name)
            and not self._inquiry.why_not_resumable(spec.name)
        )

    def is_copied(self, table: str) -> bool:
        """Return whether a table's copy is finished."""
        return self._part[table] is Part.COPIED or self.state.is_copied(table)

    def is_brought(self, table: str) -> bool:
        """Return whether a table is copied, and followed as far as the others."""
        return self._part[table] in {Part.TAKEN, Part.COPIED} and self.is_copied(table)

    def are_brought(self) -> bool:
        """Return whether all tables are brought, and none is left behind."""
        return not self.errors and all(map(self.is_brought, self.specs))

    def pending(self) -> list[TableSpec]:
        """Return what is left to copy; copies that cannot be paused block others, and come last."""
        state = self.state
        pending = [
            spec
            for spec in self.specs.values()
            if self._part[spec.name] is Part.TAKEN and not state.is_copied(spec.name)
        ]
        return sorted(pending, key=lambda spec: not self.is_resumable(spec))

    def finish(self, spec: TableSpec) -> None:
        """Note that a copy is finished."""
        if spec.full_table:
            self._part[spec.name] = Part.COPIED
        self.state = self.state.copied(spec.name)

    # Tables that are lost or copied again

    def lose(self, tables: frozenset[str], error: VitessError, *, history: bool = False) -> None:
        """Give up tables that can no longer be read, or copy them again if the setting says so.

        history: whether the fault is in their changes, so that a copy avoids it.
        """
        options = self._options
        lost = (history or error.remedy is Remedy.POLICY) and (
            options.resync or tables <= self._asked
        )
        if lost and max(self._again[table] for table in tables) < options.copy_restarts:
            logger.warning("%s: %s copied again: %s", self.keyspace, *self._told(tables, error))
            if isinstance(error, UnreadableError):
                self.now = None  # what cannot be read may come after that position
            self.state = self.state.restarted(tables & self.log_based, self.located())
            self._again.update(tables)
            for table in tables:
                self.layouts.copy_begins(table)
        else:
            self._part |= dict.fromkeys(tables, Part.LEFT)
            self.followed -= tables
            self.state = self.state.split(self.followed)
            self._leave_behind(tables, error)
        self.running -= tables

    def postpone(self, table: str, error: VitessError) -> None:
        """Leave a table's copy to the next run, because of an error."""
        self._part[table] = Part.POSTPONED
        self._leave_behind(frozenset({table}), error)

    def _leave_behind(self, tables: frozenset[str], error: VitessError) -> None:
        """Continue without some tables; the run still ends with the error."""
        logger.error("%s: %s not finished: %s", self.keyspace, *self._told(tables, error))
        self.errors.append(error)
        self.left_behind.update(dict.fromkeys(tables, error))

    def _told(self, tables: frozenset[str], error: VitessError) -> tuple[str, str]:
        return ", ".join(sorted(tables)), error.within(self.keyspace)

    def copy_again(self, tables: Mapping[str, str]) -> None:
        """Note that tables must be copied again, with the position after the DDL.

        A DDL comes once for each shard, and several may come before the copy: they cause one copy.

        Args:
            tables: each with the reason.
        """
        for table, why in tables.items():
            if table not in self.running or self.state.copies.get(table) == {}:
                continue
            self.state = self.state.recopied(table)
            self._again[table] += 1
            again = self._again[table] <= self._options.copy_restarts
            if not again:
                self._part[table] = Part.POSTPONED
            logger.warning(
                "%s.%s is copied again in %s run: %s",
                self.keyspace,
                table,
                "this" if again else "the next",
                why,
            )
