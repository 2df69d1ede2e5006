"""What a response's bytes show before they are read as messages. Pure; the hot path.

Parsing a message copies it. Tags and sizes already show where copied rows begin and end in a
response.
"""

from __future__ import annotations

import re

# A copied row's VEvent: its type, ROW, directly followed by row_event. Changes have a timestamp.
COPIED = b"\x08\x0c\x2a"
IS_ROW = COPIED[:2]
_FIRST_ROW = re.compile(b"%b|%b" % (re.escape(COPIED), re.escape(IS_ROW + b"\x10")))
_COMPLETED = b"\x08\x14"  # a VEvent's type, COPY_COMPLETED
_FEW = 1 << 10  # bytes of a response
_LONGEST = 5  # bytes of a size
_EVENT = b"\x0a"  # opens an event of a response; its size comes after it


def may_end_copy(response: bytes) -> bool:
    """Return whether a response may say that a copy is completed; only small ones are searched."""
    return len(response) < _FEW and _COMPLETED in response


def first_row(response: bytes) -> bytes | None:
    """Return how the first ROW event begins: `COPIED`, or as a change; None without one."""
    row = _FIRST_ROW.search(response)
    return row and row.group()


def first_copied(response: bytes) -> int | None:
    """Return where the first event of a copied row begins, going from event to event."""
    start = 0
    while response.startswith(_EVENT, start):
        begin, size = size_at(response, start + 1)
        if response.startswith(COPIED, begin):
            return start
        start = begin + size
    return None


def last_copied_end(response: bytes) -> int | None:
    """Return where the apparent last event of a copied row ends, by the size before it."""
    begin = response.rfind(COPIED)
    size = 0
    for place in range(begin - 1, max(begin - 1 - _LONGEST, -1), -1):
        size = size << 7 | response[place] & 0x7F
        if not (place and response[place - 1] & 0x80):
            return begin + size if response.startswith(_EVENT, max(place - 1, 0)) else None
    return None


def size_at(message: bytes, begin: int) -> tuple[int, int]:
    """Read the size before a field's bytes; return where these begin, and the size."""
    size = 0
    for place in range(begin, min(begin + _LONGEST, len(message))):
        size |= (message[place] & 0x7F) << 7 * (place - begin)
        if not message[place] & 0x80:
            return place + 1, size
    return begin, size
