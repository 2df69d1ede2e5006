"""The library for asyncio: `achanges` and `aconsume`, on the sandbox.

The loop's latency is a benchmark (`python -m benchmarks async`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest
from support.library import NAMES, QUICK, Replica, Store, vitess
from support.shops import TABLES, insert, served, shop, table, write
from support.taps import expected

from tap_vitess.errors import ConfigError, MappingError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import (
    Batch,
    Boundary,
    Change,
    MemoryState,
    Query,
    TableCopied,
    achanges,
    aconsume,
    changes,
    consume,
)

THREADS = ("achanges", "aconsume")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    """Whatever a test does, its threads have ended behind it."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name in THREADS]
    for thread in left:  # it has told its end, and may not have had its last turn yet
        thread.join(10)
    assert not [thread.name for thread in left if thread.is_alive()]


def check(cluster: Cluster, replica: Replica) -> None:
    for name in TABLES:
        assert replica.contents(f"shop.{name}") == expected(cluster, "shop", name)


def test_what_changes_gives_achanges_gives(sandbox: Sandbox) -> None:
    """Items, their order and the state, across runs."""

    async def listed(state: str | None) -> list[Any]:
        return [item async for item in achanges(vitess(sandbox), NAMES, state=state, retry=QUICK)]

    first = asyncio.run(listed(None))
    plain = list(changes(vitess(sandbox), NAMES, retry=QUICK))
    kinds = [(type(i), getattr(i, "key", None)) for i in first if not isinstance(i, Boundary)]
    assert kinds == [
        (type(i), getattr(i, "key", None)) for i in plain if not isinstance(i, Boundary)
    ]
    assert {i.name for i in first if isinstance(i, TableCopied)} == NAMES.keys()
    assert isinstance(first[-1], Boundary)
    write(sandbox.cluster)
    replica = Replica()
    for item in [*first, *asyncio.run(listed(first[-1].state))]:
        if not isinstance(item, Boundary):
            replica.apply(item)
    check(sandbox.cluster, replica)


def test_errors_are_raised_in_the_loop(sandbox: Sandbox) -> None:
    async def read(tables: list[str]) -> None:
        async for _ in achanges(vitess(sandbox), tables, retry=QUICK):
            pass

    with pytest.raises(ConfigError, match="is not keyspace"):
        asyncio.run(read(["alpha"]))
    with pytest.raises(ConfigError, match="has no table nope"):
        asyncio.run(read(["shop.nope"]))


def many() -> Cluster:
    """Make one table of many rows."""
    cluster = shop(table("alpha"))
    insert(cluster, "alpha", *range(20_000))
    return cluster


@pytest.mark.slow
@served(many)
def test_a_slow_reader_holds_vtgate_back(sandbox: Sandbox) -> None:
    """The thread waits while the queue is full: else it had ended within the seconds."""

    async def read() -> int:
        seen = 0
        async with contextlib.aclosing(achanges(vitess(sandbox), ["shop.alpha"])) as items:
            async for item in items:
                if isinstance(item, Change):
                    seen += 1
                if seen == 1:
                    await asyncio.sleep(3)
                    assert "achanges" in {thread.name for thread in threading.enumerate()}
        return seen

    assert asyncio.run(read()) == 20_000


@pytest.mark.slow
@served(many)
def test_the_loop_has_its_turns(sandbox: Sandbox) -> None:
    """`async for` over items that wait would never let others run."""

    async def read() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        longest, last = 0, 0
        async for item in achanges(vitess(sandbox), ["shop.alpha"], retry=QUICK):
            if isinstance(item, Change):
                time.sleep(0.0001)  # noqa: ASYNC251 - what a caller does with a row
                last = last + 1 if turns == longest else 0
                longest = turns
                assert last < 1000, "a thousand rows without a turn"
        counting.cancel()
        return turns

    assert asyncio.run(read()) > 50


@pytest.mark.slow
def test_leaving_and_cancelling_ends_the_thread(sandbox: Sandbox) -> None:
    async def leave() -> None:
        async with contextlib.aclosing(
            achanges(vitess(sandbox), NAMES, follow=True, retry=QUICK)
        ) as items:
            async for item in items:
                if isinstance(item, TableCopied):
                    break

    async def time_out() -> None:
        async with asyncio.timeout(1.5):
            async for _ in achanges(vitess(sandbox), NAMES, follow=True, retry=QUICK):
                pass

    asyncio.run(leave())
    with pytest.raises(TimeoutError):
        asyncio.run(time_out())


# aconsume


def test_aconsume_brings_what_consume_brings(sandbox: Sandbox) -> None:
    replica, store = Replica(), Store()
    loops = set[int]()

    async def flush(batch: Batch) -> None:
        loops.add(threading.get_ident())
        await asyncio.sleep(0)
        replica.flush(batch)

    async def bring() -> Any:
        return await aconsume(
            vitess(sandbox), NAMES, flush, store, follow=False, batch_rows=5, retry=QUICK
        )

    done = asyncio.run(bring())
    assert done.reason == "finished"
    write(sandbox.cluster)
    asyncio.run(bring())
    check(sandbox.cluster, replica)
    assert loops == {threading.get_ident()}, "flush runs in the loop"


@pytest.mark.slow
def test_cancelled_as_by_sigterm(sandbox: Sandbox) -> None:
    """All that came before the next boundary is flushed and saved, and the next run goes on."""
    replica, store, copied = Replica(), Store(), asyncio.Event()

    async def flush(batch: Batch) -> None:
        await asyncio.sleep(0.01)
        replica.flush(batch)
        if {item.name for item in replica.seen if isinstance(item, TableCopied)} == NAMES.keys():
            copied.set()

    async def cancelled() -> None:
        consuming = asyncio.ensure_future(
            aconsume(vitess(sandbox), NAMES, flush, store, batch_seconds=60, retry=QUICK)
        )
        await copied.wait()
        write(sandbox.cluster)
        await asyncio.sleep(1.5)
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consuming

    asyncio.run(cancelled())
    check(sandbox.cluster, replica)
    seen = len(replica.seen)
    done = consume(vitess(sandbox), NAMES, replica.flush, store, follow=False, retry=QUICK)
    assert (done.rows, len(replica.seen)) == (0, seen), "the state is behind what was flushed"


def test_cancelled_twice(sandbox: Sandbox) -> None:
    """A flush that hangs is cancelled; what it had comes again."""
    replica, store, begins = Replica(), Store(), asyncio.Event()
    begun: list[Batch] = []

    async def hang(batch: Batch) -> None:
        begun.append(batch)
        begins.set()
        await asyncio.sleep(3600)

    async def cancelled() -> None:
        consuming = asyncio.ensure_future(
            aconsume(vitess(sandbox), NAMES, hang, store, retry=QUICK)
        )
        await begins.wait()
        consuming.cancel()
        await asyncio.sleep(0.3)
        assert not consuming.done(), "the flush may end"
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(consuming, 10)

    asyncio.run(cancelled())
    assert len(begun) == 1
    consume(vitess(sandbox), NAMES, replica.flush, store, follow=False, retry=QUICK)
    check(sandbox.cluster, replica)


def test_errors_of_aconsume(sandbox: Sandbox) -> None:
    async def flush(_: Batch) -> None:
        raise MappingError("mine")

    with pytest.raises(MappingError, match="mine"):
        asyncio.run(aconsume(vitess(sandbox), NAMES, flush, MemoryState(), retry=QUICK))
    with pytest.raises(ConfigError, match="at least 1"):
        asyncio.run(aconsume(vitess(sandbox), NAMES, flush, MemoryState(), batch_rows=0))


def test_a_coroutine_for_each_table(sandbox: Sandbox) -> None:
    names: dict[str, set[str]] = {name: set() for name in NAMES}

    def of(name: str) -> Any:
        async def flush(batch: Batch) -> None:
            names[name] |= {item.name for item in batch.items}

        return flush

    flushes = {name: of(name) for name in NAMES}
    tables: dict[Query, Any] = {Query(name): dict for name in NAMES}
    asyncio.run(
        aconsume(vitess(sandbox), tables, flushes, MemoryState(), follow=False, retry=QUICK)
    )
    assert names == {name: {name} for name in NAMES}
