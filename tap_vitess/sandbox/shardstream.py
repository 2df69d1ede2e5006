"""What one shard contributes to a stream: its tablet's copy of tables, then its binlog.

Guarantees: events and responses have the order recorded from a real tablet. Each step is one group
of responses that another shard's must not interrupt.

Surprising, and simulated: an empty table gives a BEGIN without a COMMIT. The VGTID before the rows
of a table and the one after its last row have no TablePKs of it, although other tables may still
wait for their copy. Changes of a table whose copy has not begun are left out of catchup and
fastforward, but their transactions are not. FIELD is sent again in each of these legs. Row events
older than an ALTER are read with the present definition (`plans.py`), as by a tablet without schema
tracking: a stream that has met the table before keeps using the definition that it knows.
"""

import time
from collections.abc import Collection, Iterator
from typing import Protocol

from tap_vitess._proto.binlogdata_pb2 import Filter, ShardGtid, VEvent, VEventType
from tap_vitess._proto.query_pb2 import QueryResult
from tap_vitess._proto.vtgate_pb2 import TabletType
from tap_vitess.sandbox.cluster import Cluster, Journal, Poison, Statement, Transaction
from tap_vitess.sandbox.errors import POISONS, PURGED, VStreamError, from_tablet
from tap_vitess.sandbox.events import (
    Events,
    Source,
    binlog_events,
    changed_row,
    copied_row,
    journal_message,
    last_pk,
    split,
    unpack,
)
from tap_vitess.sandbox.filters import FilterError, Selection, TableFilter
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.plans import Plan, PlanError, plan_of
from tap_vitess.sandbox.positions import (
    ForeignPositionError,
    PositionError,
    format_position,
    parse_position,
)
from tap_vitess.sandbox.resolve import describe
from tap_vitess.sandbox.schema import Row, SortKey, Table

Group = list[Events]
# By the id of a definition, which each row event names.
Plans = dict[int, Plan]
_TYPES = {
    "insert": VEventType.INSERT,
    "update": VEventType.UPDATE,
    "delete": VEventType.DELETE,
    "replace": VEventType.REPLACE,
}
# A group to send, or None while the shard has nothing.
Step = Group | None


class Call(Protocol):
    """The part of a call that its shards share."""

    cluster: Cluster
    options: Options
    stop_on_reshard: bool

    def vgtid_event(self, source: Source) -> VEvent: ...

    def copy_completed_events(self, source: Source) -> Events: ...

    def reach_journal(self, journal: Journal, entry: ShardGtid) -> None: ...


class _ReshardedError(Exception):
    """The binlog has reached a journal; this shard's stream ends here."""


class ShardStream:
    """`steps` runs the stream; `entry` is the shard's place in all VGTIDs and moves with it."""

    def __init__(
        self, call: Call, entry: ShardGtid, filter_: Filter | None, tablet_type: TabletType
    ) -> None:
        self.gives_up: float | None = None
        self._call = call
        self._cluster = call.cluster
        self._entry = entry
        self._given_filter = filter_
        self._tablet_type = tablet_type
        self._source = Source(entry.keyspace, entry.shard)
        self._shard = call.cluster.shard(entry.keyspace, entry.shard)
        self._position: int | None = None
        self.steps: Iterator[Step] = self._run()

    # The stream as a whole

    def _run(self) -> Iterator[Step]:
        try:
            if self._tablet_type == TabletType.RDONLY:
                yield from self._find_no_tablet()
            self._filter = TableFilter.of_request(self._given_filter)
            if self._entry.gtid == "current":
                yield self._resolve_current()
            else:
                yield from self._check_position()
            if self._position is None or self._entry.table_p_ks:
                yield from self._copy()
            yield from self._replicate()
        except _ReshardedError:
            return
        except FilterError as error:
            raise self._tablet_error(error.code, error.message) from error
        except PositionError as error:
            raise self._tablet_error("INTERNAL", str(error)) from error

    def _find_no_tablet(self) -> Iterator[None]:
        self.gives_up = time.monotonic() + self._call.options.tablet_wait
        while time.monotonic() < self.gives_up:
            yield None
        wanted = TabletType.Name(self._tablet_type or TabletType.PRIMARY)
        raise VStreamError(
            "CANCELLED",
            f"error starting stream from shard GTID {describe(self._entry)}: failed to find a "
            f"{wanted} tablet for VStream in {self._entry.keyspace}/{self._entry.shard} "
            "within the zone1 cell(s): context has expired",
        )

    def _resolve_current(self) -> Group:
        self._advance(self._shard.executed)
        return [[self._vgtid(), self._event(VEventType.OTHER)]]

    def _check_position(self) -> Iterator[None]:
        if not self._entry.gtid:
            return
        try:
            self._position = parse_position(self._shard, self._entry.gtid)
        except ForeignPositionError:
            yield from self._find_no_tablet()
        if self._position is not None and self._position < self._shard.purged:
            position = self._shard.gtid_set(self._position)
            raise self._tablet_error(
                "UNKNOWN", f"stream (at source tablet) error @ {position}: {PURGED}"
            )

    # The copy

    def _copy(self) -> Iterator[Step]:
        lastpks = self._tables_to_copy()
        for name in list(lastpks):
            waiting = {table for table, lastpk in lastpks.items() if lastpk is None}
            if self._position is not None:
                yield from self._catch_up(waiting)
            at, version, rows = self._cluster.snapshot(self._shard, name)
            if self._position is not None:
                yield from self._fast_forward(at, waiting)
            lastpk = lastpks.pop(name)
            after = None if lastpk is None else _key_of(version.table, lastpk)
            left = [
                (key, row)
                for key, row in rows
                if after is None or version.table.compared(row) > after
            ]
            poisons = self._shard.tables[name].poisons
            bad = next((n for n, (key, _) in enumerate(left) if key in poisons), None)
            sent = [row for _, row in left[:bad]]
            yield from self._copy_table(version.table, sent, at, whole=bad is None)
            if bad is not None:
                statement = f"select /*+ MAX_EXECUTION_TIME(3600000) */ * from {name} force index"  # noqa: S608
                yield from self._stop(poisons[left[bad][0]], at, statement)
        yield [self._call.copy_completed_events(self._source)]

    def _tables_to_copy(self) -> dict[str, QueryResult | None]:
        """Every matched table in order, with the lastpk of its copy."""
        names = self._filter.tables_to_copy(self._shard.tables)
        if not names:
            raise FilterError("UNKNOWN", "stream needs a position or a table to copy")
        for name in names:
            self._filter.selection(self._shard.tables[name].version.table, streaming=False)
        given = {entry.table_name: entry.lastpk for entry in self._entry.table_p_ks}
        lastpks = {name: _usable(name, given.get(name)) for name in names}
        for name, lastpk in lastpks.items():
            if lastpk is not None:
                _key_of(self._shard.tables[name].version.table, lastpk)
        return lastpks

    def _copy_table(self, table: Table, rows: list[Row], at: int, *, whole: bool) -> Iterator[Step]:
        selection = self._filter.selection(table, streaming=False)
        if selection is None:
            return
        field = self._event(VEventType.FIELD)
        field.field_event.CopyFrom(self._source.field_event(table, selection.columns, copying=True))
        group: Group = [[self._event(VEventType.BEGIN), field]]
        if self._position != at:
            self._advance(at)
            group.append([self._vgtid()])
        per_packet = self._call.options.copy_rows_per_packet
        for start in range(0, len(rows), per_packet):
            if start:
                group = [[self._event(VEventType.BEGIN)]]
            group.append(self._copied(table, selection, rows[start : start + per_packet]))
            yield group
            group = []
        if not whole:
            return
        self._forget_lastpk(table.name)
        group.append(
            [
                self._event(VEventType.BEGIN),
                self._vgtid(),
                self._event(VEventType.COMMIT),
            ]
        )
        yield group

    def _copied(self, table: Table, selection: Selection, rows: list[Row]) -> Events:
        events = []
        for row in rows:
            if selection.takes(table, row):
                event = self._event(VEventType.ROW)
                change = copied_row(selection.columns, row)
                event.row_event.CopyFrom(self._source.row_event(table, [change]))
                events.append(event)
        self._forget_lastpk(table.name)
        self._entry.table_p_ks.append(last_pk(table, rows[-1]))
        return [*events, self._vgtid(), self._event(VEventType.COMMIT)]

    def _forget_lastpk(self, table: str) -> None:
        kept = [entry for entry in self._entry.table_p_ks if entry.table_name != table]
        del self._entry.table_p_ks[:]
        self._entry.table_p_ks.extend(kept)

    # The binlog

    def _catch_up(self, waiting: Collection[str]) -> Iterator[Step]:
        plans: Plans = {}
        while transaction := self._next():
            yield self._group(transaction, plans, waiting)

    def _fast_forward(self, until: int, waiting: Collection[str]) -> Iterator[Step]:
        plans: Plans = {}
        while self._position != until and (transaction := self._next()):
            yield self._group(transaction, plans, waiting)

    def _replicate(self) -> Iterator[Step]:
        plans: Plans = {}
        while True:
            transaction = self._next()
            poison = self._shard.poisons.get(transaction.number) if transaction else None
            if transaction and poison and self._is_stopped_by(poison):
                yield from self._stop(poison, transaction.number, None)
            yield self._group(transaction, plans, ()) if transaction else None
            if transaction and transaction.journal:
                return

    def _is_stopped_by(self, poison: Poison) -> bool:
        return poison.table is None or self._filter.matches(poison.table)

    def _stop(self, poison: Poison, number: int, statement: str | None) -> Iterator[Step]:
        """End with the tablet's error, or send nothing more, as if VTGate retried for ever."""
        said = POISONS[poison.kind]
        if said is not None:
            code, cause = said
            raise self._tablet_error(code, cause.format(gtids=self._shard.gtid_set(number)))
        self._shard.circling.append(statement)
        try:
            while True:
                yield None
        finally:
            self._shard.circling.remove(statement)

    def _next(self) -> Transaction | None:
        return self._cluster.transaction_after(self._shard, self._position or 0)

    def _group(self, transaction: Transaction, plans: Plans, waiting: Collection[str]) -> Group:
        if transaction.journal is not None:
            return self._reach(transaction.journal, transaction)
        if transaction.ddl is not None or transaction.other:
            return [self._statement_alone(transaction)]
        events = [self._event(VEventType.BEGIN, transaction)]
        if transaction.text:
            events.append(self._event(_type_of(transaction.text), transaction))
            events[-1].dml = transaction.text
        for statement in transaction.statements:
            if statement.version.table.name not in waiting:
                events += self._statement(transaction, statement, plans)
        self._advance(transaction.number)
        events += [self._vgtid(), self._event(VEventType.COMMIT, transaction)]
        return split(events, self._call.options.packet_bytes)

    def _statement(
        self, transaction: Transaction, statement: Statement, plans: Plans
    ) -> Iterator[VEvent]:
        written = statement.version.table
        if not self._filter.matches(written.name):
            return
        plan = plans.get(statement.version.id)
        if plan is None:
            plan = plans[statement.version.id] = self._plan(transaction, written)
            event = self._event(VEventType.FIELD, transaction)
            event.field_event.CopyFrom(
                self._source.field_event(plan.table, plan.columns, copying=False)
            )
            yield event
        both = self._call.options.both_images
        taken = [
            (change, sent)
            for change in map(plan.read, statement.changes)
            if (sent := plan.selection.part(plan.table, change, both_images=both))
        ]
        if not taken:
            return
        cut = plan.cut(transaction.row_image)
        for part, flags in binlog_events(taken, self._call.options.row_event_bytes):
            event = self._event(VEventType.ROW, transaction)
            changes = [
                images
                for change, sent in part
                if (images := changed_row(plan, change, sent, cut)).ListFields()
            ]
            event.row_event.CopyFrom(self._source.row_event(plan.table, changes, flags))
            yield event

    def _plan(self, transaction: Transaction, written: Table) -> Plan:
        """How to read and send the table; a bad rule only fails at the first change."""
        found = self._shard.tables.get(written.name)
        known = found.version.table if found else None
        if self._call.options.track_schema_versions:
            known = written
        try:
            return plan_of(written, known, self._filter)
        except (FilterError, PlanError) as error:
            at = self._shard.gtid_set(transaction.number)
            code = f"Code: {error.code}\n" if isinstance(error, FilterError) else ""
            blank = "\n" if code else ""
            raise self._tablet_error(
                "UNKNOWN",
                f"stream (at source tablet) error @ {at}: {code}{error}\n{blank}"
                f"failed to build table replication plan for table {written.name}",
            ) from error

    def _statement_alone(self, transaction: Transaction) -> Events:
        """VGTID and DDL; OTHER for anything but a DDL, and for a table that no rule matches."""
        self._advance(transaction.number)
        ddl = transaction.ddl
        if ddl is None or (ddl.table is not None and not self._filter.matches(ddl.table)):
            return [self._vgtid(), self._event(VEventType.OTHER, transaction)]
        event = self._event(VEventType.DDL, transaction)
        event.statement = ddl.statement
        return [self._vgtid(), event]

    def _reach(self, journal: Journal, transaction: Transaction) -> Group:
        if not self._call.stop_on_reshard:
            self._call.reach_journal(journal, self._entry)
            raise _ReshardedError
        event = self._event(VEventType.JOURNAL, transaction)
        event.journal.CopyFrom(journal_message(journal))
        self._advance(transaction.number)
        begin = self._event(VEventType.BEGIN, transaction)
        commit = self._event(VEventType.COMMIT, transaction)
        return [[begin, event, self._vgtid(), commit]]

    # Events and errors

    def _advance(self, number: int) -> None:
        self._position = number
        self._entry.gtid = format_position(self._shard, number)

    def _vgtid(self) -> VEvent:
        return self._call.vgtid_event(self._source)

    def _event(self, type_: VEventType, transaction: Transaction | None = None) -> VEvent:
        if transaction is None:
            return self._source.event(type_)
        now = int(self._cluster.now() * 1_000_000_000)
        return self._source.event(type_, transaction.timestamp, now)

    def _tablet_error(self, code: str, cause: str) -> VStreamError:
        return from_tablet(
            code,
            cause,
            shard_gtid=describe(self._entry),
            target=(self._entry.keyspace, self._entry.shard),
            tablet=self._shard.tablet,
        )


def _type_of(statement: str) -> VEventType:
    return _TYPES[statement.split(maxsplit=1)[0].lower()]


def _usable(table: str, lastpk: QueryResult | None) -> QueryResult | None:
    """The lastpk, or None (from the start) if it does not have exactly one row."""
    if lastpk is None or not lastpk.ByteSize():
        return None
    if not lastpk.fields:
        raise FilterError("UNKNOWN", f"lastpk for table {table} has no fields defined")
    return lastpk if len(lastpk.rows) == 1 else None


def _key_of(table: Table, lastpk: QueryResult) -> SortKey:
    values = unpack(lastpk.rows[0])
    names = [field.name for field in lastpk.fields]
    if names != list(table.copy_key) or len(values) != len(names):
        raise FilterError(
            "UNKNOWN",
            f"primary key values don't match length: {len(values)} vs {len(table.copy_key)}",
        )
    return table.compared(dict(zip(names, values, strict=True)))
