"""How a sandbox breaks on purpose.

Guarantees: a fault applies to the stream that is open when it is due, or to the next statement,
`times` times over the life of the process (None is always), and faults may be added or removed
while streams run.

Surprising: a cut comes after the n-th event, wherever that is: in the middle of a transaction, or
of what would have been one response.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tap_vitess._proto.binlogdata_pb2 import VEventType
from tap_vitess.sandbox.errors import RECORDED, VStreamError
from tap_vitess.sandbox.events import Events

_CUT = VStreamError("UNAVAILABLE", "Socket closed")


@dataclass(eq=False, kw_only=True)
class Fault:
    """One way to break.

    With only an `error`, the stream ends with it before anything is sent; with a cut, it is the
    cut's error. It names one of `errors.RECORDED` or is a (code, details) pair.
    """

    cut_after_events: int | None = None  # of a stream
    cut_after_all_events: int | None = None  # of all streams together
    cut_in_copy: int | None = None  # copied rows of a stream
    stall_after_events: int | None = None  # only heartbeats from then on
    mute_after_events: int | None = None  # not even heartbeats from then on
    no_tablet_for: str | None = None  # SQL statements that contain this
    no_answer_to: str | None = None  # the same, for as long as the fault is there
    refused: tuple[str, int, str] | None = None  # a part of a statement, and its error
    answered: tuple[str, str] | None = None  # the same, and the one value of its answer
    error: str | tuple[str, str] | None = None
    times: int | None = 1

    def exception(self) -> VStreamError:
        if self.error is None:
            return VStreamError(_CUT.code, _CUT.details)
        if isinstance(self.error, str):
            recorded = RECORDED[self.error]
            return VStreamError(recorded.code, recorded.details)
        return VStreamError(*self.error)

    @property
    def is_immediate(self) -> bool:
        counts = (self.cut_after_events, self.cut_after_all_events, self.cut_in_copy)
        return self.error is not None and not any(count is not None for count in counts)

    def meets(self, statement: str) -> bool:
        return self.no_tablet_for is not None and self.no_tablet_for in statement


class Faults(list[Fault]):
    """The faults of a sandbox: a list to append to and clear, from any thread."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        super().__init__(faults)
        self._lock = threading.Lock()
        self._events = 0

    def count_event(self) -> int:
        with self._lock:
            self._events += 1
            return self._events

    def leave_unanswered(self, statement: str) -> bool:
        """Whether a statement gets no answer yet."""
        asked = [fault.no_answer_to for fault in list(self)]
        return any(words is not None and words in statement for words in asked)

    def lack_a_tablet(self, statement: str) -> bool:
        """Whether a statement finds no tablet; counts as one time."""
        return any(fault.meets(statement) and self.take(fault) for fault in list(self))

    def refuse(self, statement: str) -> tuple[int, str] | None:
        """Return the error that a statement gets, if any; counts as one time."""
        for fault in list(self):
            if fault.refused and fault.refused[0] in statement and self.take(fault):
                return fault.refused[1:]
        return None

    def answer(self, statement: str) -> str | None:
        """Return the value that answers a statement, if any; counts as one time."""
        for fault in list(self):
            if fault.answered and fault.answered[0] in statement and self.take(fault):
                return fault.answered[1]
        return None

    def take(self, fault: Fault) -> bool:
        """Whether the fault applies once more; the last time removes it."""
        with self._lock:
            if fault not in self:
                return False
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self.remove(fault)
            return True


@dataclass
class Breaker:
    """Watches one stream's responses and breaks it when a fault is due."""

    faults: Faults
    _events: int = 0
    _copied: int = 0
    _stalled: bool = field(default=False)

    def start(self) -> None:
        for fault in list(self.faults):
            if fault.is_immediate and self.faults.take(fault):
                raise fault.exception()

    def pass_on(self, responses: Iterable[Events]) -> Iterator[Events]:
        """The responses as far as they may go; a cut one is sent up to the cut."""
        for events in responses:
            if self._is_mute():
                continue
            passed: Events = []
            broken: Fault | None = None
            for event in events:
                if self._stalled and event.type != VEventType.HEARTBEAT:
                    continue
                passed.append(event)
                if event.type == VEventType.HEARTBEAT:
                    continue
                self._events += 1
                self._copied += event.type == VEventType.ROW and not event.timestamp
                broken = self._due(self.faults.count_event())
                if broken:
                    break
            if passed:
                yield passed
            if broken:
                raise broken.exception()

    def _is_mute(self) -> bool:
        after = [fault.mute_after_events for fault in list(self.faults)]
        return any(count is not None and count <= self._events for count in after)

    def _due(self, all_events: int) -> Fault | None:
        for fault in list(self.faults):
            cuts = (
                (fault.cut_after_events, self._events),
                (fault.cut_after_all_events, all_events),
                (fault.cut_in_copy, self._copied),
            )
            if any(n is not None and n <= count for n, count in cuts) and self.faults.take(fault):
                return fault
            stall = fault.stall_after_events
            if stall is not None and stall <= self._events and not self._stalled:
                self._stalled = self.faults.take(fault)
        return None
