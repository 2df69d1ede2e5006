"""The table of reference: ten columns of the usual types, a fifth of the notes NULL.

The same number gives the same row, on the sandbox and on a real cluster.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

COLUMNS = (
    ("id", "bigint", False),
    ("customer_id", "bigint", False),
    ("amount", "decimal(10,2)", False),
    ("quantity", "int", False),
    ("email", "varchar(120)", False),
    ("name", "varchar(80)", False),
    ("note", "text", True),
    ("payload", "json", False),
    ("created_at", "datetime", False),
    ("active", "tinyint", False),
)
KEY = "id"
_WORDS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"),
    *("india", "juliett", "kilo", "lima", "mike"),
)

Value = bytes | None


def columns(count: int = len(COLUMNS)) -> list[tuple[str, str, bool]]:
    """Return (name, type, nullable) of a table of `count` columns; more than ten begin anew."""
    turns = range((count - 1) // len(COLUMNS) + 1)
    names = [
        (name if not turn else f"{name}_{turn}", kind, nullable)
        for turn in turns
        for name, kind, nullable in COLUMNS
    ]
    return names[:count]


def row(number: int, count: int = len(COLUMNS)) -> list[Value]:
    """Return the values of a row, as MySQL's text protocol writes them."""
    values: list[Value] = []
    for turn in range((count - 1) // len(COLUMNS) + 1):
        values += _ten(number, random.Random(number * 31 + turn))
    return values[:count]


def _ten(number: int, chance: random.Random) -> Iterator[Value]:
    words = chance.choices(_WORDS, k=12)
    yield b"%d" % number
    yield b"%d" % chance.randrange(10**10)
    yield b"%d.%02d" % (chance.randrange(1, 100_000), chance.randrange(100))
    yield b"%d" % chance.randrange(-50, 1000)
    yield b"%s.%d@example.com" % (words[0].encode(), number)
    yield f"{words[1].title()} {words[2].title()}".encode()
    yield None if chance.random() < 0.2 else " ".join(words[: chance.randrange(1, 12)]).encode()
    yield b'{"tags": ["%s", "%s"], "level": %d}' % (
        words[3].encode(),
        words[4].encode(),
        chance.randrange(100),
    )
    second = chance.randrange(86400)
    yield b"2024-%02d-%02d %02d:%02d:%02d" % (
        chance.randrange(1, 13),
        chance.randrange(1, 29),
        second // 3600,
        second // 60 % 60,
        second % 60,
    )
    yield b"%d" % chance.randrange(2)


def batches(first: int, count: int, size: int) -> Iterator[Sequence[int]]:
    """Yield the numbers from `first` on, `size` at a time."""
    for start in range(first, first + count, size):
        yield range(start, min(start + size, first + count))
