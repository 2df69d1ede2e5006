"""Rows with a huge value, which is neither cut out nor written in one piece. Pure.

Each form of such a value costs its size in memory, and there are many forms between a response and
a line. So its bytes are read in place, and its text is made a piece at a time.
"""

from __future__ import annotations

import codecs
from binascii import b2a_base64
from collections.abc import Iterator, Sequence

import orjson

from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.columns import LARGE, MARK, Images
from tap_vitess.protocol.lengths import listed

_PIECE = 3 << 18  # bytes; whole groups of base64


def has_large(images: Images, where: str) -> bool:
    """Return whether a value is larger than `LARGE`; raises ProtocolError: a length is invalid."""
    return len(images.values) > LARGE and max(listed(images.lengths, where), default=0) > LARGE


def views(images: Images, width: int, where: str) -> Iterator[Sequence[memoryview | None]]:
    """Yield each row's values as views; None is NULL.

    Raises:
        ProtocolError: the images are not whole rows of so many columns.
    """
    lengths, values = listed(images.lengths, where), memoryview(images.values)
    if not width or len(lengths) != images.count * (width + 1):
        raise ProtocolError(f"{where}: rows of other columns than the {width} of their FIELD")
    end = 0
    for first in range(0, len(lengths), width + 1):
        row: list[memoryview | None] = []
        for length in lengths[first : first + width + 1]:
            if length < -1:
                raise ProtocolError(f"{where}: an invalid length")
            row.append(None if length < 0 else values[end : end + length])
            end += max(length, 0)
        mark = row.pop()
        if mark is None or bytes(mark[: len(MARK) + 1]) != MARK:
            raise ProtocolError(f"{where}: a row's lengths are not those of its values")
        yield row
    if end != len(values):
        raise ProtocolError(f"{where}: a row has more bytes than its values")


def decoded(value: memoryview, errors: str = "strict") -> Iterator[str]:
    """Decode UTF-8 piece by piece.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    for start in range(0, len(value), _PIECE):
        yield decoder.decode(value[start : start + _PIECE])
    yield decoder.decode(b"", final=True)


def texts(value: memoryview, errors: str) -> Iterator[bytes]:
    """Yield UTF-8 text as JSON; raises the errors of `decoded`."""
    yield b'"'
    for piece in decoded(value, errors):
        yield orjson.dumps(piece)[1:-1]
    yield b'"'


def base64(value: memoryview) -> Iterator[bytes]:
    """Yield bytes as JSON, in base64."""
    yield b'"'
    for start in range(0, len(value), _PIECE):
        yield b2a_base64(value[start : start + _PIECE], newline=False)
    yield b'"'


def hexadecimal(value: memoryview) -> Iterator[bytes]:
    """Yield bytes as JSON, in hexadecimal digits."""
    yield b'"'
    for start in range(0, len(value), _PIECE):
        yield value[start : start + _PIECE].hex().upper().encode()
    yield b'"'
