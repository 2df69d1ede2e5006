"""A type's entry: its values as JSON, Python object and Arrow, and the settings that choose. Pure.

A `ValueType` is one column's entry. It holds all forms of its values, so they cannot disagree: the
JSON schema, one value as JSON, a whole column as JSON text, one value as Python's object, a whole
column as Arrow's. The entries are in numbers.py, times.py, texts.py, documents.py and geometry.py,
by kind of type, and `mysql_types.py` looks them up.

The same value comes in different bytes: copied rows are MySQL's text protocol, streamed ones
Vitess' own decoding of the binlog. Each entry takes both and gives one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

JsonSchema = dict[str, Any]
Convert = Callable[[bytes], Any]
Values = Sequence[bytes]
# A column's values as JSON text: what opens each, their text, what closes each.
JsonColumn = tuple[bytes, Values, bytes]

# Where a catalog keeps precision and scale: the SDK's catalogs drop the keywords themselves.
DATATYPE_PROPERTIES = "x-sql-datatype-properties"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueOptions:
    """How values of some types are written; field names are the settings'."""

    unsigned_bigint_as: Literal["integer", "decimal", "string"] = "integer"
    tinyint1_as: Literal["integer", "boolean"] = "integer"
    bit1_as: Literal["integer", "boolean"] = "integer"
    decimal_as: Literal["string", "number"] = "string"
    float_as: Literal["selected", "stored"] = "selected"
    zero_dates: Literal["null", "error", "string"] = "null"
    invalid_text: Literal["error", "replace"] = "error"
    binary_as: Literal["base64", "hex"] = "base64"
    json_as: Literal["object", "string"] = "object"
    set_as: Literal["string", "array"] = "string"
    geometry_as: Literal["geojson", "wkt", "wkb"] = "geojson"


DEFAULTS = ValueOptions()


class UnfitError(ValueError):
    """A value does not fit its column; unlike other ValueErrors, the message never quotes it."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Writes a column of bytes as JSON text at once, without converting each value.

    write: takes values, one at least; gives None when one of them does not look as it should, and
    each has to be converted. What it writes is what `convert` comes to. filling: stands in for
    NULL; None for the first value that there is, where all have to look alike. pieces: writes one
    huge value piece by piece; raises ValueError when it does not fit the type.
    """

    write: Callable[[Values], JsonColumn | None]
    filling: bytes | None = b"0"
    pieces: Callable[[memoryview], Iterable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A column as Arrow holds it. `arrow.py` imports pyarrow, when rows are asked for so; here and
    in the entries it is an argument.

    type: makes the type, of pyarrow. convert: makes what `pyarrow.array` takes for a value of it;
    raises as `ValueType.convert` does. parse: makes an array of one of bytes, at once, which can be
    cast to the type; its values are what `convert` comes to. It raises ValueError when one does not
    look as it should, and each has to be converted; None where they always have to. extension:
    the name of what such columns are to others, told in the schema.
    """

    type: Callable[[Any], Any]
    convert: Convert
    parse: Callable[[Any, Any], Any] | None = None
    extension: str | None = None


@dataclass(frozen=True, slots=True)
class ValueType:
    """What becomes of the bytes of a column's values that are not NULL.

    schema: the JSON schema, without null. convert: makes what `json` or orjson can write. python:
    makes the object that PyMySQL gives for a SELECT of the row, whatever the settings say of JSON;
    but JSON is parsed, and a VECTOR is a list of floats. Both raise ValueError when the bytes do
    not fit the type, and only an UnfitError never quotes them. arrow: what Arrow makes of a column
    of them; of the settings, `zero_dates`, `set_as` and those of text and of floats count. whole:
    writes a column of them as JSON text; None where each must be converted. warning: what the user
    should know of the column.
    """

    schema: JsonSchema
    convert: Convert
    python: Convert
    arrow: Arrow
    whole: Whole | None = None
    warning: str | None = None

    def nullable(self) -> JsonSchema:
        """Return the schema with null added to its types."""
        types = self.schema["type"]
        names = [types] if isinstance(types, str) else list(types)
        return {**self.schema, "type": names if "null" in names else [*names, "null"]}

    def as_text(self) -> ValueType:
        """Turn a value that is not text into its JSON text."""

        def text(raw: bytes) -> str | None:
            value = self.convert(raw)
            if value is None or isinstance(value, str):
                return value
            return orjson.dumps(value).decode()

        return replace(self, convert=text, whole=None)


def spelled(pa: Any, column: Any, letters: bytes) -> Any:
    """Return a column of bytes, which has a buffer of its own, as one of text.

    Raises:
        ValueError: there are others than these letters.
    """
    if written(column).translate(None, letters):
        raise ValueError("other letters")
    return column.view(pa.string())  # all letters are of one byte


def written(column: Any) -> bytes:
    """Return what a column of bytes holds, which has its own buffer, one value after another."""
    buffer = column.buffers()[2]
    return b"" if buffer is None else bytes(buffer)


@dataclass(frozen=True, slots=True)
class Declared:
    """A column as its entry sees it: `decimal(10,2) unsigned` is name, arguments and the rest.

    charset: MySQL's name; only text, ENUM and SET look at it. options: the settings. copying:
    whether the values come from a copy or from the binlog. labelled: whether the binlog's ENUM and
    SET come as labels; before Vitess 20 they come as an index and a bitmap. key: whether the
    column is part of the stream's key, which cannot be null.
    """

    name: str
    arguments: str
    attributes: str
    charset: str | None
    options: ValueOptions
    copying: bool
    labelled: bool
    key: bool
