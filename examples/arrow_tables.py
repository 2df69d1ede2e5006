"""Keeps a table in step by SQL and Arrow: HOST:GRPC_PORT:MYSQL_PORT STATE_FILE KS.TABLE KEY INTO

INTO is a DuckDB file, or the address of a Postgres, into which ADBC loads the rows. After a kill,
the interrupted batch comes again, with the same result.
"""

import sys

import pyarrow as pa

from tap_vitess.vstream import ArrowBatch, FileState, TableCopied, TableRows, Vitess, consume

where, state, table, key, into = sys.argv[1:]
name = table.partition(".")[2]
FRESH = f"(select distinct on ({key}) * from fresh order by {key}, _sequence desc) as newest"
MERGE = (
    f"create table if not exists {name} as select * from fresh limit 0",
    f"delete from {name} where {key} in (select {key} from fresh)",
    f"insert into {name} select * from {FRESH} where _operation <> 'delete'",
)

if into.startswith("postgres"):
    from adbc_driver_postgresql import dbapi

    cursor = dbapi.connect(into, autocommit=True).cursor()

    def give(rows: pa.RecordBatch) -> None:
        cursor.execute("drop table if exists pg_temp.fresh")
        cursor.adbc_ingest("fresh", rows.cast(plain(rows.schema)), mode="create", temporary=True)

    def plain(schema: pa.Schema) -> pa.Schema:  # Postgres has no unsigned integers
        wider = {pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20, 0)}
        return pa.schema([(f.name, wider.get(f.type, f.type)) for f in schema])

else:
    import duckdb

    cursor = duckdb.connect(into)

    def give(rows: pa.RecordBatch) -> None:
        cursor.register("fresh", pa.Table.from_batches([rows]))


def flush(batch: ArrowBatch) -> None:
    for item in batch.items:
        if isinstance(item, TableRows):
            give(item.rows)
            for statement in MERGE:
                cursor.execute(statement)
        elif isinstance(item, TableCopied):  # rows that were not copied are gone
            cursor.execute(f"delete from {name} where _version < {item.version}")


host, grpc_port, mysql_port = where.split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))
consume(vitess, {table: dict}, flush, FileState(state), rows="arrow")
