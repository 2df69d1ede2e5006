"""Keeps a table in step in files: HOST:GRPC_PORT:MYSQL_PORT STATE_FILE KEYSPACE.TABLE KEY INTO

INTO is a .parquet file, written by Polars, or the folder of a Delta Lake table. After a kill, the
interrupted batch comes again, with the same result.
"""

import sys
from pathlib import Path

import pyarrow as pa

from tap_vitess.vstream import ArrowBatch, FileState, TableCopied, TableRows, Vitess, consume

where, state, table, key, into = sys.argv[1:]

if into.endswith(".parquet"):
    import polars as pl

    def merge(rows: pa.RecordBatch) -> None:  # deleted rows stay; _operation shows it
        old = [pl.read_parquet(into)] if Path(into).exists() else []
        whole = pl.concat([*old, pl.from_arrow(rows)], how="diagonal_relaxed")
        write(whole.sort("_sequence").unique(key, keep="last", maintain_order=True))

    def finish(version: int) -> None:
        write(pl.read_parquet(into).filter(pl.col("_version") >= version))

    def write(frame: pl.DataFrame) -> None:
        frame.write_parquet(f"{into}.new")
        Path(f"{into}.new").rename(into)  # whole or not at all

else:
    from deltalake import DeltaTable, write_deltalake

    def merge(rows: pa.RecordBatch) -> None:
        fresh = pa.Table.from_batches([rows])
        last = fresh.group_by(key).aggregate([("_sequence", "max")])
        newest = fresh.join(last, ["_sequence"], ["_sequence_max"], "left semi")
        if not DeltaTable.is_deltatable(into):
            write_deltalake(into, newest.slice(0, 0))
        step = DeltaTable(into).merge(newest, f"t.{key} = s.{key}", "s", "t")
        step = step.when_matched_delete("s._operation = 'delete'").when_matched_update_all()
        step.when_not_matched_insert_all("s._operation <> 'delete'").execute()

    def finish(version: int) -> None:
        DeltaTable(into).delete(f"_version < {version}")


def flush(batch: ArrowBatch) -> None:
    for item in batch.items:
        if isinstance(item, TableRows):
            merge(item.rows)
        elif isinstance(item, TableCopied):  # rows that were not copied are gone
            finish(item.version)


host, grpc_port, mysql_port = where.split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))
own = ("operation", "sequence", "version")
consume(vitess, {table: dict}, flush, FileState(state), rows="arrow", own_columns=own)
