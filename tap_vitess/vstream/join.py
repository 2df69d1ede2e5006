"""Text of many rows, made of what all have and what each has. Pure; the hot path."""

from __future__ import annotations

from collections.abc import Sequence


def join(rows: int, pieces: Sequence[bytes | Sequence[bytes]]) -> bytes:
    """Join the pieces of each row, and the rows; constant neighbours become one piece."""
    row: list[bytes] = []
    columns: dict[int, Sequence[bytes]] = {}
    constant = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            constant += piece
            continue
        columns[len(row) + 1] = piece
        row += [constant, b""]
        constant = b""
    row.append(constant)
    joined = row * rows
    for place, texts in columns.items():
        joined[place :: len(row)] = texts
    return b"".join(joined)
