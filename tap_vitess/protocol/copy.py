"""The copy of one table: VEvents in; rows, lastpks and "done" out. No I/O.

Its only results are rows, and for each shard a lastpk or "done". The VGTIDs of a copy serve one
purpose: each snapshot must contain the floor (the position of the shared stream). They never become
a position.

What surprised us. A BEGIN may follow a BEGIN (empty tables). The aggregate COPY_COMPLETED may
never come, so only the shards' own count. A shard that is done streams changes while others still
copy, and so do VTGate's own retries in mid-copy: those rows carry a timestamp and are dropped here,
because the shared stream delivers them, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import CopyCutError, ReshardedError, SnapshotTooOldError
from tap_vitess.protocol.columns import CopiedChanges
from tap_vitess.protocol.decode import ChangedRows, CopiedRows, StreamEvent
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.images import PRI_KEY_FLAG
from tap_vitess.protocol.items import CopyItem, CopyProgress, Decoded, Fields, Rows, ShardCopied
from tap_vitess.protocol.request import RequestOptions, copy_request
from tap_vitess.protocol.vgtid import Vgtid


class TableCopy(Decoded):
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
            progress: each unfinished shard with the lastpk to resume from, or None.
            floor: what every snapshot must contain; None for a copy that no stream follows.
            resumable: whether rows may come from several snapshots. They may not without a key
                (a cut between equal rows would lose some), nor without a shared stream that
                delivers the changes between the snapshots.
        """
        super().__init__(keyspace, frozenset({table}), options)
        self.table = table
        self._floor = floor
        self._given = False
        self._obstacle = "" if resumable else "its rows must be of one snapshot"
        self._unfinished = dict(progress)
        self._lastpk: dict[str, query.QueryResult] = {}
        self._snapshots: dict[str, str] = {}
        self._open: dict[str, bool] = {}  # shards in a transaction -> whether it is one of the copy
        self.signs = self.steps = 0

    @property
    def name(self) -> str:
        return f"the copy of {self.keyspace}.{self.table}"

    @property
    def unfinished(self) -> list[str]:
        """The shards that are not yet copied."""
        return sorted(self._unfinished)

    def place(self, shard: str | None) -> object:
        """Return the lastpk of a shard, or of all shards."""
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
        """Which shards are not yet copied, as text."""
        return f"not yet copied: shards {', '.join(sorted(self._unfinished))}"

    def request(self) -> vtgate.VStreamRequest:
        """Ask for the rows after each unfinished shard's lastpk.

        Raises:
            CopyCutError: rows have been delivered, and the copy cannot be resumed.
        """
        self._check_resumable()
        self.fault = None
        self._lastpk.clear()
        self._snapshots.clear()
        self._open.clear()
        self._fields.clear()
        return copy_request(self.keyspace, self.table, self._unfinished, self._options)

    def feed(self, events: Iterable[StreamEvent]) -> list[CopyItem]:
        """Take the events of one response.

        Raises:
            SnapshotTooOldError: a shard's snapshot does not contain the floor.
            CopyCutError: VTGate itself resumed a copy that cannot be resumed.
            ReshardedError: the shards are no longer those of the request.
            ProtocolError: the events contradict what VStream promises.
        """
        items: list[CopyItem] = []
        with self._given_out(items):
            items.extend(item for event in events if (item := self._take(event)))
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
        elif event.type == binlogdata.COMMIT:
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
                return ShardCopied(self.table, shard, self._fields.get((self.table, shard)))
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
        """Return copied rows; skip changes."""
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
            # Vitess uses another unique key than the one MySQL flags. An altered key could not be
            # recognized then, so the copy is not resumed.
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
        """Skip events of heartbeats and finished shards, but check for a reshard."""
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


def by_shard(items: Iterable[CopyItem]) -> Sequence[CopyItem]:
    """Join the rows of each shard (`Rows.others`), and keep only its last lastpk."""
    rows: dict[Fields, list[Rows]] = {}
    told: dict[tuple[type, str], CopyProgress | ShardCopied] = {}
    for item in items:
        if isinstance(item, Rows):
            rows.setdefault(item.fields, []).append(item)
        else:
            told[type(item), item.shard] = item
    joined = [Rows(f, first.changes, 0, others) for f, (first, *others) in rows.items()]
    return [*joined, *told.values()]


def _fits(lastpk: query.QueryResult, fields: Fields) -> bool:
    """Return whether a lastpk still has the columns, types and charsets of the table's key.

    MySQL continues after any value, in the order of today's key. If Vitess uses another unique key
    than the one MySQL flags, the answer is no: rows copied twice are better than lost ones.
    """
    columns = {field.name: (field.type, field.charset) for field in fields.fields}
    key = {field.name for field in fields.fields if field.flags & PRI_KEY_FLAG}
    names = {field.name for field in lastpk.fields}
    same = all(columns.get(f.name) == (f.type, f.charset) for f in lastpk.fields)
    return same and names == key
