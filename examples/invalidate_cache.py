"""Removes rows from a cache when they change: HOST:GRPC_PORT:MYSQL_PORT FOLDER TABLE...

The cache is a folder with a file for each row, FOLDER/TABLE/KEY. Nothing is copied: the consumer
starts at Vitess' present position, and discards what was cached before that.
"""

import shutil
import sys
from pathlib import Path

from tap_vitess.vstream import Batch, Change, MemoryState, Vitess, consume, state_at

host, grpc_port, mysql_port = sys.argv[1].split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))
cache, tables = Path(sys.argv[2]), sys.argv[3:]


def flush(batch: Batch) -> None:
    for item in batch.items:
        if not isinstance(item, Change):  # such as after TRUNCATE: any of its rows may be gone
            shutil.rmtree(cache / item.name, ignore_errors=True)
        elif item.operation != "copy":
            name = "-".join(str(value) for value in item.key.values())
            (cache / item.name / name).unlink(missing_ok=True)
            print("forgotten:", item.name, name, flush=True)


state = MemoryState(state_at(vitess, tables))  # first the position, then the clearing
for table in tables:
    shutil.rmtree(cache / table, ignore_errors=True)
print("watching", *tables, flush=True)
consume(vitess, dict.fromkeys(tables, dict), flush, state, batch_seconds=0)
