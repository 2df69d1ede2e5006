"""A consumer for asyncio, beside a coroutine that measures how late the loop gives it its turns.

`python -m benchmarks.aio HOST GRPC_PORT MYSQL_PORT KEYSPACE.TABLE python|arrow|items`: it copies,
by `aconsume` with rows of either kind or by `achanges`, and prints figures as JSON. What it does
with rows takes no time, so what is measured is what the library takes from the loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import median
from typing import Any

from tap_vitess.vstream import Change, MemoryState, TableCopied, Vitess, achanges, aconsume

_NAP = 0.001


class _Lateness:
    """Naps, and notes how much later than asked for it goes on."""

    def __init__(self) -> None:
        self.found: list[float] = []

    async def measure(self) -> None:
        while True:
            asked = time.perf_counter() + _NAP
            await asyncio.sleep(_NAP)
            self.found.append(time.perf_counter() - asked)


async def _bring(vitess: Vitess, table: str, kind: str) -> tuple[int, float]:
    """Copy a table; return how many rows there were, and the seconds from the first one on."""
    begin, rows = 0.0, 0

    async def flush(batch: Any) -> None:
        nonlocal begin, rows
        begin = begin or time.perf_counter()
        if kind == "arrow":
            rows += sum(part.rows.num_rows for part in batch.rows)
        else:
            rows += len(batch.changes)

    if kind == "items":
        async for item in achanges(vitess, [table]):
            begin = begin or (time.perf_counter() if isinstance(item, Change) else 0.0)
            rows += not isinstance(item, TableCopied) and isinstance(item, Change)
    elif kind == "arrow":
        how: Any = {"rows": "arrow", "batch_rows": 10_000}
        await aconsume(vitess, {table: dict}, flush, MemoryState(), follow=False, **how)
    else:
        await aconsume(vitess, {table: dict}, flush, MemoryState(), follow=False)
    return rows, time.perf_counter() - begin


async def _measured(vitess: Vitess, table: str, kind: str) -> dict[str, float]:
    lateness = _Lateness()
    measuring = asyncio.ensure_future(lateness.measure())
    rows, seconds = await _bring(vitess, table, kind)
    measuring.cancel()
    late = sorted(lateness.found)
    return {
        "rows": rows,
        "rows_per_second": rows / seconds,
        "late_median_ms": median(late) * 1000,
        "late_99_ms": late[len(late) * 99 // 100] * 1000,
        "late_most_ms": late[-1] * 1000,
    }


def main() -> None:
    """Measure one call."""
    host, grpc_port, mysql_port, table, kind = sys.argv[1:]
    vitess = Vitess(host, int(grpc_port), int(mysql_port))
    print(json.dumps(asyncio.run(_measured(vitess, table, kind))))


if __name__ == "__main__":
    main()
