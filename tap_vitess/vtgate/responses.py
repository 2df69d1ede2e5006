"""A call's responses, received ahead by a thread; small ones come together.

gRPC for Python receives a response when it is asked for one, in a thread of its own: while rows
are written nothing comes in, and each small transaction costs two changes of thread. So a thread
asks all the time, and what has come meanwhile is taken at once. Where responses follow each other
closely, as in a backlog, a moment is waited for more of them.

No response is received while `AHEAD` bytes are held, what is being worked on included.
Copied rows are read a response at a time (`columns.py`), and come alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from tap_vitess.errors import RetriableError
from tap_vitess.protocol.columns import has_copied_rows

AHEAD = 1 << 20  # bytes
SMALL = 1 << 18  # bytes of a response that is joined with others
_ENOUGH = 1 << 18  # bytes for which no more are waited for
_MANY = 128  # responses, the same
# Seconds. A response that had to be waited for longer than the first is none of a backlog.
_CLOSE = 0.0005
_MOMENT = 0.004
_TURN = 1.0  # seconds in which nothing comes, behind which who reads may leave


class Responses(Iterator[Sequence[bytes]]):
    """The responses of a call."""

    def __init__(self, call: Iterable[bytes], silence: float) -> None:
        """Begin to receive.

        Args:
            call: what the responses come from; cancelled by the caller.
            silence: seconds without any response after which `RetriableError` is raised.
        """
        self._call = call
        self._silence = silence
        self._changed = threading.Condition()
        self._received: list[bytes] = []
        self._size = 0  # of what is received, and of what is worked on
        self._working = 0
        self._waited = 0.0  # seconds since a response, while one was asked for
        self._ended = self._left = False
        self._error: Exception | None = None
        self._taken: deque[Sequence[bytes]] = deque()
        self._thread = threading.Thread(target=self._receive, name="vstream", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Receive no more; the call has been cancelled."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._thread.join(timeout=1)

    def __next__(self) -> Sequence[bytes]:
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
            return ()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _receive(self) -> None:
        try:
            for response in self._call:
                with self._changed:
                    self._received.append(response)
                    self._size += len(response)
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
        return self._size < AHEAD or self._left

    def _enough(self) -> bool:
        return self._size - self._working >= _ENOUGH or len(self._received) >= _MANY or self._ended

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
            if time.monotonic() - since < _CLOSE:
                self._changed.wait_for(self._enough, _MOMENT)
            received, self._received = self._received, []
            self._working = self._size
        self._taken.extend(_together(received))


def _together(responses: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    small: list[bytes] = []
    for response in responses:
        if len(response) < SMALL and not has_copied_rows(response):
            small.append(response)
            continue
        if small:
            yield small
            small = []
        yield [response]
    if small:
        yield small
