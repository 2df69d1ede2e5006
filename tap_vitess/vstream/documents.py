"""JSON documents as MySQL prints them, also when they come out of the binlog. Pure.

Vitess prints the binlog's documents itself, and not always as MySQL does (found on 22.0.3):

- DECIMAL numbers may lose their leading zero or gain some: `.5`, `-.25`, `000000007`.
- Keys are in alphabetical order; MySQL sorts them by length first.
- Versions before 22.0.3 and 23.0.1 quote as Go does: `\\x01`, `\\a`, `\\v`, `\\U0001f600`.
- Binary values (opaque, BIT) throw away all that was printed before them. What is left is no JSON,
  except when the whole document is one such value; that is an error here, never a wrong document.

The first three are put right, so that a document has the same bytes in both phases. Not to be seen
from outside, and so not put right: a negative TIME in a document, which Vitess prints wrongly.

Almost every streamed object has its keys in another order than MySQL's, and parsing and printing
it anew is what streaming costs most. The documents of a column mostly have the same keys: what
finds the values in one finds them in the others, and they need only be put in another order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from operator import itemgetter
from typing import Any

import orjson

# A string, or a number, of which some are none in JSON: `.5`, `-.25`, `000000007`.
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?)([0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?')
_GO_ESCAPE = re.compile(rb"\\(?:x([0-7][0-9a-fA-F])|U([0-9a-fA-F]{8})|([av])|(.))", re.DOTALL)
_GO_LETTERS = {b"a": b"\\u0007", b"v": b"\\u000b"}

# Values that have no keys to be sorted, of strings only those that are spelt in one way.
_TEXT = rb'"[^"\\\x00-\x1f]*"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_SCALAR = rb"(?:%b|%b|true|false|null)" % (_TEXT, _NUMBER)
_VALUE = rb"(%b|\[(?:%b(?:, %b)*)?\])" % (_SCALAR, _SCALAR, _SCALAR)

_SHAPES_AT_ONCE = 4
_LARGEST_SHAPE = 1000  # bytes of the document it is taken from

# Keys, each with None for a value, or with those of the object that is the value.
Skeleton = tuple[tuple[str, "Skeleton | None"], ...]
# The same, each value with its number in the order of the document.
Members = list[tuple[str, "int | Members"]]

_print = json.JSONEncoder(ensure_ascii=False).encode  # in MySQL's spacing and escapes


def from_copy(raw: bytes) -> bytes:
    """Check a document that MySQL has printed.

    Raises:
        ValueError: it is no JSON.
    """
    orjson.loads(raw)
    return raw


def from_binlog(raw: bytes) -> bytes:
    """Return a document that Vitess has printed as MySQL would print it.

    Raises:
        ValueError: it is no JSON and cannot be made JSON: Vitess has lost a part of it.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raw = _STRING_OR_NUMBER.sub(_repair, raw)
        document = orjson.loads(raw)
    return _rearranged(raw) if b"\\u" in raw or not _is_sorted(document) else raw


def all_from_binlog(values: Sequence[bytes]) -> list[bytes]:
    """Do the same for the documents of a column, fast for those whose keys are alike.

    Raises:
        ValueError: one of them is no JSON.
    """
    joined = b"\n".join(values)
    joined.decode()
    shape = _shape_of(values[0]) if values else None
    if shape and joined.count(b"\n") == len(values) - 1:
        found = shape.pattern.findall(joined)
        if len(found) == len(values):
            return [shape.template % shape.order(groups) for groups in found]
    return list(map(Printer(shape).print, values))


class Printer:
    """Prints the documents of a column, one by one; it remembers the shapes of some."""

    def __init__(self, shape: _Shape | None = None) -> None:
        """Begin, where that is known with the shape that many have."""
        self._shapes = [shape] if shape else []

    def print(self, value: bytes) -> bytes:
        """Do what `from_binlog` does.

        Raises:
            ValueError: see there.
        """
        if not value.isascii():
            value.decode()  # patterns of bytes do not tell broken UTF-8
        for shape in self._shapes:
            if match := shape.pattern.fullmatch(value):
                found: bytes = shape.template % shape.order(match.groups())
                return found
        printed = from_binlog(value)
        if len(self._shapes) < _SHAPES_AT_ONCE:
            other = _shape_of(value)
            self._shapes += [other] if other and other not in self._shapes else []
        return printed


def _repair(match: re.Match[bytes]) -> bytes:
    text = match[0]
    if text[:1] == b'"':
        return _GO_ESCAPE.sub(_unescape, text) if b"\\" in text else text
    sign, whole, fraction, exponent = match.groups()
    if not (whole or fraction):
        return text
    return (sign or b"") + (whole.lstrip(b"0") or b"0") + (fraction or b"") + (exponent or b"")


def _unescape(match: re.Match[bytes]) -> bytes:
    """Turn an escape of Go's into one of JSON's; one that names a broken byte stays, and fails."""
    control, wide, letter, _ = match.groups()
    if control:
        return b"\\u00" + control
    if wide:
        code = int(wide, 16)
        return chr(code).encode() if code < 0x110000 else match[0]
    return _GO_LETTERS[letter] if letter else match[0]


def _is_sorted(value: Any) -> bool:
    """Tell whether all objects have their keys in MySQL's order."""
    if isinstance(value, dict):
        keys = list(value)
        if len(keys) > 1 and keys != sorted(keys, key=_order):
            return False
        return all(map(_is_sorted, value.values()))
    return not isinstance(value, list) or all(map(_is_sorted, value))


def _order(key: str) -> tuple[int, bytes]:
    raw = key.encode()
    return len(raw), raw


def _rearranged(raw: bytes) -> bytes:
    """Print a document anew; meanwhile its numbers are strings that begin with NULs."""
    nuls = raw.count(b"\\u0000") + 1  # more than the document has
    text = _print(_reader(nuls)(raw.decode()))
    number = r'"(?:\\u0000){' + str(nuls) + r'}([^"]+)"'
    return re.sub(number, r"\1", text).encode()


@lru_cache(maxsize=8)
def _reader(nuls: int) -> Callable[[str], Any]:
    """Return what reads a document with its keys sorted, and marks its numbers."""
    mark = ("\0" * nuls).__add__
    return json.JSONDecoder(object_pairs_hook=_sorted, parse_int=mark, parse_float=mark).decode


def _sorted(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(members, key=lambda member: _order(member[0])))


@dataclass(frozen=True, slots=True)
class _Shape:
    """Finds the values in documents of some keys, and puts them in MySQL's order.

    pattern: of a line that is such a document; its groups are the values, and one more, so that
    there are always several. template: the document with %b for each value. order: picks the
    groups that it takes.
    """

    pattern: re.Pattern[bytes]
    template: bytes
    order: Callable[[Sequence[bytes]], Any]


def _shape_of(raw: bytes) -> _Shape | None:
    """Return the shape of a document; None if it has none that others could have."""
    if b"\\" in raw or len(raw) > _LARGEST_SHAPE:
        return None
    try:
        skeleton = _skeleton(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return None
    return _shape(skeleton) if skeleton else None


def _skeleton(value: Any) -> Skeleton | None:
    """Return the keys of an object; None for what is none."""
    if isinstance(value, dict):
        return tuple((key, _skeleton(member)) for key, member in value.items())
    return None


@lru_cache(maxsize=100)
def _shape(skeleton: Skeleton) -> _Shape | None:
    members = _numbered(skeleton, count())
    places = list(_numbers(members))
    if not places:
        return None
    pattern = re.compile(rb"^%b$()" % _pattern(members), re.MULTILINE)
    return _Shape(pattern, _template(members), itemgetter(*places))


def _numbered(skeleton: Skeleton, numbers: Iterator[int]) -> Members:
    """Number the values as they come."""
    return [
        (key, next(numbers) if inner is None else _numbered(inner, numbers))
        for key, inner in skeleton
    ]


def _pattern(members: Members) -> bytes:
    """Write what matches the members in the order they have."""
    parts = (
        re.escape(_print(key).encode()) + b": " + (_VALUE if isinstance(m, int) else _pattern(m))
        for key, m in members
    )
    return rb"\{%b\}" % b", ".join(parts)


def _template(members: Members) -> bytes:
    """Write the members in MySQL's order."""
    parts = (
        _print(key).encode().replace(b"%", b"%%")
        + b": "
        + (b"%b" if isinstance(member, int) else _template(member))
        for key, member in _sorted(members).items()
    )
    return b"{%b}" % b", ".join(parts)


def _numbers(members: Members) -> Iterator[int]:
    """Give the values' numbers in MySQL's order."""
    for member in _sorted(members).values():
        if isinstance(member, int):
            yield member
        else:
            yield from _numbers(member)
