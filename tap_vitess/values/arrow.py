"""Rows of one FIELD event -> columns of Arrow's, with no object a row and none a value. Pure.

A response's rows are columns in waiting: all lengths behind each other, all values behind each
other. The running sum of the lengths makes one array of bytes of all values; a column is every n-th
of them, and Arrow's own parsers make the type's values of it. Where one does not look as it should
(a zero date, an escape of Vitess' own), its column is converted value by value, by what else
converts it, so that Arrow, JSON and Python's objects agree; and what one refuses all refuse.

Pyarrow is an extra of this package, `arrow`, and slow to import: it is, when a decoder is made.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ConfigError, ProtocolError
from tap_vitess.protocol.columns import MARK, Images
from tap_vitess.protocol.items import Fields
from tap_vitess.protocol.lengths import varint
from tap_vitess.values.decode import Row, RowDecoder, unfit
from tap_vitess.values.types import Convert, ValueType

_SHORT = bytes([1, *range(0, 0x80, 2)])  # lengths of one byte


def pyarrow() -> Any:
    """Import pyarrow, with its kernels.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.compute  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "rows as Arrow need pyarrow, which is not installed: install tap-vitess[arrow]"
        ) from None
    return pa


def scalar(value: Any, kind: Any) -> Any:
    """Return a scalar; `pyarrow.scalar` looks for dateutil, each time, which takes far longer."""
    return pyarrow().array([value], kind)[0]


def schema_of(types: Mapping[str, ValueType]) -> Any:
    """Return the Arrow schema of columns; any may be null."""
    pa = pyarrow()
    return pa.schema([(name, found.arrow.type(pa)) for name, found in types.items()])


class ArrowDecoder(RowDecoder):
    """Turns the rows of one FIELD event into columns; one by one, into what `array` takes.

    schema: that of the wanted columns.
    """

    def __init__(self, fields: Fields, *args: Any, **more: Any) -> None:
        """Look up the types, see RowDecoder.

        Raises:
            ConfigError: pyarrow is not installed.
            HistoryLostError: Vitess could not tell the columns' names.
        """
        super().__init__(fields, *args, **more)
        self._pa = pyarrow()
        kind = self._pa.int64()
        self._zero, self._below, self._null = (scalar(value, kind) for value in (0, -1, None))
        self._one, self._mark = scalar(1, self._pa.uint8()), scalar(MARK, self._pa.binary())
        wanted = [name for name, convert in self.columns if convert is not None]
        self.schema = schema_of({name: self.types[name] for name in wanted})

    def _form(self, type_: ValueType) -> Convert:
        return type_.arrow.convert

    def decode_all(self, images: Images) -> list[Any]:
        """Return the wanted columns of images.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are no whole rows.
        """
        return [
            self._read(name, column)
            for (name, _), column in zip(self.columns, self._cut(images), strict=True)
            if column is not None
        ]

    def assemble(self, rows: Sequence[Row]) -> list[Any]:
        """Return the wanted columns of rows from `decode`; what one does not have is null.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
        """
        return [
            self._array(name, [row.get(name) for row in rows], self.schema.field(name).type)
            for name in self.schema.names
        ]

    def _read(self, name: str, column: Any) -> Any:
        arrow, kind = self.types[name].arrow, self.schema.field(name).type
        if arrow.parse is not None:
            with suppress(ValueError):
                return arrow.parse(self._pa, column).cast(kind)
        values = column.to_pylist()
        made: dict[bytes | None, Any] = {None: None}
        try:
            made |= {value: arrow.convert(value) for value in {*values} - {None}}
        except ValueError as error:
            # The cause would quote the value.
            raise unfit(f"{self.where}, column {name}", error) from None
        return self._array(name, [made[value] for value in values], kind)

    def _array(self, name: str, values: list[Any], kind: Any) -> Any:
        try:
            return self._pa.array(values, kind)
        except (ValueError, OverflowError):
            raise unfit(f"{self.where}, column {name}", ValueError()) from None

    def _cut(self, images: Images) -> list[Any]:
        """Return the bytes of the wanted columns; None for the others."""
        pa, pc = self._pa, self._pa.compute
        width = len(self.columns) + 1  # the mark behind each row
        sizes, nulls = self._sizes(images.lengths)
        if width == 1 or len(sizes) != images.count * width:
            raise ProtocolError(
                f"{self.where}: rows of other columns than the {width - 1} of their FIELD"
            )
        if (pc.sum(sizes).as_py() or 0) != len(images.values):
            raise self._misfit()
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(sizes)]).cast(
            pa.int32()
        )
        every = pa.Array.from_buffers(
            pa.binary(), len(sizes), [None, offsets.buffers()[1], pa.py_buffer(images.values)]
        )

        def column(index: int) -> Any:
            places = pa.arange(index, len(sizes), width)
            if nulls is not None:
                places = pc.if_else(nulls.take(places), self._null, places)
            return every.take(places)

        if pc.all(pc.equal(column(width - 1), self._mark), skip_nulls=False).as_py() is not True:
            raise self._misfit()
        return [
            None if convert is None else column(index)
            for index, (_, convert) in enumerate(self.columns)
        ]

    def _sizes(self, packed: bytes) -> tuple[Any, Any]:
        """Return the values' sizes, and which are NULL; no such array where none is."""
        pa, pc = self._pa, self._pa.compute
        if not packed.translate(None, _SHORT):
            marks = pa.Array.from_buffers(pa.uint8(), len(packed), [None, pa.py_buffer(packed)])
            nulls = pc.equal(marks, self._one) if b"\x01" in packed else None
            return pc.shift_right(marks, self._one).cast(pa.int64()), nulls
        try:
            row = query.Row.FromString(b"\x0a" + varint(len(packed)) + packed)
        except DecodeError:
            raise ProtocolError(f"{self.where}: a length that is none") from None
        plain = array("q", row.lengths)
        lengths = pa.Array.from_buffers(pa.int64(), len(plain), [None, pa.py_buffer(plain)])
        if pc.min(lengths).as_py() < -1:
            raise ProtocolError(f"{self.where}: a length that is none")
        nulls = pc.equal(lengths, self._below)
        return pc.if_else(nulls, self._zero, lengths), nulls

    def _misfit(self) -> ProtocolError:
        return ProtocolError(f"{self.where}: a row's lengths are not those of its values")
