"""A consumer of rows as Arrow, which counts them and lets go of them; nothing else is done.

`python -m benchmarks.arrow HOST GRPC_PORT MYSQL_PORT KEYSPACE.TABLE < state`; without a state it
copies. It ends where the keyspace is when it begins, and logs to stderr as the tap does.
"""

from __future__ import annotations

import logging
import sys

from tap_vitess.vstream import ArrowBatch, MemoryState, Vitess, consume

BATCH_ROWS = 50_000


def main() -> None:
    """Consume a table."""
    logging.basicConfig(level=logging.INFO)
    host, grpc_port, mysql_port, table = sys.argv[1:]
    state = sys.stdin.read() or None
    consumed = consume(
        Vitess(host, int(grpc_port), int(mysql_port)),
        {table: dict},
        _flush,
        MemoryState(state),
        rows="arrow",
        batch_rows=BATCH_ROWS,
        follow=False,
    )
    logging.getLogger("benchmarks").info("consumed %d rows", consumed.rows)


def _flush(batch: ArrowBatch) -> None:
    del batch


if __name__ == "__main__":
    main()
