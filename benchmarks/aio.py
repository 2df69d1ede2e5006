"""A consumer for asyncio, beside a coroutine that measures how late the loop gives it its turns.

`python -m benchmarks.aio HOST GRPC_PORT MYSQL_PORT KEYSPACE.TABLE python|arrow|items|idle`: it
copies, by `aconsume` with rows of either kind or by `achanges`, and prints figures as JSON. What it
does with rows takes no time, so what is measured is what the library takes from the loop; `idle`
does nothing at all, and measures what the machine takes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import median
from typing import Any

from tap_vitess.vstream import Change, MemoryState, Vitess, achanges, aconsume

_NAP = 0.001
_IDLE = 3.0


class _Lateness:
    """Naps, and notes how much later than asked for it goes on.

    begin: when the first row came. What was before, as the start of gRPC, is not noted.
    """

    def __init__(self) -> None:
        self.found: list[float] = []
        self.begin = 0.0

    def rows_come(self) -> None:
        if not self.begin:
            self.begin = time.perf_counter()
            self.found.clear()

    async def measure(self) -> None:
        while True:
            asked = time.perf_counter() + _NAP
            await asyncio.sleep(_NAP)
            self.found.append(time.perf_counter() - asked)


async def _bring(vitess: Vitess, table: str, kind: str, lateness: _Lateness) -> int:
    """Copy a table; return how many rows there were."""
    rows = 0

    async def flush(batch: Any) -> None:
        nonlocal rows
        lateness.rows_come()
        if kind == "arrow":
            rows += sum(part.rows.num_rows for part in batch.rows)
        else:
            rows += len(batch.changes)

    if kind == "idle":
        lateness.rows_come()
        await asyncio.sleep(_IDLE)
    elif kind == "items":
        async for item in achanges(vitess, [table]):
            if isinstance(item, Change):
                lateness.rows_come()
                rows += 1
    elif kind == "arrow":
        how: Any = {"rows": "arrow", "batch_rows": 10_000}
        await aconsume(vitess, {table: dict}, flush, MemoryState(), follow=False, **how)
    else:
        await aconsume(vitess, {table: dict}, flush, MemoryState(), follow=False)
    return rows


async def _measured(vitess: Vitess, table: str, kind: str) -> dict[str, float]:
    lateness = _Lateness()
    measuring = asyncio.ensure_future(lateness.measure())
    rows = await _bring(vitess, table, kind, lateness)
    seconds = time.perf_counter() - lateness.begin
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
