"""One VStream call on the simulated cluster: lists of VEvents, each list one response.

Guarantees: the shards take turns between their transactions and copy packets, never within one.
Every VGTID lists the positions of all shards at the time when it is sent. A call blocks while
nothing happens, sends heartbeats if requested, and ends only by an error or by `stop`.

Surprising: with stop_on_reshard the call does not end either; only heartbeats follow. After a
reshard in the middle of a copy the new shards are streamed and the rest of the copy is lost.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tap_vitess._proto.binlogdata_pb2 import ShardGtid, VEvent, VEventType, VGtid
from tap_vitess._proto.vtgate_pb2 import VStreamRequest
from tap_vitess.sandbox.cluster import Cluster, Journal
from tap_vitess.sandbox.errors import VStreamError
from tap_vitess.sandbox.events import Events, Source
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.positions import PREFIX
from tap_vitess.sandbox.resolve import describe, resolve
from tap_vitess.sandbox.shardstream import Group, ShardStream

__all__ = ["Options", "VStream"]


class VStream:
    """`responses` runs the call; `stop` ends it from another thread."""

    def __init__(
        self, cluster: Cluster, request: VStreamRequest, options: Options | None = None
    ) -> None:
        self.cluster = cluster
        self.options = options or Options()
        self.stop_on_reshard = request.flags.stop_on_reshard
        self._request = request
        self._stopped = threading.Event()
        self._entries: list[ShardGtid] = []
        self._streams: list[ShardStream] = []
        self._copies_open = 0
        self._journals: dict[int, set[str]] = defaultdict(set)

    def stop(self) -> None:
        self._stopped.set()
        self.cluster.wake()

    def responses(self) -> Iterator[Events]:
        self._entries = resolve(self.cluster, self._request)
        self._copies_open = len(self._entries)
        for entry in self._entries:
            self._add(entry)
        interval = self._request.flags.heartbeat_interval * self.options.heartbeat_unit
        heartbeat = _Heartbeat(self.cluster, interval)
        while not self._stopped.is_set():
            version = self.cluster.version
            streams = len(self._streams)
            idle = True
            for group in self._turns():
                idle = False
                for events in group:
                    yield events
                    heartbeat.postpone()
            # A journal sends nothing, but adds streams that have not had their turn.
            if idle and len(self._streams) == streams:
                self.cluster.wait(version, self._patience(heartbeat))
                if heartbeat.is_due:
                    yield [heartbeat.event()]
                    heartbeat.postpone()

    # What the shards of the call share

    def vgtid_event(self, source: Source) -> VEvent:
        event = source.event(VEventType.VGTID)
        event.vgtid.CopyFrom(VGtid(shard_gtids=self._entries))
        return event

    def copy_completed_events(self, source: Source) -> Events:
        """The shard's own event, and after the last shard's the one without a shard."""
        self._copies_open -= 1
        events = [source.event(VEventType.COPY_COMPLETED)]
        if not self._copies_open:
            events.append(VEvent(type=VEventType.COPY_COMPLETED))
        return events

    def reach_journal(self, journal: Journal, entry: ShardGtid) -> None:
        """Continues with the new shards once every old one has reached the journal."""
        streamed = {each.shard for each in self._entries if each.keyspace == journal.keyspace}
        if not set(journal.participants) <= streamed:
            raise VStreamError(
                "INTERNAL",
                f"error starting stream from shard GTID {describe(entry)}: "
                "not all journaling participants are in the stream: journal: "
                f"{_listed(journal.keyspace, journal.participants)}, stream: "
                f"{_listed(journal.keyspace, sorted(streamed))}",
            )
        arrived = self._journals[journal.id]
        arrived.add(entry.shard)
        if arrived < set(journal.participants):
            return
        self._entries = [
            each
            for each in self._entries
            if each.keyspace != journal.keyspace or each.shard not in arrived
        ]
        for shard, gtid_set in journal.targets:
            target = ShardGtid(keyspace=journal.keyspace, shard=shard, gtid=PREFIX + gtid_set)
            self._entries.append(target)
            self._add(target)

    # Inside

    def _add(self, entry: ShardGtid) -> None:
        filter_ = self._request.filter if self._request.HasField("filter") else None
        self._streams.append(ShardStream(self, entry, filter_, self._request.tablet_type))

    def _turns(self) -> Iterator[Group]:
        """One step of each shard; the next shard's is taken only after this one's was sent."""
        for stream in list(self._streams):
            group = next(stream.steps, None)
            if group:
                yield group

    def _patience(self, heartbeat: "_Heartbeat") -> float | None:
        moments = [stream.gives_up for stream in self._streams if stream.gives_up is not None]
        if heartbeat.due is not None:
            moments.append(heartbeat.due)
        return max(min(moments) - time.monotonic(), 0.0) if moments else None


def _listed(keyspace: str, shards: Iterable[str]) -> str:
    """Shards as Go prints a list of messages."""
    return f"[{' '.join(describe(ShardGtid(keyspace=keyspace, shard=shard)) for shard in shards)}]"


class _Heartbeat:
    """Due after an interval without any other response; never if the interval is 0."""

    def __init__(self, cluster: Cluster, interval: float) -> None:
        self.due: float | None = None
        self._cluster = cluster
        self._interval = interval
        self.postpone()

    def postpone(self) -> None:
        if self._interval:
            self.due = time.monotonic() + self._interval

    @property
    def is_due(self) -> bool:
        return self.due is not None and time.monotonic() >= self.due

    def event(self) -> VEvent:
        now = self._cluster.now()
        return VEvent(
            type=VEventType.HEARTBEAT, timestamp=int(now), current_time=int(now * 1_000_000_000)
        )
