"""What a table's filter may say: conditions of one column each, joined by AND. Pure.

A tablet itself compares the values of the binlog, without MySQL. So it accepts no expression, no
function and no OR, and its operators depend on its version. What it would refuse is refused here,
before a stream is opened. Seen on v20, v22 and v24:

- A negative number is refused outside of IN (...), and v20 refuses 1.5. As text, '-1', they are
  accepted and compared as DOUBLEs. So they are sent as text.
- X'05' and 0x05 are accepted, but compared with something else: such literals are not sent.
- The tablet refuses `(a = 1 or b = 2)` and `not a = 1` only once a row comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tap_vitess.errors import ConfigError

IN_ALL_VERSIONS = ("=", "!=", "<", "<=", ">", ">=", "IS NOT NULL")
SINCE_22 = ("IN (...)", "IS NULL", "BETWEEN ... AND ...", "NOT BETWEEN ... AND ...")
ALL_OPERATORS = (22, 0, 0)

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>-?\d+(?:\.\d+)?)(?![\w.])
    |(?P<text>'(?:[^'\\]|'')*')
    |(?P<quoted>`(?:[^`]|``)+`)
    |(?P<word>[A-Za-z_$][\w$]*)
    |(?P<sign><=>|<=|>=|<>|!=|[=<>(),])
    )""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "in", "is", "not", "null", "between", "or", "like", "true", "false"})
MOST_DIGITS = 15  # of a DOUBLE


@dataclass(frozen=True, slots=True)
class Condition:
    """A column, an operator, and the values to compare with: numbers, and text in quotes.

    operator: as in IN_ALL_VERSIONS and SINCE_22, without what follows it.
    """

    column: str
    operator: str
    values: tuple[str, ...] = ()

    @property
    def is_old(self) -> bool:
        """Whether every version of Vitess has the operator."""
        return self.operator in IN_ALL_VERSIONS

    @property
    def name(self) -> str:
        """The operator as errors name it."""
        found = (name for name in (*IN_ALL_VERSIONS, *SINCE_22) if name.startswith(self.operator))
        return next(found)

    def has_doubles(self, *, old: bool) -> bool:
        """Return whether a tablet compares a value as a DOUBLE; `old` is before v22."""
        return self.operator != "IN" and any(_is_double(value, old=old) for value in self.values)

    def sql(self, column: str, *, old: bool) -> str:
        """Write the condition as SQL; `column` is the column's real name, `old` is before v22."""
        name, operator = quoted(column), self.operator.lower()
        match self.operator:
            case "IS NULL" | "IS NOT NULL":
                return f"{name} {operator}"
            case "IN":
                return f"{name} in ({', '.join(self.values)})"
            case _:
                sent = [f"'{v}'" if _is_double(v, old=old) else v for v in self.values]
                return f"{name} {operator} {' and '.join(sent)}"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return "`" + name.replace("`", "``") + "`"


def _is_double(value: str, *, old: bool) -> bool:
    return value.startswith("-") or (old and not value.startswith("'") and not value.isdigit())


def operators(*, old: bool) -> str:
    """List the operators of a version, for people."""
    return ", ".join(IN_ALL_VERSIONS if old else (*IN_ALL_VERSIONS, *SINCE_22))


def conditions_of(where: str) -> tuple[Condition, ...]:
    """Read a filter.

    Raises:
        ConfigError: no version of Vitess accepts the filter; the message says why.
    """
    reader = _Reader(list(_tokens(where)))
    found = [reader.condition()]
    while reader.word("and"):
        found.append(reader.condition())
    if not reader.is_at_end:
        raise _refused(reader.rest)
    return tuple(found)


def _refused(what: str) -> ConfigError:
    return ConfigError(
        f"a filter is conditions of one column each, joined by AND, as in tenant_id = 7 AND state "
        f"IN ('new', 'paid'), and not {what:.100}; the operators are {operators(old=False)}, and "
        "what follows is a number or text in single quotes without a backslash"
    )


def _tokens(where: str) -> Iterator[tuple[str, str]]:
    at, text = 0, where.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _refused(text[at:].strip())
        yield match.lastgroup, match[match.lastgroup]
        at = match.end()


class _Reader:
    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._tokens)

    @property
    def rest(self) -> str:
        return " ".join(text for _, text in self._tokens[self._at :]) or "one that ends here"

    def word(self, *texts: str) -> bool:
        """Skip words or signs if they come next; return whether they did."""
        some = self._tokens[self._at : self._at + len(texts)]
        found = [text.lower() for kind, text in some if kind in {"word", "sign"}]
        self._at += len(texts) * (found == [*texts])
        return found == [*texts]

    def _next(self, *kinds: str) -> str:
        if self.is_at_end or self._tokens[self._at][0] not in kinds:
            raise _refused(self.rest)
        self._at += 1
        return self._tokens[self._at - 1][1]

    def condition(self) -> Condition:
        start = self._at
        try:
            return self._condition()
        except ConfigError:
            self._at = start
            raise _refused(self.rest) from None

    def _condition(self) -> Condition:
        name = self._next("word", "quoted")
        if name.startswith("`"):
            name = name[1:-1].replace("``", "`")
        elif name.lower() in _WORDS:
            raise _refused(name)
        if self.word("is", "not", "null"):
            return Condition(name, "IS NOT NULL")
        if self.word("is", "null"):
            return Condition(name, "IS NULL")
        if self.word("in", "("):
            return Condition(name, "IN", tuple(self._list()))
        for operator in ("NOT BETWEEN", "BETWEEN"):
            if self.word(*operator.lower().split()):
                return Condition(name, operator, (self._value(), self._value(after="and")))
        sign = self._next("sign").replace("<>", "!=")
        if sign not in IN_ALL_VERSIONS:
            raise _refused(sign)
        return Condition(name, sign, (self._value(),))

    def _list(self) -> Iterator[str]:
        yield self._next("number", "text")
        while self.word(","):
            yield self._next("number", "text")
        if not self.word(")"):
            raise _refused(self.rest)

    def _value(self, after: str = "") -> str:
        if after and not self.word(after):
            raise _refused(self.rest)
        value = self._next("number", "text")
        if _is_double(value, old=True) and sum(map(str.isdigit, value)) > MOST_DIGITS:
            raise _refused(value)
        return value
