"""VEvents in; rows, boundaries and copy progress out. No I/O.

Two objects that are fed the events of a call and asked for the request that carries on:

- `ChangeStream`, the shared stream of a keyspace. Its position moves at COMMIT, DDL and OTHER
  only: a VGTID comes before the COMMIT of its transaction, and everything up to that COMMIT is
  one step. Reaching a stop position is containment, shard by shard.
- `TableCopy`, the copy of one table. Its only results are rows, and for each shard a lastpk or
  "done". VGTIDs of a copy are looked at for one thing: each snapshot must contain the floor
  (the position of the shared stream). They are never a position.

What surprised us. A BEGIN may follow a BEGIN (empty tables). The aggregate COPY_COMPLETED may
never come, so only the shards' own count. A shard that is done goes on to stream changes while
others still copy, and VTGate's inner retries stream changes in mid-copy: those rows carry a
timestamp and are dropped here, because the shared stream brings them too. The timestamp of a
ROW is the second its statement ran; only that of COMMIT is the second of the commit, so rows
that arrive in one response with their COMMIT get its time, and others keep their own.

Rows that no reader could place end the call: of a table or a shard that was not asked for, outside
of a transaction, before their FIELD event, behind the end of their copy. Nothing tells of an event
that is missing as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import (
    CopyCutError,
    ProtocolError,
    ReshardedError,
    SnapshotTooOldError,
)
from tap_vitess.vstream.alterations import ColumnChange, column_changes
from tap_vitess.vstream.columns import (
    ChangedRows,
    CopiedChanges,
    CopiedRows,
    StreamEvent,
)
from tap_vitess.vstream.ddl import altered_tables, replaced_tables, triggered_tables
from tap_vitess.vstream.gtid import Goal, GtidSet
from tap_vitess.vstream.images import PRI_KEY_FLAG
from tap_vitess.vstream.keys import KeyPart, why_not_resumable
from tap_vitess.vstream.request import RequestOptions, copy_request, stream_request
from tap_vitess.vstream.vgtid import Vgtid

SILENT_SECONDS = 10  # by the servers' clock, which every event and heartbeat carries
LAST_SECOND = 253_402_300_799  # of the year 9999
_BOUNDARIES = frozenset({binlogdata.COMMIT, binlogdata.DDL, binlogdata.OTHER})


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """What the rows that follow look like, for one shard's table in one phase.

    copying: the values come from a SELECT and not from the binlog; some types differ.
    labelled: ENUM and SET come as labels; from the binlog before Vitess 20 they come as numbers.
    """

    table: str
    shard: str
    fields: tuple[query.Field, ...]
    copying: bool
    labelled: bool = True

    @property
    def why_not_resumable(self) -> str:
        """Why a copy cannot be resumed by the table's key; empty when it can be."""
        key = [field for field in self.fields if field.flags & PRI_KEY_FLAG]
        if not key:
            return "the table has no key"
        return why_not_resumable([KeyPart(field.name, _type_of(field)) for field in key])


@dataclass(slots=True)
class Rows:
    """Row changes of one table and shard; copied rows have only an after image.

    commit_time: seconds since 1970; 0 for copied rows.
    """

    fields: Fields
    changes: Collection[binlogdata.RowChange]
    commit_time: int


@dataclass(frozen=True, slots=True)
class Alteration:
    """What a DDL has changed in a table's columns on one shard; None where it may be anything."""

    table: str
    shard: str
    changes: tuple[ColumnChange, ...] | None = None


@dataclass(frozen=True, slots=True)
class Boundary:
    """All rows before it form whole transactions; `vgtid` is the position after them.

    replaced: tables whose rows have been taken away or exchanged without a row event, each with
        what did it.
    altered: what DDLs have changed in the columns of tables, in their order.
    statements: what has changed rows without a row event, as MySQL has logged it.
    unplaced: of the transactions without a VGTID behind `vgtid`, which one this is; else 0.
    """

    shard: str
    vgtid: binlogdata.VGtid
    replaced: Mapping[str, str] = field(default_factory=dict)
    altered: tuple[Alteration, ...] = ()
    statements: frozenset[str] = frozenset()
    unplaced: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it tells of nothing but a position."""
        return not (self.replaced or self.altered or self.statements)


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """The shard's rows up to `lastpk` have been given out."""

    table: str
    shard: str
    lastpk: query.QueryResult


@dataclass(frozen=True, slots=True)
class ShardCopied:
    """All rows of the table's shard have been given out."""

    table: str
    shard: str


ChangeItem = Rows | Boundary
CopyItem = Rows | CopyProgress | ShardCopied


Item_co = TypeVar("Item_co", covariant=True)


class Feed(Protocol[Item_co]):
    """What the reader drives: asked for a request, fed events, asked whether it is finished.

    signs: how much has come of the shards that are waited for; steps: how often they have come
    to a place to go on from. What other shards bring is no sign that these move. place: where a
    shard, or where none is named all of it, would go on; to be compared.
    """

    @property
    def name(self) -> str: ...
    @property
    def finished(self) -> bool: ...
    @property
    def waits_for(self) -> str: ...
    @property
    def signs(self) -> int: ...
    @property
    def steps(self) -> int: ...
    def place(self, shard: str | None) -> object: ...
    def request(self) -> vtgate.VStreamRequest: ...
    def feed(self, events: Iterable[StreamEvent]) -> Sequence[Item_co]: ...


class _Decoded:
    """The part both feeds share: the FIELD events, by table and shard."""

    def __init__(self, keyspace: str, tables: frozenset[str]) -> None:
        self.keyspace = keyspace
        self.tables = tables
        self._fields: dict[tuple[str, str], Fields] = {}

    @property
    def name(self) -> str:
        """What logs and errors call this feed."""
        raise NotImplementedError

    def _learn(self, event: binlogdata.VEvent, *, copying: bool) -> None:
        field = event.field_event
        if field.shard != event.shard:
            raise self._refused(field.table_name, event.shard, "a FIELD event of another shard")
        table = self._bare(field.table_name)
        self._fields[table, field.shard] = Fields(
            table, field.shard, tuple(field.fields), copying, field.enum_set_string_values
        )

    def _fields_of(self, table_name: str, shard: str) -> Fields:
        table = self._bare(table_name)
        if table not in self.tables:
            raise self._refused(table_name, shard, "rows of a table that was not asked for")
        fields = self._fields.get((table, shard))
        if fields is None:
            raise self._refused(table_name, shard, "rows before their FIELD event")
        return fields

    def _refused(self, table_name: str, shard: str, what: str) -> ProtocolError:
        return ProtocolError(f"{self.name}: VTGate sent {what}: {table_name} on shard {shard}")

    def _shards_of(self, vgtid: binlogdata.VGtid) -> tuple[str, ...]:
        """Name the shards of a VGTID."""
        names: list[str] = []
        for entry in vgtid.shard_gtids:
            names.append(entry.shard)
            if entry.keyspace != self.keyspace:
                raise ProtocolError(f"{self.name}: VTGate sent a VGTID of {entry.keyspace}")
        if not names or (len(names) > 1 and len(set(names)) < len(names)):
            raise ProtocolError(f"{self.name}: VTGate sent a VGTID of no shard, or of one twice")
        return tuple(names)

    def _bare(self, table_name: str) -> str:
        return table_name.removeprefix(self.keyspace + ".")


class ChangeStream(_Decoded):
    """The shared stream of a keyspace's tables, from a position to a stop position."""

    def __init__(
        self, tables: Iterable[str], position: Vgtid, stop: Vgtid, options: RequestOptions
    ) -> None:
        super().__init__(position.keyspace, frozenset(tables))
        self._options = options
        self._names: tuple[str, ...] = ()
        self._shards = frozenset[str]()
        self._go_to(position.to_proto())
        self._pending: binlogdata.VGtid | None = None
        self._open: set[str] = set()
        self._delayed = False  # a shard's boundary had to wait for another shard's
        self.stop_at(stop)
        self._unplaced: dict[str, int] = {}
        self._replaced: dict[str, str] = {}  # since the last boundary, and by what
        self._count_unplaced: Counter[str] = Counter()
        self._altered: list[Alteration] = []
        self._triggered: dict[str, set[str]] = {}  # by pt-online-schema-change, on each shard
        self._statements: set[str] = set()
        self.signs = self.steps = 0
        self._clock = 0  # the latest current_time seen, ns

    @property
    def name(self) -> str:
        """What logs and errors call this stream."""
        return f"the change stream of {self.keyspace}"

    @property
    def position(self) -> Vgtid:
        """The position after the last boundary: where the next request starts."""
        return Vgtid.from_proto(self.keyspace, self._vgtid.shard_gtids)

    @property
    def shards(self) -> frozenset[str]:
        """The shards of the position; they change when a reshard is passed."""
        return self._shards

    @property
    def unknown_shards(self) -> frozenset[str]:
        """Shards of the position that the stop position does not name: a reshard happened."""
        return self._unknown

    @property
    def waits_for(self) -> str:
        """Say which shards have not reached the stop position."""
        return f"not yet at the stop position: shards {', '.join(self.behind)}"

    def place(self, shard: str | None) -> object:
        """Return the GTID set of a shard, or those of all."""
        entries = self._vgtid.shard_gtids
        return tuple(entry.gtid for entry in entries if shard in (None, entry.shard))

    @property
    def finished(self) -> bool:
        """Whether every shard of the position contains the stop position.

        A transaction that ends with a Query COMMIT (MyISAM, injected GTIDs) has no VGTID: a shard
        that sent one and is silent since has nothing more, and its position stays before it.
        """
        if self._unknown:
            return False
        since = self._clock - SILENT_SECONDS * 1_000_000_000
        return all(self._unplaced.get(s, self._clock + 1) <= since for s in self._behind)

    @property
    def behind(self) -> list[str]:
        """Name the shards that have not reached the stop position."""
        return sorted(self._behind)

    @property
    def distance(self) -> dict[str, int]:
        """Count the transactions of each shard up to the stop position; those at it are left out.

        Another thread may ask: the position and the stop position are exchanged, never changed.
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
        """Take a position over; its shards are looked at anew only where they are others."""
        names = self._shards_of(vgtid)
        self._vgtid = vgtid
        if names != self._names:
            self._names = names
            self._shards = frozenset(names)

    def request(self) -> vtgate.VStreamRequest:
        """Ask for what follows the last boundary; forgets what came after it."""
        self._pending = None
        self._open.clear()
        self._unplaced.clear()
        self._count_unplaced.clear()
        self._fields.clear()
        self._replaced.clear()
        self._altered.clear()
        self._statements.clear()
        return stream_request(self.tables, self.position, self._options)

    def feed(self, events: Iterable[StreamEvent]) -> list[ChangeItem]:
        """Take the events of one response; items after the stop position are left out.

        Raises:
            ProtocolError: the events contradict what VStream promises.
        """
        items: list[ChangeItem] = []
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
        return items

    def _note(self, event: binlogdata.VEvent) -> None:
        """Keep what belongs to the boundary that follows."""
        match event.type:
            case binlogdata.FIELD:
                self._learn(event, copying=False)
            case binlogdata.VGTID:
                self._pending = event.vgtid
            case binlogdata.BEGIN:
                self._open.add(event.shard)
            case binlogdata.INSERT | binlogdata.UPDATE | binlogdata.DELETE | binlogdata.REPLACE:
                self._statements.add(event.dml)

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
            raise ProtocolError(
                f"{self.name}: VTGate sent a time that is none: shard {event.shard}"
            )

    def _boundary(self, event: binlogdata.VEvent) -> list[Boundary]:
        """End a shard's transaction; there is no boundary while another shard's is open.

        Statements that come without a VGTID are told with the position before them.
        """
        shard = event.shard
        self._open.discard(shard)
        if self._pending is None:
            self._unplaced[shard] = self._clock
            self._count_unplaced[shard] += 1
            told = self._statements and not self._open
            return [self._told(shard, self._count_unplaced[shard])] if told else []
        self._unplaced.pop(shard, None)
        self._count_unplaced.pop(shard, None)
        if event.type == binlogdata.DDL:
            triggered = self._triggered.setdefault(shard, set())
            triggered |= triggered_tables(event.statement, self.tables)
            replaced = replaced_tables(event.statement, self.tables, triggered)
            self._replaced |= {table: f"{by} on shard {shard}" for table, by in replaced.items()}
            altered = altered_tables(event.statement, self.tables)
            changes = column_changes(event.statement) if altered else None
            self._altered += [Alteration(table, shard, changes) for table in altered]
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
        """Tell of the position, and of what has come since the last boundary beside rows."""
        boundary = Boundary(
            shard,
            self._vgtid,
            dict(self._replaced),
            tuple(self._altered),
            frozenset(self._statements),
            unplaced,
        )
        self._replaced.clear()
        self._altered.clear()
        self._statements.clear()
        return boundary

    def _moved(self, shard: str) -> None:
        """Look at the one shard whose GTID set has changed."""
        if shard not in self._behind or shard not in self._names:
            return
        gtid = self._vgtid.shard_gtids[self._names.index(shard)].gtid
        if self._goals[shard].reached(gtid):
            self._behind.discard(shard)


def _committed(uncommitted: list[Rows], event: binlogdata.VEvent) -> list[Rows]:
    """Give the rows of a shard the time of their commit; return the others."""
    others: list[Rows] = []
    for rows in uncommitted:
        if rows.fields.shard != event.shard:
            others.append(rows)
        else:
            rows.commit_time = event.timestamp or rows.commit_time
    return others


class TableCopy(_Decoded):
    """The copy of one table's unfinished shards."""

    def __init__(
        self,
        table: str,
        progress: Mapping[str, query.QueryResult | None],
        floor: Vgtid | None,
        options: RequestOptions,
        *,
        keyspace: str,
        resumable: bool,
    ) -> None:
        """Begin or resume a copy.

        Args:
            table: bare table name.
            progress: each unfinished shard with the lastpk to go on from, or None.
            floor: what every snapshot must contain; None for a copy that no stream follows.
            options: what all requests share.
            keyspace: the table's keyspace.
            resumable: whether rows may come from several snapshots. Not so without a key (a
                cut between equal rows would lose some), and not so when no shared stream
                brings what changed between the snapshots.
        """
        super().__init__(keyspace, frozenset({table}))
        self.table = table
        self._options = options
        self._floor = floor
        self._given = False
        self._obstacle = "" if resumable else "its rows must be of one snapshot"
        self._unfinished = dict(progress)
        self._lastpk: dict[str, query.QueryResult] = {}
        self._snapshots: dict[str, str] = {}
        self._open: dict[str, bool] = {}  # shards in a transaction, and whether one of the copy
        self.signs = self.steps = 0

    @property
    def name(self) -> str:
        """What logs and errors call this copy."""
        return f"the copy of {self.keyspace}.{self.table}"

    @property
    def unfinished(self) -> list[str]:
        """Name the shards that are not copied."""
        return sorted(self._unfinished)

    def place(self, shard: str | None) -> object:
        """Return the lastpk of a shard, or those of all."""
        return tuple(
            (name, lastpk and lastpk.SerializeToString(deterministic=True))
            for name, lastpk in sorted(self._unfinished.items())
            if shard in (None, name)
        )

    @property
    def finished(self) -> bool:
        """Whether every shard has been copied."""
        return not self._unfinished

    @property
    def waits_for(self) -> str:
        """Say which shards are not copied."""
        return f"not yet copied: shards {', '.join(sorted(self._unfinished))}"

    def request(self) -> vtgate.VStreamRequest:
        """Ask for the rows behind each unfinished shard's lastpk.

        Raises:
            CopyCutError: rows have been given out, and the copy cannot be resumed.
        """
        self._check_resumable()
        self._lastpk.clear()
        self._snapshots.clear()
        self._open.clear()
        self._fields.clear()
        return copy_request(self.keyspace, self.table, self._unfinished, self._options)

    def feed(self, events: Iterable[StreamEvent]) -> list[CopyItem]:
        """Take the events of one response.

        Raises:
            SnapshotTooOldError: a shard's snapshot does not contain the floor.
            CopyCutError: VTGate resumed by itself a copy that cannot be resumed.
            ReshardedError: the shards are no longer those of the request.
            ProtocolError: the events contradict what VStream promises.
        """
        items = [item for event in events if (item := self._take(event))]
        self.signs += len(items)
        self.steps += sum(not isinstance(item, Rows) for item in items)
        return items

    def _take(self, event: StreamEvent) -> CopyItem | None:
        if not isinstance(event, binlogdata.VEvent):
            return self._rows(event)
        if event.type == binlogdata.ROW:
            return self._rows(ChangedRows.of(event))
        shard = event.shard
        if event.type == binlogdata.BEGIN:
            self._open[shard] = not event.timestamp
        elif event.type in _BOUNDARIES:
            self._open.pop(shard, None)
        if shard not in self._unfinished:
            self._check_shard(event)
            return None
        match event.type:
            case binlogdata.FIELD if not event.timestamp:
                self._leg(event)
            case binlogdata.VGTID:
                self._snapshot(event)
            case binlogdata.COMMIT:
                return self._progress(shard)
            case binlogdata.COPY_COMPLETED:
                del self._unfinished[shard]
                return ShardCopied(self.table, shard)
        return None

    def _leg(self, event: binlogdata.VEvent) -> None:
        """Begin a leg of the copy: a second one on a shard means that VTGate has resumed."""
        if (self.table, event.shard) in self._fields:
            self._check_resumable()
        self._learn(event, copying=True)
        fields = self._fields.get((self.table, event.shard))
        lastpk = self._unfinished[event.shard]
        if fields is None:
            return
        self._obstacle = fields.why_not_resumable or self._obstacle
        if lastpk is None:
            return
        if self._obstacle:
            raise self._cannot_resume()
        if not _fits(lastpk, fields):
            raise self._cut("its key was altered")

    def _check_resumable(self) -> None:
        if self._given and self._obstacle:
            raise self._cannot_resume()

    def _rows(self, rows: CopiedRows | ChangedRows) -> Rows | None:
        """Take copied rows; changes are passed over."""
        copied = isinstance(rows, CopiedRows) or not rows.timestamp
        if self._open.get(rows.shard) is not copied:
            raise self._refused(rows.table_name, rows.shard, "rows outside of a transaction")
        if not copied:
            return None
        if rows.shard not in self._unfinished:
            raise self._refused(
                rows.table_name, rows.shard, "copied rows of a shard that is not to be copied"
            )
        if rows.shard not in self._snapshots:
            raise self._refused(rows.table_name, rows.shard, "rows without a snapshot's VGTID")
        self._given = True
        fields = self._fields_of(rows.table_name, rows.shard)
        if isinstance(rows, ChangedRows):
            return Rows(fields, rows.changes, 0)
        where = f"{self.name} on {rows.shard}"
        return Rows(fields, CopiedChanges(rows.images, len(fields.fields), where), 0)

    def _snapshot(self, event: binlogdata.VEvent) -> None:
        """Check the snapshot against the floor and note the shard's lastpk."""
        entries = dict(zip(self._shards_of(event.vgtid), event.vgtid.shard_gtids, strict=True))
        if not self._unfinished.keys() <= entries.keys():
            raise self._resharded()
        entry = entries[event.shard]
        if self._snapshots.get(event.shard) != entry.gtid:
            self._check_floor(event.shard, entry.gtid)
            self._snapshots[event.shard] = entry.gtid
        self._lastpk.pop(event.shard, None)
        for pk in entry.table_p_ks:
            if pk.table_name == self.table and pk.lastpk.rows:
                self._lastpk[event.shard] = pk.lastpk

    def _check_floor(self, shard: str, gtid: str) -> None:
        if self._floor is None:
            return
        if shard not in self._floor.shards:
            raise self._resharded()
        if not GtidSet.parse(gtid, f"{self.keyspace}/{shard}").contains(self._floor.shards[shard]):
            raise SnapshotTooOldError(
                f"{self.name}: the tablet of shard {shard} lags behind the bookmark"
            )

    def _progress(self, shard: str) -> CopyProgress | None:
        lastpk = self._lastpk.pop(shard, None)
        if lastpk is None:
            return None
        fields = self._fields.get((self.table, shard))
        if fields is None or not _fits(lastpk, fields):
            # Vitess goes by another unique key than the one MySQL flags: what an altered key
            # would look like cannot be told, so the copy is not resumed.
            self._obstacle = self._obstacle or "Vitess goes by another key than MySQL"
        if self._obstacle:
            return None
        before = self._unfinished[shard]
        if before is not None and [f.name for f in before.fields] != [
            f.name for f in lastpk.fields
        ]:
            raise self._cut("its key was altered")
        self._unfinished[shard] = lastpk
        return CopyProgress(self.table, shard, lastpk)

    def _check_shard(self, event: binlogdata.VEvent) -> None:
        """Pass over heartbeats and finished shards, and look for a reshard."""
        if event.type == binlogdata.VGTID and not (
            self._unfinished.keys() <= set(self._shards_of(event.vgtid))
        ):
            raise self._resharded()

    def _cannot_resume(self) -> CopyCutError:
        return self._cut(f"it cannot be resumed: {self._obstacle}")

    def _cut(self, why: str) -> CopyCutError:
        return CopyCutError(f"{self.name} was cut: {why}")

    def _resharded(self) -> ReshardedError:
        return ReshardedError(f"{self.name}: the keyspace was resharded in mid-copy")


def _type_of(field: query.Field) -> str:
    """Return a column's type; `type` alone takes an ENUM that is compared by bytes for a BINARY."""
    return field.column_type or query.Type.Name(field.type)


def _fits(lastpk: query.QueryResult, fields: Fields) -> bool:
    """Tell whether a lastpk is still of the table's key: its columns, types and charsets.

    MySQL goes on behind whatever it is given, in the order of today's key. Where Vitess takes
    another unique key than the one MySQL flags, this says no: rather copied twice than cut short.
    """
    columns = {field.name: (field.type, field.charset) for field in fields.fields}
    key = {field.name for field in fields.fields if field.flags & PRI_KEY_FLAG}
    names = {field.name for field in lastpk.fields}
    same = all(columns.get(f.name) == (f.type, f.charset) for f in lastpk.fields)
    return same and names == key
