"""JSON documents as MySQL prints them, also when they come out of the binlog. Pure.

Vitess prints the binlog's documents itself, and not always as MySQL does (found on 22.0.3):

- DECIMAL numbers may lose their leading zero or gain some: `.5`, `-.25`, `000000007`.
- Keys are in alphabetical order; MySQL sorts them by length first.
- Some large DOUBLEs have an exponent: `3.7398049795906415e15` for MySQL's 3739804979590641.5.
- Versions before 22.0.3 and 23.0.1 quote as Go does: `\\x01`, `\\a`, `\\v`, `\\U0001f600`.
- Binary values (opaque, BIT) throw away all that was printed before them. What is left is no JSON,
  except when the whole document is one such value; that is an error here, never a wrong document.

The first, second and fourth are put right, so that a document has the same bytes in both phases;
the third is the same number, and left. Not to be seen from outside, and so not put right: a
negative TIME in a document, which Vitess prints wrongly.

Almost every streamed object has its keys in another order than MySQL's, and parsing and printing
it anew is what streaming costs most. The documents of a column mostly have the same keys: what
finds the values in one finds them in the others, and they need only be put in another order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import count
from operator import itemgetter
from typing import Any

import orjson

from tap_vitess.vstream.join import join

# A string, or a number, of which some are none in JSON: `.5`, `-.25`, `000000007`.
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?)([0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?')
_GO_ESCAPE = re.compile(rb"\\(?:x([0-7][0-9a-fA-F])|U([0-9a-fA-F]{8})|([av])|(.))", re.DOTALL)
_GO_LETTERS = {b"a": b"\\u0007", b"v": b"\\u000b"}

# Values that have no keys to be sorted, of strings only those that are spelt in one way.
_TEXT = rb'"[^"\\\x00-\x1f]*"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,2})?"
_SCALAR = rb"(?:%b|%b|true|false|null)" % (_TEXT, _NUMBER)
_VALUE = rb"(%b|\[(?:%b(?:, %b)*)?\])" % (_SCALAR, _SCALAR, _SCALAR)

_SHAPES = 4  # of a column
_VALUES = 30  # of a shape
_LARGEST = 10_000  # bytes of a document that is held against shapes
_MANY = 8  # documents that are looked at as one text
_MISSES = 200
_MIXED = 5

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
    check([raw])
    return raw


def check(values: Sequence[bytes]) -> None:
    """Check documents without reading them, which takes a third of the time.

    Raises:
        ValueError: one of them is no JSON.
    """
    # What checks the grammar does not look at letters. A blank between two, so that broken bytes
    # of one and the next do not make one.
    joined = b" ".join(values)
    if not joined.isascii():
        joined.decode()
    skip, refused = _checker()
    try:
        deque(map(skip, values), maxlen=0)
    except (refused, RecursionError):
        raise ValueError("not JSON, or nested deeper than MySQL's 100 levels") from None


@cache
def _checker() -> tuple[Callable[[bytes], object], type[Exception]]:
    import msgspec  # noqa: PLC0415 - 10 ms, for those that have documents

    return msgspec.json.Decoder(msgspec.Raw).decode, msgspec.DecodeError


def from_binlog(raw: bytes) -> bytes:
    """Return a document that Vitess has printed as MySQL would print it.

    Raises:
        ValueError: it is no JSON and cannot be made JSON: Vitess has lost a part of it; or it is
            nested far deeper than MySQL's 100 levels.
    """
    try:
        return _as_mysql_prints(raw)
    except RecursionError:
        raise ValueError("nested deeper than MySQL's 100 levels") from None


def _as_mysql_prints(raw: bytes) -> bytes:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raw = _STRING_OR_NUMBER.sub(_repair, raw)
        document = orjson.loads(raw)
    return _rearranged(raw) if b"\\u" in raw or not _is_sorted(document) else raw


class Printer:
    """Prints the documents of one column as `from_binlog` does, fast where their keys are alike.

    A shape is made of keys that were met twice, for making it costs milliseconds; and after many
    documents that had none of the shapes no more are looked for.
    """

    def __init__(self) -> None:
        """Begin without shapes."""
        self._shapes: list[_Shape] = []  # that which was met last comes first
        self._met: set[Skeleton] = set()
        self._misses = 0
        self._mixed = 0  # how often in a row many documents were not all of one shape

    def print(self, value: bytes) -> bytes:
        """Print one document.

        Raises:
            ValueError: it is no JSON.
        """
        if len(value) > _LARGEST:
            return from_binlog(value)
        if not value.isascii():
            value.decode()  # patterns of bytes do not tell broken UTF-8
        for i, shape in enumerate(self._shapes):
            if match := shape.pattern.fullmatch(value):
                if i:
                    self._shapes.insert(0, self._shapes.pop(i))
                found: bytes = shape.template % shape.order(match.groups())
                return found
        self._learn(value)
        return from_binlog(value)

    def print_all(self, values: Sequence[bytes]) -> list[bytes]:
        """Print many.

        Raises:
            ValueError: one of them is no JSON.
        """
        if len(values) >= _MANY and not self._shapes:
            for value in values[:2]:
                self._learn(value)
        return self._all_of_one_shape(values) or list(map(self.print, values))

    def _all_of_one_shape(self, values: Sequence[bytes]) -> list[bytes] | None:
        if len(values) < _MANY or not self._shapes or self._mixed > _MIXED:
            return None
        shape = self._shapes[0]
        joined = b"\n".join(values)
        joined.decode()
        if shape.flat and (arranged := shape.flat.arrange(values, joined)):
            self._mixed = 0
            return arranged
        if max(map(len, values)) > _LARGEST:
            return None
        found = shape.pattern.findall(joined)
        if len(found) != len(values) or joined.count(b"\n") != len(values) - 1:
            self._mixed += 1
            return None
        self._mixed = 0
        return [shape.template % shape.order(groups) for groups in found]

    def _learn(self, value: bytes) -> None:
        """Make a shape of a document's keys when they are met a second time."""
        if self._misses > _MISSES or len(self._shapes) >= _SHAPES:
            return
        self._misses += 1
        skeleton = _skeleton_of(value)
        if skeleton in self._met and (shape := _shape(skeleton)) not in self._shapes:
            self._shapes.insert(0, shape)
        elif skeleton:
            self._met.add(skeleton)


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
    """Print a document anew; meanwhile its numbers are strings that begin with a mark.

    The mark is a NUL, or where the document has NULs of its own what it cannot have: its checksum.
    """
    own = b"\\u0000" in raw
    checksum = hashlib.blake2b(raw, digest_size=16).hexdigest() if own else ""
    text = _print(_reader("\0" + checksum)(raw.decode()))
    return re.sub(rf'"\\u0000{checksum}([^"]+)"', r"\1", text).encode()


@lru_cache(maxsize=2)
def _reader(mark: str) -> Callable[[str], Any]:
    """Return what reads a document with its keys sorted, and marks its numbers."""
    number = mark.__add__
    return json.JSONDecoder(object_pairs_hook=_sorted, parse_int=number, parse_float=number).decode


def _sorted(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(members, key=lambda member: _order(member[0])))


@dataclass(frozen=True, slots=True)
class _Shape:
    """Finds the values in documents of some keys, and puts them in MySQL's order.

    pattern: of a line that is such a document; its groups are the values, and one more, so that
    there are always several. template: the document with %b for each value. order: picks the
    groups that it takes. flat: the same, faster, for objects in which there are no others.
    """

    pattern: re.Pattern[bytes]
    template: bytes
    order: Callable[[Sequence[bytes]], Any]
    flat: _FlatShape | None


class _FlatShape:
    """Finds the values by what stands before each."""

    def __init__(self, members: Members) -> None:
        self._streamed = _openings(key for key, _ in members)
        self._printed = _openings(_sorted(members))
        self._order = [*_numbers(members)]

    def arrange(self, values: Sequence[bytes], joined: bytes) -> list[bytes] | None:
        """Put the values of documents in MySQL's order; None when they are not of this shape.

        Args:
            values: the documents.
            joined: the same as lines, in UTF-8.
        """
        width = len(self._order)
        # Without escapes `":` is the end of a key and nothing else: no object has more of them.
        count = len(values) * width
        if b"\\" in joined:
            return None
        if joined.count(b":") != count and joined.count(b'":') != count:
            return None
        first, *others = self._streamed
        text = joined[len(first) : -1].replace(b"}\n" + first, b"\n")
        for opening in others:
            text = text.replace(opening, b"\n")
        parts = text.split(b"\n")
        if len(parts) != count:
            return None
        members = [parts[i::width] for i in range(width)]
        if _lines(len(values), self._streamed, members) != joined + b"\n":
            return None
        try:
            check(values)
        except ValueError:
            return None
        ordered = [members[i] for i in self._order]
        return _lines(len(values), self._printed, ordered).split(b"\n")[:-1]


def _openings(keys: Iterable[str]) -> list[bytes]:
    """Return what stands before each value of an object."""
    printed = [b", %b: " % _print(key).encode() for key in keys]
    return [b"{" + printed[0].removeprefix(b", "), *printed[1:]]


def _lines(rows: int, openings: Sequence[bytes], members: Sequence[Sequence[bytes]]) -> bytes:
    pieces = [piece for pair in zip(openings, members, strict=True) for piece in pair]
    return join(rows, [*pieces, b"}\n"])


def _skeleton_of(raw: bytes) -> Skeleton | None:
    """Return the keys of a document; None if there are none that others could have."""
    if b"\\" in raw or len(raw) > _LARGEST:
        return None
    try:
        skeleton = _skeleton(orjson.loads(raw))
    except (orjson.JSONDecodeError, RecursionError):
        return None
    return skeleton if skeleton and 0 < _count(skeleton) <= _VALUES else None


def _count(skeleton: Skeleton) -> int:
    """Count the values."""
    return sum(1 if inner is None else _count(inner) for _, inner in skeleton)


def _skeleton(value: Any) -> Skeleton | None:
    """Return the keys of an object; None for what is none."""
    if isinstance(value, dict):
        return tuple((key, _skeleton(member)) for key, member in value.items())
    return None


@lru_cache(maxsize=100)
def _shape(skeleton: Skeleton) -> _Shape:
    members = _numbered(skeleton, count())
    pattern = re.compile(rb"^%b$()" % _pattern(members), re.MULTILINE)
    # What stands before a value could be the end of one string and the beginning of another where
    # its key begins with what may follow a string.
    plain = all(isinstance(i, int) and key[:1] not in {*",:]} "} for key, i in members)
    flat = _FlatShape(members) if plain else None
    return _Shape(pattern, _template(members), itemgetter(*_numbers(members)), flat)


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
