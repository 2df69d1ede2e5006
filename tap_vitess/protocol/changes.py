"""The shared stream of a keyspace: VEvents in; rows and boundaries out. No I/O.

Its position moves at COMMIT, DDL and OTHER only: a VGTID comes before the COMMIT of its
transaction, and everything up to that COMMIT is one step. A stop position is reached when each
shard's position contains it.

What surprised us. The timestamp of a ROW is the second its statement ran; only that of COMMIT is
the second of the commit, so rows that arrive in one response with their COMMIT get its time, and
others keep their own.

A DDL or OTHER may come within a transaction (CREATE TABLE ... SELECT on MySQL 8.0.21 and later; a
statement in a comment `/*! ... */` logged by a session in binlog_format MIXED), with a VGTID that
contains the whole transaction. It is not a boundary, but VTGate takes it for one: if VTGate resumes
from there by itself, the rest of the transaction never comes, and the next BEGIN shows that.

Rows that cannot belong here end the call: rows of a table or shard that was not requested, outside
of a transaction, or before their FIELD event. Nothing shows that a whole event is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import ProtocolError, RetriableError
from tap_vitess.protocol.alterations import column_changes
from tap_vitess.protocol.columns import EncodedChanges
from tap_vitess.protocol.ddl import altered_tables, replaced_tables, triggered_tables
from tap_vitess.protocol.decode import ChangedRows, CopiedRows, StreamEvent
from tap_vitess.protocol.gtid import Goal
from tap_vitess.protocol.items import Alteration, Boundary, ChangeItem, Decoded, Fields, Rows
from tap_vitess.protocol.request import RequestOptions, stream_request
from tap_vitess.protocol.vgtid import Vgtid

SILENT_SECONDS = 10  # by the servers' clock, which every event and heartbeat carries
LAST_SECOND = 253_402_300_799  # of the year 9999


class _Beside:
    """What came since the last boundary besides rows: DDL, and DML logged as statements."""

    def __init__(self, tables: frozenset[str]) -> None:
        self._tables = tables
        self._triggered: dict[str, set[str]] = {}  # by pt-online-schema-change, on each shard
        self._replaced: dict[str, str] = {}
        self._altered: list[Alteration] = []
        self.statements: set[str] = set()

    def note(self, event: binlogdata.VEvent) -> None:
        """Note what an event does to tables; most do nothing."""
        match event.type:
            case binlogdata.DDL:
                self._ddl(event.shard, event.statement)
            case binlogdata.INSERT | binlogdata.UPDATE | binlogdata.DELETE | binlogdata.REPLACE:
                self.statements.add(event.dml)

    def _ddl(self, shard: str, statement: str) -> None:
        triggered = self._triggered.setdefault(shard, set())
        triggered |= triggered_tables(statement, self._tables)
        replaced = replaced_tables(statement, self._tables, triggered)
        self._replaced |= {table: f"{by} on shard {shard}" for table, by in replaced.items()}
        altered = altered_tables(statement, self._tables)
        changes = column_changes(statement) if altered else None
        self._altered += [Alteration(table, shard, changes) for table in altered]

    def told(self, shard: str, vgtid: binlogdata.VGtid, unplaced: int) -> Boundary:
        """Make a boundary that reports all this, and forget it."""
        statements = frozenset(self.statements)
        told = Boundary(
            shard, vgtid, dict(self._replaced), tuple(self._altered), statements, unplaced
        )
        self.forget()
        return told

    def forget(self) -> None:
        """Forget what was not reported; after a new request it comes again."""
        self._replaced.clear()
        self._altered.clear()
        self.statements.clear()


class ChangeStream(Decoded):
    """The shared stream of a keyspace's tables, from a position to a stop position."""

    def __init__(
        self, tables: Iterable[str], position: Vgtid, stop: Vgtid, options: RequestOptions
    ) -> None:
        super().__init__(position.keyspace, frozenset(tables), options)
        self._names: tuple[str, ...] = ()
        self._shards = frozenset[str]()
        self._go_to(position.to_proto())
        self._pending: binlogdata.VGtid | None = None
        self._open: set[str] = set()
        self._torn: set[str] = set()  # shards that got a position within their open transaction
        self._delayed = False  # a shard's boundary had to wait for another shard's
        self.stop_at(stop)
        self._unplaced: dict[str, int] = {}
        self._count_unplaced: Counter[str] = Counter()
        self._beside = _Beside(self.tables)
        self.signs = self.steps = 0
        self._clock = 0  # the latest current_time seen, ns

    @property
    def name(self) -> str:
        return f"the change stream of {self.keyspace}"

    @property
    def position(self) -> Vgtid:
        """The position after the last boundary: where the next request starts."""
        return Vgtid.from_proto(self.keyspace, self._vgtid.shard_gtids)

    @property
    def shards(self) -> frozenset[str]:
        """The shards of the position; a reshard changes them."""
        return self._shards

    @property
    def unknown_shards(self) -> frozenset[str]:
        """Shards of the position that the stop position does not name: a reshard happened."""
        return self._unknown

    @property
    def waits_for(self) -> str:
        """Which shards have not reached the stop position, as text."""
        return f"not yet at the stop position: shards {', '.join(self.behind)}"

    def place(self, shard: str | None) -> object:
        """Return the GTID set of a shard, or of all shards."""
        entries = self._vgtid.shard_gtids
        return tuple(entry.gtid for entry in entries if shard in (None, entry.shard))

    @property
    def finished(self) -> bool:
        """Whether every shard of the position contains the stop position.

        A transaction that ends with a Query COMMIT (MyISAM, injected GTIDs) has no VGTID. A shard
        that has sent one, and then nothing for `SILENT_SECONDS`, has no more to send; its position
        stays before that transaction.
        """
        if self._unknown:
            return False
        since = self._clock - SILENT_SECONDS * 1_000_000_000
        return all(self._unplaced.get(s, self._clock + 1) <= since for s in self._behind)

    @property
    def behind(self) -> list[str]:
        """The shards that have not reached the stop position."""
        return sorted(self._behind)

    @property
    def distance(self) -> dict[str, int]:
        """The number of transactions to the stop position of each shard that is not there yet.

        Safe for other threads: both positions are replaced, never changed in place.
        """
        stop = self.stop.shards
        found = {
            shard: stop[shard].beyond(gtids)
            for shard, gtids in self.position.shards.items()
            if shard in stop
        }
        return {shard: count for shard, count in found.items() if count}

    def stop_at(self, stop: Vgtid) -> None:
        """Set another stop position, after a reshard."""
        self.stop = stop
        self._measure()

    def _measure(self) -> None:
        """Compare the whole position with the stop position."""
        self._goals = {
            shard: Goal(gtids, f"{self.keyspace}/{shard}")
            for shard, gtids in self.stop.shards.items()
        }
        self._behind = set(self.position.behind(self.stop))
        self._unknown = self._shards - self.stop.shards.keys()

    def _go_to(self, vgtid: binlogdata.VGtid) -> None:
        """Move to a position; note its shards only if they have changed."""
        names = self._shards_of(vgtid)
        self._vgtid = vgtid
        if names != self._names:
            self._names = names
            self._shards = frozenset(names)

    def request(self) -> vtgate.VStreamRequest:
        """Ask for what follows the last boundary, and forget what came after it."""
        self.fault = None
        self._pending = None
        self._open.clear()
        self._torn.clear()
        self._unplaced.clear()
        self._count_unplaced.clear()
        self._fields.clear()
        self._beside.forget()
        return stream_request(self.tables, self.position, self._options)

    def feed(self, events: Iterable[StreamEvent]) -> list[ChangeItem]:
        """Take the events of one response; items after the stop position are left out.

        Raises:
            ProtocolError: the events contradict what VStream promises.
            RetriableError: VTGate resumed within a transaction.
        """
        items: list[ChangeItem] = []
        with self._given_out(items):
            self._feed(events, items)
        return items

    def _feed(self, events: Iterable[StreamEvent], items: list[ChangeItem]) -> None:
        uncommitted: list[Rows] = []
        for event in events:
            if not isinstance(event, binlogdata.VEvent):
                items += self._changed(event, uncommitted)
                continue
            if event.type == binlogdata.ROW:
                items += self._changed(ChangedRows.of(event), uncommitted)
                continue
            self._tick(event, sign=event.type != binlogdata.HEARTBEAT)
            match event.type:
                case binlogdata.DDL | binlogdata.OTHER if event.shard in self._open:
                    self._torn.add(event.shard)
                    self._beside.note(event)
                case binlogdata.COMMIT | binlogdata.DDL | binlogdata.OTHER:
                    self._check_second(event)
                    uncommitted = _committed(uncommitted, event)
                    items += self._boundary(event)
                    if self.finished:
                        break
                case binlogdata.COPY_COMPLETED:
                    raise ProtocolError(f"{self.name}: VTGate answered with a copy")
                case _:
                    self._note(event)

    def _note(self, event: binlogdata.VEvent) -> None:
        """Note what belongs to the next boundary."""
        match event.type:
            case binlogdata.FIELD:
                self._learn(event, copying=False)
            case binlogdata.VGTID:
                self._pending = event.vgtid
            case binlogdata.BEGIN:
                if event.shard in self._torn:
                    raise RetriableError(
                        f"{self.name}: VTGate resumed within a transaction of shard {event.shard}"
                    )
                self._open.add(event.shard)
            case _:
                self._beside.note(event)

    def _tick(self, event: binlogdata.VEvent | ChangedRows, *, sign: bool) -> None:
        self._clock = max(self._clock, event.current_time)
        waited_for = event.shard in self._behind or event.shard not in self.stop.shards
        self.signs += waited_for and sign
        if event.shard in self._unplaced:
            self._unplaced[event.shard] = self._clock

    def _changed(self, rows: CopiedRows | ChangedRows, uncommitted: list[Rows]) -> list[Rows]:
        if isinstance(rows, CopiedRows) or not rows.timestamp:
            raise self._refused(rows.table_name, rows.shard, "copied rows")
        self._tick(rows, sign=True)
        if rows.is_internal_table:
            return []
        if rows.shard not in self._open:
            raise self._refused(rows.table_name, rows.shard, "rows outside of a transaction")
        fields = self._fields_of(rows.table_name, rows.shard)
        self._check_second(rows)
        uncommitted.append(Rows(fields, rows.changes, rows.timestamp))
        return uncommitted[-1:]

    def _check_second(self, event: binlogdata.VEvent | ChangedRows) -> None:
        if not 0 <= event.timestamp <= LAST_SECOND:
            raise ProtocolError(f"{self.name}: VTGate sent an invalid time: shard {event.shard}")

    def _boundary(self, event: binlogdata.VEvent) -> list[Boundary]:
        """End a shard's transaction; there is no boundary while another shard's is open.

        Statements without a VGTID are reported with the position before them.
        """
        shard = event.shard
        self._open.discard(shard)
        self._torn.discard(shard)
        if self._pending is None:
            self._unplaced[shard] = self._clock
            self._count_unplaced[shard] += 1
            told = self._beside.statements and not self._open
            return [self._told(shard, self._count_unplaced[shard])] if told else []
        self._unplaced.pop(shard, None)
        self._count_unplaced.pop(shard, None)
        self._beside.note(event)
        if self._open:
            self._open &= {entry.shard for entry in self._pending.shard_gtids}
        if self._open:
            self._delayed = True
            return []
        shards = self._shards
        self._go_to(self._pending)
        self._pending = None
        if self._shards == shards and not self._delayed:
            self.steps += shard in self._behind or shard in self._unknown
            self._moved(shard)
        else:
            self.steps += 1
            self._delayed = False
            self._measure()
        return [self._told(shard)]

    def _told(self, shard: str, unplaced: int = 0) -> Boundary:
        """Make a boundary of the position and of what came besides rows."""
        return self._beside.told(shard, self._vgtid, unplaced)

    def _moved(self, shard: str) -> None:
        """Check whether the one shard that has moved has reached the stop position."""
        if shard not in self._behind or shard not in self._names:
            return
        gtid = self._vgtid.shard_gtids[self._names.index(shard)].gtid
        if self._goals[shard].reached(gtid):
            self._behind.discard(shard)


def _committed(uncommitted: list[Rows], event: binlogdata.VEvent) -> list[Rows]:
    """Set the commit time of one shard's rows; return the others."""
    others: list[Rows] = []
    for rows in uncommitted:
        if rows.fields.shard != event.shard:
            others.append(rows)
        else:
            rows.commit_time = event.timestamp or rows.commit_time
    return others


class EndlessStream(ChangeStream):
    """The shared stream of a keyspace's tables from a position on; it ends when its reader leaves.

    A later stop position replaces one that is reached (`stop_at`). So a stall is still noticed:
    SQL knows of changes, and the stream does not deliver them. Between two stop positions only
    heartbeats can come. Each response is then a sign and a step, so that a call that is cut after
    an hour of silence counts as a first fault and not as the last of many.
    """

    @property
    def finished(self) -> bool:
        """Never: changes after the stop position are delivered, too."""
        return False

    @property
    def reached(self) -> bool:
        """Whether every shard of the position contains the stop position."""
        return super().finished

    def feed(self, events: Iterable[StreamEvent]) -> list[ChangeItem]:
        """Take the events of one response; see `ChangeStream`."""
        items = super().feed(events)
        if self.reached:
            self.signs += 1
            self.steps += 1
        return items


def by_table(items: Sequence[ChangeItem], *, mixed: bool = False) -> Sequence[ChangeItem]:
    """Join rows of one table and shard, kind and second; keep only the last boundary.

    Rows are cheapest many at a time (`columns.py`), and the transactions of a backlog mostly have
    one row. Transactions that came together are joined into one: a table's rows on a shard keep
    their order, but not their order relative to other tables' rows.
    Rows must not move past a boundary that reports more than a position, such as a DDL's: if there
    is one, everything stays as it is.
    With `mixed`, rows of several kinds and seconds are joined, too (`Rows.others`).
    """
    boundaries = [item for item in items if isinstance(item, Boundary)]
    if not all(b.is_plain for b in boundaries) or (len(boundaries) < 2 and not mixed):
        return items
    end = max((n for n, item in enumerate(items, 1) if isinstance(item, Boundary)), default=0)
    if not mixed:
        return [*map(_joined, _runs(items[:end], _are_alike)), boundaries[-1], *items[end:]]
    parts = [_runs(part, lambda *_: True) for part in (items[:end], items[end:])]
    before, after = [[*map(_mixed, runs)] for runs in parts]
    return [*before, *boundaries[-1:], *after]


def _runs(
    items: Iterable[ChangeItem], goes_on: Callable[[Rows, Rows], bool]
) -> Sequence[list[Rows]]:
    """Group rows by table and shard; a run ends where the next rows do not continue it."""
    runs: list[list[Rows]] = []
    last: dict[Fields, list[Rows]] = {}
    for rows in items:
        if isinstance(rows, Boundary):
            continue
        run = last.get(rows.fields)
        if run is None or not goes_on(run[-1], rows):
            run = last[rows.fields] = []
            runs.append(run)
        run.append(rows)
    return runs


def _are_alike(one: Rows, other: Rows) -> bool:
    return (
        isinstance(one.changes, EncodedChanges)
        and isinstance(other.changes, EncodedChanges)
        and one.changes.kind == other.changes.kind
        and one.commit_time == other.commit_time
    )


def _joined(run: Sequence[Rows]) -> Rows:
    if len(run) == 1:
        return run[0]
    parts = [rows.changes for rows in run if isinstance(rows.changes, EncodedChanges)]
    return Rows(run[0].fields, EncodedChanges.joined(parts), run[0].commit_time)


def _mixed(run: Sequence[Rows]) -> Rows:
    first, *others = [_joined([*alike]) for alike in _runs(run, _are_alike)]
    return Rows(first.fields, first.changes, first.commit_time, others)
