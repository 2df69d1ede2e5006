"""VEvents out of the model's rows, statements and definitions.

Guarantees: every event carries the keyspace and shard; copied rows have neither timestamp nor
current_time, and a VGTID never has them. A statement's rows are spread over ROW events as MySQL
spreads them over the binlog, and the last of these has the flag of a statement's end.

Surprising: enum_set_string_values is always true in a copy, and in the binlog only for tables
that have an ENUM or SET.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tap_vitess._proto.binlogdata_pb2 import (
    FieldEvent,
    RowEvent,
    ShardGtid,
    TableLastPK,
    VEvent,
    VEventType,
)
from tap_vitess._proto.binlogdata_pb2 import Journal as JournalMessage
from tap_vitess._proto.binlogdata_pb2 import KeyspaceShard as KeyspaceShardMessage
from tap_vitess._proto.binlogdata_pb2 import RowChange as RowChangeMessage
from tap_vitess._proto.query_pb2 import Field, QueryResult
from tap_vitess._proto.query_pb2 import Row as RowMessage
from tap_vitess.sandbox.cluster import Journal, RowChange
from tap_vitess.sandbox.positions import PREFIX
from tap_vitess.sandbox.schema import Row, Table, field_facts

# What one response carries.
Events = list[VEvent]

_STATEMENT_END = 1
# Approximate bytes of a row in a binlog event, besides its values.
_ROW_OVERHEAD = 8


class Shown(Protocol):
    """A table as a stream shows it, and the columns that the stream sends."""

    @property
    def table(self) -> Table: ...
    @property
    def columns(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Cut:
    """The columns that images before do not have, and those after only if they have changed."""

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Source:
    """The shard events come from."""

    keyspace: str
    shard: str

    def event(self, type_: VEventType, timestamp: int = 0, current_time: int = 0) -> VEvent:
        return VEvent(
            type=type_,
            timestamp=timestamp,
            current_time=current_time,
            keyspace=self.keyspace,
            shard=self.shard,
        )

    def field_event(self, table: Table, columns: Sequence[str], *, copying: bool) -> FieldEvent:
        strings = copying or any(column.parsed.base in {"enum", "set"} for column in table.columns)
        return FieldEvent(
            table_name=f"{self.keyspace}.{table.name}",
            fields=[self._field(table, name) for name in columns],
            keyspace=self.keyspace,
            shard=self.shard,
            enum_set_string_values=strings,
        )

    def row_event(
        self, table: Table, changes: Iterable[RowChangeMessage], flags: int = 0
    ) -> RowEvent:
        return RowEvent(
            table_name=f"{self.keyspace}.{table.name}",
            row_changes=changes,
            keyspace=self.keyspace,
            shard=self.shard,
            flags=flags,
        )

    def _field(self, table: Table, name: str) -> Field:
        facts = field_facts(table, name)
        if not table.column(name).told:
            return Field(name=name, type=facts.type, charset=facts.charset)
        return Field(
            name=name,
            type=facts.type,
            table=table.name,
            org_table=table.name,
            database=physical_name(self.keyspace),
            org_name=name,
            column_length=facts.column_length,
            charset=facts.charset,
            decimals=facts.decimals,
            flags=facts.flags,
            column_type=table.column(name).column_type,
        )


def physical_name(keyspace: str) -> str:
    """The database of a keyspace's tables on its tablets."""
    return f"vt_{keyspace}"


def copied_row(columns: Sequence[str], row: Row) -> RowChangeMessage:
    return RowChangeMessage(after=pack(columns, row))


def changed_row(shown: Shown, change: RowChange, sent: RowChange, cut: Cut) -> RowChangeMessage:
    """The images to send of a change.

    The bitmap describes only the after image, and exists only if a column is missing from it. It
    covers all the table's columns, whichever are sent. An image of NULLs is dropped.
    """
    columns, names = shown.columns, [column.name for column in shown.table.columns]
    before, after = sent.before, sent.after
    message = RowChangeMessage()
    if before is not None:
        image = {n: None if n in cut.before else value for n, value in before.items()}
        if any(value is not None for value in image.values()):
            message.before.CopyFrom(pack(columns, image))
    if after is not None:
        old = change.before or dict.fromkeys(names)
        absent = {n for n in cut.after if after[n] == old[n]}
        image = {n: None if n in absent else value for n, value in after.items()}
        if all(value is None for value in image.values()):
            return message
        message.after.CopyFrom(pack(columns, image))
        if absent:
            bits = sum(1 << i for i, name in enumerate(names) if name not in absent)
            message.data_columns.count = len(names)
            message.data_columns.cols = bits.to_bytes((len(names) + 7) // 8, "little")
    return message


def pack(columns: Sequence[str], row: Row) -> RowMessage:
    values = [row[name] for name in columns]
    return RowMessage(
        lengths=[-1 if value is None else len(value) for value in values],
        values=b"".join(value for value in values if value is not None),
    )


def unpack(row: RowMessage) -> list[bytes | None]:
    values: list[bytes | None] = []
    start = 0
    for length in row.lengths:
        values.append(None if length < 0 else row.values[start : start + length])
        start += max(length, 0)
    return values


def last_pk(table: Table, row: Row) -> TableLastPK:
    """The entry of table_p_ks after this row: names, types, charsets and flags, no more."""
    fields = []
    for name in table.copy_key:
        facts = field_facts(table, name)
        fields.append(
            Field(
                name=name,
                type=facts.type,
                charset=facts.charset,
                flags=facts.flags,
            )
        )
    lastpk = QueryResult(fields=fields, rows=[pack(table.copy_key, row)])
    return TableLastPK(table_name=table.name, lastpk=lastpk)


def binlog_events(
    changes: Sequence[tuple[RowChange, RowChange]], most_bytes: int
) -> Iterator[tuple[list[tuple[RowChange, RowChange]], int]]:
    """The rows of a statement and what is sent of them, as binlog events, each with its flags."""
    part: list[tuple[RowChange, RowChange]] = []
    size = 0
    for change, sent in changes:
        images = [image for image in (change.before, change.after) if image is not None]
        cost = sum(_ROW_OVERHEAD + sum(len(v or b"") for v in image.values()) for image in images)
        if part and size + cost > most_bytes:
            yield part, 0
            part, size = [], 0
        part.append((change, sent))
        size += cost
    yield part, _STATEMENT_END


def journal_message(journal: Journal) -> JournalMessage:
    return JournalMessage(
        id=journal.id,
        tables=["/.*"],
        local_position=PREFIX + journal.local_position,
        shard_gtids=[
            ShardGtid(keyspace=journal.keyspace, shard=shard, gtid=PREFIX + gtid_set)
            for shard, gtid_set in journal.targets
        ],
        participants=[
            KeyspaceShardMessage(keyspace=journal.keyspace, shard=shard)
            for shard in journal.participants
        ],
    )


def split(events: Iterable[VEvent], most_bytes: int) -> list[Events]:
    """The events of a transaction as responses."""
    responses: list[Events] = [[]]
    size = 0
    for event in events:
        cost = event.ByteSize()
        if responses[-1] and size + cost > most_bytes:
            responses.append([])
            size = 0
        responses[-1].append(event)
        size += cost
    return responses
