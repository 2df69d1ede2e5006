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
from tap_vitess.protocol.columns import StreamEvent
from tap_vitess.protocol.copy_keys import KeyPart, why_not_resumable
from tap_vitess.protocol.images import PRI_KEY_FLAG
from tap_vitess.protocol.request import EVERYTHING, RequestOptions


@dataclass(frozen=True, slots=True)
class Alteration:
    """What a DDL has changed in a table's columns on one shard; None where it may be anything."""

    table: str
    shard: str
    changes: tuple[ColumnChange, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """What the rows that follow look like, for one shard's table in one phase.

    copying: the values come from a SELECT and not from the binlog; some types differ.
    labelled: ENUM and SET come as labels; from the binlog before Vitess 20 they come as numbers.
    projected: whether only some columns were asked for, which may not be all there are.
    """

    table: str
    shard: str
    fields: tuple[query.Field, ...]
    copying: bool
    labelled: bool = True
    projected: bool = False

    @property
    def why_not_resumable(self) -> str:
        """Why a copy cannot be resumed by the table's key; empty when it can be."""
        key = [field for field in self.fields if field.flags & PRI_KEY_FLAG]
        if not key:
            return "the table has no key"
        return why_not_resumable([KeyPart(field.name, _type_of(field)) for field in key])


def _type_of(field: query.Field) -> str:
    """Return a column's type; `type` alone takes an ENUM that is compared by bytes for a BINARY."""
    return field.column_type or query.Type.Name(field.type)


@dataclass(slots=True)
class Rows:
    """Row changes of one table and shard; copied rows have only an after image.

    commit_time: seconds since 1970; 0 for copied rows. others: what follows of the same table and
    shard, of other kinds, seconds or responses; only where it was asked for (see `by_table` and
    `by_shard`).
    """

    fields: Fields
    changes: Collection[binlogdata.RowChange]
    commit_time: int
    others: Sequence[Rows] = ()


@dataclass(frozen=True, slots=True)
class Boundary:
    """All rows before it form whole transactions; `vgtid` is the position after them.

    replaced: tables whose rows have been taken away or exchanged without a row event, each with
        what did it.
    altered: what DDLs have changed in the columns of tables, in their order.
    statements: what has changed rows without a row event, as MySQL has logged it.
    unplaced: of the transactions without a VGTID after `vgtid`, which one this is; else 0.
    """

    shard: str
    vgtid: binlogdata.VGtid
    replaced: Mapping[str, str] = field(default_factory=dict)
    altered: tuple[Alteration, ...] = ()
    statements: frozenset[str] = frozenset()
    unplaced: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing but a position."""
        return not (self.replaced or self.altered or self.statements)


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """The shard's rows up to `lastpk` have been given out."""

    table: str
    shard: str
    lastpk: query.QueryResult


@dataclass(frozen=True, slots=True)
class ShardCopied:
    """All rows of the table's shard have been given out; its columns come without a row as well."""

    table: str
    shard: str
    fields: Fields | None = None


ChangeItem = Rows | Boundary
CopyItem = Rows | CopyProgress | ShardCopied
Item_co = TypeVar("Item_co", covariant=True)


class Feed(Protocol[Item_co]):
    """What the reader drives: asked for a request, fed events, asked whether it is finished.

    signs: how much has come of the shards that are waited for; steps: how often they have come
    to a place to resume from. What other shards bring is no sign that these move. place: where a
    shard, or where none is named all of it, would go on; to be compared. fault: a passing one that
    ended the last events after what they gave out, to be raised once that has been taken.
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
    """The part both feeds share: the FIELD events, by table and shard."""

    def __init__(self, keyspace: str, tables: frozenset[str], options: RequestOptions) -> None:
        self.keyspace = keyspace
        self.tables = tables
        self._options = options
        self.fault: RetriableError | None = None
        self._fields: dict[tuple[str, str], Fields] = {}

    @property
    def name(self) -> str:
        """What logs and errors call this feed."""
        raise NotImplementedError

    @contextmanager
    def _given_out(self, items: Collection[object]) -> Iterator[None]:
        """Keep a passing fault back where something has to be given out before it.

        The place that is asked for next is after the items already; without them rows are lost.
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
