"""Level 1's events: one frozen class for each kind of VEvent, and the feed that makes them. Pure.

Each row is one event, and its values are Python objects. A kind that is not known here becomes an
UnknownEvent, so nothing is skipped silently.

After a fault, the feed resumes at the last boundary (COMMIT, DDL, OTHER); a ReopenedEvent says that
what came after it comes again. A copy is not resumed, because its positions do not say which tables
are copied, and VTGate would silently leave some out. To resume copies, use `changes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import CopyCutError, ProtocolError
from tap_vitess.protocol.changes import LAST_SECOND
from tap_vitess.protocol.decode import ChangedRows, CopiedRows, StreamEvent
from tap_vitess.protocol.images import PRI_KEY_FLAG, completed
from tap_vitess.protocol.items import Fields
from tap_vitess.protocol.request import RequestOptions, first_request, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.values.charsets import charset_of
from tap_vitess.values.decode import ObjectDecoder, Row


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have.

    shard: the shard it came from; empty for an event of VTGate itself. at: when it happened, to the
    second; None in a copy.
    """

    keyspace: str
    shard: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class BeginEvent(Event):
    """A transaction begins, or a copy's packet of rows."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a FieldEvent; charset is None if the column has none or Vitess does not say."""

    name: str
    column_type: str
    charset: str | None
    is_key: bool


@dataclass(frozen=True, slots=True)
class FieldEvent(Event):
    """What the rows of a table look like from here on, on this shard."""

    table: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class RowEvent(Event):
    """A row that was copied (`at` is None), or a change of one.

    before: None for an insert. after: None for a delete, and for an update whose image Vitess drops
    (MINIMAL and NOBLOB, see docs/vstream/values.md). A column that the binlog does not carry is
    absent from `after`; in `before` it may be None.
    """

    table: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class VgtidEvent(Event):
    """The position after the transaction whose end comes next.

    usable: whether it is a position to start from. It is not in a copy, nor at the beginning of a
    stream without a position, until all shards have reported where they are.
    """

    vgtid: Vgtid
    usable: bool


@dataclass(frozen=True, slots=True)
class CommitEvent(Event):
    """A transaction ends, or a copy's packet of rows."""


@dataclass(frozen=True, slots=True)
class DdlEvent(Event):
    """A statement of DDL."""

    statement: str


@dataclass(frozen=True, slots=True)
class OtherEvent(Event):
    """The position moves for something that is not of these tables."""


@dataclass(frozen=True, slots=True)
class CopyCompletedEvent(Event):
    """A shard is copied; without a shard, all are."""


@dataclass(frozen=True, slots=True)
class JournalEvent(Event):
    """A reshard; VTGate follows it by itself, and sends this event only if asked to."""

    participants: tuple[str, ...]
    targets: Vgtid


@dataclass(frozen=True, slots=True)
class HeartbeatEvent(Event):
    """VTGate is alive; this says nothing about the tablets."""


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """A kind of event that has no class."""

    kind: str


@dataclass(frozen=True, slots=True)
class ReopenedEvent(Event):
    """The call was opened again: what came after this position comes again, or has changed.

    The position is None if the stream had not reached a boundary yet; it then starts again from the
    present.
    """

    vgtid: Vgtid | None


_BARE: dict[int, type[Event]] = {
    binlogdata.BEGIN: BeginEvent,
    binlogdata.COMMIT: CommitEvent,
    binlogdata.OTHER: OtherEvent,
    binlogdata.COPY_COMPLETED: CopyCompletedEvent,
    binlogdata.HEARTBEAT: HeartbeatEvent,
}


class EventFeed:
    """Turns a call's events into ours, and knows where the next call starts. It never finishes."""

    finished = False
    fault = None
    waits_for = "the call was opened without a stop position"

    def __init__(
        self,
        keyspace: str,
        tables: Iterable[str],
        position: Vgtid | None,
        options: RequestOptions,
        *,
        copy: bool,
        told: Callable[[Fields], Fields] = lambda fields: fields,
        shards: Callable[[], Iterable[str]] = lambda: ("",),
    ) -> None:
        """Prepare for a first call.

        Args:
            position: where to start; None is the keyspace's present position.
            copy: whether to copy the tables first; only without a position.
            told: completes a FIELD event with what Vitess leaves out.
            shards: returns the shards to start with, if there is no position.
        """
        self._keyspace = keyspace
        self._tables = frozenset(tables)
        self._position = position
        self._options = options
        self._copying = copy
        self._told = told
        self._first_shards = shards
        self._pending: Vgtid | None = None
        self._open: set[str] = set()  # shards in a transaction
        self._opened = self._given = False
        self._decoders: dict[tuple[str, str, bool], ObjectDecoder] = {}
        self._left: list[Event] = []  # to be delivered before the next events
        self.signs = self.steps = 0

    @property
    def name(self) -> str:
        return f"the event stream of {self._keyspace}"

    def place(self, shard: str | None) -> object:
        """Return the position, of a shard or whole; unknown ones all differ."""
        if self._position is None:
            return object()
        return self._position.shards.get(shard) if shard else self._position

    def request(self) -> vtgate.VStreamRequest:
        """Ask for what follows the last boundary.

        Raises:
            CopyCutError: it is in the middle of a copy.
        """
        if self._given and self._copying:
            raise CopyCutError(f"{self.name} was cut in a copy: start over, or use `changes`")
        if self._opened:
            self._left.append(ReopenedEvent(self._keyspace, "", None, self._position))
        self._opened = True
        self._open.clear()
        self._pending = None
        self._decoders.clear()
        if self._position is None:
            return first_request(
                self._keyspace,
                self._tables,
                self._options,
                copy=self._copying,
                shards=self._first_shards(),
            )
        return stream_request(self._tables, self._position, self._options)

    def feed(self, events: Iterable[StreamEvent]) -> Sequence[Event]:
        """Take the events of one response.

        Raises:
            VitessError: a value or an event that cannot be read.
        """
        found, self._left = self._left, []
        for event in events:
            found += self._take(event)
        self._given = self._given or bool(found)
        # Without a stop position, only the next response can be waited for.
        self.signs += 1
        self.steps += 1
        return found

    def _take(self, event: StreamEvent) -> Iterator[Event]:
        if isinstance(event, CopiedRows):
            decoder = self._decoder(event.table_name, event.shard, copying=True)
            for row in decoder.decode_all(event.images):
                yield RowEvent(
                    self._keyspace, event.shard, None, self._bare(event.table_name), None, row
                )
        elif isinstance(event, ChangedRows):
            yield from self._changed(event)
        elif event.type == binlogdata.ROW:
            yield from self._changed(ChangedRows.of(event))
        else:
            yield self._other(event)

    def _changed(self, rows: ChangedRows) -> Iterator[Event]:
        decoder = self._decoder(rows.table_name, rows.shard, copying=not rows.timestamp)
        table = self._bare(rows.table_name)
        at = _moment(rows.timestamp)
        for change in rows.changes:
            before = decoder.decode(change.before) if change.HasField("before") else None
            after: Row | None = None
            if change.HasField("after"):
                row, unknown = completed(change, decoder.fields, decoder.where)
                after = {n: v for n, v in decoder.decode(row).items() if n not in unknown}
            yield RowEvent(self._keyspace, rows.shard, at, table, before, after)

    def _other(self, event: binlogdata.VEvent) -> Event:
        base = self._keyspace, event.shard, _moment(event.timestamp)
        match event.type:
            case binlogdata.FIELD:
                return self._fields(event, base)
            case binlogdata.VGTID:
                told = event.vgtid.shard_gtids
                known = [e for e in told if e.gtid not in {"", "current"}]
                vgtid = Vgtid.from_proto(self._keyspace, known)
                usable = len(known) == len(told) and not self._copying
                self._pending = vgtid if usable else None
                return VgtidEvent(*base, vgtid, usable)
            case binlogdata.DDL:
                self._reach()
                return DdlEvent(*base, event.statement)
            case binlogdata.JOURNAL:
                journal = event.journal
                names = tuple(participant.shard for participant in journal.participants)
                targets = Vgtid.from_proto(self._keyspace, journal.shard_gtids)
                return JournalEvent(*base, names, targets)
        if event.type == binlogdata.BEGIN:
            self._open.add(event.shard)
        elif event.type == binlogdata.COMMIT:
            self._open.discard(event.shard)
            self._reach()
        elif event.type == binlogdata.OTHER:
            self._reach()
        if event.type == binlogdata.COPY_COMPLETED and not event.shard:
            self._copying = False
        kind = _BARE.get(event.type)
        if kind is None:
            return UnknownEvent(*base, _name(event.type))
        return kind(*base)

    def _fields(
        self, event: binlogdata.VEvent, base: tuple[str, str, datetime | None]
    ) -> FieldEvent:
        told = event.field_event
        table, copying = self._bare(told.table_name), not event.timestamp
        fields = self._told(
            Fields(table, event.shard, tuple(told.fields), copying, told.enum_set_string_values)
        )
        names = [field.name for field in fields.fields]
        self._decoders[table, event.shard, copying] = ObjectDecoder(fields, self._keyspace, names)
        columns = tuple(
            Column(f.name, f.column_type, charset_of(f.charset), bool(f.flags & PRI_KEY_FLAG))
            for f in fields.fields
        )
        return FieldEvent(*base, table, columns)

    def _reach(self) -> None:
        """Resume from this boundary in future, unless it is within a transaction."""
        if self._pending is not None:
            self._open &= self._pending.shards.keys()
        if self._open:
            return
        if self._pending is not None:
            self._position = self._pending
        self._pending = None

    def _decoder(self, table_name: str, shard: str, *, copying: bool) -> ObjectDecoder:
        found = self._decoders.get((self._bare(table_name), shard, copying))
        if found is None:
            raise ProtocolError(f"{table_name} on shard {shard}: rows came before the FIELD event")
        return found

    def _bare(self, table_name: str) -> str:
        return table_name.removeprefix(self._keyspace + ".")


def _moment(seconds: int) -> datetime | None:
    if not 0 <= seconds <= LAST_SECOND:
        raise ProtocolError("VTGate sent an invalid time")
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _name(kind: int) -> str:
    names: Mapping[int, str] = {v.number: v.name for v in binlogdata.VEventType.DESCRIPTOR.values}
    return names.get(kind, str(kind))
