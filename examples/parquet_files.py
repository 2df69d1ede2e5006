"""Writes changes to Parquet files: HOST:GRPC_PORT:MYSQL_PORT FOLDER TABLE...

FOLDER/TABLE/NUMBER.parquet has the new rows, with _operation, _sequence and _version. A batch can
come twice. For each key, the row with the highest _sequence counts; for each table, the newest
version with a file _copied-VERSION, and later ones.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tap_vitess.vstream import Batch, Change, FileState, Vitess, consume

host, grpc_port, mysql_port = sys.argv[1].split(":")
folder, tables = Path(sys.argv[2]), sys.argv[3:]


def flush(batch: Batch) -> None:
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for change in batch.changes:
        own = {"_operation": change.operation, "_sequence": change.sequence}
        row = change.after if change.after is not None else change.key
        rows[change.name].append({**row, **own, "_version": change.version})
    for name, found in rows.items():
        path = folder / name / f"{found[-1]['_sequence']:020}.parquet"
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        pq.write_table(pa.Table.from_pylist(found), fresh)
        fresh.rename(path)  # whole or not at all
    for item in batch.items:
        if not isinstance(item, Change):
            (folder / item.name).mkdir(exist_ok=True)
            (folder / item.name / f"_copied-{item.version}").touch()


folder.mkdir(exist_ok=True)
vitess = Vitess(host, int(grpc_port), int(mysql_port))
state = FileState(folder / "state.json")
consume(vitess, dict.fromkeys(tables, dict), flush, state, batch_rows=50_000, batch_seconds=60)
