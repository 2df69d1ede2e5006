"""Reads an ALTER TABLE: can rows logged before it still be read by position after it? Pure.

Vitess reads older rows with today's columns, by position. That still works after two changes:
columns added at the end, and a column's type stated again in its place, if only its size differs.
A statement does not say what the type was, and may omit the charset, which is then the table's.
So a type is kept as written, without its size; two types of a column are the same only if their
texts are. ENUM and SET keep their labels.

A statement that is not understood word for word may change anything: None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

_TOKEN = re.compile(
    r"""(?P<gap>\s+|/\*!\d*|\*/|/\*.*?\*/|(?:--\s|\#)[^\n]*)
    |(?P<word>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|[\w$.]+|[^\w\s'"`\\])""",
    re.VERBOSE | re.DOTALL,
)
_INDEXES = frozenset({"index", "key", "unique", "fulltext", "spatial", "primary"})
_CONSTRAINTS = frozenset({"constraint", "foreign", "check"})
# Options of a table, or of the ALTER itself, that do not concern columns.
_OPTIONS = frozenset(
    [
        *("algorithm", "lock", "engine", "comment", "auto_increment", "row_format"),
        *("key_block_size", "checksum", "compression", "avg_row_length", "max_rows", "min_rows"),
        *("stats_persistent", "stats_auto_recalc", "stats_sample_pages", "delay_key_write"),
        *("pack_keys", "encryption"),
    ]
)
# The largest size with which a type stays that type: MySQL may make a longer one a TEXT.
_SIZED = {
    **dict.fromkeys(("char", "binary"), 255),
    **dict.fromkeys(("varchar", "varbinary"), 16383),
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "bigint"), 255),
    **dict.fromkeys(("decimal", "numeric", "dec", "fixed", "bit"), 65),
    **dict.fromkeys(("datetime", "timestamp", "time"), 6),
}
_LABELLED = frozenset({"enum", "set"})
# Attributes of a column that do not change its bytes; the second set takes a value.
_NOTHING = frozenset(
    [
        *("not", "null", "auto_increment", "primary", "unique", "key"),
        *("generated", "always", "virtual", "stored"),
    ]
)
_VALUED = frozenset({"default", "comment", "update", "as"})
_SIGNS = frozenset({"unsigned", "signed", "zerofill", "binary"})

Tokens = Sequence[str]


@dataclass(frozen=True, slots=True)
class WrittenType:
    """A column's type as a statement writes it, without its size."""

    words: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column that is added, or whose type is stated again in its place.

    after: the column that it follows, if the statement says so; else it is added at the end.
    """

    name: str
    type: WrittenType
    added: bool
    after: str | None = None


def column_changes(statement: str) -> tuple[ColumnChange, ...] | None:
    """Read an ALTER TABLE; None if it may do more to columns than that."""
    try:
        tokens = list(_tokens(statement))
        start = _behind_the_table(tokens)
        return tuple(change for part in _parts(tokens[start:]) for change in _clause(part))
    except _UnknownError:
        return None


class _UnknownError(Exception):
    """A statement is not understood."""


def _tokens(statement: str) -> Iterator[str]:
    if "\\" in statement:  # its meaning in a string depends on the session's sql_mode
        raise _UnknownError
    at = 0
    text = statement.rstrip().rstrip(";")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # unclosed quotes
            raise _UnknownError
        at = match.end()
        if word := match["word"]:
            yield word if word[0] in "'\"`" else word.lower()


def _behind_the_table(tokens: Tokens) -> int:
    if tokens[:2] != ["alter", "table"] or len(tokens) < 4:
        raise _UnknownError
    if tokens[3] == "." or tokens[3].startswith("."):
        return 5 if tokens[3] == "." else 4
    return 4 if tokens[2].endswith(".") else 3


def _parts(tokens: Tokens) -> Iterator[Tokens]:
    """Split at the commas outside of parentheses."""
    part: list[str] = []
    depth = 0
    for word in tokens:
        depth += (word == "(") - (word == ")")
        if depth < 0:
            raise _UnknownError
        if word == "," and not depth:
            yield part
            part = []
        else:
            part.append(word)
    if depth:
        raise _UnknownError
    yield part


def _clause(tokens: Tokens) -> Iterator[ColumnChange]:
    if _says_nothing_of_columns(tokens):
        return
    if not tokens:
        raise _UnknownError
    verb, *rest = tokens
    rest = rest[1:] if rest[:1] == ["column"] else rest
    if verb == "add" and rest[:1] == ["("] and rest[-1] == ")":
        for part in _parts(rest[1:-1]):
            yield from _clause(["add", *part])
    elif verb == "add":
        yield _change(rest, added=True)
    elif verb == "modify":
        yield _change(rest, added=False)
    elif verb == "change" and len(rest) > 1 and _name(rest[0]) == _name(rest[1]):
        yield _change(rest[1:], added=False)
    else:
        raise _UnknownError


def _says_nothing_of_columns(tokens: Tokens) -> bool:
    if not tokens:
        return False
    verb, *rest = tokens
    if verb in {"add", "drop", "rename"}:
        return _is_of_an_index(verb, rest)
    return _is_option(tokens) or _is_default(tokens)


def _is_of_an_index(verb: str, tokens: Tokens) -> bool:
    """Return whether a clause concerns a constraint, or an index that is not on expressions.

    MySQL keeps the values of an expression in a hidden column, which the binlog's rows contain.
    """
    first = tokens[0] if tokens else ""
    if verb == "rename":
        return first in {"index", "key"}
    if verb == "add" and first in _INDEXES:
        return not any(pair in {("(", "("), (",", "(")} for pair in pairwise(tokens))
    return first in _INDEXES | _CONSTRAINTS


def _is_option(tokens: Tokens) -> bool:
    value = tokens[2:] if tokens[1:2] == ["="] else tokens[1:]
    return tokens[0] in _OPTIONS and len(value) == 1


def _is_default(tokens: Tokens) -> bool:
    """Return whether a clause is ALTER [COLUMN] c SET DEFAULT or DROP DEFAULT."""
    verb, *rest = tokens
    rest = rest[1:] if rest[:1] == ["column"] else rest
    return verb == "alter" and rest[1:2] in (["set"], ["drop"]) and rest[2:3] == ["default"]


def _change(tokens: Tokens, *, added: bool) -> ColumnChange:
    after = None
    if len(tokens) > 3 and tokens[-2] == "after":
        after, tokens = _name(tokens[-1]), tokens[:-2]
    if len(tokens) < 2 or "first" in tokens or (after and not added):
        raise _UnknownError
    return ColumnChange(_name(tokens[0]), _type(tokens[1:]), added, after)


def _type(tokens: Tokens) -> WrittenType:
    base, *rest = tokens
    arguments: list[str] = []
    if rest[:1] == ["("]:
        arguments = list(takewhile(lambda word: word != ")", rest[1:]))
        rest = rest[len(arguments) + 2 :]
    words = [base, *_attributes(rest)]
    if base in _LABELLED:
        return WrittenType(tuple(words), tuple(word for word in arguments if word != ","))
    if base in _SIZED:
        sizes = [word for word in arguments if word != ","]
        if not all(word.isdigit() and int(word) <= _SIZED[base] for word in sizes):
            raise _UnknownError
    elif base == "real":  # a DOUBLE or a FLOAT, depending on the session's sql_mode
        raise _UnknownError
    else:  # the size may decide the type: TEXT(70000) is a MEDIUMTEXT, FLOAT(30) a DOUBLE
        words += arguments
    return WrittenType(tuple(words))


def _attributes(tokens: Tokens) -> Iterator[str]:
    """Yield the attributes of a column that its bytes may depend on."""
    at = 0
    while at < len(tokens):
        word, at = tokens[at], at + 1
        if word in _VALUED:
            at = _behind_a_value(tokens, at)
        elif word in {"character", "charset", "collate"}:
            behind = at + (2 if word == "character" else 1)
            yield from [word, *tokens[at:behind]]
            at = behind
        elif word in _SIGNS:
            yield word
        elif word not in _NOTHING and [word, *tokens[at : at + 1]] != ["on", "update"]:
            raise _UnknownError


def _behind_a_value(tokens: Tokens, at: int) -> int:
    """Skip a value such as -1, 'x', now(6) or (a + 1)."""
    at += tokens[at : at + 1] in (["+"], ["-"])
    at += tokens[at : at + 1] != ["("]
    if tokens[at : at + 1] != ["("]:
        return at
    depth = 0
    for count, word in enumerate(tokens[at:], 1):
        depth += (word == "(") - (word == ")")
        if not depth:
            return at + count
    raise _UnknownError


def _name(word: str) -> str:
    if not re.fullmatch(r"[\w$]+|`(?:[^`]|``)+`", word):
        raise _UnknownError
    return (word[1:-1].replace("``", "`") if word.startswith("`") else word).casefold()
