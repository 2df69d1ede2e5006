"""Responses -> events, with rows that follow each other as one. Pure; the hot path.

What becomes one is told in `columns.py`. All else is read as VEvents, one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from google.protobuf.message import DecodeError

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import columns_pb2 as by_column
from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.columns import LARGE, EncodedChanges, Images, RowChanges, read_images
from tap_vitess.protocol.lengths import varint
from tap_vitess.protocol.wire import (
    COPIED,
    IS_ROW,
    first_copied,
    first_row,
    last_copied_end,
)


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """Consecutive rows of one table and shard, from one or several ROW events.

    timestamp, current_time: see VEvent; all rows have the same timestamp, 0 if they were copied.
    """

    table_name: str
    shard: str
    timestamp: int
    current_time: int
    is_internal_table: bool
    changes: Collection[binlogdata.RowChange]

    @classmethod
    def of(cls, event: binlogdata.VEvent) -> ChangedRows:
        """Make it of a ROW event; raises ProtocolError: the event contradicts itself."""
        row = event.row_event
        if row.shard != event.shard:
            raise _contradiction(row.table_name, event.shard)
        return cls(
            row.table_name,
            event.shard,
            event.timestamp,
            event.current_time,
            row.is_internal_table,
            RowChanges(row),
        )


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """A run of copied rows of one table and shard in a response."""

    table_name: str
    shard: str
    images: Images


StreamEvent = binlogdata.VEvent | CopiedRows | ChangedRows


def decode(response: bytes) -> Sequence[StreamEvent]:
    """Return the events of a serialized VStreamResponse; consecutive rows are joined.

    Raises:
        google.protobuf.message.DecodeError: the bytes are not a VStreamResponse.
        ProtocolError: an event contradicts itself.
    """
    return decode_all([response])


def decode_all(responses: Iterable[bytes]) -> Sequence[StreamEvent]:
    """Return the events of several responses as if they were one.

    Each is parsed on its own: a truncated one must not continue in the next. Each is freed at once,
    because it may be huge.

    Raises:
        google.protobuf.message.DecodeError: one is not a VStreamResponse.
        ProtocolError: an event contradicts itself.
    """
    found: list[StreamEvent] = []
    waiting: list[bytes | _Row] = []
    for response in responses:
        if first_row(response) == COPIED and (copied := _copied_response(response)):
            found += [*_runs(waiting), *copied]
            waiting = []
        else:
            events = by_column.Response.FromString(response).events[:]
            read = _read_at_once(response)
            del response
            waiting += _with_rows_read(events, read)
            del events
    return [*found, *_runs(waiting)]


def has_copied_rows(response: bytes) -> bool:
    """Return whether a serialized VStreamResponse may have copied rows; a value may mislead."""
    return COPIED in response


def _read_at_once(response: bytes) -> Sequence[by_column.ChangedEvent]:
    """Read all events of a response as ROW events; none if it is large or has no rows.

    protobuf frees a message in blocks, and after every ten thousand of them it has glibc return all
    free memory to the system. A message for each event has many more blocks than one for all.
    """
    if len(response) > LARGE or IS_ROW not in response:
        return ()
    return by_column.ChangedResponse.FromString(response).events


def _with_rows_read(
    events: Sequence[bytes], read: Sequence[by_column.ChangedEvent]
) -> Iterator[bytes | _Row]:
    for place, event in enumerate(events):
        if event.startswith(IS_ROW):
            told = read[place] if read else by_column.ChangedEvent.FromString(event)
            yield _row_event(event, told)
        else:
            yield event


def _runs(events: Iterable[bytes | _Row]) -> Iterator[StreamEvent]:
    """Join rows; `events` come from `_with_rows_read`, or those of rows would go unchecked."""
    for kind, run in groupby(events, type):
        if kind is bytes:
            yield from _others(event for event in run if isinstance(event, bytes))
        else:
            yield from _changed_rows(event for event in run if not isinstance(event, bytes))


def _others(events: Iterable[bytes]) -> Iterator[binlogdata.VEvent]:
    """Read events that are not ROW; refuse rows in them, which would be ignored."""
    return map(_without_rows, map(binlogdata.VEvent.FromString, events))


def _without_rows(event: binlogdata.VEvent) -> binlogdata.VEvent:
    if event.type != binlogdata.ROW and event.HasField("row_event"):
        raise _contradiction(event.row_event.table_name, event.shard)
    return event


_RunKey = tuple[str, str, int, bool, str]
_Row = tuple[_RunKey, bytes, int, int]  # a ROW event; how many changes; its current_time


def _changed_rows(events: Iterable[_Row]) -> Iterator[ChangedRows]:
    """Join the rows of one table, one kind and one second."""
    for (table, shard, timestamp, internal, kind), run in groupby(events, _key):
        of_run: list[bytes] = []
        count = now = 0
        for _, event, changes, current_time in run:
            of_run.append(event)
            count += changes
            now = max(now, current_time)
        rows = EncodedChanges(of_run, count, kind)
        yield ChangedRows(table, shard, timestamp, now, internal, rows)


def _row_event(event: bytes, read: by_column.ChangedEvent) -> _Row:
    """Note what a ROW event is; refuse repeated fields, which protobuf would merge."""
    rows, shard = read.row_event, read.shard
    if read.type != binlogdata.ROW or len(rows) != 1:
        raise _contradiction("rows of some tables", shard)
    row = rows[0]
    tables, changes = row.table_name, row.row_changes
    if len(tables) != 1 or row.shard != shard:
        raise _contradiction(" and ".join(tables), shard)
    kind = _kind(changes[0]) if changes else ""
    key = tables[0], shard, read.timestamp, row.is_internal_table, kind
    return key, event, len(changes), read.current_time


_key = itemgetter(0)


def _contradiction(table: str, shard: str) -> ProtocolError:
    return ProtocolError(f"{table} on shard {shard}: VTGate sent an event that contradicts itself")


def _kind(change: by_column.Change) -> str:
    """Return which images a RowChange has; MySQL logs one kind per event."""
    return f"{change.HasField('before')} {change.HasField('after')}"


def _copied_response(response: bytes) -> list[StreamEvent] | None:
    """Read a response with one run of copied rows; None for any other.

    The end of the last row is a guess, because a value may contain the same bytes. After a wrong
    guess, the run ends within an event or contains events of other types, so it is refused.
    """
    start, end = first_copied(response), last_copied_end(response)
    if start is None or end is None:
        return None
    found = _copied_rows(response[start:end])
    if found is None:
        return None
    before, after = (
        _runs(_with_rows_read(by_column.Response.FromString(part).events, ()))
        for part in (response[:start], response[end:])
    )
    return [*before, found, *after]


def _copied_rows(run: bytes) -> CopiedRows | None:
    """Read events as one; None if they are not copied rows of one shard."""
    try:
        merged = by_column.CopiedResponse.FromString(run).events
        table = b"".join(merged.row_event.table_name[:1]).decode()
        shard = b"".join(merged.shard[:1]).decode()
    except (DecodeError, UnicodeDecodeError):
        return None
    del run
    changes, count = merged.row_event.row_changes, len(merged.type)
    if changes.HasField("before") or changes.data_columns or changes.json_partial_values:
        return None
    read = read_images(changes.after)
    if not table or not shard or not _are_alike(merged):
        return None
    del merged, changes
    images = Images.of(read, count)
    return None if images is None else CopiedRows(table, shard, images)


def _are_alike(events: by_column.CopiedEvents) -> bool:
    """Return whether events are ROW events of one table and shard, and nothing else.

    This compares them serialized, without their rows: all types, then all shards. That needs no
    object for each event.
    """
    count, event, row = len(events.type), by_column.CopiedEvents, by_column.CopiedRowEvent
    told = events.row_event
    told.ClearField("row_changes")
    names = row(table_name=told.table_name[:1]).SerializeToString() * count
    keyspace = row(keyspace=told.keyspace).SerializeToString()
    shards = row(shard=events.shard[:1]).SerializeToString() * count
    if told.SerializeToString() != names + keyspace + shards:
        return False
    events.ClearField("row_event")
    types = b"\x0a" + varint(count) + bytes([binlogdata.ROW]) * count
    keyspace = event(keyspace=events.keyspace).SerializeToString()
    shards = event(shard=events.shard[:1]).SerializeToString() * count
    return events.SerializeToString() == types + keyspace + shards
