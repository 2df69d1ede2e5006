"""What the two feeds yield, and what they share. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import ProtocolError, RetriableError
from tap_vitess.protocol.alterations import ColumnChange
from tap_vitess.protocol.copy_keys import KeyPart, why_not_resumable
from tap_vitess.protocol.decode import StreamEvent
from tap_vitess.protocol.images import PRI_KEY_FLAG
from tap_vitess.protocol.request import EVERYTHING, RequestOptions


@dataclass(frozen=True, slots=True)
class Alteration:
    """How a DDL changed a table's columns on one shard; changes: None if it may be anything."""

    table: str
    shard: str
    changes: tuple[ColumnChange, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The columns of the rows that follow, for one shard's table in one phase.

    copying: the values come from a SELECT and not from the binlog; some types differ.
    labelled: ENUM and SET come as labels; from the binlog before Vitess 20 they come as numbers.
    projected: whether the request names columns, so that there may be others.
    """

    table: str
    shard: str
    fields: tuple[query.Field, ...]
    copying: bool
    labelled: bool = True
    projected: bool = False

    @property
    def why_not_resumable(self) -> str:
        """Why a copy cannot be resumed by the table's key; empty if it can be."""
        key = [field for field in self.fields if field.flags & PRI_KEY_FLAG]
        if not key:
            return "the table has no key"
        return why_not_resumable([KeyPart(field.name, _type_of(field)) for field in key])


def _type_of(field: query.Field) -> str:
    """Return a column's type; by `type` alone an ENUM with a binary collation looks like BINARY."""
    return field.column_type or query.Type.Name(field.type)


@dataclass(slots=True)
class Rows:
    """Row changes of one table and shard; copied rows have only an after image.

    commit_time: seconds since 1970; 0 for copied rows. others: later rows of the same table and
    shard, of other kinds, seconds or responses; only if joined by `by_table` or `by_shard`.
    """

    fields: Fields
    changes: Collection[binlogdata.RowChange]
    commit_time: int
    others: Sequence[Rows] = ()


@dataclass(frozen=True, slots=True)
class Boundary:
    """All rows before it form whole transactions; `vgtid` is the position after them.

    replaced: tables whose rows were removed or exchanged without a row event, each with the cause.
    altered: the changes that DDLs made to columns, in order.
    statements: those that changed rows without a row event, as MySQL logged them.
    unplaced: the number of this transaction, from 1, among those without a VGTID after `vgtid`;
        0 for one with a VGTID.
    """

    shard: str
    vgtid: binlogdata.VGtid
    replaced: Mapping[str, str] = field(default_factory=dict)
    altered: tuple[Alteration, ...] = ()
    statements: frozenset[str] = frozenset()
    unplaced: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it reports nothing but a position."""
        return not (self.replaced or self.altered or self.statements)


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """The shard's rows up to `lastpk` have been delivered."""

    table: str
    shard: str
    lastpk: query.QueryResult


@dataclass(frozen=True, slots=True)
class ShardCopied:
    """All rows of the table's shard have been delivered; `fields` are known even without a row."""

    table: str
    shard: str
    fields: Fields | None = None


ChangeItem = Rows | Boundary
CopyItem = Rows | CopyProgress | ShardCopied
Item_co = TypeVar("Item_co", covariant=True)


class Feed(Protocol[Item_co]):
    """What the reader drives: it sends the feed's requests, and feeds it events until it finishes.

    signs: how much came from the shards that are waited for; steps: how often these reached a place
    to resume from. What other shards send does not count. place: where a shard (or the whole feed)
    would resume; only to be compared. fault: a passing fault that came after the last items, to be
    raised once these have been processed.
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
    @property
    def fault(self) -> RetriableError | None: ...
    def place(self, shard: str | None) -> object: ...
    def request(self) -> vtgate.VStreamRequest: ...
    def feed(self, events: Iterable[StreamEvent]) -> Sequence[Item_co]: ...


class Decoded:
    """The part that both feeds share: the FIELD events, by table and shard."""

    def __init__(self, keyspace: str, tables: frozenset[str], options: RequestOptions) -> None:
        self.keyspace = keyspace
        self.tables = tables
        self._options = options
        self.fault: RetriableError | None = None
        self._fields: dict[tuple[str, str], Fields] = {}

    @property
    def name(self) -> str:
        """The feed's name in logs and errors."""
        raise NotImplementedError

    @contextmanager
    def _given_out(self, items: Collection[object]) -> Iterator[None]:
        """Hold back a passing fault until the items before it have been delivered.

        The next request already starts after these items: without them, rows would be lost.
        """
        try:
            yield
        except RetriableError as error:
            if not items:
                raise
            self.fault = error

    def _learn(self, event: binlogdata.VEvent, *, copying: bool) -> None:
        field = event.field_event
        if field.shard != event.shard:
            raise self._refused(field.table_name, event.shard, "a FIELD event of another shard")
        table = self._bare(field.table_name)
        rule = self._options.rules.get(table, EVERYTHING)
        self._fields[table, field.shard] = Fields(
            table,
            field.shard,
            tuple(field.fields),
            copying,
            field.enum_set_string_values,
            rule.columns is not None,
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
        """Return the names of a VGTID's shards."""
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
