"""What a run that reaches its limit has waited for in vain. Pure.

After a run that `max_run_seconds` ends, the next one continues, and that is not an error as long as
each run makes progress. A run that met only faults must not look the same: run after run would end
well, and nobody would notice that nothing comes.

Progress is what the next run need not repeat (the steps of a feed), counted for each stream and
each copy separately, because a stream that advances does not help a table if its copy never begins.
A feed that only stands still, without a fault, counts only if the whole run made no progress,
because the copy of a large table may be silent for minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from tap_vitess.errors import RetriableError, VitessError
from tap_vitess.protocol.items import Feed

SILENT_SECONDS = 10.0  # a stream needs a moment to open


@dataclass(slots=True)
class _Reading:
    feed: Feed[Any]
    began: float
    fault: VitessError | None = None

    @property
    def advanced(self) -> bool:
        return self.feed.finished or self.feed.steps > 0

    def note(self, fault: VitessError) -> None:
        self.fault = fault


class Standstill:
    """Tracks what is being read, and what has advanced since the run began."""

    def __init__(self) -> None:
        self._readings: dict[Hashable, _Reading] = {}
        self._advanced: set[Hashable] = set()
        self._faults: dict[Hashable, VitessError | None] = {}  # of parts that have to begin again

    def begin(self, part: Hashable, feed: Feed[Any], now: float) -> Callable[[VitessError], None]:
        """Begin to read a part of the run; return the function that takes its faults."""
        reading = self._readings[part] = _Reading(feed, now, self._faults.pop(part, None))
        return reading.note

    def end(self, part: Hashable) -> None:
        """End the reading of a part; it may begin again, with another feed."""
        reading = self._readings.pop(part)
        if reading.advanced:
            self._advanced.add(part)
        else:
            self._faults[part] = reading.fault

    def found(self, now: float) -> VitessError | None:
        """Return the error of a run that ends now; None if it has made progress."""
        readings = list(self._readings.items())
        moved = self._advanced.union(part for part, reading in readings if reading.advanced)
        waiting = [reading for part, reading in readings if part not in moved]
        for reading in waiting:
            if reading.fault is not None:
                return _error(reading, str(reading.fault))
        for reading in waiting:
            silent = not moved and not reading.feed.signs
            if silent and now - reading.began >= SILENT_SECONDS:
                seconds = f"nothing has come in {now - reading.began:.0f} s"
                return _error(reading, f"{seconds}; {reading.feed.waits_for}")
        return None


def _error(reading: _Reading, why: str) -> VitessError:
    return RetriableError(
        f"max_run_seconds was reached, and {reading.feed.name} has come no further in this run: "
        f"{why}",
        table=reading.fault.table if reading.fault else None,
    )
