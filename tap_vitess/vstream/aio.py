"""Levels 2 and 3 for asyncio: the same engine, in a separate thread.

The loop is never blocked. `achanges` reads from a queue that holds a few parts, each with the items
of one response. While the queue is full the thread waits, gRPC waits with it, and so does VTGate.
`aconsume` is `consume` in a thread; its `flush` is a coroutine of the loop.

Cancelling means stopping. `aconsume` ends as after SIGTERM: at the next boundary, with everything
flushed and saved, which takes about a second. Cancelled a second time, it ends at once, and what
was not saved comes again. What surprised us: `async for` over items that are already there never
gives the loop a turn, so it gets one by time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import closing
from datetime import tzinfo
from functools import partial
from typing import Any, Literal, TypeVar

from tap_vitess.vstream.arrow_batches import ArrowBatch
from tap_vitess.vstream.arrow_reader import OWN_COLUMNS
from tap_vitess.vstream.batches import Batch
from tap_vitess.vstream.changes import DEFAULT_RETRY, Item, Reading, parts_of
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.consume import Consumed, consume
from tap_vitess.vstream.decoding import TableReader
from tap_vitess.vstream.mapping import Converter
from tap_vitess.vstream.query import Query
from tap_vitess.vstream.stores import StateStore
from tap_vitess.vtgate.retry import RetryOptions

AsyncFlush = Callable[[Batch], Awaitable[object]] | Callable[[ArrowBatch], Awaitable[object]]
T = TypeVar("T")

_PARTS = 4  # in the queue
_TURN_SECONDS = 0.005
_LOOK_SECONDS = 0.1


class _Left(Exception):  # noqa: N818 - nobody sees it
    """Nobody waits for the thread's items any more."""


def _in_thread(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run work in its own thread, and return a future of its result."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised in the loop
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


async def achanges(
    vitess: Vitess,
    tables: Iterable[str | Query],
    *,
    state: str | None = None,
    follow: bool = False,
    boundary_seconds: float = 1.0,
    poll_seconds: float = 10.0,
    timezone: tzinfo | None = None,
    retry: RetryOptions = DEFAULT_RETRY,
) -> AsyncGenerator[Item, None]:
    """Copy tables and follow their changes, for `async for`; arguments and errors are `changes`'.

    Leave it with `aclose` (`contextlib.aclosing`), or cancel the task that iterates. The thread has
    ended when that returns, which takes up to about a second.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[Collection[Item] | None] = asyncio.Queue()
    room, left = threading.Semaphore(_PARTS), threading.Event()
    how = Reading(state, follow, left.is_set, boundary_seconds, poll_seconds, retry)
    parts = parts_of(vitess, tables, partial(TableReader, timezone=timezone), how)

    def put(part: Collection[Item] | None) -> None:
        while part is not None and not room.acquire(timeout=_LOOK_SECONDS):
            if left.is_set():
                raise _Left
        loop.call_soon_threadsafe(waiting.put_nowait, part)

    def work() -> None:
        try:
            with closing(parts):
                for part in parts:
                    put(part)
        except _Left:
            return
        finally:
            put(None)

    done = _in_thread(work, "achanges")
    try:
        turn = time.monotonic() + _TURN_SECONDS
        while (part := await waiting.get()) is not None:
            room.release()
            for item in part:
                yield item
                if time.monotonic() >= turn:
                    await asyncio.sleep(0)
                    turn = time.monotonic() + _TURN_SECONDS
        await asyncio.shield(done)
    finally:
        left.set()
        await _ended(done)


async def _ended(done: asyncio.Future[Any]) -> None:
    """Wait for a thread, even if cancelled repeatedly; its error is raised elsewhere."""
    cancelled = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if not done.cancelled():
        done.exception()  # otherwise asyncio logs that it was never retrieved
    if cancelled is not None:
        raise cancelled


async def aconsume(
    vitess: Vitess,
    tables: Mapping[str, Any] | Mapping[Query, Any] | Mapping[str | Query, Any],
    flush: AsyncFlush | Mapping[str, AsyncFlush],
    state: StateStore,
    *,
    rows: Literal["python", "arrow"] = "python",
    own_columns: Collection[str] = OWN_COLUMNS,
    follow: bool = True,
    batch_rows: int = 1000,
    batch_bytes: int = 64 << 20,
    batch_seconds: float = 1.0,
    converter: Converter | None = None,
    idle_seconds: float = 10.0,
    poll_seconds: float = 10.0,
    timezone: tzinfo | None = None,
    retry: RetryOptions = DEFAULT_RETRY,
) -> Consumed:
    """Give the rows of tables to a coroutine function, batch by batch, until cancelled.

    Arguments, guarantees and errors are those of `consume`, without `stop` and `signals`: the loop
    handles signals, and you stop the call by cancelling it. It then ends at the next boundary with
    everything flushed and saved, and raises CancelledError. Cancelled a second time, it ends at
    once. `flush` runs in the loop; the state's store and `converter` run in the thread.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    flushing = _Flushing(loop)
    functions: Any = flushing.blocking(flush)
    if isinstance(flush, Mapping):
        functions = {name: flushing.blocking(one) for name, one in flush.items()}
    work = partial(
        consume,
        vitess,
        tables,
        functions,
        state,
        rows=rows,
        own_columns=own_columns,
        follow=follow,
        batch_rows=batch_rows,
        batch_bytes=batch_bytes,
        batch_seconds=batch_seconds,
        converter=converter,
        stop=stop,
        signals=False,
        idle_seconds=idle_seconds,
        poll_seconds=poll_seconds,
        timezone=timezone,
        retry=retry,
    )
    done = _in_thread(work, "aconsume")
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stop.set()
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            flushing.give_up()
            await _ended(done)
        raise


class _Flushing:
    """Runs coroutines in the loop for a thread that waits for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._given_up = False

    def blocking(self, flush: Any) -> Callable[[Any], object]:
        """Return a function for the thread that runs `flush` in the loop and waits for it."""

        def wait(batch: Any) -> object:
            return asyncio.run_coroutine_threadsafe(self._flush(flush, batch), self._loop).result()

        return wait

    async def _flush(self, flush: Any, batch: Any) -> object:
        if self._given_up:
            raise _Left
        self._task = asyncio.ensure_future(_awaited(flush, batch))
        return await self._task

    def give_up(self) -> None:
        """Cancel the running coroutine, and let no other begin."""
        self._given_up = True
        if self._task is not None:
            self._task.cancel()


async def _awaited(flush: Any, batch: Any) -> object:
    return await flush(batch)
