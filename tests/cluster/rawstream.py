"""The bytes of a table as VStream sends them, once as a copy and once as changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.source import Address
from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.config import Config
from tap_vitess.protocol.decode import ChangedRows, CopiedRows
from tap_vitess.protocol.request import RequestOptions, copy_request, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.keyspace import Survey, position
from tap_vitess.vtgate.grpc import connect

Unpacked = tuple[bytes | None, ...]
Events = list[tuple[list[query.Field], bool, query.Row]]


@dataclass(frozen=True, slots=True)
class Copied:
    """The rows of a shard's copy as they came, and the columns that its lastpk has."""

    fields: list[query.Field]
    rows: list[Unpacked]
    key: list[query.Field]

    def lastpk(self, at: int) -> query.QueryResult:
        """Return what VTGate resumes behind a row by: its key, as the copy sent it."""
        names = [field.name for field in self.fields]
        values = [self.rows[at][names.index(field.name)] or b"" for field in self.key]
        row = query.Row(lengths=map(len, values), values=b"".join(values))
        return query.QueryResult(fields=self.key, rows=[row])


@dataclass(frozen=True, slots=True)
class RawSource:
    """A keyspace, read without the tap's decoding."""

    address: Address

    @property
    def _config(self) -> Config:
        where = self.address
        return Config.from_settings(
            {"host": where.host, "grpc_port": where.grpc_port, "mysql_port": where.mysql_port}
        )

    def position(self) -> Vgtid:
        """Ask where the keyspace is now."""
        return Survey(self._config, self.address.keyspace, "PRIMARY").ask(position)

    def copied(self, table: str) -> Events:
        """Copy a table: each row with its fields, and whether ENUM and SET come as labels."""
        shards = self.position().shards
        request = copy_request(
            self.address.keyspace, table, dict.fromkeys(shards), RequestOptions()
        )
        completed: list[str] = []

        def is_end(event: binlogdata.VEvent, _: Events) -> bool:
            if event.type == binlogdata.COPY_COMPLETED:
                completed.append(event.shard)
            return len(completed) > len(shards)

        return self._read(request, is_end)

    def resumed(self, table: str, shard: str, lastpk: query.QueryResult | None) -> Copied:
        """Copy what one shard has behind a lastpk, or everything."""
        options = RequestOptions()
        request = copy_request(self.address.keyspace, table, {shard: lastpk}, options)
        keys: list[query.QueryResult] = []

        def is_end(event: binlogdata.VEvent, _: Events) -> bool:
            entries = [entry for each in event.vgtid.shard_gtids for entry in each.table_p_ks]
            keys.extend(entry.lastpk for entry in entries)
            return event.type == binlogdata.COPY_COMPLETED

        found = self._read(request, is_end)
        rows = [_unpacked(row) for _, _, row in found]
        key = list(keys[-1].fields) if keys else []
        copied = Copied(found[0][0] if found else [], rows, key)
        if rows:
            assert keys[-1] == copied.lastpk(-1), "VTGate sends another lastpk"
        return copied

    def streamed(self, table: str, start: Vgtid, count: int) -> Events:
        """Read so many changes after a position."""
        request = stream_request([table], start, RequestOptions())
        return self._read(request, lambda _, found: len(found) >= count)

    def _read(
        self, request: vtgate.VStreamRequest, is_end: Callable[[binlogdata.VEvent, Events], bool]
    ) -> Events:
        found: Events = []
        fields: dict[str, tuple[list[query.Field], bool]] = {}
        with connect(self._config) as client, client.stream(request) as responses:
            for response in responses:
                for event in response:
                    if isinstance(event, CopiedRows):
                        shown_fields, labelled = fields[event.shard]
                        rows = event.images.rows(len(shown_fields), event.table_name)
                        found += [(shown_fields, labelled, row) for row in rows]
                        continue
                    if isinstance(event, ChangedRows):
                        found += [(*fields[event.shard], change.after) for change in event.changes]
                        continue
                    if event.type == binlogdata.FIELD:
                        shown = event.field_event
                        fields[event.shard] = list(shown.fields), shown.enum_set_string_values
                    if event.type == binlogdata.ROW:
                        found += [
                            (*fields[event.shard], change.after)
                            for change in event.row_event.row_changes
                        ]
                    if is_end(event, found):
                        return found
        raise AssertionError("the stream ended early")


def _unpacked(row: query.Row) -> Unpacked:
    values: list[bytes | None] = []
    at = 0
    for length in row.lengths:
        values.append(None if length < 0 else row.values[at : at + length])
        at += max(length, 0)
    return tuple(values)
