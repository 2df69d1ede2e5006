"""JSON documents as MySQL prints them, also when they come out of the binlog. Pure.

Vitess prints the binlog's documents itself, and not always as MySQL does (found on 22.0.3):

- DECIMAL numbers may lose their leading zero or gain some: `.5`, `-.25`, `000000007`.
- Keys are in alphabetical order; MySQL sorts them by length first.
- Versions before 22.0.3 and 23.0.1 quote as Go does: `\\x01`, `\\a`, `\\v`, `\\U0001f600`.
- Binary values (opaque, BIT) throw away all that was printed before them. What is left is no JSON,
  except when the whole document is one such value; that is an error here, never a wrong document.

The first three are put right, so that a document has the same bytes in both phases. Not to be seen
from outside, and so not put right: a negative TIME in a document, which Vitess prints wrongly.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# A string, or a number, of which some are none in JSON: `.5`, `-.25`, `000000007`.
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?)([0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?')
_GO_ESCAPE = re.compile(rb"\\(?:x([0-7][0-9a-fA-F])|U([0-9a-fA-F]{8})|([av])|(.))", re.DOTALL)
_GO_LETTERS = {b"a": b"\\u0007", b"v": b"\\u000b"}


class _Number(str):
    """The text of a number, to be written as it was read."""

    __slots__ = ()


class _Object(list[tuple[str, Any]]):
    """The members of an object in the order read."""

    __slots__ = ()


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
    if b"\\u" in raw or not _is_sorted(document):
        return "".join(_print(_parse(raw))).encode()
    return raw


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


def _parse(raw: bytes) -> Any:
    return json.loads(raw, parse_int=_Number, parse_float=_Number, object_pairs_hook=_Object)


def _print(value: Any) -> list[str]:
    """Write in MySQL's spacing and escapes, which are Python's."""
    if isinstance(value, _Number):
        return [str(value)]
    if isinstance(value, _Object):
        parts = ["{"]
        for key, member in sorted(value, key=lambda pair: _order(pair[0])):
            parts += [_quote(key), ": ", *_print(member), ", "]
        return [*(parts[:-1] if value else parts), "}"]
    if isinstance(value, list):
        parts = ["["]
        for member in value:
            parts += [*_print(member), ", "]
        return [*(parts[:-1] if value else parts), "]"]
    return [_quote(value)]


def _quote(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
