"""Whole columns of row bytes to JSON text. Pure; the hot path.

Going through dicts costs a converter call and an encoder call for each value. Most values are JSON
already, or are except for their quotes. So a column is examined as a whole, and written unchanged
if all of its values can be. Any other column goes value by value through the type's converter, so
that both ways write the same. Then a chunk's rows are joined at once: values and the text between
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice

import orjson

from tap_vitess.protocol.columns import LARGE, Chunk, Images
from tap_vitess.values.decode import unfit
from tap_vitess.values.large import has_large, views
from tap_vitess.values.types import JsonColumn, Values, ValueType, Whole

_NO_WAY = Whole(lambda _: None)


class _Member:
    """A column as a member of the JSON objects."""

    def __init__(self, index: int, name: str, type_: ValueType) -> None:
        self.index = index
        self.name = name
        self.key = orjson.dumps(name) + b":"
        self._convert = type_.convert
        self._whole = type_.whole or _NO_WAY

    def write(self, values: Values, nulls: Collection[int]) -> JsonColumn:
        """Return the column's JSON text.

        Args:
            values: those of some rows, no bytes for NULL.
            nulls: the rows with a NULL.

        Raises:
            ValueError: a value does not fit the type; the error may quote it.
        """
        whole = self._whole
        if not nulls:
            return whole.write(values) or (b"", self._converted(values), b"")
        filling = whole.filling
        if filling is None:
            filling = next(filter(None, values), b"")
        filled = list(values)
        for row in nulls:
            filled[row] = filling
        written = whole.write(filled)
        texts = _closed(*written) if written else self._converted_between(values, nulls)
        told = list(texts)
        for row in nulls:
            told[row] = b"null"
        return b"", told, b""

    def in_pieces(self, value: memoryview | None) -> Iterator[bytes]:
        """Yield a value's JSON text, a huge one's in pieces; raises as `write` does."""
        if value is None:
            yield b"null"
        elif len(value) > LARGE and self._whole.pieces:
            yield from self._whole.pieces(value)
        else:
            opening, (text,), closing = self.write([bytes(value)], ())
            yield from (opening, text, closing)

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
    """Add opening and closing to each text; texts that are written whole have no line ends."""
    if not opening and not closing:
        return texts
    joined = (closing + b"\n" + opening).join(texts)
    return (opening + joined + closing).split(b"\n")


def _joined(rows: int, pieces: Sequence[bytes | Values]) -> bytes:
    """Join the pieces of each row, and the rows; constant neighbours become one piece."""
    row: list[bytes] = []
    columns: dict[int, Values] = {}
    constant = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            constant += piece
            continue
        columns[len(row) + 1] = piece
        row += [constant, b""]
        constant = b""
    row.append(constant)
    joined = row * rows
    for place, texts in columns.items():
        joined[place :: len(row)] = texts
    return b"".join(joined)


class RowEncoder:
    """Writes the rows of one FIELD event as JSON lines, wanted columns only."""

    def __init__(self, where: str, types: Mapping[str, ValueType], wanted: Iterable[str]) -> None:
        """Prepare.

        Args:
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
        """Yield the rows' text, some rows at a time; the text of a huge value comes in pieces.

        Args:
            head: the text before each row's members, each of which ends with a comma.
            tail: the parts after them: a text, or an iterator with a text for each row, from which
                no more than these are taken.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are not whole rows.
        """
        if has_large(images, self._where):
            yield from self._in_pieces(images, head, tail)
            return
        columns = [member.index for member in self._members]
        for chunk in images.chunks(self._width, self._where, columns):
            behind = [p if isinstance(p, bytes) else [*islice(p, chunk.rows)] for p in tail]
            yield _joined(chunk.rows, [*self._pieces(chunk, head), *behind])

    def _in_pieces(
        self, images: Images, head: bytes, tail: Sequence[bytes | Iterator[bytes]]
    ) -> Iterator[bytes]:
        for row in views(images, self._width, self._where):
            # Pieces are written at once, so check the whole row first: no line may be cut.
            deque(self._row_in_pieces(row), maxlen=0)
            yield head
            yield from self._row_in_pieces(row)
            yield b"".join([part if isinstance(part, bytes) else next(part) for part in tail])

    def _row_in_pieces(self, row: Sequence[memoryview | None]) -> Iterator[bytes]:
        for member in self._members:
            yield member.key
            with self._fitting(member.name):
                yield from member.in_pieces(row[member.index])
            yield b","

    @contextmanager
    def _fitting(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as error:  # orjson raises TypeError
            # The cause would quote the value.
            raise unfit(f"{self._where}, column {name}", error) from None

    def _pieces(self, chunk: Chunk, head: bytes) -> Iterator[bytes | Values]:
        yield head
        for member in self._members:
            index = member.index
            with self._fitting(member.name):
                opening, texts, closing = member.write(
                    chunk.values[index], chunk.nulls.get(index, ())
                )
            yield member.key + opening
            yield texts
            yield closing + b","
