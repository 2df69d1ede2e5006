"""Reads several iterators at once, and yields their items one by one in one thread.

Each source keeps its order; nothing is promised between sources. A source that fails ends all of
them: its error is raised where the items are read. If the reader leaves early, the sources are
closed in their own threads before the reader continues.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.2
_JOIN_SECONDS = 5  # a worker that waits for a server returns later and sees the end


@dataclass(frozen=True, slots=True)
class _Ended:
    """A worker has read all, or met an error."""

    error: Exception | None = None


def interleave(
    sources: Sequence[Callable[[], Iterator[T]]], parallel: int
) -> Generator[T, None, None]:
    """Yield the items of all sources, at most `parallel` of them read at once."""
    if parallel == 1:
        for source in sources:
            yield from source()
    else:
        yield from _Workers(sources, parallel).items()


class _Workers(Generic[T]):
    def __init__(self, sources: Sequence[Callable[[], Iterator[T]]], parallel: int) -> None:
        self._waiting = list(reversed(sources))
        self._lock = threading.Lock()
        # Small: waiting items cost memory, and are read again after a cut.
        self._queue: queue.Queue[T | _Ended] = queue.Queue(maxsize=2 * parallel)
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"copy-{i}", daemon=True)
            for i in range(min(parallel, len(sources)))
        ]

    def items(self) -> Generator[T, None, None]:
        for thread in self._threads:
            thread.start()
        running = len(self._threads)
        try:
            while running:
                item = self._queue.get()
                if not isinstance(item, _Ended):
                    yield item
                elif item.error is not None:
                    raise item.error
                else:
                    running -= 1
        finally:
            self._closed.set()
            for thread in self._threads:
                thread.join(_JOIN_SECONDS)

    def _work(self) -> None:
        ended = _Ended()
        try:
            while (source := self._next()) is not None:
                for item in source():
                    if not self._put(item):
                        return
        except Exception as error:  # noqa: BLE001 - raised again where the items are read
            ended = _Ended(error)
        finally:
            self._put(ended)

    def _next(self) -> Callable[[], Iterator[T]] | None:
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def _put(self, item: T | _Ended) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
