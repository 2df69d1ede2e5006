"""Columns of row bytes -> JSON. Pure; the hot path.

A converter and an encoder call a value is what the way over dicts costs. Most values are JSON
already, or are but for their quotes: here a column is looked at as a whole, and taken as it is
when all of it may be. Any other goes value by value through the type's own converter, so that
both ways write the same. Then a chunk's rows are joined at once, values and what is between them.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import compress, islice

import orjson

from tap_vitess.protocol.columns import Chunk, Images
from tap_vitess.values import documents
from tap_vitess.values.decode import unfit
from tap_vitess.values.documents import join
from tap_vitess.values.entries import Convert, Raw, ValueType

Values = Sequence[bytes]
# What a column's values are as they stand: what opens each, their text, what closes each.
Plain = tuple[bytes, Values, bytes]
Way = Callable[[Values], Plain | None]


# Without leading zeros; a decimal of nothing has no sign.
_DECIMALS = re.compile(
    rb"N(?:,N)*".replace(b"N", rb"(?:(?:0|-?[1-9][0-9]*)(?:\.[0-9]+)?|-0\.0*[1-9][0-9]*)")
)
_OF_INTEGERS, _OF_DECIMALS = b"0123456789-,", b"0123456789-,."


def _are(values: Values, letters: bytes) -> bool:
    """Tell whether all are numbers as JSON has them, of these letters; -0 is none."""
    joined = b",".join(values)
    if joined.translate(None, letters):
        return False
    if b"-0" in joined:
        alone = joined.count(b",") == len(values) - 1
        return alone and _DECIMALS.fullmatch(joined) is not None
    # Nothing but numbers, none of them with an exponent, can be made of these letters: so JSON's
    # grammar is the pattern's, and its parser the faster one.
    try:
        return len(orjson.loads(b"[%b]" % joined)) == len(values)
    except orjson.JSONDecodeError:
        return False


def _integer(values: Values) -> Plain | None:
    return (b"", values, b"") if _are(values, _OF_INTEGERS) else None


def _number(values: Values) -> Plain | None:
    return (b"", values, b"") if _are(values, _OF_DECIMALS) else None


_UNESCAPED = bytes(byte for byte in range(0x20, 0x100) if byte not in b'"\\')


def _text(values: Values) -> Plain | None:
    """Take UTF-8 without what JSON escapes: quote, backslash and control characters."""
    # A blank between two, so that broken bytes of one and the next do not make a letter.
    joined = b" ".join(values)
    if joined.translate(None, _UNESCAPED):
        return None
    if not joined.isascii():
        try:
            joined.decode()
        except UnicodeDecodeError:
            return None
    return b'"', values, b'"'


def _decimal(values: Values) -> Plain | None:
    return (b'"', values, b'"') if _are(values, _OF_DECIMALS) else None


def _float(values: Values) -> Plain | None:
    try:
        numbers = list(map(float, values))
    except ValueError:
        return None
    if not all(map(math.isfinite, numbers)):
        return None
    return b"", orjson.dumps(numbers)[1:-1].split(b","), b""


def _moment(values: Values) -> Plain | None:
    """Take moments of the calendar, which Python reads as MySQL writes them."""
    shape = values[0].translate(_DIGITS)
    joined = b"\n".join(values)
    if shape not in _SHAPES or joined.translate(_DIGITS) + b"\n" != (shape + b"\n") * len(values):
        return None
    try:
        deque(map(datetime.fromisoformat, joined.decode().split("\n")), maxlen=0)
    except ValueError:
        return None
    return b'"', joined.replace(b" ", b"T").split(b"\n"), b'+00:00"'


_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_SECOND = b"0000-00-00 00:00:00"
_SHAPES = frozenset([_SECOND, *(_SECOND + b"." + b"0" * digits for digits in range(1, 7))])


def _document(values: Values) -> Plain | None:
    try:
        documents.check(values)
    except ValueError:
        return None
    return b"", _in_one_line(values), b""


def _in_one_line(values: Values) -> Values:
    if b"\n" not in b"".join(values):
        return values
    return [value.replace(b"\n", b" ") for value in values]


def _no_way(_: Values) -> None:
    return None


_WAYS: dict[Raw, Way] = {
    Raw.NUMBER: _number,
    Raw.TEXT: _text,
    Raw.DECIMAL: _decimal,
    Raw.FLOAT: _float,
    Raw.MOMENT: _moment,
    Raw.DOCUMENT: _document,
    Raw.CONVERT: _no_way,
}


_FILLINGS = {
    Raw.TEXT: b"",
    Raw.MOMENT: b"2000-01-01 00:00:00",
}


def _way_of(type_: ValueType) -> Way:
    whole = type_.raw is Raw.NUMBER and type_.schema["type"] == "integer"
    return _integer if whole else _WAYS[type_.raw]


class _Member:
    """A column as a member of the JSON object."""

    def __init__(self, index: int, name: str, type_: ValueType) -> None:
        self.index = index
        self.name = name
        self.key = orjson.dumps(name) + b":"
        self._plain = _way_of(type_)
        self._filling = _FILLINGS.get(type_.raw, b"0")  # stands in for NULL
        self._fill_alike = type_.raw is Raw.MOMENT
        self._convert: Convert = type_.convert

    def write(self, values: Values, nulls: Collection[int]) -> Plain:
        """Return the column's JSON text.

        Args:
            values: those of some rows, no bytes for NULL.
            nulls: the rows that hold a NULL.

        Raises:
            ValueError: a value does not fit the type; the error may quote it.
        """
        if not nulls:
            return self._plain(values) or (b"", self._converted(values), b"")
        filling = self._filling
        if self._fill_alike:
            filling = next(filter(None, values), filling)
        filled = list(values)
        for row in nulls:
            filled[row] = filling
        plain = self._plain(filled)
        texts = _closed(*plain) if plain else self._converted_between(values, nulls)
        told = list(texts)
        for row in nulls:
            told[row] = b"null"
        return b"", told, b""

    def _converted(self, values: Values) -> Values:
        convert, dumps = self._convert, orjson.dumps
        texts = {value: dumps(convert(value)) for value in set(values)}
        return [texts[value] for value in values]

    def _converted_between(self, values: Values, nulls: Collection[int]) -> Values:
        there = bytearray(b"\x01") * len(values)
        for row in nulls:
            there[row] = 0
        texts = iter(self._converted(list(compress(values, there))))
        return [next(texts) if is_there else b"" for is_there in there]


def _closed(opening: bytes, texts: Values, closing: bytes) -> Values:
    """Put what opens and closes each text to it; plain text has no line ends."""
    if not opening and not closing:
        return texts
    joined = (closing + b"\n" + opening).join(texts)
    return (opening + joined + closing).split(b"\n")


class RowEncoder:
    """Writes the rows of one FIELD event as JSON lines, wanted columns only."""

    def __init__(self, where: str, types: Mapping[str, ValueType], wanted: Iterable[str]) -> None:
        """Prepare.

        Args:
            where: keyspace, table and shard, for errors.
            types: the FIELD event's columns in order.
            wanted: the names of those to write.
        """
        self._where = where
        self._width = len(types)
        chosen = frozenset(wanted)
        self._members = [
            _Member(index, name, type_)
            for index, (name, type_) in enumerate(types.items())
            if name in chosen
        ]

    def encode(
        self, images: Images, head: bytes, tail: Sequence[bytes | Iterator[bytes]]
    ) -> Iterator[bytes]:
        """Yield the rows' text, some rows at a time.

        Args:
            images: the rows.
            head: what stands before each row's members, each of which ends with a comma.
            tail: what stands behind them: text, or a text for each row. An iterator is not asked
                for more than there are rows.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are no whole rows.
        """
        columns = [member.index for member in self._members]
        for chunk in images.chunks(self._width, self._where, columns):
            behind = [p if isinstance(p, bytes) else [*islice(p, chunk.rows)] for p in tail]
            yield join(chunk.rows, [*self._pieces(chunk, head), *behind])

    def _pieces(self, chunk: Chunk, head: bytes) -> Iterator[bytes | Values]:
        yield head
        for member in self._members:
            try:
                index = member.index
                opening, texts, closing = member.write(
                    chunk.values[index], chunk.nulls.get(index, ())
                )
            except ValueError as error:
                # The cause would quote the value.
                raise unfit(f"{self._where}, column {member.name}", error) from None
            yield member.key + opening
            yield texts
            yield closing + b","


def same_columns(
    one: Images, other: Images, width: int, indexes: Sequence[int], where: str
) -> bool:
    """Tell whether two images of each row have the same bytes in some columns, given in order.

    Raises:
        ProtocolError: the images are no whole rows.
    """
    return all(
        own == others
        for own, others in zip(
            one.chunks(width, where, indexes), other.chunks(width, where, indexes), strict=True
        )
    )
