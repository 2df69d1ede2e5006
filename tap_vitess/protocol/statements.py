"""Reads DML that MySQL logged as a statement, not as rows: which tables it changes. Pure.

A session in binlog_format STATEMENT or MIXED, such as that of a tool that works on a tablet's
MySQL, has its statements in the binlog and not the rows they change. VTGate sends them as INSERT,
UPDATE, DELETE and REPLACE events, whatever table they name. A statement may also change tables
through views, triggers, routines and cascades, which its text does not name. This reads names, not
SQL: it is better to copy one table too many again than one too few.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_WORD = re.compile(r"[\w$\u0080-\U0010ffff]+")

Effects = Collection[tuple[str, str]]


def changed_tables(
    statements: Iterable[str], effects: Effects, tables: frozenset[str]
) -> frozenset[str]:
    """Return those of `tables` that statements may have changed.

    Args:
        effects: names that a statement may mention, each with a text that names what else changes
            then. An empty text means that this is unknown, and any table may change.
    """
    behind: dict[str, list[str]] = {}
    for name, text in effects:
        behind.setdefault(name, []).append(text)
    names = tables | behind.keys()
    found: set[str] = set()
    left = list(statements)
    while left:
        for name in mentioned(left.pop(), names) - found:
            found.add(name)
            texts = behind.get(name, [])
            if not all(texts):
                return tables
            left += texts
    return tables & found


def mentioned(text: str, names: Iterable[str]) -> frozenset[str]:
    """Return the names that a text mentions anywhere, in any case and any quotes.

    Quotes are not paired: one within a string of the statement would hide what follows.
    """
    text = text.casefold()
    words = frozenset(_WORD.findall(text))
    return frozenset(name for name in names if _stands(name.casefold(), text, words))


def _stands(name: str, text: str, words: frozenset[str]) -> bool:
    if _WORD.fullmatch(name):
        return name in words
    return any(quote + name.replace(quote, 2 * quote) + quote in text for quote in '`"')
