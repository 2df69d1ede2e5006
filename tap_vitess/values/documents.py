"""JSON documents, from copies and from the binlog. Pure.

Vitess prints the binlog's documents itself, and not always as MySQL does (found on 22.0.3):

- DECIMAL numbers may lose their leading zero or gain some: `.5`, `-.25`, `000000007`.
- Versions before 22.0.3 and 23.0.1 quote as Go does: `\\x01`, `\\a`, `\\v`, `\\U0001f600`.
- Binary values (opaque, BIT) discard everything printed before them. The rest is not JSON, unless
  the whole document is one such value. That is an error here, never a wrong document.
- Keys come in alphabetical order (MySQL sorts them by length first), some large DOUBLEs have an
  exponent (`3.7398049795906415e15` for 3739804979590641.5), and some letters are escaped.

The first two are corrected. The last is the same document in other words, and stays. One fault
cannot be seen from outside, and so stays: Vitess prints a negative TIME in a document wrongly.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from tap_vitess.values.types import (
    Arrow,
    Declared,
    JsonColumn,
    UnfitError,
    Values,
    ValueType,
    Whole,
)

# A string, or a number, perhaps one that JSON does not allow: `.5`, `-.25`, `000000007`.
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"?|(-?)([0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?')
_GO_ESCAPE = re.compile(rb"\\(?:x([0-7][0-9a-fA-F])|U([0-9a-fA-F]{8})|([av])|(.))", re.DOTALL)
# Documents checked at a time: each becomes an object that the garbage collector counts, and so few
# do not start it.
_AT_ONCE = 500
_GO_LETTERS = {b"a": b"\\u0007", b"v": b"\\u000b"}


def document(column: Declared) -> ValueType:
    """Enter JSON."""
    read = from_copy if column.copying else from_binlog

    def text(raw: bytes) -> bytes:
        try:
            return read(raw)
        except ValueError:
            raise UnfitError(
                "not JSON: Vitess loses a part of streamed documents that hold binary values; "
                "copy the table again, or deselect the column"
            ) from None

    def as_text(raw: bytes) -> str:
        return text(raw).decode()

    def python(raw: bytes) -> Any:
        return _parsed(text(raw))

    arrow = Arrow(lambda pa: pa.json_(), as_text, _checked)
    if column.options.json_as == "string":
        return ValueType({"type": "string"}, as_text, as_text, arrow)
    return ValueType(
        {"type": ["object", "array", "string", "number", "boolean", "null"]},
        # The text itself, so that no number changes.
        lambda raw: orjson.Fragment(text(raw).replace(b"\n", b" ")),
        python,
        arrow,
        DOCUMENTS,
    )


def _checked(kernels: Any, column: Any) -> Any:
    pa = kernels.pa
    text = kernels.cast(column, pa.string())  # checks the UTF-8
    there = kernels.drop_null(column) if column.null_count else column
    joined = there.buffers()[2]  # a single one may be huge, and needs no join
    if len(there) != 1:
        ends = kernels.array([0, len(there)], pa.int32())
        lines = pa.ListArray.from_arrays(ends, there)
        joined = kernels.binary_join(lines, b"\n")[0].as_buffer()
    if not _are_documents(kernels, memoryview(joined), there):
        check(there.to_pylist())
    return pa.ExtensionArray.from_storage(pa.json_(), text)  # a cast would copy it


def _are_documents(kernels: Any, joined: memoryview, column: Any) -> bool:
    """Return whether a column of bytes has only documents; `joined` has them as lines."""
    ends = memoryview(column.buffers()[1]).cast("i")
    sizes = memoryview(kernels.binary_length(column).buffers()[1] or b"").cast("i")
    for first in range(0, len(column), _AT_ONCE):
        last = min(first + _AT_ONCE, len(column))
        lines = joined[ends[first] + first : ends[last] + last]
        if not _are_lines(lines, sizes[first:last].tolist()):
            return False
    return True


def plain(value: Any) -> Any:
    """Return a converted value as plain Python objects, which stream maps need.

    A number that a float cannot hold with all its digits becomes a Decimal.
    """
    return _parsed(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def _parsed(text: bytes) -> Any:
    return json.loads(text, parse_float=_number)


def _number(text: str) -> float | Decimal:
    value = float(text)
    exact = Decimal(text)
    return value if math.isfinite(value) and Decimal(repr(value)) == exact else exact


def from_copy(raw: bytes) -> bytes:
    """Check a document that MySQL has printed; raises ValueError: it is not JSON."""
    check([raw])
    return raw


def check(values: Sequence[bytes]) -> None:
    """Check documents without parsing them into objects, in a third of the time.

    Raises:
        ValueError: one of them is not JSON.
    """
    joined = b"\n".join(values)
    # The grammar's checker ignores UTF-8. The newline keeps broken ends from forming a character.
    if not joined.isascii():
        joined.decode()
    if _are_lines(joined, [*map(len, values)]):
        return
    checker, refused = _checker()
    try:
        deque(map(checker.decode, values), maxlen=0)
    except (refused, RecursionError):
        raise ValueError("not JSON, or nested deeper than MySQL's 100 levels") from None


def _are_lines(joined: Any, lengths: Sequence[int]) -> bool:
    """Return whether each line is a document: what is read of it has its full length.

    So none ends within another, nor begins with a blank. UTF-8 is not checked.
    """
    checker, refused = _checker()
    try:
        return [*map(len, checker.decode_lines(joined))] == lengths
    except (refused, RecursionError):
        return False


@cache
def _checker() -> tuple[Any, type[Exception]]:
    import msgspec  # noqa: PLC0415 - 10 ms, for those that have documents

    return msgspec.json.Decoder(msgspec.Raw), msgspec.DecodeError


def from_binlog(raw: bytes) -> bytes:
    """Return a document that Vitess has printed, as JSON.

    Raises:
        ValueError: it is not JSON and cannot be repaired, because Vitess has lost a part of it; or
            it is nested far deeper than MySQL's 100 levels.
    """
    try:
        return from_copy(raw)
    except ValueError:
        return from_copy(_STRING_OR_NUMBER.sub(_repair, raw))


def _repair(match: re.Match[bytes]) -> bytes:
    text = match[0]
    if text[:1] == b'"':
        return _GO_ESCAPE.sub(_unescape, text) if b"\\" in text else text
    sign, whole, fraction, exponent = match.groups()
    if not (whole or fraction):
        return text
    return (sign or b"") + (whole.lstrip(b"0") or b"0") + (fraction or b"") + (exponent or b"")


def _unescape(match: re.Match[bytes]) -> bytes:
    """Turn Go's escape into JSON's; an escape of a broken byte stays, and fails later."""
    control, wide, letter, _ = match.groups()
    if control:
        return b"\\u00" + control
    if wide:
        code = int(wide, 16)
        return chr(code).encode() if code < 0x110000 else match[0]
    return _GO_LETTERS[letter] if letter else match[0]


def _write_documents(values: Values) -> JsonColumn | None:
    try:
        check(values)
    except ValueError:
        return None
    if b"\n" in b"".join(values):
        values = [value.replace(b"\n", b" ") for value in values]
    return b"", values, b""


DOCUMENTS = Whole(_write_documents)
