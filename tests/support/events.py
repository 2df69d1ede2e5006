"""Short ways to write VEvents, for tests that feed the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.columns import Images
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid

KEYSPACE = "shop"
VEvent = binlogdata.VEvent


def uuid(shard: str) -> str:
    """Give each shard a server UUID of its own."""
    return f"00000000-0000-0000-0000-{sum(map(ord, shard)):012d}"


def gtid(shard: str, last: int) -> str:
    """Write the GTID set of a shard after its `last` transaction."""
    return f"MySQL56/{uuid(shard)}:1-{last}" if last else "MySQL56/"


def field(name: str, column_type: str = "bigint", *, key: bool = False) -> query.Field:
    """Describe a column."""
    flags = 3 if key else 0
    return query.Field(name=name, column_type=column_type, charset=255, flags=flags)


def row(*values: str | None) -> query.Row:
    """Pack a row."""
    raw = [None if value is None else value.encode() for value in values]
    lengths = [-1 if value is None else len(value) for value in raw]
    return query.Row(lengths=lengths, values=b"".join(value or b"" for value in raw))


def read_images(*rows: query.Row) -> Images:
    """Write rows as VTGate does, and read them by column."""
    images = Images.of_rows(rows)
    assert images is not None
    return images


def begin(shard: str, at: int = 0) -> VEvent:
    """BEGIN."""
    return VEvent(type=binlogdata.BEGIN, keyspace=KEYSPACE, shard=shard, timestamp=at)


def commit(shard: str, at: int = 0) -> VEvent:
    """COMMIT."""
    return VEvent(type=binlogdata.COMMIT, keyspace=KEYSPACE, shard=shard, timestamp=at)


def other(shard: str) -> VEvent:
    """OTHER."""
    return VEvent(type=binlogdata.OTHER, keyspace=KEYSPACE, shard=shard)


def ddl(shard: str, statement: str) -> VEvent:
    """DDL."""
    return VEvent(type=binlogdata.DDL, keyspace=KEYSPACE, shard=shard, statement=statement)


def copy_completed(shard: str = "") -> VEvent:
    """COPY_COMPLETED of a shard, or of all if no shard is named."""
    keyspace = KEYSPACE if shard else ""
    return VEvent(type=binlogdata.COPY_COMPLETED, keyspace=keyspace, shard=shard)


def fields(shard: str, table: str, *columns: query.Field, at: int = 0) -> VEvent:
    """FIELD."""
    return VEvent(
        type=binlogdata.FIELD,
        keyspace=KEYSPACE,
        shard=shard,
        timestamp=at,
        field_event=binlogdata.FieldEvent(
            table_name=f"{KEYSPACE}.{table}", keyspace=KEYSPACE, shard=shard, fields=columns
        ),
    )


def rows(
    shard: str,
    table: str,
    *changes: tuple[Sequence[str | None] | None, Sequence[str | None] | None],
    at: int = 0,
) -> VEvent:
    """ROW, each change a pair of before and after."""
    return VEvent(
        type=binlogdata.ROW,
        keyspace=KEYSPACE,
        shard=shard,
        timestamp=at,
        row_event=binlogdata.RowEvent(
            table_name=f"{KEYSPACE}.{table}",
            keyspace=KEYSPACE,
            shard=shard,
            row_changes=[
                binlogdata.RowChange(
                    before=None if before is None else row(*before),
                    after=None if after is None else row(*after),
                )
                for before, after in changes
            ],
        ),
    )


def lastpk(table: str, *key: str) -> binlogdata.TableLastPK:
    """Write a table's lastpk."""
    return binlogdata.TableLastPK(
        table_name=table,
        lastpk=query.QueryResult(
            fields=[field(name, key=True) for name in ("id", "k1", "k2")[: len(key)]],
            rows=[row(*key)],
        ),
    )


def vgtid(
    shard: str,
    positions: Mapping[str, int],
    lastpks: Mapping[str, binlogdata.TableLastPK] | None = None,
) -> VEvent:
    """VGTID of a shard, listing all shards."""
    return VEvent(
        type=binlogdata.VGTID,
        keyspace=KEYSPACE,
        shard=shard,
        vgtid=binlogdata.VGtid(
            shard_gtids=[
                binlogdata.ShardGtid(
                    keyspace=KEYSPACE,
                    shard=name,
                    gtid=gtid(name, last),
                    table_p_ks=[lastpks[name]] if lastpks and name in lastpks else [],
                )
                for name, last in positions.items()
            ]
        ),
    )


def changes(*events: binlogdata.VEvent) -> ChangeStream:
    """Return a stream of the table t on one shard, fed with these events."""

    def at(last: int) -> Vgtid:
        return Vgtid(
            KEYSPACE, {"0": GtidSet.parse(f"MySQL56/00000000-0000-0000-0000-000000000048:1-{last}")}
        )

    stream = ChangeStream(["t"], at(1), at(5), RequestOptions())
    stream.feed(events)
    return stream
