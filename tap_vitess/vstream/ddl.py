"""What a DDL statement does to rows that no row event tells. Pure.

TRUNCATE, DROP, RENAME and partition changes take rows away, or exchange a table for another, and
come as a DDL event alone, once a shard (facts, 3.2). This reads names, and no more of SQL than
that: rather one table too many is copied again than one too few.
"""

from __future__ import annotations

import re

# Tables of Vitess' own online schema changes and table life cycle, in today's and older names.
INTERNAL_TABLE = re.compile(
    r"_vt.*|_[0-9a-f]{8}_([0-9a-f]{4}_){3}[0-9a-f]{12}_[0-9]{14}_(gho|ghc|del|new|vrepl)"
)
_EXECUTED_COMMENT = re.compile(r"/\*!\d*(.*?)\*/", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/|^\s*(--|#)[^\n]*", re.DOTALL | re.MULTILINE)
_REPLACES = re.compile(
    r"\s*(truncate|(drop|rename)(\s+temporary)?\s+tables?)\b"
    r"|\s*alter(\s+\w+)*?\s+table\b.*\b(rename(?!\s+(column|index|key)\b)"
    r"|(drop|truncate|exchange|discard|import)\s+(partition|tablespace))\b",
    re.IGNORECASE | re.DOTALL,
)
_IDENTIFIER = re.compile(r"`((?:[^`]|``)+)`|([\w$]+)")
_NAME = r"(?:[\w$]+|`(?:[^`]|``)+`)"
_RENAMED = re.compile(rf"({_NAME})\s+to\s+(?:{_NAME}\s*\.\s*)?({_NAME})(?!\s*\.)", re.IGNORECASE)


def replaced_tables(statement: str, tables: frozenset[str]) -> frozenset[str]:
    """Name those of `tables` whose rows a statement takes away or exchanges.

    Vitess' online schema changes end by renaming a table of their own to the table's name; its
    rows are the same, and it is not named.
    """
    text = _COMMENT.sub(" ", _EXECUTED_COMMENT.sub(r" \1 ", statement))
    if not _REPLACES.match(text):
        return frozenset()
    same = {
        _unquoted(new).casefold()
        for old, new in _RENAMED.findall(text)
        if INTERNAL_TABLE.fullmatch(_unquoted(old))
    }
    names = {_unquoted(match[0]).casefold() for match in _IDENTIFIER.finditer(text)}
    # A server may have taken the name without regard to case.
    return frozenset(table for table in tables if table.casefold() in names - same)


def _unquoted(identifier: str) -> str:
    """Take the quotes off an identifier."""
    return identifier[1:-1].replace("``", "`") if identifier.startswith("`") else identifier
