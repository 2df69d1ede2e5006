"""A type's entry: its values as JSON, Python object and Arrow, and the settings that choose. Pure.

A `ValueType` is one column's entry. It holds all forms of its values, so they cannot disagree: the
JSON schema, one value as JSON, a whole column as JSON text, one value as Python's object, a whole
column as Arrow's. The entries are in numbers.py, times.py, texts.py, documents.py and geometry.py,
by kind of type, and `mysql_types.py` looks them up.

The same value comes in different bytes: copied rows are MySQL's text protocol, streamed ones
Vitess' own decoding of the binlog. Each entry accepts both and returns the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

JsonSchema = dict[str, Any]
Convert = Callable[[bytes], Any]
Values = Sequence[bytes]
# A column's values as JSON text: the opening of each, their texts, the closing of each.
JsonColumn = tuple[bytes, Values, bytes]

# Where a catalog keeps precision and scale: the SDK's catalogs drop the keywords themselves.
DATATYPE_PROPERTIES = "x-sql-datatype-properties"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueOptions:
    """How values of some types are written; the fields have the settings' names."""

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

    write: takes at least one value; returns None if one has an unexpected form, so that each must
    be converted. It writes the same as `convert`. filling: replaces NULL; None means the first
    value, for types whose values must all look alike. pieces: writes one huge value piece by piece;
    raises ValueError if it does not fit the type.
    """

    write: Callable[[Values], JsonColumn | None]
    filling: bytes | None = b"0"
    pieces: Callable[[memoryview], Iterable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A column as Arrow data. Only `kernels.py` imports pyarrow; here and in the entries it is an
    argument.

    type: returns pyarrow's type. convert: converts a value for `pyarrow.array`; raises the errors
    of `ValueType.convert`. parse: converts a whole array of bytes at once, with `Kernels`, into one
    that can be cast to the type and has the same values as by `convert`. It raises ValueError if a
    value has an unexpected form, so that each must be converted; None if they always must.
    extension: the name of the column's extension type, for the schema.
    """

    type: Callable[[Any], Any]
    convert: Convert
    parse: Callable[[Any, Any], Any] | None = None
    extension: str | None = None


@dataclass(frozen=True, slots=True)
class ValueType:
    """How the bytes of a column's values are converted, except NULL.

    schema: the JSON schema, without null. convert: returns what `json` or orjson can write. python:
    returns the object that PyMySQL returns for a SELECT, whatever the settings say about JSON; but
    JSON is parsed, and a VECTOR is a list of floats. Both raise ValueError if the bytes do not fit
    the type, and only an UnfitError never quotes them. arrow: the column as Arrow data; of the
    settings only `zero_dates`, `set_as` and those of text and floats apply. whole: writes a column
    as JSON text; None if each value must be converted. warning: what the user should know about the
    column.
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
        """Return a type whose values that are not text become their JSON text."""

        def text(raw: bytes) -> str | None:
            value = self.convert(raw)
            if value is None or isinstance(value, str):
                return value
            return orjson.dumps(value).decode()

        return replace(self, convert=text, whole=None)


def spelled(kernels: Any, column: Any, letters: bytes) -> Any:
    """Return a column of bytes, which has its own buffer, as text.

    Raises:
        ValueError: it has other characters than these letters.
    """
    if written(column).translate(None, letters):
        raise ValueError("other letters")
    return column.view(kernels.pa.string())  # all of them have one byte


def written(column: Any) -> bytes:
    """Return the values of a column of bytes, which has its own buffer, one after another."""
    buffer = column.buffers()[2]
    return b"" if buffer is None else bytes(buffer)


@dataclass(frozen=True, slots=True)
class Declared:
    """A column's declaration: `decimal(10,2) unsigned` is name, arguments and attributes.

    charset: MySQL's name; only text, ENUM and SET use it. options: the settings. copying:
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
