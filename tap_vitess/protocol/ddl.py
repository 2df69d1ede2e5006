"""Reads other DDL: which tables lose or exchange rows without a row event (TRUNCATE, ...). Pure.

TRUNCATE, DROP, RENAME and partition changes remove rows, or exchange a table for another. They come
as a DDL event only, once for each shard (facts, 3.2). This reads only names, not SQL: it is better
to copy one table too many again than one too few.

Sessions that log statements also log DDL of temporary tables. CREATE and DROP say TEMPORARY, even
if the server writes the DROP when a session ends. TRUNCATE does not: its text is that for an
ordinary table of the same name (seen on v22).

gh-ost and pt-online-schema-change fill a table of their own, and exchange it for the table in one
RENAME: the rows are the same, as with Vitess' online schema changes. gh-ost's names are
unmistakable. `_orders_new` and `_orders_old` may be anybody's: they count as
pt-online-schema-change's only if it was seen to create its triggers on the table.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

# Tables of Vitess' own online schema changes and table life cycle, in today's and older names.
INTERNAL_TABLE = re.compile(
    r"_vt_[a-zA-Z]{3,5}_[0-9a-f]{32}_[0-9]{14}_?|_[0-9a-f]{8}_([0-9a-f]{4}_){3}[0-9a-f]{12}_[0-9]{14}_(gho|ghc|del|new|vrepl)"
)
# Tables of gh-ost, which shortens names to MySQL's limit, and of pt-online-schema-change.
_GHOST = re.compile(r"_(.+?)(?:_\d{14})?((?:_rev)?_del|_gho|_ghc)", re.DOTALL)
_PERCONA = re.compile(r"_{1,10}?(.+)(_new|_old)", re.DOTALL)
_LONGEST_NAME = 64
_GHOST_EXCHANGES = frozenset({("_gho", "_del"), ("_del", "_rev_del")})
_PERCONA_TRIGGER = re.compile(
    r"\s*create\s+(?:definer\s*=\s*\S+\s+)?trigger\s+(?:\S+\s*\.\s*)?`?pt_osc_.*?\bon\s+(.*?)\bfor\s+each\b",
    re.IGNORECASE | re.DOTALL,
)
# An unclosed comment runs to the end of the text, so that no place is searched twice.
_EXECUTED_COMMENT = re.compile(r"/\*!\d*+(.*?)(?:\*/|\Z)", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|^[^\S\n]*(--|#)[^\n]*", re.DOTALL | re.MULTILINE)
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
_TOKEN = re.compile(r"`(?:[^`]|``)*+(?:`|\Z)|[\w$]++|\S")


def replaced_tables(
    statement: str, tables: frozenset[str], triggered: Collection[str] = ()
) -> dict[str, str]:
    """Return those of `tables` whose rows a statement removes or exchanges, each with its kind.

    Online schema changes end by renaming a table of their own to the table's name. Its rows are
    the same, so it is not among them.

    Args:
        triggered: tables on which pt-online-schema-change has created its triggers.
    """
    text = _without_comments(statement)
    match = _REPLACES.match(text)
    if match is None:
        return {}
    moves = [(_folded(old), _folded(new)) for old, new in _renamed(text)]
    away = dict(moves)
    known = {table.casefold() for table in triggered}
    same = {
        new
        for old, new in moves
        if INTERNAL_TABLE.fullmatch(old) or _is_exchange(new, old, away.get(new, ""), known)
    }
    kind = match["verb"] or f"alter table ... {match['action']}"
    kind = " ".join(kind.upper().split())
    return dict.fromkeys(_named(text, tables, same), kind)


def triggered_tables(statement: str, tables: frozenset[str]) -> frozenset[str]:
    """Return those of `tables` on which a statement creates pt-online-schema-change's trigger."""
    match = _PERCONA_TRIGGER.match(_without_comments(statement))
    return _named(match[1], tables) if match else frozenset()


def migration_tables(names: Iterable[str]) -> frozenset[str]:
    """Return helper tables of gh-ost and pt-online-schema-change whose original is there, too."""
    known = {name.casefold() for name in names}
    return frozenset(
        name for name in names if name.startswith("_") and any(_serves(name.casefold(), known))
    )


def _serves(name: str, known: Collection[str]) -> Iterable[bool]:
    if match := _GHOST.fullmatch(name):
        yield match[1] in known
        yield len(name) == _LONGEST_NAME and any(table.startswith(match[1]) for table in known)
    if match := _PERCONA.fullmatch(name):
        yield match[1] in known or match[1].lstrip("_") in known


def _is_exchange(table: str, new: str, old: str, triggered: Collection[str]) -> bool:
    """Return whether a tool replaces a table by `new` and renames it to `old`."""
    if not all(any(_serves(name, {table})) for name in (new, old)):
        return False
    ghosts = _GHOST.fullmatch(new), _GHOST.fullmatch(old)
    if ghosts[0] and ghosts[1]:
        return (ghosts[0][2], ghosts[1][2]) in _GHOST_EXCHANGES
    return new.endswith("_new") and old.endswith("_old") and table in triggered


def altered_tables(statement: str, tables: frozenset[str]) -> frozenset[str]:
    """Return those of `tables` whose columns a statement may change."""
    text = _without_comments(statement)
    return _named(text, tables) if _ALTERS.match(text) else frozenset()


def _without_comments(statement: str) -> str:
    return _COMMENT.sub(" ", _EXECUTED_COMMENT.sub(r" \1 ", statement))


def _renamed(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names before and after each TO as written, without their databases."""
    tokens = [*_TOKEN.findall(text), "", "", "", ""]
    for i, token in enumerate(tokens[:-4]):
        if token.lower() == "to" and i:
            new = i + 3 if tokens[i + 2] == "." else i + 1
            if _is_name(tokens[i - 1]) and _is_name(tokens[new]) and tokens[new + 1] != ".":
                yield tokens[i - 1], tokens[new]


def _is_name(token: str) -> bool:
    return token[:1] == "`" or (token != "" and _IDENTIFIER.fullmatch(token) is not None)


def _named(text: str, tables: frozenset[str], but: Collection[str] = frozenset()) -> frozenset[str]:
    """Return the tables that a text mentions; some servers ignore the case of names."""
    names = {_unquoted(match[0]).casefold() for match in _IDENTIFIER.finditer(text)}
    return frozenset(t for t in tables if t.casefold() in names and t.casefold() not in but)


def _folded(identifier: str) -> str:
    return _unquoted(identifier).casefold()


def _unquoted(identifier: str) -> str:
    """Remove an identifier's quotes."""
    return identifier[1:-1].replace("``", "`") if identifier.startswith("`") else identifier
