"""What a DDL statement does to rows that no row event tells. Pure.

TRUNCATE, DROP, RENAME and partition changes take rows away, or exchange a table for another, and
come as a DDL event alone, once a shard (facts, 3.2). This reads names, and no more of SQL than
that: rather one table too many is copied again than one too few.

Temporary tables come too, of sessions that log statements: CREATE and DROP say so, also where the
server writes the DROP as a session ends. TRUNCATE does not: its text is the same as for the table
that has the name (seen on v22 and v24).
"""

from __future__ import annotations

import re
from collections.abc import Collection

# Tables of Vitess' own online schema changes and table life cycle, in today's and older names.
INTERNAL_TABLE = re.compile(
    r"_vt_[a-zA-Z]{3,5}_[0-9a-f]{32}_[0-9]{14}_?|_[0-9a-f]{8}_([0-9a-f]{4}_){3}[0-9a-f]{12}_[0-9]{14}_(gho|ghc|del|new|vrepl)"
)
_EXECUTED_COMMENT = re.compile(r"/\*!\d*(.*?)\*/", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/|^\s*(--|#)[^\n]*", re.DOTALL | re.MULTILINE)
_REPLACES = re.compile(
    r"\s*(?P<verb>truncate|(drop|rename)\s+tables?)\b"
    r"|\s*alter(\s+\w+)*?\s+table\b.*\b(?P<action>rename(?!\s+(column|index|key)\b)"
    r"|(drop|truncate|exchange|discard|import)\s+(partition|tablespace))\b",
    re.IGNORECASE | re.DOTALL,
)
_ALTERS = re.compile(
    r"\s*alter(\s+\w+)*?\s+table\b.*\b("
    r"(add|drop|change|modify|rename)\b(?!\s*(unique|index|key|constraint|primary|foreign|check"
    r"|partition|fulltext|spatial|to|as)\b)|convert\s+to|character\s+set|charset|collate)"
    r"|\s*(create|drop|rename)\s+tables?\b",
    re.IGNORECASE | re.DOTALL,
)
_IDENTIFIER = re.compile(r"`((?:[^`]|``)+)`|([\w$]+)")
_NAME = r"(?:[\w$]+|`(?:[^`]|``)+`)"
_RENAMED = re.compile(rf"({_NAME})\s+to\s+(?:{_NAME}\s*\.\s*)?({_NAME})(?!\s*\.)", re.IGNORECASE)


def replaced_tables(statement: str, tables: frozenset[str]) -> dict[str, str]:
    """Name those of `tables` whose rows a statement takes away or exchanges, each with what it is.

    Vitess' online schema changes end by renaming a table of their own to the table's name; its
    rows are the same, and it is not named.
    """
    text = _without_comments(statement)
    match = _REPLACES.match(text)
    if match is None:
        return {}
    same = {
        _unquoted(new).casefold()
        for old, new in _RENAMED.findall(text)
        if INTERNAL_TABLE.fullmatch(_unquoted(old))
    }
    kind = match["verb"] or f"alter table ... {match['action']}"
    kind = " ".join(kind.upper().split())
    return dict.fromkeys(_named(text, tables, same), kind)


def altered_tables(statement: str, tables: frozenset[str]) -> frozenset[str]:
    """Name those of `tables` whose columns may be others behind a statement."""
    text = _without_comments(statement)
    return _named(text, tables) if _ALTERS.match(text) else frozenset()


def _without_comments(statement: str) -> str:
    return _COMMENT.sub(" ", _EXECUTED_COMMENT.sub(r" \1 ", statement))


def _named(text: str, tables: frozenset[str], but: Collection[str] = frozenset()) -> frozenset[str]:
    """Name the tables a text mentions; a server may have taken a name without regard to case."""
    names = {_unquoted(match[0]).casefold() for match in _IDENTIFIER.finditer(text)}
    return frozenset(t for t in tables if t.casefold() in names and t.casefold() not in but)


def _unquoted(identifier: str) -> str:
    """Take the quotes off an identifier."""
    return identifier[1:-1].replace("``", "`") if identifier.startswith("`") else identifier
