"""Rows of one FIELD event -> columns of Arrow's, with no object a row and none a value. Pure.

A response's rows are almost columns: all lengths one after another, and all values. The running
sum of the lengths makes one array of bytes of all values; a column is every n-th
of them, and Arrow's own parsers make the type's values of it. Where one does not look as it should
(a zero date, an escape of Vitess' own), its column is converted value by value, by what else
converts it, so that Arrow, JSON and Python's objects agree; and what one refuses all refuse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tap_vitess.protocol.columns import Images
from tap_vitess.protocol.items import Fields
from tap_vitess.values.arrow_bytes import Cutter
from tap_vitess.values.decode import Row, RowDecoder, unfit
from tap_vitess.values.kernels import kernels, pyarrow
from tap_vitess.values.types import Convert, ValueType

_NAME = "ARROW:extension:name"
_MANY = 1500  # rows from which on comparing columns by kernels is faster


def schema_of(types: Mapping[str, ValueType]) -> Any:
    """Return the Arrow schema of columns; any may be null."""
    pa = pyarrow()
    return pa.schema(
        [
            pa.field(name, found.arrow.type(pa), metadata=_extension(found.arrow.extension))
            for name, found in types.items()
        ]
    )


def located(schema: Any, srids: Mapping[str, int | None]) -> Any:
    """Return a schema whose columns of geometries tell their CRS, where all values have one.

    That is what GeoArrow says: PROJ's spelling, and nothing for an SRID of 0, which is a plane.
    """
    fields = list(schema)
    for place, field in enumerate(fields):
        srid = srids.get(field.name)
        if field.metadata and srid:
            name = field.metadata[_NAME.encode()].decode()
            fields[place] = field.with_metadata(_extension(name, f"EPSG:{srid}"))
    return pyarrow().schema(fields)


def _extension(name: str | None, crs: str | None = None) -> dict[str, str] | None:
    """Write what a field tells of its extension type, without one that had to be registered."""
    if name is None:
        return None
    told = {} if crs is None else {"crs": crs, "crs_type": "authority_code"}
    return {_NAME: name, "ARROW:extension:metadata": json.dumps(told)}


class ArrowDecoder(RowDecoder):
    """Turns the rows of one FIELD event into columns; one by one, into what `array` takes.

    schema: that of the wanted columns.
    """

    def __init__(self, fields: Fields, *args: Any, **more: Any) -> None:
        """Look up the types, see RowDecoder.

        Raises:
            ConfigError: pyarrow is not installed.
            HistoryLostError: Vitess did not know the columns' names.
        """
        super().__init__(fields, *args, **more)
        self._kernels = kernels()
        self._wanted = [i for i, (_, convert) in enumerate(self.columns) if convert is not None]
        names = [self.columns[index][0] for index in self._wanted]
        self.schema = schema_of({name: self.types[name] for name in names})
        self._cutter = Cutter(self._kernels, len(self.columns), self.where)

    def _form(self, type_: ValueType) -> Convert:
        return type_.arrow.convert

    def decode_all(self, images: Images) -> list[Any]:
        """Return the wanted columns of images.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
            ProtocolError: the images are not whole rows.
        """
        columns = self._cutter.cut(images, self._wanted)
        return [*map(self._read, self.schema, columns)]

    def are_same(self, one: Images, other: Images, columns: Sequence[int]) -> bool:
        """See RowDecoder; of many rows by Arrow's kernels, in half the time."""
        if one.count < _MANY:
            return super().are_same(one, other, columns)
        both = (self._cutter.cut(images, columns) for images in (one, other))
        return all(own.equals(others) for own, others in zip(*both, strict=True))

    def assemble(self, rows: Sequence[Row]) -> list[Any]:
        """Return the wanted columns of rows from `decode`; what one does not have is null.

        Raises:
            ValueDecodeError: a value does not fit its column's type.
        """
        return [
            self._array(name, [row.get(name) for row in rows], self.schema.field(name).type)
            for name in self.schema.names
        ]

    def _read(self, field: Any, column: Any) -> Any:
        name, kind = field.name, field.type
        arrow = self.types[name].arrow
        if arrow.parse is not None:
            with suppress(ValueError):
                found = arrow.parse(self._kernels, column)
                return found if found.type == kind else self._kernels.cast(found, kind)
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
            return self._kernels.array(values, kind)
        except (ValueError, OverflowError):
            raise unfit(f"{self.where}, column {name}", ValueError()) from None
