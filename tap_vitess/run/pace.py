"""When a run stores a checkpoint, and when it must end: limits and signals."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tap_vitess.config import Keys
from tap_vitess.errors import VitessError
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.items import Feed, Rows
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.run.standstill import Standstill
from tap_vitess.vtgate.grpc import Client
from tap_vitess.vtgate.reader import Item, Look, read
from tap_vitess.vtgate.retry import RetryOptions

Phase = Literal["asking", "streaming", "copying"]


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """How to run.

    checkpoint_seconds: between two Checkpoints. refresh_seconds: how long copies run before the
    shared stream advances, so that its position does not grow too old. copy_restarts: how often
    copies that cannot be resumed start again in one run. resync: whether tables whose position is
    lost are copied again; else they are left behind with an error. follow: whether the run is
    endless, but for an error. poll_seconds: how often an endless run asks for the keyspace's
    position, to check that the stream delivers everything. by_table: whether the rows of small
    transactions may come table by table; else they come in the order of their commits. by_column:
    whether to join as many rows as kernels want, of several kinds, seconds and (if copied)
    responses (`Rows.others`). keys: the setting that chose the keys, for warnings about keys that
    are not unique; None for no warnings.
    """

    request: RequestOptions = field(default_factory=RequestOptions)
    retry: RetryOptions = field(default_factory=RetryOptions)
    checkpoint_seconds: float = 10.0
    copy_parallelism: int = 1
    refresh_seconds: float = 900.0
    copy_restarts: int = 5
    resync: bool = False
    follow: bool = False
    poll_seconds: float = 10.0
    by_table: bool = False
    by_column: bool = False
    keys: Keys | None = None


@dataclass(frozen=True, slots=True)
class CopyFinished:
    """All rows of a table's copy have been delivered; older versions of them may be removed."""

    table: str
    version: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The moment to store the state, before anything that follows.

    phase: whether a copy or the stream begins or ends here; else it is due by time alone.
    """

    phase: bool = True


Output = Rows | CopyFinished | Checkpoint
Outputs = Generator[Output, None, None]


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run is doing; immutable, so that other threads can read it."""

    phase: Phase = "asking"
    table: str | None = None
    feed: ChangeStream | None = None

    @property
    def behind(self) -> dict[str, int]:
        """The number of transactions of each shard up to the stop position."""
        return self.feed.distance if self.feed is not None else {}

    @property
    def resharded(self) -> frozenset[str]:
        """The shards that the stop position does not name: the stream is before their reshard."""
        return self.feed.unknown_shards if self.feed is not None else frozenset()


class Pace:
    """What a run is doing, and for how long.

    held_up: the error of a run that was stopped without having made progress; whether it counts as
    one depends on who stopped it.
    """

    def __init__(self, client: Client, options: SyncOptions, stopping: Callable[[], bool]) -> None:
        self.client = client
        self.options = options
        self.activity = Activity()
        self.stopped = False
        self.held_up: VitessError | None = None
        self._stopping = stopping
        self._standstill = Standstill()
        self._last_checkpoint = time.monotonic()

    def read(
        self, feed: Feed[Item], part: Hashable, look: Look
    ) -> Generator[Sequence[Item], None, None]:
        """Read a feed, and note what holds it up."""
        note = self._standstill.begin(part, feed, time.monotonic())
        try:
            yield from read(self.client, feed, self.options.retry, look, note)
        finally:
            self._standstill.end(part)

    def stop_here(self) -> bool:
        """Return whether to end, at a boundary."""
        if not self.stopped and self._stopping():
            self.stopped = True
            self.held_up = self._standstill.found(time.monotonic())
        return self.stopped

    def checkpoint(self, *, phase: bool = True) -> Checkpoint:
        """Make a checkpoint, from which `due` counts."""
        self._last_checkpoint = time.monotonic()
        return Checkpoint(phase)

    def due(self) -> Iterator[Checkpoint]:
        """Yield a checkpoint if it is time for one."""
        if time.monotonic() - self._last_checkpoint >= self.options.checkpoint_seconds:
            yield self.checkpoint(phase=False)
