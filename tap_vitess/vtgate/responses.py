"""A call's responses, received ahead by a thread; small ones come together.

gRPC for Python receives a response when it is asked for one, in its own thread. So while rows are
written nothing is received, and each small transaction costs two thread switches. Here a thread
asks all the time, and everything that has arrived in the meantime is taken at once. If responses
follow each other closely, as in a backlog, it waits a moment for more of them.

No response is received while `ahead` bytes are held, including those in work. For readers that
write lines, copied rows come one response at a time, because they are read that way (`columns.py`).
For readers that use Arrow's kernels, where each call costs some microseconds, ten thousand rows at
a time cost two thirds of what they cost response by response.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tap_vitess.errors import RetriableError
from tap_vitess.protocol.decode import has_copied_rows
from tap_vitess.protocol.wire import may_end_copy

AHEAD = 1 << 20  # bytes
SMALL = 1 << 18  # bytes of a response that is joined with others
_BULK = 1 << 16  # bytes that are many
_CLOSE = 0.0005  # seconds; a response that had to be waited for longer is none of a backlog
_HUGE = 1 << 24  # bytes of a response after which freed memory is not kept
_TURN = 1.0  # seconds in which nothing comes, after which who reads may leave


@dataclass(frozen=True, slots=True)
class Units:
    """How much comes together.

    ahead: bytes that are held. joined: of how many bytes a response is joined with others.
    enough, many: bytes and responses for which no more are waited for. moment: seconds to wait for
    them. copied: whether copied rows are joined, too; then more are waited for where many bytes
    have come. kept: bytes; blocks of memory up to this size are kept for the next responses. pause:
    seconds without any response after which none is waited for, as a backlog ends with less.
    """

    ahead: int
    joined: int
    enough: int
    many: int
    moment: float
    copied: bool
    kept: int
    pause: float = math.inf


BY_LINE = Units(
    ahead=AHEAD,
    joined=SMALL,
    enough=1 << 18,
    many=128,
    moment=0.004,
    copied=False,
    kept=1 << 22,
)
BY_COLUMN = Units(
    ahead=1 << 23,
    joined=1 << 21,
    enough=1 << 22,
    many=1000,
    moment=0.1,
    copied=True,
    kept=1 << 24,
    pause=0.03,
)


class Responses(Iterator[list[bytes]]):
    """The responses of a call."""

    def __init__(self, call: Iterable[bytes], silence: float, units: Units = BY_LINE) -> None:
        """Begin to receive.

        Args:
            call: what the responses come from; cancelled by the caller.
            silence: seconds without any response after which `RetriableError` is raised.
            units: how much comes together.
        """
        self._call = call
        self._units = units
        self._silence = silence
        self._changed = threading.Condition()
        self._received: list[bytes] = []
        self._size = 0  # of what is received, and of what is worked on
        self._working = 0
        self._came = 0.0  # when the last one came
        self._copied = False  # whether a copy may have ended
        self._waited = 0.0  # seconds since a response, while one was asked for
        self._ended = self._left = False
        self._error: Exception | None = None
        self._taken: deque[list[bytes]] = deque()
        self._thread = threading.Thread(target=self._receive, name="vstream", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Receive no more; the call has been cancelled."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._thread.join(timeout=1)

    def __next__(self) -> list[bytes]:
        """Return a response, or several small ones; none at all where none has come for a second.

        Raises:
            RetriableError: none has come for too long.
            grpc.RpcError: what ended the call.
        """
        if not self._taken:
            self._take()
        if self._taken:
            return self._taken.popleft()
        if not self._ended:
            return []
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _receive(self) -> None:
        try:
            for response in self._call:
                if len(response) > _HUGE:
                    _give_back()
                with self._changed:
                    self._received.append(response)
                    self._size += len(response)
                    self._came = time.monotonic()
                    self._copied = self._copied or may_end_copy(response)
                    del response  # the reader's alone, while the next is waited for
                    if len(self._received) == 1 or self._enough():
                        self._changed.notify_all()
                    self._changed.wait_for(self._may_receive)
        except Exception as error:  # noqa: BLE001 - raised again where responses are taken
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _may_receive(self) -> bool:
        return self._size < self._units.ahead or self._left

    def _enough(self) -> bool:
        if len(self._received) >= self._units.many or self._ended or self._copied:
            return True
        return self._size - self._working >= self._units.enough

    def _take(self) -> None:
        with self._changed:
            self._size -= self._working
            self._working = 0
            self._changed.notify_all()
            since = time.monotonic()
            turn = min(_TURN, self._silence)
            if not self._changed.wait_for(lambda: self._received or self._ended, turn):
                self._waited += turn
                if self._waited >= self._silence:
                    raise RetriableError(
                        f"VTGate gave no answer, not even a heartbeat, for {self._silence:g} s"
                    )
                return
            self._waited = 0.0
            bulk = self._units.copied and self._size >= _BULK
            if bulk or time.monotonic() - since < _CLOSE:
                self._gather()
            received, self._received, self._copied = self._received, [], False
            self._working = self._size
        self._taken.extend(_together(received, self._units))

    def _gather(self) -> None:
        """Wait for more, as long as more comes."""
        until = time.monotonic() + self._units.moment
        while (left := min(until, self._came + self._units.pause) - time.monotonic()) > 0:
            if self._changed.wait_for(self._enough, left):
                return


def _give_back() -> None:
    """Give freed memory back to the system: gRPC has held the response three times.

    What it read from the network came in small blocks, which glibc keeps for others as small.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _together(responses: Iterable[bytes], units: Units) -> Iterator[list[bytes]]:
    small: list[bytes] = []
    for response in responses:
        if len(response) < units.joined and (units.copied or not has_copied_rows(response)):
            small.append(response)
            continue
        if small:
            yield small
            small = []
        yield [response]
    if small:
        yield small
