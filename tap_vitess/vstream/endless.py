"""A shared stream that stays open behind its stop position. No I/O.

A stop position that is reached is replaced by a later one (`stop_at`), so what SQL knows of and the
stream does not bring is still noticed as a stall. Between two of them heartbeats are all there is
to wait for: then each response is a sign, and a step, so that a call that is cut after an hour of
silence is a first fault and not the last of many.
"""

from __future__ import annotations

from collections.abc import Iterable

from tap_vitess.vstream.columns import StreamEvent
from tap_vitess.vstream.protocol import ChangeItem, ChangeStream


class EndlessStream(ChangeStream):
    """The shared stream of a keyspace's tables, from a position on; its reader leaves it."""

    @property
    def finished(self) -> bool:
        """Never: what comes behind the stop position is given out, too."""
        return False

    @property
    def reached(self) -> bool:
        """Whether every shard of the position contains the stop position."""
        return super().finished

    def feed(self, events: Iterable[StreamEvent]) -> list[ChangeItem]:
        """Take the events of one response; see `ChangeStream`."""
        items = super().feed(events)
        if self.reached:
            self.signs += 1
            self.steps += 1
        return items
