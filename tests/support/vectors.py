"""VECTOR, which MySQL has from 9.0 on: its columns and values, beside those of `kinds.py`.

MySQL takes a vector of any length up to the declared one, and none of no length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import strategies as st

from support.kinds import DATA, Kind
from tap_vitess.values.types import ValueOptions

EVIDENCE: Path = DATA / "vectors.json.xz"
MOST = 16383  # dimensions, MySQL's limit

_SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
_SMALLEST, _LARGEST = 1.401298464324817e-45, 3.4028234663852886e38
_ODD = (0.0, -0.0, _SMALLEST, -_SMALLEST, 1.1754943508222875e-38, _LARGEST, -_LARGEST, 0.1, -1.5)


def floats(answer: str) -> list[float]:
    """Read the numbers that the hexadecimal digits of a vector stand for."""
    raw = bytes.fromhex(answer)
    return [number for (number,) in struct.iter_unpack("<f", raw)]


def _expected(answer: str, _: ValueOptions) -> list[float]:
    return floats(answer)


def _packed(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _kind(sql_type: str, most: int, edges: Sequence[Sequence[float]]) -> Kind:
    more = st.lists(_SINGLE, min_size=1, max_size=min(most, 5)).map(_packed)
    return Kind(sql_type, [*map(_packed, edges), None], more, _expected, get="hex({})")


def _filled(count: int) -> list[float]:
    return [_ODD[i % len(_ODD)] for i in range(count)]


VECTORS: Mapping[str, Kind] = {
    "one": _kind("vector(1)", 1, [[number] for number in _ODD]),
    "three": _kind("vector(3)", 3, [[1.5, -2.0, 0.1], [-0.0], _filled(3)]),
    "embedding": _kind("vector(300)", 300, [_filled(300), _filled(299)]),
    "usual": _kind("vector", 2048, [_filled(2048), [0.0]]),
    "largest": _kind(f"vector({MOST})", MOST, [_filled(MOST), [_SMALLEST] * MOST]),
}
